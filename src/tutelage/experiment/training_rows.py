"""The training rows of every arm and seed, as the students' inputs and targets.

Usually all seeds of an arm learn the same rows. Where each seed draws its own (`arm_rows`), arms
may have unlike numbers of rows; they then train for equally many optimiser steps, and are evaluated
on dev equally often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.config.arm_settings import ArmSection
from tutelage.config.recipe import Recipe
from tutelage.config.training_settings import TrainSettings
from tutelage.core.storage import write_jsonl
from tutelage.core.types import Rationale, TrainingExample
from tutelage.experiment.arm_rows import training_examples
from tutelage.experiment.learnt_rows import ArmRows, Learnt
from tutelage.experiment.prepare import Splits
from tutelage.student.encoding.targets import build_training_examples

Rows = list[TrainingExample]


class TrainingRows:
    """What each arm's students learn.

    rationales: arm -> what it learns, where all seeds learn the same rows
    drawn:      the rows of each arm and seed; None where all seeds learn the same
    """

    def __init__(
        self,
        recipe: Recipe,
        splits: Splits,
        rationales: Mapping[str, Any],
        drawn: ArmRows | None = None,
    ) -> None:
        self.drawn = drawn
        task = recipe.resolved_task()
        # An arm that omits fields has a task of its own, in training, on dev and on test.
        self.tasks = {arm.name: task.without(arm.omits) for arm in recipe.arms}
        self._gold_share = recipe.gold_share
        self._arms = {arm.name: arm for arm in recipe.arms}
        self._fixed: dict[str, Rows] = {}
        self._of_seed: dict[tuple[str, int], Rows] = {}
        if drawn is None:
            for arm in recipe.arms:
                self._fixed[arm.name] = build_training_examples(
                    splits.train,
                    self.tasks[arm.name],
                    rationales.get(arm.name),
                    arm.effective_objective,
                )
            return
        for name, by_seed in drawn.learnt.items():
            self._encode(name, by_seed)
        self._most = max(len(rows) for rows in self._of_seed.values())

    def add(self, name: str, by_seed: Mapping[int, Learnt]) -> None:
        """The rows of an arm that were not known at first: self-training."""
        assert self.drawn is not None
        self.drawn = replace(self.drawn, learnt={**self.drawn.learnt, name: by_seed})
        self._encode(name, by_seed)

    def _encode(self, name: str, by_seed: Mapping[int, Learnt]) -> None:
        arm = self._arms[name]
        for seed, learnt in by_seed.items():
            rows = training_examples(learnt, arm, self.tasks[name], self._gold_share)
            self._of_seed[name, seed] = rows

    def of(self, arm: ArmSection, seed: int) -> Sequence[TrainingExample]:
        """What the student of an arm and seed learns."""
        return self._fixed[arm.name] if self.drawn is None else self._of_seed[arm.name, seed]

    def learnt_rationales(
        self, arm: ArmSection, fixed: Mapping[str, Sequence[Rationale]]
    ) -> Sequence[Rationale] | None:
        """What an arm learns of rationales, of all seeds together, each row once; None for an arm
        without a strategy.

        fixed: of arms whose seeds all learn the same
        """
        if self.drawn is None or arm.strategy is None:
            return fixed.get(arm.name)
        by_seed = self.drawn.learnt[arm.name].values()
        return list({r.uid: r for learnt in by_seed for r in learnt.rationales}.values())

    def labels(self, splits: Splits) -> dict[str, str]:
        """uid -> label, of the rows that arms learn."""
        if self.drawn is not None:
            return self.drawn.labels()
        return {example.uid: example.label for example in splits.train}

    def settings(self, settings: TrainSettings, arm: ArmSection, seed: int) -> TrainSettings:
        """The settings of a training: where seeds draw rows, those of `equal_steps`, unless the arm
        trains for equal epochs."""
        if self.drawn is None:
            return settings
        if arm.equal == "epochs":
            # Its own epochs, cut where the others' steps are, if those are limited.
            return settings
        return equal_steps(settings, len(self.of(arm, seed)), self._most)

    def every(self) -> Iterator[TrainingExample]:
        """The rows of all arms and seeds."""
        for rows in (*self._fixed.values(), *self._of_seed.values()):
            yield from rows


def equal_steps(settings: TrainSettings, rows: int, most: int) -> TrainSettings:
    """Settings with which `rows` rows train for as many steps as `most` rows would.

    most: of the arm with most rows. Its epochs decide the number of steps, unless `max_steps` is
          less, and its epochs are the interval between evaluations, unless `evaluate_every` is set
    """
    epoch = math.ceil(most / settings.batch_size)
    steps = min(settings.max_steps or epoch * settings.epochs, epoch * settings.epochs)
    own_epoch = math.ceil(rows / settings.batch_size)
    return settings.replace(
        max_steps=steps,
        epochs=math.ceil(steps / own_epoch),
        evaluate_every=settings.evaluate_every or epoch,
    )


def write_drawn(folder: Path, rows: ArmRows) -> None:
    """Write what each arm and seed learns to RUN/drawn/ARM/seed-N.jsonl: uid, where the row comes
    from, and its label; a row's rationale is in RUN/rationales."""
    for arm, by_seed in rows.learnt.items():
        for seed, learnt in by_seed.items():
            lines = [
                {"uid": example.uid, "from": source, "label": example.label}
                for source, part in (("gold", learnt.gold), ("pool", learnt.pool))
                for example in part
            ]
            write_jsonl(folder / "drawn" / arm / f"seed-{seed}.jsonl", lines)
