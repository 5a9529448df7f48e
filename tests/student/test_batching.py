from __future__ import annotations

import random

import pytest

from tutelage.student.encoding.batching import make_micro_batches, split_by_tokens
from tutelage.student.encoding.tokenise import EncodedExample, TokenSequence


def _example(number: int, source: int, target: int) -> EncodedExample:
    sequence = TokenSequence([1] * source, [1] * target, [0] * target)
    return EncodedExample(str(number), (sequence,), 0, False, 0, 0, 0)


def _positions(rows: list[EncodedExample]) -> int:
    longest = [
        max(len(getattr(r.sequences[0], side)) for r in rows) for side in ("source", "target")
    ]
    return len(rows) * sum(longest)


@pytest.fixture
def step() -> list[EncodedExample]:
    """Rows of similar total length, of which different shares are input."""
    rng = random.Random(0)
    sources = [rng.randint(20, 180) for _ in range(64)]
    return [_example(i, s, 200 - s + rng.randint(0, 9)) for i, s in enumerate(sources)]


@pytest.mark.parametrize("limit", [300, 1000, 4096, 100_000])
def test_micro_batches_hold_each_row_once_and_stay_within_the_limit(
    step: list[EncodedExample], limit: int
) -> None:
    micro_batches = make_micro_batches(step, limit)
    assert sorted(int(r.uid) for rows in micro_batches for r in rows) == list(range(64))
    assert all(len(rows) == 1 or _positions(rows) <= limit for rows in micro_batches)
    sizes = [len(rows) for rows in micro_batches]
    assert max(sizes) - min(sizes) <= 1
    assert make_micro_batches(step[::-1], limit)[0][0].length == micro_batches[0][0].length


def test_micro_batches_hold_less_padding_than_rows_in_order_of_length(
    step: list[EncodedExample],
) -> None:
    step.sort(key=lambda row: row.length)
    tokens = sum(row.length for row in step)
    in_order = split_by_tokens([row.length for row in step], 4096)
    before = sum(_positions([step[i] for i in part]) for part in in_order)
    after = sum(_positions(rows) for rows in make_micro_batches(step, 4096))
    assert before > 1.4 * tokens
    assert after < 1.2 * tokens


def test_a_row_longer_than_the_limit_is_a_micro_batch_of_its_own() -> None:
    assert [len(rows) for rows in make_micro_batches([_example(0, 90, 90)] * 3, 50)] == [1, 1, 1]


def test_the_number_of_micro_batches_is_a_multiple_of_the_concurrency() -> None:
    step = [_example(number, 60 + number, 40) for number in range(16)]
    for concurrency, limit in ((2, 10_000), (2, 600), (3, 600), (4, 300)):
        micro_batches = make_micro_batches(step, limit, concurrency)
        assert len(micro_batches) % concurrency == 0
        assert (
            len(micro_batches) - concurrency
            < len(make_micro_batches(step, limit))
            <= len(micro_batches)
        )
        assert sorted(e.uid for rows in micro_batches for e in rows) == sorted(e.uid for e in step)
    assert [len(rows) for rows in make_micro_batches(step[:3], 10_000, 8)] == [1, 1, 1]
