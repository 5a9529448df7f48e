"""Sections of a recipe: task, data, classifiers, search, and reasons for departures."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)

from tutelage.config.layout_settings import LabelText, LayoutSettings
from tutelage.config.settings import Integer, Number, ReplicateSeed, Settings, Text
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.task import PRESETS, PresetName, Task

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
"""Names of recipes and arms, which name folders."""

NAME_EXPECTED = "expected letters, digits, '.', '_' and '-', at most 80 (it names a folder)"

BaselineName = Literal["majority", "bag_of_words", "omitted_context", "teacher_labels", "teacher"]
"""Baselines: the most frequent label; logistic regression on the words of the input; a student that
does not see the context; the labels in the teacher's answers, where there are any; the teacher
asked for labels."""

CLASSIFIER_RATES = (2e-5, 1e-5, 5e-5)
"""Learning rates of a classifier as wide as BERT-base; without a search, the first."""

ProtocolName = Literal["quick", "standard", "full"]
"""Presets: how much of the protocol an experiment carries out (`design_rules.PRESETS`)."""

Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def short_teacher(value: Any) -> Any:
    """`teacher: NAME` is short for `teacher: {model: NAME}`."""
    return {"model": value} if isinstance(value, str) else value


Teacher = Annotated[TeacherSettings | None, BeforeValidator(short_teacher)]


class TaskSection(Settings):
    """A task of one's own: its input fields and labels (see `core.task.Task`)."""

    name: Text = Field("task", description="Name, for messages and prompts.", examples=["reviews"])
    fields: list[Text] = Field(
        description="Input fields, in the order of the student's input.",
        examples=[["text"]],
    )
    labels: list[LabelText] = Field(
        description="Labels, in the order of their probabilities.",
        examples=[["good", "bad"]],
    )
    spellings: dict[str, str] = Field(
        {},
        description="Further spellings of labels in data files: spelling → label.",
        examples=[{"pos": "good"}],
    )
    verbalizers: dict[str, str] = Field(
        {},
        description="Words that the student writes for a label. Default: the label itself.",
        examples=[{"good": "positive"}],
    )
    context: Text | None = Field(
        None,
        description="The field that several rows may share, as the premise in NLI. Splits keep its "
        "rows together, and statistics treat them as one group.",
        examples=["article"],
    )
    relations: dict[str, str] = Field(
        {},
        description="Words that complete “explain why the text …” in a prompt, by label.",
        examples=[{"good": "praises the film"}],
    )


def _kind_of_task(value: Any) -> str:
    return "Preset" if isinstance(value, str) else "Section"


# Distinguished by its form, so that a fault in a task of one's own is reported as that alone.
TaskKey = Annotated[
    Annotated[PresetName, Tag("Preset")] | Annotated[TaskSection, Tag("Section")],
    Discriminator(_kind_of_task),
]


def task_from(section: PresetName | TaskSection) -> Task:
    """The task that the value of the key `task` describes."""
    if isinstance(section, str):
        return PRESETS[section]
    values = section.model_dump()
    values["fields"], values["labels"] = tuple(values["fields"]), tuple(values["labels"])
    return Task(**values)


class DataSection(LayoutSettings):
    """Where the rows come from, and how they are read."""

    train: Text = Field(
        description="Training rows: a file (`.jsonl`, `.json`, `.csv`, `.tsv`, `.parquet`, "
        "`.xlsx`; text also as `.gz`, `.bz2` or `.xz`), a folder of Parquet files or of a saved "
        "data set (`saved#train`), `hf:NAME#SPLIT`, an unpacked ANLI release "
        "(`anli_v1.0#train_r1`), or `synthetic:nli?n=4000&seed=1`. `?n=1500` takes a sample.",
        examples=["train.jsonl"],
    )
    dev: str | float = Field(
        description="Rows that choose configurations and checkpoints: a specification as for "
        "`train`, a share of train (`0.1`), or a number of its rows (`200`).",
        examples=["dev.jsonl"],
    )
    test: str | float = Field(
        description="Rows that the result is measured on; as for `dev`.", examples=[0.2]
    )
    gold: Integer | None = Field(
        None,
        ge=1,
        description="Rows of train that an arm learns, unless it says otherwise; each seed draws "
        "its own, in an order that all arms share. Default: all of them.",
        examples=[250],
    )
    draws: Literal["independent", "disjoint"] = Field(
        "independent",
        description="How the seeds draw gold and unlabelled rows where not all are learnt: "
        "`independent` of each other, or each from a block of rows of its own, without rows that "
        "another seed has.",
        examples=["disjoint"],
    )
    overlap: Literal["error", "drop"] = Field(
        "error",
        description="What to do where two splits share rows, or nearly equal ones: stop, or drop "
        "them from train, and from dev what test has. No test row is dropped.",
        examples=["drop"],
    )
    calibration: Number | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of dev that chooses nothing: neither configuration, checkpoint nor "
        "temperature. `tutelage serve --promise` needs it. Default: none.",
        examples=[0.5],
    )
    unlabelled: Text | None = Field(
        None,
        description="Rows without a label, which a teacher may label: a specification as for "
        "`train`, read in the same way. Labels in it are ignored. Default: none.",
        examples=["unlabelled.jsonl"],
    )

    @field_validator("dev", "test", mode="before")
    @classmethod
    def _part(cls, value: Any) -> Any:
        share = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(value, str) and value.strip():
            return value
        if not share or not (0 < value < 1 or (value >= 1 and value % 1 == 0)):
            raise ValueError(
                "expected a file, a share of train between 0 and 1, or a whole number of rows"
            )
        return value


class TeacherBaselineSection(Settings):
    """How the teacher is asked for labels, for the baseline `teacher`."""

    rows: Integer = Field(
        100, ge=1, description="Rows of dev, drawn by a digest of their text.", examples=[200]
    )
    shots_per_label: Integer = Field(
        1,
        ge=1,
        le=8,
        description="Examples of each label in the few-shot prompt, drawn from train.",
        examples=[2],
    )


class ClassifierSection(Settings):
    """A classifier as a baseline: a pretrained model with a new layer that chooses a label.

    It learns labels alone, from the same rows, with the same number of trials and the same seeds as
    every arm, with the student's settings but for these, and without `lora`, `compile` and `fast`.
    """

    classifier: Text = Field(
        description="A hub name or a folder; an encoder will do, such as BERT or ModernBERT.",
        examples=["answerdotai/ModernBERT-base"],
    )
    learning_rate: tuple[Number, ...] | None = Field(
        None,
        min_length=1,
        description="Learning rates to choose from; without a search, the first. Default: 2e-5, "
        "1e-5 and 5e-5, as is usual for BERT-base; of a model that is narrower than its 768 these "
        "times 768 / width.",
        examples=[[2e-5, 1e-5, 5e-5]],
    )
    max_source_tokens: Integer | None = Field(
        None,
        ge=8,
        description="Longest input, in its tokens. Default: the student's.",
        examples=[512],
    )

    @model_validator(mode="after")
    def _sane(self) -> Self:
        scheme = self.classifier.partition(":")[0]
        if scheme in ("scratch", "gguf", "package"):
            raise ValueError(
                f"classifier: got {self.classifier!r}, expected a hub name or a folder of "
                "pretrained weights"
            )
        rates = self.learning_rate or ()
        if any(rate <= 0 for rate in rates):
            raise ValueError(f"learning_rate: got {list(rates)}, expected numbers above 0")
        if len(set(rates)) != len(rates):
            raise ValueError(f"learning_rate: {list(rates)} lists a value twice")
        return self

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates, or those for the width of BERT-base."""
        return self.learning_rate or CLASSIFIER_RATES


def _kind_of_baseline(value: Any) -> str:
    return "Classifier" if isinstance(value, ClassifierSection | dict) else "Name"


Baseline = Annotated[
    Annotated[BaselineName, Tag("Name")] | Annotated[ClassifierSection, Tag("Classifier")],
    Discriminator(_kind_of_baseline),
]
"""A baseline by its name, or a classifier."""


class DeparturesSection(Settings):
    """Reasons for departures from the protocol; the report prints them."""

    controls: Reason | None = Field(
        None,
        description="Why a treatment arm lacks a shuffled, scrambled, label-echo or filler "
        "control.",
        examples=["a first run, before the full experiment"],
    )
    baselines: Reason | None = Field(
        None, description="Why a baseline is left out.", examples=["no budget for the teacher"]
    )
    seeds: Reason | None = Field(
        None, description="Why there are fewer than two seeds.", examples=["a rehearsal"]
    )


class SeedPlanSection(Settings):
    """Seeds that are added until the comparisons are decided: planned interim analyses.

    The results are computed after `start` seeds, and after each `step` more, until every primary
    comparison is decided or `at_most` seeds have been used. The level of the test is spent over the
    analyses, so that all of them together give 5% false alarms.
    """

    start: Integer = Field(ge=2, description="Seeds before the first analysis.", examples=[5])
    step: Integer = Field(
        ge=1, description="Seeds that are added after each analysis.", examples=[5]
    )
    at_most: Integer = Field(
        ge=2, le=1000, description="Seeds at the last analysis.", examples=[20]
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.at_most <= self.start:
            raise ValueError(
                f"at_most: got {self.at_most}, expected more than start ({self.start}): without "
                "further analyses, list the seeds"
            )
        return self


def _kind_of_seeds(value: Any) -> str:
    return "SeedPlan" if isinstance(value, SeedPlanSection | dict) else "Seeds"


Seeds = Annotated[
    Annotated[list[ReplicateSeed], Field(min_length=1), Tag("Seeds")]
    | Annotated[SeedPlanSection, Tag("SeedPlan")],
    Discriminator(_kind_of_seeds),
]
"""The seeds of the replicates: a list, or a plan of analyses."""


class SearchSection(Settings):
    """The search of each replicate: its configurations, and how many of them it tries.

    The configurations are every learning rate with every label weight. An arm of labels alone has
    no label weight: it has as many learning rates as another arm has pairs, all that are listed,
    then the geometric middles of the widest gaps between them (of a single rate, half of it and
    twice it first).

    For each seed each arm draws `trials` of its configurations, trains each under a seed of its
    own, chooses by the metric on dev, and trains the choice afresh: `trials` + 1 trainings. Without
    a search there is one training for each seed.
    """

    trials: Integer = Field(
        3,
        ge=1,
        description="Configurations that each arm tries for each seed, drawn at random; all of "
        "them where there are no more. 1: no search, the first of each list (the default of "
        "`protocol: quick`).",
        examples=[9],
    )

    learning_rate: list[Number] = Field(
        [6e-4],
        min_length=1,
        description="Learning rates to choose from.",
        examples=[[6e-4, 1.2e-3]],
    )
    label_weight: list[Number] = Field(
        [0.5],
        min_length=1,
        description="Weights of the label in the loss to choose from, between 0 and 1.",
        examples=[[0.25, 0.5, 0.75]],
    )

    @model_validator(mode="after")
    def _sane(self) -> Self:
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
                raise ValueError(f"{key}: {values} lists a value twice")
        return self
