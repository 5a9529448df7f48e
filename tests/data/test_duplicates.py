from __future__ import annotations

import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.core.task import NLI, Task
from tutelage.core.types import Example
from tutelage.core.words import words
from tutelage.data.duplicates import NGRAM, THRESHOLD, compare_texts, units_of

FLAT = Task("mood", ("text",), ("good", "bad"))
PAIR = Task("same", ("left", "right"), ("yes", "no"))
LONG = (
    "the old lighthouse keeper climbed the narrow stairs every evening to light the lamp before "
    "the ships came in from the stormy northern sea"
)


def flat(*texts: str) -> list[Example]:
    return [Example(f"r{i}", {"text": text}, "good") for i, text in enumerate(texts)]


def pairs(*texts: tuple[str, str], task: Task = PAIR) -> list[Example]:
    return [
        Example(f"r{i}", dict(zip(task.fields, two, strict=True)), task.labels[0])
        for i, two in enumerate(texts)
    ]


def kinds(train: list[Example], test: list[Example], task: Task) -> dict[int, tuple[int, str]]:
    return compare_texts([train, test], task, [1]).duplicates(0, 1)


def test_equal_up_to_case_punctuation_and_space() -> None:
    found = kinds(flat("A dog runs.", "A cat runs."), flat("other", "a  DOG runs"), FLAT)
    assert found == {0: (1, "equal")}


@pytest.mark.parametrize(
    ("changed", "near"),
    [
        (LONG.replace("evening", "night"), True),  # one word of 24
        (LONG + " at last", True),
        (LONG.removeprefix("the old "), True),
        ("Keeper's log: " + LONG, True),
        (LONG.replace("evening", "night").replace("stormy", "calm"), False),
        (" ".join(reversed(LONG.split())), False),  # the same words
        (" ".join(LONG.split()[:12]), False),  # half of it
    ],
)
def test_nearly_equal_by_trigrams(changed: str, near: bool) -> None:
    assert kinds(flat(changed), flat("x", LONG), FLAT) == ({0: (1, "near")} if near else {})


def test_one_word_of_a_short_text_may_decide_its_label() -> None:
    assert not kinds(flat("the film was good"), flat("the film was bad"), FLAT)
    assert not kinds(flat("the film was not good at all"), flat("the film was good at all"), FLAT)


def test_every_field_must_be_near() -> None:
    same_premise = pairs((LONG, "A man climbs."), task=NLI)
    assert not kinds(same_premise, pairs((LONG, "A man sleeps."), task=NLI), NLI)
    edited = pairs((LONG.replace("evening", "night"), "a man climbs!"), task=NLI)
    assert kinds(same_premise, edited, NLI) == {0: (0, "near")}


def test_a_pair_counts_in_either_order_unless_one_is_a_context() -> None:
    one, other = [("a b c d", "w x y z")], [("W x y z.", "A b c d")]
    assert kinds(pairs(*one), pairs(*other), PAIR) == {0: (0, "swapped")}
    assert not kinds(pairs(*one, task=NLI), pairs(*other, task=NLI), NLI)
    longer = pairs((LONG, "w x y z")), pairs(("w x y z", LONG + " again"))
    assert kinds(*longer, PAIR) == {0: (0, "near")}
    # Fields that are near each in its own place, of a row with its fields mixed otherwise: not one.
    assert not kinds(pairs(("a b c", "a b c")), pairs(("a b c", "w x y")), PAIR)


def test_groups_within_a_split_join_what_is_alike_one_by_one() -> None:
    second = LONG.replace("evening", "night")
    third = second.replace("old", "young")
    rows = flat(LONG, "other", second, third, "OTHER!", "alone")
    assert units_of(rows, FLAT) == ["r0", "r1", "r0", "r0", "r1", "r5"]


def test_units_join_contexts_and_texts() -> None:
    rows = pairs(
        ("One.", "a"), ("Two.", "b"), ("one", "c"), ("Three", "d"), ("TWO", "b!"), task=NLI
    )
    assert units_of(rows, NLI) == ["One.", "Two.", "One.", "Three", "Two."]


def test_where_nothing_is_alike_units_are_the_task_s_groups() -> None:
    rows = pairs(("p  one", "a"), ("p one", "b"), ("q", "a"), task=NLI)
    assert units_of(rows, NLI) == [NLI.group(row.uid, row.fields) for row in rows]


def similar(one: Example, other: Example, task: Task) -> bool:
    """The definition, without any short cut."""

    def grams(text: str) -> set[tuple[str, ...]]:
        edge = [""] * (NGRAM - 1)
        found = [*edge, *(words(text) or [text]), *edge]
        return {tuple(found[i : i + NGRAM]) for i in range(len(found) - NGRAM + 1)}

    def near(order: list[str]) -> bool:
        both = [
            (grams(one.fields[a]), grams(other.fields[b]))
            for a, b in zip(order, task.fields, strict=True)
        ]
        return all(len(a & b) >= THRESHOLD * len(a | b) for a, b in both)

    orders = [list(task.fields)]
    if len(task.fields) == 2 and task.context is None:
        orders.append(list(task.fields)[::-1])
    return any(near(order) for order in orders)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([FLAT, PAIR, NLI]))
def test_no_pair_is_overlooked_and_none_is_invented(seed: int, task: Task) -> None:
    rng = random.Random(seed)

    def text() -> str:
        # Few words, and texts that are copies with an edit: many pairs are close to the threshold.
        base = [rng.choice("abcdefgh") * 2 for _ in range(rng.choice((1, 3, 12, 20)))]
        return " ".join(base)

    texts = [text() for _ in range(8)]

    def edited() -> str:
        of_text = rng.choice(texts).split()
        for _ in range(rng.randrange(3)):
            of_text[rng.randrange(len(of_text))] = rng.choice("abcdefgh") * 2
        return " ".join(of_text + [rng.choice("ab") * 2] * rng.randrange(3))

    def rows(name: str) -> list[Example]:
        return [
            Example(f"{name}{i}", {field: edited() for field in task.fields}, task.labels[0])
            for i in range(12)
        ]

    train, test = rows("train"), rows("test")
    expected = {i for i, row in enumerate(train) if any(similar(row, each, task) for each in test)}
    found = kinds(train, test, task)
    assert set(found) == expected
    assert all(similar(train[i], test[j], task) for i, (j, _) in found.items())
    if task.context is None:
        units = units_of(test, task)
        for (i, a), (j, b) in itertools.combinations(enumerate(test), 2):
            assert units[i] == units[j] or not similar(a, b, task)


def test_twenty_thousand_rows_take_seconds() -> None:
    rng = random.Random(1)
    vocabulary = [f"w{i}" for i in range(5000)]
    weights = [1 / (i + 10) for i in range(5000)]  # about Zipf's law, as in natural text

    def text() -> str:
        return " ".join(rng.choices(vocabulary, weights, k=rng.randrange(10, 60)))

    train, test = flat(*(text() for _ in range(18_000))), flat(*(text() for _ in range(2_000)))
    started = time.process_time()
    assert not kinds(train, test, FLAT)
    assert time.process_time() - started < 30  # 8 s on a core of 2026


def test_many_copies_of_one_text_take_no_longer() -> None:
    # All pairs are alike: two million of them.
    rows = flat(*(f"order {i} {LONG} and was then sent on to the harbour" for i in range(2_000)))
    started = time.process_time()
    assert set(units_of(rows, FLAT)) == {"r0"}
    assert time.process_time() - started < 30
