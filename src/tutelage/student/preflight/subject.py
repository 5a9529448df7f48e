"""What a student is examined with, and the comparisons with the plain model."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.linalg import vector_norm

from tutelage.config.training_settings import Fast, TrainSettings
from tutelage.core.errors import StudentError
from tutelage.core.task import Task
from tutelage.core.types import Example, ObjectiveName, Target, TrainingExample
from tutelage.student.encoding.batching import collate
from tutelage.student.encoding.prompts import (
    encode_label,
    encode_prompts,
    encode_separator,
    label_ids,
)
from tutelage.student.encoding.targets import Prompt
from tutelage.student.encoding.tokenise import EncodedExample, encode_examples
from tutelage.student.encoding.truncation import EncodedSource
from tutelage.student.inference.generate import find_way_to_generate
from tutelage.student.inference.score import find_way, score_batch, score_in_its_way
from tutelage.student.model.agreement import TOLERANCE, agree, evaluating, take_over
from tutelage.student.model.loading import load_student
from tutelage.student.model.lora import Adapters
from tutelage.student.model.precision import prepare
from tutelage.student.model.student import Student
from tutelage.student.preflight.plain_model import Reference, gradients
from tutelage.student.training.loss import batch_loss, target_logits

_GRADIENT_TOLERANCE = 1e-3
"""Largest difference of a gradient in fp32, as a share of its length."""


_MADE_UP = 64
"""Tokens of a made-up rationale, at most. Windows and positions beyond are tried out by `can_pack`
and `check_room`, which cost less."""

_LONGER = ("label_then_rationale", "rationale_then_label")
"""Objectives whose step computes all that a step of `label` does, and a longer target."""

_SHORT = 48
"""Tokens of an input, at most, in the step of `label` where one of these has the whole input. That
step is then of one row, since the other one's rows are padded."""

_ROUNDINGS = 2
"""How far two roundings to bf16 may be apart: each is off by as much as the other."""


def prompt_of(settings: TrainSettings) -> Prompt:
    """The prompt after which the student writes its label, or the rationale before it."""
    return "explain" if settings.objective == "rationale_then_label" else "answer"


def reference_of(student: Student) -> Reference:
    """The student's plain model."""
    start = student.decoder_start_id if student.architecture == "encoder-decoder" else None
    return Reference(student.model, start, student.architecture == "classifier")


@dataclass(frozen=True)
class Wanted:
    """What the plain model computes for one objective."""

    scores: torch.Tensor
    loss: float
    gradients: Mapping[str, torch.Tensor]


@dataclass
class Subject:
    """What a student is examined with."""

    spec: str
    task: Task
    rows: Sequence[Example]
    settings: Sequence[TrainSettings]
    _in_fp32: torch.Tensor | None = None
    """Scores of the student that was compared last, for the first settings."""

    def sources(self, student: Student, settings: TrainSettings) -> list[EncodedSource]:
        """The rows' inputs for one objective."""
        student.objective = settings.objective
        texts = [self.task.source(e.fields) for e in self.rows]
        return encode_prompts(student, texts, prompt_of(settings), settings.max_source_tokens)

    def prefix(self, student: Student, settings: TrainSettings) -> list[int]:
        """What stands before the label in a target: a made-up rationale, or nothing."""
        if settings.objective != "rationale_then_label":
            return []
        made_up = student.any_tokens(min(settings.max_rationale_tokens, _MADE_UP))
        return [*made_up, *encode_separator(student)]

    def examples(self, student: Student, settings: TrainSettings) -> list[EncodedExample]:
        """The longest row with a long rationale, and the shortest one with a short one."""
        student.objective = settings.objective
        chosen = [self.rows[0], self.rows[-1]][: len(self.rows)]
        limit = settings.max_source_tokens
        if settings.objective == "label" and any(one.objective in _LONGER for one in self.settings):
            chosen, limit = chosen[:1], min(limit, _SHORT)
        made = []
        for place, row in enumerate(chosen):
            source = self.task.source(row.fields)
            words = source.text.split() or ["a"]
            count = 5 if place else settings.max_rationale_tokens
            text = " ".join((words * (count // len(words) + 1))[:count])
            label = self.task.verbalize(self.task.labels[place % len(self.task.labels)])
            rationale = None if settings.objective == "label" else text
            made.append(TrainingExample(row.uid, source, Target(label, rationale)))
        return encode_examples(
            student,
            made,
            max_source_tokens=limit,
            max_rationale_tokens=min(settings.max_rationale_tokens, _MADE_UP),
        )

    def some_labels(self, student: Student) -> list[int]:
        """The labels whose scores are compared: the first, the last, the shortest, the longest."""
        lengths = [len(ids) for ids in label_ids(student, self.task)]
        ends = {0, len(lengths) - 1, lengths.index(min(lengths)), lengths.index(max(lengths))}
        return sorted(ends)

    def wanted(self, plain: Student) -> dict[ObjectiveName, Wanted]:
        """What the plain model computes, by objective."""
        reference = reference_of(plain)
        names = [self.task.labels[index] for index in self.some_labels(plain)]
        labels = [encode_label(plain, self.task.verbalize(name)) for name in names]
        found = {}
        known: dict[str, torch.Tensor] = {}
        for settings in self.settings:
            before = self.prefix(plain, settings)
            sources = [source.ids for source in self.sources(plain, settings)]
            inputs = repr((sources, before))
            if inputs not in known:  # most objectives have the same ones
                known[inputs] = reference.scores(
                    sources, [[*before, *ids] for ids in labels], len(before)
                )
            scores = known[inputs]
            examples = self.examples(plain, settings)
            loss, gradient = reference.loss(examples, self.weight(settings))
            found[settings.objective] = Wanted(scores, loss, gradient)
        return found

    def weight(self, settings: TrainSettings) -> float:
        """The weight of the labels' tokens in the loss."""
        return 1.0 if settings.objective == "label" else settings.label_weight

    def compare(self, student: Student, wanted: Mapping[ObjectiveName, Wanted]) -> list[str]:
        """Raise StudentError if what the student computes is not what the plain model computes.

        Returns a note for each way of computing that is not taken because of that.
        """
        notes = []
        known: dict[str, tuple[torch.Tensor, str]] = {}
        for settings in self.settings:
            goal = wanted[settings.objective]
            inputs = repr((self.sources(student, settings), self.prefix(student, settings)))
            if inputs not in known:
                known[inputs] = self.scores(student, settings, goal.scores)
            scores, way = known[inputs]
            if settings is self.settings[0]:
                self._in_fp32 = scores
            if way != ("batched" if student.architecture == "classifier" else "fast"):
                notes.append(_SLOWER[way])
            if student.architecture == "decoder-only" and not student.can_pack:
                notes.append(_NOT_PACKED)
            if not agree(scores, goal.scores):
                raise self.differs("the scores of its labels", settings, scores, goal.scores)
            self.compare_losses(student, settings, goal, alone=way == "alone")
            if settings.objective != "label":
                sources = [source.ids for source in self.sources(student, settings)]
                written = find_way_to_generate(student, [sources[0], sources[-1]], [])
                notes += [_GENERATED[written]] if written in _GENERATED else []
        return list(dict.fromkeys(notes))

    def scores(
        self, student: Student, settings: TrainSettings, plain: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, str]:
        """The scores [rows, some labels], and the way in which they were computed.

        plain: the plain model's, in fp32, which decide the way
        """
        sources = [source.ids for source in self.sources(student, settings)]
        labels = label_ids(student, self.task)
        before = self.prefix(student, settings)
        prefixes = [before] * len(sources) if before else None
        some = self.some_labels(student)
        if plain is not None:
            every, way = score_in_its_way(student, sources, labels, prefixes, (some, plain))
            return every[:, some], way
        way = find_way(student, sources, labels, prefixes)
        with evaluating(student), torch.no_grad():
            every = score_batch(student, sources, labels, prefixes)
        return every[:, some], way

    def compare_losses(
        self, student: Student, settings: TrainSettings, wanted: Wanted, *, alone: bool
    ) -> None:
        """Raise StudentError if loss or gradient of a step differ from the plain model's."""
        examples = self.examples(student, settings)
        counts = tuple(sum(values) for values in zip(*(e.counts for e in examples), strict=True))
        weight = self.weight(settings)
        total = 0.0
        with evaluating(student):
            for rows in [[e] for e in examples] if alone else [examples]:
                batch = collate(student, rows).to(student.device)
                loss = batch_loss(student, batch).weighted(
                    (weight, 1 - weight), (counts[0], counts[1])
                )
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
        found = gradients(student.model)
        if not abs(total - wanted.loss) <= TOLERANCE * max(1.0, abs(wanted.loss)):
            raise self.differs("its loss", settings, total, wanted.loss)
        squares = [0.0, 0.0]
        for name in found.keys() | wanted.gradients.keys():
            goal = wanted.gradients.get(name)
            one = found.get(name)
            if goal is None or one is None:
                present = goal if one is None else one
                squares[0] += float(present.float().square().sum()) if present is not None else 0
                continue
            squares[0] += float(vector_norm(one.sub_(goal))) ** 2  # in place: nothing else needs it
            squares[1] += float(vector_norm(goal)) ** 2
        if not squares[0] ** 0.5 <= _GRADIENT_TOLERANCE * squares[1] ** 0.5:
            raise self.differs("its gradient", settings, squares[0] ** 0.5, squares[1] ** 0.5)

    def differs(self, what: str, settings: TrainSettings, found: Any, wanted: Any) -> StudentError:
        """The error where the student's own computation is wrong."""
        if isinstance(found, torch.Tensor):
            distance = float((found - wanted).abs().max())
            seen = f"by up to {distance:.2g}"
        else:
            seen = f"{found:.6g}, plain {wanted:.6g}"
        return StudentError(
            f"student {self.spec!r}: {what} (objective {settings.objective}) differ from those of "
            f"the plain model of transformers ({seen}) on the recipe's longest rows: choose "
            "another student, and report this model"
        )

    def check_adapters(self, student: Student) -> None:
        """Raise StudentError if merged adapters compute something else than adapters."""
        settings = self.settings[-1]
        adapters = Adapters(student, settings.lora, settings.seed)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for name, weight in student.model.named_parameters():
                if ".lora_B." in name:
                    values = torch.randn(weight.shape, generator=generator)
                    weight.copy_(0.02 * values)
        batch = collate(student, self.examples(student, settings)[:1]).to(student.device)
        with evaluating(student), torch.no_grad():
            adapted = target_logits(student, batch)
            with adapters.merged():
                merged = target_logits(student, batch)
            adapters.remove()
            untouched = target_logits(student, batch)
        if not agree(merged, adapted):
            raise self.differs("its merged adapters", settings, merged, adapted)
        if agree(adapted, untouched, TOLERANCE / 10):
            raise StudentError(
                f"student {self.spec!r}: its adapters change nothing: its model does not use the "
                "layers that they adapt: name others in lora.target_modules, or remove lora"
            )

    def describe_rounding(self, student: Student, plain: Student, wanted: Wanted) -> list[str]:
        """A note if the student in bf16 is further from fp32 than rounding makes the plain model.

        student, plain: both in bf16; wanted: what the plain model computes in fp32
        """
        settings = self.settings[0]
        before = self.prefix(plain, settings)
        ids = label_ids(plain, self.task)
        labels = [[*before, *ids[index]] for index in self.some_labels(plain)]
        sources = [source.ids for source in self.sources(plain, settings)]
        rounded = reference_of(plain).scores(sources, labels, len(before))
        found, _ = self.scores(student, settings)
        usual = float((rounded - wanted.scores).abs().max())
        seen = float((found - rounded).abs().max())
        if seen <= _ROUNDINGS * usual + TOLERANCE:
            return []
        return [
            f"in bf16 the scores of its labels differ by {seen:.2g} from those of the plain model "
            f"in bf16, which are off by {usual:.2g}: precision: fp32 is exact"
        ]

    def check_round_trip(self, student: Student, fast: Fast) -> float:
        """Raise StudentError if the student, saved and loaded, does not give the same scores.

        The student is in the precision of its training. Returns the seconds that the loading took.
        """
        settings = self.settings[0]
        scores = self._in_fp32
        if scores is None or student.precision == "bf16" or settings.lora is not None:
            scores, _ = self.scores(student, settings)
        with tempfile.TemporaryDirectory() as folder:
            student.save(Path(folder))
            began = time.perf_counter()
            again = load_student(folder, fast=fast)
            seconds = time.perf_counter() - began
        again.to(student.device)
        prepare(again, settings.precision)
        take_over(again, student)
        found, _ = self.scores(again, settings)
        if not torch.equal(found, scores):
            raise self.differs("saved and loaded again, its scores", settings, found, scores)
        return seconds


_SLOWER = {
    "batched": "its labels are scored one by one, which is slower: the faster way gives it other "
    "numbers",
    "alone": "its rows are computed one by one, which is much slower: the rows of a batch change "
    "each other",
}
"""Notes by way of scoring."""

_NOT_PACKED = (
    "its rows are not packed, which is slower: packed rows give it other numbers than separate ones"
)

_GENERATED = {
    "alone": "it generates one row at a time, which is slower: in a batch it writes other texts",
    "uncached": "it generates without a cache, which is much slower: with one it writes other "
    "texts",
}
"""Notes by way of generating."""
