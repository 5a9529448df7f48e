"""The trainings of one experiment, in the order in which they depend on each other.

Self-training arms learn what the students of labels alone say about unlabelled rows, so those are
trained first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tutelage.config.arm_settings import ArmSection
from tutelage.experiment import learning_curves, replication
from tutelage.experiment.arm_rows import self_training_pool, self_training_rows
from tutelage.experiment.trainings import Choices, Replicate, Students, Trial


@dataclass(frozen=True)
class Trained:
    """The trainings of all seeds so far, by arm."""

    trials: Mapping[str, Sequence[Trial]]
    choices: Choices
    replicates: Mapping[str, Mapping[int, Replicate]]
    curve: learning_curves.Curve


def train_all(students: Students, subsets: Sequence[learning_curves.Subset]) -> Trained:
    """For each seed and arm: search on dev, and train the choice afresh."""
    recipe = students.recipe
    later = [arm for arm in recipe.arms if arm.control == "self_training"]
    first = _train_arms(students, [arm for arm in recipe.arms if arm not in later])
    if not later:
        curve = learning_curves.train_subsets(students, first.choices, subsets)
        return replace(first, curve=curve)
    drawn, plain = students.rows.drawn, first.replicates[recipe.baseline.name]
    assert drawn is not None
    for arm in later:
        students.observer.stage(f"Students of labels alone label the rows of {arm.name}")
        wanted = self_training_pool(recipe, arm, drawn)
        labelled = students.label_pool(plain, wanted)
        students.rows.add(arm.name, self_training_rows(recipe, arm, drawn, labelled))
    second = _train_arms(students, later)
    return Trained(
        {**first.trials, **second.trials},
        {**first.choices, **second.choices},
        {**first.replicates, **second.replicates},
        first.curve,
    )


def _train_arms(students: Students, arms: Sequence[ArmSection]) -> Trained:
    """The searches and trainings of these arms."""
    observer = students.observer
    if students.recipe.trials:
        observer.stage("Training: the search of each seed")
    trials = students.search(arms)
    for line in replication.diverged_trials(trials):
        observer.note(line)
    choices = students.choose(trials)
    observer.stage("Training: what each seed chose, afresh")
    replicates = students.train(choices)
    for line in replication.diverged_replicates(replicates):
        observer.note(line)
    return Trained(trials, choices, replicates, ())
