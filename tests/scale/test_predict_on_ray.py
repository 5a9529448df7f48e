"""Predictions by workers are those of the local engine, and a job that ends early continues.

The workers run here, one after the other; `test_on_ray` has them in other processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from students import ROWS, checkpoint

from tutelage import api
from tutelage.config.scale_settings import ScaleSettings
from tutelage.core.errors import RunFolderError, StudentError
from tutelage.core.storage import write_jsonl
from tutelage.deliver import predict as predicting
from tutelage.deliver.trained import Student
from tutelage.scale import predict_on_ray
from tutelage.scale.predict_on_ray import PredictionWorker

RAY = ScaleSettings(engine="ray", workers=2)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint(tmp_path_factory.mktemp("student"), "t5")


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The chunks that workers have begun, of seven rows each, the last one first."""
    begun: list[str] = []

    @contextmanager
    def here(settings: ScaleSettings) -> Iterator[None]:
        yield None

    def results(
        self: Any, ray: None, student: Path, blocks: list[str], folder: Path, explain: bool
    ) -> Iterator[Any]:
        worker = PredictionWorker(student, folder, explain)
        for block in reversed(blocks):
            begun.append(Path(block).name)
            yield worker(pq.read_table(block))

    monkeypatch.setattr(predict_on_ray, "require_ray", lambda purpose: None)
    monkeypatch.setattr(predict_on_ray, "cluster", here)
    monkeypatch.setattr(predict_on_ray.Scores, "_results", results)
    monkeypatch.setattr(predicting, "CHUNK", 7)
    return begun


@pytest.fixture
def data(tmp_path: Path) -> str:
    """40 rows with two that cannot be read."""
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [{"uid": r.uid, **r.fields, "label": r.label} for r in ROWS[:40]])
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[3:3] = ["{broken"]
    path.write_text("\n".join([*lines, "{broken", ""]), encoding="utf-8")
    return str(path)


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("explain", [False, True])
def test_workers_write_the_same_file(
    model: Path, data: str, tmp_path: Path, chunks: list[str], explain: bool
) -> None:
    outputs = [tmp_path / "local.csv", tmp_path / "ray.csv"]
    found = [
        api.write_predictions(model, data, output=output, scale=scale, explained=explain)
        for output, scale in zip(outputs, (None, RAY), strict=True)
    ]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    assert found[0] == found[1] and found[1].unreadable == 2
    assert len(chunks) == 6 and not left(tmp_path)


def test_an_interrupted_job_continues_with_what_workers_have_left(
    model: Path, data: str, tmp_path: Path, chunks: list[str]
) -> None:
    """Two chunks are in the output, and later ones in the workers' files."""
    output = tmp_path / "ray.jsonl"

    def stop(done: int) -> None:
        if done >= 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        api.write_predictions(model, data, output=output, scale=RAY, on_progress=stop)
    assert len(chunks) == 6
    kept = sorted(tmp_path.glob(".ray.jsonl.chunks/*/chunk-*.json"))
    assert len(kept) == 6
    kept[3].unlink()  # as if its worker had been killed
    api.write_predictions(model, data, output=output, scale=RAY, resume=True)
    assert len(chunks) == 7
    api.write_predictions(model, data, output=tmp_path / "local.jsonl")
    assert output.read_bytes() == (tmp_path / "local.jsonl").read_bytes() and not left(tmp_path)


def test_what_is_left_of_other_rows_or_without_resume_is_not_used(
    model: Path, data: str, tmp_path: Path, chunks: list[str]
) -> None:
    output = tmp_path / "ray.jsonl"

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    for count in (6, 12):
        with pytest.raises(KeyboardInterrupt):
            api.write_predictions(model, data, output=output, scale=RAY, on_progress=stop)
        assert len(chunks) == count


def test_a_chunk_that_ends_every_process_is_given_up(
    model: Path, data: str, tmp_path: Path, chunks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its attempts are counted before its rows are touched."""

    class Killed(BaseException):
        pass

    def dies(self: Student, rows: Any, **_: Any) -> Any:
        raise Killed

    predicted = PredictionWorker._predicted

    def again(self: PredictionWorker, path: Path, rows: Any) -> Any:
        while True:
            try:
                return predicted(self, path, rows)
            except Killed:
                continue

    with monkeypatch.context() as patch:
        patch.setattr(Student, "score", dies)
        patch.setattr(PredictionWorker, "_predicted", again)
        with pytest.raises(RunFolderError, match="4 processes ended while they predicted the same"):
            api.write_predictions(model, data, output=tmp_path / "ray.jsonl", scale=RAY)
    api.write_predictions(model, data, output=tmp_path / "ray.jsonl", scale=RAY, resume=True)
    assert (tmp_path / "ray.jsonl").exists()


def test_an_error_of_the_student_is_said_in_one_line(
    model: Path, data: str, tmp_path: Path, chunks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Student, rows: Any, **_: Any) -> Any:
        raise ValueError("no\nsuch label")

    monkeypatch.setattr(Student, "score", fails)
    with pytest.raises(StudentError, match=r"^ValueError: no such label: run the same command"):
        api.write_predictions(model, data, output=tmp_path / "ray.jsonl", scale=RAY)
