"""Metrics against scikit-learn and statsmodels, and their refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from tutelage.core.errors import DataError, UsageError
from tutelage.core.task import NLI, Task
from tutelage.core.types import Prediction
from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.metrics import (
    confusion_matrix,
    evaluate,
    macro_f1,
    per_label,
)
from tutelage.evaluation.statistics import wilson_interval

LABELS = NLI.labels
pairs = st.lists(st.tuples(*[st.sampled_from(LABELS)] * 2), min_size=1, max_size=60)


def prediction(uid: str, gold: str, label: str, truncated: bool = False) -> Prediction:
    return Prediction(uid, label, {label: 1.0}, gold, truncated)


def rows(text: str) -> list[Prediction]:
    """`ee en cc`: gold and predicted label by first letter, uids r0, r1, …"""
    names = {label[0]: label for label in LABELS}
    return [prediction(f"r{i}", names[p[0]], names[p[1]]) for i, p in enumerate(text.split())]


@given(pairs)
def test_scores_are_those_of_scikit_learn(table: list[tuple[str, str]]) -> None:
    gold, predicted = zip(*table, strict=True)
    confusion = confusion_matrix(gold, predicted, LABELS)
    np.testing.assert_array_equal(
        confusion, sklearn.confusion_matrix(gold, predicted, labels=LABELS)
    )
    scores = per_label(confusion, LABELS)
    referee = sklearn.precision_recall_fscore_support(
        gold, predicted, labels=LABELS, zero_division=np.nan
    )
    for name, column in zip(("precision", "recall", "f1", "support"), referee, strict=True):
        mine = [getattr(scores[label], name) for label in LABELS]
        theirs = [None if np.isnan(value) else value for value in column]
        assert mine == pytest.approx(theirs)
    macro = sklearn.f1_score(gold, predicted, labels=LABELS, average="macro", zero_division=np.nan)
    assert macro_f1(scores) == pytest.approx(macro)


def test_undefined_is_none_and_not_zero() -> None:
    scores = per_label(confusion_matrix(["a", "b"], ["a", "a"], "abc"), "abc")
    assert (scores["b"].precision, scores["b"].recall, scores["b"].f1) == (None, 0.0, 0.0)
    assert (scores["c"].precision, scores["c"].recall, scores["c"].f1) == (None, None, None)
    assert macro_f1(scores) == pytest.approx((2 / 3 + 0) / 2)
    assert macro_f1({"c": scores["c"]}) is None


def test_metrics_refuse_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="at least one"):
        confusion_matrix([], [], "ab")
    with pytest.raises(ValueError, match="2 gold labels and 1 predictions"):
        confusion_matrix(["a", "b"], ["a"], "ab")
    with pytest.raises(ValueError, match=r"\['z'\]"):
        confusion_matrix(["a"], ["z"], "ab")


def test_one_seed_has_a_wilson_interval() -> None:
    result = evaluate({7: rows("ee en cc nn ne")}, NLI)
    assert (result.n, result.seeds, result.accuracy) == (5, (7,), 3 / 5)
    assert result.ci95 == wilson_interval(3, 5)
    assert "Wilson" in result.ci_method and "this model only" in result.ci_method


def test_groups_of_one_row_each_change_nothing() -> None:
    predictions = rows("ee " * 39 + "en")
    own = {p.uid: f"premise of {p.uid}" for p in predictions}
    result = evaluate({0: predictions}, NLI, own)
    assert result == evaluate({0: predictions}, NLI)
    assert result.ci95 == pytest.approx((0.871, 0.996), abs=5e-4)
    assert "Wilson" in result.ci_method
    pairs = {p.uid: i // 2 for i, p in enumerate(predictions)}
    assert "groups of rows" in evaluate({0: predictions}, NLI, pairs).ci_method
    two = {0: predictions, 1: rows("ee " * 38 + "en en")}
    assert evaluate(two, NLI, own) == evaluate(two, NLI)
    assert evaluate(two, NLI, own).ci_method == "crossed random effects over 40 rows and 2 seeds"


def test_several_seeds_generalise_over_rows_and_seeds() -> None:
    one, two = rows("ee en cc nn ne"), rows("ee ee cc ne nc")
    result = evaluate({2: two, 1: list(reversed(one))}, NLI)
    assert result.seeds == (1, 2)
    assert result.accuracy_by_seed == (3 / 5, 3 / 5)
    referee = crossed_random_effects([[1, 1], [0, 1], [1, 1], [1, 0], [0, 0]], bounds=(0, 1))
    assert result.ci95 == pytest.approx((referee.ci_low, referee.ci_high))
    assert "2 seeds" in result.ci_method
    # Gold e: ee, en + ee, ee; n: nn, ne + ne, nc; c: cc + cc
    assert result.confusion == ((3, 1, 0), (2, 1, 1), (0, 0, 2))
    assert [result.per_label[label].support for label in LABELS] == [2, 2, 1]
    assert result.per_label["entailment"].precision == 3 / 5
    f1 = [score.f1 for score in result.per_label.values() if score.f1 is not None]
    assert result.macro_f1 == pytest.approx(sum(f1) / 3)


def test_groups_widen_the_interval_of_rows_that_stand_and_fall_together() -> None:
    predictions = rows(" ".join(["ee"] * 30 + ["en"] * 30))
    groups = {p.uid: int(p.uid[1:]) // 10 for p in predictions}
    alone, grouped = evaluate({0: predictions}, NLI), evaluate({0: predictions}, NLI, groups)
    assert grouped.ci95[0] < alone.ci95[0] and grouped.ci95[1] > alone.ci95[1]
    assert "groups" in grouped.ci_method
    with pytest.raises(DataError, match="no group for 1 rows"):
        evaluate({0: [*predictions, prediction("x", "neutral", "neutral")]}, NLI, groups)


def test_a_row_truncated_for_any_seed_counts_once() -> None:
    one, two = rows("ee nn cc"), rows("ee nn cc")
    one[0] = dataclasses.replace(one[0], truncated=True)
    two[:2] = [dataclasses.replace(p, truncated=True) for p in two[:2]]
    assert evaluate({0: one, 1: two}, NLI).truncated == 2


def test_a_task_other_than_nli() -> None:
    task = Task("colour", ("text",), ("red", "blue"))
    result = evaluate({0: [prediction("a", "red", "red"), prediction("b", "red", "red")]}, task)
    assert result.confusion == ((2, 0), (0, 0))
    assert result.per_label["blue"].f1 is None and result.macro_f1 == 1


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("ee nn", "seed 1 lacks 1 rows of seed 0 and has 0 .*'r2'"),
        ("ee nn cc cc", "lacks 0 rows of seed 0 and has 1 .*'r3'"),
        ("ee en cc", "disagree on the gold label of 1 rows .*'r1': 'neutral' and 'entailment'"),
    ],
)
def test_seeds_that_cover_other_rows_are_refused(second: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate({0: rows("ee nn cc"), 1: rows(second)}, NLI)


def test_broken_predictions_are_refused() -> None:
    with pytest.raises(DataError, match="seed 3: got two predictions for row 'r0'"):
        evaluate({3: rows("ee") * 2}, NLI)
    with pytest.raises(DataError, match="predicted label 'maybe'"):
        evaluate({3: [prediction("a", "neutral", "maybe")]}, NLI)
    with pytest.raises(DataError, match="gold label 'maybe'"):
        evaluate({3: [prediction("a", "maybe", "neutral")]}, NLI)
    with pytest.raises(DataError, match="seed 3: got no predictions"):
        evaluate({3: []}, NLI)
    with pytest.raises(UsageError, match="at least one seed"):
        evaluate({}, NLI)
