"""One arm of a recipe: what its students learn from."""

from __future__ import annotations

from typing import Any, Self

from pydantic import Field, model_validator

from tutelage.config.sections import NAME, NAME_EXPECTED, ClassifierSection, Teacher
from tutelage.config.settings import Settings, Text
from tutelage.core.errors import UsageError
from tutelage.core.types import ControlName, ObjectiveName
from tutelage.strategies.lookup import get_strategy


class ArmSection(Settings):
    """One arm: what its students learn from."""

    name: str = Field(description="Name of the arm, and of its folder.", examples=["reasoning"])
    strategy: Text | None = Field(
        None,
        description="How the teacher is asked: `informed_reasoning`, `information_extraction`, "
        "`human` (the data's own reasons), `recorded`, `template`, or a plugin's. Default: none, "
        "an arm that learns labels alone.",
        examples=["informed_reasoning"],
    )
    template: Text | None = Field(
        None,
        description="The prompt of the strategy `template`, in Jinja.",
        examples=["Why is “{{ text }}” {{ label }}?"],
    )
    objective: ObjectiveName | None = Field(
        None,
        description="What the student learns to write. Default: `label` without a strategy, "
        "`label_then_rationale` with one.",
        examples=["multitask"],
    )
    control: ControlName | None = Field(
        None,
        description="Makes the arm a control: `shuffled`, `shuffled_within_label`, `scrambled`, "
        "`filler` or `label_echo` in place of its rationales.",
        examples=["shuffled"],
    )
    teacher: Teacher = Field(
        None, description="A teacher of its own. Default: the recipe's.", examples=["scripted"]
    )
    omits: tuple[Text, ...] = Field(
        (),
        description="Input fields that the student does not see; only without a strategy.",
        examples=[["premise"]],
    )
    classifier: ClassifierSection | None = Field(
        None,
        description="A classifier in place of the student (see `baselines`); only without a "
        "strategy.",
        examples=[{"classifier": "answerdotai/ModernBERT-base"}],
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name: got {self.name!r}, {NAME_EXPECTED}")
        if self.strategy is None:
            for key in ("template", "control", "teacher"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: needs a strategy: add one to the arm")
            if self.objective not in (None, "label"):
                raise ValueError(
                    f"objective: {self.objective} needs a strategy: add one to the arm"
                )
        else:
            for key in ("omits", "classifier"):
                if getattr(self, key):
                    raise ValueError(f"{key}: works only for an arm without a strategy")
            try:
                get_strategy(self.strategy, template=self.template)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def effective_objective(self) -> ObjectiveName:
        """The objective, or its default."""
        if self.objective is not None:
            return self.objective
        return "label" if self.strategy is None else "label_then_rationale"

    @property
    def is_plain(self) -> bool:
        """Whether it is the arm of labels alone: the recipe's student, which sees all fields."""
        return self.strategy is None and not self.omits and self.classifier is None

    @property
    def asks_teacher(self) -> bool:
        """Whether its rationales come from a teacher, not from the data."""
        if self.strategy is None:
            return False
        return get_strategy(self.strategy, template=self.template).asks_teacher

    @property
    def annotation_key(self) -> tuple[Any, ...]:
        """The settings that its rationales depend on: arms with equal keys share them."""
        return (self.strategy, self.template, self.teacher)
