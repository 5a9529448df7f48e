"""What limits an answer is said where it applies, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from small_results import arm, comparison, results

from tutelage.core.results import ArmResult, ComparisonResult
from tutelage.report.answer import answer_sentences
from tutelage.report.doubts import doubts

REASONS = "informed_reasoning"


def _arm(
    name: str,
    by_seed: Sequence[float],
    *,
    best: Sequence[int] = (),
    strategy: str | None = None,
) -> ArmResult:
    """best: the best step of each seed, of 10"""
    seeds = tuple(range(len(by_seed)))
    made = arm(name, strategy, seeds=seeds, accuracy=sum(by_seed) / len(by_seed))
    training = replace(
        made.training,
        steps_by_seed=tuple(10 for _ in seeds),
        best_step_by_seed=tuple(best) or tuple(6 for _ in seeds),
    )
    test = replace(made.test, accuracy_by_seed=tuple(by_seed))
    return replace(made, training=training, test=test)


ALIKE = (0.70, 0.71, 0.69, 0.705, 0.70)
OTHER = (0.72, 0.73, 0.71, 0.74, 0.72)


def _said(arms: Sequence[ArmResult], comparisons: Sequence[ComparisonResult] = ()) -> list[str]:
    return doubts(results(arms=tuple(arms), comparisons=tuple(comparisons)))


LABELS, TREATED = _arm("labels", ALIKE), _arm("reasons", OTHER, strategy=REASONS)


def test_nothing_is_said_of_an_ordinary_run() -> None:
    clear = comparison("reasons", "labels", 0.1, p=0.001, standard_error=0.01)
    assert _said([LABELS, TREATED], [clear]) == []
    assert _said([LABELS, TREATED], [comparison("reasons", "labels", 0.02, p=0.3)]) == []
    assert _said([]) == []


def test_trainings_that_had_not_converged_are_counted() -> None:
    late = _arm("reasons", OTHER, best=(10, 10, 10, 4, 10), strategy=REASONS)
    (sentence,) = _said([LABELS, late])
    assert sentence.startswith("4 of 5 trainings of reasons were best at their last evaluation")
    (sentence,) = _said([_arm("labels", ALIKE, best=(10,) * 5), late])
    assert sentence.startswith("9 of 10 trainings of labels and reasons were best")
    (sentence,) = _said([_arm("labels", (0.7,), best=(10,))])
    assert sentence.startswith("1 of 1 training of labels was best at its last evaluation: it had ")
    assert _said([LABELS, _arm("reasons", OTHER, best=(10, 10, 4, 4, 4))]) == []
    # One that diverged was stopped, and says nothing about convergence.
    training = replace(late.training, diverged_at_by_seed=(11, 11, 11, None, None))
    (sentence,) = _said([LABELS, replace(late, training=training)])
    assert sentence.startswith("1 of 2 trainings of reasons")


def test_a_seed_that_collapsed_is_named() -> None:
    fallen = _arm("reasons", (0.71, 0.72, 0.34, 0.7, 0.71), strategy=REASONS)
    found = _said([LABELS, fallen], [comparison("reasons", "labels", -0.06)])
    (sentence,) = found
    assert sentence.startswith(
        "With seed 2 reasons reached 34.0%, far below its other seeds (70.0% to 72.0%)"
    )
    both = [
        comparison("reasons", "labels", -0.06),
        comparison("reasons", "reasons-shuffled", -0.06),
    ]
    assert _said([LABELS, fallen, replace(LABELS, name="reasons-shuffled")], both) == found


def test_seeds_of_one_arm_that_differ_far_more_are_named() -> None:
    spread = _arm("reasons", (0.55, 0.85, 0.62, 0.78, 0.7), strategy=REASONS)
    (sentence,) = _said([LABELS, spread], [comparison("reasons", "labels", 0.0)])
    assert sentence.startswith("The accuracies of the seeds of reasons differ 16.")
    assert "times as much as those of labels" in sentence
    same = _arm("labels", (0.7,) * 5)
    (sentence,) = _said([same, spread], [comparison("reasons", "labels", 0.0)])
    assert "differ far more than those of labels" in sentence


def test_a_ceiling_is_said() -> None:
    full = [_arm("labels", (1.0,) * 5), _arm("reasons", (1.0,) * 5, strategy=REASONS)]
    (sentence,) = _said(full, [comparison("reasons", "labels", 0.0)])
    assert "nothing was left to gain" in sentence
    assert _said([full[0], TREATED]) == []


def test_a_significant_difference_that_is_barely_so_is_called_too_large() -> None:
    barely = comparison(
        "reasons", "labels", 0.023, p=0.04, standard_error=0.01, degrees_of_freedom=8.0
    )
    (sentence,) = _said([LABELS, TREATED], [barely])
    assert "if +2.3 points were the true difference between reasons and labels" in sentence
    # The mean of |N(2.3, 1)| beyond 2.306, by simulation: 3.11.
    assert sentence.endswith("would report +3.1 points on average.")
    assert _said([LABELS, TREATED], [replace(barely, p_adjusted=0.06)]) == []


def test_the_best_of_several_arms_was_chosen() -> None:
    more = replace(TREATED, name="others")
    strong = {"p": 0.001, "standard_error": 0.005}
    compared = [
        comparison("reasons", "labels", 0.05, **strong),
        comparison("others", "labels", 0.08, **strong),
    ]
    (sentence,) = _said([LABELS, TREATED, more], compared)
    assert "Which of the 2 treatment arms is best was itself chosen" in sentence
    assert "the difference of others is too large" in sentence
    none = [replace(c, p_adjusted=0.2) for c in compared]
    assert _said([LABELS, TREATED, more], none) == []


@pytest.mark.parametrize("seeds", [1, 2])
def test_with_one_or_two_seeds_nothing_is_said_of_their_spread(seeds: int) -> None:
    arms = [_arm("labels", ALIKE[:seeds]), _arm("reasons", (0.2, 0.9)[:seeds], strategy=REASONS)]
    assert _said(arms, [comparison("reasons", "labels", 0.0)]) == []


def test_the_answer_has_them() -> None:
    late = _arm("reasons", OTHER, best=(10,) * 5, strategy=REASONS)
    found = results(
        arms=(LABELS, late), comparisons=(comparison("reasons", "labels", 0.02, p=0.3),)
    )
    assert set(doubts(found)) < set(answer_sentences(found))
