"""Examines a student on a recipe's longest row and its shortest, before it is paid for or trained.

    completeness   no weight is missing, and two loads are equal
    room           positions for the longest row, embeddings for the tokens, tokens for the labels
    causality      a later token changes no earlier logit
    equivalence    scores, losses, gradients and generated text are those of the plain model
    round trip     what is saved and loaded again gives the same scores, bit for bit; so do adapters

Where a fast way of computing differs from the plain one, the plain one is taken, and a note says
so. Where the plain one itself is computed wrongly, or the model cannot be a student, StudentError.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from tutelage.config.training_settings import Fast, TrainSettings
from tutelage.core.errors import StudentError
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.student.encoding.prompts import encode_prompts, encode_separator, label_ids
from tutelage.student.encoding.truncation import EncodedSource
from tutelage.student.jobs.resources import cores
from tutelage.student.model.causality import check_causal
from tutelage.student.model.loading import load_student
from tutelage.student.model.precision import SMALL, choose_device, prepare
from tutelage.student.model.room import check_room, declared_positions
from tutelage.student.model.student import Student
from tutelage.student.model.weights import computing
from tutelage.student.preflight.subject import Subject, prompt_of

_CANDIDATES = 40
"""Rows of which the lengths in tokens are compared: the longest in characters."""


@dataclass(frozen=True)
class Preflight:
    """What the preflight of a student has found.

    parameters: number of weights
    notes:      one line for each thing that is slower, or otherwise than usual
    fast:       what the setting `fast` is to be
    longest:    tokens of the longest input that was tried out
    seconds:    that it took, without loading
    width:      of the model's hidden states
    """

    parameters: int
    notes: tuple[str, ...]
    fast: Fast
    longest: int
    seconds: float
    width: int


def examine_student(
    spec: str,
    examples: Sequence[Example],
    task: Task,
    settings: Sequence[TrainSettings],
    tokenizer: Path | None = None,
    classifies: bool = False,
) -> Preflight:
    """Examine the student that `spec` names with the rows of a recipe.

    examples:  rows of all splits; the longest and the shortest are used
    settings:  of one training for each objective in use
    tokenizer: of a new student (`scratch:`)
    classifies: whether it becomes a classifier

    Raises StudentError, with one line, for a student that would be trained or evaluated wrongly.
    """
    threads = torch.get_num_threads()
    try:
        return computing(
            spec, lambda: _examine(spec, examples, task, settings, tokenizer, classifies)
        )
    finally:
        torch.set_num_threads(threads)


def _examine(
    spec: str,
    examples: Sequence[Example],
    task: Task,
    settings: Sequence[TrainSettings],
    tokenizer: Path | None,
    classifies: bool,
) -> Preflight:
    first = settings[0]
    labels = [task.verbalize(label) for label in task.labels] if classifies else None

    def load(fast: Fast) -> Student:
        return load_student(
            spec,
            tokenizer=tokenizer,
            seed=first.seed,
            dropout=first.dropout,
            fast=fast,
            labels=labels,
        )

    plain, student = load(first.fast), load(first.fast)
    # A tiny model would spend its time waiting for the other threads.
    torch.set_num_threads(cores() if plain.parameter_count >= SMALL else 1)
    began = time.perf_counter()
    _check_equal_loads(spec, plain, student)
    rows = _ends(plain, examples, task, first.max_source_tokens)
    notes = [*student.notes, *_check_room(spec, plain, rows, task, settings)]
    student.room = dict(plain.room)  # they have the same weights
    device = choose_device()
    for one in (plain, student):
        one.to(device).model.eval()
    checked = Subject(spec, task, rows, settings)
    sources = [s.ids for s in checked.sources(plain, first)]
    if not classifies:
        # An encoder-decoder's decoder has room for targets, which are shorter.
        room = plain.room["decoder"] - 1
        check_causal(spec, plain, [ids[:room] for ids in sources])
    wanted = checked.wanted(plain)
    fast: Fast = first.fast
    prepare(student, "fp32")
    try:
        notes += checked.compare(student, wanted)
    except StudentError:
        if fast == "off":
            raise
        fast = "off"
        student = load(fast).to(device)
        student.model.eval()
        prepare(student, "fp32")
        notes += checked.compare(student, wanted)
        notes.append("the fast parts change its results, so that they are not used (fast: off)")
    longest = max(map(len, sources))
    if first.lora is not None:
        checked.check_adapters(student)
    prepare(student, first.precision)
    if student.precision == "bf16":
        plain.fast = "off"
        prepare(plain, "bf16")
        notes += checked.describe_rounding(student, plain, wanted[first.objective])
    loading = checked.check_round_trip(student, fast)
    return Preflight(
        student.parameter_count,
        tuple(notes),
        fast,
        longest,
        time.perf_counter() - began - loading,
        int(student.model.get_input_embeddings().weight.shape[1]),
    )


def _check_equal_loads(spec: str, one: Student, other: Student) -> None:
    """Raise StudentError if something of the model was made up while it was loaded."""
    first, second = (
        {**dict(s.model.named_parameters()), **dict(s.model.named_buffers())} for s in (one, other)
    )
    different = sorted(
        name
        for name in first
        if not torch.equal(first[name], second[name])
        and not torch.equal(first[name].nan_to_num(), second[name].nan_to_num())
    )
    if different:
        raise StudentError(
            f"student {spec!r}: {len(different)} of its weights differ from one loading to the "
            f"next ({', '.join(different[:3])}): its files lack them: get the whole model"
        )


def _ends(student: Student, examples: Sequence[Example], task: Task, limit: int) -> list[Example]:
    """The longest row in tokens, up to `limit`, and the shortest: in one batch they are padded
    the most."""
    by_size = sorted(examples, key=lambda e: len(task.source(e.fields).text))
    some = [by_size[0], *by_size[-_CANDIDATES:]]
    encoded = encode_prompts(student, [task.source(e.fields) for e in some], "answer", limit)
    order = sorted(range(len(some)), key=lambda i: len(encoded[i].ids))
    return [some[i] for i in dict.fromkeys([order[-1], order[0]])]


def _check_room(
    spec: str,
    student: Student,
    rows: Sequence[Example],
    task: Task,
    settings: Sequence[TrainSettings],
) -> list[str]:
    """Raise StudentError if the rows, their tokens or what is generated do not fit.

    Returns notes.
    """
    notes = []
    labels = label_ids(student, task)
    texts = [task.source(e.fields) for e in rows]
    sources: list[EncodedSource] = []
    # Where the longest targets fit, those of labels alone need not be tried out.
    for one in sorted(settings, key=lambda one: one.objective == "label"):
        student.objective = one.objective
        sources = encode_prompts(student, texts, prompt_of(one), one.max_source_tokens)
        targets = [len(ids) + 1 for ids in labels]
        if one.objective != "label":
            extra = one.max_rationale_tokens + len(encode_separator(student))
            targets = [length + extra for length in targets]
        lengths = [len(source.ids) for source in sources]
        check_room(student, lengths, targets)
        needed = max(lengths) + max(targets)
        named = declared_positions(student)
        if student.architecture == "encoder-decoder":
            needed = max(*lengths, *targets)
        elif student.architecture == "classifier":
            needed = max(lengths)
        if named is not None and needed > named:
            notes.append(
                f"its configuration names {named} positions, and the longest row may need {needed}:"
                " it computes them, but was not trained for them"
            )
    used = {i for s in sources for i in s.ids}
    if student.architecture != "classifier":
        used |= {i for ids in labels for i in ids}
    used |= {student.eos_id, student.pad_id}
    if student.architecture == "encoder-decoder":
        used.add(student.decoder_start_id)
    outside = sorted(i for i in used if i >= student.embedded_tokens)
    if outside:
        token = student.tokenizer.convert_ids_to_tokens(outside[0])
        raise StudentError(
            f"student {spec!r}: its tokenizer has the token {token!r} (number {outside[0]}) and "
            f"the model only {student.embedded_tokens} embeddings: tokenizer and weights belong to "
            "different models: get both from one"
        )
    return list(dict.fromkeys(notes))
