"""Baselines for which nothing is trained like an arm: majority, bag of words, the teacher's labels.

Accuracies are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tutelage.core.results.measurements import Interval
from tutelage.core.types import RationaleStatus


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens as the teacher's server counted them.

    prompt:     sent; None where not every answer says it
    completion: received; None likewise
    """

    prompt: int | None
    completion: int | None


@dataclass(frozen=True, slots=True)
class MajorityBaseline:
    """The most frequent label of the training rows, as the answer to every test row.

    label:     that label
    n:         test rows
    accuracy:  a fraction
    ci95:      its 95% interval over the test rows (or groups of rows)
    ci_method: how the interval was computed, in words
    """

    label: str
    n: int
    accuracy: float
    ci95: Interval
    ci_method: str


@dataclass(frozen=True, slots=True)
class BagOfWordsBaseline:
    """TF-IDF and logistic regression on the training rows, without a student.

    strengths:    values of C (the inverse strength of the penalty) that were tried on dev
    dev_accuracy: of each, fractions
    strength:     the one that dev chose
    features:     n-grams of all fields, and word overlaps between fields
    n:            test rows
    accuracy:     a fraction
    ci95:         its 95% interval over the test rows (or groups of rows)
    ci_method:    how the interval was computed, in words
    """

    strengths: tuple[float, ...]
    dev_accuracy: tuple[float, ...]
    strength: float
    features: int
    n: int
    accuracy: float
    ci95: Interval
    ci_method: str


@dataclass(frozen=True, slots=True)
class TeacherLabelsBaseline:
    """The labels in the teacher's own answers, compared with the gold labels of the training rows.

    arm:             the first arm that uses these answers
    strategy:        of that arm
    model:           the teacher's; None where the data hold the answers
    rows:            training rows
    labelled:        those whose answer names a label of the task
    accuracy:        over the labelled rows, a fraction
    accuracy_of_all: over all rows, those without a label counted as wrong
    ci95:            95% interval of `accuracy` over rows (or groups); it does not cover asking the
                     teacher again
    ci_method:       how the interval was computed, in words
    """

    arm: str
    strategy: str
    model: str | None
    rows: int
    labelled: int
    accuracy: float
    accuracy_of_all: float
    ci95: Interval
    ci_method: str


@dataclass(frozen=True, slots=True)
class TeacherLabelScore:
    """The teacher's answers on the rows of one gold label.

    rows:     rows with this gold label
    accuracy: among them, a fraction; None where there are none
    answered: rows, of any gold label, that the teacher gave this label
    """

    rows: int
    accuracy: float | None
    answered: int


@dataclass(frozen=True, slots=True)
class TeacherBaseline:
    """The teacher asked for the label itself, on a sample of dev.

    model:      the teacher's
    shots:      worked examples in the prompt
    split:      the split that the sample is from
    rows:       in the sample
    accuracy:   over all of them; an answer without a readable label counts as wrong
    ci95:       its 95% interval
    ci_method:  how the interval was computed, in words
    unparsed:   answers without a readable label
    statuses:   answer status -> rows
    unparsed_examples: the beginnings of some such answers
    per_label:  gold label -> scores
    requests:   sent to the teacher by the last call of `tutelage run`
    cached:     answered from the ledger by that call, and not among `requests`
    tokens:     of all these answers, whenever they were requested
    cost_usd:   US dollars for the same; None where an answer has no known price
    """

    model: str
    shots: int
    split: str
    rows: int
    accuracy: float
    ci95: Interval
    ci_method: str
    unparsed: int
    statuses: Mapping[RationaleStatus, int]
    unparsed_examples: tuple[str, ...]
    per_label: Mapping[str, TeacherLabelScore]
    requests: int
    cached: int
    tokens: TokenCounts
    cost_usd: float | None


@dataclass(frozen=True, slots=True)
class Baselines:
    """Scores to compare the arms with, of what is not trained as an arm is.

    The recipe's other baselines are arms with results of their own: students that do not see part
    of the input (`ArmResult.omits`), and classifiers (`ArmResult.classifier`).

    majority:       None where the recipe leaves it out
    teacher_labels: one for each set of answers that names any label; empty where left out
    teacher:        one for each teacher and number of worked examples; empty where none was asked
    teacher_note:   which teachers were not asked for labels, and why; None where all were
    bag_of_words:   None where the recipe leaves it out
    """

    majority: MajorityBaseline | None
    teacher_labels: tuple[TeacherLabelsBaseline, ...]
    teacher: tuple[TeacherBaseline, ...]
    teacher_note: str | None
    bag_of_words: BagOfWordsBaseline | None = None
