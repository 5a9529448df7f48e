"""export.json: what an exported model says of itself, written once and read by all that uses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from tutelage.core.checkpoint_record import DECISION_RULE, check_files
from tutelage.core.errors import StudentError, UsageError
from tutelage.core.model_files import file_sha256
from tutelage.core.storage import as_json, digest, read_json, write_json
from tutelage.core.task import Task
from tutelage.core.types import ObjectiveName

EXPORT_RECORD = "export.json"

EXPORT_FORMAT = 1
"""Raise it with every change of a key or its meaning."""

LabelEngineName = Literal["openvino", "transformers"]
RationaleEngineName = Literal["ctranslate2", "transformers", "none"]
ExportPrecision = Literal["f32", "bf16", "int8"]

CARD = "README.md"
"""The model card. Not among the digests: a user may add to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRecord:
    """What an exported model says of itself.

    task:        its fields, its labels and their words
    objective, architecture: of the student that it was exported from
    max_source_tokens, max_rationale_tokens: the limits of its evaluation
    label_engine, rationale_engine: what computes labels, and what writes rationales
    precision:   of the label engine's weights and arithmetic
    label_ids:   token ids of each label, in the task's order
    eos_id, unk_id, before, after: of the tokenizer; special tokens around an input
    temperature: scores are divided by it before the softmax; fitted on dev
    threshold:   probability below which the answer is not to be trusted; None: not set
    layout:      how the files of its run were read
    examples:    inputs to try it out with
    checkpoint_sha256: of the checkpoint that it was exported from
    parity:      how it agreed with that checkpoint, and what temperature and threshold rest on
    versions:    of the packages that exported it
    files_sha256: digests of its files, by their paths in the folder
    sha256:      of all the above: the digest of the model
    """

    task: Task
    objective: ObjectiveName
    architecture: Literal["encoder-decoder", "decoder-only"]
    max_source_tokens: int
    max_rationale_tokens: int
    label_engine: LabelEngineName
    rationale_engine: RationaleEngineName
    precision: ExportPrecision
    label_ids: Sequence[Sequence[int]]
    eos_id: int
    unk_id: int | None
    before: Sequence[int]
    after: Sequence[int]
    checkpoint_sha256: str
    layout: Mapping[str, Any]
    versions: Mapping[str, str]
    temperature: float = 1.0
    threshold: float | None = None
    decision_rule: str = DECISION_RULE
    examples: Sequence[Mapping[str, str]] = ()
    parity: Mapping[str, Any] | None = None
    files_sha256: Mapping[str, str] | None = None
    sha256: str = ""
    format: int = EXPORT_FORMAT

    @property
    def weights_sha256(self) -> str:
        """The digest of the model, under the name that a checkpoint's record has for its own."""
        return self.sha256

    @property
    def limits(self) -> dict[str, int]:
        """The limits, by name."""
        return {
            "max_source_tokens": self.max_source_tokens,
            "max_rationale_tokens": self.max_rationale_tokens,
        }


def write_export_record(folder: Path, record: ExportRecord) -> ExportRecord:
    """Write the record of the export whose files are in `folder`, with their digests and its own.

    Returns the record as it was written.
    """
    digests = {
        file.relative_to(folder).as_posix(): file_sha256(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.relative_to(folder).as_posix() not in (EXPORT_RECORD, CARD)
    }
    record = replace(record, files_sha256=digests, sha256="")
    record = replace(record, sha256=digest(as_json(record)))
    write_json(folder / EXPORT_RECORD, record)
    return record


def is_export(folder: Path) -> bool:
    """Whether `folder` is one that `tutelage export` wrote."""
    return (folder / EXPORT_RECORD).is_file()


def read_export_record(folder: Path) -> ExportRecord:
    """Read the record of an export, and check it and its files by their digests.

    Raises StudentError where there is no record, it cannot be read, or it or a file has changed
    since.
    """
    path = folder / EXPORT_RECORD
    if not path.is_file():
        raise StudentError(
            f"{folder}: has no {EXPORT_RECORD}: expected a folder that `tutelage export` wrote"
        )
    values = read_json(path)
    known = {field.name for field in fields(ExportRecord)}
    if not isinstance(values, dict) or values.get("format") != EXPORT_FORMAT or set(values) - known:
        raise StudentError(
            f"{path}: is not a record of format {EXPORT_FORMAT}: export the model again, or use "
            "the version of tutelage that wrote it"
        )
    if digest({**values, "sha256": ""}) != values.get("sha256"):
        raise StudentError(
            f"{path}: is not the record that was exported (its SHA-256 differs): copy the folder "
            "again, or export the model again"
        )
    check_files(folder, values.get("files_sha256") or {}, "the model was exported with")
    try:
        task = dict(values.pop("task"))
        for name in ("fields", "labels", "positions"):
            task[name] = tuple(task[name])
        return ExportRecord(task=Task(**task), **values)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise StudentError(f"{path}: cannot be read ({error}): export the model again") from error
