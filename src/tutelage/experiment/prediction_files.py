"""Evaluates and compares files of predictions outside of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError, RunFolderError, UsageError
from tutelage.core.results import Comparison, Evaluation, load_results
from tutelage.core.storage import read_jsonl
from tutelage.core.task import NLI, Task
from tutelage.core.types import Prediction
from tutelage.data.duplicates import units_of
from tutelage.data.load import load_examples
from tutelage.evaluation.compare import compare
from tutelage.evaluation.metrics import evaluate
from tutelage.student.jobs.jobs import read_predictions

SeedPredictions = Mapping[int, Sequence[Prediction]]


def evaluate_file(
    path: Path,
    *,
    data: str | None = None,
    task: Task = NLI,
    layout: LayoutSettings | None = None,
) -> tuple[Evaluation, bool]:
    """Scores of the predictions in a file, or of all seeds in an arm's folder; and whether rows
    were taken as independent because it is unknown which of them share a context.

    data: the rows that were predicted, for their contexts; None: those of the run that the
          predictions belong to, if they belong to one
    """
    predictions = _by_seed(path)
    groups = _groups({path: predictions}, data, task, layout)
    return evaluate(predictions, task, groups), _unknown(groups, task)


def compare_files(
    arm: Path,
    baseline: Path,
    *,
    data: str | None = None,
    task: Task = NLI,
    layout: LayoutSettings | None = None,
) -> tuple[Comparison, bool]:
    """The comparison of two files of predictions, or of the seeds in two arms' folders; and whether
    rows were taken as independent. Where several rows share a premise, the p-value is then too
    small.

    data: as in `evaluate_file`
    """
    predictions = {path: _by_seed(path) for path in (arm, baseline)}
    groups = _groups(predictions, data, task, layout)
    named = {str(path): by_seed for path, by_seed in predictions.items()}
    (found,) = compare(named, [(str(arm), str(baseline))], task, groups)
    return found, _unknown(groups, task)


def _unknown(groups: Mapping[str, str] | None, task: Task) -> bool:
    return groups is None and task.context is not None


def _groups(
    predictions: Mapping[Path, SeedPredictions],
    data: str | None,
    task: Task,
    layout: LayoutSettings | None,
) -> dict[str, str] | None:
    """uid -> the unit of the row: from `data`, or from the first run that has the rows."""
    if data is not None:
        rows = load_examples(data, task, layout)
        return {e.uid: unit for e, unit in zip(rows, units_of(rows, task), strict=True)}
    found = (_groups_of_run(path, by_seed) for path, by_seed in predictions.items())
    return next((groups for groups in found if groups is not None), None)


def _groups_of_run(path: Path, predictions: SeedPredictions) -> dict[str, str] | None:
    """From rows.jsonl of the run that contains `path`, which is RUN/arms/ARM, or a test.jsonl in
    it; None where there is no such file, or it holds other rows than were predicted."""
    run = _run_of(path)
    if run is None:
        return None
    rows = run / "rows.jsonl"
    # rows.jsonl holds the test rows; rows of dev may have the same uids.
    if not rows.is_file() or (path.is_file() and path.name != "test.jsonl"):
        return None
    try:
        known = {row["uid"]: (row["label"], row["group"]) for row in read_jsonl(rows)}
    except (KeyError, TypeError) as error:
        raise RunFolderError(
            f"{rows}: holds no test rows ({error!r}): run `tutelage run` again to rewrite it"
        ) from error
    for by_seed in predictions.values():
        if any(known.get(p.uid, (None,))[0] != p.gold for p in by_seed):
            return None
    return {uid: group for uid, (_, group) in known.items()}


def _run_of(path: Path) -> Path | None:
    """The run's folder, which holds the folder `arms` that `path` is in."""
    arms = next((parent for parent in path.resolve().parents if parent.name == "arms"), None)
    return None if arms is None else arms.parent


def _files_of_arm(folder: Path) -> dict[int, Path]:
    """The predictions in an arm's folder, by seed: those that its run's results are about, or else
    every seed's in it.

    Raises UsageError where there are none, or a seed has several.
    """
    run = _run_of(folder)
    if run is not None and (run / "results.json").exists():
        for arm in load_results(run / "results.json").arms:
            if (run / "arms" / arm.name).resolve() == folder.resolve():
                places = zip(arm.seeds, arm.folder_by_seed, strict=True)
                return {seed: run / place / "test.jsonl" for seed, place in places}
    files: dict[int, Path] = {}
    for pattern in ("seed-*/test.jsonl", "*/seed-*/test.jsonl"):
        for file in sorted(folder.glob(pattern)):
            seed = int(file.parent.name.removeprefix("seed-"))
            if seed in files:
                raise UsageError(
                    f"{folder}: holds two files of predictions with seed {seed}, {files[seed]} and "
                    f"{file}: name a folder with one"
                )
            files[seed] = file
    if not files:
        raise UsageError(
            f"{folder}: holds no seed-N/test.jsonl, expected a file of predictions or an arm's "
            "folder, such as runs/NAME/arms/ARM"
        )
    return files


def _by_seed(path: Path) -> dict[int, list[Prediction]]:
    files = _files_of_arm(path) if path.is_dir() else {0: path}
    try:
        return {seed: read_predictions(file) for seed, file in files.items()}
    except FileNotFoundError as error:
        raise DataError("no such file: `tutelage predict` writes one", path=path) from error
    except TypeError as error:
        raise DataError(
            "holds no predictions, expected a file that `tutelage predict` wrote", path=path
        ) from error
