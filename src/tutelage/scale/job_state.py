"""What is known of a running job, in a file: it outlives the actor that keeps it.

Workers, attempts at blocks, leased rates. The file is on a local disk and lives as long as the job;
what outlives the job is in the ledger.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS workers (
    session INTEGER PRIMARY KEY,
    actor   TEXT NOT NULL,
    place   TEXT NOT NULL,
    seen    REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS blocks (
    block    INTEGER PRIMARY KEY,
    attempts INTEGER NOT NULL,
    missing  INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS unreported (
    key     TEXT PRIMARY KEY,
    session INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS rates (
    server TEXT NOT NULL,
    unit   TEXT NOT NULL,
    holder INTEGER NOT NULL,
    amount REAL NOT NULL,
    ended  REAL
);
CREATE TABLE IF NOT EXISTS calls (
    holder INTEGER NOT NULL,
    server TEXT NOT NULL,
    unit   TEXT NOT NULL,
    number INTEGER NOT NULL,
    amount REAL NOT NULL,
    wait_s REAL NOT NULL,
    PRIMARY KEY (holder, server, unit)
);
CREATE TABLE IF NOT EXISTS said (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
"""


class JobState:
    """The file at `path`. Its methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.executescript(f"PRAGMA journal_mode = WAL; {_SCHEMA}")
        # A kill of the process loses nothing that was committed; after a power cut no job goes on.
        self._connection.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, all or nothing."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def rows(self, select: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement that changes nothing."""
        with self._lock:
            return self._connection.execute(select, values).fetchall()

    def get(self, name: str, default: str = "") -> str:
        """What was said under a name."""
        found = self.rows("SELECT value FROM said WHERE name = ?", (name,))
        return str(found[0][0]) if found else default

    def put(self, name: str, value: str) -> None:
        """Say something under a name."""
        with self.change() as connection:
            connection.execute("INSERT OR REPLACE INTO said VALUES (?, ?)", (name, value))

    def add(self, name: str, amount: int) -> int:
        """Add to the number that was said under a name; returns the sum."""
        with self.change() as connection:
            connection.execute(
                "INSERT INTO said VALUES (?1, ?2) "
                "ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + ?2",
                (name, amount),
            )
        return int(self.get(name))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def now() -> float:
    """Seconds on a clock that all processes of one machine share."""
    return time.monotonic()
