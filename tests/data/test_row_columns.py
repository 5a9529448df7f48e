"""Rows that are read by column are what they are one by one: examples, ids, errors, counts."""

from __future__ import annotations

import csv
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError
from tutelage.core.storage import digest
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.data import row_parser
from tutelage.data.load import load_examples, open_source
from tutelage.data.row_ids import ExactIds, NotedIds, content_id, content_ids
from tutelage.data.row_parser import RowParser

TASK = Task("pairs", ("first", "second"), ("good", "bad", "1"))
LAYOUT = LayoutSettings(columns={"uid": "id", "second": "a.b", "reason": ["why", "why 2"]})

TEXTS = st.sampled_from(["a text", " outer ", "Straße", "\U0001f600 fine", "x\ny", "%s"])
LABELS = st.sampled_from(["good", "BAD", " bad", "1", "Good", None, ""])
ODD: dict[str, st.SearchStrategy[Any]] = {
    "first": st.sampled_from(["", "  ", "\u2003", None, 3, ["a text"], "half \ud83d", ["\udc00"]]),
    "a": st.sampled_from([{}, {"b": ""}, {"b": "in"}, {"b": 1}, [{"b": "x"}, {"b": "x"}], None]),
    "label": st.sampled_from([1, 1.0, True, float("nan"), ["good"], [], "neither", "\ud83d", {}]),
    "id": st.sampled_from([1, "1", " 1 ", "", None, 1.5, True, "i\udc00", [1]]),
    "why": st.sampled_from(["So.", "", ["So.", "Thus."], 4, ["\ud83d"], None]),
    "why 2": st.sampled_from(["So.", "Hence."]),
    "tags": st.sampled_from(["a; b", ["a", "b", "a"], 5, ["a", 1], None]),
}


@st.composite
def files(draw: st.DrawFn) -> list[Any]:
    """Rows as JSON values: usual ones, and faults and rare values at random places."""
    count = draw(st.integers(1, 24))
    numbered = draw(st.booleans())
    rows: list[Any] = [
        {"first": draw(TEXTS), "a": {"b": "other"}, "label": draw(LABELS)}
        | ({"id": f"r{number}"} if numbered else {})
        for number in range(count)
    ]
    for place in draw(st.lists(st.integers(0, count - 1), max_size=4)):
        name = draw(st.sampled_from([*ODD, "absent", "broken"]))
        if name == "broken":
            rows[place] = draw(st.sampled_from(["no object", 3]))
        elif isinstance(rows[place], dict) and name == "absent":
            rows[place].pop(draw(st.sampled_from(list(rows[place]) or [""])), None)
        elif isinstance(rows[place], dict):
            rows[place][name] = draw(ODD[name])
    return rows


def seen_of(found: object) -> object:
    """What can be seen of what a row is."""
    if isinstance(found, DataError):
        return str(found), found.path, found.line, found.field
    return found


def all_found(spec: str, layout: LayoutSettings, **options: bool) -> list[object]:
    """All that the parser makes of a file."""
    seen: list[object] = []
    for ids in (ExactIds(), NotedIds(keep_places=True)):
        parser = RowParser(TASK, layout, **options)
        try:
            for place, found in parser.each(open_source(spec, layout), ids):
                seen.append((place, seen_of(found)))
        except DataError as error:
            seen.append(seen_of(error))
        if isinstance(ids, NotedIds):
            seen += [ids.places, ids.repeated()]
    if options.get("labelled", True):
        try:
            loaded = load_examples(spec, TASK, layout)
            assert loaded.sha256 == digest(list(loaded))
            seen.append((loaded.rows, loaded.unlabelled, loaded.sha256))
        except DataError as error:
            seen.append(seen_of(error))
    return seen


def check(path: Path, layout: LayoutSettings, chunk: int, few: int) -> None:
    for options in ({}, {"labelled": False}, {"labelled": False, "ignores_labels": True}):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(row_parser, "_CHUNK", chunk)
            patch.setattr(row_parser, "_FEW", few)
            by_column = all_found(str(path), layout, **options)
            patch.setattr(row_parser, "examples_by_column", lambda *_, **__: None)
            assert by_column == all_found(str(path), layout, **options)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files(), st.integers(1, 9), st.integers(1, 4), st.booleans())
@example([{"first": "a", "a": {"b": "c"}, "label": 1, "id": 7}] * 5, 4, 1, True)
def test_json_rows_are_what_they_are_one_by_one(
    rows: list[Any], chunk: int, few: int, ids: bool
) -> None:
    columns = {**LAYOUT.columns, **({} if ids else {"uid": ""})}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        check(path, LayoutSettings(columns=columns), chunk, few)


CELLS = st.sampled_from(["a text", "Straße", "", "  ", "good", "bad", "1", "1.0", "neither"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=16),
    st.lists(st.integers(0, 15), max_size=2),
    st.sampled_from(["", "x,y\n", '"not closed, ']),
    st.integers(1, 7),
)
def test_table_rows_are_what_they_are_one_by_one(
    cells: list[list[str]], usual: list[int], last: str, chunk: int
) -> None:
    rows = [["a text", "other", "good"] if i not in usual else row for i, row in enumerate(cells)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["first", "second", "label"], *rows])
            file.write(last)
        check(path, LayoutSettings(), chunk, 2)


def test_usual_rows_are_read_by_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(RowParser, "_example")  # the way of single rows
    rows: list[dict[str, Any]] = [
        {"id": i, "first": f"ä {i}", "a": {"b": "b"}, "label": ["good", None, "1"][i % 3]}
        | {"why": ["So.", "Thus."], "tags": "x; y"}
        for i in range(700)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    loaded = load_examples(str(path), TASK, LAYOUT)
    references = {"human-2": "Thus."}
    assert list(loaded) == [
        Example(str(i), {"first": f"ä {i}", "second": "b"}, label, "So.", ("x", "y"), references)
        for i in range(700)
        if (label := ["good", "", "1"][i % 3])
    ]
    assert loaded.unlabelled == 233
    one = loaded[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.uid = "x"  # type: ignore[misc]
    assert dataclasses.replace(one, uid="x").fields == one.fields and hash(one.uid)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=4))
def test_ids_of_many_rows_are_those_of_each(rows: list[tuple[str, str, str]]) -> None:
    columns = {"z": [row[0] for row in rows], "%a": [row[1] for row in rows]}
    labels = [row[2] for row in rows]
    assert content_ids(columns, labels) == [content_id({"z": z, "%a": a}, c) for z, a, c in rows]
