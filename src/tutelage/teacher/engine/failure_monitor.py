"""Ends a run in which requests keep failing, but not one with a few bad rows."""

from __future__ import annotations

from tutelage.core.errors import ServerUnreachableError, TeacherError
from tutelage.teacher.teacher import RequestFailedError


class FailureMonitor:
    """Ends a run in which requests keep failing, but not one with a few bad rows.

    proven: True where this teacher has answered before
    """

    FIRST = 5
    """Failures in a row that end the run of a teacher that has never answered."""
    LATER = 20
    """Transient failures in a row, each after all its retries, that end any run."""

    def __init__(self, *, proven: bool, max_failed: int | None) -> None:
        self._proven = proven
        self._max_failed = max_failed
        self._in_a_row = 0
        self.failed = 0

    def succeeded(self) -> None:
        """A request was answered, now or earlier."""
        self._proven = True
        self._in_a_row = 0

    def rows_failed(self, error: RequestFailedError, rows: int) -> None:
        """Count rows without an answer. Raises TeacherError above `max_failed`."""
        self.failed += rows
        if self._max_failed is not None and self.failed > self._max_failed:
            raise TeacherError(
                f"{self.failed} rows failed, more than max_failed: {self._max_failed}; "
                f"the last one: {error}"
            ) from error

    def request_failed(self, error: RequestFailedError, rows: int) -> None:
        """Count a request that failed now, and its rows.

        Raises TeacherError, or ServerUnreachableError after transient failures, to end the run.
        """
        self.rows_failed(error, rows)
        # A working teacher may refuse single rows for good; one that has never answered is broken.
        if error.transient or not self._proven:
            self._in_a_row += 1
        if self._in_a_row >= (self.LATER if self._proven else self.FIRST):
            kind = ServerUnreachableError if error.transient else TeacherError
            raise kind(
                f"{self._in_a_row} requests in a row failed, the last one: {error}; stopped. The "
                "answers so far are kept: run again to continue"
            ) from error
