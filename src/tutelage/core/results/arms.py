"""The arms of an experiment and the comparisons between them, as results.json holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tutelage.core.results.measurements import Comparison, Evaluation, Interval
from tutelage.core.types import ControlName, ObjectiveName, RationaleStatus


@dataclass(frozen=True, slots=True)
class Configuration:
    """What the search on dev varies.

    learning_rate: peak learning rate
    label_weight:  weight of the label segment in the loss, 0 to 1; the rationale segment has the
                   rest
    """

    learning_rate: float
    label_weight: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One training of a replicate's search.

    config:       what was tried
    seed:         of the replicate; its trials are trained under a seed of their own
    dev_accuracy: of its best checkpoint, a fraction; None for a trial that diverged, which is not
                  chosen
    diverged_at:  the optimiser step at which it diverged; None where it did not
    """

    config: Configuration
    seed: int
    dev_accuracy: float | None
    diverged_at: int | None


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What an arm's students were trained on, and how far.

    rows:               training rows, each of which contributes its label
    with_rationale:     those that have a rationale as well
    statuses:           rationale status -> training rows; None for an arm without rationales
    truncated_sources:  rows whose input was cut
    truncated_targets:  rows whose target was cut
    source_tokens_cut:  tokens that inputs lost
    target_tokens_cut:  tokens that targets lost
    sources_cut_beyond: rows whose input lost more than the field that is cut first
    steps_by_seed:      optimiser steps of each seed, in the order of the arm's `seeds`; 0 where
                        nothing was trained, because every trial had diverged
    best_step_by_seed:  the step of the checkpoint that was kept, likewise; 0 where there is none:
                        the most frequent training label answers in place of a student
    diverged_at_by_seed: the step at which the training diverged, likewise; None where it did not
    """

    rows: int
    with_rationale: int
    statuses: Mapping[RationaleStatus, int] | None
    truncated_sources: int
    truncated_targets: int
    source_tokens_cut: int
    target_tokens_cut: int
    sources_cut_beyond: int
    steps_by_seed: tuple[int, ...]
    best_step_by_seed: tuple[int, ...]
    diverged_at_by_seed: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class DevEvaluation:
    """The accuracy on dev of the students that were trained afresh with what dev chose.

    n:                rows
    accuracy:         mean over the seeds, a fraction
    accuracy_by_seed: fractions, in the order of the arm's `seeds`
    truncated:        rows whose input was cut for at least one seed's student
    tokens_cut:       tokens that inputs lost
    cut_beyond:       rows whose input lost more than the field that is cut first
    """

    n: int
    accuracy: float
    accuracy_by_seed: tuple[float, ...]
    truncated: int
    tokens_cut: int
    cut_beyond: int


@dataclass(frozen=True, slots=True)
class TestEvaluation(Evaluation):
    """Scores on the test set of the students that were trained afresh with what dev chose.

    macro_f1_ci95:      95% interval of `macro_f1`; None where there is none
    macro_f1_ci_method: how it was computed, or why there is none
    tokens_cut:         tokens that inputs lost
    cut_beyond:         rows whose input lost more than the field that is cut first
    """

    __test__ = False  # pytest takes classes of this name for tests

    macro_f1_ci95: Interval | None
    macro_f1_ci_method: str
    tokens_cut: int
    cut_beyond: int


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm: how it was trained and what it reached.

    name:          unique among the arms
    strategy:      how its rationales were made; None for an arm that learns labels alone
    objective:     what its students learn to write, and in which order
    control:       the kind of control arm that it is; None for every other arm
    omits:         input fields that its students do not see
    configurations: how many it chose from
    trials:        every training of its searches, by seed; empty where there was one configuration
    seeds:         of its replicates, in rising order; each has one student that is tested
    config_by_seed: the configuration that dev chose in each replicate, in the order of `seeds`;
                   None where every trial diverged
    folder_by_seed: the folder of each student in the run's folder, likewise; it holds `test.jsonl`
    training:      what the students were trained on
    dev:           scores on dev
    test:          scores on the test set
    seeds_share:   of the variance of `test.accuracy`, what comes from the seeds: a fraction; None
                   with one seed, or where there is no variance
    test_unseen:   scores on the test rows whose context no training row has; None where that is
                   all of them or none
    classifier:    the model of an arm whose students are classifiers of labels alone; None where
                   they are the recipe's student
    own_gold:      gold rows of an arm that learns another number of them than labels alone does;
                   None for every other arm
    learns_pool:   whether it learns unlabelled rows, with the labels of a teacher or of a student
    equal_epochs:  whether it trained for as many epochs as the others, not for as many steps
    """

    name: str
    strategy: str | None
    objective: ObjectiveName
    control: ControlName | None
    omits: tuple[str, ...]
    configurations: int
    trials: tuple[Trial, ...]
    seeds: tuple[int, ...]
    config_by_seed: tuple[Configuration | None, ...]
    folder_by_seed: tuple[str, ...]
    training: TrainingSummary
    dev: DevEvaluation
    test: TestEvaluation
    seeds_share: float | None
    test_unseen: TestEvaluation | None
    classifier: str | None = None
    own_gold: int | None = None
    learns_pool: bool = False
    equal_epochs: bool = False

    @property
    def is_control(self) -> bool:
        """Whether it is a control arm (shuffled or scrambled rationales, label echo, filler)."""
        return self.control is not None

    @property
    def is_treatment(self) -> bool:
        """Whether it is a treatment arm: rationales, and not those of a control."""
        return self.strategy is not None and self.control is None

    @property
    def is_plain(self) -> bool:
        """Whether it is the arm of labels alone."""
        special = self.omits or self.classifier is not None or self.own_gold is not None
        return self.strategy is None and not special and not self.equal_epochs

    @property
    def sees_everything(self) -> bool:
        """Whether its students see all input fields."""
        return not self.omits


@dataclass(frozen=True, slots=True)
class ComparisonResult(Comparison):
    """A planned comparison between two arms.

    primary: whether it belongs to the primary family (each treatment arm with labels alone and with
             its shuffled control); the secondary family (other controls) is corrected by itself
    """

    primary: bool


@dataclass(frozen=True, slots=True)
class ShareOfGain:
    """The share of an arm's gain over labels alone that its scrambled control keeps.

    arm, control, baseline: their names
    share:     (control - baseline) / (arm - baseline), a fraction; it may be below 0 or above 1
    ci95:      its 95% interval
    method:    how the interval was computed, in words
    """

    arm: str
    control: str
    baseline: str
    share: float
    ci95: Interval
    method: str


@dataclass(frozen=True, slots=True)
class ContextComparison(Comparison):
    """An arm compared with a baseline that needs no explanation, outside of both families.

    kind: `omits`: a student that does not see some input fields; `majority`: the most frequent
          label of the training rows as the answer to every row; `bag_of_words`: TF-IDF and logistic
          regression; `classifier`: a pretrained model that chooses a label
    """

    kind: Literal["omits", "majority", "bag_of_words", "classifier"]
