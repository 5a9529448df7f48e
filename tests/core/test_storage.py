"""Files of a run keep any text unchanged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.rationale_file import RationaleFile
from tutelage.core.storage import (
    encode_json,
    half_character,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)
from tutelage.core.types import Rationale

HARD = ['half \ud800 a pair, "quoted" \\', "\udfff", "\\ud800 spelled out", "\U0001f600\u2028\0"]


def test_text_that_is_not_valid_utf8_reads_back_unchanged(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"text": HARD})
    write_jsonl(tmp_path / "a.jsonl", HARD)
    assert read_json(tmp_path / "a.json") == {"text": HARD}
    assert list(read_jsonl(tmp_path / "a.jsonl")) == HARD


def test_a_file_of_rationales_too(tmp_path: Path) -> None:
    path = tmp_path / "rationales.jsonl"
    with RationaleFile(path) as file:
        for index, text in enumerate(HARD):
            file.keep(index, Rationale(str(index), "human", text, "ok"))
        file.finish()
    assert [row["text"] for row in read_jsonl(path)] == HARD


@given(st.text(st.characters()))
def test_any_text_is_json_in_utf8(text: str) -> None:
    written = encode_json(json.dumps(text, ensure_ascii=False))
    assert json.loads(written.decode("utf-8")) == text
    assert (half_character(text) is None) == (text.encode("utf-8", "ignore").decode() == text)


@pytest.mark.parametrize("text", ["", "plain", "\U0001f600 whole", "\\ud800"])
def test_whole_characters_are_accepted(text: str) -> None:
    assert half_character(text) is None
