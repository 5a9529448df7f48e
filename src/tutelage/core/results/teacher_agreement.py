"""How often a teacher gives the label that people gave, measured before most of it is paid for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tutelage.core.results.baseline_scores import TokenCounts
from tutelage.core.results.measurements import Interval
from tutelage.core.types import RationaleStatus


@dataclass(frozen=True, slots=True)
class LabelAgreementResult:
    """One label of the sample.

    rows:      with this gold label
    recall:    the share of them that got the label; None without rows
    ci95:      its Wilson interval; None likewise
    answered:  rows, of any gold label, that got it
    share:     the label's estimated share among the unlabelled rows
    precision: the share of right answers among the unlabelled rows that get the label, if its share
               and the others' are as estimated; None where that cannot be said
    """

    rows: int
    recall: float | None
    ci95: Interval | None
    answered: int
    share: float
    precision: float | None


@dataclass(frozen=True, slots=True)
class TeacherAgreement:
    """One teacher's answers about labelled training rows, whose labels it did not see.

    model, strategy: the teacher, and how it was asked
    shots:           labelled rows in every prompt; none of them is in the sample
    rows:            in the sample
    accuracy:        over all of them; an answer without a label counts as wrong
    ci95, ci_method: its 95% interval, and how it was computed, in words
    without_label:   answers without a label
    statuses:        answer status -> rows
    per_label:       gold label -> its figures
    shares_from:     where the labels' shares among the unlabelled rows are from: the teacher's
                     answers about some of them, or the training rows
    pool_answers:    answers about unlabelled rows that these are from
    majority_label:  the most frequent label of the training rows
    majority_share:  the accuracy of always answering it: its share of them; or that balanced
                     accuracy, one divided by the number of labels
    student_accuracy: on dev, of students of labels alone; None where it is not known
    requests, cached: as for `TeacherBaseline`
    tokens, cost_usd: of all these answers, whenever they were requested; the cost is None where an
                     answer has no known price
    """

    model: str
    strategy: str
    shots: int
    rows: int
    accuracy: float
    ci95: Interval
    ci_method: str
    without_label: int
    statuses: Mapping[RationaleStatus, int]
    per_label: Mapping[str, LabelAgreementResult]
    shares_from: Literal["answers", "training rows"]
    pool_answers: int
    majority_label: str
    majority_share: float
    student_accuracy: float | None
    requests: int
    cached: int
    tokens: TokenCounts
    cost_usd: float | None
