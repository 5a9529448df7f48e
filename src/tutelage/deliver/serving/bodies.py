"""What `POST /predict` takes and gives, and what it says of a body that it cannot take."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.config.serve_settings import ServeSettings
from tutelage.core.export_record import ExportRecord
from tutelage.core.storage import half_character
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.deliver.escalation import EscalatedPrediction


class BodyError(Exception):
    """A body that is not taken. status: the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Body:
    """A request: its rows, whether there is one (`row`) or a list (`rows`), and whether rationales
    are asked for."""

    rows: list[Example]
    single: bool
    explain: bool


def read_body(content: bytes, record: ExportRecord, settings: ServeSettings) -> Body:
    """The rows of a body. Raises BodyError with what was found and what was expected."""
    try:
        values = json.loads(content.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise BodyError(422, f"the body is not UTF-8 (byte {error.start})") from error
    except RecursionError as error:
        raise BodyError(422, "the body is nested too deeply") from error
    except ValueError as error:
        raise BodyError(422, f"the body is not valid JSON ({error})") from error
    if not isinstance(values, dict):
        raise BodyError(422, f"the body: got {_kind(values)}, expected an object with row or rows")
    if unknown := sorted(set(values) - {"row", "rows", "explain"}):
        raise BodyError(
            422, f"the body: unknown key {unknown[0][:80]!r}: expected row, rows, explain"
        )
    explain = values.get("explain", False)
    if not isinstance(explain, bool):
        raise BodyError(422, f"explain: got {_kind(explain)}, expected true or false")
    if ("row" in values) == ("rows" in values):
        raise BodyError(422, "the body: expected either row (an object) or rows (a list of them)")
    single = "row" in values
    rows = [values["row"]] if single else values["rows"]
    if not isinstance(rows, list) or not rows:
        raise BodyError(422, f"rows: got {_kind(rows)}, expected a list of at least one object")
    most = settings.max_explained if explain else settings.max_rows
    if len(rows) > most:
        raise BodyError(
            413,
            f"rows: got {len(rows):,}, at most {most:,} are taken"
            f"{' with explain' if explain else ''}: send them in several requests",
        )
    if explain and record.rationale_engine == "none":
        raise BodyError(422, "explain: this model writes no rationales")
    return Body(
        [
            _row(row, "row" if single else f"rows[{n}]", record.task, settings, n)
            for n, row in enumerate(rows)
        ],
        single,
        explain,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. Raises BodyError for a key that is there twice: the last would win in silence."""
    values = dict(pairs)
    if len(values) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise BodyError(422, f"the body: the key {twice[:80]!r} is there twice: give it once")
    return values


def _row(row: Any, where: str, task: Task, settings: ServeSettings, number: int) -> Example:
    if not isinstance(row, dict):
        raise BodyError(422, f"{where}: got {_kind(row)}, expected an object with {_names(task)}")
    for name in task.fields:
        if name not in row:
            raise BodyError(422, f"{where}: field {name!r} is missing: expected {_names(task)}")
        text = row[name]
        if not isinstance(text, str):
            raise BodyError(422, f"{where}.{name}: got {_kind(text)}, expected a text")
        if not text.strip():
            raise BodyError(422, f"{where}.{name}: is empty, expected a text")
        if len(text) > settings.max_text_chars:
            raise BodyError(
                413,
                f"{where}.{name}: has {len(text):,} characters, at most "
                f"{settings.max_text_chars:,} are taken",
            )
        if problem := half_character(text):
            raise BodyError(422, f"{where}.{name}: {problem}".encode("utf-8", "replace").decode())
    if unknown := sorted(set(row) - set(task.fields)):
        raise BodyError(422, f"{where}: unknown field {unknown[0][:80]!r}: expected {_names(task)}")
    return Example(str(number), {name: row[name] for name in task.fields}, "")


def _names(task: Task) -> str:
    return ", ".join(repr(name) for name in task.fields)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a text", list: "a list", dict: "an object"}
    if value == []:
        return "an empty list"
    return names.get(type(value), "a number")


def answer_of(prediction: EscalatedPrediction, threshold: float | None) -> dict[str, Any]:
    """One prediction as JSON. All but `label` is the student's, unless it says the teacher's."""
    confidence = prediction.probabilities[prediction.student_label]
    return {
        "label": prediction.label,
        "answered_by": prediction.answered_by,
        "probabilities": dict(prediction.probabilities),
        "trusted": None if threshold is None else confidence >= threshold,
        "student_label": prediction.student_label,
        "teacher_label": prediction.teacher_label,
        "teacher_cost_usd": prediction.teacher_cost_usd,
        "note": prediction.note,
        "cut_tokens": prediction.cut_tokens,
        "rationale": prediction.rationale,
    }


def model_of(record: ExportRecord, threshold: float | None) -> dict[str, Any]:
    """What each answer says of the model that gave it."""
    return {
        "sha256": record.sha256,
        "engine": record.label_engine,
        "precision": record.precision,
        "temperature": record.temperature,
        "threshold": threshold,
    }


def request_schema(
    task: Task, settings: ServeSettings, examples: Sequence[Mapping[str, str]]
) -> Any:
    """The JSON schema of a body, for the OpenAPI page."""
    text = {"type": "string", "minLength": 1, "maxLength": settings.max_text_chars}
    row: dict[str, Any] = {
        "type": "object",
        "properties": {name: dict(text) for name in task.fields},
        "required": list(task.fields),
        "additionalProperties": False,
    }
    if examples:
        row["example"] = dict(examples[0])
    explain = {"type": "boolean", "default": False, "description": "Also write a rationale."}
    one = {
        "type": "object",
        "properties": {"row": row, "explain": explain},
        "required": ["row"],
        "additionalProperties": False,
    }
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": settings.max_rows}
    many = {
        "type": "object",
        "properties": {"rows": rows, "explain": explain},
        "required": ["rows"],
        "additionalProperties": False,
    }
    return {"oneOf": [one, many]}
