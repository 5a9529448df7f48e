"""The progress and the results of an annotation, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tutelage.core.progress import AnnotationProgress
from tutelage.core.types import RATIONALE_STATUSES, RationaleStatus, Usage
from tutelage.teacher.cost.prices import PICO


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """How often a teacher that was not shown the labels of rows gave the same ones.

    rows:   with a label of their own; one without an answer counts, and differs
    agreed: those where the answer's label is the same
    ci95:   Wilson's interval of the share, over rows
    """

    rows: int
    agreed: int
    ci95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Summary:
    """The results of an annotation, in numbers.

    counts:     rows by status; every status is there, and the sum is the number of rows
    requests:   requests with a result in this call; 0 for a teacher that looks answers up
    cached:     requests whose answer was in the ledger
    attempts:   attempts that were sent; more than `requests` where some were retried
    tokens:     of all answers used, the ledger's included, each counted once where it was counted
    cost_usd:   of the same answers, paid in this call or earlier; charges that were lost are not
                included; None where the price of some is not known
    failures:   rows without an answer, by reason; examples: the detail of one row for each reason
    unparsable: rows whose answer the strategy could not parse, by reason; they are `failed` in
                `counts`
    agreement:  of a strategy that labels rows, where some have a label already; else None
    """

    counts: Mapping[RationaleStatus, int]
    requests: int
    cached: int
    attempts: int
    tokens: Usage
    cost_usd: float | None
    failures: Mapping[str, int]
    examples: Mapping[str, str]
    unparsable: Mapping[str, int]
    agreement: LabelAgreement | None = None


@dataclass(slots=True)
class Totals:
    """The numbers behind `Progress` and `Summary`."""

    done: int = 0
    failed: int = 0
    cached: int = 0
    requests: int = 0
    new_tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    pico: int = 0
    new_pico: int = 0
    priced: bool = True
    statuses: Counter[RationaleStatus] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    unparsable: Counter[str] = field(default_factory=Counter)

    def fail(self, reason: str, detail: str) -> None:
        """Count a row without an answer."""
        self.failed += 1
        self.reasons[reason] += 1
        self.examples.setdefault(reason, detail)

    def progress(self, total: int | None, seconds: float) -> AnnotationProgress:
        """The progress so far, of `total` rows and after `seconds`."""
        return AnnotationProgress(
            done=self.done,
            total=total,
            cached=self.cached,
            failed=self.failed,
            requests=self.requests,
            tokens=self.new_tokens,
            cost_usd=self.new_pico / PICO if self.priced else None,
            seconds=seconds,
        )

    def summary(self, attempts: int) -> Summary:
        """The results, after `attempts` attempts."""
        return Summary(
            counts={status: self.statuses[status] for status in RATIONALE_STATUSES},
            requests=self.requests,
            cached=self.cached,
            attempts=attempts,
            tokens=Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens),
            cost_usd=self.pico / PICO if self.priced else None,
            failures=dict(self.reasons),
            examples=dict(self.examples),
            unparsable=dict(self.unparsable),
        )
