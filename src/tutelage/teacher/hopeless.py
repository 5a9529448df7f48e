"""Stops a run that pays for one unusable answer after another."""

from __future__ import annotations

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TeacherError
from tutelage.core.types import Completion, Rationale

MOST = 20
"""Unusable answers in a row after which a run stops."""


class HopelessError(TeacherError):
    """The answers are of no use, one after the other."""


class HopelessStreak:
    """Counts unusable answers in a row: truncated ones and empty ones. Whether an answer that does
    not parse is of use is the strategy's affair: it neither counts nor ends the row.

    Refusals count only before the first usable answer: a file that is sorted by label may have long
    rows of them. Answers from the ledger count as well, so that a run that was stopped here and is
    called again stops after its first request; but `check` is called only for an answer that was
    just paid for.
    """

    def __init__(self, settings: TeacherSettings | None) -> None:
        self._settings = settings
        self._usable = False
        self._count = 0
        self._hidden = 0
        self._truncated = 0

    def count(self, rationale: Rationale, completion: Completion) -> None:
        """Count the rationale of an answer."""
        if rationale.status == "ok":
            self._usable = True
            self._count = self._hidden = self._truncated = 0
            return
        if rationale.status == "failed" or (rationale.status == "refused" and self._usable):
            return
        self._count += 1
        self._truncated += rationale.status == "truncated"
        written = completion.usage.completion_tokens or 0
        self._hidden += bool(rationale.reasoning) or (not completion.text.strip() and written > 0)

    def check(self) -> None:
        """Raise HopelessError where there were too many."""
        if self._count < MOST:
            return
        raise HopelessError(
            f"{self._count} answers in a row are of no use ({self._truncated} cut at the token "
            f"limit): stopped, so that no more is paid for. {self._advice()}. The answers so far "
            "are kept"
        )

    def _advice(self) -> str:
        limit = self._settings.max_tokens if self._settings is not None else None
        shown = "" if limit is None else f" (now {limit})"
        if self._hidden * 2 >= self._count:
            return (
                "The model spends its tokens on hidden reasoning, which is charged: set "
                "teacher.reasoning_effort to none or low, where the model takes it, or raise "
                f"teacher.max_tokens{shown}"
            )
        if self._truncated * 2 >= self._count:
            return f"Raise teacher.max_tokens{shown}"
        return "Read some with `tutelage plan --pilot 3`, or `tutelage ledger export`"
