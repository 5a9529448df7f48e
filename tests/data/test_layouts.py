"""The layouts that files really have: separators, encodings, compression, spreadsheets, folders."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from label_files import by_row, drafted, loaded

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError, TutelageError, UsageError
from tutelage.core.task import Task
from tutelage.data.load import load_examples

TASK = Task("mood", ("text",), ("good", "bad"))
ROWS = [
    ("It was a joy, all of it.", "good"),
    ('He said "no"\nand left.', "bad"),
    ("Naïve – über", "good"),
]
PLAIN = [(text.replace("\n", " "), label) for text, label in ROWS]


def cells(rows: list[tuple[str, str]], separator: str) -> str:
    import csv
    import io

    out = io.StringIO()
    csv.writer(out, delimiter=separator).writerows([("text", "label"), *rows])
    return out.getvalue()


def objects(rows: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"text": text, "label": label} for text, label in rows]


def lines(rows: list[tuple[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in objects(rows))


def sheet(path: Path, sheets: dict[str, list[list[object]]]) -> None:
    """A minimal .xlsx with these cells; numbers are numbers."""

    def cell(value: object) -> str:
        if isinstance(value, (int, float)):
            return f"<c><v>{value}</v></c>"
        return f'<c t="inlineStr"><is><t>{value}</t></is></c>'

    kind = "http://schemas.openxmlformats.org"
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{kind}/package/2006/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.'
            'relationships+xml"/><Default Extension="xml" ContentType="application/xml"/></Types>',
        )
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{kind}/package/2006/relationships"><Relationship Id="r1" '
            f'Type="{kind}/officeDocument/2006/relationships/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        listed = "".join(
            f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"/>' for n, name in enumerate(sheets, 1)
        )
        book.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{kind}/spreadsheetml/2006/main" '
            f'xmlns:r="{kind}/officeDocument/2006/relationships"><sheets>{listed}</sheets></workbook>',
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{kind}/package/2006/relationships">'
            + "".join(
                f'<Relationship Id="r{n}" Type="{kind}/officeDocument/2006/relationships/worksheet"'
                f' Target="worksheets/sheet{n}.xml"/>'
                for n in range(1, len(sheets) + 1)
            )
            + "</Relationships>",
        )
        for n, table in enumerate(sheets.values(), 1):
            rows = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in table)
            book.writestr(
                f"xl/worksheets/sheet{n}.xml",
                f'<worksheet xmlns="{kind}/spreadsheetml/2006/main"><sheetData>{rows}</sheetData>'
                "</worksheet>",
            )


def saved(folder: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(objects(ROWS)).save_to_disk(folder)
    return folder


def shards(folder: Path) -> Path:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    folder.mkdir()
    for number, rows in enumerate((ROWS[:2], ROWS[2:])):
        pq.write_table(
            pa.Table.from_pylist(objects(rows)), folder / f"train-0000{number}-of-00002.parquet"
        )
    return folder


def spreadsheet(path: Path) -> Path:
    pytest.importorskip("python_calamine")
    sheet(path, {"One": [["text", "label"], *map(list, ROWS)], "Empty": []})
    return path


def put(content: str | bytes, encoding: str = "utf-8") -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
        return path

    return write


@pytest.mark.parametrize(
    ("name", "make", "rows"),
    [
        ("a.csv", put(cells(ROWS, ",")), ROWS),
        ("a.tsv", put(cells(ROWS, "\t")), ROWS),
        ("semicolons.csv", put(cells(ROWS, ";")), ROWS),
        ("tabs.csv", put(cells(ROWS, "\t")), ROWS),
        ("bars.csv", put(cells(ROWS, "|")), ROWS),
        ("unquoted.tsv", put("text\tlabel\n" + "".join(f"{t}\t{v}\n" for t, v in PLAIN)), PLAIN),
        ("unquoted.txt", put("text\tlabel\n" + "".join(f"{t}\t{v}\n" for t, v in PLAIN)), PLAIN),
        ("lines.txt", put(lines(ROWS)), ROWS),
        ("a.ndjson", put(lines(ROWS)), ROWS),
        ("list.json", put(json.dumps(objects(ROWS), indent=1)), ROWS),
        ("one_line.json", put(json.dumps(objects(ROWS))), ROWS),
        ("inside.json", put(json.dumps({"version": 2, "data": objects(ROWS)})), ROWS),
        ("lines.json", put(lines(ROWS)), ROWS),
        (
            "columns.json",
            put(
                json.dumps(
                    {
                        "text": {str(i): t for i, (t, _) in enumerate(ROWS)},
                        "label": {str(i): v for i, (_, v) in enumerate(ROWS)},
                    }
                )
            ),
            ROWS,
        ),
        ("a.csv.gz", put(gzip.compress(cells(ROWS, ",").encode())), ROWS),
        ("a.jsonl.bz2", put(bz2.compress(lines(ROWS).encode())), ROWS),
        ("a.json.xz", put(lzma.compress(json.dumps(objects(ROWS)).encode())), ROWS),
        ("utf16.csv", put(cells(ROWS, ","), "utf-16"), ROWS),
        ("utf16.tsv", put(cells(ROWS, "\t"), "utf-16"), ROWS),
        ("mark.csv", put(cells(ROWS, ","), "utf-8-sig"), ROWS),
        ("book.xlsx", spreadsheet, ROWS),
        ("saved", saved, ROWS),
        ("shards", shards, ROWS),
    ],
)  # fmt: skip
def test_a_layout_is_read_and_drafted(
    tmp_path: Path, name: str, make: Callable[[Path], Path], rows: list[tuple[str, str]]
) -> None:
    path = make(tmp_path / name)
    assert by_row(load_examples(str(path), TASK)) == rows
    recipe = drafted(path) if path.suffix else drafted_folder(path)
    assert by_row(loaded(path, recipe)) == rows


def drafted_folder(path: Path) -> Path:
    """`label_files.drafted` names the recipe by a suffix."""
    from tutelage import api

    text, _ = api.draft(path, dev=None, test=None, teacher="scripted", student="scratch:t5-tiny")
    recipe = path.with_name("folder.yaml")
    recipe.write_text(text, encoding="utf-8")
    return recipe


def test_cp1252_is_refused_with_the_way_out_and_drafted(tmp_path: Path) -> None:
    pytest.importorskip("charset_normalizer")
    text = "text,label\n" + "".join(
        f'"Le café était très bon – déjà vu à l’été, numéro {i}",good\n'
        "Übel gewürzt und für „niemanden“,bad\n"
        for i in range(30)
    )
    path = put(text, "cp1252")(tmp_path / "a.csv")
    with pytest.raises(DataError) as caught:
        load_examples(str(path), TASK)
    message = str(caught.value)
    assert (
        ":2: got byte 0xe9, which is not UTF-8: it looks like cp1252: say encoding: cp1252"
        in message
    )
    rows = by_row(load_examples(str(path), TASK, LayoutSettings(encoding="cp1252")))
    assert rows[0][0].startswith("Le café était très bon – déjà vu à l’été")
    recipe = drafted(path)
    assert "encoding: cp1252" in recipe.read_text(encoding="utf-8")
    assert "# check encoding: it is not UTF-8" in recipe.read_text(encoding="utf-8")
    assert by_row(loaded(path, recipe)) == rows


def test_utf16_without_its_mark(tmp_path: Path) -> None:
    path = put(cells(ROWS, ","), "utf-16-le")(tmp_path / "a.csv")
    with pytest.raises(DataError, match="say encoding: utf-16-le"):
        load_examples(str(path), TASK)
    assert by_row(load_examples(str(path), TASK, LayoutSettings(encoding="utf-16-le"))) == ROWS


def test_a_separator_that_no_sample_shows(tmp_path: Path) -> None:
    path = put("text#label\nfine, really#good\npoor#bad\n")(tmp_path / "a.csv")
    with pytest.raises(DataError):
        load_examples(str(path), TASK)
    rows = by_row(load_examples(str(path), TASK, LayoutSettings(delimiter="#")))
    assert rows == [("fine, really", "good"), ("poor", "bad")]
    for wrong in ("", "ab", '"'):
        with pytest.raises(UsageError, match="expected one character"):
            LayoutSettings(delimiter=wrong)
    with pytest.raises(UsageError, match="expected the name of an encoding"):
        LayoutSettings(encoding="klingon")


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    rows = [("x " * 200_000 + "end", "good"), ("short", "bad")]
    path = put(cells(rows, ","))(tmp_path / "a.csv")
    assert by_row(load_examples(str(path), TASK)) == rows


def test_a_spreadsheet_with_numbers_and_several_sheets(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = tmp_path / "a.xlsx"
    table: list[list[object]] = [["id", "text", "label"], [7, "Fine.", 1], [8, "Poor.", 0]]
    sheet(path, {"New": table, "Old": table[:2]})
    with pytest.raises(DataError, match=r"several sheets with cells \(New, Old\): name one as"):
        load_examples(str(path), TASK)
    task = Task("t", ("text",), ("0", "1"))
    examples = load_examples(f"{path}#New", task, columns={"uid": "id"})
    assert [(e.uid, e.label) for e in examples] == [("7", "1"), ("8", "0")]
    with pytest.raises(DataError, match="no sheet 'Newer', expected one of New, Old"):
        load_examples(f"{path}#Newer", task)
    path.write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="is not a valid spreadsheet"):
        load_examples(str(path), task)


def test_a_spreadsheets_number_that_may_have_been_rounded(tmp_path: Path) -> None:
    pytest.importorskip("python_calamine")
    path = tmp_path / "a.xlsx"
    sheet(path, {"New": [["text", "label"], ["Fine.", 2**53 + 1], ["Poor.", 1]]})
    with pytest.raises(DataError, match="may have been rounded: write the labels as text"):
        load_examples(str(path), Task("t", ("text",), ("1", str(2**53))))


def test_shards_of_several_splits_and_their_errors(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    folder = shards(tmp_path / "set")
    rows = [*objects(ROWS), {"text": "A last one.", "label": "maybe"}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "test-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"or a split: .*#train"):
        load_examples(str(folder), TASK)
    assert by_row(load_examples(f"{folder}#train", TASK)) == ROWS
    with pytest.raises(DataError, match="has no split 'dev': expected one of test, train"):
        load_examples(f"{folder}#dev", TASK)
    with pytest.raises(DataError, match="row 4: got 'maybe'"):
        load_examples(f"{folder}#test", TASK)
    bad = [{"text": "A last one.", "label": "maybe"}]
    pq.write_table(pa.Table.from_pylist(bad), folder / "train-00002-of-00003.parquet")
    with pytest.raises(DataError) as caught:
        load_examples(f"{folder}#train", TASK)
    assert "train-00002-of-00003.parquet field 'label': row 1: got 'maybe'" in str(caught.value)
    other = pa.Table.from_pylist([{"words": "A last one.", "label": "good"}])
    pq.write_table(other, folder / "train-00002-of-00003.parquet")
    with pytest.raises(DataError, match="has the columns words, label, expected those"):
        load_examples(f"{folder}#train", TASK)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.json", "{", "is not valid JSON"),
        ("a.json", '{"a": 1}', "no column 'text'"),
        ("a.json", "[1]", "row 1: got a JSON int, expected an object"),
        ("a.json", '"text"', "got a JSON str without a list of rows"),
        ("a.json", " \n", "is blank"),
        ("a.txt", "just words\n", "neither JSON objects nor tabs"),
        ("a.csv.gz", "text,label\n", "cannot be read|is not a complete compressed file|gzip"),
        ("a.tsv", 'text\tlabel\n"never closed\tgood\nx\tbad\ty\n', "not valid CSV|got 3 cells"),
    ],
)
def test_faulty_layouts_are_one_line(
    tmp_path: Path, name: str, content: str, expected: str
) -> None:
    path = put(content)(tmp_path / name)
    with pytest.raises(TutelageError, match=expected) as caught:
        load_examples(str(path), TASK)
    assert "\n" not in str(caught.value)
