"""The bag-of-words baseline: TF-IDF and logistic regression on the rows that the students get.

It takes seconds and knows nothing of word order beyond two words, nor of what words mean. A student
that it beats has learnt nothing that the words alone do not give away.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tutelage.core.main_metric import MetricName, score_of_labels
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction
from tutelage.core.words import text_key, words

STRENGTHS = (0.1, 1.0, 10.0, 100.0)
"""Values of C, the inverse strength of the L2 penalty, that are tried on dev."""

_ITERATIONS = 1000


@dataclass(frozen=True)
class BagOfWords:
    """A fitted bag of words.

    strength:     the C that dev chose
    dev_accuracy: of each of `STRENGTHS`, fractions; or another metric that dev chose by
    features:     number of them: n-grams of all fields, and word overlaps
    predictions:  for the test rows, in their order
    """

    strength: float
    dev_accuracy: tuple[float, ...]
    features: int
    predictions: tuple[Prediction, ...]


def bag_of_words(
    train: Sequence[Example],
    dev: Sequence[Example],
    test: Sequence[Example],
    task: Task,
    metric: MetricName = "accuracy",
) -> BagOfWords:
    """Fit on train, choose the regularisation on dev (the strongest of equals), predict test.

    metric: by which dev chooses

    Features: the words and pairs of adjacent words of each field, with those of different fields
    apart, weighted by TF-IDF (1 + log tf, smoothed idf, each field's vector of length 1). An n-gram
    of a single training row is left out where there are a thousand rows or more. For each two
    fields there are the fractions of the first one's distinct words that the second one has, of the
    second's that the first has, and of all of theirs that both have.

    Labels that train lacks have probability 0. Needs scikit-learn.
    """
    from sklearn.linear_model import LogisticRegression

    features = _Features(train, task)
    rows = {name: features.of(split) for name, split in (("dev", dev), ("test", test))}
    gold = [example.label for example in train]
    on_dev = [example.label for example in dev]
    known = sorted(set(gold))
    if len(known) == 1:  # nothing to fit
        accuracy = score_of_labels(known * len(dev), on_dev, metric) if on_dev else 0.0
        answers = [{known[0]: 1.0}] * len(test)
        return BagOfWords(
            STRENGTHS[0],
            (accuracy,) * len(STRENGTHS),
            features.train.shape[1],
            _predictions(test, answers, task),
        )
    fitted, accuracies = [], []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=_ITERATIONS)
        model.fit(features.train, gold)
        fitted.append(model)
        accuracies.append(score_of_labels(model.predict(rows["dev"]).tolist(), on_dev, metric))
    best = max(range(len(STRENGTHS)), key=accuracies.__getitem__)
    probabilities = fitted[best].predict_proba(rows["test"])
    answers = [
        dict(zip(fitted[best].classes_.tolist(), of_row, strict=True))
        for of_row in probabilities.tolist()
    ]
    return BagOfWords(
        STRENGTHS[best],
        tuple(accuracies),
        features.train.shape[1],
        _predictions(test, answers, task),
    )


def _predictions(
    rows: Sequence[Example], answers: Sequence[dict[str, float]], task: Task
) -> tuple[Prediction, ...]:
    return tuple(
        Prediction(
            row.uid,
            max(task.labels, key=lambda label: answer.get(label, 0.0)),
            {label: answer.get(label, 0.0) for label in task.labels},
            row.label,
        )
        for row, answer in zip(rows, answers, strict=True)
    )


class _Features:
    """The features of rows, with the vocabulary and the idf of the training rows.

    train: theirs, a sparse matrix rows × features
    """

    def __init__(self, train: Sequence[Example], task: Task) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self.fields = task.fields
        self.vectorizers: list[Any] = []
        least = 2 if len(train) >= 1000 else 1
        parts = []
        for name in self.fields:
            texts = [row.fields[name] for row in train]
            vectorizer = TfidfVectorizer(analyzer=_ngrams, min_df=least, sublinear_tf=True)
            try:
                parts.append(vectorizer.fit_transform(texts))
            except ValueError:  # no n-gram of this field is in enough training rows
                continue
            self.vectorizers.append((name, vectorizer))
        self.train = self._joined(parts, train)

    def of(self, rows: Sequence[Example]) -> Any:
        """The same features of other rows."""
        parts = [v.transform([row.fields[name] for row in rows]) for name, v in self.vectorizers]
        return self._joined(parts, rows)

    def _joined(self, parts: Sequence[Any], rows: Sequence[Example]) -> Any:
        from scipy.sparse import csr_array, hstack

        overlaps = [
            _overlaps(set(words(row.fields[one])), set(words(row.fields[other])))
            for row in rows
            for one, other in itertools.combinations(self.fields, 2)
        ]
        # Without pairs of fields one column of zeros, so that there always is a feature.
        table = np.array(overlaps).reshape(len(rows), -1) if overlaps else np.zeros((len(rows), 1))
        return hstack([*parts, csr_array(table)], format="csr")


def _ngrams(text: str) -> list[str]:
    of_text = words(text) or [text_key(text)]
    return [*of_text, *(" ".join(pair) for pair in itertools.pairwise(of_text))]


def _overlaps(one: set[str], other: set[str]) -> tuple[float, float, float]:
    """|one ∩ other| as fractions of |one|, of |other| and of |one ∪ other|; 0 of nothing."""
    common = len(one & other)
    return (
        common / max(len(one), 1),
        common / max(len(other), 1),
        common / max(len(one | other), 1),
    )
