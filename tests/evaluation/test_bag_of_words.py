from __future__ import annotations

import random
import time

import pytest

from tutelage.core.task import NLI, Task
from tutelage.core.types import Example
from tutelage.data.synthetic import generate
from tutelage.evaluation.bag_of_words import STRENGTHS, bag_of_words
from tutelage.evaluation.majority import majority_label

MOOD = Task("mood", ("text",), ("good", "bad"))


def example(uid: str, label: str, **fields: str) -> Example:
    return Example(uid, fields, label)


def moods(name: str, count: int, seed: int) -> list[Example]:
    """Texts whose label one of their words gives away."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        label = rng.choice(MOOD.labels)
        words = [rng.choice(["film", "play", "book", "song"]) for _ in range(6)]
        words.insert(rng.randrange(6), {"good": "splendid", "bad": "dreadful"}[label])
        rows.append(Example(f"{name}{i}", {"text": " ".join(words)}, label))
    return rows


def accuracy(found: object) -> float:
    predictions = found.predictions  # type: ignore[attr-defined]
    return sum(p.label == p.gold for p in predictions) / len(predictions)


def test_it_learns_what_words_give_away() -> None:
    train, dev, test = moods("a", 200, 1), moods("b", 50, 2), moods("c", 50, 3)
    found = bag_of_words(train, dev, test, MOOD)
    assert accuracy(found) == 1.0
    assert [p.uid for p in found.predictions] == [row.uid for row in test]
    assert all(sum(p.probabilities.values()) == pytest.approx(1) for p in found.predictions)
    assert bag_of_words(train, dev, test, MOOD) == found  # nothing is random


def test_dev_chooses_the_strength_and_the_strongest_of_equals() -> None:
    train, test = moods("a", 60, 1), moods("c", 30, 3)
    for row in train[:15]:  # wrong labels, so that a weak penalty learns them by heart
        object.__setattr__(row, "label", {"good": "bad", "bad": "good"}[row.label])
    found = bag_of_words(train, moods("b", 300, 2), test, MOOD)
    assert len(found.dev_accuracy) == len(STRENGTHS)
    best = max(found.dev_accuracy)
    assert found.strength == STRENGTHS[found.dev_accuracy.index(best)]


def test_the_fields_of_a_pair_are_apart_and_their_overlap_is_seen() -> None:
    pair = Task("pair", ("one", "two"), ("yes", "no"))
    rng = random.Random(5)
    vocabulary = [f"w{i}" for i in range(40)]

    def rows(name: str, count: int) -> list[Example]:
        made = []
        for i in range(count):
            one, label = rng.sample(vocabulary, 6), rng.choice(pair.labels)
            others = [word for word in vocabulary if word not in one]
            two = rng.sample(one if label == "yes" else others, 5)
            made.append(example(f"{name}{i}", label, one=" ".join(one), two=" ".join(two)))
        return made

    # No word says anything by itself; what the fields have in common says all.
    found = bag_of_words(rows("a", 300), rows("b", 100), rows("c", 100), pair)
    assert accuracy(found) > 0.95

    # The label is a word of the first field; the second field holds the same words at random.
    def crossed(name: str, count: int) -> list[Example]:
        made = []
        for i in range(count):
            one, two = rng.choice(["red", "blue"]), rng.choice(["red", "blue"])
            made.append(example(f"{name}{i}", "yes" if one == "red" else "no", one=one, two=two))
        return made

    assert accuracy(bag_of_words(crossed("a", 80), crossed("b", 40), crossed("c", 40), pair)) == 1.0


def test_texts_without_words_and_labels_that_train_lacks() -> None:
    three = Task("mood", ("text",), ("good", "bad", "so-so"))
    train = [
        Example(f"a{i}", {"text": "?!" if i % 2 else "…"}, three.labels[i % 2]) for i in range(8)
    ]
    test = [Example("t0", {"text": "…"}, "good"), Example("t1", {"text": "so new"}, "so-so")]
    found = bag_of_words(train, train, test, three)
    assert found.predictions[0].label == "good"
    assert found.predictions[1].probabilities["so-so"] == 0.0
    one = [Example(f"a{i}", {"text": "x"}, "bad") for i in range(3)]
    only = bag_of_words(one, train, test, three)
    assert {p.label for p in only.predictions} == {"bad"}
    assert only.dev_accuracy == (0.5,) * len(STRENGTHS)


def test_it_takes_seconds_on_the_rows_of_the_quickstart() -> None:
    train, dev, test = (generate(n, seed) for n, seed in ((6880, 1), (400, 2), (1000, 3)))
    started = time.perf_counter()
    found = bag_of_words(train, dev, test, NLI)
    assert time.perf_counter() - started < 120  # 5 s on one core of 2026
    label = majority_label([row.label for row in train], NLI)
    assert accuracy(found) > sum(row.label == label for row in test) / len(test)
