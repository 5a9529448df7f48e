"""The parts of a recipe, each checked by itself: what the keys of its YAML may hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

from tutelage.config.training_settings import (
    COMPILED_ADAPTERS,
    LoraSettings,
    TrackerName,
    TrainSettings,
)
from tutelage.core.errors import UsageError
from tutelage.core.types import ControlName, ObjectiveName
from tutelage.strategies.registry import get_strategy
from tutelage.teacher.cost.prices import FREE, PriceOverride
from tutelage.teacher.teacher import Mode, TeacherSettings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
"""Names of recipes and arms: they become names of folders."""


def _number(value: Any) -> Any:
    # YAML 1.1 reads 6e-4 as text (it wants 6.0e-4), and a person means the number.
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Number = Annotated[float, BeforeValidator(_number)]

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

BaselineName = Literal["majority", "omitted_context", "teacher_labels", "teacher"]
"""What a student's accuracy is to be seen beside: the commonest label; a student that does not see
the context; the teacher's own labels, where its answers hold any; the teacher, asked for labels."""


class Section(BaseModel):
    """Unknown keys are refused, and nothing changes after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskSection(Section):
    """A task that is no preset; see `tutelage.core.task.Task` for the fields."""

    name: str = "task"
    fields: list[str]
    labels: list[str]
    spellings: dict[str, str] = {}
    verbalizers: dict[str, str] = {}
    context: str | None = None
    relations: dict[str, str] = {}


class DataSection(Section):
    """Where the rows come from; `load_examples` says what a specification may be.

    dev, test: a specification; or a share of train (0.1) or a number of its rows (200), held out
             by the task's context
    columns: our names -> the file's
    overlap: what to do where train shares rows with dev or test: `error`, or `drop` them from train
    """

    train: str
    dev: str | float
    test: str | float
    columns: dict[str, str] = {}
    overlap: Literal["error", "drop"] = "error"

    @field_validator("dev", "test")
    @classmethod
    def _part(cls, value: str | float) -> str | float:
        if not isinstance(value, str) and not (0 < value < 1 or (value >= 1 and value % 1 == 0)):
            raise ValueError("expected a share between 0 and 1, or a whole number of rows")
        return value


class PriceSection(Section):
    """What a teacher costs, in US dollars per million tokens."""

    input: Number = Field(ge=0)
    output: Number = Field(ge=0)
    cached_input: Number | None = Field(None, ge=0)


class TeacherSection(Section):
    """Who explains, and how it is asked; see `TeacherSettings`.

    max_failed: rows without an answer at which the run stops; None: one in a hundred
    budget_usd: at most this much is charged, over all runs of this recipe's name
    price:      0 for a teacher that costs nothing; needed where no public price is known
    """

    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    provider: str | None = None
    temperature: Number | None = None
    seed: int | None = None
    max_tokens: int | None = None
    top_p: Number | None = None
    concurrency: int = 8
    timeout_s: Number = 120.0
    max_failed: int | None = None
    requests_per_minute: Number | None = None
    tokens_per_minute: Number | None = None
    budget_usd: Number | None = None
    price: Literal[0] | PriceSection | None = None
    mode: Mode = "live"
    structured: bool = False

    def settings(self) -> TeacherSettings:
        """As the teacher takes them."""
        values = self.model_dump(exclude={"price"})
        price = None
        if self.price == 0:
            price = FREE
        elif isinstance(self.price, PriceSection):
            price = PriceOverride(**self.price.model_dump())
        return TeacherSettings(**values, price=price)


class TeacherBaselineSection(Section):
    """How the teacher's own labels are asked for, where `baselines` has `teacher`.

    rows:            of dev, drawn by a digest of their text
    shots_per_label: worked examples from train for each label, of the second time of asking; the
                     first has none
    """

    rows: int = Field(100, ge=1)
    shots_per_label: int = Field(1, ge=1, le=8)


class LoraSection(Section):
    """Train adapters beside frozen weights; see `LoraSettings`. `lora: {}` takes the defaults."""

    rank: int = Field(8, ge=1)
    alpha: Number = Field(16.0, gt=0)
    dropout: Number = Field(0.0, ge=0, lt=1)
    target_modules: list[str] | None = Field(None, min_length=1)

    def settings(self) -> LoraSettings:
        """As the trainer takes them."""
        names = self.target_modules
        return LoraSettings(
            self.rank, self.alpha, self.dropout, None if names is None else tuple(names)
        )


class StudentSection(Section):
    """Which student, and how it is trained; see `TrainSettings` for the fields and their units.

    tracking: who gets a copy of each training's log; decides nothing (see `student.tracking`)
    """

    model: str = "google-t5/t5-small"
    epochs: int = Field(5, ge=1)
    max_steps: int | None = Field(None, ge=1)
    batch_size: int = Field(64, ge=1)
    warmup_steps: int = Field(100, ge=0)
    schedule: Literal["linear", "constant"] = "linear"
    weight_decay: Number = Field(0.0, ge=0)
    max_grad_norm: Number = Field(1.0, gt=0)
    evaluate_every: int | None = Field(None, ge=1)
    patience: int = Field(8, ge=1)
    dropout: Number | None = Field(None, ge=0, lt=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    fast: Literal["auto", "off"] = "auto"
    compile: bool = False
    lora: LoraSection | None = None
    max_source_tokens: int = Field(512, ge=8)
    max_rationale_tokens: int = Field(256, ge=1)
    tokens_per_micro_batch: int = Field(8192, ge=64)
    threads: int = Field(1, ge=1)
    tracking: tuple[TrackerName, ...] = ()

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.compile and self.lora is not None:
            raise ValueError(COMPILED_ADAPTERS)
        return self

    def settings(self, config: Config, seed: int, objective: ObjectiveName) -> TrainSettings:
        """How the student is trained for one objective with one configuration and seed."""
        shared = self.model_dump(exclude={"model", "lora", "tracking"})
        return TrainSettings(
            **shared,
            lora=None if self.lora is None else self.lora.settings(),
            objective=objective,
            learning_rate=config.learning_rate,
            label_weight=config.label_weight,
            seed=seed,
        )


class ArmSection(Section):
    """One way to train: a strategy, an objective, a control, if need be a teacher of its own.

    omits: input fields that the student does not see; of an arm without a strategy alone
    """

    name: str
    strategy: str | None = None
    template: str | None = None
    objective: ObjectiveName | None = None
    control: ControlName | None = None
    teacher: TeacherSection | None = None
    omits: tuple[str, ...] = ()

    @field_validator("teacher", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"model": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> ArmSection:
        if not NAME.fullmatch(self.name):
            raise ValueError(
                f"name: got {self.name!r}, expected letters, digits, '.', '_' and '-' (a folder)"
            )
        if self.strategy is None:
            for key in ("template", "control", "teacher"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: has no meaning without a strategy: name one")
            if self.objective not in (None, "label"):
                raise ValueError(f"objective: {self.objective} needs a strategy: name one")
        else:
            if self.omits:
                raise ValueError("omits: has a meaning for an arm without a strategy only")
            try:
                get_strategy(self.strategy, template=self.template)
            except UsageError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def effective_objective(self) -> ObjectiveName:
        """The objective, or what it is where none is given."""
        if self.objective is not None:
            return self.objective
        return "label" if self.strategy is None else "label_then_rationale"

    @property
    def question(self) -> tuple[Any, ...]:
        """What its rationales depend on: arms of one question share their answers."""
        return (self.strategy, self.template, self.teacher)


class DeparturesSection(Section):
    """Why a recipe leaves a rule of the experiment (`config.design_rules`); its report says it.

    controls:  a rationale arm is not held against shuffled rationales, a label echo and filler
    baselines: one of the baselines is left out
    seeds:     there are fewer than two
    """

    controls: Reason | None = None
    baselines: Reason | None = None
    seeds: Reason | None = None


class SearchSection(Section):
    """The configurations: each rationale arm tries every pair.

    The arm of labels alone tries as many learning rates as another arm tries pairs: all of these,
    and then the geometric middles of the widest gaps between them (of a single one: half of it and
    twice it first).

    seeds: on which they are tried; None: the first of the recipe's
    """

    learning_rate: list[Number] = Field([6e-4], min_length=1)
    label_weight: list[Number] = Field([0.5], min_length=1)
    seeds: list[int] | None = None

    @model_validator(mode="after")
    def _sane(self) -> SearchSection:
        if any(rate <= 0 for rate in self.learning_rate):
            raise ValueError(f"learning_rate: got {self.learning_rate}, expected numbers above 0")
        if any(not 0 < weight < 1 for weight in self.label_weight):
            raise ValueError(
                f"label_weight: got {self.label_weight}, expected numbers between 0 and 1"
            )
        for key, values in (
            ("learning_rate", self.learning_rate),
            ("label_weight", self.label_weight),
        ):
            if len(set(values)) != len(values):
                raise ValueError(f"{key}: {values} names one twice")
        return self


@dataclass(frozen=True, slots=True)
class Config:
    """One configuration: learning rate, and w in the segments' weights (w, 1 − w)."""

    learning_rate: float
    label_weight: float

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"lr-{self.learning_rate:g}_w-{self.label_weight:g}"
