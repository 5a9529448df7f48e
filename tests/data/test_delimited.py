"""Delimited files: the line at which each row begins, and what comes before a fault."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError
from tutelage.data import delimited
from tutelage.data.readers import open_file

CELLS = st.text("a \"'\n\r,\u2028\x0b", max_size=5)
RECORDS = st.lists(st.one_of(st.tuples(CELLS, CELLS), st.just(())), max_size=12)


@settings(max_examples=200, deadline=None)
@given(RECORDS, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from([1, 2, 5, 250]))
def test_a_row_is_at_the_line_where_it_begins(
    records: list[tuple[str, ...]], end: str, block: int
) -> None:
    """Whatever line ends its cells and those of the rows before it have."""
    written = ["first,second"]
    expected = []
    for record in records:
        # The lines before it, counted by a text file that knows all three line ends.
        before = io.StringIO(end.join([*written, ""]), newline=None).read().count("\n")
        text = io.StringIO()
        csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="").writerow(record)
        written.append(text.getvalue())
        if any(cell.strip() for cell in record):
            expected.append((before + 1, dict(zip(("first", "second"), record, strict=True))))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_BLOCK", block)
        path = Path(folder) / "rows.csv"
        path.write_bytes(end.join([*written, ""]).encode())
        rows = list(open_file(path, LayoutSettings()).rows)
    assert [(place, dict(row)) for place, row in rows if not isinstance(row, DataError)] == expected


@pytest.mark.parametrize("fault", ['"quoted\nwithout an end\n', "half\0,zero\n"])
def test_the_rows_before_a_fault_are_read(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "rows.csv"
    several = 60  # the first lines are looked at when the file is opened
    path.write_text("first,second\n" + several * '"a\n",1\n' + fault, encoding="utf-8")
    rows = iter(open_file(path, LayoutSettings()).rows)
    for number in range(several):
        assert next(rows) == (2 + 2 * number, {"first": "a\n", "second": "1"})
    with pytest.raises(DataError, match=rf":{2 + 2 * several}:"):
        next(rows)
