"""Which configurations a replicate tries, and which one it chooses."""

from collections import Counter
from itertools import combinations

import pytest

from tutelage.config.training_settings import Config
from tutelage.experiment.search import choose_trial, draw_trials

GRID = [Config(rate, weight) for rate in (1e-3, 2e-3, 4e-3) for weight in (0.25, 0.5, 0.75)]


def test_a_draw_is_without_replacement_in_the_grids_order_and_repeatable() -> None:
    for seed in range(50):
        drawn = draw_trials(GRID, 3, seed, "labels")
        assert len(set(drawn)) == 3
        assert drawn == [config for config in GRID if config in drawn]
        assert drawn == draw_trials(GRID, 3, seed, "labels")


@pytest.mark.parametrize("trials", [9, 10, 100])
def test_the_whole_grid_is_tried_where_the_trials_cover_it(trials: int) -> None:
    assert draw_trials(GRID, trials, 4, "labels") == GRID


def test_every_set_of_configurations_is_drawn_about_equally_often() -> None:
    draws = 8400  # 84 sets of 3 of 9: 100 each on average, with a standard deviation of 10
    counts = Counter(frozenset(draw_trials(GRID, 3, seed, "arm")) for seed in range(draws))
    expected = draws / 84
    assert set(counts) == {frozenset(each) for each in combinations(GRID, 3)}
    statistic = sum((count - expected) ** 2 / expected for count in counts.values())
    assert 45 < statistic < 135  # chi-squared with 83 degrees of freedom: 83 ± 4 · 13


def test_arms_draw_independently() -> None:
    """Two of three configurations: equal sets in a third of the replicates."""
    grid, replicates = GRID[:3], 3000
    same = sum(
        draw_trials(grid, 2, seed, "one") == draw_trials(grid, 2, seed, "other")
        for seed in range(replicates)
    )
    assert abs(same / replicates - 1 / 3) < 4 * (2 / 9 / replicates) ** 0.5


def test_at_least_one_configuration_is_tried() -> None:
    with pytest.raises(ValueError, match="got 0 trials, expected at least 1"):
        draw_trials(GRID, 0, 0, "labels")


def test_dev_chooses_the_best_and_the_earliest_of_equals() -> None:
    one, two, three = GRID[:3]
    assert choose_trial([(one, 0.3), (two, 0.5), (three, 0.4)]) == two
    assert choose_trial([(one, 0.5), (two, 0.5), (three, 0.4)]) == one


def test_a_trial_that_diverged_is_never_chosen() -> None:
    one, two, three = GRID[:3]
    assert choose_trial([(one, None), (two, 0.0), (three, None)]) == two
    assert choose_trial([(one, None), (two, None)]) is None
    assert choose_trial([]) is None
