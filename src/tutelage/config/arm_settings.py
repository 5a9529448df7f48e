"""One arm of a recipe: what its students learn from."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from tutelage.config.sections import NAME, NAME_EXPECTED, ClassifierSection, Teacher
from tutelage.config.settings import Integer, Number, Settings, Text
from tutelage.core.errors import UsageError
from tutelage.core.types import ControlName, ObjectiveName
from tutelage.strategies.lookup import get_strategy, labels_rows
from tutelage.strategies.strategy import Strategy

POOL_CONTROLS: frozenset[ControlName] = frozenset(
    {"self_training", "rationale_dropped", "random_filter"}
)
"""Controls of arms that learn rows which the teacher labelled."""


class ArmSection(Settings):
    """One arm: what its students learn from: gold rows, and what the money bought."""

    name: str = Field(description="Name of the arm, and of its folder.", examples=["reasoning"])
    strategy: Text | None = Field(
        None,
        description="How the teacher is asked: `informed_reasoning`, `information_extraction`, "
        "`human` (the data's own reasons), `recorded`, `template`, or a plugin's; `label` and "
        "`chain_of_thought` label rows. Default: none, an arm that learns labels alone.",
        examples=["informed_reasoning"],
    )
    template: Text | None = Field(
        None,
        description="The prompt of the strategy `template`, in Jinja.",
        examples=["Why is “{{ text }}” {{ label }}?"],
    )
    rows: Literal["train", "unlabelled"] = Field(
        "train",
        description="Rows that the teacher is asked about: the gold rows, or those of "
        "`data.unlabelled`, which the student then learns as well, with the teacher's labels. The "
        "latter needs a strategy that labels rows.",
        examples=["unlabelled"],
    )
    agrees_with: Teacher = Field(
        None,
        description="A second teacher: of the unlabelled rows only those are learnt on which both "
        "give one label. Both are paid.",
        examples=["openai:gpt-6-luna"],
    )
    gold: Integer | Literal["spend"] | None = Field(
        None,
        description="Gold rows of an arm without a strategy, in place of `data.gold`: a point of "
        "the curve of gold rows. `spend`: as many more as the recipe's `spend` buys at "
        "`gold_price`.",
        examples=[500],
    )
    spend: Number | None = Field(
        None,
        gt=0,
        description="What the arm buys for, in the unit of the recipe's `spend`, in its place. "
        "Such an arm is described, not tested.",
        examples=[0.5],
    )
    equal: Literal["steps", "epochs"] = Field(
        "steps",
        description="Where arms learn unlike numbers of rows: whether this one trains for as many "
        "optimiser steps as the others, or for as many epochs, each over its own rows. The latter "
        "is described, not tested.",
        examples=["epochs"],
    )
    objective: ObjectiveName | None = Field(
        None,
        description="What the student learns to write. Default: `label` without a strategy and "
        "with the strategy `label`, `label_then_rationale` with any other.",
        examples=["multitask"],
    )
    control: ControlName | None = Field(
        None,
        description="Makes the arm a control: `shuffled`, `shuffled_within_label`, `scrambled`, "
        "`filler` or `label_echo` in place of its rationales; `self_training`, "
        "`rationale_dropped` or `random_filter` in place of what the teacher said about unlabelled "
        "rows.",
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
            needing = ("template", "control", "teacher", "agrees_with", "spend")
            for key in needing:
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: needs a strategy: add one to the arm")
            if self.rows == "unlabelled":
                raise ValueError("rows: unlabelled needs a strategy: add `label` to the arm")
            if self.objective not in (None, "label"):
                raise ValueError(
                    f"objective: {self.objective} needs a strategy: add one to the arm"
                )
            if self.gold is not None and (self.omits or self.classifier):
                raise ValueError("gold: does not work with omits or classifier: remove one of them")
        else:
            for key in ("omits", "classifier"):
                if getattr(self, key):
                    raise ValueError(f"{key}: works only for an arm without a strategy")
            if self.gold is not None:
                raise ValueError(
                    "gold: works only for an arm without a strategy: data.gold sets the gold rows "
                    "of the others"
                )
            try:
                labelling = labels_rows(self._strategy)
            except UsageError as error:
                raise ValueError(str(error)) from error
            self._check_rows(labelling)
        if self.gold is not None and self.gold != "spend" and self.gold < 1:
            raise ValueError(f"gold: got {self.gold}, expected a number of rows, or spend")
        return self

    def _check_rows(self, labelling: bool) -> None:
        """Raises ValueError for a strategy, rows and control that do not go together."""
        pool = self.rows == "unlabelled"
        if pool and not labelling:
            raise ValueError(
                f"rows: unlabelled needs a strategy that labels rows, and {self.strategy!r} does "
                "not: use label or chain_of_thought"
            )
        if self.strategy == "label":
            if not pool:
                raise ValueError(
                    "strategy: label brings nothing to gold rows, which have labels: add rows: "
                    "unlabelled"
                )
            if self.objective not in (None, "label"):
                raise ValueError(
                    f"objective: {self.objective} needs rationales, and the strategy label has "
                    "none: use chain_of_thought"
                )
        for key, needs in (
            ("agrees_with", self.agrees_with is not None),
            (f"control: {self.control}", self.control in POOL_CONTROLS),
        ):
            if needs and not pool:
                raise ValueError(f"{key}: works only for an arm with rows: unlabelled")
        if self.control == "random_filter" and self.agrees_with is None:
            raise ValueError("control: random_filter needs agrees_with: name a second teacher")
        if self.control == "rationale_dropped" and self.effective_objective != "label":
            raise ValueError("control: rationale_dropped learns labels alone: set objective: label")

    @property
    def _strategy(self) -> Strategy:
        assert self.strategy is not None
        return get_strategy(self.strategy, template=self.template)

    @property
    def effective_objective(self) -> ObjectiveName:
        """The objective, or its default."""
        if self.objective is not None:
            return self.objective
        without = self.strategy in (None, "label") or self.control in (
            "rationale_dropped",
            "self_training",
        )
        return "label" if without else "label_then_rationale"

    @property
    def is_plain(self) -> bool:
        """Whether it is the arm of labels alone: the recipe's student, which sees all fields and
        the recipe's number of gold rows."""
        special = self.omits or self.classifier is not None or self.gold is not None
        return self.strategy is None and not special and self.equal == "steps"

    @property
    def learns_pool(self) -> bool:
        """Whether it learns unlabelled rows, with the labels of a teacher or of a student."""
        return self.rows == "unlabelled"

    @property
    def described_only(self) -> bool:
        """Whether it is outside of the tests: an arm with a spend of its own, a point of the curve
        of gold rows, or one that trains for equal epochs."""
        return self.spend is not None or isinstance(self.gold, int) or self.equal == "epochs"

    @property
    def asks_teacher(self) -> bool:
        """Whether its rationales come from a teacher, not from the data."""
        if self.strategy is None:
            return False
        return self._strategy.asks_teacher

    @property
    def annotation_key(self) -> tuple[Any, ...]:
        """The settings that its rationales depend on: arms with equal keys share them."""
        return (self.strategy, self.template, self.teacher, self.rows, self.agrees_with)
