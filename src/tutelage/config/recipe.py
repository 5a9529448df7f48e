"""The recipe: the typed description of one experiment, which reports all its problems at once."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from tutelage.config import design_rules, pool_rules
from tutelage.config.arm_settings import ArmSection
from tutelage.config.comparisons import Families, families_of
from tutelage.config.design_rules import Departure
from tutelage.config.labelling_settings import LabellingSection
from tutelage.config.learning_rates import filled_up
from tutelage.config.sections import (
    NAME,
    NAME_EXPECTED,
    Baseline,
    DataSection,
    DeparturesSection,
    ProtocolName,
    SearchSection,
    SeedPlanSection,
    Seeds,
    TaskKey,
    Teacher,
    TeacherBaselineSection,
    task_from,
)
from tutelage.config.settings import Integer, Number, Settings
from tutelage.config.spend_settings import Spend
from tutelage.config.teacher_settings import DEFAULT_TEACHER, TeacherSettings
from tutelage.config.training_settings import Config, StudentSettings, TrainSettings
from tutelage.config.yaml_files import dump_yaml
from tutelage.core.errors import UsageError
from tutelage.core.main_metric import MetricName
from tutelage.core.task import Task
from tutelage.core.types import ControlName


class Recipe(Settings):
    """One experiment. After validation `arms` includes the controls and baselines added to it."""

    name: str = Field(
        description="Name of the experiment, and of its folder of results.", examples=["reviews"]
    )
    task: TaskKey = Field(
        "nli",
        description="`nli` (premise, hypothesis; entailment, neutral, contradiction), `sentiment` "
        "(text; positive, negative), `yes_no` (passage and question; yes, no), or a "
        "task of your own.",
        examples=[{"fields": ["text"], "labels": ["good", "bad"]}],
    )
    data: DataSection = Field(
        description="Where the rows come from.",
        examples=[{"train": "train.jsonl", "dev": 0.1, "test": "test.jsonl"}],
    )
    metric: MetricName = Field(
        "accuracy",
        description="What dev chooses by and arms are compared in: `accuracy`, or "
        "`balanced_accuracy`, the mean of the labels' recalls, for labels of unlike frequency. It "
        "needs two rows or more of each label in dev and test.",
        examples=["balanced_accuracy"],
    )
    teacher: Teacher = Field(
        None,
        description="The teacher of all arms that name none. `teacher: NAME` is short for "
        "`teacher: {model: NAME}`.",
        examples=[DEFAULT_TEACHER],
    )
    student: StudentSettings = Field(
        StudentSettings(),
        description="The student and its training.",
        examples=[{"model": "google-t5/t5-small"}],
    )
    spend: Spend = Field(
        None,
        description="What each arm may buy for, when it pays alone: the rationales of gold rows, "
        "labels of unlabelled ones, or more gold rows. `spend: 1.00` is in dollars. Default: no "
        "limit.",
        examples=[{"rows": 700}],
    )
    gold_price: Number | None = Field(
        None,
        gt=0,
        description="What a label by a person costs, in dollars. Default: unknown.",
        examples=[0.1],
    )
    gold_share: Number | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of gold rows in the training of arms that learn unlabelled rows as "
        "well: gold rows are repeated until they come nearest to it. Default: each row once.",
        examples=[0.5],
    )
    recommend_within: Number = Field(
        3.0,
        gt=0,
        lt=100,
        description="Points of the metric that a cheaper arm may be worse than the best and still "
        "be recommended. Set it before the run.",
        examples=[2.0],
    )
    protocol: ProtocolName = Field(
        "standard",
        description="How much is compared. `quick`: shuffled controls, no search. `standard`: "
        "scrambled and filler controls as well, and a search. `full`: label echoes and all "
        "baselines as well. It sets the defaults of `controls`, `baselines` and `search.trials`; "
        "the answer says what it leaves out.",
        examples=["quick"],
    )
    controls: tuple[ControlName, ...] = Field(
        design_rules.PRESETS["standard"].controls,
        description="Control arms that are added to each treatment arm, unless they are among "
        "`arms`. Default: those of the protocol.",
        examples=[["shuffled"]],
    )
    baselines: tuple[Baseline, ...] = Field(
        design_rules.PRESETS["standard"].baselines,
        description="What the arms are compared with: `majority` (the most frequent label), "
        "`bag_of_words` (logistic regression on the words of the input), "
        "`omitted_context` (a student that does not see the context), `teacher_labels` (labels in "
        "the teacher's answers), `teacher` (the teacher asked for labels), `{classifier: MODEL}` "
        "(a classifier that learns labels alone). Default: those of the protocol, to which a list "
        "of classifiers alone is added.",
        examples=[[{"classifier": "answerdotai/ModernBERT-base"}]],
    )
    teacher_baseline: TeacherBaselineSection = Field(
        TeacherBaselineSection(),
        description="How the teacher is asked for labels.",
        examples=[{"rows": 200}],
    )
    labelling: LabellingSection = Field(
        LabellingSection(),
        description="How a teacher labels unlabelled rows, and how that is checked first.",
        examples=[{"shots_per_label": 2}],
    )
    # After the fields that decide which arms are added to it.
    arms: list[ArmSection] = Field(
        min_length=1,
        description="The arms. Exactly one learns labels alone.",
        examples=[[{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}]],
    )
    search: SearchSection = Field(
        SearchSection(),
        description="How each arm chooses its configuration, for each seed anew.",
        examples=[{"learning_rate": [6e-4, 1.2e-3], "label_weight": [0.25, 0.5], "trials": 3}],
    )
    seeds: Seeds = Field(
        [0, 1, 2, 3, 4],
        description="Seeds of the replicates: two or more. In each replicate every arm searches by "
        "itself and trains its choice afresh. Or a plan to add seeds until the comparisons are "
        "decided: `{start: 5, step: 5, at_most: 20}`.",
        examples=[[0, 1, 2]],
    )
    margin: Number = Field(
        1.0,
        gt=0,
        lt=100,
        description="Points of the metric: smaller differences do not matter to you. The report "
        "says where one is shown to be smaller.",
        examples=[0.5],
    )
    explain_rows: Integer = Field(
        200,
        ge=0,
        le=500,
        description="Test rows that a student of each arm explains itself, for the report.",
        examples=[50],
    )
    departures: DeparturesSection = Field(
        DeparturesSection(),
        description="Reasons for departures from the protocol.",
        examples=[{"seeds": "a rehearsal"}],
    )

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, values: Any) -> Any:
        """Fill in what the preset decides and the recipe does not say."""
        if not isinstance(values, Mapping):
            return values
        name = values.get("protocol", "standard")
        preset = next((p for known, p in design_rules.PRESETS.items() if known == name), None)
        if preset is None:
            return values  # reported by its own field
        filled = {"controls": preset.controls, "baselines": preset.baselines, **values}
        if design_rules.adds_baselines(filled):
            filled["baselines"] = [*preset.baselines, *filled["baselines"]]
        search = filled.get("search", {})
        if isinstance(search, Mapping):
            filled["search"] = {"trials": preset.trials, **search}
        return filled

    @field_validator("arms")
    @classmethod
    def _complete(cls, arms: list[ArmSection], info: ValidationInfo) -> list[ArmSection]:
        known = info.data
        if any(key not in known for key in ("task", "controls", "baselines")):
            return arms  # one of them is wrong, which is reported separately
        try:
            task = task_from(known["task"])
        except UsageError:
            task = None
        spend = known.get("spend")
        return design_rules.with_added_arms(
            arms,
            known["controls"],
            known["baselines"],
            task,
            share_self_training=spend is None or spend.buys_equal_rows,
            equal_epochs=known.get("protocol") != "quick",
        )

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        problems: list[str] = []
        if not NAME.fullmatch(self.name):
            problems.append(f"name: got {self.name!r}, {NAME_EXPECTED}")
        problems += [f"arms: {line}" for line in design_rules.name_collisions(self.arms)]
        plain = [arm.name for arm in self.arms if arm.is_plain]
        if len(plain) != 1:
            problems.append(
                "arms: expected exactly one without a strategy, the baseline of labels alone, got "
                f"{', '.join(plain) or 'none'}"
            )
        for arm in design_rules.treatment_arms(self.arms):
            if arm.asks_teacher and not (arm.teacher or self.teacher):
                problems.append(f"arms: {arm.name!r} needs a teacher, and the recipe names none")
        for arm in self.arms:
            if arm.control is not None and not self.treatments_of(arm):
                problems.append(
                    f"arms: {arm.name!r} is a control without a treatment arm: add one with "
                    f"strategy {arm.strategy!r} and the same teacher and objective"
                )
        problems += pool_rules.pool_problems(
            self.arms, self.data, self.spend, self.gold_price, self.gold_share
        )
        if self.draws_rows and isinstance(self.seeds, SeedPlanSection):
            problems.append(
                "seeds: a plan to add seeds does not work where each seed draws its own rows: list "
                "the seeds"
            )
        if len(set(self.replicates)) != len(self.replicates):
            problems.append(f"seeds: {self.replicates} lists a value twice")
        for key, values in (("controls", self.controls), ("baselines", self.baselines)):
            if len(set(values)) != len(values):
                problems.append(f"{key}: {list(values)} lists a value twice")
        try:
            problems += self._omitted_fields(self.resolved_task())
            problems += design_rules.departure_problems(
                self._breaches(), self.departures.model_dump(), self.protocol
            )
        except UsageError as error:
            problems.append(str(error))
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def _omitted_fields(self, task: Task) -> list[str]:
        """Problems of the fields that arms omit, one line each."""
        faults = []
        for arm in self.arms:
            if unknown := [name for name in arm.omits if name not in task.fields]:
                faults.append(
                    f"arms: {arm.name!r} omits {', '.join(unknown)}: expected some of "
                    f"{', '.join(task.fields)}"
                )
            elif set(arm.omits) == set(task.fields):
                faults.append(f"arms: {arm.name!r} omits all fields: leave one as input")
        return faults

    def _breaches(self) -> dict[str, str]:
        return design_rules.protocol_breaches(
            self.arms, self.baselines, self.replicates, self.resolved_task(), self.protocol
        )

    def left_out(self) -> tuple[str, ...]:
        """What the preset leaves out of the full protocol, in words; departures are not in it."""
        search = ("the search on dev",) if self.protocol == "quick" and not self.trials else ()
        task = self.resolved_task()
        return (*design_rules.left_out(self.arms, self.baselines, task, self.protocol), *search)

    def resolved_task(self) -> Task:
        """The task that the key `task` describes."""
        return task_from(self.task)

    @property
    def balanced(self) -> bool:
        """Whether the experiment is about balanced accuracy."""
        return self.metric == "balanced_accuracy"

    @property
    def baseline(self) -> ArmSection:
        """The arm of labels alone."""
        return next(arm for arm in self.arms if arm.is_plain)

    def treatments_of(self, control: ArmSection) -> list[ArmSection]:
        """The treatment arms that `control` is a control of."""
        arms = design_rules.treatment_arms(self.arms)
        return [arm for arm in arms if control in design_rules.controls_of(arm, self.arms)]

    def comparisons(self) -> Families:
        """Which arms are compared with which."""
        return families_of(self.arms, self.baseline)

    def departures_made(self) -> list[Departure]:
        """The recipe's departures from the protocol, with its reasons."""
        reasons = self.departures.model_dump()
        return [Departure(rule, what, reasons[rule]) for rule, what in self._breaches().items()]

    def teacher_of(self, arm: ArmSection) -> TeacherSettings | None:
        """The arm's own teacher, or the recipe's."""
        return arm.teacher or self.teacher

    def configs(self, arm: ArmSection) -> list[Config]:
        """The configurations that the arm chooses from; every arm has the same number.

        An arm of labels alone has no label weight to vary, so it has more learning rates: some
        between those of others. A classifier has its own, and may so have more; trials are equal.
        """
        rates, weights = self.search.learning_rate, self.search.label_weight
        if arm.classifier is not None:
            own = arm.classifier.rates
            filled = filled_up(own, max(len(own), self.configurations))
            return [Config(rate, 1.0) for rate in filled]
        if arm.effective_objective != "label":
            return [Config(rate, weight) for rate, weight in itertools.product(rates, weights)]
        return [Config(rate, 1.0) for rate in filled_up(rates, len(rates) * len(weights))]

    def training(self, arm: ArmSection, config: Config, seed: int) -> TrainSettings:
        """The settings of one training of the arm."""
        settings = self.student.training(config, seed, arm.effective_objective)
        if arm.classifier is None:
            return settings
        limit = arm.classifier.max_source_tokens or settings.max_source_tokens
        return settings.replace(lora=None, compile=False, fast="off", max_source_tokens=limit)

    @property
    def configurations(self) -> int:
        """How many configurations each arm of the student chooses from."""
        return len(self.search.learning_rate) * len(self.search.label_weight)

    @property
    def trials(self) -> int:
        """How many trials each replicate of each arm trains: 0 where there is nothing to choose."""
        drawn = min(self.search.trials, self.configurations)
        return drawn if drawn > 1 else 0

    @property
    def trainings(self) -> int:
        """How many trainings the experiment takes, without fractions of the rows."""
        return len(self.arms) * len(self.replicates) * (self.trials + 1)

    @property
    def draws_rows(self) -> bool:
        """Whether each seed draws its own training rows (see `pool_rules.draws_rows`)."""
        return pool_rules.draws_rows(self.arms, self.data, self.spend)

    @property
    def replicates(self) -> list[int]:
        """The seeds of the replicates; of a plan, those of its last analysis."""
        if isinstance(self.seeds, SeedPlanSection):
            return list(range(self.seeds.at_most))
        return self.seeds

    def with_first_replicates(self, count: int) -> Recipe:
        """The recipe with its first `count` seeds."""
        return self.model_copy(update={"seeds": self.replicates[:count]})

    def to_yaml(self) -> str:
        """The resolved recipe as YAML, which `load_recipe` reads back as an equal one."""
        values = self.model_dump(mode="json", exclude_none=True)
        for arm in values["arms"]:
            if not arm["omits"]:
                del arm["omits"]
        return dump_yaml(values)
