"""Shortcuts of loading give what the plain ways give."""

from __future__ import annotations

import hashlib
import json

from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.storage import digest, digest_of_rows
from tutelage.core.types import Example
from tutelage.data.row_parser import _content_id, nested

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=3), TEXTS)
def test_ids_are_digests_of_json(fields: dict[str, str], label: str) -> None:
    text = json.dumps([sorted(fields.items()), label])
    assert _content_id(fields, label) == hashlib.sha256(text.encode()).hexdigest()[:16]


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
