"""Refusals that nobody knows: is the row at fault, or would every row be refused?

    row 3: HTTP 400: "bad"  ->  set aside  ->  row 9, sent later, is answered  ->  row 3 is at fault
                                           ->  rows 4 to 8 are refused alike   ->  the run stops

An account without credit or a wrong key, in words that the fault table does not know, must not fail
all remaining rows for good. So a refusal counts as the row's own fault only once a request that was
sent *later* has been answered. If the same refusal comes again and again without an answer in
between, the run stops, and no row fails for it.
"""

from __future__ import annotations

from collections import Counter

from tutelage.teacher.engine.attempt import Undecided
from tutelage.teacher.engine.failures import Action, Fault
from tutelage.teacher.engine.requests import ActiveRequest
from tutelage.teacher.ledger.charges import Failure

FIRST = 5
"""Unknown refusals that stop a run in which nothing has been answered."""
LATER = 20
"""Equal refusals in a row that stop a run in which something has been answered."""


class Judgement:
    """The rows that were set aside, until their refusals are understood."""

    def __init__(self) -> None:
        self._waiting: list[tuple[ActiveRequest, Undecided]] = []
        self._in_a_row: Counter[str] = Counter()
        self._answered = False

    def __len__(self) -> int:
        return len(self._waiting)

    def refused(self, active: ActiveRequest, refusal: Undecided) -> Fault | None:
        """Set a row aside. Returns the fault that ends the run, where these are too many."""
        self._waiting.append((active, refusal))
        signature = refusal.fault.signature
        self._in_a_row[signature] += 1
        alike = self._in_a_row[signature]
        if alike < LATER and (self._answered or self._in_a_row.total() < FIRST):
            return None
        fault = refusal.fault
        count = alike if self._answered else self._in_a_row.total()
        stop = Fault(
            fault.action,
            f"{fault}; {count} requests in a row were refused, and no row fails for it",
            unpaid=True,
            parameter=fault.parameter,
            status=fault.status,
        )
        stop.server = fault.server
        return stop

    def answered(self, sent_at: float | None = None) -> list[tuple[ActiveRequest, Failure]]:
        """Another row has an answer: the rows that are at fault by that.

        sent_at: when its request was sent, on the monotonic clock; None: earlier, by another run
        """
        self._answered = True
        self._in_a_row.clear()
        if not self._waiting or sent_at is None:
            return []
        at_fault = [one for one in self._waiting if one[1].seen_at <= sent_at]
        self._waiting = [one for one in self._waiting if one[1].seen_at > sent_at]
        return [(row, Failure("refused", str(refusal.fault), False)) for row, refusal in at_fault]

    def undecided(self) -> list[tuple[ActiveRequest, Failure]]:
        """At the end: the rows of which nothing is known. The next call makes them again."""
        rest, self._waiting = self._waiting, []
        return [(row, Failure("refused", _undecided(refusal.fault), True)) for row, refusal in rest]


def _undecided(fault: Fault) -> str:
    about = "" if fault.action is Action.JUDGE else f" ({fault.action.value.partition(':')[0]})"
    return f"{fault}{about}; no request was answered after it"
