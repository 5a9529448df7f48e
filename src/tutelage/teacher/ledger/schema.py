"""The ledger's tables, and what makes a file of an older version one of this version."""

from __future__ import annotations

APPLICATION_ID = 0x7475746C  # "tutl": distinguishes a ledger from other SQLite databases
VERSION = 5

SHARDS = """
CREATE TABLE shards (
    name    TEXT PRIMARY KEY,
    answers INTEGER NOT NULL,
    merged  REAL NOT NULL
) WITHOUT ROWID
"""
"""The names of the shards that were merged, each once."""

FAILURES = """
CREATE TABLE failures (
    key       BLOB PRIMARY KEY,
    strategy  TEXT NOT NULL,
    reason    TEXT NOT NULL,
    detail    TEXT NOT NULL,
    transient INTEGER NOT NULL,
    created   REAL NOT NULL
) WITHOUT ROWID
"""
"""Requests without an answer; a worker's shards have the same table."""

# Rows are appended, and found through an index of 32-byte digests. If the rows themselves were in
# the order of their digests, inserting a million of them would move rows all over the disk.
SCHEMA = f"""
CREATE TABLE answers (
    id                INTEGER PRIMARY KEY,
    key               BLOB NOT NULL UNIQUE,
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
    cached_tokens     INTEGER,
    scope             TEXT,
    pico              INTEGER,
    created           REAL NOT NULL,
    reasoning         TEXT,
    served            TEXT,
    server            TEXT
);
CREATE TABLE sessions (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    lock    TEXT NOT NULL,
    started REAL NOT NULL
);
CREATE TABLE budgets (
    scope   TEXT PRIMARY KEY,
    charged INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE batches (
    id        INTEGER PRIMARY KEY,
    tag       TEXT NOT NULL UNIQUE,
    scope     TEXT NOT NULL,
    identity  TEXT NOT NULL,
    model     TEXT NOT NULL,
    base_url  TEXT NOT NULL,
    key_env   TEXT NOT NULL,
    price     TEXT,
    session   INTEGER NOT NULL,
    remote_id TEXT,
    file_id   TEXT,
    state     TEXT NOT NULL CHECK (state IN ('building', 'creating', 'open', 'ended')),
    detail    TEXT NOT NULL DEFAULT '',
    requests  INTEGER NOT NULL,
    changed   REAL NOT NULL,
    created   REAL NOT NULL,
    questions BLOB
);
CREATE TABLE charges (
    id      INTEGER PRIMARY KEY,
    key     BLOB NOT NULL,
    scope   TEXT NOT NULL,
    session INTEGER NOT NULL,
    batch   INTEGER,
    state   TEXT NOT NULL CHECK (state IN ('reserved', 'sent', 'lost')),
    pico    INTEGER NOT NULL,
    created REAL NOT NULL
);
CREATE UNIQUE INDEX open_charges ON charges (key) WHERE state != 'lost';
{FAILURES};
{SHARDS};
"""

# Version 1 stored answers in the order of their keys, and no costs.
_FROM_1 = f"""
ALTER TABLE answers RENAME TO answers_1;
{SCHEMA}
INSERT INTO answers (key, identity, model, strategy, messages, parameters, sample, text,
                     finish_reason, prompt_tokens, completion_tokens, created)
    SELECT digest_bytes(key), identity, model, strategy, messages, parameters, sample, text,
           finish_reason, prompt_tokens, completion_tokens, created
    FROM answers_1 ORDER BY created;
DROP TABLE answers_1;
"""

# Version 4 knew no shards.
_FROM_4 = SHARDS

# Version 3 did not store which of several servers answered.
_FROM_3 = f"ALTER TABLE answers ADD COLUMN server TEXT;{_FROM_4}"

# Version 2 stored neither reasoning nor the model that a reply names.
_FROM_2 = f"""
ALTER TABLE answers ADD COLUMN reasoning TEXT;
ALTER TABLE answers ADD COLUMN served TEXT;
{_FROM_3}
"""

STEPS = {0: SCHEMA, 1: _FROM_1, 2: _FROM_2, 3: _FROM_3, 4: _FROM_4}
"""By version of the file: what makes it a ledger of this version."""
