"""What rationales are worth without what they give away."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.evaluation.bootstrap import bootstrap
from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.leakage import rationale_worth, simulatability, simulatability_of


def tables(*chances: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.random((400, 3)) < chance).astype(float) for chance in chances]


def test_a_rationale_that_only_names_its_label_is_worth_nothing() -> None:
    full, masked, nothing = tables(0.98, 0.34, 0.34)
    groups = [i // 2 for i in range(400)]
    worth = rationale_worth(full, masked, nothing, groups)
    assert worth.leaked.estimate == pytest.approx(0.64, abs=0.05) and worth.leaked.p_value < 0.001
    assert worth.worth.ci_low < 0 < worth.worth.ci_high
    assert worth.leaked == crossed_random_effects(full - masked, groups)
    assert worth.as_written.ci_high <= 1


def test_a_rationale_with_content_keeps_its_worth_when_masked() -> None:
    worth = rationale_worth(*tables(0.8, 0.78, 0.34))
    assert worth.worth.ci_low > 0.3
    assert worth.worth.estimate + worth.leaked.estimate == pytest.approx(
        worth.as_written.estimate - worth.without.estimate
    )


def test_simulatability_by_hand() -> None:
    # Answers 1 to 4; the rationale alone gives the label in the first two.
    with_it, alone = np.array([[1], [1], [1], [0]]), np.array([[0], [1], [0], [1]])
    found = simulatability(with_it, alone, np.array([[1], [1], [0], [0]]))
    assert (found.raw, found.leaking, found.sound) == (1 / 4, 1 / 2, 0)
    assert (found.adjusted, found.leaking_share) == (1 / 4, 1 / 2)
    one_sided = simulatability(with_it, alone, np.ones((4, 1)))
    assert (one_sided.leaking, one_sided.sound, one_sided.adjusted) == (1 / 4, None, None)


def test_leaks_cannot_carry_the_mean_by_their_number() -> None:
    rng = np.random.default_rng(1)
    leaks = rng.random((500, 2)) < 0.9
    alone = (rng.random((500, 2)) < 0.4).astype(float)
    with_it = np.where(leaks, 1.0, alone)
    found = simulatability(with_it, alone, leaks)
    assert found.raw > 0.5 and found.sound == 0
    assert found.adjusted == pytest.approx((found.leaking or 0) / 2)


def test_its_interval_is_by_bootstrap() -> None:
    with_it, alone, leaks = tables(0.7, 0.5, 0.5)
    drawn = bootstrap(simulatability_of(with_it, alone, leaks), 400, 3, resamples=300)
    assert drawn.estimate == pytest.approx(simulatability(with_it, alone, leaks).adjusted)
    assert 0.05 < drawn.ci_low < drawn.estimate < drawn.ci_high < 0.25


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="same rows"):
        rationale_worth(np.ones((3, 1)), np.ones((2, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="same rows"):
        simulatability(np.ones((3, 1)), np.ones((2, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="0 and 1"):
        rationale_worth(np.full((3, 1), 0.5), np.ones((3, 1)), np.ones((3, 1)))
