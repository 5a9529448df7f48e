"""The bag-of-words classifier: what it learns, and which words are masked."""

from __future__ import annotations

import random

import pytest

from tutelage.core.task import NLI, Task
from tutelage.evaluation.text_classifier import mask_label_words, train_classifier

TASK = Task(
    "purchase", ("offer",), ("yes", "no", "not_sure"), verbalizers={"yes": "they buy", "no": "no"}
)


def texts(rng: random.Random, count: int, label: int) -> list[str]:
    """Words drawn from a list, the later ones more often for a higher label."""
    words = [f"w{i}" for i in range(30)]
    weights = [1 + label * i / 15 for i in range(30)]
    return [" ".join(rng.choices(words, weights, k=12)) for _ in range(count)]


def test_it_predicts_what_naive_bayes_of_scikit_learn_predicts() -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    rng = random.Random(5)
    seen = [text for label in range(3) for text in texts(rng, 60 - 10 * label, label)]
    labels = ["a"] * 60 + ["b"] * 50 + ["c"] * 40
    unseen = [text for label in range(3) for text in texts(rng, 60, label)] + ["none is known"]
    vectors = CountVectorizer(binary=True, ngram_range=(1, 2), token_pattern=r"\w+")
    theirs = MultinomialNB(alpha=1.0).fit(vectors.fit_transform(seen), labels)
    ours = train_classifier(seen, labels)
    expected = theirs.predict(vectors.transform(unseen))
    assert [ours.predict(text) for text in unseen] == list(expected)
    assert len(set(expected)) == 3


def test_without_known_words_it_predicts_the_most_frequent_label() -> None:
    classifier = train_classifier(["x", "y y", ""], ["two", "one", "two"])
    assert [classifier.predict(text) for text in ("", "unknown words")] == ["two", "two"]
    # Features x, y and "y y": for "y" 1/3 · 2/5 < 2/3 · 1/4, for "y y" 1/3 · (2/5)² > 2/3 · (1/4)².
    assert [classifier.predict(text) for text in ("y", "y y")] == ["two", "one"]
    # Equally likely: the first in the alphabet, whatever the order.
    assert train_classifier(["", ""], ["z", "b"]).predict("") == "b"
    for labels in ([], ["a", "b"]):
        with pytest.raises(ValueError, match="expected as many"):
            train_classifier(["one"][: len(labels)], labels)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("So the answer is **Entailment**.", "So the answer is *****."),
        ("It contradicts, or is contradictory to, it.", "It *, or is * to, it."),
        ("Neutrality; it is not entailed.", "*; it is not *."),
        ("A contrast in detail cannot be a contra.", "A contrast in detail cannot be a contra."),
        ("Men can see e and N alike.", "Men can see * and * alike."),
    ],
)
def test_forms_of_a_label_are_masked_and_nothing_else(text: str, masked: str) -> None:
    assert mask_label_words(text, NLI) == masked


def test_labels_of_several_words_and_short_ones() -> None:
    masked = mask_label_words("They  buy it: yes. Nobody is not sure, and surely no.", TASK)
    assert masked == "* it: *. Nobody is *, and * *."
