"""Copies of a training's log in TensorBoard, Weights & Biases or trackio.

log.jsonl is the record. Each line of it is also told to the trackers that were asked for, at its
step, through accelerate's tracker classes; a training is one tracked run. A tracker has no say: it
decides nothing of a training's outcome or its job's key, and one that fails is left alone after
one warning.

A training that is resumed goes on in the tracked run that it began, which tracking.json in its
folder names. What it does over again would come twice: TensorBoard takes the first account back;
the others keep it, and are not told the second.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tutelage.core.errors import MissingExtraError, UsageError
from tutelage.core.storage import as_json, read_json, write_json

OnLog = Callable[[Mapping[str, Any]], None]
"""Told each line of log.jsonl, after it is there: its `step`, and values by name."""


class Tracker(Protocol):
    """What is used of `accelerate.tracking.GeneralTracker`."""

    def start(self) -> None:
        """Open the run."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Keep the run's settings."""

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        """Keep values of one step."""

    def finish(self) -> None:
        """Close the run."""


@dataclass(frozen=True, slots=True)
class Tracking:
    """Which trackers follow a training, and its name there: RECIPE/ARM/CONFIG/seed-N."""

    trackers: tuple[str, ...]
    run: str

    @property
    def project(self) -> str:
        """The first part of the name."""
        return self.run.split("/")[0]

    @property
    def group(self) -> str | None:
        """The parts between the project and the seed, which trainings that differ in it share."""
        return "/".join(self.run.split("/")[1:-1]) or None


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a tracked run begins.

    folder:  of the training
    id:      of the run, for trackers that go by ids
    step:    the first that it will be told
    resumed: whether it was begun before, by a training that was interrupted
    """

    tracking: Tracking
    folder: Path
    id: str
    step: int
    resumed: bool


def _tensorboard(begin: Beginning) -> Tracker:
    from accelerate.tracking import TensorBoardTracker

    place = begin.folder / "tensorboard"
    if not begin.resumed:
        shutil.rmtree(place, ignore_errors=True)  # of a training that this one replaces
    purge = begin.step if begin.resumed else None
    tracker: Tracker = TensorBoardTracker(place.name, begin.folder, purge_step=purge)
    return tracker


_WANDB = {
    "WANDB_SILENT": "true",  # it would write between the progress bars
    "WANDB_CONSOLE": "off",
    "WANDB_INIT_TIMEOUT": "30",
    "WANDB_FINISH_TIMEOUT": "60",  # without one a network that is gone holds a training for ever
}
"""Settings of wandb's own, unless the environment has others."""


def _wandb(begin: Beginning) -> Tracker:
    from accelerate.tracking import WandBTracker

    for name, value in _WANDB.items():
        os.environ.setdefault(name, value)
    tracking = begin.tracking
    tracker: Tracker = WandBTracker(
        tracking.project,
        name=tracking.run,
        group=tracking.group,
        id=begin.id,
        resume="allow",
        reinit="finish_previous",  # else a run that could not be closed would get this one's log
        dir=str(begin.folder),
    )
    return tracker


def _trackio(begin: Beginning) -> Tracker:
    from accelerate.tracking import TrackioTracker

    tracking = begin.tracking
    tracker: Tracker = TrackioTracker(
        tracking.project,
        name=tracking.run,
        group=tracking.group,
        resume="allow" if begin.resumed else "never",
    )
    return tracker


@dataclass(frozen=True, slots=True)
class Backend:
    """One tracker.

    package:    what is imported, and its name on the package index
    make:       the tracker, not yet started
    takes_back: whether a resumed run has its settings still, and hides what it was told of steps
                that are done over again
    errors:     MODULE:CLASS of errors that are no subclass of Python's usual ones
    """

    package: str
    make: Callable[[Beginning], Tracker]
    takes_back: bool = False
    errors: tuple[str, ...] = ()


BACKENDS: dict[str, Backend] = {
    "tensorboard": Backend("tensorboard", _tensorboard, takes_back=True),
    "wandb": Backend(
        "wandb",
        _wandb,
        errors=(
            "wandb.errors:Error",
            "wandb.sdk.mailbox:HandleAbandonedError",
            "wandb.sdk.mailbox:MailboxClosedError",
        ),
    ),
    "trackio": Backend("trackio", _trackio, errors=("httpx:HTTPError", "sqlite3:Error")),
}
"""By the name that a recipe gives."""

_USUAL = (AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""What a tracker raises where the network, the disk, an account or its own version is at fault."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise UsageError where a tracker is unknown, or its package is not installed."""
    for name in names:
        if name not in BACKENDS:
            raise UsageError(f"tracker {name!r}: expected one of {', '.join(BACKENDS)}")
        package = BACKENDS[name].package
        if not _installed(package):
            raise UsageError(
                f"tracking by {name} needs the package {package!r}, which is not installed: "
                f"pip install {package}"
            )
        if not _installed("accelerate"):
            raise MissingExtraError("accelerate", "train", f"tracking by {name}")


def _installed(package: str) -> bool:
    found = find_spec(package)
    # A mere folder of the name, such as the one that wandb leaves, has no origin.
    return found is not None and found.origin is not None


@contextmanager
def tracked(
    tracking: Tracking | None, folder: Path, config: Mapping[str, Any]
) -> Iterator[OnLog | None]:
    """Inside, what `train` is to call for each line of its log; None where nobody follows it.

    folder: of the training; made here before `train` cuts an interrupted training's log back
    config: the settings that the tracked run shows, nested or not
    """
    if tracking is None or not tracking.trackers:
        yield None
        return
    copies = _Copies(tracking, folder, config)
    try:
        yield copies.log
    finally:
        copies.finish()


class _Copies:
    """The tracked runs of one training. They begin with the first line that is logged."""

    def __init__(self, tracking: Tracking, folder: Path, config: Mapping[str, Any]) -> None:
        self._tracking = tracking
        self._folder = folder
        self._config = _flat(config)
        self._told = {_place(line) for line in self._lines()}
        self._open: dict[str, Tracker] = {}
        self._keeps: set[str] = set()  # those that were told `_told`, and do not take it back
        self._begun = False

    def log(self, values: Mapping[str, Any]) -> None:
        """Tell every tracker one line."""
        if not self._begun:
            self._begun = True
            self._begin(values["step"])
        for name, tracker in list(self._open.items()):
            if name in self._keeps and _place(values) in self._told:
                continue
            with self._bearing(name):
                _tell(tracker, values)

    def finish(self) -> None:
        """Close the runs."""
        for name, tracker in list(self._open.items()):
            with self._bearing(name):
                tracker.finish()
        self._open.clear()

    def _begin(self, step: int) -> None:
        """Open the runs, of which `step` is the first to come."""
        earlier = [line for line in self._lines() if line["step"] < step]
        path = self._folder / "tracking.json"
        # Without earlier lines this training is a new one, whatever lies in its folder.
        ids: dict[str, str] = read_json(path) if earlier and path.exists() else {}
        for name in self._tracking.trackers:
            backend, resumed = BACKENDS[name], name in ids
            run = ids.get(name, uuid.uuid4().hex)
            with self._bearing(name):
                from accelerate import PartialState

                PartialState()  # the trackers log their doings, which asks which process this is
                begin = Beginning(self._tracking, self._folder, run, step, resumed)
                tracker = backend.make(begin)
                tracker.start()
                self._open[name] = tracker
                if not (resumed and backend.takes_back):
                    tracker.store_init_configuration(dict(self._config))
                if not resumed:
                    for line in earlier:  # it was not there when the training began
                        _tell(tracker, line)
                elif not backend.takes_back:
                    self._keeps.add(name)
                ids[name] = run
                write_json(path, ids)

    def _lines(self) -> list[dict[str, Any]]:
        path = self._folder / "log.jsonl"
        lines = []
        for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            with suppress(ValueError):  # the half line that a kill left
                lines.append(json.loads(text))
        return lines

    @contextmanager
    def _bearing(self, name: str) -> Iterator[None]:
        """Inside, what the tracker raises costs it its place, and nothing else."""
        try:
            with redirect_stdout(sys.stderr):  # standard output is for results
                yield
        except _failures(name) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            warnings.warn(
                f"tracking by {name} has failed ({reason}): this training goes on without it; "
                "log.jsonl has everything",
                RuntimeWarning,
                stacklevel=1,
            )
            tracker = self._open.pop(name, None)
            if tracker is not None:
                with suppress(*_failures(name)):
                    tracker.finish()


def _failures(name: str) -> tuple[type[Exception], ...]:
    """The errors of a tracker that a training survives."""
    found: list[type[Exception]] = [*_USUAL]
    for place in BACKENDS[name].errors:
        module, _, error = place.partition(":")
        # Only a package that has been imported can have raised its errors.
        known = getattr(sys.modules.get(module), error, None)
        if known is not None:
            found.append(known)
    return tuple(found)


def _tell(tracker: Tracker, line: Mapping[str, Any]) -> None:
    values = {name: value for name, value in line.items() if name != "step"}
    tracker.log(values, step=line["step"])


def _place(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """What is one line of the log however often it is written: its step, and what it tells of."""
    return (line["step"], *sorted(line))


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings as trackers take them: one level, plain values, what is not set left out."""
    flat: dict[str, Any] = {}
    for key, value in as_json(config).items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{key}.")
        elif isinstance(value, list):
            flat[above + key] = ", ".join(map(str, value))
        elif value is not None:
            flat[above + key] = value
    return flat
