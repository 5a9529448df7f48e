"""The majority baseline: the most frequent training label as the answer to every test row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from tutelage.core.errors import DataError
from tutelage.core.results.measurements import Evaluation
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction
from tutelage.evaluation.metrics import evaluate


def majority_label(labels: Sequence[str], task: Task) -> str:
    """The most frequent label; of equally frequent labels, the first in the task's order.

    Raises DataError where there are none.
    """
    if not labels:
        raise DataError("got no training labels, expected at least one")
    counts = Counter(labels)
    return max(task.labels, key=lambda label: counts[label])


def majority_predictions(
    train: Sequence[Example], test: Sequence[Example], task: Task
) -> list[Prediction]:
    """The majority label for every test row; probabilities are the label shares of train."""
    counts = Counter(example.label for example in train)
    label = majority_label([example.label for example in train], task)
    shares = {name: counts[name] / len(train) for name in task.labels}
    return [Prediction(example.uid, label, shares, example.label) for example in test]


def majority_class(
    train: Sequence[Example],
    test: Sequence[Example],
    task: Task,
    groups: Mapping[str, Hashable] | None = None,
    *,
    balanced: bool = False,
) -> Evaluation:
    """Scores of the most frequent training label on test, with an interval.

    The label is chosen on train, so its share of test is not a maximum. Nothing is trained: the
    interval is over rows (Wilson's) or groups of rows alone, with a single seed 0. `balanced` as in
    `evaluate`.
    """
    answers = {0: majority_predictions(train, test, task)}
    return evaluate(answers, task, groups, balanced=balanced)
