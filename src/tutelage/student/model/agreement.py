"""Decides whether two ways of computing give the same numbers.

Decided in fp32, where a difference of more than rounding means that something else is computed. In
bf16 rounding alone may be larger than what a wrong mask does, so that a student in bf16 is tried
out as an fp32 copy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from tutelage.student.model.student import Student

TOLERANCE = 1e-4
"""Largest difference in fp32, as a share of the largest value."""


def agree(found: torch.Tensor, wanted: torch.Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether no value differs by more than rounding; not where a value is not finite."""
    if found.shape != wanted.shape:
        return False
    limit = tolerance * wanted.abs().max()
    return bool((found - wanted).abs().max() <= limit)


def same(compare: Callable[[], bool]) -> bool:
    """What `compare` returns; False if the model cannot compute what it tries out.

    A model's code may raise anything for inputs that it was not written for. Out of memory is no
    answer and is raised.
    """
    try:
        return compare()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # noqa: BLE001  whatever it is, this way of computing is not taken
        return False


@contextmanager
def evaluating(student: Student) -> Iterator[None]:
    """Inside, the model is in evaluation mode: no dropout."""
    if not any(module.training for module in student.model.modules()):
        yield  # setting the mode of all modules takes as long as a small model's forward pass
        return
    training = student.model.training
    student.model.eval()
    try:
        yield
    finally:
        student.model.train(training)


_FOUND = ("can_pack", "packed_mask", "packing_tried", "head_can_be_narrowed")
"""What is tried out on a copy and holds for the student too."""


def take_over(student: Student, other: Student) -> None:
    """Let what was tried out on `other`, the same model, hold for `student`."""
    student.ways, student.room = dict(other.ways), dict(other.room)
    for name in _FOUND:
        if name in other.__dict__:
            setattr(student, name, other.__dict__[name])


@contextmanager
def in_fp32(student: Student) -> Iterator[Student]:
    """Inside, the student itself if it is in fp32, else a copy of it in fp32; in evaluation mode.

    The copy takes four bytes per weight while it lasts. What is tried out on it holds for the
    student.
    """
    if student.model.dtype == torch.float32:
        with evaluating(student):
            yield student
        return
    twin = copy.copy(student)
    twin.__dict__.pop("head_can_be_narrowed", None)
    twin.model = copy.deepcopy(student.model).float()
    with evaluating(twin):
        yield twin
    for name in _FOUND:
        if name in twin.__dict__:
            setattr(student, name, twin.__dict__[name])
