"""Trackers get the log and change nothing: TensorBoard itself, the others as fakes."""

from __future__ import annotations

import json
import random
import sys
import time
import types
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from safetensors.torch import load_file

from tutelage.config.recipe_file import parse_recipe
from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import MissingExtraError, UsageError
from tutelage.core.task import NLI
from tutelage.data.synthetic import generate
from tutelage.experiment.run import run
from tutelage.experiment.train_file import train_file
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.jobs.jobs import TrainingJob, run_training
from tutelage.student.model.scratch import tokenizer_for
from tutelage.student.training import tracking
from tutelage.student.training.tracking import (
    BACKENDS,
    Backend,
    RunStart,
    Tracking,
    check_trackers,
)

ROWS = build_training_examples(generate(48, 1), NLI, None, "label")
DEV = list(generate(12, 2))
# The log has losses at steps 1, 4 and 8, and evaluations, where a training resumes, at 3, 6 and 9.
SETTINGS = TrainSettings(
    objective="label",
    learning_rate=3e-3,
    label_weight=1.0,
    epochs=10,
    max_steps=9,
    batch_size=8,
    evaluate_every=3,
    warmup_steps=2,
    dropout=0.1,
)
NAME = "recipe/arm/lr-0.003_w-1/seed-0"

Job = Callable[..., TrainingJob]


class Killed(Exception):
    pass


def kill_at(step: int) -> Callable[[int, int], None]:
    def on_step(done: int, total: int) -> None:
        if done == step:
            raise Killed

    return on_step


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tutelage.student.training.trainer._LOG_EVERY", 4)
        yield


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_for(ROWS, tmp_path_factory.mktemp("words"))


@pytest.fixture
def job(tokenizer: Path, tmp_path: Path) -> Job:
    def make(*trackers: str, folder: str = "training", **changes: Any) -> TrainingJob:
        settings = SETTINGS.replace(**changes)
        place, follow = tmp_path / folder, Tracking(trackers, NAME)
        return TrainingJob("scratch:t5-tiny", tokenizer, ROWS, DEV, NLI, settings, place, follow)

    return make


@pytest.fixture(scope="module")
def untracked(tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """The same training, finished, without trackers."""
    folder = tmp_path_factory.mktemp("untracked")
    job = TrainingJob("scratch:t5-tiny", tokenizer, ROWS, DEV, NLI, SETTINGS, folder)
    run_training(job)
    return job


def log_of(job: TrainingJob) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for line in (job.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def assert_same_result(one: TrainingJob, other: TrainingJob) -> None:
    weights = [load_file(j.folder / "model" / "model.safetensors") for j in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert log_of(one) == log_of(other)


# A tracker of our own.


class Fake:
    """Records its calls, and draws from every generator that a training could share."""

    def __init__(self, begin: RunStart, fail: dict[str, BaseException]) -> None:
        self.begin = begin
        self.calls: list[Any] = []
        self.fail = fail

    def _note(self, kind: str, what: Any) -> None:
        random.random()
        numpy.random.random()
        torch.rand(3)
        print("a tracker that talks")
        self.calls.append((kind, what))
        if kind in self.fail:
            raise self.fail[kind]

    def start(self) -> None:
        self._note("start", self.begin.resumed)

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self._note("config", values)

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self._note("log", {"step": step, **values})

    def finish(self) -> None:
        self._note("finish", None)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [what for kind, what in self.calls if kind == "log"]

    @property
    def order(self) -> list[str]:
        return [kind for kind, _ in self.calls]


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Fake]]:
    """Registers a tracker under a name; returns the list of its instances."""

    def register(name: str, can_rewind: bool = False, **fail: BaseException) -> list[Fake]:
        made: list[Fake] = []

        def make(begin: RunStart) -> Fake:
            made.append(Fake(begin, fail))
            return made[-1]

        # Any installed package: it is not imported.
        monkeypatch.setitem(BACKENDS, name, Backend("json", make, can_rewind, ("wave:Error",)))
        return made

    return register


def test_a_tracker_gets_the_log_in_order_and_changes_nothing(
    fakes: Callable[..., list[Fake]], job: Job, untracked: TrainingJob, capsys: Any
) -> None:
    made, tracked = fakes("fake"), job("fake")
    assert tracked.key == untracked.key
    run_training(tracked)
    assert_same_result(tracked, untracked)
    (fake,) = made
    assert fake.order == ["start", "config", *["log"] * 6, "finish"]
    assert fake.lines == log_of(tracked)
    assert [line["step"] for line in fake.lines] == [1, 3, 4, 6, 8, 9]
    assert (fake.begin.tracking.run, fake.begin.step, fake.begin.resumed) == (NAME, 1, False)
    config = fake.calls[1][1]
    assert config["student"] == "scratch:t5-tiny" and config["learning_rate"] == 3e-3
    assert config["seed"] == 0 and "max_grad_norm" in config
    # A training that has run already is not tracked again; standard output stays clean.
    run_training(tracked)
    run_training(replace(untracked, tracking=Tracking(("fake",), NAME)))
    assert len(made) == 1
    assert capsys.readouterr().out == ""


def test_the_settings_of_a_tracked_run_are_plain_values() -> None:
    nested = {"a": None, "b": {"c": (1, 2), "d": {"e": 0.5}}, "f": False, "g": "x"}
    assert tracking._flat(nested) == {"b.c": "1, 2", "b.d.e": 0.5, "f": False, "g": "x"}


@pytest.mark.parametrize("can_rewind", [False, True])
def test_a_resumed_training_continues_its_tracked_run(
    fakes: Callable[..., list[Fake]], job: Job, untracked: TrainingJob, can_rewind: bool
) -> None:
    made = fakes("fake", can_rewind)
    tracked = job("fake")
    with pytest.raises(Killed):  # after the loss of step 4; resumes from step 3
        run_training(tracked, kill_at(5))
    run_training(tracked)
    assert_same_result(tracked, untracked)
    first, second = made
    assert first.begin.id == second.begin.id
    assert (second.begin.resumed, second.begin.step) == (True, 4)
    assert first.order == ["start", "config", *["log"] * 3, "finish"]
    # A tracker that can rewind has kept the settings; trackio, for one, has not.
    assert second.order[:2] == ["start", "log" if can_rewind else "config"]
    lines = log_of(tracked)
    assert first.lines == lines[:3]
    assert second.lines == lines[2 if can_rewind else 3 :]


def test_a_tracker_added_later_gets_the_whole_log(
    fakes: Callable[..., list[Fake]], job: Job
) -> None:
    early, late = fakes("early"), fakes("late")
    with pytest.raises(Killed):
        run_training(job("early"), kill_at(5))
    run_training(job("early", "late"))
    assert late[0].lines == log_of(job())
    assert late[0].order[:2] == ["start", "config"]
    assert len(early) == 2 and early[1].begin.resumed


def test_another_training_in_the_folder_starts_a_new_tracked_run(
    fakes: Callable[..., list[Fake]], job: Job
) -> None:
    made = fakes("fake")
    run_training(job("fake", max_steps=3))
    run_training(job("fake", max_steps=4))
    assert len({fake.begin.id for fake in made}) == 2
    assert not made[1].begin.resumed
    assert made[1].lines == log_of(job())


ODD = type("Error", (Exception,), {})  # as in some packages: not derived from a usual error


@pytest.mark.parametrize("moment", ["start", "config", "log", "finish"])
@pytest.mark.parametrize("error", [ConnectionError("the network\nis gone"), ODD("is gone")])
def test_a_tracker_that_fails_costs_one_warning(
    fakes: Callable[..., list[Fake]],
    job: Job,
    untracked: TrainingJob,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    error: Exception,
) -> None:
    package = types.ModuleType("wave")
    package.Error = ODD  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wave", package)
    broken, whole = fakes("broken", **{moment: error}), fakes("whole")
    tracked = job("broken", "whole")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_training(tracked)
    messages = [str(w.message) for w in caught if "tracking" in str(w.message)]
    assert len(messages) == 1
    assert "tracking by broken has failed" in messages[0] and "is gone" in messages[0]
    assert "\n" not in messages[0]
    assert_same_result(tracked, untracked)
    assert whole[0].lines == log_of(tracked)
    # It is closed if it was opened, and not called again.
    expected = {
        "start": ["start"],
        "config": ["start", "config", "finish"],
        "log": ["start", "config", "log", "finish"],
        "finish": ["start", "config", *["log"] * 6, "finish", "finish"],
    }
    assert broken[0].order == expected[moment]


def test_a_bug_is_raised(fakes: Callable[..., list[Fake]], job: Job) -> None:
    fakes("fake", log=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        run_training(job("fake"))


# Before anything else is done.


def test_a_missing_tracker_is_reported_before_anything_else(
    small_recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BACKENDS, "trackio", Backend("no_such_package", lambda begin: None))
    values = small_recipe()
    values["student"]["tracking"] = ["trackio"]
    runs = tmp_path / "runs"
    with pytest.raises(UsageError) as caught:
        run(parse_recipe(values), runs=runs, workers=1)
    assert str(caught.value) == (
        "tracking by trackio needs the package 'no_such_package', which is not installed: "
        "pip install no_such_package"
    )
    with pytest.raises(UsageError, match="'mlflow': expected one of tensorboard, wandb, trackio"):
        run(parse_recipe(small_recipe()), runs=runs, workers=1, track=["mlflow"])
    with pytest.raises(UsageError, match="pip install no_such_package"):
        train_file(
            "no.jsonl", "no.jsonl", None, "scratch:t5-tiny", SETTINGS, runs, track=["trackio"]
        )
    assert not runs.exists()
    values["student"]["tracking"] = ["mlflow"]
    with pytest.raises(UsageError, match=r"student.tracking.0: got 'mlflow'.*'tensorboard'"):
        parse_recipe(values)


def test_a_folder_of_that_name_is_not_taken_for_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tracked_here").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(BACKENDS, "fake", Backend("tracked_here", lambda begin: None))
    with pytest.raises(UsageError, match="not installed"):
        check_trackers(["fake"])
    (tmp_path / "tracked_here" / "__init__.py").touch()
    check_trackers(["fake"])
    installed = tracking._installed
    monkeypatch.setattr(
        tracking, "_installed", lambda name: name != "accelerate" and installed(name)
    )
    with pytest.raises(MissingExtraError, match="accelerate"):
        check_trackers(["fake"])


def test_a_recipe_gives_tracked_runs_their_names(
    small_recipe: Any, tmp_path: Path, fakes: Callable[..., list[Fake]]
) -> None:
    made = fakes("fake")
    values = small_recipe(arms=[{"name": "labels"}], search={"learning_rate": [1e-3]}, seeds=[0])
    values["student"]["max_steps"] = 3
    run(parse_recipe(values), runs=tmp_path, workers=1, until="training", track=["fake"])
    assert [fake.begin.tracking.run for fake in made] == ["small/labels/lr-0.001_w-1/seed-0"]


# The real ones.


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def curves(job: TrainingJob) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for line in log_of(job):
        step = line.pop("step")
        for tag, value in line.items():
            found.setdefault(tag, []).append((step, float(numpy.float32(value))))
    return found


def test_tensorboard_shows_the_log(job: Job, untracked: TrainingJob) -> None:
    tracked = job("tensorboard")
    run_training(tracked)
    assert_same_result(tracked, untracked)
    place = tracked.folder / "tensorboard"
    assert scalars(place) == curves(tracked)
    assert set(scalars(place)) == {"loss", "dev_accuracy"}
    (settings,) = place.glob("*/hparams.yml")
    assert "learning_rate: 0.003" in settings.read_text(encoding="utf-8")


def test_tensorboard_shows_a_resumed_training_once(job: Job, untracked: TrainingJob) -> None:
    tracked = job("tensorboard")
    with pytest.raises(Killed):
        run_training(tracked, kill_at(5))
    place = tracked.folder / "tensorboard"
    assert [step for step, _ in scalars(place)["loss"]] == [1, 4]
    second = int(time.time())
    while int(time.time()) == second:  # TensorBoard sorts its files by the second
        time.sleep(0.02)
    run_training(tracked)
    assert len(list(place.glob("events.*"))) == 2
    assert scalars(place) == curves(tracked)
    assert [step for step, _ in scalars(place)["loss"]] == [1, 4, 8]
    assert len(list(place.glob("*/hparams.yml"))) == 1
    assert_same_result(tracked, untracked)


def test_tensorboard_drops_a_training_that_another_replaces(job: Job) -> None:
    run_training(job("tensorboard", max_steps=6))
    run_training(job("tensorboard", max_steps=3))
    place = job().folder / "tensorboard"
    assert scalars(place) == curves(job())
    assert [step for step, _ in scalars(place)["dev_accuracy"]] == [3]


class Service:
    """Stands for the packages wandb and trackio, as accelerate's trackers call them."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.lines: list[Any] = []
        self.config = types.SimpleNamespace(update=lambda values, allow_val_change: None)

    def init(self, **settings: Any) -> Service:
        self.begun.append(settings)
        return self

    def log(self, values: dict[str, Any], step: int) -> None:
        self.lines.append({"step": step, **values})

    def finish(self) -> None:
        pass


def test_wandb_gets_an_id_that_a_resumed_training_keeps(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, "wandb", service)  # type: ignore[arg-type]
    monkeypatch.setattr(tracking.os, "environ", {"WANDB_FINISH_TIMEOUT": "5"})
    tracked = job("wandb")
    with pytest.raises(Killed):
        run_training(tracked, kill_at(5))
    run_training(tracked)
    first, second = service.begun
    assert first == second
    assert (first["project"], first["name"]) == ("recipe", NAME)
    assert (first["group"], first["resume"]) == ("arm/lr-0.003_w-1", "allow")
    assert first["dir"] == str(tracked.folder) and len(first["id"]) == 32
    assert service.lines == log_of(tracked)
    # The environment's own settings take precedence.
    assert tracking.os.environ["WANDB_FINISH_TIMEOUT"] == "5"
    assert tracking.os.environ["WANDB_SILENT"] == "true"


def test_trackio_is_resumed_by_its_name(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, "trackio", service)  # type: ignore[arg-type]
    tracked = job("trackio")
    with pytest.raises(Killed):
        run_training(tracked, kill_at(5))
    run_training(tracked)
    assert [begun["resume"] for begun in service.begun] == ["never", "allow"]
    assert {begun["name"] for begun in service.begun} == {NAME}
    assert service.lines == log_of(tracked)
