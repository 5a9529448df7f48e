"""What it takes to detect a difference of a given size: seeds, rows, trainings and hours.

`tutelage plan --detect 2.3` prints it. The power is that of the primary test, as in
`planning.power_analysis`, whose design it starts from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tutelage.evaluation.power import (
    MOST_SEEDS,
    Design,
    detectable_difference,
    expected_variance,
    seeds_needed,
)

ROWS_TIMES = (2, 4, 8, 16, 32)
"""How many times the test rows are tried, where no number of seeds is enough on those there are."""
FEASIBLE_SEEDS = 50
"""Where possible, more rows are named rather than more seeds than this."""


@dataclass(frozen=True, slots=True)
class Needed:
    """What detects the difference where seeds vary so much; None where nothing of the kind does.

    seed_sd:    SD of an arm's accuracy (or other metric) over seeds, a fraction
    limit:      what the recipe's own test rows detect with any number of seeds, where that is more
                than the difference; a fraction. None where the recipe's rows are enough
    rows:       test rows: the recipe's own, or a multiple of them, in groups of the same sizes
    seeds:      the smallest number of seeds of each arm on these rows
    trainings, hours: of all arms with so many seeds; hours None where no run has shown how long a
                training takes
    """

    seed_sd: float
    limit: float | None
    rows: int | None
    seeds: int | None
    trainings: int | None
    hours: float | None


@dataclass(frozen=True, slots=True)
class Detection:
    """What it takes to detect `difference` (a fraction) with probability `power` at level `alpha`.

    needed: one entry for each seed SD that is assumed or possible, the smallest first
    """

    difference: float
    alpha: float
    power: float
    rows: int
    needed: tuple[Needed, ...]

    def sentences(self) -> Iterator[str]:
        """Yield the answer as text, line by line."""
        yield (
            f"to detect a true difference of {100 * self.difference:g} points four times in five "
            "(5% level, Holm's strictest step):"
        )
        for each in self.needed:
            sd = f"{100 * each.seed_sd:.1f} points"
            yield f"  where the SD over seeds is {sd}: {self._what(each)}"

    def _what(self, each: Needed) -> str:
        own = f"these {self.rows:,} test rows"
        if each.rows is None:
            return f"nothing that was tried, up to {ROWS_TIMES[-1]} times {own}"
        rows = own if each.rows == self.rows else f"{each.rows:,} test rows"
        hours = "" if each.hours is None else f", about {each.hours:,.1f} hours one by one"
        enough = f"{each.seeds:,} seeds of each arm on {rows}: {each.trainings:,} trainings{hours}"
        if each.limit is None:
            return enough
        return (
            f"no number of seeds can do it on {own}, which detect {100 * each.limit:.1f} points at "
            f"best; it takes {enough}"
        )


def what_it_takes(
    design: Design,
    seed_sds: Sequence[float],
    difference: float,
    alpha: float,
    power: float,
    trainings_of_a_seed: int,
    hours_of_a_seed: float | None,
) -> Detection:
    """Search the numbers of seeds, and of rows, that detect `difference`.

    seed_sds: fractions; an answer for each
    trainings_of_a_seed, hours_of_a_seed: of all arms, for one more seed of each
    """
    return Detection(
        difference,
        alpha,
        power,
        sum(design.group_sizes),
        tuple(
            _needed(
                replace(design, seed_sd=seed_sd),
                difference,
                alpha,
                power,
                trainings_of_a_seed,
                hours_of_a_seed,
            )
            for seed_sd in sorted(seed_sds)
        ),
    )


def _needed(
    design: Design,
    difference: float,
    alpha: float,
    power: float,
    trainings_of_a_seed: int,
    hours_of_a_seed: float | None,
) -> Needed:
    seeds = seeds_needed(design, difference, alpha, power)
    limit, sizes = None, tuple(design.group_sizes)
    rows: int | None = sum(sizes)
    if seeds is None:
        most = expected_variance(replace(design, seeds=MOST_SEEDS))
        limit = detectable_difference(most, alpha, power)
        rows = None
        for times in ROWS_TIMES:
            more = replace(design, group_sizes=sizes * times)
            found = seeds_needed(more, difference, alpha, power)
            if found is not None and (seeds is None or seeds > FEASIBLE_SEEDS):
                seeds, rows = found, sum(sizes) * times
    return Needed(
        seed_sd=design.seed_sd,
        limit=limit,
        rows=rows,
        seeds=seeds,
        trainings=None if seeds is None else seeds * trainings_of_a_seed,
        hours=None if seeds is None or hours_of_a_seed is None else seeds * hours_of_a_seed,
    )
