"""Shards: parts of a ledger that a worker writes on its own disk, and that are merged, each once.

    the worker's ledger -> a closed shard, next to it -> its copy in a shared folder -> the ledger
                                                          (from here on, it is recorded)

A worker's ledger is an ordinary one. Its charges are leases of the main ledger, with their numbers
there. Whatever ends a charge is noted by a trigger, so that no shard can lack it. A closed shard is
a single SQLite file that never changes; its name has the digest of its content, so that a file that
was copied in part, or damaged, is recognised. SQLite's write-ahead log stays on local disks.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tutelage.core.errors import RunFolderError
from tutelage.teacher.ledger.charges import add_to_budget, settle_session
from tutelage.teacher.ledger.schema import FAILURES
from tutelage.teacher.ledger.store import ANSWER_COLUMNS, INSERT_ANSWER, Ledger

SUFFIX = ".shard"

_SETTLED = """
CREATE TABLE IF NOT EXISTS settled (
    charge INTEGER PRIMARY KEY,
    key    BLOB NOT NULL,
    scope  TEXT NOT NULL,
    pico   INTEGER NOT NULL,
    result TEXT NOT NULL CHECK (result IN ('answered', 'released', 'lost'))
)
"""
_TRIGGERS = (
    """
CREATE TRIGGER IF NOT EXISTS charge_deleted AFTER DELETE ON charges WHEN OLD.state != 'lost' BEGIN
    INSERT OR REPLACE INTO settled
    SELECT OLD.id, OLD.key, OLD.scope, OLD.pico,
           CASE WHEN EXISTS (SELECT 1 FROM answers WHERE key = OLD.key)
                THEN 'answered' ELSE 'released' END;
END
""",
    """
CREATE TRIGGER IF NOT EXISTS charge_lost AFTER UPDATE OF state ON charges
WHEN NEW.state = 'lost' BEGIN
    INSERT OR REPLACE INTO settled VALUES (NEW.id, NEW.key, NEW.scope, NEW.pico, 'lost');
END
""",
)
_TABLES = {
    "answers": f"CREATE TABLE answers ({ANSWER_COLUMNS})",
    "failures": FAILURES,
    "settled": _SETTLED,
}
_COLUMNS = {"answers": ANSWER_COLUMNS, "failures": "*", "settled": "*"}


@dataclass(frozen=True, slots=True)
class Merged:
    """What a shard has brought: new answers, and requests that failed, by reason."""

    answers: int = 0
    failures: Mapping[str, int] = field(default_factory=dict)


class SharedFolderError(RunFolderError):
    """The shared folder cannot be written."""


class DamagedShardError(RunFolderError):
    """A shard whose content is not what its name says."""


class WorkerLedger(Ledger):
    """A worker's own ledger, from which it closes shards.

    The file is new, or has been left by a worker that has ended.
    """

    def __init__(self, path: Path, session: int) -> None:
        super().__init__(path)
        self._session = session
        self._shards = 0
        self.transact(_prepare)

    def adopt(
        self, connection: sqlite3.Connection, leases: list[tuple[int, str, int]], scope: str
    ) -> None:
        """Note what was leased. leases: charge, key and pico-dollars of each"""
        now = time.time()
        connection.executemany(
            "INSERT INTO charges VALUES (?, ?, ?, ?, NULL, 'reserved', ?, ?)",
            [
                (charge, bytes.fromhex(key), scope, self._session, pico, now)
                for charge, key, pico in leases
            ],
        )

    def settle_left(self, charges: Iterable[int]) -> None:
        """Settle what an ended worker had leased: what it had not sent is released, the rest lost.

        charges: of the worker, as far as the main ledger has them. What is settled there already,
        by a shard that was copied when the worker ended, is not settled a second time.
        """

        def settle(connection: sqlite3.Connection) -> None:
            settle_session(connection, self._session)
            settled = {charge for (charge,) in connection.execute("SELECT charge FROM settled")}
            connection.executemany(
                "DELETE FROM settled WHERE charge = ?",
                [(charge,) for charge in settled.difference(charges)],
            )

        self.transact(settle)

    def close_shard(self, folder: Path) -> str | None:
        """Close a shard of all results since the last one, and copy it to the shared `folder`.

        Returns its name there; None where there are no results. When it returns, the copy is
        complete and on the disk. Raises RunFolderError, for the shared folder SharedFolderError;
        the results then stay in this ledger.
        """
        return self.transact(lambda connection: self._close_shard(connection, folder))

    def _close_shard(self, connection: sqlite3.Connection, folder: Path) -> str | None:
        rows = {
            table: connection.execute(f"SELECT {columns} FROM {table}").fetchall()
            for table, columns in _COLUMNS.items()
        }
        if not any(rows.values()):
            return None
        self._shards += 1
        closed = self.path.with_name(f"closed-{self._shards}{SUFFIX}")
        try:
            _write(closed, rows)
            content = closed.read_bytes()
        except OSError as error:
            raise RunFolderError(f"{closed}: cannot be written ({error.strerror})") from error
        finally:
            closed.unlink(missing_ok=True)
        try:
            name = f"{self._session}-{self._shards}-{hashlib.sha256(content).hexdigest()}{SUFFIX}"
            _copy(content, folder / name)
        except OSError as error:
            raise SharedFolderError(
                f"{folder}: a shard of answers cannot be copied there ({error.strerror or error}): "
                "free disk space or correct the permissions"
            ) from error
        connection.execute("DELETE FROM charges WHERE state = 'lost'")
        for table in _TABLES:
            connection.execute(f"DELETE FROM {table}")
        return name

    @property
    def unrecorded(self) -> int:
        """Results that no shard holds yet."""
        with self.reader() as connection:
            (count,) = connection.execute("SELECT count(*) FROM settled").fetchone()
        return int(count)


def _prepare(connection: sqlite3.Connection) -> None:
    for statement in (_SETTLED, *_TRIGGERS):
        connection.execute(statement)


def _write(path: Path, rows: dict[str, list[Any]]) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # the copy is what counts
        connection.execute("BEGIN")
        for table, create in _TABLES.items():
            connection.execute(create)
            if rows[table]:
                marks = ",".join("?" * len(rows[table][0]))
                connection.executemany(f"INSERT INTO {table} VALUES ({marks})", rows[table])
        connection.execute("COMMIT")


def _copy(content: bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def merge_shard(ledger: Ledger, path: Path) -> Merged:
    """Merge a shard into the ledger, all of it or nothing; nothing where it was merged before.

    Its charges are settled: an answer costs what it cost, also where its lease was given up in the
    meantime. The first answer stored under a key stays. Raises DamagedShardError.
    """
    with _opened(path) as rows:
        return ledger.transact(lambda connection: _merge(connection, path.name, rows))


@contextmanager
def _opened(path: Path) -> Iterator[dict[str, list[Any]]]:
    """The rows of a shard by table, once its content was compared with its name."""
    said = path.name.removesuffix(SUFFIX).rpartition("-")[2]
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != said:
        raise DamagedShardError(
            f"{path}: the content is not what was written (its digest begins with {found[:12]}, "
            f"expected {said[:12]}): its rows are asked again"
        )
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
        yield {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in _TABLES}


def _merge(connection: sqlite3.Connection, name: str, rows: dict[str, list[Any]]) -> Merged:
    known = connection.execute("SELECT 1 FROM shards WHERE name = ?", (name,)).fetchone()
    if known is not None:
        return Merged()
    new = 0
    failed: Counter[str] = Counter()
    costs = {}
    pico_at = [column.strip() for column in ANSWER_COLUMNS.split(",")].index("pico")
    for row in rows["answers"]:
        new += connection.execute(INSERT_ANSWER, row).rowcount
        connection.execute("DELETE FROM failures WHERE key = ?", (row[0],))
        costs[row[0]] = row[pico_at] or 0
    for row in rows["failures"]:
        failed[row[2]] += connection.execute(
            "INSERT OR REPLACE INTO failures SELECT ?, ?, ?, ?, ?, ? "
            "WHERE NOT EXISTS (SELECT 1 FROM answers WHERE key = ?) "
            "AND NOT EXISTS (SELECT 1 FROM failures WHERE key = ? AND created = ?)",
            (*row, row[0], row[0], row[5]),
        ).rowcount
    for charge, key, scope, worst, result in rows["settled"]:
        # Every charge of a shard was leased by this ledger. Where it is there no more, its budget
        # was pruned or the file is another one: what was paid counts.
        charged = connection.execute(
            "SELECT pico FROM charges WHERE id = ? AND key = ?", (charge, key)
        ).fetchone()
        before = 0 if charged is None else int(charged[0])
        if result == "lost":
            connection.execute("UPDATE charges SET state = 'lost' WHERE id = ?", (charge,))
            add_to_budget(connection, scope, 0 if charged is not None else worst)
        else:
            connection.execute("DELETE FROM charges WHERE id = ? AND key = ?", (charge, key))
            add_to_budget(connection, scope, (costs[key] if result == "answered" else 0) - before)
    connection.execute("INSERT INTO shards VALUES (?, ?, ?)", (name, len(costs), time.time()))
    return Merged(new, failed)


def is_merged(ledger: Ledger, name: str) -> bool:
    """Whether the shard of this name was merged."""
    with ledger.reader() as connection:
        select = "SELECT 1 FROM shards WHERE name = ?"
        return connection.execute(select, (name,)).fetchone() is not None


def merge_folder(ledger: Ledger, folder: Path) -> tuple[Merged, list[str]]:
    """Merge every shard in a folder and remove it; returns what they brought, and what is damaged.

    damaged: a line for each; the file gets the suffix `.damaged` and is not looked at again
    """
    answers = 0
    failures: Counter[str] = Counter()
    damaged = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        try:
            merged = merge_shard(ledger, path)
        except FileNotFoundError:  # another job of this ledger has merged it
            continue
        except (DamagedShardError, sqlite3.DatabaseError) as error:
            damaged.append(str(error))
            path.replace(path.with_name(path.name + ".damaged"))
            continue
        answers += merged.answers
        failures.update(merged.failures)
        path.unlink(missing_ok=True)
    return Merged(answers, failures), damaged
