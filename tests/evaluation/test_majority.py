"""The majority class."""

from __future__ import annotations

import pytest

from tutelage.core.errors import DataError
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.evaluation.majority import majority_class, majority_label
from tutelage.evaluation.statistics import wilson_interval


def rows(labels: str) -> list[Example]:
    names = {label[0]: label for label in NLI.labels}
    return [Example(f"r{i}", {}, names[letter]) for i, letter in enumerate(labels)]


def test_the_label_is_chosen_on_train_and_counted_on_test() -> None:
    result = majority_class(rows("nnne"), rows("eeeen"), NLI)
    assert (result.accuracy, result.n) == (1 / 5, 5)
    assert result.ci95 == wilson_interval(1, 5)
    assert result.confusion[0] == (0, 4, 0)


def test_groups_count_as_one() -> None:
    groups = {f"r{i}": i // 2 for i in range(12)}
    result = majority_class(rows("n"), rows("nneennccnnee"), NLI, groups)
    alone = majority_class(rows("n"), rows("nneennccnnee"), NLI)
    assert result.accuracy == alone.accuracy == 1 / 2
    assert result.ci95[1] - result.ci95[0] > alone.ci95[1] - alone.ci95[0]


def test_rows_that_share_no_premise_have_wilsons_interval() -> None:
    own = {f"r{i}": f"premise {i}" for i in range(12)}
    result = majority_class(rows("n"), rows("nneennccnnee"), NLI, own)
    assert result.ci95 == wilson_interval(6, 12)
    assert "Wilson" in result.ci_method


def test_ties_go_by_the_tasks_order_and_nothing_is_an_error() -> None:
    assert majority_label(["contradiction", "neutral"], NLI) == "neutral"
    with pytest.raises(DataError, match="at least one"):
        majority_label([], NLI)
