"""Shared fixtures: the folder of recorded data, small recipes, and a finished run."""

from __future__ import annotations

import gc
import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

gc.disable()  # while tests are imported and collected, nearly all that is made stays

# Processor time is shared with other tests: how long one example takes says nothing.
settings.register_profile("tutelage", deadline=None)
settings.load_profile("tutelage")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may depend on a hub

if (_number := os.environ.get("PYTEST_XDIST_WORKER", "")) and hasattr(os, "sched_setaffinity"):
    # One of several processes that share the machine: it and all it starts keep to one core. A run
    # without a number of workers then trains here, and starts no processes that import torch again.
    _cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {_cores[int(_number.removeprefix("gw")) % len(_cores)]})

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # Started by a shell in the background: processes that the tests start would ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)


_LONGEST = (
    "experiment",
    "student",
    "cli",
    "deliver",
    "benchmarks",
    "report",
    "teacher",
    "test_site.py",
)
"""Rooms, and files outside of rooms, with the longest files of tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files come first, so that several processes end at about the same time."""

    @cache
    def rank(file: Path) -> int:
        room = file.relative_to(Path(__file__).parent).parts[0]
        return _LONGEST.index(room) if room in _LONGEST else len(_LONGEST)

    items.sort(key=lambda item: rank(item.path))


def pytest_collection_finish() -> None:
    """What was imported for the tests stays: the garbage collector need not look at it again."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)  # a thirtieth of a test's time goes into looking otherwise
    gc.enable()


@pytest.fixture
def shared_data() -> Path:
    """The folder of recorded data, which is not part of the project."""
    root = Path(__file__).parents[1]
    folder = Path(os.environ.get("TUTELAGE_SHARED_DATA", root / "../shared/data"))
    if not (folder / "esnli").is_dir():
        pytest.skip(f"no recorded data in {folder} (set TUTELAGE_SHARED_DATA)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def drawing() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """`with drawing():` a report's figures are drawn.

    Elsewhere a figure keeps its element, title and description, and has no lines: matplotlib takes
    longer for a report's figures than small trainings do.
    """
    from tutelage.report.figures import svg

    draw, drawn = svg._svg, [False]

    def draw_or_not(figure: Any, size: tuple[int, int], *texts: str) -> Any:
        if drawn[0]:
            return draw(figure, size, *texts)
        return svg._for_page("<svg></svg>", size, *texts)

    @contextmanager
    def switched_on() -> Iterator[None]:
        before, drawn[0] = drawn[0], True
        try:
            yield
        finally:
            drawn[0] = before

    svg._svg = draw_or_not
    yield switched_on
    svg._svg = draw


@pytest.fixture
def figures(drawing: Callable[[], AbstractContextManager[None]]) -> Iterator[None]:
    """For a test that looks at a report's figures: they are drawn."""
    with drawing():
        yield


@pytest.fixture
def quick_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """`doctor` and `plan` measure trainings for a moment: for tests that look at no figure."""
    from functools import partial

    from tutelage.planning import duration

    brief = partial(duration.measure_trainings, seconds=0.05)
    monkeypatch.setattr(duration, "measure_trainings", brief)


@pytest.fixture
def every_preflight() -> None:
    """For a test that looks at the preflight of new students: none is taken from another test."""


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run of the tests; pytest-xdist's processes have it in common."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def _preflights(shared_folder: Path) -> Callable[[str, Callable[[], Any]], Any]:
    """What the preflights of new students have found, by their settings and tasks: found once by
    all processes."""
    from filelock import FileLock

    from tutelage.core.storage import as_json, read_json, write_json

    def found(key: str, examine: Callable[[], Any]) -> Any:
        from tutelage.student.preflight.examine import Preflight

        file = shared_folder / f"preflight-{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
        with FileLock(f"{file}.lock"):
            if not file.exists():
                write_json(file, as_json(examine()))
            values: dict[str, Any] = read_json(file)
        return Preflight(**{**values, "notes": tuple(values["notes"])})

    return found


@pytest.fixture(autouse=True)
def _one_preflight(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    _preflights: Callable[[str, Callable[[], Any]], Any],
) -> None:
    """Elsewhere a new student is examined once with the same settings and task, whatever the rows.

    Nearly every run of a recipe has one, and its preflight takes as long as several trainings.
    """
    if "every_preflight" in request.fixturenames:
        return
    from tutelage.experiment import student_check

    examine = student_check._kept

    def once(
        recipe: Any, model: str, settings: Any, splits: Any, ledger: Any, classifies: bool = False
    ) -> Any:
        if not model.startswith("scratch:"):
            return examine(recipe, model, settings, splits, ledger, classifies)
        return _preflights(
            repr([model, settings, recipe.resolved_task(), classifies]),
            lambda: examine(recipe, model, settings, splits, ledger, classifies),
        )

    monkeypatch.setattr(student_check, "_kept", once)


@pytest.fixture
def once(shared_folder: Path) -> Iterator[None]:
    """For a test of what runs make of their students: equal trainings are done once (see
    `shared_jobs`)."""
    from shared_jobs import shared_jobs

    with shared_jobs(shared_folder / "jobs"):
        yield


@pytest.fixture(scope="session")
def small_recipe() -> Callable[..., dict[str, Any]]:
    """A recipe that runs in seconds: tiny data, a tiny student, two seeds, one configuration, and
    no added arms."""

    from tutelage.config.design_rules import BASELINES

    def make(**changes: Any) -> dict[str, Any]:
        reasoning = {"strategy": "informed_reasoning"}
        values = {
            "name": "small",
            "data": {
                "train": "synthetic:nli?n=90&seed=1",
                "dev": "synthetic:nli?n=30&seed=2",
                "test": "synthetic:nli?n=45&seed=3",
            },
            "teacher": "scripted",
            "student": {
                "model": "scratch:t5-tiny",
                "epochs": 1,
                "batch_size": 16,
                "warmup_steps": 2,
                "evaluate_every": 3,
                "max_rationale_tokens": 48,
            },
            "arms": [
                {"name": "labels"},
                {"name": "reasoning", **reasoning},
                {"name": "reasoning-shuffled", **reasoning, "control": "shuffled"},
            ],
            "search": {"learning_rate": [3e-3], "label_weight": [0.3]},
            "seeds": [0, 1],
            "explain_rows": 5,
            "protocol": "full",
            "controls": [],
            "baselines": [],
            **changes,
        }
        if "departures" not in changes:
            left = {
                "controls": any("strategy" in arm for arm in values["arms"]),
                "baselines": len(values["baselines"]) < len(BASELINES),
                "seeds": len(values["seeds"]) == 1,
            }
            values["departures"] = {rule: "a small test" for rule in left if left[rule]}
        return values

    return make


@pytest.fixture(scope="session")
def searched_recipe(small_recipe: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """The small recipe with a search: six trainings an arm in place of two."""
    search = {"learning_rate": [1e-3, 3e-3], "label_weight": [0.3]}
    return small_recipe(search=search)


@pytest.fixture(scope="session")
def finished(searched_recipe: dict[str, Any], shared_folder: Path) -> Path:
    """One uninterrupted run of the recipe with a search, shared by the tests that only read it."""
    from filelock import FileLock

    from tutelage.config.recipe_file import parse_recipe
    from tutelage.experiment.run import run

    runs = shared_folder / "finished"
    with FileLock(f"{runs}.lock"):
        done = runs / "done"
        if not done.exists():
            run(parse_recipe(searched_recipe), runs=runs, workers=1)
            done.touch()
    return runs / "small"
