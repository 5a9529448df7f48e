"""The share of a gain: Fieller's interval by its closed form, in coverage, and refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.evaluation.share import share_of_gain


def tables(rng: np.random.Generator, means: tuple[float, ...], seeds: int) -> list[np.ndarray]:
    """Tables whose rows agree: only the seeds vary, so that formulas for means apply."""
    return [np.tile(mean + rng.normal(0, 0.01, seeds), (50, 1)) for mean in means]


def test_with_many_seeds_it_is_fiellers_closed_form() -> None:
    rng = np.random.default_rng(1)
    taught, scrambled, labels = tables(rng, (0.70, 0.66, 0.60), 4000)
    found = share_of_gain(taught, scrambled, labels)
    assert found is not None
    a, b = scrambled.mean() - labels.mean(), taught.mean() - labels.mean()
    v = [float(t[0].var(ddof=1)) / 4000 for t in (scrambled, taught, labels)]
    # The quantile of 50 rows, known less well than 4,000 seeds: no interval is narrower.
    z = stats.t.ppf(0.975, 49)
    # (a - q b)² = z² (v_a - 2 q cov + q² v_b)
    roots = np.roots(
        [b * b - z * z * (v[1] + v[2]), -2 * (a * b - z * z * v[2]), a * a - z * z * (v[0] + v[2])]
    )
    assert found.share == pytest.approx(a / b)
    assert found.ci95 == pytest.approx(tuple(sorted(roots)), abs=2e-5)


def test_its_ends_are_the_ratios_that_the_primary_test_just_rejects() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(0, 0.5, (200, 1))
    taught, scrambled, labels = (
        ((shared + rng.normal(0, 1, (200, 5))) < cut).astype(float) for cut in (1.2, 0.9, 0.2)
    )
    groups = [i // 4 for i in range(200)]
    found = share_of_gain(taught, scrambled, labels, groups)
    assert found is not None and found.ci95[0] < found.share < found.ci95[1]
    # At a ratio of zero the combination is control minus baseline, at one treatment's negative.
    zero = crossed_random_effects(scrambled, groups, baseline=labels)
    assert (found.ci95[0] > 0) == (zero.p_value < 0.05)
    one = crossed_random_effects(scrambled, groups, baseline=taught)
    assert (found.ci95[1] < 1) == (one.p_value < 0.05)


def test_a_control_that_equals_the_treatment_keeps_all_and_one_that_equals_labels_none() -> None:
    rng = np.random.default_rng(3)
    taught, scrambled, labels = tables(rng, (0.7, 0.7, 0.6), 5)
    all_of_it = share_of_gain(taught, scrambled, labels)
    assert all_of_it is not None and all_of_it.ci95[0] < 1 < all_of_it.ci95[1]
    none_of_it = share_of_gain(taught, labels + rng.normal(0, 0.005, 5), labels)
    assert none_of_it is not None and none_of_it.ci95[0] < 0 < none_of_it.ci95[1]


def test_without_a_gain_there_is_no_share() -> None:
    rng = np.random.default_rng(4)
    taught, scrambled, labels = tables(rng, (0.6, 0.62, 0.6), 5)
    assert share_of_gain(labels, scrambled, labels) is None
    same = np.ones((50, 5))
    assert share_of_gain(same, same, same) is None
    with pytest.raises(ValueError, match="rows, expected the same"):
        share_of_gain(taught, scrambled[:20], labels)


def test_it_covers_the_true_share() -> None:
    rng = np.random.default_rng(5)
    covered, stated, total = 0, 0, 400
    for _ in range(total):
        shared = rng.normal(0, 1, (300, 1))
        made = [
            ((shared + rng.normal(0, 1, (300, 4)) + rng.normal(0, 0.1, 4)) < cut).astype(float)
            for cut in (1.0, 0.5, 0.0)
        ]
        found = share_of_gain(*made)
        truth = (stats.norm.cdf(0.5 / 2.01**0.5) - 0.5) / (stats.norm.cdf(1 / 2.01**0.5) - 0.5)
        stated += found is not None
        covered += found is not None and found.ci95[0] <= truth <= found.ci95[1]
    assert stated > 390
    assert covered / stated > 0.925  # 400 draws at a true 95% are lower once in 80
