"""Files as annotation tools, spreadsheets and databases write them: each row keeps its label."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from label_files import by_row, drafted, loaded

from tutelage.core.errors import DataError, TutelageError
from tutelage.core.labels import alike, spelled
from tutelage.data.describe import describe_file

TEXTS = [f"The order number {i} has not come yet, please help." for i in range(12)]
LABELS = [("billing", "delivery", "delivery")[i % 3] for i in range(12)]
EXPECTED = list(zip(TEXTS, LABELS, strict=True))
Cells = Sequence[Sequence[object]]


def cells(rows: Cells, separator: str = ",", end: str = "\r\n") -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=end).writerows(rows)
    return out.getvalue()


def lines(rows: Sequence[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def each(make: Callable[[int, str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    return [make(i, text, label) for i, (text, label) in enumerate(EXPECTED)]


NUMBERED = list(enumerate(EXPECTED))
TABLE: Cells = [("text", "label"), *EXPECTED]
FILES: dict[str, str | bytes] = {
    "mark.tsv": cells([("text", "class"), *EXPECTED], "\t").encode("utf-8-sig"),
    "mark.jsonl": lines(each(lambda i, t, v: {"text": t, "gold": v})).encode("utf-8-sig"),
    "returns.jsonl": lines(each(lambda i, t, v: {"text": t, "target": v})).replace("\n", "\r\n"),
    "old_mac.csv": cells(TABLE, end="\r"),
    "excel.csv": "sep=;\r\n" + cells(TABLE, ";"),
    "no_names.csv": cells([("", "text", "label", ""), *((i, *row, "") for i, row in NUMBERED)]),
    "index.csv": cells([("Unnamed: 0", "text", "y"), *((i, *row) for i, row in NUMBERED)]),
    "spaced.csv": 'id, "text", "label"\n'
    + "".join(f'{i}, "{t}", "{v}"\n' for i, (t, v) in enumerate(EXPECTED)),
    "thousands.csv": cells([("n", "text", "queue"), *((f"1,{i}00", *row) for i, row in NUMBERED)]),
    "decimals.csv": cells([("n", "text", "y"), *((f"{i},5", *row) for i, row in NUMBERED)], ";"),
    "models.csv": cells(
        [("text", "predicted_label", "gold_label"), *((t, "billing", v) for t, v in EXPECTED)]
    ),
    "split.json": json.dumps({"columns": ["text", "label"], "index": [], "data": EXPECTED}),
    "arrays.json": json.dumps(TABLE),
    "by_id.json": json.dumps({f"t{i}": {"text": t, "label": v} for i, (t, v) in NUMBERED}),
    "prodigy.jsonl": lines(
        each(
            lambda i, t, v: {
                "text": t, "_input_hash": i * 7, "_task_hash": i * 9, "accept": [v],
                "options": [{"id": "billing", "text": "Bills"}, {"id": "delivery", "text": "Post"}],
                "_view_id": "choice", "answer": "accept",
            }
        )
    ),
    "doccano.jsonl": lines(each(lambda i, t, v: {"id": i, "text": t, "label": [v], "Notes": []})),
    "argilla.jsonl": lines(
        each(
            lambda i, t, v: {
                "fields": {"text": t}, "metadata": {},
                "suggestions": {"label": {"value": LABELS[i // 2], "agent": "m"}},
                "responses": {"label": [{"value": v, "user_id": "u", "status": "submitted"}]},
            }
        )
    ),
    "argilla_1.json": json.dumps(
        each(
            lambda i, t, v: {
                "text": t, "prediction": [{"label": LABELS[i // 2], "score": 0.5}],
                "annotation": v, "annotation_agent": "u", "status": "Validated",
            }
        )
    ),
    "studio.json": json.dumps(
        each(
            lambda i, t, v: {
                "id": i, "data": {"text": t},
                "predictions": [{"result": [{"value": {"choices": [LABELS[i // 2]]}}]}],
                "annotations": [{"result": [{"value": {"choices": [v]}}], "was_cancelled": False}],
            }
        )
    ),
    "words.jsonl": lines(
        each(lambda i, t, v: {"text": t, "label": LABELS.index(v), "label_text": v})
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_each_row_keeps_its_label(tmp_path: Path, name: str) -> None:
    path, content = tmp_path / name, FILES[name]
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    recipe = drafted(path)
    assert by_row(loaded(path, recipe)) == EXPECTED


@pytest.mark.parametrize("kind", ["dictionary", "bytes", "lists", "classes"])
def test_columns_of_parquet_files(tmp_path: Path, kind: str) -> None:
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    if kind == "classes":
        datasets = pytest.importorskip("datasets")
        classes = datasets.Sequence(datasets.ClassLabel(names=["billing", "delivery"]))
        features = datasets.Features(text=datasets.Value("string"), label=classes)
        rows = {"text": TEXTS, "label": [[int(v == "delivery")] for v in LABELS]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    else:
        label, text = pa.array(LABELS), pa.array(TEXTS)
        if kind == "dictionary":
            label = label.dictionary_encode()
        elif kind == "bytes":
            label, text = label.cast(pa.binary()), text.cast(pa.large_binary())
        else:
            label = pa.array([[v] for v in LABELS])
        pytest.importorskip("pyarrow.parquet").write_table(
            pa.table({"text": text, "label": label}), path
        )
    assert by_row(loaded(path, drafted(path))) == EXPECTED


@pytest.mark.parametrize(
    ("text", "label", "texts"),
    [
        ("वाक्य", "भाव", "यह फिल्म"),
        ("ข้อความ", "ป้าย", "ดีมากมาก"),
        ("النص", "التصنيف", "منتج جيد"),
    ],
)  # fmt: skip
def test_names_of_columns_in_other_scripts_are_kept(
    tmp_path: Path, text: str, label: str, texts: str
) -> None:
    path = tmp_path / "a.csv"
    rows = [(f"{texts} {i}", v) for i, v in enumerate(LABELS)]
    path.write_text(cells([(text, label), *rows]), encoding="utf-8")
    assert describe_file(path).task.fields == (text,)
    assert [e.label for e in loaded(path, drafted(path))] == LABELS


@pytest.mark.parametrize(
    "mark", ["null", "NaN", "None", "N/A", "NA", "?", "<NA>", "#N/A", "\\N", "-", "-1", "-1.0"]
)
def test_what_programs_write_for_nothing_is_decided_by_the_user(tmp_path: Path, mark: str) -> None:
    path = tmp_path / "a.csv"
    values = [mark if i % 4 == 0 else v for i, v in enumerate(LABELS)]
    path.write_text(cells([("text", "label"), *zip(TEXTS, values, strict=True)]), encoding="utf-8")
    recipe = drafted(path)
    assert f"TO DECIDE: {mark!r} in 3 rows" in recipe.read_text(encoding="utf-8")
    with pytest.raises(DataError, match="if it marks rows without a label, say no_label"):
        loaded(path, recipe)
    text = recipe.read_text(encoding="utf-8").replace("  # no_label:", "  no_label:")
    recipe.write_text(text, encoding="utf-8")
    examples = loaded(path, recipe)
    assert [e.label for e in examples] == [v for v in values if v != mark]
    assert examples.unlabelled == 3


def test_of_two_values_both_are_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for one, other, said in (("-1", "1", False), ("None", "urgent", True)):
        values = [(one, other)[i % 2] for i in range(12)]
        table = [("text", "label"), *zip(TEXTS, values, strict=True)]
        path.write_text(cells(table), encoding="utf-8")
        found = describe_file(path)
        assert set(found.task.labels) == {one, other} and not found.undecided
        assert any("there is only one other" in note for note in found.notes) == said
        assert [e.label for e in loaded(path, drafted(path))] == values


ALIKE = [
    ("card payment", "card_payment", "card-payment"),
    ("spam", "spam\u200b", "spam\ufeff"),
    ("\uff11", "1"),
    ("Stra\u00dfe", "STRASSE"),
    ("yes", "Y", "true"),
    ("1", "True", "1.0", "y"),
    ("0", "no", "F"),
]
DIFFERENT = [
    ("C", "C#", "C++"),
    ("A", "A-", "A+"),
    ("1", "-1", "10", "01a"),
    ("3.5", "35", "3-5"),
    ("n", "e", "y"),
    ("non-fiction", "fiction"),
    ("0", "1", "2"),
    ("\u0915\u093f", "\u0915\u0940"),
]


@pytest.mark.parametrize("texts", ALIKE)
def test_spellings_of_one_label(tmp_path: Path, texts: tuple[str, ...]) -> None:
    assert alike(texts) == [texts]
    # A single letter counts as a word for true only among such words, so it has no company here.
    company = [] if any(len(text) == 1 for text in texts) else ["other"]
    values = [*texts, *company, *texts]
    if not company:
        values += ["no"] if texts[0] != "0" else ["yes"]
    path = tmp_path / "a.csv"
    path.write_text(cells([("text", "label"), *zip(TEXTS, values, strict=False)]), encoding="utf-8")
    with pytest.raises(TutelageError, match="differ only in the way they are written"):
        describe_file(path)
    others = [v for v in dict.fromkeys(values) if v not in texts]
    folded = loaded(path, drafted(path, labels=[texts[0], *others]))
    assert [e.label for e in folded] == [v if v in others else texts[0] for v in values]


@pytest.mark.parametrize("texts", DIFFERENT)
def test_different_labels_stay_different(texts: tuple[str, ...]) -> None:
    assert alike(texts) == []


def test_a_list_stands_for_its_only_value() -> None:
    assert (spelled(["a"]), spelled([]), spelled([True]), spelled([None])) == (
        "a",
        None,
        "true",
        None,
    )
    with pytest.raises(TypeError):
        spelled(["a", "b"])


def test_several_annotators_and_several_lists_are_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = each(lambda i, t, v: {"text": t, "label": ["billing", "delivery"] if i == 3 else [v]})
    path.write_text(lines(rows), encoding="utf-8")
    with pytest.raises(DataError, match="holds lists of labels"):
        drafted(path)
    splits = tmp_path / "splits.json"
    objects = each(lambda i, t, v: {"text": t, "label": v})
    splits.write_text(json.dumps({"train": objects, "test": objects[:4]}), encoding="utf-8")
    with pytest.raises(
        DataError, match=r"several lists of rows \(train, test\): name one as .*#train"
    ):
        describe_file(splits)
    assert describe_file(f"{splits}#test").rows == 4
    with pytest.raises(DataError, match="no list of rows 'dev', expected one of train, test"):
        describe_file(f"{splits}#dev")


def test_two_columns_that_are_labels_equally_are_not_guessed_between(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    moods = [("good", "bad")[i // 2 % 2] for i in range(12)]
    rows = zip(TEXTS, LABELS, moods, strict=True)
    path.write_text(cells([("text", "topic", "sentiment"), *rows]), encoding="utf-8")
    with pytest.raises(DataError, match="several columns may hold the label: 'sentiment'"):
        describe_file(path)
    assert describe_file(path, label="topic").label_column == "topic"


def test_rows_that_annotators_took_back_are_pointed_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = each(
        lambda i, t, v: {"text": t, "accept": [v], "answer": "ignore" if i == 5 else "accept"}
    )
    path.write_text(lines(rows), encoding="utf-8")
    found = describe_file(path)
    assert found.label_column == "accept"
    assert (
        "'answer' is accept (11 rows), ignore (1 rows), and all of them are read" in found.notes[0]
    )
    assert "# check rows: 'answer' is" in drafted(path).read_text(encoding="utf-8")


def test_a_table_without_a_header_whose_first_row_repeats_a_value(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [(i % 2, t, 0, i) for i, t in enumerate(TEXTS)]
    path.write_text(cells(rows), encoding="utf-8")
    found = describe_file(path)
    assert (found.text_columns, found.label_column, found.layout.header) == (("2",), "1", False)
    path.write_text(cells([("text", "label", "label"), *rows]), encoding="utf-8")
    with pytest.raises(DataError, match="two columns of one name: label: rename one"):
        describe_file(path)
