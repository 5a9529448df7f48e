"""Measures lengths under the student's own tokenizer, what does not fit, and the share of padding.

Trains nothing and needs no weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tutelage.config.training_settings import TrainSettings
from tutelage.core.task import Task
from tutelage.core.types import Example, ObjectiveName, TrainingExample
from tutelage.student.encoding.batching import collate, training_steps
from tutelage.student.encoding.prompts import encode_prompts
from tutelage.student.encoding.targets import LABEL, RATIONALE
from tutelage.student.encoding.text_encoder import Architecture
from tutelage.student.encoding.tokenise import EncodedExample, encode_examples
from tutelage.student.encoding.truncation import token_ids
from tutelage.student.fast.threads import concurrency_for
from tutelage.student.model.student import Student

FIXED_SOURCE, FIXED_TARGET = 600, 400
"""Tokens to which the code published with arXiv 2409.12599 padded every row."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of `count` texts in tokens: sum, percentiles and maximum. All are 0 without texts.

    The p-th percentile is the smallest length in the data that at least p percent of the texts do
    not exceed.
    """

    count: int
    total: int
    p50: int
    p90: int
    p95: int
    p99: int
    longest: int


@dataclass(frozen=True, slots=True)
class Cut:
    """What does not fit into `limit` tokens.

    rows, tokens: number of rows that are cut, and of tokens that are cut from them in total
    rows_beyond:  for inputs: rows that lose more than the field that is cut first
    """

    limit: int
    rows: int
    tokens: int
    rows_beyond: int = 0


@dataclass(frozen=True, slots=True)
class SplitAudit:
    """The inputs of one split.

    fields: lengths of each field, without its name
    source: lengths of the whole input: names of the fields, special tokens and cue included
    """

    name: str
    rows: int
    fields: Mapping[str, Lengths]
    source: Lengths
    cut: Cut


@dataclass(frozen=True, slots=True)
class Padding:
    """Positions that one epoch computes, and the share of them (0 to 1) that is padding.

    fixed_positions, fixed_share: with every row padded or cut to FIXED_SOURCE and FIXED_TARGET
    positions, share:             in the batches of the first epoch
    """

    fixed_positions: int
    fixed_share: float
    positions: int
    share: float


@dataclass(frozen=True, slots=True)
class ArmAudit:
    """The targets of one arm, under its objective.

    rationale:           separators and end token included; over the rows that have a rationale
    sources, rationales: what does not fit of the inputs, with this objective's prompts, and of the
                         rationales
    """

    name: str
    objective: ObjectiveName
    rows: int
    label: Lengths
    rationale: Lengths
    sources: Cut
    rationales: Cut
    padding: Padding


@dataclass(frozen=True, slots=True)
class Audit:
    """All measurements. notes: what could not be measured, and why."""

    student: str
    architecture: Architecture
    vocabulary: int
    splits: tuple[SplitAudit, ...]
    arms: tuple[ArmAudit, ...]
    notes: tuple[str, ...]


def lengths(counts: Iterable[int]) -> Lengths:
    """The distribution of `counts`."""
    ordered = sorted(counts)
    if not ordered:
        return Lengths(0, 0, 0, 0, 0, 0, 0)

    def percentile(percent: int) -> int:
        return ordered[math.ceil(percent * len(ordered) / 100) - 1]

    return Lengths(
        count=len(ordered),
        total=sum(ordered),
        p50=percentile(50),
        p90=percentile(90),
        p95=percentile(95),
        p99=percentile(99),
        longest=ordered[-1],
    )


def audit_split(
    student: Student, name: str, examples: Sequence[Example], task: Task, limit: int
) -> SplitAudit:
    """Measure the inputs of `examples` for a student that takes at most `limit` tokens."""
    fields = {
        field: lengths(
            map(len, token_ids(student.tokenizer, [e.fields[field].strip() for e in examples]))
        )
        for field in task.fields
    }
    sources = encode_prompts(student, [task.source(e.fields) for e in examples], "answer", limit)
    return SplitAudit(
        name,
        len(examples),
        fields,
        lengths(len(s.ids) + s.cut_tokens for s in sources),
        Cut(
            limit,
            sum(s.truncated for s in sources),
            sum(s.cut_tokens for s in sources),
            sum(s.cut_beyond > 0 for s in sources),
        ),
    )


def audit_arm(
    student: Student, name: str, examples: Sequence[TrainingExample], settings: TrainSettings
) -> ArmAudit:
    """Measure what the student would learn from `examples` with `settings`."""
    student.objective = settings.objective
    # Without weights this cannot be tried out. Few decoder-only models cannot pack.
    student.can_pack = student.architecture == "decoder-only"
    student.packing_tried = (math.inf, math.inf)
    encoded = encode_examples(
        student,
        examples,
        max_source_tokens=settings.max_source_tokens,
        max_rationale_tokens=settings.max_rationale_tokens,
    )
    rationales = [_tokens(e, RATIONALE) + e.target_cut for e in encoded]
    return ArmAudit(
        name,
        settings.objective,
        len(encoded),
        lengths(_tokens(e, LABEL) for e in encoded),
        lengths(count for count in rationales if count),
        Cut(
            settings.max_source_tokens,
            sum(e.source_cut > 0 for e in encoded),
            sum(e.source_cut for e in encoded),
            sum(e.source_cut_beyond > 0 for e in encoded),
        ),
        Cut(
            settings.max_rationale_tokens,
            sum(e.target_cut > 0 for e in encoded),
            sum(e.target_cut for e in encoded),
        ),
        padding(student, encoded, settings),
    )


def _tokens(example: EncodedExample, segment: int) -> int:
    return sum(sequence.segments.count(segment) for sequence in example.sequences)


def padding(
    student: Student, encoded: Sequence[EncodedExample], settings: TrainSettings
) -> Padding:
    """Measure padding, with fixed lengths and in the batches of the trainer on a CPU."""
    sequences = [sequence for example in encoded for sequence in example.sequences]
    fixed = len(sequences) * (FIXED_SOURCE + FIXED_TARGET)
    filled = sum(
        min(len(s.source), FIXED_SOURCE) + min(len(s.target), FIXED_TARGET) for s in sequences
    )
    concurrency = 1
    if settings.fast == "auto" and not settings.compile:
        concurrency = concurrency_for(settings.threads, settings.tokens_per_micro_batch)
    steps = training_steps(
        encoded,
        batch_size=settings.batch_size,
        tokens_per_micro_batch=settings.tokens_per_micro_batch // concurrency,
        seed=settings.seed,
        epoch=0,
        concurrency=concurrency,
    )
    positions = tokens = 0
    for rows in (rows for step in steps for rows in step):
        batch = collate(student, rows)
        positions += batch.input_ids.numel()
        tokens += sum(e.length for e in rows)
        if batch.decoder_input_ids is not None:
            positions += batch.decoder_input_ids.numel()
        else:
            # A causal model predicts the last token of each target but never gets it as input.
            tokens -= sum(len(e.sequences) for e in rows)
    return Padding(fixed, 1 - filled / fixed, positions, 1 - tokens / positions)
