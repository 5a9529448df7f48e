"""Stores the answers of a batch in the ledger, line by line, in any order, and repeatably.

Each line settles its request once: lines that an earlier, killed call has settled are skipped. A
request that no line settles costs nothing, unless the server reports more answers than could be
parsed: then that number of the most expensive ones stay charged.
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
from tutelage.teacher.batch.jsonl import Line, RemoteBatch, parse_line
from tutelage.teacher.clients.dialect import Dialect
from tutelage.teacher.clients.openai_api import OPENAI
from tutelage.teacher.engine.failures import Action
from tutelage.teacher.ledger.charges import Failure, release, store_answer, store_failure
from tutelage.teacher.ledger.store import Ledger

_GROUP = 500
"""Lines per transaction."""
_MISSING = "no line came back for it"


@dataclass(slots=True)
class BatchCounts:
    """The results of the requests of the batches that have ended.

    answered:   answers that are in the ledger now
    refused:    requests that failed for good (the ledger's `failures` say why)
    returned:   requests to retry, by reason; nothing is charged for them
    lost:       likewise, but charged at their worst case: the server may have charged for them, and
                there is no answer, or none that can be parsed
    duplicates: lines for a request that an earlier line has settled
    strays:     lines for no request of the batch
    broken:     lines that are not JSON or have no id
    problems:   faults that a retry would only repeat, by message
    """

    answered: int = 0
    refused: int = 0
    returned: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    duplicates: int = 0
    strays: int = 0
    broken: int = 0
    problems: Counter[str] = field(default_factory=Counter)


class BatchCollector:
    """Stores the lines of one batch's output and error files in the ledger.

    rename: whether a line failed only because the model has another name for `max_tokens`
    """

    def __init__(
        self,
        ledger: Ledger,
        row: table.BatchRow,
        counts: BatchCounts,
        dialect: Dialect = OPENAI,
    ) -> None:
        self.rename = False
        self._dialect = dialect
        self._ledger = ledger
        self._row = row
        self._counts = counts
        self._requests, self._price = table.contents_of(ledger, row.id)
        self._charges = table.charges_of(ledger, row.id)
        self._seen: set[str] = set()
        self._unparsable: set[str] = set()  # keys of lines that may be billed, without an answer
        self._unidentified = 0  # likewise, lines without a key
        self._reasons: dict[str, str] = {}
        self._suspects: dict[str, Line] = {}  # refused, and others of the batch decide why
        self._good = self._answered = self._refused = 0

    def read(self, lines: Iterable[str], on_group: Callable[[], None], *, output: bool) -> None:
        """Settle the requests that the lines of one file belong to.

        on_group: called after each transaction
        output:   whether it is the output file; False: the error file
        """
        stream = (parse_line(line, self._dialect) for line in lines)
        while group := list(islice(stream, _GROUP)):
            found = [line for line in group if self._settles(line, output)]
            if found:
                self._ledger.transact(partial(self._keep, lines=found))
            for line in found:
                del self._charges[line.key]
                failed = _is_final(line)
                self._refused += failed
                self._answered += not failed
                self._counts.refused += failed
                self._counts.answered += not failed
            on_group()

    def _settles(self, line: Line, output: bool) -> bool:
        """Whether a line settles a request now: with an answer, or a permanent refusal."""
        counts = self._counts
        if not line.key:
            counts.broken += 1
            self._unidentified += output
            return False
        if line.key not in self._requests:
            counts.strays += 1
            return False
        if line.key in self._seen:
            counts.duplicates += 1
            return False
        if line.billed and line.completion is None:
            self._unparsable.add(line.key)
            return False
        self._seen.add(line.key)
        self._good += line.completion is not None
        if line.key not in self._charges:
            return False  # settled by an earlier call
        fault = line.fault
        if fault is None or fault.action is Action.KEEP_REFUSAL or _is_final(line):
            return True
        judged = fault.action is Action.JUDGE or (fault.inferred and fault.action in _ABOUT_ALL)
        if judged and not line.rename:
            self._suspects[line.key] = line
            return False
        self._reasons[line.key] = str(fault)
        self.rename |= line.rename
        if fault.action is not Action.RETRY and not line.rename:
            counts.problems[str(fault)] += 1
        return False

    def _keep(self, connection: sqlite3.Connection, lines: list[Line]) -> None:
        for line in lines:
            request = self._requests[line.key]
            charge = self._charges[line.key].id
            if _is_final(line) or line.key in self._suspects:
                release(connection, [charge])
                failure = Failure("refused", str(line.fault), transient=False)
                store_failure(connection, line.key, request.strategy, failure)
                continue
            completion, cost = line.completion, None
            if completion is None:  # a refusal of the content filter, which costs nothing
                completion, cost = Completion("", "content_filter"), 0
            elif completion.pico is not None:  # the server has said what it charges
                cost = completion.pico
            elif self._price is not None:
                cost = self._price.cost(completion.usage)
            store_answer(
                connection,
                charge,
                line.key,
                request,
                completion,
                identity=self._row.identity,
                cost=cost,
            )

    def finish(self, remote: RemoteBatch) -> None:
        """End the batch after its last line."""
        self._judge()
        left = self._charges
        unparsable = sorted(self._unparsable.intersection(left))
        missing = set(left).difference(unparsable, self._reasons)
        doubtful = max(len(unparsable) + self._unidentified, (remote.completed or 0) - self._good)
        most_expensive = sorted(missing, key=lambda key: (-left[key].pico, key))
        lost = [*unparsable, *most_expensive][:doubtful]
        self._counts.lost += len(lost)
        for key in set(left).difference(lost):
            self._counts.returned[self._reasons.get(key, _MISSING)] += 1
        again = len(left) - len(lost)
        detail = (
            f"{remote.status}: {self._answered} answered, {self._refused} refused, "
            f"{again} to retry" + (f", {len(lost)} lost" if lost else "")
        )
        charges = [left[key].id for key in lost]
        self._ledger.transact(
            lambda connection: table.end(connection, self._row.id, detail, charges)
        )

    def _judge(self) -> None:
        """Settle what only the other rows can explain: where some were answered with the same
        settings, a refused row is at fault; where none was, they all are, and nothing is held
        against the rows."""
        suspects = [line for key, line in self._suspects.items() if key in self._charges]
        if not self._good:
            for line in suspects:
                self._reasons[line.key] = str(line.fault)
                self._counts.problems[str(line.fault)] += 1
            return
        for start in range(0, len(suspects), _GROUP):
            group = suspects[start : start + _GROUP]
            self._ledger.transact(partial(self._keep, lines=group))
            for line in group:
                del self._charges[line.key]
            self._refused += len(group)
            self._counts.refused += len(group)


_ABOUT_ALL = frozenset({Action.STOP_MODEL, Action.STOP_PARAMETER, Action.STOP_SERVER})


def _is_final(line: Line) -> bool:
    """Whether this request, and no other with it, failed for good."""
    fault = line.fault
    return fault is not None and fault.action is Action.FAIL_REQUEST and not line.rename
