"""Sentences about what limits an answer: convergence, unlike seeds, exaggeration, ceilings."""

from __future__ import annotations

import math
from collections.abc import Iterator

from tutelage.core.results import ArmResult, ComparisonResult, Results
from tutelage.core.wording import joined, percent, plural, points, several
from tutelage.evaluation.caveats import UnlikeSeeds, exaggeration, unlike_seeds
from tutelage.report.findings import SIGNIFICANCE_LEVEL, gains, is_significant

_WORTH_SAYING = 1.1
"""An exaggeration below this factor is not mentioned."""


def doubts(results: Results) -> list[str]:
    """The sentences that apply to these results."""
    return [
        *_not_converged(results),
        *_unlike(results),
        *_nothing_left(results),
        *_exaggerated(results),
        *_chosen_among(results),
    ]


def _not_converged(results: Results) -> Iterator[str]:
    """Where half of the trainings of an arm, or more, were best at their last evaluation."""
    names, late, trained = [], 0, 0
    for arm in results.arms:
        of_arm, trainings = _best_at_the_end(arm)
        if trainings and 2 * of_arm >= trainings:
            names.append(arm.name)
            late, trained = late + of_arm, trained + trainings
    if names:
        of = f"{late} of {several(trained, 'training')} of {joined(names)}"
        seen = (
            f"{of} were best at their last evaluation: they had not converged"
            if late > 1
            else f"{of} was best at its last evaluation: it had not converged"
        )
        yield (
            f"{seen}, so the arms are compared after equally many steps, and longer training may "
            "change the differences."
        )


def _best_at_the_end(arm: ArmResult) -> tuple[int, int]:
    """Trainings that were best at their last evaluation, and all that ended as planned."""
    t = arm.training
    ended = [
        (best, steps)
        for best, steps, diverged in zip(
            t.best_step_by_seed, t.steps_by_seed, t.diverged_at_by_seed, strict=True
        )
        if best and diverged is None
    ]
    return sum(best == steps for best, steps in ended), len(ended)


def _unlike(results: Results) -> Iterator[str]:
    known = {arm.name for arm in results.arms}
    primary = [c for c in results.comparisons if c.primary and {c.arm, c.baseline} <= known]
    compared = {name: None for c in primary for name in (c.arm, c.baseline)}
    accuracies = {name: results.arm(name).test.accuracy_by_seed for name in compared}
    metrics = plural(results.metric_name)
    for found in unlike_seeds(accuracies, {c.arm for c in primary}):
        if found.kind == "collapsed":
            yield _collapsed(results.arm(found.arms[0]), found)
        else:
            others = [name for name in compared if name not in found.arms]
            names = (joined(found.arms), joined(others) if len(others) == 1 else "the other arms")
            wide, narrow = names if found.ratio >= 1 else reversed(names)
            ratio = max(found.ratio, 1 / found.ratio if found.ratio else math.inf)
            times = "far more than" if ratio > 99 else f"{ratio:.1f} times as much as"
            yield (
                f"The {metrics} of the seeds of {wide} differ {times} those of {narrow}: no "
                "t-test is exact for seeds so unlike, and a difference that does not exist is "
                "found more often than the p-value says."
            )


def _collapsed(arm: ArmResult, found: UnlikeSeeds) -> str:
    assert found.place is not None
    accuracies = arm.test.accuracy_by_seed
    rest = [a for place, a in enumerate(accuracies) if place != found.place]
    seed, lowest = arm.seeds[found.place], percent(accuracies[found.place])
    return (
        f"With seed {seed} {arm.name} reached {lowest}, far below its other seeds "
        f"({percent(min(rest))} to {percent(max(rest))}): where single seeds collapse no t-test is "
        "exact, and a difference that does not exist is found more often than the p-value says."
    )


def _nothing_left(results: Results) -> Iterator[str]:
    shown = [arm for arm in results.arms if not arm.is_control and arm.sees_everything]
    if len(shown) > 1 and all(arm.test.accuracy >= 0.9995 for arm in shown):
        yield (
            "All arms are right on every test row: nothing was left to gain, so these rows cannot "
            "show whether explanations help."
        )


def _exaggerated(results: Results) -> Iterator[str]:
    for c in gains(results):
        if not is_significant(c) or c.standard_error is None:
            continue
        factor = exaggeration(c.difference, c.standard_error, _critical(c))
        if factor >= _WORTH_SAYING:
            yield (
                f"Significant differences of this size are too large on average: if "
                f"{points(c.difference)} points were the true difference between {c.arm} and "
                f"{c.baseline}, experiments like this one that find it significant would report "
                f"{points(factor * c.difference)} points on average."
            )


def _critical(comparison: ComparisonResult) -> float:
    """Standard errors from zero beyond which the comparison is significant whatever the others."""
    from scipy.special import ndtri, stdtrit

    level = 1 - SIGNIFICANCE_LEVEL / comparison.family / 2
    freedom = comparison.degrees_of_freedom
    return float(ndtri(level) if freedom is None else stdtrit(freedom, level))


def _chosen_among(results: Results) -> Iterator[str]:
    compared = gains(results)
    if len(compared) > 1 and any(is_significant(c) and c.difference > 0 for c in compared):
        best = max(compared, key=lambda c: c.difference)
        yield (
            f"Which of the {len(compared)} treatment arms is best was itself chosen by these "
            f"results: the difference of {best.arm} is too large on average."
        )
