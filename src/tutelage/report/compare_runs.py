"""Compares two runs arm by arm, paired on the test rows that both were evaluated on.

Rows are the same where uid and gold label are equal, and the texts too where both folders have
them. Arms that cannot be paired (no shared rows, different numbers of seeds, no predictions) are
compared by their accuracies alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.core.errors import UsageError
from tutelage.core.results import ArmResult, Comparison, Results, load_results
from tutelage.evaluation.balanced import label_of_one_unit
from tutelage.evaluation.compare import compare_correctness
from tutelage.evaluation.unpaired import difference_interval
from tutelage.report.costs import costs_of
from tutelage.report.run_files import RunFiles, read_files


@dataclass(frozen=True, slots=True)
class ArmInBoth:
    """An arm that both runs have; accuracies are fractions, differences are A minus B.

    accuracies, intervals: on each run's own test rows, as in its results
    seeds:      of each run
    difference, ci95: paired, on the shared rows; otherwise of the accuracies above
    paired:     the whole paired comparison, with Holm's correction over all paired arms; None
                where the arms cannot be paired
    why:        why they cannot; empty where they can
    """

    arm: str
    accuracies: tuple[float, float]
    intervals: tuple[tuple[float, float], tuple[float, float]]
    seeds: tuple[int, int]
    difference: float
    ci95: tuple[float, float]
    paired: Comparison | None
    why: str


@dataclass(frozen=True, slots=True)
class TwoRuns:
    """The comparison of run A with run B.

    runs:      their folders
    rows:      test rows of each
    shared:    test rows that both were evaluated on
    arms:      those of both runs, in A's order
    only:      the arms that only A has, and that only B has
    cost_usd:  what each run's teacher cost, explanations and baseline; None where unknown
    remarks:   what a reader should know
    metric:    that both runs are about, in words
    """

    runs: tuple[str, str]
    rows: tuple[int, int]
    shared: int
    arms: tuple[ArmInBoth, ...]
    only: tuple[tuple[str, ...], tuple[str, ...]]
    cost_usd: tuple[float | None, float | None]
    remarks: tuple[str, ...]
    metric: str = "accuracy"


def is_run(folder: Path) -> bool:
    """Whether a run has written its results in `folder`."""
    return (folder / "results.json").exists()


def compare_runs(first: Path, second: Path) -> TwoRuns:
    """The difference between run `first` and run `second`, arm by arm.

    Raises UsageError for runs with different labels or metrics, or without an arm in common,
    RunFolderError for a damaged folder.
    """
    results = [load_results(folder / "results.json") for folder in (first, second)]
    labels = [list(each.task.labels) for each in results]
    if labels[0] != labels[1]:
        raise UsageError(
            f"got runs with different labels, {labels[0]} and {labels[1]}: compare runs of one task"
        )
    metrics = [each.metric_name for each in results]
    if metrics[0] != metrics[1]:
        raise UsageError(
            f"got runs with different metrics, {metrics[0]} and {metrics[1]}, by which dev chose: "
            "compare runs of one metric"
        )
    balanced = results[0].metric == "balanced_accuracy"
    tested = [{a.name: a for a in each.arms} for each in results]
    common = [name for name in tested[0] if name in tested[1]]
    if not common:
        raise UsageError(
            f"got no arm with the same name in both runs ({', '.join(tested[0])}; "
            f"{', '.join(tested[1])}): to compare two arms, give their folders, such as "
            "runs/NAME/arms/ARM"
        )
    files = [read_files(*each) for each in zip((first, second), results, strict=True)]
    here, there = _shared_rows(*files)
    arms = {name: (tested[0][name], tested[1][name]) for name in common}
    names = results[0].task.labels
    labels_of = [names[files[0].gold[row]] for row in here] if balanced else None
    groups = _groups(files, here, there)
    reasons = {name: _why_not(name, arms[name], files, labels_of, groups, here) for name in common}
    paired = [name for name in common if not reasons[name]]
    comparisons = _paired(paired, files, here, there, groups, labels_of)
    return TwoRuns(
        runs=(str(first), str(second)),
        rows=(len(files[0].uids), len(files[1].uids)),
        shared=len(here),
        arms=tuple(
            _in_both(name, arms[name], comparisons.get(name), reasons[name]) for name in common
        ),
        only=(
            tuple(name for name in tested[0] if name not in tested[1]),
            tuple(name for name in tested[1] if name not in tested[0]),
        ),
        cost_usd=(costs_of(results[0]).total.cost_usd, costs_of(results[1]).total.cost_usd),
        remarks=_remarks(results, files, len(here)),
        metric=metrics[0],
    )


def _shared_rows(first: RunFiles, second: RunFiles) -> tuple[list[int], list[int]]:
    """The places of the shared rows in the first run and, in the same order, in the second."""
    places = {uid: place for place, uid in enumerate(second.uids)}
    both = bool(first.examples and second.examples)
    pairs = [
        (here, there)
        for here, uid in enumerate(first.uids)
        if (there := places.get(uid)) is not None
        and first.gold[here] == second.gold[there]
        and not (both and first.examples[here].fields != second.examples[there].fields)
    ]
    return [here for here, _ in pairs], [there for _, there in pairs]


def _why_not(
    name: str,
    arms: tuple[ArmResult, ArmResult],
    files: Sequence[RunFiles],
    labels: Sequence[str] | None,
    groups: Sequence[Hashable] | None,
    shared: Sequence[int],
) -> str:
    """Why two arms cannot be paired; empty where they can.

    labels: of the shared rows, where the runs are about balanced accuracy
    groups: of the shared rows; None where they are independent
    shared: their places
    """
    seeds = [len(arm.seeds) for arm in arms]
    if any(name not in each.predictions for each in files):
        return "predictions are missing from a run folder"
    if not shared:
        return "the runs share no test rows"
    if labels is not None and (alone := label_of_one_unit(labels, groups)) is not None:
        return f"the runs share a single row, or group of rows, with the label {alone}"
    return f"{seeds[0]} seeds and {seeds[1]} seeds" if seeds[0] != seeds[1] else ""


def _groups(files: Sequence[RunFiles], here: list[int], there: list[int]) -> list[Hashable] | None:
    """The group of each shared row, from the first run that knows it; None where none does."""
    for each, rows in zip(files, (here, there), strict=True):
        if each.groups:
            return [each.groups[row] for row in rows]
    return None


def _paired(
    names: Sequence[str],
    files: Sequence[RunFiles],
    here: list[int],
    there: list[int],
    groups: Sequence[Hashable] | None,
    labels: Sequence[str] | None,
) -> dict[str, Comparison]:
    if not names:
        return {}
    correct = {}
    for side, (each, rows) in enumerate(zip(files, (here, there), strict=True)):
        for name in names:
            correct[f"{side} {name}"] = _correctness(each, name, rows)
    pairs = [(f"0 {name}", f"1 {name}") for name in names]
    found = compare_correctness(correct, pairs, groups, labels=labels)
    return dict(zip(names, found, strict=True))


def _correctness(files: RunFiles, name: str, rows: Sequence[int]) -> Any:
    """Rows × seeds, 1.0 where the prediction is correct."""
    import numpy as np

    predicted = np.array([list(of_seed) for of_seed in files.predictions[name].labels]).T
    gold = np.array(list(files.gold))[:, None]
    return (predicted == gold)[list(rows)].astype(np.float64)


def _in_both(
    name: str,
    arms: tuple[ArmResult, ArmResult],
    paired: Comparison | None,
    why: str,
) -> ArmInBoth:
    accuracies = (arms[0].test.accuracy, arms[1].test.accuracy)
    first, second = arms[0].test.ci95, arms[1].test.ci95
    if paired is None:
        difference = accuracies[0] - accuracies[1]
        ci95 = difference_interval(accuracies[0], first, accuracies[1], second)
    else:
        difference, ci95 = paired.difference, paired.ci95
    seeds = (len(arms[0].seeds), len(arms[1].seeds))
    return ArmInBoth(name, accuracies, (first, second), seeds, difference, ci95, paired, why)


def _remarks(results: Sequence[Results], files: Sequence[RunFiles], shared: int) -> tuple[str, ...]:
    remarks = []
    rows = [len(each.uids) for each in files]
    if shared and {shared} != set(rows):
        remarks.append(
            f"paired on the {shared:,} test rows that both runs have, of {rows[0]:,} and "
            f"{rows[1]:,}"
        )
    if shared and not all(each.examples for each in files):
        remarks.append(
            "a run folder has no rows.jsonl: rows are taken to be the same where uid and gold "
            "label are equal"
            + ("" if any(each.groups for each in files) else ", and to be independent")
        )
    students = [each.student.model for each in results]
    if students[0] != students[1]:
        remarks.append(f"different students: {students[0]} and {students[1]}")
    if results[0].data.train.sha256 != results[1].data.train.sha256:
        remarks.append("trained on different rows")
    remarks += [
        f"{each.name} has not finished: its figures are the results so far"
        for each in results
        if not each.finished
    ]
    return tuple(remarks)
