"""Whether a model has room for sequences of a length.

Some have embeddings for so many positions and no more. What the configuration says is named
differently in every family, so it is tried out.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch

from tutelage.core.errors import StudentError
from tutelage.student.model.agreement import evaluating
from tutelage.student.model.student import Student

_MARGIN = 8
"""Positions that a model may lack of those that its configuration names (RoBERTa's: two)."""


def declared_positions(student: Student) -> int | None:
    """Positions that the configuration names, if it names them in the usual way.

    Models with rotary or relative positions compute beyond them, in a range that they were not
    trained for.
    """
    named = getattr(student.model.config.get_text_config(), "max_position_embeddings", None)
    return named if isinstance(named, int) else None


def check_room(student: Student, sources: Sequence[int], targets: Sequence[int]) -> None:
    """Raise StudentError if the model cannot compute sequences of these lengths (tokens).

    A decoder-only student's sequence is the longest source with the longest target after it; an
    encoder-decoder's are one of each; a classifier has no target.
    """
    source, target = max(sources, default=0), max(targets, default=0)
    if student.architecture == "decoder-only":
        _check(
            student, "decoder", source + target, f"{source} of the input, {target} of the target"
        )
    else:
        _check(student, "encoder", source, "of the input")
        if student.architecture == "encoder-decoder":
            _check(student, "decoder", target + 1, "of the target")


def _check(student: Student, part: str, length: int, what: str) -> None:
    if length <= student.room.get(part, 0):
        return
    named = declared_positions(student)
    # On a GPU an index that is out of range ends the process, so that it is tried out on the CPU,
    # and only where the configuration does not name enough positions.
    on_cpu = student.device.type == "cpu"
    if on_cpu or named is None or named < length + _MARGIN:
        model = student.model if on_cpu else copy.deepcopy(student.model).cpu().eval()
        error = _error(student, model, part, length)
        if error is not None:
            raise StudentError(_message(student, model, part, length, what, error))
    student.room[part] = length


def _error(student: Student, model: Any, part: str, length: int) -> Exception | None:
    """What the model raises for a sequence of `length` tokens; None if it computes it."""
    row = torch.tensor([student.any_tokens(length)])
    if student.architecture != "encoder-decoder":
        inputs = {"input_ids": row}
    else:
        short = row[:, :1]
        inputs = {
            "input_ids": row if part == "encoder" else short,
            "decoder_input_ids": row if part == "decoder" else short,
        }
    with evaluating(student), torch.no_grad():
        try:
            model(**inputs, **student.uncached)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001  its kind differs between models
            return error
    return None


def _message(
    student: Student, model: Any, part: str, length: int, what: str, error: Exception
) -> str:
    fits, too_long = 0, length
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if _error(student, model, part, middle) is None:
            fits = middle
        else:
            too_long = middle
    name = student.model.config.model_type
    if not fits:
        reason = " ".join(str(error).split())
        return f"this {name} model cannot compute a row of {length} tokens: {reason[:200]}"
    keys = {"encoder": "max_source_tokens", "decoder": "max_source_tokens or max_rationale_tokens"}
    key = keys[part]
    if part == "decoder" and student.architecture == "encoder-decoder":
        key = "max_rationale_tokens"
    return (
        f"this {name} model has positions for {fits} tokens, and the longest row needs {length} "
        f"({what}): lower {key}, or choose another student"
    )
