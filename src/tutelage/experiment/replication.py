"""What was replicated, which trainings diverged, and which one model to use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tutelage.config.recipe import Recipe
from tutelage.core.main_metric import metric_in_words
from tutelage.core.results import (
    ArmResult,
    ComparisonResult,
    OtherAnswer,
    RecommendedModel,
    SearchSummary,
)
from tutelage.experiment.trainings import Replicate, Trial
from tutelage.report.findings import is_significant


def describe_search(recipe: Recipe) -> SearchSummary:
    """`Results.search`."""
    drawn = recipe.trials
    search: tuple[str, ...] = ()
    if drawn:
        whole = drawn == recipe.configurations
        search = (
            f"the search: each seed tries {'all' if whole else drawn} of "
            f"{recipe.configurations} configurations{'' if whole else ', drawn at random'}, "
            f"chooses by dev {metric_in_words(recipe.metric)}, and trains its choice afresh",
        )
    new = recipe.student.model.startswith("scratch:")
    classifiers = any(arm.classifier for arm in recipe.arms)
    return SearchSummary(
        configurations=recipe.configurations,
        trials=drawn,
        replicated=(
            *search,
            f"the training: {'the new weights, ' if new else ''}the order of rows, dropout",
        ),
        held_fixed=(
            "the training rows and the dev rows",
            *(
                ["the teacher's sample: each request was answered once"]
                if any(arm.asks_teacher for arm in recipe.arms)
                else []
            ),
            *(
                ["the shuffle: each row of a shuffled control got one other row's rationale"]
                if any(arm.control in ("shuffled", "shuffled_within_label") for arm in recipe.arms)
                else []
            ),
            *([] if new and not classifiers else ["the pretrained weights"]),
        ),
    )


def diverged_trials(trials: Mapping[str, Sequence[Trial]]) -> Iterator[str]:
    """A line for each trial that diverged."""
    for arm, of_arm in trials.items():
        for trial in of_arm:
            if trial.result.diverged_at is not None:
                yield (
                    f"{arm}, seed {trial.seed}: the trial with learning rate "
                    f"{trial.config.learning_rate:g} and label weight {trial.config.label_weight:g}"
                    f" diverged at step {trial.result.diverged_at}; it is not chosen"
                )


def diverged_replicates(replicates: Mapping[str, Mapping[int, Replicate]]) -> Iterator[str]:
    """A line for each replicate whose training, or every trial, diverged."""
    for arm, by_seed in replicates.items():
        for seed, replicate in by_seed.items():
            if replicate.config is None or replicate.result is None:
                yield (
                    f"{arm}, seed {seed}: every trial diverged; the most frequent label answers in "
                    "place of a student"
                )
            elif replicate.result.diverged_at is not None:
                config, result = replicate.config, replicate.result
                answers = (
                    f"its best checkpoint, of step {result.best_step}, is tested"
                    if result.has_checkpoint
                    else "the most frequent label answers in place of a student"
                )
                yield (
                    f"{arm}, seed {seed}: the training with learning rate "
                    f"{config.learning_rate:g} and label weight {config.label_weight:g} diverged "
                    f"at step {result.diverged_at}; {answers}"
                )


def other_openings(others: Sequence[OtherAnswer]) -> Iterator[str]:
    """A line where the test set was opened before: for another choice, or with other seeds."""
    choices = sum(each.change == "choice" for each in others)
    if choices:
        yield f"it has now been opened {choices + 1} times, each time for another choice"
    if any(each.change == "seeds added" for each in others):
        yield "seeds are added to an earlier answer, outside of a plan: the report says so"


def recommended_model(
    arms: Sequence[ArmResult], comparisons: Sequence[ComparisonResult]
) -> RecommendedModel | None:
    """`Results.recommended`.

    A treatment arm is recommended only where it is significantly better than labels alone and than
    its shuffled control; of several such arms, the one that is best on dev. Of an arm's replicates
    it is the one that is best on dev, the earliest of equals.
    """
    controls = {arm.name for arm in arms if arm.is_control}
    better = [arm for arm in arms if arm.is_treatment and _is_better(arm, comparisons, controls)]
    plain = [arm for arm in arms if arm.is_plain]
    arm = max(better or plain, key=lambda each: each.dev.accuracy, default=None)
    if arm is None:
        return None
    places = [i for i, step in enumerate(arm.training.best_step_by_seed) if step]
    if not places:
        return None
    best = max(places, key=lambda place: arm.dev.accuracy_by_seed[place])
    config = arm.config_by_seed[best]
    assert config is not None
    return RecommendedModel(
        arm=arm.name,
        better=bool(better),
        seed=arm.seeds[best],
        config=config,
        folder=f"{arm.folder_by_seed[best]}/model",
        dev_accuracy=arm.dev.accuracy_by_seed[best],
        accuracy=arm.test.accuracy,
        ci95=arm.test.ci95,
    )


def _is_better(arm: ArmResult, comparisons: Sequence[ComparisonResult], controls: set[str]) -> bool:
    own = [c for c in comparisons if c.primary and c.arm == arm.name]
    compared = {c.baseline in controls for c in own}
    won = all(is_significant(c) and c.difference > 0 for c in own)
    # With labels alone (False) and with a shuffled control (True).
    return won and compared == {False, True}
