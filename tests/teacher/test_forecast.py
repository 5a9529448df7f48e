"""Forecasts: never above the worst case, with intervals of the stated coverage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tutelage.core.types import Usage
from tutelage.teacher.cost.forecast import (
    BYTES_PER_TOKEN,
    MIN_FOR_SLOPE,
    NOTHING,
    Amount,
    Estimate,
    KnownAnswer,
    Workload,
    amount_of,
    forecast,
    predict_total,
    sum_of,
    worst_case,
)
from tutelage.teacher.cost.prices import Price, Rates

Floats = NDArray[np.float64]

PRICE = Price((Rates(-1, 400_000, 100_000, 1_600_000),), 0, "test")
TIERED = Price((Rates(-1, 10, 5, 20), Rates(600, 30, 15, 40)), 7, "test")
FREE = Price((Rates(-1, 0, 0, 0),), 0, "test")

GENERATOR = np.random.default_rng(20)


def cut_answers(size: Floats) -> Floats:
    """Log-normal lengths, truncated at 400 tokens, plus an input proportional to the size."""
    return np.minimum(GENERATOR.lognormal(5, 0.6, len(size)), 400) + size / 4


POPULATIONS: dict[str, Callable[[Floats], Floats]] = {
    "a line": lambda size: size / 4 + GENERATOR.gamma(8, 50, len(size)),
    "no slope": lambda size: GENERATOR.gamma(8, 12, len(size)),
    "more scatter at the far end": lambda size: size * (2 + GENERATOR.normal(0, 0.4, len(size))),
    "cut answers": cut_answers,
}


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize(("n", "total"), [(20, 300), (20, 3000), (100, 300)])
def test_the_interval_has_the_stated_coverage(name: str, n: int, total: int) -> None:
    """Over samples from many finite populations: 95%, within the noise of 1,500 trials."""
    trials, held = 1500, 0
    for _ in range(trials):
        size = GENERATOR.gamma(12, 40, total)  # in random order: any n of them are a sample
        value = POPULATIONS[name](size)
        expected, half = predict_total(size[:n], value[:n], total - n, float(size[n:].sum()))
        assert half is not None
        held += abs(expected - value[n:].sum()) <= half
    assert 0.92 <= held / trials <= 0.98


def test_five_of_one_size_are_covered_too() -> None:
    size, held = np.full(60, 500.0), 0
    for _ in range(1500):
        value = GENERATOR.gamma(8, 12, 60)
        expected, half = predict_total(size[:5], value[:5], 55, 500.0 * 55)
        assert half is not None
        held += abs(expected - value[5:].sum()) <= half
    assert 0.92 <= held / 1500 <= 0.98


def test_worked_by_hand() -> None:
    """Three units, so the mean: 2, 4, 6 have mean 4 and variance 4; two more are expected to sum to
    8 ± t(2) √(4 (2 + 4/3))."""
    expected, half = predict_total(np.array([1.0, 9, 5]), np.array([2.0, 4, 6]), 2, 100.0)
    assert expected == 8
    assert half == pytest.approx(4.302653 * np.sqrt(4 * (2 + 4 / 3)))


def test_the_line_equals_that_of_an_independent_implementation() -> None:
    statsmodels = pytest.importorskip("statsmodels.api")
    size = GENERATOR.gamma(12, 40, 30)
    value = 3 + size / 4 + GENERATOR.normal(0, 10, 30)
    fit = statsmodels.OLS(value, statsmodels.add_constant(size)).fit()
    # The sum over one unit is the prediction of one new observation.
    frame = fit.get_prediction(np.array([[1.0, 777.0]])).summary_frame(alpha=0.05)
    expected, half = predict_total(size, value, 1, 777.0)
    assert half is not None
    assert expected == pytest.approx(frame["mean"][0])
    assert expected - half == pytest.approx(frame["obs_ci_lower"][0])
    assert expected + half == pytest.approx(frame["obs_ci_upper"][0])


def test_degenerate_samples() -> None:
    one = np.array([5.0])
    assert predict_total(one, np.array([7.0]), 3, 15.0) == (21.0, None)
    assert predict_total(one, np.array([7.0]), 0, 0.0) == (0.0, 0.0)
    same = np.full(20, 5.0)
    assert predict_total(same, np.full(20, 7.0), 3, 15.0) == (21.0, 0.0)
    with pytest.raises(ValueError, match="no unit"):
        predict_total(one[:0], one[:0], 3, 15.0)


def known(n: int, usage: Callable[[int], Usage]) -> list[KnownAnswer]:
    return [KnownAnswer(400 + i, 448 + i, usage(i)) for i in range(n)]


LOAD = Workload(sizes=[400, 500, 600], bounds=[448, 548, 648])


def test_without_answers_the_forecast_rests_on_assumptions() -> None:
    found = forecast(LOAD, [], 100, PRICE)
    assert found.answers == 0
    assert found.input == Estimate(1500 // BYTES_PER_TOKEN)
    assert found.output == Estimate(300)
    assert found.pico == Estimate(375 * 400_000 + 300 * 1_600_000)
    assert (found.most_input, found.most_output) == (1644, 300)
    assert found.most_pico == 1644 * 400_000 + 300 * 1_600_000
    open_ended = forecast(LOAD, [], None, PRICE)
    assert open_ended.output is None
    assert open_ended.pico is None
    assert open_ended.most_pico is None
    assert forecast(LOAD, [], 100, None).pico is None


def test_the_worst_case_counts_each_request_at_its_own_tier() -> None:
    assert worst_case(LOAD.bounds, 10, TIERED) == (
        (448 + 548) * 10 + 2 * 10 * 20 + 648 * 30 + 10 * 40 + 3 * 7
    )
    assert worst_case(LOAD.bounds, None, FREE) == 0
    assert worst_case([], None, PRICE) == 0
    assert worst_case(LOAD.bounds, None, PRICE) is None
    assert worst_case(LOAD.bounds, 10, None) is None


def test_with_answers_the_forecast_rests_on_their_lengths() -> None:
    found = forecast(LOAD, known(4, lambda i: Usage(100 + i, 50)), 400, PRICE)
    assert found.answers == 4
    assert found.output == Estimate(150, 150, 150)
    assert found.input is not None
    assert found.input.low is not None
    assert found.input.high is not None
    assert found.input.low < found.input.expected == round(3 * 101.5) < found.input.high
    assert found.pico is not None
    assert found.pico.expected == 3 * 1015 * 40_000 + 150 * 1_600_000


def test_length_predicts_the_cost_once_there_are_enough_answers() -> None:
    on_the_line = known(MIN_FOR_SLOPE, lambda i: Usage((400 + i) * 2, 50))
    found = forecast(LOAD, on_the_line, 400, PRICE)
    assert found.input == Estimate(1644, 1644, 1644)  # 3,000 by the line, but never above the worst
    shorter = known(MIN_FOR_SLOPE, lambda i: Usage(400 + i, 50))
    assert forecast(LOAD, shorter, 400, PRICE).input == Estimate(1500, 1500, 1500)


def test_one_answer_has_no_interval() -> None:
    found = forecast(LOAD, known(1, lambda i: Usage(100, 50)), 400, PRICE)
    assert found.input == Estimate(300)
    assert found.pico == Estimate(300 * 400_000 + 150 * 1_600_000)


def test_answers_without_usage_cost_their_worst_case() -> None:
    silent = known(4, lambda i: Usage())
    found = forecast(LOAD, silent, 400, PRICE)
    assert found.unmeasured == 4
    assert found.input == Estimate(375)
    assert found.pico is not None
    worst = sum(PRICE.worst(one.bound, 400) for one in silent)
    assert found.pico.expected == pytest.approx(worst * 3 / 4)
    assert forecast(LOAD, silent, None, PRICE).pico is None
    half = known(4, lambda i: Usage(100, 50) if i % 2 else Usage())
    mixed = forecast(LOAD, half, 400, PRICE).pico
    assert mixed is not None
    assert mixed.high == found.most_pico  # so different answers leave everything open


def test_no_requests_cost_nothing() -> None:
    for price in (PRICE, FREE):
        found = forecast(Workload([], []), known(2, lambda i: Usage(5, 5)), None, price)
        assert (found.requests, found.most_pico, found.most_output) == (0, 0, 0)
        assert found.pico == found.input == found.output == Estimate(0, 0, 0)
    assert forecast(Workload([], []), [], 5, None).pico is None


def test_a_free_model_costs_nothing_even_without_a_limit() -> None:
    found = forecast(LOAD, [], None, FREE)
    assert found.pico == Estimate(0, 0, 0)
    assert found.most_pico == 0


def test_half_the_price_is_half_the_forecast() -> None:
    answers = known(30, lambda i: Usage(100 + 2 * (i % 7), 50 + 10 * (i % 3)))
    whole, half = (forecast(LOAD, answers, 400, p).pico for p in (PRICE, PRICE.batch()))
    assert whole is not None
    assert half is not None
    assert half.expected == pytest.approx(whole.expected / 2)
    assert (half.high or 0) - (half.low or 0) == pytest.approx(
        ((whole.high or 0) - (whole.low or 0)) / 2, rel=1e-6
    )


def test_sums_add_squared_distances() -> None:
    parts = [Amount(10, 7, 14, 20), Amount(100, 96, 103, None)]
    assert sum_of(parts) == Amount(110, 105, 115, None)
    assert sum_of([*parts, Amount(1, None, None, 2)]) == Amount(111, None, None, None)
    assert sum_of([parts[0], Amount(None, None, None, 5)]) == Amount(None, None, None, 25)
    assert sum_of([]) == NOTHING
    assert amount_of(Estimate(5, 3, 8), 10, 10) == Amount(0.5, 0.3, 0.8, 1)
    assert amount_of(None, None) == Amount(None, None, None, None)


@given(
    st.lists(st.integers(0, 5000), max_size=6),
    st.lists(
        st.tuples(
            st.integers(0, 5000),
            st.none() | st.integers(-1, 6000),
            st.none() | st.integers(-1, 500),
        ),
        max_size=14,
    ),
    st.none() | st.integers(1, 500),
    st.sampled_from([PRICE, TIERED, FREE, None]),
)
def test_forecasts_are_ordered_and_below_the_worst_case(
    sizes: list[int],
    answers: list[tuple[int, int | None, int | None]],
    max_tokens: int | None,
    price: Price | None,
) -> None:
    load = Workload(sizes, [size + 48 for size in sizes])
    seen = [KnownAnswer(size, size + 48, Usage(p, c)) for size, p, c in answers]
    found = forecast(load, seen, max_tokens, price)
    for estimate, most in (
        (found.input, found.most_input),
        (found.output, found.most_output),
        (found.pico, found.most_pico),
    ):
        if estimate is not None:
            low = 0 if estimate.low is None else estimate.low
            high = estimate.expected if estimate.high is None else estimate.high
            assert 0 <= low <= estimate.expected <= high
            assert most is None or high <= most
    assert found.requests == len(sizes)
    assert (found.pico is None) >= (price is None)
