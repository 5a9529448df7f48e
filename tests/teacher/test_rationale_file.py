"""Rationales arrive in any order, and the file has them in the order of their rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.core.rationale_file import RationaleFile
from tutelage.core.storage import write_jsonl
from tutelage.core.types import Rationale, Usage

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


def rationale(number: int, text: str = "because") -> Rationale:
    usage = Usage(number, None, 3)
    return Rationale(f"r{number}", "s", text, "ok", "yes", usage, number / 7, "so")


@settings(max_examples=50, deadline=None)
@given(st.lists(texts, max_size=30), st.randoms(use_true_random=False))
def test_any_order_becomes_the_order_of_the_rows(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], rng: object
) -> None:
    folder = tmp_path_factory.mktemp("any")
    rows = [rationale(number, text) for number, text in enumerate(words)]
    shuffled = list(enumerate(rows))
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    with RationaleFile(folder / "out.jsonl") as file:
        for index, row in shuffled:
            file.keep(index, row)
        file.finish()
    write_jsonl(folder / "expected.jsonl", rows)
    expected = (folder / "expected.jsonl").read_bytes()
    assert (folder / "out.jsonl").read_bytes() == expected
    assert {path.name for path in folder.iterdir()} == {"out.jsonl", "expected.jsonl"}


def test_many_rows_far_from_their_places(tmp_path: Path) -> None:
    count = 20_000  # more than any buffer holds
    with RationaleFile(tmp_path / "out.jsonl") as file:
        for index in range(count):
            place = index * 7919 % count
            file.keep(place, rationale(place, "x" * (place % 200)))
        file.finish()
    with (tmp_path / "out.jsonl").open() as lines:
        found = [json.loads(line) for line in lines]
    assert [row["uid"] for row in found] == [f"r{index}" for index in range(count)]
    assert all(len(row["text"]) == index % 200 for index, row in enumerate(found))


def test_an_old_file_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    write_jsonl(output, [rationale(7)])
    old = output.read_bytes()
    with pytest.raises(KeyboardInterrupt), RationaleFile(output) as file:
        file.keep(0, rationale(0))
        raise KeyboardInterrupt
    assert output.read_bytes() == old and list(tmp_path.iterdir()) == [output]


def test_a_missing_row_leaves_no_file(tmp_path: Path) -> None:
    with RationaleFile(tmp_path / "out.jsonl") as file:
        file.keep(0, rationale(0))
        file.keep(2, rationale(2))
        with pytest.raises(RuntimeError, match="row 1 has no rationale"):
            file.finish()
    assert list(tmp_path.iterdir()) == []


def test_no_rows_make_an_empty_file(tmp_path: Path) -> None:
    with RationaleFile(tmp_path / "out.jsonl") as file:
        file.finish()
    assert (tmp_path / "out.jsonl").read_bytes() == b""
