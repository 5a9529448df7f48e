"""The ledger: every answer that was paid for, in one SQLite file.

An answer is found again by what was asked: the SHA-256 of the canonical JSON of teacher, model,
messages, parameters and sample number. No key, header or address with a password gets in here.

Durability: each `put` is a transaction of its own in write-ahead mode with `synchronous=NORMAL`. It
outlives the death of the process at any moment; a power cut may take the last moments' answers,
and never damages the file. Several processes may share a ledger on a local disk.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tutelage.errors import RunFolderError
from tutelage.records import Completion, Request, Usage
from tutelage.runfolder import digest

_APPLICATION_ID = 0x7475746C  # "tutl": tells a ledger from anybody else's database
_VERSION = 1
_BUSY_S = 30.0
_CHUNK = 500  # SQLite takes at most 999 variables in its older builds

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key               TEXT PRIMARY KEY,
    identity          TEXT NOT NULL,
    model             TEXT NOT NULL,
    strategy          TEXT NOT NULL,
    messages          TEXT NOT NULL,
    parameters        TEXT NOT NULL,
    sample            INTEGER NOT NULL,
    text              TEXT NOT NULL,
    finish_reason     TEXT,
    prompt_tokens     INTEGER,
    completion_tokens INTEGER,
    created           REAL NOT NULL
) WITHOUT ROWID
"""


def default_path() -> Path:
    """Where TUTELAGE_LEDGER says, else `.tutelage/ledger.sqlite` below the current folder."""
    return Path(os.environ.get("TUTELAGE_LEDGER") or ".tutelage/ledger.sqlite").expanduser()


def answer_key(identity: str, request: Request) -> str:
    """The key of a question: 64 hexadecimal digits, equal for equal questions."""
    return digest(
        {
            "identity": identity,
            "model": request.model,
            "messages": _plain(request),
            "parameters": _canonical(request.parameters),
            "sample": request.sample,
        }
    )


def _plain(request: Request) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in request.messages]


def _canonical(parameters: Mapping[str, float | int | str]) -> dict[str, float | int | str]:
    # YAML's `temperature: 0` and `0.0` ask for the same.
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in parameters.items()
    }


class Ledger:
    """The answers at `path` (`default_path()` where None; `:memory:` keeps them in memory only).

    A context manager; its methods may be called from any thread. Raises RunFolderError for a file
    that is no ledger, is damaged, cannot be opened, or was made by a newer Tutelage.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = default_path() if path is None else Path(path)
        self._lock = threading.Lock()
        with self._naming_the_file():
            if str(path) != ":memory:":
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        try:
            with self._naming_the_file():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")  # one process at a time may find the file new
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != _APPLICATION_ID and (application or version or tables):
            raise RunFolderError(
                f"{self.path}: is a database, but no ledger of ours: name another file "
                "in TUTELAGE_LEDGER"
            )
        if version > _VERSION:
            raise RunFolderError(
                f"{self.path}: is a ledger of version {version}, and this Tutelage knows "
                f"{_VERSION}: update Tutelage, or name another file in TUTELAGE_LEDGER"
            )
        if version == 0:
            connection.execute(_SCHEMA)
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
        # Switching to write-ahead mode does not wait for other processes by itself.
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute("PRAGMA synchronous = NORMAL")

    @contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # a ledger used after it was closed: the caller's bug, and no fault of the file
        except sqlite3.OperationalError as error:
            raise RunFolderError(
                f"{self.path}: the ledger cannot be used ({error}): check the folder, the disk, "
                "and whether another program holds the file; TUTELAGE_LEDGER names another"
            ) from error
        except sqlite3.DatabaseError as error:
            raise RunFolderError(
                f"{self.path}: is no readable ledger ({error}): move it away, or name another file "
                "in TUTELAGE_LEDGER"
            ) from error
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: the ledger's folder cannot be made ({error.strerror}): name another "
                "file in TUTELAGE_LEDGER"
            ) from error

    def get(self, key: str) -> Completion | None:
        """The answer kept under `key`, if there is one."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The answers that are there, by key."""
        wanted = list(keys)
        found: dict[str, Completion] = {}
        with self._lock, self._naming_the_file():
            for start in range(0, len(wanted), _CHUNK):
                chunk = wanted[start : start + _CHUNK]
                rows = self._connection.execute(
                    "SELECT key, text, finish_reason, prompt_tokens, completion_tokens "
                    f"FROM answers WHERE key IN ({','.join('?' * len(chunk))})",
                    chunk,
                )
                for key, text, reason, prompt_tokens, completion_tokens in rows:
                    found[key] = Completion(text, reason, Usage(prompt_tokens, completion_tokens))
        return found

    def put(
        self, key: str, request: Request, completion: Completion, *, identity: str = ""
    ) -> None:
        """Keep an answer; when this returns it outlives the process. A key's first answer stays.

        identity: who answered, for people who read the file.
        """
        row = (
            key,
            identity,
            request.model,
            request.strategy,
            json.dumps(_plain(request), ensure_ascii=False),
            json.dumps(dict(request.parameters), ensure_ascii=False),
            request.sample,
            completion.text,
            completion.finish_reason,
            completion.usage.prompt_tokens,
            completion.usage.completion_tokens,
            time.time(),
        )
        with self._lock, self._naming_the_file():
            self._connection.execute(
                f"INSERT OR IGNORE INTO answers VALUES ({','.join('?' * len(row))})", row
            )

    def __len__(self) -> int:
        with self._lock, self._naming_the_file():
            count: int = self._connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        return count

    def close(self) -> None:
        """Close the file; answers are safe already."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
