"""What it takes to detect a difference: checked against the power, and said in sentences."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tutelage.evaluation.power import (
    Design,
    detectable_difference,
    expected_variance,
    power_of,
    seeds_needed,
)
from tutelage.planning.detection import what_it_takes

DESIGN = Design((1, 2, 3) * 200, 5, disagreement=0.2, seed_sd=0.01)


@pytest.mark.parametrize("difference", [0.04, 0.06, 0.12])
def test_one_seed_less_is_not_enough(difference: float) -> None:
    seeds = seeds_needed(DESIGN, difference, 0.0125)
    assert seeds is not None and seeds >= 2

    def power(count: int) -> float:
        parts = expected_variance(replace(DESIGN, seeds=count))
        return power_of(parts, difference, 0.0125)

    assert power(seeds) >= 0.799
    assert seeds == 2 or power(seeds - 1) < 0.8


def test_what_the_rows_leave_to_chance_no_number_of_seeds_takes_away() -> None:
    limit = detectable_difference(expected_variance(replace(DESIGN, seeds=1000)), 0.0125)
    assert limit is not None
    assert seeds_needed(DESIGN, 0.98 * limit, 0.0125) is None
    assert seeds_needed(DESIGN, 1.1 * limit, 0.0125) is not None


def test_the_sentences_for_rows_that_are_enough_and_rows_that_are_not() -> None:
    found = what_it_takes(DESIGN, (0.03, 0.01), 0.06, 0.0125, 0.8, 20, 0.5)
    little, much = found.needed
    assert (little.seed_sd, much.seed_sd) == (0.01, 0.03)
    assert little.seeds is not None and much.seeds is not None and little.seeds < much.seeds
    assert little.trainings == 20 * little.seeds and little.limit is None
    first, *others = found.sentences()
    assert first.startswith("to detect a true difference of 6 points four times in five")
    assert (
        f"where the SD over seeds is 1.0 points: {little.seeds} seeds of each arm on these 1,200 "
        f"test rows: {little.trainings} trainings, about {little.seeds / 2:.1f} hours one by one"
    ) in others[0]


def test_more_rows_are_named_where_no_number_of_seeds_does_it() -> None:
    found = what_it_takes(DESIGN, (0.01,), 0.02, 0.0125, 0.8, 20, None)
    [needed] = found.needed
    assert needed.rows is not None and needed.rows > 1200 and needed.rows % 1200 == 0
    assert needed.limit is not None and needed.limit > 0.02
    more = replace(DESIGN, group_sizes=tuple(DESIGN.group_sizes) * (needed.rows // 1200))
    assert seeds_needed(more, 0.02, 0.0125) == needed.seeds
    [_, line] = found.sentences()
    assert "no number of seeds can do it on these 1,200 test rows, which detect " in line
    assert f"it takes {needed.seeds} seeds of each arm on {needed.rows:,} test rows" in line


def test_a_difference_that_nothing_detects() -> None:
    found = what_it_takes(DESIGN, (0.05,), 0.0005, 0.0125, 0.8, 20, None)
    assert found.needed[0].rows is None
    assert (
        "nothing that was tried, up to 32 times these 1,200 test rows" in list(found.sentences())[1]
    )
