"""The ledger: every paid answer and every charge, in one SQLite file.

An answer is found again by its request: the key is the SHA-256 of the canonical JSON of teacher,
model, messages, parameters and sample number. No API key, header or address with a password is
stored. This module opens the file and stores the answers; charges and budgets are in `charges`.

Durability: write-ahead mode with `synchronous=FULL`, so a committed transaction survives a crash of
the process and of the machine. Many writers share each transaction (`writer`), so that waiting for
the disk costs little. Several processes may use one ledger on a local disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

from tutelage.core.errors import RunFolderError
from tutelage.core.storage import as_json
from tutelage.core.types import Completion, Message, Parameter, Request, Usage
from tutelage.teacher.ledger.schema import APPLICATION_ID, STEPS, VERSION

_BUSY_S = 30.0
_CHUNK = 500  # SQLite takes at most 999 variables in its older builds
_CACHE_KIB = 65_536
"""Page cache of a connection: the index of a million keys fits in it."""

T = TypeVar("T")

ANSWER_COLUMNS = (
    "key, identity, model, strategy, messages, parameters, sample, text, finish_reason, "
    "prompt_tokens, completion_tokens, cached_tokens, scope, pico, created, reasoning, served, "
    "server"
)
INSERT_ANSWER = f"INSERT OR IGNORE INTO answers ({ANSWER_COLUMNS}) VALUES ({','.join('?' * 18)})"

_ANSWERS = (
    "SELECT key, text, finish_reason, prompt_tokens, completion_tokens, cached_tokens, pico, "
    "reasoning, served, server FROM answers WHERE key"
)


def select_many(
    connection: sqlite3.Connection, select: str, keys: Sequence[bytes]
) -> Iterator[tuple[Any, ...]]:
    """The rows of a statement that ends in `WHERE … key`, for any number of keys."""
    for start in range(0, len(keys), _CHUNK):
        chunk = keys[start : start + _CHUNK]
        yield from connection.execute(f"{select} IN ({','.join('?' * len(chunk))})", chunk)


def default_path() -> Path:
    """The path in TUTELAGE_LEDGER, or else `.tutelage/ledger.sqlite` in the current folder."""
    return Path(os.environ.get("TUTELAGE_LEDGER") or ".tutelage/ledger.sqlite").expanduser()


class RequestKeys:
    """The keys of requests that differ in their messages alone: what they share is encoded once.

    A key is the SHA-256 of this canonical JSON, with sorted names and only ASCII characters:
    `{"identity":…,"messages":[{"content":…,"role":…},…],"model":…,"parameters":{…},"sample":…}`
    """

    __slots__ = ("_after", "_before")

    def __init__(self, identity: str, model: str, parameters: Mapping[str, Parameter]) -> None:
        settings = _CANONICAL.encode(as_json(_canonical(parameters)))
        self._before = f'{{"identity":{_ascii(identity)},"messages":['
        self._after = f'],"model":{_ascii(model)},"parameters":{settings},"sample":'

    def of(self, messages: Iterable[Message], sample: int = 0) -> str:
        """The key of the request with these messages: 64 hexadecimal digits."""
        turns = ",".join(
            [f'{{"content":{_ascii(m.content)},"role":{_ascii(m.role)}}}' for m in messages]
        )
        text = f"{self._before}{turns}{self._after}{sample}}}"
        return hashlib.sha256(text.encode("ascii")).hexdigest()


_ascii = json.JSONEncoder().encode
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_UNICODE = json.JSONEncoder(ensure_ascii=False)


def request_key(identity: str, request: Request) -> str:
    """The key of a request: 64 hexadecimal digits, equal for equal requests."""
    return RequestKeys(identity, request.model, request.parameters).of(
        request.messages, request.sample
    )


def _plain(request: Request) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in request.messages]


def _canonical(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    # In YAML, `temperature: 0` and `0.0` are the same setting.
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in parameters.items()
    }


def answer_row(
    key: str,
    request: Request,
    completion: Completion,
    *,
    identity: str,
    scope: str | None = None,
    pico: int | None = None,
) -> tuple[object, ...]:
    """The parameters of INSERT_ANSWER for an answer.

    scope: the budget that it is charged to; pico: what it cost, in pico-dollars
    """
    usage = completion.usage
    return (
        bytes.fromhex(key),
        identity,
        request.model,
        request.strategy,
        _UNICODE.encode(_plain(request)),
        _UNICODE.encode(dict(request.parameters)),
        request.sample,
        completion.text,
        completion.finish_reason,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        scope,
        pico,
        time.time(),
        completion.reasoning or None,
        completion.served,
        completion.server,
    )


class Ledger:
    """The ledger at `path` (None: at `default_path()`; `:memory:`: in memory only).

    A context manager; its methods may be called from any thread. Raises RunFolderError for a file
    that is not a ledger, is damaged, cannot be opened, or was written by a newer Tutelage.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = default_path() if path is None else Path(path)
        self._lock = threading.Lock()
        self._reader_lock = threading.Lock()
        with self._ledger_errors():
            if str(path) != ":memory:":
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = self._connect()
            self._reader = self._connection
        try:
            with self._ledger_errors():
                self._prepare()
                if str(path) != ":memory:":
                    # Readers do not wait for the writer, which waits for the disk.
                    self._reader = self._connect()
        except BaseException:
            self._connection.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return connection

    def _prepare(self) -> None:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")  # only one process creates the tables
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION_ID and (application or version or tables):
            raise RunFolderError(
                f"{self.path}: is a database, but not a ledger of Tutelage: name another file in "
                "TUTELAGE_LEDGER"
            )
        if version > VERSION:
            raise RunFolderError(
                f"{self.path}: is a ledger of version {version}, but this Tutelage supports "
                f"version {VERSION}: update Tutelage, or name another file in TUTELAGE_LEDGER"
            )
        if version < VERSION:
            connection.create_function("digest_bytes", 1, bytes.fromhex, deterministic=True)
            for statement in STEPS[version].split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
        # SQLite does not wait for other processes when it switches to write-ahead mode.
        deadline = time.monotonic() + _BUSY_S
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def _ledger_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError:
            raise  # used after it was closed: the caller's bug, not a fault of the file
        except sqlite3.OperationalError as error:
            raise RunFolderError(
                f"{self.path}: the ledger cannot be used ({error}): check the folder, the disk, "
                "and whether another program holds the file; TUTELAGE_LEDGER names another"
            ) from error
        except sqlite3.DatabaseError as error:
            raise RunFolderError(
                f"{self.path}: is not a readable ledger ({error}): move it away, or name another "
                "file in TUTELAGE_LEDGER"
            ) from error
        except OSError as error:
            raise RunFolderError(
                f"{self.path}: the ledger's folder cannot be created ({error.strerror}): name "
                "another file in TUTELAGE_LEDGER"
            ) from error

    def get(self, key: str) -> Completion | None:
        """The answer stored under `key`, if there is one."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, Completion]:
        """The stored answers among `keys`, by key."""
        wanted = [bytes.fromhex(key) for key in keys]
        with self.reader() as connection:
            return {
                key.hex(): Completion(
                    text, reason, Usage(*tokens), pico, None, thoughts or "", served, server
                )
                for key, text, reason, *tokens, pico, thoughts, served, server in select_many(
                    connection, _ANSWERS, wanted
                )
            }

    def put(
        self, key: str, request: Request, completion: Completion, *, identity: str = ""
    ) -> None:
        """Store an answer without a charge. The first answer stored under a key stays.

        identity: of the teacher that answered, for people who inspect the file
        """
        row = answer_row(key, request, completion, identity=identity)
        self.transact(lambda connection: connection.execute(INSERT_ANSWER, row))

    def transact(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do `work` in one transaction, all or nothing; on return it is on the disk."""
        with self._lock, self._ledger_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._connection)
                self._connection.execute("COMMIT")
            except BaseException:
                # A full disk may already have ended the transaction.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        return result

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading what is committed; one thread at a time."""
        lock = self._lock if self._reader is self._connection else self._reader_lock
        with lock, self._ledger_errors():
            yield self._reader

    def __len__(self) -> int:
        with self.reader() as connection:
            count: int = connection.execute("SELECT count(*) FROM answers").fetchone()[0]
        return count

    def close(self) -> None:
        """Close the file. The answers are on the disk already."""
        with self._lock, self._reader_lock:
            self._reader.close()
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
