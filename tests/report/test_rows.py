"""The packed rows hold what was put in, and stay within their size."""

from __future__ import annotations

import json
import random
import zlib
from array import array
from base64 import b64decode
from typing import Any

import numpy as np
import pytest

from tutelage.core.types import Example
from tutelage.report import rows as module
from tutelage.report.rows import PackedRows, pack_rows
from tutelage.report.run_files import ArmPredictions, RunFiles

LABELS = ["yes", "no"]


def files_of(texts: list[str], rationales: dict[int, tuple[int, str]] | None = None) -> RunFiles:
    """Rows of one field, read by two arms of two and of one seed."""
    n = len(texts)
    gold = array("H", (i % 2 for i in range(n)))
    wrong = array("H", (1 - g for g in gold))
    shares = array("H", (i % 1001 for i in range(n)))
    rest = array("H", (1000 - share for share in shares))
    return RunFiles(
        uids=[f"u{i}" for i in range(n)],
        gold=gold,
        examples=[
            Example(
                f"u{i}", {"text": text}, LABELS[i % 2], tags=("odd",) if i % 2 else ("even", "all"),
                reason="same" if i == 0 else f"reason {i}" if i == 3 else None,
                references={"echo": "same"} if i == 0 else {},
            )
            for i, text in enumerate(texts)
        ],
        predictions={
            "a": ArmPredictions((4, 7), (gold, wrong), (shares, rest), rationales or {}),
            "b": ArmPredictions((0,), (gold,), (rest, shares), {}),
        },
    )  # fmt: skip


def unpacked(packed: PackedRows) -> tuple[dict[str, Any], np.ndarray]:
    """Texts, and numbers as columns × rows."""
    texts = json.loads(zlib.decompress(b64decode(packed.texts)))
    numbers = np.frombuffer(zlib.decompress(b64decode(packed.numbers)), dtype="<u2")
    return texts, numbers.reshape(-1, packed.rows)


def test_what_goes_in_comes_out() -> None:
    files = files_of(["one", "two </script>", "\u202eשלום", "four"], {2: (7, "since")})
    packed = pack_rows(files, LABELS)
    texts, numbers = unpacked(packed)
    a, b = files.predictions.values()
    expected = [files.gold, *a.labels, *a.probabilities, *b.labels, *b.probabilities]
    assert numbers.tolist() == [list(column) for column in expected]
    assert texts["fields"] == {"text": ["one", "two </script>", "\u202eשלום", "four"]}
    assert texts["uids"] == ["u0", "u1", "u2", "u3"] and texts["number"] is None
    assert texts["arms"] == [
        {"name": "a", "seeds": [4, 7], "rationales": {"2": [7, "since"]}},
        {"name": "b", "seeds": [0], "rationales": {}},
    ]
    assert packed.tags == ["all", "even", "odd"]
    assert texts["tagged"] == [[1, 0], [2], [1, 0], [2]]
    # The reason that repeats a reference is given once.
    assert texts["references"] == {
        "echo": ["same", None, None, None],
        "the data's own": [None, None, None, "reason 3"],
    }
    assert (packed.rows, packed.total, packed.cut_to) == (4, 4, None)
    assert packed.written == {"a": (1, 1)}


def test_half_a_surrogate_pair_is_no_reason_to_fail() -> None:
    texts, _ = unpacked(pack_rows(files_of(["\ud83d", "fine"]), LABELS))
    assert texts["fields"]["text"] == ["?", "fine"]


def test_at_most_500_rationales_of_an_arm_evenly_spaced() -> None:
    written = {i: (4, f"since {i}") for i in range(1200)}
    packed = pack_rows(files_of(["x"] * 1200, written), LABELS)
    texts, _ = unpacked(packed)
    kept = [int(row) for row in texts["arms"][0]["rationales"]]
    assert len(kept) == 500 and kept == sorted(kept)
    assert kept[0] == 0 and kept[-1] >= 1197 and max(np.diff(kept)) <= 3
    assert packed.written == {"a": (500, 1200)}


def test_rows_beyond_the_most_are_left_out_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    files = files_of([f"text {i}" for i in range(25)], {12: (4, "since"), 13: (4, "not shown")})
    packed = pack_rows(files, LABELS)
    texts, numbers = unpacked(packed)
    assert (packed.rows, packed.total) == (10, 25)
    assert texts["number"] == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]
    assert texts["fields"]["text"][3] == "text 7"
    assert numbers[0].tolist() == [files.gold[row] for row in texts["number"]]
    assert texts["arms"][0]["rationales"] == {"5": [4, "since"]}


def test_texts_are_cut_longest_first_to_stay_within_the_size() -> None:
    rng = random.Random(3)

    def noise(length: int) -> str:
        return "".join(chr(rng.randrange(33, 1000)) for _ in range(length))

    texts = [noise(60) for _ in range(40)] + [noise(5000) for _ in range(20)]
    whole = pack_rows(files_of(texts), LABELS)
    packed = pack_rows(files_of(texts), LABELS, most_bytes=60_000)
    assert whole.cut_to is None and len(whole.texts) > 100_000
    assert packed.cut_to is not None
    held, _ = unpacked(packed)
    assert held["fields"]["text"][:40] == texts[:40]
    for text, long in zip(held["fields"]["text"][40:], texts[40:], strict=True):
        assert text == long[: packed.cut_to - 1] + "…"
    size = 3 / 4 * (len(packed.texts) + len(packed.numbers))
    assert 30_000 < size <= 60_003  # the room that there is is used


def test_cutting_ends_where_nothing_is_left_to_cut() -> None:
    packed = pack_rows(files_of(["x" * 200] * 30), LABELS, most_bytes=10)
    assert packed.cut_to == 80
