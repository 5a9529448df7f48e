"""manifest.json: what a run was made of, every opening of its test set, and every answer."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from tutelage.config.recipe import Recipe
from tutelage.core.errors import RunFolderError
from tutelage.core.results import ComparisonResult, OtherAnswer, OtherChange, OtherDifference
from tutelage.core.storage import as_json, digest, read_json, write_atomic, write_json
from tutelage.experiment.prepare import Splits
from tutelage.experiment.trainings import Choices

_PACKAGES = ("tutelage", "torch", "transformers", "tokenizers", "numpy", "scipy", "datasets")


def version() -> str:
    """Tutelage's own version."""
    return metadata.version("tutelage")


def begin(folder: Path, recipe: Recipe, splits: Splits) -> None:
    """Record the recipe and everything that a repetition needs; earlier test openings stay."""
    path = folder / "manifest.json"
    before = read_json(path) if path.exists() else {}
    write_atomic(folder / "recipe.yaml", recipe.to_yaml())
    write_json(
        path,
        {
            "name": recipe.name,
            "recipe_sha256": digest(recipe.model_dump(mode="json")),
            "started": before.get("started") or _now(),
            "last_call": _now(),
            "data_sha256": _digests(splits),
            "duplicates": as_json(splits.duplicates),
            "versions": _versions(),
            "git_revision": _git_revision(),
            "machine": {
                "system": platform.platform(),
                "processor": platform.machine(),
                "cores": os.cpu_count(),
            },
            "test_set_openings": before.get("test_set_openings", []),
            "thresholds_on_test": before.get("thresholds_on_test", []),
            "test_rows_also_used_by": before.get("test_rows_also_used_by", []),
        },
    )


def _digests(splits: Splits) -> dict[str, str]:
    """A digest of the rows of each source, and of the unlabelled ones where there are any."""
    digests = {name: source.sha256 for name, source in splits.sources.items()}
    return digests if splits.pool is None else {**digests, "unlabelled": splits.pool.sha256}


Opening = Mapping[str, Any]
"""What the test set was opened for, as the manifest has it, without time and answer."""


def opening_of(
    choices: Choices, students: Mapping[int, str], data_sha256: str, rows_sha256: str
) -> Opening:
    """What the test set is opened for.

    students:    seed -> a digest of everything that decides what that replicate's students are
    data_sha256: of the data that test was loaded from
    rows_sha256: of the test rows: a different digest only where they were held out of other rows
    """
    opening: Opening = as_json(
        {
            "chosen": choices,
            "students": students,
            "test_sha256": data_sha256,
            "test_rows_sha256": rows_sha256,
        }
    )
    return opening


def record_test_opening(
    folder: Path, opening: Opening, plan: Sequence[int] = ()
) -> tuple[OtherAnswer, ...]:
    """Record that the test set is opened; the same opening again is not counted twice.

    plan: the analyses that were planned before the first time; a plan that is made later, with the
          answer known, is not recorded

    Returns the answers of all other openings, in the order in which they were first made.
    """
    path = folder / "manifest.json"
    values = read_json(path)
    known = values["test_set_openings"]
    if not any(_same(each, opening) for each in known):
        known.append({**opening, "time": _now(), "plan": list(plan), "answer": []})
        write_json(path, values)
    return tuple(_other(each, opening, plan) for each in known if not _same(each, opening))


def record_answer(folder: Path, opening: Opening, comparisons: Sequence[ComparisonResult]) -> None:
    """Keep the primary differences with the opening that gave them, whatever comes later."""
    path = folder / "manifest.json"
    values = read_json(path)
    for each in values["test_set_openings"]:
        if _same(each, opening):
            each["answer"] = as_json([_kept(c) for c in comparisons if c.primary])
    write_json(path, values)


def record_threshold(
    folder: Path, opening: Mapping[str, Any]
) -> tuple[str, tuple[dict[str, Any], ...]]:
    """Record that the test set is opened for a threshold of escalation; the same one again is not
    counted twice.

    Returns when it was first opened for it, and the other thresholds with their answers.
    """
    path = folder / "manifest.json"
    values = read_json(path)
    known = values.setdefault("thresholds_on_test", [])
    mine = next((each for each in known if _same(each, opening)), None)
    if mine is None:
        mine = {**opening, "time": _now(), "answer": None}
        known.append(mine)
        write_json(path, values)
    return str(mine["time"]), tuple(each for each in known if not _same(each, opening))


def record_threshold_answer(folder: Path, opening: Mapping[str, Any], answer: Any) -> None:
    """Keep what the test set answered for a threshold, whatever comes later."""
    path = folder / "manifest.json"
    values = read_json(path)
    for each in values["thresholds_on_test"]:
        if _same(each, opening):
            each["answer"] = answer
    write_json(path, values)


def _same(recorded: Mapping[str, Any], opening: Opening) -> bool:
    return {key: recorded.get(key) for key in opening} == dict(opening)


def _kept(comparison: ComparisonResult) -> OtherDifference:
    return OtherDifference(
        comparison.arm,
        comparison.baseline,
        comparison.difference,
        comparison.ci95,
        comparison.p_adjusted,
    )


def _other(recorded: Mapping[str, Any], opening: Opening, plan: Sequence[int]) -> OtherAnswer:
    before, now = recorded.get("students"), opening["students"]
    if not isinstance(before, Mapping):  # of an earlier version, without seeds
        before = {}
    same_rows = recorded["test_rows_sha256"] == opening["test_rows_sha256"]
    shared = before.keys() & now.keys()
    change: OtherChange = "choice"
    if same_rows and shared and all(before[seed] == now[seed] for seed in shared):
        planned = plan and recorded.get("plan") == list(plan)
        if planned and len(shared) in (len(before), len(now)):
            change = "planned analysis"
        elif len(shared) == len(before):
            change = "seeds added"
        elif len(shared) == len(now):
            change = "seeds left out"
    return OtherAnswer(
        time=recorded["time"],
        change=change,
        seeds=tuple(int(seed) for seed in before),
        differences=tuple(
            OtherDifference(**each | {"ci95": tuple(each["ci95"])})
            for each in recorded.get("answer", [])
        ),
    )


def record_runs_on_same_rows(folder: Path, rows_sha256: str) -> tuple[str, ...]:
    """Record, and return, the names of the other runs in the same folder that were evaluated on the
    same test rows.

    What was learned from their results may be in this recipe, whatever its name. A manifest that
    cannot be read counts as none.
    """
    others = [
        path.parent.name
        for path in sorted(folder.parent.glob("*/manifest.json"))
        if path.parent.name != folder.name and _has_used(path, rows_sha256)
    ]
    path = folder / "manifest.json"
    values = read_json(path)
    if values.get("test_rows_also_used_by") != others:
        write_json(path, values | {"test_rows_also_used_by": others})
    return tuple(others)


def _has_used(manifest: Path, rows_sha256: str) -> bool:
    try:
        openings = read_json(manifest)["test_set_openings"]
        return any(opening["test_rows_sha256"] == rows_sha256 for opening in openings)
    except (RunFolderError, KeyError, TypeError, AttributeError):
        return False


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _versions() -> dict[str, str]:
    versions: dict[str, Any] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return versions


def _git_revision() -> str | None:
    """Of the checkout that the run was called in, if any; marked `-dirty` where it was changed."""
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
