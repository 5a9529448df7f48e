"""The explanation job: its rows, its key, and that it never runs twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from small_training import ROWS, SETTINGS, make_tokenizer

from tutelage.core.storage import read_jsonl
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.data.synthetic import generate
from tutelage.student.jobs.explanation_job import ExplanationJob, sample_rows
from tutelage.student.jobs.jobs import (
    ScoringJob,
    TrainingJob,
    finished_result,
    run_job,
    run_training,
)


def test_the_sample_depends_only_on_the_ids() -> None:
    rows = [Example(f"r{i}", {"premise": "p", "hypothesis": "h"}, "neutral") for i in range(400)]
    kept = sample_rows(rows, 100)
    assert len(kept) == 100 and kept == [row for row in rows if row in kept]
    assert {e.uid for e in sample_rows(rows[::-1], 100)} == {e.uid for e in kept}
    assert {e.uid for e in sample_rows(rows, 30)} < {e.uid for e in kept}
    # Further rows do not change the order of the first ones.
    less = {e.uid for e in sample_rows(rows[:200], 60)}
    assert less >= {e.uid for e in kept} & {f"r{i}" for i in range(200)} or len(less) == 60
    assert 20 < len({e.uid for e in kept} & {f"r{i}" for i in range(200)}) < 80  # not the first
    assert sample_rows(rows, 0) == [] and len(sample_rows(rows, 1000)) == 400


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    folder = tmp_path_factory.mktemp("explaining")
    tokenizer = make_tokenizer(folder / "tokenizer")
    settings = SETTINGS.replace(epochs=1, max_rationale_tokens=8)
    job = TrainingJob(
        "scratch:t5-tiny", tokenizer, ROWS, generate(9, 2), NLI, settings, folder / "seed-0"
    )
    run_training(job)
    return job


def test_an_explanation_job_does_not_run_twice(trained: TrainingJob) -> None:
    rows = generate(5, 8)
    output = trained.folder / "explanations.jsonl"
    job = ExplanationJob(trained, rows, output)
    assert finished_result(job) is None
    progress: list[tuple[int, int]] = []
    found = run_job(job, lambda done, total: progress.append((done, total)))
    assert [each.uid for each in found] == [row.uid for row in rows]
    assert progress[-1] == (5, 5)
    assert finished_result(job) == found  # as loaded from the file
    assert [record["uid"] for record in read_jsonl(output)] == [row.uid for row in rows]
    assert all(each.tokens <= 8 + 12 for each in found)
    for other in (
        ExplanationJob(trained, rows[:4], output),
        ExplanationJob(replace(trained, settings=SETTINGS.replace(seed=3)), rows, output),
        ScoringJob(trained, rows, output),
    ):
        assert finished_result(other) is None
    output.unlink()
    assert finished_result(job) is None


def test_scoring_and_explaining_do_not_share_a_file(trained: TrainingJob) -> None:
    rows = generate(5, 8)
    scoring = ScoringJob(trained, rows, trained.folder / "test.jsonl")
    explaining = ExplanationJob(trained, rows, trained.folder / "explanations.jsonl")
    scored = run_job(scoring)
    run_job(explaining)
    assert finished_result(scoring) == scored and scoring.key != explaining.key
    files = {path.name for path in Path(trained.folder).glob("*.key.json")}
    assert files == {"test.key.json", "explanations.key.json"}
