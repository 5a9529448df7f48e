"""The typed description of one experiment: YAML in, every problem told at once."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from tutelage.errors import UsageError
from tutelage.sections import (
    NAME,
    ArmSection,
    Config,
    DataSection,
    SearchSection,
    Section,
    StudentSection,
    TaskSection,
    TeacherSection,
)
from tutelage.task import PRESETS, Task


class Recipe(Section):
    """One experiment."""

    name: str
    task: Literal["nli"] | TaskSection = "nli"
    data: DataSection
    teacher: TeacherSection | None = None
    student: StudentSection = StudentSection()
    arms: list[ArmSection] = Field(min_length=1)
    search: SearchSection = SearchSection()
    seeds: list[int] = Field([0, 1, 2, 3, 4], min_length=1)

    @field_validator("teacher", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        problems: list[str] = []
        if not NAME.fullmatch(self.name):
            problems.append(
                f"name: got {self.name!r}, expected letters, digits, '.', '_' and '-' (a folder)"
            )
        names = [arm.name for arm in self.arms]
        problems += [
            f"arms: two are named {n!r}" for n in sorted({n for n in names if names.count(n) > 1})
        ]
        plain = [arm.name for arm in self.arms if arm.strategy is None]
        if len(plain) != 1:
            problems.append(
                "arms: expected exactly one without a strategy, the baseline of labels alone, "
                f"got {plain or 'none'}"
            )
        for arm in self.arms:
            if arm.strategy and arm.strategy != "human" and not (arm.teacher or self.teacher):
                problems.append(f"arms: {arm.name!r} asks a teacher, and the recipe names none")
            if arm.control is not None and self.treated(arm) is None:
                problems.append(
                    f"arms: {arm.name!r} is a control and needs the arm that it controls: one of "
                    f"strategy {arm.strategy!r} with the same teacher and objective, no control"
                )
        for where, seeds in (("seeds", self.seeds), ("search.seeds", self.search.seeds or [])):
            if len(set(seeds)) != len(seeds):
                problems.append(f"{where}: {seeds} names one twice")
        try:
            self.resolved_task()
        except UsageError as error:
            problems.append(str(error))
        for teacher in [self.teacher, *(arm.teacher for arm in self.arms)]:
            if teacher is not None:
                try:
                    teacher.settings()
                except UsageError as error:
                    problems.append(str(error))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def resolved_task(self) -> Task:
        """The task itself."""
        if isinstance(self.task, str):
            return PRESETS[self.task]
        values = self.task.model_dump()
        values["fields"], values["labels"] = tuple(values["fields"]), tuple(values["labels"])
        return Task(**values)

    @property
    def baseline(self) -> ArmSection:
        """The arm of labels alone."""
        return next(arm for arm in self.arms if arm.strategy is None)

    def treated(self, control: ArmSection) -> ArmSection | None:
        """The arm that `control` is the control of."""
        for arm in self.arms:
            same = (arm.question, arm.effective_objective)
            if arm.control is None and same == (control.question, control.effective_objective):
                return arm
        return None

    def comparisons(self) -> list[tuple[str, str]]:
        """Holm's family: each rationale arm with labels alone, and with each of its controls."""
        pairs = []
        for arm in self.arms:
            if arm.strategy is not None and arm.control is None:
                pairs.append((arm.name, self.baseline.name))
                pairs += [
                    (arm.name, control.name)
                    for control in self.arms
                    if control.control is not None and self.treated(control) is arm
                ]
        return pairs

    def teacher_of(self, arm: ArmSection) -> TeacherSection | None:
        """The arm's own teacher, or the recipe's."""
        return arm.teacher or self.teacher

    def configs(self, arm: ArmSection) -> list[Config]:
        """What the arm tries: every arm the same number."""
        rates, weights = self.search.learning_rate, self.search.label_weight
        if arm.effective_objective != "label":
            return [Config(rate, weight) for rate, weight in itertools.product(rates, weights)]
        count = len(rates) * len(weights)
        if count == len(rates):
            return [Config(rate, 1.0) for rate in rates]
        low, high = min(rates), max(rates)
        if low == high:
            low, high = low / 2, high * 2
        steps = (math.log(high) - math.log(low)) / (count - 1)
        spread = (math.exp(math.log(low) + i * steps) for i in range(count))
        return [Config(float(f"{rate:.4g}"), 1.0) for rate in spread]

    @property
    def search_seeds(self) -> list[int]:
        """The seeds that configurations are tried on."""
        return self.seeds[:1] if self.search.seeds is None else self.search.seeds

    def to_yaml(self) -> str:
        """The resolved recipe: what `load_recipe` reads back as the same."""
        values = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
