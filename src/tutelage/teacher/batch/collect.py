"""Taking a batch's answers into the ledger, line by line, in any order, as often as need be.

A line settles its question once: what was settled before, by a call that was killed, is passed
over. What no line settles costs nothing, unless the server says that it has answered more than we
can read: then so many of the dearest stay charged.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from tutelage.core.types import Completion
from tutelage.teacher.batch import table
from tutelage.teacher.batch.jsonl import Line, RemoteBatch, read_line
from tutelage.teacher.engine.failures import Verdict
from tutelage.teacher.ledger.charges import Failure, keep_answer, note_failure, release
from tutelage.teacher.ledger.store import Ledger

_GROUP = 500
"""Lines that share a transaction."""
_MISSING = "no line came back for it"


@dataclass(slots=True)
class Tally:
    """What became of the questions of the batches that ended.

    answered:   answers that are in the ledger now
    refused:    questions that failed for good (the ledger's `failures` say why)
    returned:   by reason, questions to be asked again; nothing is charged for them
    lost:       likewise, but charged at their worst case: the server may have taken money, and
                there is no answer, or none that can be read
    duplicates, strays, broken: lines that came twice, were nobody's, or were no JSON
    problems:   by message, faults that asking again would only repeat
    """

    answered: int = 0
    refused: int = 0
    returned: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    duplicates: int = 0
    strays: int = 0
    broken: int = 0
    problems: Counter[str] = field(default_factory=Counter)


class Intake:
    """One batch's output and error files on their way into the ledger.

    rename: whether a line failed only because `max_tokens` has another name for the model
    """

    def __init__(self, ledger: Ledger, row: table.BatchRow, tally: Tally) -> None:
        self.rename = False
        self._ledger = ledger
        self._row = row
        self._tally = tally
        self._questions, self._price = table.contents_of(ledger, row.id)
        self._charges = table.charges_of(ledger, row.id)
        self._seen: set[str] = set()
        self._unread: set[str] = set()  # answered, but not so that anybody could read it, or 5xx
        self._nameless = 0  # likewise, and nobody knows which
        self._reasons: dict[str, str] = {}
        self._good = self._answered = self._refused = 0

    def read(self, lines: Iterable[str], on_group: Callable[[], None], *, output: bool) -> None:
        """Settle what the lines of one file say. on_group is called after each transaction.

        output: whether it is the file of answers, not the one of errors
        """
        stream = map(read_line, lines)
        while group := list(islice(stream, _GROUP)):
            found = [line for line in group if self._is_news(line, output)]
            if found:
                self._ledger.transact(partial(self._keep, lines=found))
            for line in found:
                del self._charges[line.key]
                failed = _is_final(line)
                self._refused += failed
                self._answered += not failed
                self._tally.refused += failed
                self._tally.answered += not failed
            on_group()

    def _is_news(self, line: Line, output: bool) -> bool:
        """Whether a line settles a question now: an answer, or a refusal for good."""
        tally = self._tally
        if not line.key:
            tally.broken += 1
            self._nameless += output
            return False
        if line.key not in self._questions:
            tally.strays += 1
            return False
        if line.key in self._seen:
            tally.duplicates += 1
            return False
        if line.billed and line.completion is None:
            self._unread.add(line.key)
            return False
        self._seen.add(line.key)
        self._good += line.completion is not None
        if line.key not in self._charges:
            return False  # settled by an earlier call
        fault = line.fault
        if fault is None or fault.verdict is Verdict.REFUSED or _is_final(line):
            return True
        self._reasons[line.key] = str(fault)
        self.rename |= line.rename
        if fault.verdict is not Verdict.RETRY and not line.rename:
            tally.problems[str(fault)] += 1
        return False

    def _keep(self, connection: sqlite3.Connection, lines: list[Line]) -> None:
        for line in lines:
            request = self._questions[line.key]
            charge = self._charges[line.key].id
            if _is_final(line):
                release(connection, [charge])
                failure = Failure("refused", str(line.fault), transient=False)
                note_failure(connection, line.key, request.strategy, failure)
                continue
            completion, cost = line.completion, None
            if completion is None:  # the filter's refusal, which costs nothing
                completion, cost = Completion("", "content_filter"), 0
            elif self._price is not None:
                cost = self._price.cost(completion.usage)
            keep_answer(
                connection,
                charge,
                line.key,
                request,
                completion,
                identity=self._row.identity,
                cost=cost,
            )

    def finish(self, remote: RemoteBatch) -> None:
        """End the batch: nothing more will come."""
        left = self._charges
        unread = sorted(self._unread.intersection(left))
        missing = set(left).difference(unread, self._reasons)
        doubtful = max(len(unread) + self._nameless, (remote.completed or 0) - self._good)
        dearest = sorted(missing, key=lambda key: (-left[key].pico, key))
        lost = [*unread, *dearest][:doubtful]
        self._tally.lost += len(lost)
        for key in set(left).difference(lost):
            self._tally.returned[self._reasons.get(key, _MISSING)] += 1
        again = len(left) - len(lost)
        detail = (
            f"{remote.status}: {self._answered} answered, {self._refused} refused, "
            f"{again} to ask again" + (f", {len(lost)} lost" if lost else "")
        )
        charges = [left[key].id for key in lost]
        self._ledger.transact(
            lambda connection: table.end(connection, self._row.id, detail, charges)
        )


def _is_final(line: Line) -> bool:
    """Whether this question failed for good, and no other with it."""
    fault = line.fault
    return fault is not None and fault.verdict is Verdict.ROW and not line.rename
