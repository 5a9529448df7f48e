"""A column of unique ids is taken for the ids of the rows, without being named."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import pytest
from label_files import drafted, loaded
from typer.testing import CliRunner

from tutelage.cli.main import app
from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.recipe_file import load_recipe
from tutelage.core.errors import DataError
from tutelage.core.task import Task
from tutelage.data.describe import describe_file
from tutelage.data.load import load_examples
from tutelage.data.row_ids import NotedIds
from tutelage.data.row_parser import RowParser
from tutelage.data.source import Source
from tutelage.deliver.predict import _rows

ROWS = 24


def written(path: Path, **columns: Sequence[object]) -> Path:
    """A CSV file of texts with one of two queues, and these columns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*columns, "text", "queue"])
        for i in range(ROWS):
            cells = [values[i] for values in columns.values()]
            writer.writerow([*cells, f"The parcel {i} is late.", ("billing", "access")[i % 2]])
    return path


@pytest.mark.parametrize(
    "name",
    ["order_id", "ID", "id", "example_id", "row_id", "guid", "pairID", "pair_ID", "pairid",
     "messageId", "Message ID", "uuid", "sent-id", "docid"],
)  # fmt: skip
def test_a_column_of_unique_ids_is_taken(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "rows.csv", **{name: [f"A-{i}" for i in range(ROWS)]})
    recipe = drafted(path)
    assert load_recipe(str(recipe)).data.columns["uid"] == name
    assert [e.uid for e in loaded(path, recipe)] == [f"A-{i}" for i in range(ROWS)]
    said = CliRunner().invoke(app, ["init", str(path), "--output", str(tmp_path / "r.yaml")])
    assert f"ids of the rows: {name}, of which none comes twice" in said.stdout
    assert "left aside" not in said.stdout


@pytest.mark.parametrize(
    ("columns", "ids"),
    [
        ({"order_id": [*range(ROWS - 1), 0]}, None),
        ({"order_id": [*range(ROWS - 1), ""]}, None),
        ({"customer_id": range(ROWS)}, None),
        ({"user_id": range(ROWS), "annotatorID": range(ROWS)}, None),
        ({"index": range(ROWS)}, None),
        ({"valid": range(ROWS)}, None),
        ({"long_order_id": range(ROWS), "id": range(ROWS)}, "id"),
        ({"id": [i // 2 for i in range(ROWS)], "long_order_id": range(ROWS)}, "long_order_id"),
        ({"uid": range(ROWS), "id": range(ROWS)}, None),  # our own name needs no mapping
        ({"uid": [i // 2 for i in range(ROWS)]}, ""),
        ({"uid": [i // 2 for i in range(ROWS)], "guid": range(ROWS)}, "guid"),
    ],
)
def test_only_unique_ids_of_rows_are_taken(
    tmp_path: Path, columns: dict[str, Sequence[object]], ids: str | None
) -> None:
    path = written(tmp_path / "rows.csv", **columns)
    assert describe_file(path).layout.columns.get("uid") == ids
    assert len({e.uid for e in loaded(path, drafted(path))}) == ROWS


def test_what_the_user_says_of_ids_stays(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.csv", id=range(ROWS), other=range(ROWS))
    for said in ("", "other"):
        found = describe_file(path, layout=LayoutSettings(columns={"uid": said}))
        assert found.layout.columns["uid"] == said


def test_ids_have_to_fit_the_files_of_dev_and_test(tmp_path: Path) -> None:
    train = written(tmp_path / "train.csv", id=range(ROWS), order_id=range(ROWS))
    other = written(tmp_path / "dev.csv", id=range(ROWS), order_id=range(ROWS, 2 * ROWS))
    bare = written(tmp_path / "bare.csv")
    for others, ids in (
        ([], "id"), ([str(other)], "order_id"), ([str(other), str(bare)], None),
        (["no such file.csv"], None),
    ):  # fmt: skip
        found = describe_file(train, others=others)
        assert found.layout.columns.get("uid") == ids
    command = ["init", str(train), "--dev", str(other), "--output", str(tmp_path / "r.yaml")]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert load_recipe(str(tmp_path / "r.yaml")).data.columns["uid"] == "order_id"


def test_ids_of_a_sample_are_to_be_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "rows.csv", id=range(ROWS))
    assert not describe_file(path).notes
    monkeypatch.setattr("tutelage.data.sample._FIRST", 10)
    assert "ids: in the sample no value of 'id' comes twice" in describe_file(path).notes[0]


def test_rows_to_predict_need_no_ids_unless_they_are_named(tmp_path: Path) -> None:
    path = written(tmp_path / "new.csv")
    task = Task("task", ("text",), ("billing", "access"))
    layout = LayoutSettings(columns={"uid": "order_id", "label": "queue"})
    assert sum(1 for _ in _rows(str(path), task, layout, None, NotedIds())) == ROWS
    with pytest.raises(DataError, match="no column 'order_id', expected one of: text, queue"):
        list(_rows(str(path), task, layout, "order_id", NotedIds()))
    with pytest.raises(DataError, match="no column 'order_id'"):
        load_examples(str(path), task, layout)
    parser = RowParser(task, layout, labelled=False)
    source = Source(
        "rows", None, [(1, {"text": "New.", "order_id": "7"}), (2, {"text": "b"})], True
    )
    first, second = parser.read(source)
    assert first is not None and second is not None
    assert first.uid == "7" and len(second.uid) == 16
