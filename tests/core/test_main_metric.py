"""The metric that dev chooses by, with figures computed by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from tutelage.core.main_metric import metric_in_words, score, score_of_labels
from tutelage.core.types import Prediction

GOLD = ["a"] * 6 + ["b"] * 3 + ["c"]
PREDICTED = ["a"] * 5 + ["b"] + ["b", "c", "c"] + ["a"]


def test_by_hand() -> None:
    assert score_of_labels(PREDICTED, GOLD, "accuracy") == pytest.approx(6 / 10)
    # Recalls of 5/6, 1/3 and 0.
    expected = (5 / 6 + 1 / 3 + 0) / 3
    assert score_of_labels(PREDICTED, GOLD, "balanced_accuracy") == pytest.approx(expected)
    rows = [
        Prediction(str(i), p, {}, g) for i, (p, g) in enumerate(zip(PREDICTED, GOLD, strict=True))
    ]
    assert score(rows, "balanced_accuracy") == pytest.approx(expected)
    # Always the same label: one divided by the number of labels, whatever their frequencies.
    assert score_of_labels(["a"] * 10, GOLD, "balanced_accuracy") == pytest.approx(1 / 3)


def test_no_answer_is_wrong_and_labels_without_rows_do_not_count() -> None:
    assert score_of_labels([None, "a"], ["a", "a"], "accuracy") == 0.5
    assert score_of_labels([None, "a"], ["a", "a"], "balanced_accuracy") == 0.5
    assert score_of_labels(["c", "a"], ["b", "a"], "balanced_accuracy") == 0.5


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1))
def test_as_scikit_learn_has_it(pairs: list[tuple[str, str]]) -> None:
    gold, predicted = [g for g, _ in pairs], [p for _, p in pairs]
    assert score_of_labels(predicted, gold, "accuracy") == pytest.approx(
        accuracy_score(gold, predicted)
    )
    if set(predicted) <= set(gold) and len(set(gold)) > 1:  # it warns otherwise
        assert score_of_labels(predicted, gold, "balanced_accuracy") == pytest.approx(
            balanced_accuracy_score(gold, predicted)
        )


@pytest.mark.parametrize(("predicted", "gold"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_what_cannot_be_scored_is_an_error(predicted: list[str], gold: list[str]) -> None:
    with pytest.raises(ValueError, match="expected one for each of one or more"):
        score_of_labels(predicted, gold, "accuracy")


def test_in_words() -> None:
    assert metric_in_words("accuracy") == "accuracy"
    assert metric_in_words("balanced_accuracy") == "balanced accuracy"
