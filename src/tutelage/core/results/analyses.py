"""What results.json says beyond the planned comparisons: diagnostics, selection, explanations, …

Nothing here decides the answer to whether the rationales helped. Accuracies are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.core.results.baseline_scores import TokenCounts
from tutelage.core.results.measurements import (
    Calibration,
    Interval,
    ReliabilityBin,
    RiskCoverage,
    SliceAccuracy,
)
from tutelage.core.types import ControlName


@dataclass(frozen=True, slots=True)
class SliceDifference:
    """Arm minus labels alone on one slice.

    difference: a fraction
    ci95:       its 95% interval, not corrected
    p_value:    two-sided
    p_adjusted: after Holm's correction over the `family` slices of the same kind
    family:     slices that are corrected together
    """

    difference: float
    ci95: Interval
    p_value: float
    p_adjusted: float
    family: int


@dataclass(frozen=True, slots=True)
class SliceResult(SliceAccuracy):
    """An arm's accuracy on one slice of the test rows.

    difference: from labels alone; None for every arm that is not a treatment arm
    """

    difference: SliceDifference | None


@dataclass(frozen=True, slots=True)
class ArmDiagnostics:
    """Where one arm is right on the test set, and how well its confidence tells.

    by_label:      slices by gold label
    by_tag:        slices by the rows' tags, those with most rows first; a row may be in several
    by_length:     quartiles of the number of words in the field `length_of`
    length_of:     the field that `by_length` measures
    calibration:   confidence compared with accuracy
    reliability:   accuracy by confidence, in bins of about equally many predictions
    risk_coverage: error rate among the most confident predictions
    """

    by_label: tuple[SliceResult, ...]
    by_tag: tuple[SliceResult, ...]
    by_length: tuple[SliceResult, ...]
    length_of: str
    calibration: Calibration
    reliability: tuple[ReliabilityBin, ...]
    risk_coverage: RiskCoverage


@dataclass(frozen=True, slots=True)
class ArmSelection:
    """The best of an arm's models on the test set, and how much of that chance explains.

    models:          its trials that did not diverge, and the students that were tested
    best_accuracy:   the highest test accuracy among them, a fraction
    chosen_accuracy: test accuracy of the students that were tested, mean over the seeds
    gain:            best_accuracy - chosen_accuracy
    spread:          standard deviation of the accuracies of the tested students on these rows,
                     taken to be that of equally good models: too high where seeds chose
                     configurations of unequal worth; None with one seed, which does not show it
    gain_by_chance:  how far the best of `models` equally good models lies above their mean, on
                     average; None with one seed
    """

    models: int
    best_accuracy: float
    chosen_accuracy: float
    gain: float
    spread: float | None
    gain_by_chance: float | None


@dataclass(frozen=True, slots=True)
class BestOf:
    """What choosing the best of several equally good models adds.

    models:         to choose from
    gain_by_chance: as in `ArmSelection`, for models like those of `Selection.baseline`; None with
                    one seed
    """

    models: int
    gain_by_chance: float | None


@dataclass(frozen=True, slots=True)
class Selection:
    """What choosing the best of k models on the test set shows by chance.

    baseline: the arm of labels alone, whose models `best_of` is about
    by_arm:   arm -> its models
    best_of:  other numbers of models, in rising order
    """

    baseline: str
    by_arm: Mapping[str, ArmSelection]
    best_of: tuple[BestOf, ...]


@dataclass(frozen=True, slots=True)
class BestOnTest:
    """The best of one arm's models on the test set.

    best_accuracy: a fraction
    models_tried:  its trials that did not diverge, and the students that were tested
    """

    best_accuracy: float
    models_tried: int


@dataclass(frozen=True, slots=True)
class ClaimOnTest:
    """The difference that choosing on the test set would have claimed.

    arm, baseline: of a primary comparison
    difference:    best test accuracy of the arm minus that of the baseline, a fraction
    """

    arm: str
    baseline: str
    difference: float


@dataclass(frozen=True, slots=True)
class ChoosingOnTest:
    """What would have been claimed had each arm's best model been chosen on the test set.

    by_arm: arm -> its best model
    claims: one for each primary comparison
    """

    by_arm: Mapping[str, BestOnTest]
    claims: tuple[ClaimOnTest, ...]


@dataclass(frozen=True, slots=True)
class MeanWithInterval:
    """A mean over rows.

    mean: of scores from 0 to 1, or a difference of two such means
    ci95: its 95% interval over the rows (or groups) of one student; None with fewer than two groups
    """

    mean: float
    ci95: Interval | None


@dataclass(frozen=True, slots=True)
class LabelPredictability:
    """How well a text classifier predicts the gold label from the rationale alone.

    as_written:   accuracy on the rationales as they were written
    masked:       accuracy with the words that name a label masked
    majority:     accuracy without any text: the most frequent training label
    leakage:      as_written - masked: what the label's own words give away
    gain:         masked - majority: what the rest of the rationale says about the label
    trained_on:   rationales that the classifier was trained on: those that the arm learned
    """

    as_written: MeanWithInterval
    masked: MeanWithInterval
    majority: MeanWithInterval
    leakage: MeanWithInterval
    gain: MeanWithInterval
    trained_on: int


@dataclass(frozen=True, slots=True)
class ArmExplanations:
    """The rationales that one arm's student wrote about a sample of test rows.

    seed:         of the student
    rows:         explained
    empty:        rows for which it wrote no rationale
    cut:          rows for which it reached the token limit before the end
    mean_words:   words of a rationale, on average
    mean_tokens:  tokens written, label and separators included, on average
    label_agreement: fraction of rows whose text names the label that the student predicts; None
                  where its objective writes no label with the rationale
    references:   what the texts are compared with; None where no row has a reference
    referenced:   rows that have a reference
    rouge_l:      ROUGE-L F1 with the most similar reference, 0 to 1; None without references
    chrf:         chrF with the most similar reference, 0 to 1; None without references
    label_predictability: None where there is too little to train or test the classifier
    label_predictability_missing: why it is None; None where it is there
    """

    seed: int
    rows: int
    empty: int
    cut: int
    mean_words: float
    mean_tokens: float
    label_agreement: float | None
    references: str | None
    referenced: int
    rouge_l: MeanWithInterval | None
    chrf: MeanWithInterval | None
    label_predictability: LabelPredictability | None
    label_predictability_missing: str | None


@dataclass(frozen=True, slots=True)
class CurveArm:
    """One arm trained on a fraction of the training rows.

    name:           of the arm
    control:        the kind of control arm that it is; None for every other arm
    with_rationale: training rows with a rationale
    dev_accuracy:   mean over the seeds, a fraction
    ci95:           its 95% interval
    by_seed:        accuracy of each seed
    """

    name: str
    control: ControlName | None
    with_rationale: int
    dev_accuracy: float
    ci95: Interval
    by_seed: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CurveDifference:
    """A treatment arm minus labels alone, on dev, with the same number of training rows.

    arm, baseline: their names
    difference:    a fraction
    ci95:          its 95% interval, not corrected for the number of differences
    test:          how the interval was computed, in words
    """

    arm: str
    baseline: str
    difference: float
    ci95: Interval
    test: str


@dataclass(frozen=True, slots=True)
class CurveAnnotation:
    """What the rationales of these training rows took.

    arm:      its name
    requests: distinct requests; 0 where answers were looked up
    cost_usd: US dollars; None where an answer has no known price
    tokens:   of the answers
    """

    arm: str
    requests: int
    cost_usd: float | None
    tokens: TokenCounts


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One fraction of the training rows.

    fraction:    as it was requested
    rows:        training rows, near that fraction since groups stay whole
    dev_rows:    rows of dev
    arms:        every arm
    differences: every treatment arm minus labels alone
    annotation:  every treatment arm's rationales
    """

    fraction: float
    rows: int
    dev_rows: int
    arms: tuple[CurveArm, ...]
    differences: tuple[CurveDifference, ...]
    annotation: tuple[CurveAnnotation, ...]
