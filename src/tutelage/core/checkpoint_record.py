"""tutelage.json: what a checkpoint says of itself, written once and read by all that predicts.

The weights alone do not say what the labels are, where inputs are cut, or in which precision the
student was evaluated. A prediction made with another answer to one of these is another student's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from tutelage.core.errors import StudentError, UsageError
from tutelage.core.model_files import file_sha256
from tutelage.core.storage import as_json, read_json, write_json
from tutelage.core.task import Task
from tutelage.core.types import ObjectiveName

RECORD = "tutelage.json"

FORMAT = 1
"""Raise it with every change of a key or its meaning."""

DECISION_RULE = "the label whose tokens have the highest summed log-probability given the input"

CLASS_RULE = "the label that the classifier gives the highest probability"
"""The decision rule of a classifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRecord:
    """What a checkpoint says of itself.

    task:      its fields, its labels and their words
    objective: what it learnt to write
    max_source_tokens, max_rationale_tokens, tokens_per_micro_batch: the limits of its evaluation
    precision: of the weights and the arithmetic
    fast:      whether parts that are only about speed were used
    threads:   CPU threads, which decide the order of sums
    decision_rule: how a label is chosen, in words
    settings:  of the training
    data_sha256: digests of the training rows and of dev
    versions:  of the packages that it was trained with
    files_sha256: digests of the checkpoint's files, by name
    """

    task: Task
    objective: ObjectiveName
    max_source_tokens: int
    max_rationale_tokens: int
    tokens_per_micro_batch: int
    precision: Literal["fp32", "bf16"]
    fast: Literal["auto", "off"]
    threads: int
    settings: Mapping[str, Any]
    data_sha256: Mapping[str, str]
    versions: Mapping[str, str]
    decision_rule: str = DECISION_RULE
    files_sha256: Mapping[str, str] | None = None
    format: int = FORMAT

    @property
    def limits(self) -> dict[str, int]:
        """The limits as arguments of scoring and generation."""
        names = ("max_source_tokens", "max_rationale_tokens", "tokens_per_micro_batch")
        return {name: getattr(self, name) for name in names}

    @property
    def weights_sha256(self) -> str:
        """One digest of all files."""
        listed = sorted((self.files_sha256 or {}).items())
        return hashlib.sha256(repr(listed).encode()).hexdigest()


def write_record(folder: Path, record: CheckpointRecord) -> None:
    """Write the record of the checkpoint whose files are in `folder`, with their digests."""
    digests = {
        file.name: file_sha256(file)
        for file in sorted(folder.iterdir())
        if file.is_file() and file.name != RECORD
    }
    write_json(folder / RECORD, as_json(record) | {"files_sha256": digests})


def read_record(folder: Path) -> CheckpointRecord:
    """Read the record of a checkpoint, and check its files by their digests.

    Raises StudentError where there is no record, it cannot be read, or a file has changed since.
    """
    path = folder / RECORD
    if not path.exists():
        raise StudentError(
            f"{folder}: has no {RECORD}: expected a checkpoint that `tutelage train` or "
            "`tutelage run` wrote, …/seed-N/model"
        )
    values = read_json(path)
    known = {field.name for field in fields(CheckpointRecord)}
    if not isinstance(values, dict) or values.get("format") != FORMAT or set(values) - known:
        raise StudentError(
            f"{path}: is not a record of format {FORMAT}: train the student again, or use the "
            "version of tutelage that wrote it"
        )
    check_files(folder, values.get("files_sha256") or {})
    try:
        task = dict(values.pop("task"))
        for name in ("fields", "labels", "positions"):
            task[name] = tuple(task[name])
        return CheckpointRecord(task=Task(**task), **values)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise StudentError(f"{path}: cannot be read ({error}): train the student again") from error


def check_files(
    folder: Path, digests: Mapping[str, str], origin: str = "the checkpoint was saved with"
) -> None:
    """Raise StudentError for a file of a model that is missing or has changed.

    digests: SHA-256 of files, by their paths in `folder`
    origin:  what the digests are of, for the message
    """
    for name, expected in digests.items():
        file = folder / name
        if not file.is_file():
            raise StudentError(f"{file}: is missing: copy the whole folder, or make it again")
        if file_sha256(file) != expected:
            raise StudentError(
                f"{file}: is not the file that {origin} (its SHA-256 differs): copy it again, or "
                "make it again"
            )
