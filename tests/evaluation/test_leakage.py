"""What rationales are worth without what they give away."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.leakage import rationale_worth


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


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="same rows"):
        rationale_worth(np.ones((3, 1)), np.ones((2, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="0 and 1"):
        rationale_worth(np.full((3, 1), 0.5), np.ones((3, 1)), np.ones((3, 1)))
