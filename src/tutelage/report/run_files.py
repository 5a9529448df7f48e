"""Reads a run folder for the report: results.json and the files next to it, as compact arrays.

Predictions for twenty thousand rows by eight arms of five seeds are 800,000 records: as Python
objects they would take half a gigabyte, as the arrays below some ten megabytes.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tutelage.core.errors import RunFolderError
from tutelage.core.results import Results, load_results
from tutelage.core.storage import read_json, read_jsonl
from tutelage.core.types import Example, Explanation
from tutelage.core.wording import percent

THOUSANDTHS = 1000
"""Probabilities are stored as whole numbers of these."""


@dataclass(frozen=True, slots=True)
class ArmPredictions:
    """One arm's predictions for the test rows, in the order of `RunFiles.uids`.

    labels:        for each seed, the number of the predicted label of each row
    probabilities: for each label, its mean probability over the seeds, in thousandths, by row
    rationales:    row -> (seed, text) where a prediction has one (of the first seed that has), or
                   where the arm's student was asked to explain the row
    """

    seeds: tuple[int, ...]
    labels: tuple[array[int], ...]
    probabilities: tuple[array[int], ...]
    rationales: Mapping[int, tuple[int, str]]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of a run folder other than results.json; what is missing is empty.

    manifest:    the content of manifest.json
    recipe:      the text of recipe.yaml
    uids:        of the test rows
    gold:        the number of each row's gold label
    examples:    the test rows themselves, in the same order (rows.jsonl)
    groups:      for each row the key of its unit, such as its premise
    predictions: by arm
    explanations: arm -> row -> what its student wrote, where it was asked to
    foreign:     arms whose predictions in the folder do not belong to results.json
    reasons:     arm -> (status, detail) -> number of rationales, for those that are not `ok`
    """

    manifest: Mapping[str, Any] = field(default_factory=dict)
    recipe: str = ""
    uids: Sequence[str] = ()
    gold: Sequence[int] = ()
    examples: Sequence[Example] = ()
    groups: Sequence[str] = ()
    predictions: Mapping[str, ArmPredictions] = field(default_factory=dict)
    explanations: Mapping[str, Mapping[int, Explanation]] = field(default_factory=dict)
    foreign: Sequence[str] = ()
    reasons: Mapping[str, Mapping[tuple[str, str], int]] = field(default_factory=dict)

    @property
    def tested_thresholds(self) -> list[str]:
        """The thresholds of escalation that `tutelage frontier --test` opened the test set for,
        with what it answered: `0.8123: 83.1%, the student alone 81.0%`."""
        return [
            f"{opened['threshold']:.4f}"
            + (
                f": {percent(answer['point']['accuracy'])}, the student alone "
                f"{percent(answer['student'])}"
                if (answer := opened.get("answer"))
                else " (no answer was kept)"
            )
            for opened in self.manifest.get("thresholds_on_test", ())
        ]


def read_run(folder: Path) -> tuple[Results, RunFiles]:
    """results.json and the files next to it. Raises RunFolderError for one that cannot be read."""
    results = load_results(folder / "results.json")
    return results, read_files(folder, results)


def read_files(folder: Path, results: Results) -> RunFiles:
    """The files in `folder` other than results.json, whose content is `results`."""
    manifest, recipe = folder / "manifest.json", folder / "recipe.yaml"
    labels = list(results.task.labels)
    examples, groups = _read_rows(folder / "rows.jsonl", labels)
    reader = _Reader(labels, [e.uid for e in examples], [e.label for e in examples])
    predictions: dict[str, ArmPredictions] = {}
    explanations: dict[str, dict[int, Explanation]] = {}
    foreign = []
    for arm in results.arms:
        files = {
            seed: folder / place / "test.jsonl"
            for seed, place in zip(arm.seeds, arm.folder_by_seed, strict=True)
        }
        if not all(file.exists() for file in files.values()):
            continue
        try:
            found = reader.read(files)
        except (KeyError, TypeError, AttributeError) as error:
            raise RunFolderError(
                f"{folder / 'arms' / arm.name}: holds a test.jsonl without predictions "
                f"({error!r}), expected those of `tutelage run`: delete it and run again"
            ) from error
        if found is None or _confusion(found, reader.gold, len(labels)) != arm.test.confusion:
            foreign.append(arm.name)
            continue
        explained = (results.explanations or {}).get(arm.name)
        if explained is not None:
            written = _read_explanations(files[explained.seed], reader.place)
            if len(written) == explained.rows:
                explanations[arm.name] = written
                found = _with_rationales(found, explained.seed, written)
        predictions[arm.name] = found
    return RunFiles(
        manifest=read_json(manifest) if manifest.exists() else {},
        recipe=recipe.read_text(encoding="utf-8") if recipe.exists() else "",
        uids=reader.uids,
        gold=reader.gold,
        examples=examples,
        groups=groups,
        predictions=predictions,
        explanations=explanations,
        foreign=foreign,
        reasons={
            arm.name: why
            for arm in results.arms
            if (why := _reasons(folder / "rationales" / f"{arm.name}.jsonl"))
        },
    )


def _read_rows(path: Path, labels: Sequence[str]) -> tuple[list[Example], list[str]]:
    if not path.exists():
        return [], []
    examples: list[Example] = []
    groups: list[str] = []
    for row in read_jsonl(path):
        try:
            groups.append(row.pop("group"))
            example = Example(**row | {"tags": tuple(row.get("tags", ()))})
            labels.index(example.label)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RunFolderError(
                f"{path}:{len(examples) + 1}: is not a test row ({error}): run `tutelage run` "
                "again to rewrite the file"
            ) from error
        examples.append(example)
    return examples, groups


class _Reader:
    """Reads files of predictions in the order of rows.jsonl, or else of the first file."""

    def __init__(self, labels: Sequence[str], uids: list[str], gold: Sequence[str]) -> None:
        self.number = {label: number for number, label in enumerate(labels)}
        self.uids: list[str] = []
        self.gold: array[int] = array("H")
        self.place: dict[str, int] = {}
        if uids:
            self._begin(uids, gold)

    def _begin(self, uids: list[str], gold: Sequence[str]) -> None:
        self.uids = uids
        self.gold = array("H", (self.number[label] for label in gold))
        self.place = {uid: place for place, uid in enumerate(uids)}

    def read(self, files: Mapping[int, Path]) -> ArmPredictions | None:
        """One arm's predictions; None where they are for other rows than those before."""
        sums = [array("d", bytes(8 * len(self.uids))) for _ in self.number]
        by_seed = []
        rationales: dict[int, tuple[int, str]] = {}
        for seed, file in files.items():
            if not self.uids:
                rows = list(read_jsonl(file))
                self._begin([row["uid"] for row in rows], [row["gold"] for row in rows])
                sums = [array("d", bytes(8 * len(self.uids))) for _ in self.number]
            predicted = array("H", bytes(2 * len(self.uids)))
            seen = 0
            for place, row in self._placed(file):
                if place is None or self.number.get(row["gold"]) != self.gold[place]:
                    return None
                predicted[place] = self.number[row["label"]]
                for label, share in row["probabilities"].items():
                    sums[self.number[label]][place] += share
                if row.get("rationale") is not None:
                    rationales.setdefault(place, (seed, row["rationale"]))
                seen += 1
            if seen != len(self.uids):
                return None
            by_seed.append(predicted)
        scale = THOUSANDTHS / len(files)
        means = tuple(array("H", (round(scale * total) for total in of_label)) for of_label in sums)
        return ArmPredictions(tuple(files), tuple(by_seed), means, rationales)

    def _placed(self, file: Path) -> Iterator[tuple[int | None, Mapping[str, Any]]]:
        for row in read_jsonl(file):
            yield self.place.get(row["uid"]), row


def _read_explanations(predictions: Path, place: Mapping[str, int]) -> dict[int, Explanation]:
    """Row -> what was written, from the file next to one of predictions, for known rows only."""
    path = predictions.with_name("explanations.jsonl")
    if not path.exists():
        return {}
    try:
        found = [Explanation(**record) for record in read_jsonl(path)]
    except TypeError as error:
        raise RunFolderError(
            f"{path}: holds no explanations ({error}), expected those of `tutelage run`: delete it "
            "and run again"
        ) from error
    return {place[each.uid]: each for each in found if each.uid in place}


def _with_rationales(
    arm: ArmPredictions, seed: int, written: Mapping[int, Explanation]
) -> ArmPredictions:
    texts = {row: (seed, each.text) for row, each in written.items() if each.text}
    return replace(arm, rationales={**texts, **arm.rationales})


def _confusion(
    arm: ArmPredictions, gold: Sequence[int], labels: int
) -> tuple[tuple[int, ...], ...]:
    """Gold × predicted, over all seeds, as `Evaluation.confusion` has it."""
    table = [[0] * labels for _ in range(labels)]
    for of_seed in arm.labels:
        for pair, count in Counter(zip(gold, of_seed, strict=True)).items():
            table[pair[0]][pair[1]] += count
    return tuple(map(tuple, table))


def _reasons(path: Path) -> Counter[tuple[str, str]]:
    """Why rationales are not `ok`, the most frequent reason first."""
    if not path.exists():
        return Counter()
    found = Counter(
        (row["status"], row.get("detail") or "")
        for row in read_jsonl(path)
        if row["status"] != "ok"
    )
    return Counter(dict(found.most_common()))
