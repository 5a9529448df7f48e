"""`Results`: the one object that results.json is the serialised form of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tutelage.core.main_metric import MetricName, metric_in_words
from tutelage.core.results.analyses import (
    ArmDiagnostics,
    ArmExplanations,
    ChoosingOnTest,
    CurvePoint,
    Selection,
)
from tutelage.core.results.arms import (
    ArmResult,
    ComparisonResult,
    Configuration,
    ContextComparison,
    ShareOfGain,
)
from tutelage.core.results.baseline_scores import Baselines, TokenCounts
from tutelage.core.results.measurements import Comparison, Interval
from tutelage.core.results.worth import Worth
from tutelage.core.types import RationaleStatus

FORMAT = 3
"""The number of this form of results.json. Raise it with every change of a key or its meaning. A
key that is added leaves it, where its field has a default that is true of older files."""


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """The task.

    name:    of the task
    fields:  input fields, in the order in which the student sees them
    labels:  in the order in which probabilities and confusion matrices have them
    context: the field that several rows may share (for NLI the premise); None where rows are
             independent
    """

    name: str
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    context: str | None


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """One split of the data.

    rows:       used
    source:     the specification that it was loaded from, as the recipe has it
    unlabelled: rows of that source without a label, left out
    sha256:     of the source's rows, whatever file they came from
    """

    rows: int
    source: str
    unlabelled: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SharedContexts:
    """Rows whose context a training row has too.

    dev:  rows of dev
    test: rows of test
    """

    dev: int
    test: int


@dataclass(frozen=True, slots=True)
class DroppedRows:
    """Rows that a split lost because another split has them.

    split:       that lost them
    other:       that has them too
    equal:       rows equal up to case, punctuation and white space
    swapped:     rows equal so with the two fields of a pair swapped
    near:        rows whose word trigrams are mostly the same, in every field
    same_id:     rows of another text but the same id
    other_label: those of `equal` and `near` whose duplicate has another label
    """

    split: str
    other: str
    equal: int
    swapped: int
    near: int
    same_id: int
    other_label: int


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows with the same or nearly the same text.

    dropped:           from train what dev or test has, from dev what test has
    test_rows_alike:   test rows with nearly the same text as another test row; none is dropped
    test_groups_alike: groups that they form; each is one unit of the statistics
    two_labels:        split -> its rows whose text it also has under another label
    """

    dropped: tuple[DroppedRows, ...] = ()
    test_rows_alike: int = 0
    test_groups_alike: int = 0
    two_labels: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataSummary:
    """The rows of the experiment.

    train, dev, test: the splits
    shared_contexts:  rows of dev and test that share a context with train
    dropped_overlap:  training rows dropped because dev or test has them too
    warnings:         what a reader of the numbers should know about the rows, in sentences
    duplicates:       what was dropped, what is grouped, and texts with two labels
    """

    train: SplitSummary
    dev: SplitSummary
    test: SplitSummary
    shared_contexts: SharedContexts
    dropped_overlap: int
    warnings: tuple[str, ...]
    duplicates: Duplicates = field(default_factory=Duplicates)


@dataclass(frozen=True, slots=True)
class ArmAnnotation:
    """The rationales of one arm.

    model:       the teacher's; None where the data hold the answers
    statuses:    rationale status -> training rows
    requests:    sent to the teacher by the last call of `tutelage run`
    cached:      answered from the ledger by that call, and not among `requests`
    cost_usd:    US dollars for the arm's answers, whenever they were requested; None where an
                 answer has no known price
    shares_with: the first arm with the same requests, whose answers and cost these are; None for
                 that arm itself
    """

    model: str | None
    statuses: Mapping[RationaleStatus, int]
    requests: int
    cached: int
    cost_usd: float | None
    shares_with: str | None


@dataclass(frozen=True, slots=True)
class TeacherSummary:
    """The teacher's rationales. Arms with the same requests share answers, which count once.

    What the teacher took as a baseline is in `Baselines.teacher`.

    requests: sent to the teacher by the last call of `tutelage run`
    cached:   answered from the ledger by that call, and not among `requests`
    tokens:   of all answers, whenever they were requested
    cost_usd: US dollars for the same; None where an answer has no known price
    by_arm:   arm -> its rationales
    """

    requests: int
    cached: int
    tokens: TokenCounts
    cost_usd: float | None
    by_arm: Mapping[str, ArmAnnotation]


@dataclass(frozen=True, slots=True)
class StudentSummary:
    """The student model.

    model:      its name or folder
    parameters: weights of the model, adapters not counted
    settings:   the recipe's `student` section without `model` and `tracking`, defaults included
    """

    model: str
    parameters: int
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProtocolSummary:
    """How much of the protocol the recipe asks for.

    name:     of the preset: `quick`, `standard` or `full`
    left_out: what the preset leaves out of the full protocol, in words; what the recipe takes away
              beyond that is in `Results.departures`
    """

    name: str
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchSummary:
    """How each replicate chose its configuration.

    configurations: that each arm chooses from
    trials:         of them that each replicate of each arm trains, drawn at random; 0 where there
                    is one configuration, and nothing to choose
    replicated:     what was done again in every replicate, so that its chance is in the intervals
    held_fixed:     what was the same in all of them, so that the intervals say nothing about it
    """

    configurations: int
    trials: int
    replicated: tuple[str, ...]
    held_fixed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RecommendedModel:
    """The one model to use: of the recommended arm's replicates, the one that is best on dev.

    arm:          a treatment arm only where it was significantly better than labels alone and than
                  its shuffled control; of several, the one that is best on dev; otherwise labels
                  alone
    better:       whether it is such a treatment arm
    seed:         of the replicate
    config:       with which it was trained
    folder:       of the model in the run's folder
    dev_accuracy: of this model, a fraction; it chose the model, so it is somewhat too high
    accuracy:     test accuracy to expect, a fraction: the mean over all replicates of the arm,
                  because this model was not chosen at random among them
    ci95:         95% interval of `accuracy`
    """

    arm: str
    better: bool
    seed: int
    config: Configuration
    folder: str
    dev_accuracy: float
    accuracy: float
    ci95: Interval


@dataclass(frozen=True, slots=True)
class InterimAnalyses:
    """A plan to add seeds until the comparisons are decided, and how far it went.

    plan:    numbers of seeds at which results are computed
    seeds:   the number at which these results were computed
    level:   of a single test in this analysis, so that all together have 5%; `p_adjusted` of the
             comparisons is adjusted so that 0.05 is the limit as always
    decided: whether each primary difference is significant or shown to lie within the margin
    """

    plan: tuple[int, ...]
    seeds: int
    level: float
    decided: bool


@dataclass(frozen=True, slots=True)
class OtherDifference:
    """A primary difference of another answer.

    arm, baseline: their names
    difference: a fraction
    ci95:       its 95% interval
    p_adjusted: as in `Comparison`
    """

    arm: str
    baseline: str
    difference: float
    ci95: Interval
    p_adjusted: float


OtherChange = Literal["choice", "seeds added", "seeds left out", "planned analysis"]
"""What differs from the other answer: seeds were added to its students, or left out, or it is
another analysis of the plan that both belong to; or anything else: settings, rows, choices."""


@dataclass(frozen=True, slots=True)
class OtherAnswer:
    """An answer of the same run folder, from another opening of the test set.

    time:        of that opening, in UTC
    change:      what this run changed
    seeds:       of that answer
    differences: its primary ones; empty where that call did not get so far
    """

    time: str
    change: OtherChange
    seeds: tuple[int, ...]
    differences: tuple[OtherDifference, ...]


@dataclass(frozen=True, slots=True)
class DepartureResult:
    """A departure from the protocol that the recipe gives a reason for.

    rule:   the part of the protocol: `controls`, `baselines`, `seeds`
    what:   what is missing
    reason: the recipe's
    """

    rule: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What an experiment found: the content of results.json.

    format:           `FORMAT`; a file of another format is refused
    name:             of the recipe
    tutelage_version: that computed these results
    finished:         False in the file that a run writes before its last stages
    task, data, teacher, student: what the experiment was made of
    protocol:         how much of the protocol the recipe asks for
    search:           how configurations were chosen, and what was replicated
    arms:             in the recipe's order
    recommended:      the model to use; None where no training of its arm left a checkpoint
    comparisons:      between arms on all test rows, the primary family first
    comparisons_unseen: the same on the test rows whose context no training row has; empty where
                      that is all of them or none
    context_comparisons: labels alone and each treatment arm compared with baselines; no correction
    control_comparisons: each control arm minus labels alone; descriptive, no correction
    shares_of_gain:   of each significant gain over labels alone, what its scrambled control keeps
    departures:       from the protocol
    choosing_on_test: what choosing on the test set would have claimed; None until the last stage
    explanations:     arm -> the rationales that its student wrote; None until the last stage, or
                      where none was asked to
    diagnostics:      arm -> slices and calibration
    selection:        what the best of k models shows by chance; None until the last stage
    baselines:        scores of what is not an arm: majority, bag of words, the teacher's labels
    learning_curve:   points in rising order of rows, the last on all rows; None where the run was
                      called without fractions
    interim:          the plan to add seeds; None where the recipe lists its seeds
    worth:            what the money bought; None where all seeds learn the same gold rows
    other_answers:    of this run's folder, from other openings of the test set
    test_rows_also_used_by: other runs in the same folder that were evaluated on the same test rows
    training_seconds: arm -> seconds of work of its trainings, some of which ran at the same time
    seconds:          of the last call of `tutelage run`; None until it has finished
    metric:           what dev chose by and arms are compared in. Every field that is called an
                      accuracy holds this metric, and every difference is one of it, except in
                      `diagnostics` and `explanations`, which are about accuracy
    """

    format: int = FORMAT
    name: str
    tutelage_version: str
    finished: bool
    task: TaskSummary
    data: DataSummary
    teacher: TeacherSummary
    student: StudentSummary
    protocol: ProtocolSummary
    search: SearchSummary
    arms: tuple[ArmResult, ...]
    recommended: RecommendedModel | None
    comparisons: tuple[ComparisonResult, ...]
    comparisons_unseen: tuple[ComparisonResult, ...]
    context_comparisons: tuple[ContextComparison, ...]
    control_comparisons: tuple[Comparison, ...] = ()
    shares_of_gain: tuple[ShareOfGain, ...] = ()
    departures: tuple[DepartureResult, ...]
    choosing_on_test: ChoosingOnTest | None
    explanations: Mapping[str, ArmExplanations] | None
    diagnostics: Mapping[str, ArmDiagnostics]
    selection: Selection | None
    baselines: Baselines
    learning_curve: tuple[CurvePoint, ...] | None
    interim: InterimAnalyses | None
    worth: Worth | None = None
    other_answers: tuple[OtherAnswer, ...]
    test_rows_also_used_by: tuple[str, ...]
    training_seconds: Mapping[str, float]
    seconds: float | None
    metric: MetricName = "accuracy"

    @property
    def metric_name(self) -> str:
        """What the metric is called in a sentence: `balanced accuracy`."""
        return metric_in_words(self.metric)

    def arm(self, name: str) -> ArmResult:
        """The arm of this name. KeyError where there is none."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)
