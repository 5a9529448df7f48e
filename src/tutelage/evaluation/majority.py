"""What needs no model: the training rows' most frequent label, as the answer to every test row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from tutelage.core.errors import DataError
from tutelage.core.results.measurements import Evaluation
from tutelage.core.task import Task
from tutelage.core.types import Example, Prediction
from tutelage.evaluation.metrics import evaluate


def majority_label(labels: Sequence[str], task: Task) -> str:
    """The most frequent label; of equally frequent ones the first in the task's order.

    Raises DataError where there are none.
    """
    if not labels:
        raise DataError("got no training labels, expected at least one to know the majority of")
    counts = Counter(labels)
    return max(task.labels, key=lambda label: counts[label])


def majority_predictions(
    train: Sequence[Example], test: Sequence[Example], task: Task
) -> list[Prediction]:
    """The majority label for every test row, with the training rows' shares as probabilities."""
    counts = Counter(example.label for example in train)
    label = majority_label([example.label for example in train], task)
    shares = {name: counts[name] / len(train) for name in task.labels}
    return [Prediction(example.uid, label, shares, example.label) for example in test]


def majority_class(
    train: Sequence[Example],
    test: Sequence[Example],
    task: Task,
    groups: Mapping[str, Hashable] | None = None,
) -> Evaluation:
    """What answering the training rows' most frequent label is worth on test, with its interval.

    The label is chosen on train, so its share of the test rows need not be the largest. Nothing is
    trained: the interval is over rows (Wilson's) or their groups alone, of one seed named 0.
    """
    return evaluate({0: majority_predictions(train, test, task)}, task, groups)
