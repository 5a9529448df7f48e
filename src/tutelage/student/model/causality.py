"""Whether each token of a model is computed without those after it.

A model whose tokens see their right neighbours learns to copy the target that it is trained on: its
loss falls to zero, and its scores mean nothing. Its configuration does not say so reliably; two
forward passes do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tutelage.core.errors import StudentError
from tutelage.student.model.agreement import TOLERANCE, agree, evaluating
from tutelage.student.model.student import Student
from tutelage.student.model.weights import WHAT_TO_USE, loading

_LENGTH = 12
"""Tokens of the row that a model is tried out with when it is loaded."""

_TARGET = 64
"""Tokens of a target that an encoder-decoder is tried out with, at most."""


def check_causal(spec: str, student: Student, rows: Sequence[Sequence[int]] | None = None) -> None:
    """Raise StudentError if a later token changes the logits of an earlier one.

    rows: token ids to try it out with; None: one short row

    An encoder-decoder is tried out with the start of the longest one: its decoder's mask depends on
    nothing but the positions of its target, which are few.
    """
    rows = rows or [student.any_tokens(_LENGTH)]
    if student.architecture == "encoder-decoder":
        rows = [max(rows, key=len)[:_TARGET]]
    for row in rows:
        if len(row) > 1 and loading(spec, lambda row=row: _looks_ahead(student, row)):  # type: ignore[misc]
            raise StudentError(
                f"student {spec!r}: in its {student.model.config.model_type} model tokens see "
                f"those after them, as in an encoder: it cannot write a text: {WHAT_TO_USE}"
            )


def _looks_ahead(student: Student, row: Sequence[int]) -> bool:
    """Whether other tokens in the second half of `row` change the logits in the first half."""
    half = len(row) // 2
    # Other tokens, not the same ones in another order: attention that is almost even, as in a model
    # of random weights, hardly depends on the order.
    changed = [*row[:half], *student.any_tokens(len(row) - half, seed=1)]
    with evaluating(student), torch.no_grad():
        one, other = (_logits(student, ids)[:half].float() for ids in (row, changed))
    # What comes before is computed twice in the same way, so that rounding is the same too.
    return not agree(other, one, TOLERANCE / 10)


def _logits(student: Student, ids: Sequence[int]) -> torch.Tensor:
    """Logits [T, vocabulary] of a decoder over `ids`."""
    row = torch.tensor([list(ids)], device=student.device)
    if student.architecture == "decoder-only":
        logits: torch.Tensor = student.model(input_ids=row, use_cache=False).logits[0]
        return logits
    source = torch.tensor([student.any_tokens(4)], device=student.device)
    return student.model(  # type: ignore[no-any-return]
        input_ids=source,
        attention_mask=torch.ones_like(source),
        decoder_input_ids=row,
        use_cache=False,
    ).logits[0]
