"""What `init` takes a file for: well-known layouts with content of our own, and those of people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from known_layouts import LAYOUTS, PREMISES, jsonl, pairs, table
from label_files import drafted, loaded
from typer.testing import CliRunner

from tutelage.cli.main import app
from tutelage.config.recipe_file import load_recipe
from tutelage.core.errors import DataError, TutelageError
from tutelage.data.describe import Description, describe_file


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_well_known_layout_is_drafted_and_its_recipe_runs_unedited(
    tmp_path: Path, name: str
) -> None:
    make, preset, fields, labels, rows = LAYOUTS[name]
    path = make(tmp_path / name)
    found = describe_file(path)
    assert (found.preset, set(found.task.fields), len(found.task.labels)) == (
        preset,
        fields,
        labels,
    )
    assert not found.undecided
    recipe = drafted(path)
    examples = loaded(path, recipe)
    assert len(examples) == rows
    assert len({example.label for example in examples}) == labels
    task = load_recipe(str(recipe)).resolved_task()
    expected = {"snli.txt", "snli.jsonl", "esnli.csv", "multinli.jsonl", "xnli.tsv", "SICK.txt",
                "scitail.tsv", "rte.tsv"}  # fmt: skip
    assert task.context == (
        "premise" if name in expected else "passage" if name == "boolq.jsonl" else None
    )
    if name == "esnli.csv":
        assert examples[0].reason == "Riding is moving."
        assert examples[0].references == {
            "human-2": "Who rides a bicycle moves.",
            "human-3": "It is motion.",
        }
    if name == "snli.txt":
        assert examples[3].fields["premise"] == f'He said "go" and {PREMISES[4]}'
    planned = CliRunner().invoke(app, ["plan", str(recipe)])
    assert planned.exit_code == 0, (planned.output, planned.exception)


def rows_of(**columns: Sequence[object]) -> list[dict[str, object]]:
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


TEXTS = [f"The order number {i} has not come yet." for i in range(40)]


def described(tmp_path: Path, rows: list[dict[str, object]], **options: Any) -> Description:
    return describe_file(jsonl(tmp_path / "rows.jsonl", rows), **options)


CHINESE = [f"\u8fd9\u90e8\u7535\u5f71\u5f88\u597d\u770b\u7b2c{i}\u6b21" for i in range(40)]

NINE = [f"i{k % 9}" for k in range(40)]
REASONS = [f"Because of {text}" for text in TEXTS]


@pytest.mark.parametrize(
    ("columns", "label", "texts"),
    [
        (
            {
                "text": TEXTS,
                "intent": [f"i{k % 9}" for k in range(40)],
                "annotator": ["ann", "bob"] * 20,
            },
            "intent",
            ("text",),
        ),
        (
            {
                "row_id": range(40),
                "text": TEXTS,
                "queue": ["a", "b", "c", "d"] * 10,
                "agent": ["x", "y"] * 20,
            },
            "queue",
            ("text",),
        ),
        (
            {
                "subject": TEXTS,
                "body": TEXTS[::-1],
                "urgency": ["hi", "lo"] * 20,
                "lang": ["de", "en"] * 20,
            },
            "urgency",
            ("subject", "body"),
        ),
        (
            {
                "text": TEXTS,
                "explanation": [f"Because of {t}" for t in TEXTS],
                "label": ["a", "b"] * 20,
            },
            "label",
            ("text",),
        ),
        (
            {"words": TEXTS, "reason": REASONS, "y": [1.0, 0.0] * 20},
            "y",
            ("words",),
        ),
        (
            {"\u6587\u672c": CHINESE, "\u6807\u7b7e": ["\u597d", "\u574f"] * 20},
            "\u6807\u7b7e",
            ("\u6587\u672c",),
        ),
        (
            {"comment": TEXTS, "score": [i / 7 for i in range(40)], "mood": ["up", "down"] * 20},
            "mood",
            ("comment",),
        ),
        (
            {"sentence": TEXTS, "label": [f"kind {k % 19}" for k in range(40)]},
            "label",
            ("sentence",),
        ),
    ],
)
def test_the_columns_are_guessed_rightly(
    tmp_path: Path, columns: dict[str, Sequence[object]], label: str, texts: tuple[str, ...]
) -> None:
    found = described(tmp_path, rows_of(**columns))
    assert (found.label_column, found.text_columns) == (label, texts)
    assert not {"annotator", "agent", "explanation", "reason"} & set(found.task.fields)


def test_a_reason_is_the_datas_reason_and_an_input_only_if_said(tmp_path: Path) -> None:
    rows = rows_of(text=TEXTS, explanation=[f"So it is: {t}" for t in TEXTS], label=["a", "b"] * 20)
    path = jsonl(tmp_path / "rows.jsonl", rows)
    recipe = drafted(path)
    assert "reason: explanation" in recipe.read_text(encoding="utf-8")
    first = loaded(path, recipe)[0]
    assert (dict(first.fields), first.reason) == ({"text": TEXTS[0]}, f"So it is: {TEXTS[0]}")
    found = describe_file(path, texts=["text", "explanation"])
    assert found.task.fields == ("text", "explanation") and "reason" not in found.layout.columns
    alone = jsonl(
        tmp_path / "alone.jsonl", [{k: r[k] for k in ("explanation", "label")} for r in rows]
    )
    with pytest.raises(DataError, match="if it is the input, say --text-columns explanation"):
        describe_file(alone)
    assert describe_file(alone, texts=["explanation"]).task.fields == ("explanation",)


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (
            {"text": TEXTS, "group": ["a", "b"] * 20, "team": ["x", "y", "z", "w"] * 10},
            "several columns may hold the label: 'group' (2 values), 'team' (4 values): name it",
        ),
        ({"text": TEXTS, "label": [["a", "b"]] * 40}, "holds lists of labels, expected one label"),
        ({"text": TEXTS, "label": [None] * 40}, "no column looks like a label"),
        ({"text": TEXTS, "label": ["a"] * 40}, "holds 1 distinct labels, expected two or more"),
        ({"text": TEXTS, "score": [i / 7 for i in range(40)]}, "no column looks like a label"),
        (
            {"code": [f"x{i}" for i in range(40)], "label": ["a", "b"] * 20},
            "name one with --text-columns",
        ),
    ],
)
def test_what_cannot_be_guessed_is_one_line_with_the_way_out(
    tmp_path: Path, columns: dict[str, Sequence[object]], problem: str
) -> None:
    with pytest.raises(TutelageError) as caught:
        described(tmp_path, rows_of(**columns))
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_numbers_of_nli_are_shown_with_counts_and_can_be_given_other_names(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "rows.jsonl", pairs([0, 1, 2, 2], "premise", "hypothesis", "label"))
    runner = CliRunner()
    recipe = str(tmp_path / "r.yaml")
    done = runner.invoke(app, ["init", str(path), "--output", recipe])
    assert done.exit_code == 0, done.output
    assert "contradiction (in the file '2'): 20 rows, such as " in done.stdout
    assert "entailment (in the file '0'): 10 rows" in done.stdout
    names = "[contradiction, neutral, entailment]"
    other = str(tmp_path / "other.yaml")
    done = runner.invoke(app, ["init", str(path), "--output", other, "--label-names", names])
    assert "entailment (in the file '2'): 20 rows" in done.stdout
    labels = [e.label for e in loaded(path, Path(other))]
    assert labels[:4] == ["contradiction", "neutral", "entailment", "entailment"]


def test_init_says_what_it_understood(tmp_path: Path) -> None:
    rows = rows_of(
        id=range(40), text=TEXTS, intent=["pay", "ask", "pay", None] * 10, annotator=["a", "b"] * 20
    )
    path = jsonl(tmp_path / "rows.jsonl", rows)
    done = CliRunner().invoke(app, ["init", str(path), "--output", str(tmp_path / "r.yaml")])
    assert done.exit_code == 0, (done.output, done.exception)
    for line in (
        "40 rows, taken for classification",
        "text: text",
        "labels pay, ask, from column 'intent':",
        f"pay: 20 rows, such as '{TEXTS[0]}'",
        "without a label, and left out: 10 rows",
        "ids of the rows: id, of which none comes twice",
        "left aside: annotator",
    ):
        assert line in done.stdout
    folder = tmp_path / "folder"
    folder.mkdir()
    refused = CliRunner().invoke(app, ["init", str(path), "--output", str(folder)])
    assert "is a directory" in str(refused.exception)


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_large_file_is_sampled_from_everywhere(tmp_path: Path, kind: str) -> None:
    """Sorted by label: the last ones are far from the beginning."""
    rows = [{"text": f"A sentence number {i}.", "label": f"l{i // 9000}"} for i in range(45_000)]
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        jsonl(path, rows)
    elif kind == "parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pa.Table.from_pylist(rows), path)
    else:
        table(path, rows, "," if kind == "csv" else "\t")
    found = describe_file(path)
    assert not found.complete and found.rows < 30_000
    assert set(found.task.labels) == {f"l{i}" for i in range(5)}
