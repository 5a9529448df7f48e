"""Shortcuts of loading give what the plain ways give."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.core.storage import digest, digest_of_rows
from tutelage.core.types import Example
from tutelage.data.cells import nested
from tutelage.data.row_ids import content_id

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=3), TEXTS)
def test_ids_are_digests_of_json(fields: dict[str, str], label: str) -> None:
    text = json.dumps([sorted(fields.items()), label])
    assert content_id(fields, label) == hashlib.sha256(text.encode()).hexdigest()[:16]


@given(st.lists(st.builds(Example, TEXTS, st.dictionaries(TEXTS, TEXTS), TEXTS, TEXTS), max_size=4))
def test_the_digest_of_rows_is_that_of_their_list(rows: list[Example]) -> None:
    assert digest_of_rows(rows) == digest(rows)


def test_paths_lead_into_objects_and_lists() -> None:
    row = {"a": {"b": [{"c": ["x"]}, {"c": ["x"]}]}, "d.e": 1, "f": [], "g": [{"h": 1}, {"h": 2}]}
    assert nested(row, "a.b.c") == "x"
    assert nested(row, "d.e") == 1
    assert nested(row, "f.x") is None
    assert nested(row, "g.h") == [1, 2]
    assert nested(row, "a.z") is None and nested(row, "q.r") is None


@dataclass
class _Single:
    b: object


@dataclass
class _Mixed:
    z: object
    a: object
    m: object


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2)
    | st.tuples(inner),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=40)
@given(st.lists(st.builds(_Single, VALUES) | st.builds(_Mixed, VALUES, VALUES, VALUES), max_size=3))
def test_the_digest_of_rows_of_any_values(rows: list[object]) -> None:
    assert digest_of_rows(rows) == digest(rows)


def test_the_digest_of_many_rows_is_that_of_their_list() -> None:
    for count in (500, 501, 1203):
        rows = [Example(str(i), {"text": f"{i}", "a": "%s"}, "label") for i in range(count)]
        assert digest_of_rows(iter(rows)) == digest(rows)


@given(st.lists(st.tuples(TEXTS, st.none() | TEXTS, st.booleans()), max_size=6), TEXTS, TEXTS)
def test_the_digest_of_rows_with_the_same_keys(
    values: list[tuple[str, str | None, bool]], one: str, other: str
) -> None:
    rows: list[object] = []
    for text, reason, single in values:
        row = Example(text, {one: text, other: "%s"}, text, reason)
        rows.append(_Single({one: {other: text}}) if single else row)
    assert digest_of_rows(rows) == digest(rows)
