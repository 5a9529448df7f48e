"""Prepares what the students of a recipe learn: loads rows, annotates them, builds controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tutelage.config.arm_settings import POOL_CONTROLS, ArmSection
from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.recipe import Recipe
from tutelage.config.scale_settings import ScaleSettings
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import BatchesOpenError, TeacherError, UsageError
from tutelage.core.progress import Observer
from tutelage.core.results import Duplicates
from tutelage.core.storage import write_jsonl
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example, Rationale
from tutelage.data.load import Examples, load_examples, stream_examples
from tutelage.data.split import Overlap, check_labels, check_splits, hold_out
from tutelage.data.unlabelled import Pool, load_unlabelled
from tutelage.experiment.arm_strategies import strategy_of
from tutelage.experiment.asking import Asking
from tutelage.experiment.blind_rows import BlindRows
from tutelage.experiment.label_units import check_label_units
from tutelage.experiment.provider_terms import point_to_terms
from tutelage.rationales.controls import filler, label_echo, scrambled, shuffled
from tutelage.scale.annotate_on_ray import asks_on_ray
from tutelage.strategies.lookup import get_strategy, labels_rows
from tutelage.teacher.annotate import Annotation, Options, Summary, annotate_to_file
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.terms_of_use import terms_note

_MOST_SHOTS = 64
"""Rows in a prompt that repeats them for each row."""

_CONTROL_SEED = 0
"""Rationales are shuffled once, so that all seeds of an arm learn the same rows."""


@dataclass(frozen=True)
class Splits:
    """The rows of an experiment.

    sources: train, dev and test as the recipe names them
    overlap: contexts that dev and test share with train
    dropped: rows removed from train because dev or test has them
    duplicates: what was dropped, what is grouped, and texts with two labels
    units:   uid -> unit of the statistics, for rows of dev and test (see `groups`)
    notes:   what a reader should know of duplicates and labels, one sentence each
    calibration: rows of dev that choose nothing, and are not in `dev`
    pool:    the unlabelled rows; None where the recipe names none
    """

    train: Sequence[Example]
    dev: Sequence[Example]
    test: Sequence[Example]
    sources: Mapping[str, Examples]
    overlap: Overlap
    dropped: int
    duplicates: Duplicates = field(default_factory=Duplicates)
    units: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    calibration: Sequence[Example] = ()
    pool: Pool | None = None

    def groups(self, rows: Sequence[Example], task: Task) -> dict[str, str]:
        """uid -> the unit of the statistics that a row belongs to: rows of dev or test with one
        context, or nearly the same text, are one."""
        return {e.uid: self.units.get(e.uid) or task.group(e.uid, e.fields) for e in rows}


def load_splits(recipe: Recipe) -> Splits:
    """The rows of a recipe, with their labels and what the splits share checked.

    Raises DataError where the rows allow no comparison, or too few of a label are there for the
    recipe's metric.
    """
    task, data = recipe.resolved_task(), recipe.data
    sources = {"train": load_examples(data.train, task, data)}
    parts: dict[str, list[Example]] = {"train": list(sources["train"])}
    for name, part in (("test", data.test), ("dev", data.dev)):
        if isinstance(part, str):
            sources[name] = load_examples(part, task, data)
            parts[name] = list(sources[name])
        else:
            sources[name] = sources["train"]
            share, rows = (part, None) if part < 1 else (None, int(part))
            # Of all rows of the file: a tenth is a tenth whether or not test is held out as well.
            share = None if share is None else share * len(sources["train"]) / len(parts["train"])
            parts["train"], parts[name] = hold_out(parts["train"], task, share=share, rows=rows)
    checked = check_splits(
        parts["train"], parts["dev"], parts["test"], task, drop=data.overlap == "drop"
    )
    label_notes = check_labels(checked.train, checked.dev, checked.test, task)
    pool = None
    if data.unlabelled is not None:
        pool = load_unlabelled(
            data.unlabelled,
            task,
            data.layout(),
            train=checked.train,
            dev=checked.dev,
            test=checked.test,
            taken=frozenset(row.uid for part in parts.values() for row in part),
        )
    dev, calibration = list(checked.dev), list[Example]()
    if data.calibration is not None:
        dev, calibration = hold_out(dev, task, share=data.calibration)
    splits = Splits(
        checked.train,
        dev,
        checked.test,
        {name: sources[name] for name in ("train", "dev", "test")},
        checked.overlap,
        len(parts["train"]) - len(checked.train),
        checked.duplicates,
        checked.units,
        (*checked.notes, *label_notes, *(pool.notes if pool is not None else ())),
        calibration,
        pool,
    )
    if recipe.balanced:
        parts_used = {"test": splits.test, "dev": splits.dev}
        check_label_units(parts_used, splits.groups((*splits.dev, *splits.test), task))
    return splits


def annotate_arms(
    recipe: Recipe,
    splits: Splits,
    ledger: Path | None,
    observer: Observer,
    *,
    retry_failed: bool = False,
    wait: bool = True,
) -> dict[str, Annotation]:
    """The rationales of every arm that has any; arms with equal annotation keys share them.

    retry_failed: repeat requests that are known to have failed permanently
    wait:         wait for open batches; otherwise raise BatchesOpenError after all arms were sent
    """
    point_to_terms(recipe, observer)
    asking = Asking(recipe, ledger, observer, retry_failed, wait)
    by_key: dict[tuple[Any, ...], Annotation] = {}
    waiting: BatchesOpenError | None = None
    for arm in recipe.arms:
        if arm.strategy is None or arm.annotation_key in by_key:
            continue
        strategy = strategy_of(recipe, arm, splits.train)
        settings = recipe.teacher_of(arm) if strategy.asks_teacher else None
        try:
            by_key[arm.annotation_key] = asking.annotate(splits.train, strategy, settings, arm.name)
        except BatchesOpenError as error:
            waiting = error
    if waiting is not None:
        raise waiting
    return {a.name: by_key[a.annotation_key] for a in recipe.arms if a.strategy is not None}


def apply_control(
    arm: ArmSection, rationales: Sequence[Rationale], rows: Sequence[Example], task: Task
) -> list[Rationale]:
    """The rationales that an arm learns. Answers about the context alone are swapped by context.

    rows: those that the rationales are about, in the same order
    """
    if arm.control is None or arm.control in POOL_CONTROLS:
        return list(rationales)
    if arm.control == "label_echo":
        return label_echo(rationales, rows, task)
    if arm.control == "filler":
        return filler(rationales)
    if arm.control == "scrambled":
        return scrambled(rationales)
    return shuffled(
        rationales,
        rows,
        task,
        _CONTROL_SEED,
        within_label=arm.control == "shuffled_within_label",
        by_context=arm.strategy == "information_extraction" and task.context is not None,
    )


def learnt_rationales(
    recipe: Recipe, splits: Splits, annotations: Mapping[str, Annotation]
) -> dict[str, list[Rationale]]:
    """The rationales that each arm with a strategy learns: the teacher's, or those of a control.

    Raises TeacherError where an arm has no usable rationale.
    """
    task = recipe.resolved_task()
    learnt = {}
    for arm in recipe.arms:
        if arm.strategy is None:
            continue
        given = annotations[arm.name].rationales
        if not any(r.status == "ok" for r in given):
            raise TeacherError(
                f"arm {arm.name!r}: none of {len(given)} rationales can be used (the first is "
                f"{given[0].status!r}: {given[0].detail or 'no detail'}): check the teacher with "
                "`tutelage doctor RECIPE`"
            )
        learnt[arm.name] = apply_control(arm, given, splits.train, task)
    return learnt


def annotate_recipe(
    recipe: Recipe,
    runs: Path,
    ledger: Path | None,
    observer: Observer,
    *,
    retry_failed: bool = False,
    wait: bool = True,
) -> dict[Path, Summary]:
    """Annotate every arm of a recipe and write the rationale files of its run.

    Returns a summary for each file, by path.
    """
    splits = load_splits(recipe)
    annotations = annotate_arms(
        recipe, splits, ledger, observer, retry_failed=retry_failed, wait=wait
    )
    written = {}
    for arm, rows in learnt_rationales(recipe, splits, annotations).items():
        path = runs / recipe.name / "rationales" / f"{arm}.jsonl"
        write_jsonl(path, rows)
        written[path] = annotations[arm].summary
    return written


def annotate_file(
    data: str,
    strategy: str,
    template: str | None,
    teacher: TeacherSettings | None,
    output: Path,
    ledger: Path | None,
    observer: Observer,
    *,
    task: Task = NLI,
    layout: LayoutSettings | None = None,
    shots: str | None = None,
    retry_failed: bool = False,
    wait: bool = True,
    scale: ScaleSettings | None = None,
) -> dict[Path, Summary]:
    """Annotate the examples of `data` and write their rationales to `output`.

    layout: how the file is read
    shots:  labelled rows for the prompt of a strategy that labels rows, as a data spec
    scale:  where the requests are made

    A strategy that labels rows is asked about all rows, without their labels; those that have one
    are compared with the answers.

    The budget belongs to the output file: all calls that write it share it.
    """
    if scale is not None and scale.engine == "local" and scale.workers > 1:
        raise UsageError(
            "workers is set, but one process makes all requests: set concurrency for more of them "
            "at a time, or engine: ray"
        )
    ask = None if scale is None or scale.engine == "local" else asks_on_ray(scale)
    shown = () if shots is None else load_examples(shots, task, layout).rows
    asked = get_strategy(strategy, template=template, task=task, shots=shown)
    labels = labels_rows(asked)
    if shots is not None and not labels:
        raise UsageError(f"shots: strategy {strategy!r} shows none: use label or chain_of_thought")
    if shots is not None and len(shown) > _MOST_SHOTS:
        raise UsageError(
            f"shots: {shots!r} holds {len(shown):,} rows, expected at most {_MOST_SHOTS}: every "
            f"prompt repeats them; {(shots or '').partition('?')[0]}?n=8 takes a sample"
        )
    examples = stream_examples(data, task, layout, labelled=not labels)
    if examples.unlabelled:
        observer.note(f"{examples.unlabelled} rows have no label and are left out")
    if asked.asks_teacher and teacher is not None and (terms := terms_note(teacher)) is not None:
        observer.note(terms)
    blind = BlindRows(examples.open, task, shown) if labels else None
    book = None if ledger is None else Ledger(ledger)
    try:
        summary = annotate_to_file(
            examples.open if blind is None else blind.open,
            output,
            strategy=asked,
            teacher=teacher,
            task=task,
            ledger=book,
            options=Options(
                budget_name=f"file {output.resolve()}",
                retry_failed=retry_failed,
                wait=wait,
                on_progress=lambda progress: observer.annotating(strategy, progress),
                on_note=observer.note,
            ),
            total=examples.total,
            on_rationale=None if blind is None else blind.compare,
            ask=ask,
        )
    finally:
        if book is not None:
            book.close()
    if blind is not None:
        summary = replace(summary, agreement=blind.agreement())
    return {output: summary}
