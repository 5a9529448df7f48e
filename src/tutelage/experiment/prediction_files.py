"""Evaluating and comparing files of predictions, outside of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tutelage.core.errors import DataError, RunFolderError, UsageError
from tutelage.core.results import Comparison, Evaluation
from tutelage.core.storage import read_jsonl
from tutelage.core.task import NLI, Task
from tutelage.core.types import Prediction
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
    columns: Mapping[str, str] | None = None,
) -> tuple[Evaluation, bool]:
    """What the predictions in a file, or in the seeds of an arm's folder, are worth; and whether
    rows had to be taken as independent, because nothing says which of them share a context.

    data: the rows that were read, for their contexts: without it they are those of the run that
          the predictions lie in, if they lie in one
    """
    predictions = _by_seed(path)
    groups = _groups({path: predictions}, data, task, columns)
    return evaluate(predictions, task, groups), _unknown(groups, task)


def compare_files(
    arm: Path,
    baseline: Path,
    *,
    data: str | None = None,
    task: Task = NLI,
    columns: Mapping[str, str] | None = None,
) -> tuple[Comparison, bool]:
    """Compare two files of predictions, or the seeds in two arms' folders; and whether rows had to
    be taken as independent. Then, where several share a premise, the test is too sure of itself.

    data: as in `evaluate_file`
    """
    predictions = {path: _by_seed(path) for path in (arm, baseline)}
    groups = _groups(predictions, data, task, columns)
    named = {str(path): by_seed for path, by_seed in predictions.items()}
    (found,) = compare(named, [(str(arm), str(baseline))], task, groups)
    return found, _unknown(groups, task)


def _unknown(groups: Mapping[str, str] | None, task: Task) -> bool:
    return groups is None and task.context is not None


def _groups(
    predictions: Mapping[Path, SeedPredictions],
    data: str | None,
    task: Task,
    columns: Mapping[str, str] | None,
) -> dict[str, str] | None:
    """uid -> the unit that the row belongs to: by `data`, else by the first run that tells."""
    if data is not None:
        rows = load_examples(data, task, columns=columns)
        return {e.uid: task.group(e.uid, e.fields) for e in rows}
    found = (_groups_of_run(path, by_seed) for path, by_seed in predictions.items())
    return next((groups for groups in found if groups is not None), None)


def _groups_of_run(path: Path, predictions: SeedPredictions) -> dict[str, str] | None:
    """By rows.jsonl of the run that `path` lies in, a `RUN/arms/ARM/CONFIG` or the
    `seed-N/test.jsonl` of one; None where there is none, or it holds other rows than were read."""
    parents = path.resolve().parents
    above = 2 if path.is_dir() else 4
    if len(parents) <= above or parents[above - 1].name != "arms":
        return None
    rows = parents[above] / "rows.jsonl"
    # A run's rows are its test rows: what it read of dev may bear the same uids.
    if not rows.is_file() or (path.is_file() and path.name != "test.jsonl"):
        return None
    try:
        known = {row["uid"]: (row["label"], row["group"]) for row in read_jsonl(rows)}
    except (KeyError, TypeError) as error:
        raise RunFolderError(
            f"{rows}: holds no test rows ({error!r}): run `tutelage run` again to write it anew"
        ) from error
    for by_seed in predictions.values():
        if any(known.get(p.uid, (None,))[0] != p.gold for p in by_seed):
            return None
    return {uid: group for uid, (_, group) in known.items()}


def _by_seed(path: Path) -> dict[int, list[Prediction]]:
    files = {0: path}
    if path.is_dir():
        files = {
            int(file.parent.name.removeprefix("seed-")): file
            for file in sorted(path.glob("seed-*/test.jsonl"))
        }
        if not files:
            raise UsageError(f"{path}: holds no seed-N/test.jsonl: name a file, or an arm's folder")
    try:
        return {seed: read_predictions(file) for seed, file in files.items()}
    except FileNotFoundError as error:
        raise DataError("no such file: `tutelage predict` writes one", path=path) from error
    except TypeError as error:
        raise DataError("holds no predictions", path=path) from error
