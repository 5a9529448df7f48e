"""Copies a training's log to TensorBoard, Weights & Biases or trackio.

log.jsonl is the record. Each of its lines is also sent to the trackers that were asked for, at its
step, through accelerate's tracker classes; one training is one tracked run. A tracker changes
neither the result of a training nor its job's key. One that fails is not used any further, after
one warning.

A resumed training continues its tracked run, which tracking.json in its folder names. Lines of
steps that run again would appear twice: TensorBoard discards the first ones; the other trackers
keep them and are not sent the second ones.
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
"""Called with each line of log.jsonl once it is written: its `step`, and values by name."""


class Tracker(Protocol):
    """The methods of `accelerate.tracking.GeneralTracker` that are used here."""

    def start(self) -> None:
        """Open the run."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        """Store the run's settings."""

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        """Store values of one step."""

    def finish(self) -> None:
        """Close the run."""


@dataclass(frozen=True, slots=True)
class Tracking:
    """Which trackers get a training's log, and its name there: RECIPE/ARM/CONFIG/seed-N."""

    trackers: tuple[str, ...]
    run: str

    @property
    def project(self) -> str:
        """The first part of the name."""
        return self.run.split("/")[0]

    @property
    def group(self) -> str | None:
        """The parts between project and seed: trainings that differ only in the seed share them."""
        return "/".join(self.run.split("/")[1:-1]) or None


@dataclass(frozen=True, slots=True)
class RunStart:
    """What a tracker needs to start or resume a run.

    folder:  of the training
    id:      of the run, for trackers that use ids
    step:    the first step that will be logged
    resumed: whether an interrupted training has already started this run
    """

    tracking: Tracking
    folder: Path
    id: str
    step: int
    resumed: bool


def _tensorboard(start: RunStart) -> Tracker:
    from accelerate.tracking import TensorBoardTracker

    folder = start.folder / "tensorboard"
    if not start.resumed:
        shutil.rmtree(folder, ignore_errors=True)  # of a training that this one replaces
    purge = start.step if start.resumed else None
    tracker: Tracker = TensorBoardTracker(folder.name, start.folder, purge_step=purge)
    return tracker


_WANDB = {
    "WANDB_SILENT": "true",  # else it writes between the progress bars
    "WANDB_CONSOLE": "off",
    "WANDB_INIT_TIMEOUT": "30",
    "WANDB_FINISH_TIMEOUT": "60",  # else a lost connection blocks a training for ever
}
"""Environment variables for wandb, unless the environment sets them already."""


def _wandb(start: RunStart) -> Tracker:
    from accelerate.tracking import WandBTracker

    for name, value in _WANDB.items():
        os.environ.setdefault(name, value)
    tracking = start.tracking
    tracker: Tracker = WandBTracker(
        tracking.project,
        name=tracking.run,
        group=tracking.group,
        id=start.id,
        resume="allow",
        reinit="finish_previous",  # else a run that could not be closed would get this log
        dir=str(start.folder),
    )
    return tracker


def _trackio(start: RunStart) -> Tracker:
    from accelerate.tracking import TrackioTracker

    tracking = start.tracking
    tracker: Tracker = TrackioTracker(
        tracking.project,
        name=tracking.run,
        group=tracking.group,
        resume="allow" if start.resumed else "never",
    )
    return tracker


@dataclass(frozen=True, slots=True)
class Backend:
    """How to create one tracker.

    package:    the package that is imported, and its name on the package index
    make:       creates the tracker, not yet started
    can_rewind: whether a resumed run still has its settings and discards the lines of steps that
                run again
    errors:     MODULE:CLASS of errors that do not derive from Python's usual ones
    """

    package: str
    make: Callable[[RunStart], Tracker]
    can_rewind: bool = False
    errors: tuple[str, ...] = ()


BACKENDS: dict[str, Backend] = {
    "tensorboard": Backend("tensorboard", _tensorboard, can_rewind=True),
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
"""Trackers by their names in a recipe."""

_USUAL = (AttributeError, ImportError, LookupError, OSError, RuntimeError, TypeError, ValueError)
"""Errors of a tracker whose cause is the network, the disk, an account or its own version."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise UsageError for an unknown tracker, or one whose package is not installed.

    Raises MissingExtraError without accelerate.
    """
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
    # A plain folder of that name, such as the one that wandb leaves, has no origin.
    return found is not None and found.origin is not None


@contextmanager
def tracked(
    tracking: Tracking | None, folder: Path, config: Mapping[str, Any]
) -> Iterator[OnLog | None]:
    """Yield the `on_log` that `train` calls for each line of its log; None without trackers.

    folder: of the training; its log is loaded here, before `train` truncates that of an interrupted
            training
    config: the settings that the tracked run shows, nested or not
    """
    if tracking is None or not tracking.trackers:
        yield None
        return
    copies = _LogCopies(tracking, folder, config)
    try:
        yield copies.log
    finally:
        copies.finish()


class _LogCopies:
    """The tracked runs of one training. They start with the first line that is logged."""

    def __init__(self, tracking: Tracking, folder: Path, config: Mapping[str, Any]) -> None:
        self._tracking = tracking
        self._folder = folder
        self._config = _flat(config)
        self._logged = {_identity(line) for line in self._lines()}
        self._open: dict[str, Tracker] = {}
        self._keeps: set[str] = set()  # trackers that have the lines in `_logged` and keep them
        self._started = False

    def log(self, values: Mapping[str, Any]) -> None:
        """Send one line to every tracker."""
        if not self._started:
            self._started = True
            self._start(values["step"])
        for name, tracker in list(self._open.items()):
            if name in self._keeps and _identity(values) in self._logged:
                continue
            with self._surviving_errors(name):
                _send(tracker, values)

    def finish(self) -> None:
        """Close the runs."""
        for name, tracker in list(self._open.items()):
            with self._surviving_errors(name):
                tracker.finish()
        self._open.clear()

    def _start(self, step: int) -> None:
        """Open the runs. step: the first one that will be logged."""
        earlier = [line for line in self._lines() if line["step"] < step]
        path = self._folder / "tracking.json"
        # Without earlier lines the training is a new one, whatever its folder contains.
        ids: dict[str, str] = read_json(path) if earlier and path.exists() else {}
        for name in self._tracking.trackers:
            backend, resumed = BACKENDS[name], name in ids
            run = ids.get(name, uuid.uuid4().hex)
            with self._surviving_errors(name):
                from accelerate import PartialState

                PartialState()  # the trackers' own log messages need it
                start = RunStart(self._tracking, self._folder, run, step, resumed)
                tracker = backend.make(start)
                tracker.start()
                self._open[name] = tracker
                if not (resumed and backend.can_rewind):
                    tracker.store_init_configuration(dict(self._config))
                if not resumed:
                    for line in earlier:  # this tracker was added after the training started
                        _send(tracker, line)
                elif not backend.can_rewind:
                    self._keeps.add(name)
                ids[name] = run
                write_json(path, ids)

    def _lines(self) -> list[dict[str, Any]]:
        path = self._folder / "log.jsonl"
        lines = []
        for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            with suppress(ValueError):  # an incomplete line that a kill left
                lines.append(json.loads(text))
        return lines

    @contextmanager
    def _surviving_errors(self, name: str) -> Iterator[None]:
        """Inside, an error of the tracker ends its use with a warning, and nothing else."""
        try:
            with redirect_stdout(sys.stderr):  # standard output is for results
                yield
        except _failures(name) as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            warnings.warn(
                f"tracking by {name} has failed ({reason}): the training continues without it; "
                "log.jsonl is complete",
                RuntimeWarning,
                stacklevel=1,
            )
            tracker = self._open.pop(name, None)
            if tracker is not None:
                with suppress(*_failures(name)):
                    tracker.finish()


def _failures(name: str) -> tuple[type[Exception], ...]:
    """The errors of a tracker after which a training continues."""
    found: list[type[Exception]] = [*_USUAL]
    for place in BACKENDS[name].errors:
        module, _, error = place.partition(":")
        # Only a package that has been imported can raise its errors.
        known = getattr(sys.modules.get(module), error, None)
        if known is not None:
            found.append(known)
    return tuple(found)


def _send(tracker: Tracker, line: Mapping[str, Any]) -> None:
    values = {name: value for name, value in line.items() if name != "step"}
    tracker.log(values, step=line["step"])


def _identity(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """Identifies a line of the log, however often it is written: its step and its names."""
    return (line["step"], *sorted(line))


def _flat(config: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Settings as trackers accept them: one level, plain values, without those that are None."""
    flat: dict[str, Any] = {}
    for key, value in as_json(config).items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{key}.")
        elif isinstance(value, list):
            flat[above + key] = ", ".join(map(str, value))
        elif value is not None:
            flat[above + key] = value
    return flat
