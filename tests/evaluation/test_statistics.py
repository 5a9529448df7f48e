"""Wilson, McNemar and Holm against statsmodels and values worked by hand."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from tutelage.evaluation.statistics import holm, mcnemar_exact, wilson_interval


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_statsmodels(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts, confidence=0.9)
    assert (low, high) == pytest.approx(
        proportion_confint(*counts, alpha=0.1, method="wilson"), abs=1e-12
    )
    assert 0 <= low <= counts[0] / counts[1] <= high <= 1


def test_wilson_refuses_impossible_counts() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        wilson_interval(3, 2)


@pytest.mark.parametrize("b, c", [(0, 0), (1, 0), (5, 5), (3, 12), (40, 20), (0, 9)])
def test_mcnemar_is_that_of_statsmodels(b: int, c: int) -> None:
    referee = mcnemar([[7, b], [c, 7]], exact=True).pvalue if b + c else 1.0
    assert mcnemar_exact(b, c) == pytest.approx(referee)


def test_mcnemar_by_hand() -> None:
    assert mcnemar_exact(1, 5) == pytest.approx(2 * (1 + 6) / 64)
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar_exact(-1, 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    # It collects garbage each time, which takes a second in a process that has imported torch.
    with mock.patch("gc.collect"):
        expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(expected)


def test_holm_by_hand() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
    with pytest.raises(ValueError, match="between 0 and 1"):
        holm([0.5, 1.2])
