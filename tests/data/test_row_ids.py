"""Ids are unique, and rows of equal content are numbered, in constant memory."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError, RunFolderError
from tutelage.core.task import Task
from tutelage.data import row_ids
from tutelage.data.load import load_examples, stream_examples
from tutelage.data.row_ids import NotedIds

TASK = Task("task", ("text",), ("good", "bad"))


def written(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of 1 to 2 hashes."""
    monkeypatch.setattr(row_ids, "_HELD", 3)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 40)), st.lists(st.integers(0, 3)))
def test_what_comes_twice_is_found(given_ids: list[int], computed_ids: list[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for held in (3, 1000):
            patch.setattr(row_ids, "_HELD", held)
            noted = NotedIds(keep_places=True)
            for place, number in enumerate(given_ids, 1):
                assert noted.given(str(number), place) is None
            for place, number in enumerate(computed_ids, 1):
                assert noted.computed(f"c{number}", place) == f"c{number}"
            found = noted.repeated()
            for numbers, prefix, hashes in zip(
                (given_ids, computed_ids), ("", "c"), found, strict=True
            ):
                counts = Counter(numbers)
                assert hashes == {hash(f"{prefix}{n}") for n in counts if counts[n] > 1}
            assert noted.places is not None and len(noted.places) == sum(
                map(len, (given_ids, computed_ids))
            )


@pytest.mark.usefixtures("small_parts")
@settings(max_examples=25)
@given(texts=st.lists(st.sampled_from("abcdefgh"), min_size=1), ids=st.booleans())
def test_a_stream_has_the_ids_of_the_loaded_rows(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], ids: bool
) -> None:
    # Every third row has an id of its own, where any has.
    rows = [
        {"text": text, "label": "good", **({"uid": f"id {i}"} if ids and i % 3 == 0 else {})}
        for i, text in enumerate(texts)
    ]
    path = written(tmp_path_factory.mktemp("rows") / "rows.jsonl", rows)
    loaded = load_examples(path, TASK)
    assert list(stream_examples(path, TASK).open()) == list(loaded)
    assert len({example.uid for example in loaded}) == len(rows)
    own = [text for i, text in enumerate(texts) if not ids or i % 3]
    numbered = [example.uid for example in loaded if "-" in example.uid]
    assert len(numbered) == len(own) - len(set(own))


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("read", [load_examples, stream_examples])
def test_repeated_ids_are_reported_with_the_other_faults(tmp_path: Path, read: object) -> None:
    rows = [{"id": f"{i % 15}", "text": f"t {i}", "label": "good"} for i in range(19)]
    rows.append({"id": "x", "text": "t", "label": "medium"})
    path = written(tmp_path / "rows.jsonl", rows)
    assert callable(read)
    with pytest.raises(DataError) as caught:
        read(path, TASK, LayoutSettings(columns={"uid": "id"}))
    text = str(caught.value)
    assert "rows.jsonl:16 field 'id': got id '0', which line 1 also has" in text
    assert "so in lines 17 and 18; 4 rows in all" in text
    assert "got 'medium', expected one of good, bad" in text


def peak(path: str) -> int:
    """The bytes that checking a file and reading it again take at most."""
    gc.collect()
    tracemalloc.start()
    try:
        stream = stream_examples(path, TASK)
        assert sum(1 for _ in stream.open()) == stream.total
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("named", [True, False])
def test_memory_does_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setattr(row_ids, "_HELD", 200)
    peaks = []
    for count in (500, 2500):
        rows = [
            {"text": f"some text {i}", "label": "bad", **({"uid": f"M-{i}"} if named else {})}
            for i in range(count)
        ]
        path = written(tmp_path / f"{count}.jsonl", rows)
        del rows
        peaks or peak(path)  # what is imported and compiled once
        peaks.append(peak(path))
    # 2,000 ids more would take 110 KB even without the dictionary that holds them.
    assert peaks[1] - peaks[0] < 30_000


def test_a_full_temporary_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_ids, "_HELD", 2)

    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(row_ids.tempfile, "TemporaryFile", full)
    rows = [{"text": f"some text {i}", "label": "bad"} for i in range(5)]
    with pytest.raises(RunFolderError, match=r"No space left on device.*set TMPDIR"):
        stream_examples(written(tmp_path / "rows.jsonl", rows), TASK)
