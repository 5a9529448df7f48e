"""How well rationales predict the label, without what they give away."""

from __future__ import annotations

import numpy as np
import pytest

from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.leakage import label_predictability


def tables(*chances: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.random((400, 3)) < chance).astype(float) for chance in chances]


def test_a_rationale_that_only_names_its_label_gains_nothing() -> None:
    full, masked, nothing = tables(0.98, 0.34, 0.34)
    groups = [i // 2 for i in range(400)]
    found = label_predictability(full, masked, nothing, groups)
    assert found.leakage.estimate == pytest.approx(0.64, abs=0.05) and found.leakage.p_value < 0.001
    assert found.gain.ci_low < 0 < found.gain.ci_high
    assert found.leakage == crossed_random_effects(full - masked, groups)
    assert found.as_written.ci_high <= 1


def test_a_rationale_with_content_keeps_its_gain_when_masked() -> None:
    found = label_predictability(*tables(0.8, 0.78, 0.34))
    assert found.gain.ci_low > 0.3
    assert found.gain.estimate + found.leakage.estimate == pytest.approx(
        found.as_written.estimate - found.majority.estimate
    )


def test_tables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="same rows"):
        label_predictability(np.ones((3, 1)), np.ones((2, 1)), np.ones((3, 1)))
    with pytest.raises(ValueError, match="0 or 1"):
        label_predictability(np.full((3, 1), 0.5), np.ones((3, 1)), np.ones((3, 1)))
