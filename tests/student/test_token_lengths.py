"""The audit's numbers, compared with counts by hand and with what a training then reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.config.training_settings import TrainSettings
from tutelage.core.storage import as_json
from tutelage.core.task import NLI
from tutelage.core.types import ObjectiveName, Rationale, TrainingExample
from tutelage.data.synthetic import generate
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.encoding.token_lengths import (
    FIXED_SOURCE,
    FIXED_TARGET,
    Lengths,
    audit_arm,
    audit_split,
    lengths,
)
from tutelage.student.model.student import Student
from tutelage.student.training.trainer import train

EXAMPLES = generate(40, 1)
SETTINGS = TrainSettings(batch_size=8, max_steps=1, max_source_tokens=60, max_rationale_tokens=20)


def _rows(objective: ObjectiveName, without: int = 0) -> list[TrainingExample]:
    rationales = [Rationale(e.uid, "human", e.reason or "", "ok") for e in EXAMPLES[without:]]
    return build_training_examples(EXAMPLES, NLI, rationales, objective)


def _count(student: Student, text: str) -> int:
    return len(student.tokenizer(text, add_special_tokens=False).input_ids)


@settings(deadline=None)
@given(st.lists(st.integers(0, 999), min_size=1, max_size=60))
def test_percentiles_are_those_of_the_inverted_cdf(counts: list[int]) -> None:
    found = lengths(counts)
    wanted = np.percentile(counts, [50, 90, 95, 99], method="inverted_cdf")
    assert [found.p50, found.p90, found.p95, found.p99] == list(wanted)
    assert (found.count, found.total, found.longest) == (len(counts), sum(counts), max(counts))


def test_lengths_of_nothing() -> None:
    assert lengths([]) == Lengths(0, 0, 0, 0, 0, 0, 0)


def test_a_split_is_measured_text_by_text(student: Student) -> None:
    before, after = student.affixes
    around = len(before) + len(after)
    if student.architecture == "decoder-only":
        around = len(before) + _count(student, "\nAnswer:")
    whole = [around + _count(student, NLI.source(e.fields).text) for e in EXAMPLES]
    limit = sorted(whole)[len(whole) // 2]

    found = audit_split(student, "dev", EXAMPLES, NLI, limit)
    for field, measured in found.fields.items():
        assert measured == lengths(_count(student, e.fields[field]) for e in EXAMPLES)
    assert list(found.fields) == ["premise", "hypothesis"]
    assert found.source == lengths(whole)
    assert found.cut.limit == limit
    assert found.cut.rows == sum(n > limit for n in whole) > 0
    assert found.cut.tokens == sum(max(n - limit, 0) for n in whole)
    assert found.cut.rows_beyond == 0
    tight = audit_split(student, "dev", EXAMPLES, NLI, around + 3)
    assert tight.cut.rows_beyond == tight.cut.rows == len(EXAMPLES)


@pytest.mark.parametrize(
    "objective", ["label", "label_then_rationale", "rationale_then_label", "multitask"]
)
def test_an_arm_is_measured_as_it_is_then_trained(
    student: Student, objective: ObjectiveName, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    settings = SETTINGS.replace(objective=objective)
    rows = _rows(objective, without=3)
    found = audit_arm(student, "x", rows, settings)
    student.can_pack = None
    result = train(student, rows, EXAMPLES[:4], NLI, settings, tmp_path)
    assert found.sources.rows == result.truncated_sources > 0
    assert found.sources.tokens == result.source_tokens_cut > 0
    assert found.sources.rows_beyond == result.sources_cut_beyond
    assert found.rationales.rows == result.truncated_targets
    assert found.rationales.tokens == result.target_tokens_cut
    assert (found.rationales.rows > 0) == (objective != "label")
    assert found.rows == len(EXAMPLES)
    assert found.rationale.count == (0 if objective == "label" else len(EXAMPLES) - 3)
    assert found.label.count == len(EXAMPLES)
    tight = audit_arm(student, "x", rows, settings.replace(max_source_tokens=12)).sources
    assert tight.rows_beyond == tight.rows == len(EXAMPLES)


def test_a_cut_rationale_is_measured_whole(student: Student) -> None:
    rows = _rows("label_then_rationale")
    whole = audit_arm(student, "x", rows, SETTINGS.replace(max_rationale_tokens=999))
    cut = audit_arm(student, "x", rows, SETTINGS)
    assert whole.rationales.rows == 0
    assert cut.rationale == whole.rationale
    limit = SETTINGS.max_rationale_tokens + 1  # and the end token
    assert whole.rationale.total - cut.rationales.tokens <= limit * len(rows)
    lead = "\n" if student.architecture == "decoder-only" else ""
    assert whole.rationale.total == sum(
        _count(student, f"{lead}Rationale: {row.target.rationale}") + 1 for row in rows
    )


@pytest.mark.parametrize("objective", ["label", "rationale_then_label", "multitask"])
def test_one_row_at_a_time_needs_no_padding(student: Student, objective: ObjectiveName) -> None:
    """But for a T5, an example of two tasks is two rows."""
    settings = SETTINGS.replace(objective=objective, tokens_per_micro_batch=64)
    found = audit_arm(student, "x", _rows(objective), settings).padding
    if objective == "multitask" and student.architecture == "encoder-decoder":
        assert 0 < found.share < 0.5
    else:
        assert found.share == 0


def test_concurrent_micro_batches_are_smaller(student: Student) -> None:
    examples = generate(40, 1)
    reasons = [
        Rationale(e.uid, "human", (e.reason or "") * (i % 4), "ok") for i, e in enumerate(examples)
    ]
    rows = build_training_examples(examples, NLI, reasons, "label_then_rationale")
    settings = TrainSettings(batch_size=len(rows), tokens_per_micro_batch=1 << 14)
    one = audit_arm(student, "x", rows, settings).padding
    two = audit_arm(student, "x", rows, settings.replace(threads=2)).padding
    compiled = audit_arm(student, "x", rows, settings.replace(threads=2, compile=True)).padding
    assert two.positions < one.positions == compiled.positions


def test_padding_is_what_fills_the_rectangle(encoder_decoder: Student) -> None:
    rows = _rows("label_then_rationale")
    settings = SETTINGS.replace(batch_size=len(rows), tokens_per_micro_batch=10**9)
    found = audit_arm(encoder_decoder, "x", rows, settings)
    size = {
        name: [_count(encoder_decoder, text) + 1 for text in texts]
        for name, texts in {
            "source": [row.source.text for row in rows],
            "target": [f"Rationale: {row.target.rationale}" for row in rows],
        }.items()
    }
    sources = [min(n, SETTINGS.max_source_tokens) for n in size["source"]]
    targets = [
        min(n, SETTINGS.max_rationale_tokens + 1) + _count(encoder_decoder, row.target.label)
        for n, row in zip(size["target"], rows, strict=True)
    ]
    tokens = sum(sources) + sum(targets)
    positions = len(rows) * (max(sources) + max(targets))
    assert found.padding.positions == positions
    assert found.padding.share == pytest.approx(1 - tokens / positions)
    assert found.padding.fixed_positions == len(rows) * (FIXED_SOURCE + FIXED_TARGET)
    assert found.padding.fixed_share == pytest.approx(1 - tokens / found.padding.fixed_positions)


def test_an_audit_goes_through_json(encoder_decoder: Student) -> None:
    found = audit_split(encoder_decoder, "dev", EXAMPLES, NLI, 60)
    again = json.loads(json.dumps(as_json(found)))
    assert again["cut"] == {
        "limit": 60,
        "rows": found.cut.rows,
        "tokens": found.cut.tokens,
        "rows_beyond": 0,
    }
    assert again["fields"]["premise"]["p95"] == found.fields["premise"].p95
