"""Differences of quantities that were estimated separately."""

from __future__ import annotations

import pytest

from tutelage.evaluation.statistics import wilson_interval
from tutelage.evaluation.unpaired import difference_interval


@pytest.mark.parametrize(
    ("first", "second", "interval"),
    [  # Newcombe 1998, Table II, method 10
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_published_examples(
    first: tuple[int, int], second: tuple[int, int], interval: tuple[float, float]
) -> None:
    shares = [hits / n for hits, n in (first, second)]
    found = difference_interval(
        shares[0], wilson_interval(*first), shares[1], wilson_interval(*second)
    )
    assert found == pytest.approx(interval, abs=0.0001)


def test_turned_about_it_turns_its_sign() -> None:
    a, b = (0.7, (0.6, 0.75)), (0.5, (0.45, 0.6))
    low, high = difference_interval(*a, *b)
    assert difference_interval(*b, *a) == pytest.approx((-high, -low))


def test_symmetric_intervals_add_in_squares() -> None:
    assert difference_interval(0.7, (0.67, 0.73), 0.5, (0.46, 0.54)) == pytest.approx((0.15, 0.25))


def test_an_estimate_outside_of_its_interval() -> None:
    with pytest.raises(ValueError, match=r"0.7 outside of its interval 0.1 to 0.2"):
        difference_interval(0.7, (0.1, 0.2), 0.5, (0.4, 0.6))
