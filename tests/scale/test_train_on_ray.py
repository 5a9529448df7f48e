"""`tutelage run --engine ray`: trainings in a cluster's processes, killed and taken up again."""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tutelage import api
from tutelage.config.recipe_file import parse_recipe
from tutelage.config.scale_settings import ScaleSettings
from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import MissingExtraError, StudentError, UsageError
from tutelage.core.progress import JobProgress
from tutelage.core.storage import read_json
from tutelage.core.task import NLI
from tutelage.data.synthetic import generate
from tutelage.experiment.trainings import JobRunner
from tutelage.scale import cluster, train_on_ray
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs.explanation_job import ExplanationJob
from tutelage.student.jobs.jobs import Runner, ScoringJob, TrainingJob
from tutelage.student.model.scratch import tokenizer_for

ON_RAY = ScaleSettings(engine="ray")
ROWS = build_training_examples(generate(24, 1), NLI, None, "label")
SETTINGS = TrainSettings(
    objective="label", learning_rate=1e-2, epochs=1, batch_size=4, warmup_steps=1, precision="fp32"
)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of this machine, of three processors that need not be real."""
    module = pytest.importorskip("ray", reason="the extra `scale` is not installed")
    monkeypatch.setattr(train_on_ray, "cores", lambda: 3)
    yield module
    assert not module.is_initialized()  # a cluster that a runner started has ended with it


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    """With relative paths."""
    monkeypatch.chdir(tmp_path)
    tokenizer = tokenizer_for(ROWS, Path("tokenizer"))
    folder = Path("arms/labels/seed-0")
    return TrainingJob("scratch:t5-tiny", tokenizer, ROWS, generate(6, 2), NLI, SETTINGS, folder)


def runner(report: Callable[[JobProgress], None] | None = None, workers: int = 2) -> JobRunner:
    return train_on_ray.students_on_ray(ON_RAY, workers)(report or (lambda progress: None))


def test_a_job_is_the_same_wherever_a_process_works(job: TrainingJob, tmp_path: Path) -> None:
    scoring = ScoringJob(job, generate(3, 3), Path("arms/labels/seed-0/test.jsonl"))
    explaining = ExplanationJob(job, generate(3, 3), None)
    for one in (job, scoring, explaining):
        moved = train_on_ray._anywhere(one)
        assert type(moved) is type(one) and moved.key == one.key
        trained = moved if isinstance(moved, TrainingJob) else moved.trained
        assert trained.folder == tmp_path / "arms/labels/seed-0" and trained.key == job.key
        assert trained.tokenizer == tmp_path / "tokenizer"
    assert train_on_ray._anywhere(scoring).output == tmp_path / "arms/labels/seed-0/test.jsonl"
    Path("llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text("{}", encoding="utf-8")
    own = train_on_ray._anywhere(replace(job, student="llama"))
    assert own.student == str(tmp_path / "llama") and own.key == replace(job, student="llama").key


def test_what_a_worker_wrote_where_nobody_sees_it_is_an_error(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_on_ray, "_SEEN_S", 0.0)
    with pytest.raises(
        UsageError, match=r"a worker on node-7 .*--runs must name a folder that all"
    ):
        train_on_ray._check_seen(job, "node-7")


def test_without_ray_or_under_accelerate_it_is_one_line(
    small_recipe: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = parse_recipe(small_recipe())
    monkeypatch.setattr(train_on_ray, "require_ray", lambda purpose: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="--engine ray: does not work under accelerate launch"):
        api.run(recipe, runs=tmp_path, scale=ON_RAY)
    monkeypatch.undo()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError) as caught:
        cluster.require_ray("--engine ray")
    assert caught.value.extra == "scale"
    assert not (tmp_path / "small").exists()


class LikeRay:
    """As much of Ray as a runner calls; tasks run one after the other, when they are waited for."""

    def __init__(self, resources: dict[str, float]) -> None:
        self.resources = resources
        self.needs: list[dict[str, Any]] = []
        self.most_pending = 0
        self.cancelled: list[Any] = []
        self._work: dict[int, Callable[[], Any]] = {}
        self.exceptions = SimpleNamespace(RayError=LostProcess)
        self.reported: list[JobProgress] = []

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, **needs: Any) -> Callable[[Callable[..., Any]], Any]:
        self.needs.append(needs)

        def submit(function: Callable[..., Any], *arguments: Any) -> int:
            self._work[len(self.needs)] = partial(function, *arguments)
            self.most_pending = max(self.most_pending, len(self._work))
            return len(self.needs)

        return lambda function: SimpleNamespace(remote=partial(submit, function))

    def wait(self, pending: list[int], timeout: float) -> tuple[list[int], list[int]]:
        return pending[-1:], pending[:-1]  # not in their order

    def get(self, reference: int) -> Any:
        return self._work.pop(reference)()

    def cancel(self, reference: int, force: bool) -> None:
        self.cancelled.append(reference)


class LostProcess(Exception):
    """In the place of Ray's errors."""


def like_ray(monkeypatch: pytest.MonkeyPatch, **resources: float) -> LikeRay:
    made = LikeRay(resources)
    channel: Any = queue.Queue()
    channel.shutdown = lambda: None
    channel.put = made.reported.append
    monkeypatch.setattr(train_on_ray, "require_ray", lambda purpose: None)
    monkeypatch.setattr(train_on_ray, "cluster", lambda *_: nullcontext(made))
    monkeypatch.setattr(train_on_ray, "progress_queue", lambda: channel)
    monkeypatch.setattr(train_on_ray, "_REPORT_S", 0.0)
    return made


@pytest.mark.parametrize(
    ("resources", "workers", "needs", "pending"),
    [
        ({"CPU": 8.0}, None, {"num_cpus": 1}, 3),
        ({"CPU": 8.0}, 2, {"num_cpus": 1}, 2),
        ({"CPU": 8.0, "GPU": 2.0}, None, {"num_gpus": 1}, 3),
    ],
)
def test_each_job_has_a_device_and_its_own_name(
    resources: dict[str, float],
    workers: int | None,
    needs: dict[str, int],
    pending: int,
    job: TrainingJob,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = like_ray(monkeypatch, **resources)
    folders = [Path(f"arms/labels/seed-{seed}") for seed in range(3)]
    jobs = [
        replace(job, folder=folder, settings=SETTINGS.replace(max_steps=2)) for folder in folders
    ]
    seen: list[JobProgress] = []
    with train_on_ray.students_on_ray(ON_RAY, workers)(seen.append) as there:
        found = list(there.run(jobs))
        # What there is now is not trained again, and predicts the same.
        assert dict(there.run(jobs)) == dict(found)
    assert sorted(index for index, _ in found) == [0, 1, 2]
    assert all(needs.items() <= asked.items() for asked in made.needs)
    assert all(asked["max_retries"] == 3 for asked in made.needs)
    assert made.most_pending == pending and not made.cancelled
    assert {progress.name for progress in seen} == {str(folder) for folder in folders}
    # What a process reports has the job's name here, and its steps.
    assert {progress.name for progress in made.reported} == {str(folder) for folder in folders}
    assert {progress.total for progress in made.reported} == {2}
    assert all((folder / "done.json").is_file() for folder in folders)


def test_an_error_and_a_lost_process_are_one_line_and_cancel_the_rest(
    job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = like_ray(monkeypatch, CPU=4.0)
    others = [replace(job, folder=Path("a/b/seed-1")), replace(job, folder=Path("a/b/seed-2"))]
    broken = replace(job, student=str(Path("nothing").resolve()), tokenizer=None)
    with pytest.raises(StudentError, match="nothing"), runner(workers=3) as there:
        list(there.run([*others, broken]))
    assert len(made.cancelled) == 2

    def lose(*_: Any) -> None:
        raise LostProcess("The worker died\nunexpectedly.")

    monkeypatch.setattr(train_on_ray, "_run_in_cluster", lose)
    with (
        pytest.raises(
            StudentError,
            match=r"^a/b/seed-1: its process in the cluster ended 4 times, .*: The worker died",
        ),
        runner() as there,
    ):
        list(there.run(others[:1]))


def predictions(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "arms").rglob("test.jsonl"))
    }


def test_a_run_is_that_of_this_machine(
    ray: Any, small_recipe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    recipe, ledger = parse_recipe(small_recipe()), tmp_path / "ledger.sqlite"
    here = api.run(recipe, runs=tmp_path / "here", ledger=ledger, workers=1)
    there = api.run(recipe, runs=tmp_path / "there", ledger=ledger, workers=2, scale=ON_RAY)
    wanted = predictions(here.folder)
    assert len(wanted) == 6 and predictions(there.folder) == wanted
    assert there.results.arms == here.results.arms
    assert there.results.comparisons == here.results.comparisons
    # What the cluster has done is done for this machine too.
    before = {path: path.stat().st_mtime_ns for path in there.folder.rglob("done.json")}
    api.run(recipe, runs=tmp_path / "there", ledger=ledger, workers=1)
    assert {path: path.stat().st_mtime_ns for path in before} == before and len(before) == 6


def test_a_killed_training_is_taken_up_where_it_was(
    ray: Any, job: TrainingJob, tmp_path: Path
) -> None:
    import psutil

    jobs = [
        replace(
            job, settings=SETTINGS.replace(epochs=30, evaluate_every=6, seed=seed), folder=place
        )
        for seed, place in enumerate((Path("a/b/seed-0"), Path("a/b/seed-1")))
    ]
    alone = [replace(one, folder=Path("alone") / one.folder) for one in jobs]
    with Runner(1) as local:
        wanted = dict(local.run(alone))
    killed: list[int] = []
    seen: list[JobProgress] = []

    def kill() -> None:
        until = time.monotonic() + 120
        while not killed and time.monotonic() < until:
            if any(tmp_path.glob("a/b/seed-*/log.jsonl")):
                for process in psutil.process_iter(["cmdline"]):
                    if "ray::_run_in_cluster" in " ".join(process.info["cmdline"] or ()):
                        killed.append(process.pid)
                        os.kill(process.pid, signal.SIGKILL)
                        return
            time.sleep(0.02)

    threading.Thread(target=kill, daemon=True).start()
    with runner(seen.append) as there:
        found = dict(there.run(jobs))
    assert len(killed) == 1
    assert {index: replace(result, seconds=0) for index, result in found.items()} == {
        index: replace(result, seconds=0) for index, result in wanted.items()
    }
    for one, other in zip(jobs, alone, strict=True):
        name = "model/model.safetensors"
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()
        assert read_json(one.folder / "done.json")["key"] == one.key
    # Each job is complete in the end, under the name that it has here.
    ends = {progress.name: progress.done for progress in seen}
    assert ends == {"a/b/seed-0": 1, "a/b/seed-1": 1}
    assert any(progress.total > 1 for progress in seen)  # and it reported on the way


def test_the_first_error_is_one_line_and_ends_the_rest(ray: Any, job: TrainingJob) -> None:
    broken = replace(job, student=str(Path("nothing").resolve()), tokenizer=None)
    long = replace(job, settings=SETTINGS.replace(epochs=10_000), folder=Path("a/b/seed-1"))
    began = time.monotonic()
    with pytest.raises(StudentError) as caught, runner() as there:
        list(there.run([long, broken]))
    assert "nothing" in str(caught.value) and "\n" not in str(caught.value)
    assert time.monotonic() - began < 120
    assert not (long.folder / "done.json").exists()
