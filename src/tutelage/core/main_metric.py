"""The main metric of an experiment: what dev chooses by, and what arms are compared in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from tutelage.core.types import Prediction

MetricName = Literal["accuracy", "balanced_accuracy"]
"""`accuracy`: the share of rows whose label is right. `balanced_accuracy`: the mean of the labels'
recalls, so that each label counts as much as any other, whatever its number of rows."""


def metric_in_words(metric: MetricName) -> str:
    """What the metric is called in a sentence: `balanced accuracy`."""
    return metric.replace("_", " ")


def score(predictions: Sequence[Prediction], metric: MetricName) -> float:
    """The metric's value of these predictions, a fraction.

    Labels that no row has do not count. Raises ValueError where there are no predictions.
    """
    return score_of_labels([p.label for p in predictions], [p.gold for p in predictions], metric)


def score_of_labels(
    predicted: Sequence[str | None], gold: Sequence[str], metric: MetricName
) -> float:
    """`score` of labels: predicted ones (None: no answer, which is wrong) and the true ones."""
    if not gold or len(predicted) != len(gold):
        raise ValueError(
            f"got {len(predicted)} predictions of {len(gold)} labels, expected one for each of one "
            "or more"
        )
    right = [label for label, true in zip(predicted, gold, strict=True) if label == true]
    if metric == "accuracy":
        return len(right) / len(gold)
    hits = Counter(right)
    rows = Counter(gold)
    return sum(hits[label] / count for label, count in rows.items()) / len(rows)
