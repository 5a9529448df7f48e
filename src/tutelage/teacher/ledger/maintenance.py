"""Maintenance of a ledger: its contents and costs, pruning, open batches.

Pruning does not change what is charged: a budget counts what was paid, even for answers that were
deleted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tutelage.config.teacher_settings import KEY_VARIABLES, TeacherSettings
from tutelage.core.errors import UsageError
from tutelage.teacher.batch.batches import Batches, forget, rows_of
from tutelage.teacher.batch.table import BatchRow, row_of
from tutelage.teacher.cost.budget import Budget
from tutelage.teacher.cost.prices import PICO
from tutelage.teacher.ledger.charges import Session
from tutelage.teacher.ledger.store import Ledger, default_path
from tutelage.teacher.registry import open_teacher

_DAY_S = 86_400.0

DIGEST_PREFIX, SHORT_LENGTH = "gguf-sha256:", 12
"""The prefix of a model file's identity, and the number of its digits that people are shown."""


@dataclass(frozen=True, slots=True)
class AnswerGroup:
    """The answers of one teacher to one strategy.

    prompt_tokens, completion_tokens: those that the server counted
    uncounted: answers whose tokens it did not count
    usd:       their known cost
    unpriced:  answers whose cost is unknown
    """

    identity: str
    model: str
    strategy: str
    answers: int
    prompt_tokens: int
    completion_tokens: int
    uncounted: int
    usd: float
    unpriced: int


@dataclass(frozen=True, slots=True)
class BudgetState:
    """What is charged to one budget, in US dollars.

    paid: for answers
    held: for open requests, at their worst case
    lost: for requests that were sent and left no answer, at their worst case

    held, lost (without `_usd`): numbers of requests
    """

    scope: str
    charged_usd: float
    paid_usd: float
    held_usd: float
    lost_usd: float
    held: int
    lost: int


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Requests without an answer, by reason. final: only `--retry-failed` makes them again."""

    strategy: str
    reason: str
    final: bool
    requests: int
    example: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The contents of a ledger. batches: those that have not ended."""

    path: str
    answers: tuple[AnswerGroup, ...]
    budgets: tuple[BudgetState, ...]
    batches: tuple[BatchRow, ...]
    failures: tuple[FailureGroup, ...]


@dataclass(frozen=True, slots=True)
class FailureLine:
    """One request that failed."""

    key: str
    strategy: str
    reason: str
    detail: str
    final: bool


def open_existing(path: Path | None) -> Ledger:
    """The ledger at `path` (None: at the default path). Raises UsageError where there is none."""
    path = default_path() if path is None else path
    if not path.exists():
        raise UsageError(
            f"{path}: there is no such ledger: run this in the folder where the annotation ran, or "
            "name the file with --ledger or TUTELAGE_LEDGER"
        )
    return Ledger(path)


def overview(ledger: Ledger) -> Overview:
    """The contents of a ledger, and what they have cost."""
    with ledger.reader() as connection:
        answers = connection.execute(
            "SELECT identity, model, strategy, count(*), coalesce(sum(prompt_tokens), 0), "
            "coalesce(sum(completion_tokens), 0), "
            "sum(prompt_tokens IS NULL OR completion_tokens IS NULL), coalesce(sum(pico), 0), "
            "sum(pico IS NULL) "
            "FROM answers GROUP BY identity, model, strategy ORDER BY 1, 2, 3"
        ).fetchall()
        charged = connection.execute("SELECT scope, charged FROM budgets ORDER BY 1").fetchall()
        charges = connection.execute(
            "SELECT scope, state = 'lost', count(*), sum(pico) FROM charges GROUP BY 1, 2"
        ).fetchall()
        failures = connection.execute(
            "SELECT strategy, reason, NOT transient, count(*), min(detail) FROM failures "
            "GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2"
        ).fetchall()
    by_scope = {(scope, bool(lost)): (count, pico) for scope, lost, count, pico in charges}
    sums = dict(charged)
    scopes = sorted({*sums, *(scope for scope, _ in by_scope)})
    return Overview(
        path=str(ledger.path),
        answers=tuple(
            AnswerGroup(
                identity, model, strategy, count, entry, written, uncounted, pico / PICO, unpriced
            )
            for identity, model, strategy, count, entry, written, uncounted, pico, unpriced in (
                answers
            )
        ),
        budgets=tuple(_budget(scope, sums.get(scope, 0), by_scope) for scope in scopes),
        batches=tuple(rows_of(ledger, states=["building", "creating", "open"])),
        failures=tuple(
            FailureGroup(strategy, reason, bool(final), count, detail)
            for strategy, reason, final, count, detail in failures
        ),
    )


def _budget(
    scope: str, charged: int, charges: Mapping[tuple[str, bool], tuple[int, int]]
) -> BudgetState:
    held, held_pico = charges.get((scope, False), (0, 0))
    lost, lost_pico = charges.get((scope, True), (0, 0))
    # From the sum, not from the answers: those may have been pruned, or paid from another budget.
    paid = charged - held_pico - lost_pico
    return BudgetState(
        scope, charged / PICO, paid / PICO, held_pico / PICO, lost_pico / PICO, held, lost
    )


def failures(ledger: Ledger) -> list[FailureLine]:
    """Every request that failed, the newest last."""
    with ledger.reader() as connection:
        rows = connection.execute(
            "SELECT key, strategy, reason, detail, NOT transient FROM failures ORDER BY created"
        ).fetchall()
    return [
        FailureLine(key.hex(), strategy, reason, detail, bool(final))
        for key, strategy, reason, detail, final in rows
    ]


@dataclass(frozen=True, slots=True)
class Pruning:
    """Which answers to delete: those that match every field; None matches all.

    identity:        of the teacher; of a model file's digest the digits that are shown are enough
    older_than_days: age of the answer, in days
    """

    strategy: str | None = None
    model: str | None = None
    identity: str | None = None
    older_than_days: float | None = None

    def __post_init__(self) -> None:
        named = (self.strategy, self.model, self.identity, self.older_than_days)
        if all(value is None for value in named):
            raise UsageError(
                "prune: no answers are selected: give --strategy, --model, --identity or "
                "--older-than"
            )
        if self.older_than_days is not None and not self.older_than_days >= 0:
            raise UsageError(f"prune: got {self.older_than_days} days, expected 0 or more")


def is_digest(identity: str) -> bool:
    """Whether an identity is a model file's digest, whole or as short as it is shown."""
    return identity.startswith(DIGEST_PREFIX) and len(identity) >= len(DIGEST_PREFIX) + SHORT_LENGTH


_PRUNED = (
    "WHERE (:strategy IS NULL OR strategy = :strategy) AND (:model IS NULL OR model = :model) "
    "AND (:identity IS NULL OR identity = :identity "
    "OR substr(identity, 1, length(:digest)) = :digest) "
    "AND (:before IS NULL OR created < :before)"
)


def _values(which: Pruning) -> dict[str, object]:
    days = which.older_than_days
    return {
        "strategy": which.strategy,
        "model": which.model,
        "identity": which.identity,
        "digest": which.identity if is_digest(which.identity or "") else None,
        "before": None if days is None else time.time() - days * _DAY_S,
    }


def would_prune(ledger: Ledger, which: Pruning) -> tuple[int, float]:
    """How many answers `prune` would delete, and the US dollars that they cost."""
    with ledger.reader() as connection:
        count, pico = connection.execute(
            f"SELECT count(*), coalesce(sum(pico), 0) FROM answers {_PRUNED}", _values(which)
        ).fetchone()
    return count, pico / PICO


def prune(ledger: Ledger, which: Pruning) -> int:
    """Delete answers for good and shrink the file; returns how many were deleted.

    What they cost stays charged.
    """
    deleted = ledger.transact(
        lambda connection: connection.execute(f"DELETE FROM answers {_PRUNED}", _values(which))
    ).rowcount
    with ledger.reader() as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted


def cancel_batch(ledger: Ledger, number: int, base_url: str | None = None) -> bool:
    """Cancel an open batch; returns False where it has ended. A later run collects its answers.

    base_url: of the server, where the stored one (which has no query) is not enough

    Raises UsageError for a batch that is not open.
    """
    row = _open_row(ledger, number)
    if row.state != "open":
        raise UsageError(
            f"batch {number}: its id on the server is not known: repeat the run of {row.scope!r}, "
            f"which looks for it, or use `tutelage ledger batches --adopt {number}=ITS-ID`"
        )
    with Session(ledger) as session, _batches(session, row, base_url) as batches:
        return batches.cancel([number]) == 1


def adopt_batch(ledger: Ledger, number: int, remote_id: str, base_url: str | None = None) -> None:
    """Record the server's id of a batch whose creation was never confirmed."""
    row = _open_row(ledger, number)
    with Session(ledger) as session, _batches(session, row, base_url) as batches:
        batches.adopt(number, remote_id)


def forget_batch(ledger: Ledger, number: int) -> int:
    """Give a batch up; returns how many requests it held. See `batches.forget`."""
    with Session(ledger) as session:
        return forget(session, number)


def _open_row(ledger: Ledger, number: int) -> BatchRow:
    row = row_of(ledger, number)
    if row is None or row.state == "ended":
        raise UsageError(f"batch {number}: no open batch has this number")
    return row


def _batches(session: Session, row: BatchRow, base_url: str | None) -> Batches:
    # Where requests are part of the call, the place of the file's id names the dialect.
    scheme = (row.file_id or "").partition(":")[0]
    teacher = open_teacher(
        TeacherSettings(
            model=f"{scheme if scheme in KEY_VARIABLES else 'openai'}:{row.model}",
            max_tokens=1,  # some servers need one; nothing is requested
            base_url=base_url or row.base_url,
            api_key_env=row.key_env,
            provider=row.identity,  # even if the address has changed
        )
    )
    return Batches(session, teacher, Budget(row.scope, None, None))
