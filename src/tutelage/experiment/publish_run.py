"""Publishes a model with its card, and the rows that it learnt from with theirs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tutelage.config.design_rules import treatment_arms
from tutelage.config.publish_settings import PublishSettings
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import load_recipe
from tutelage.core.checkpoint_record import RECORD, read_record
from tutelage.core.errors import UsageError
from tutelage.core.export_record import EXPORT_RECORD, is_export, read_export_record
from tutelage.core.rationale_file import read_rationales
from tutelage.core.types import Example, Rationale
from tutelage.deliver.model_card import (
    DATA_LICENCE_UNNAMED,
    Background,
    write_checkpoint_card,
)
from tutelage.deliver.publication import (
    CARD,
    HUB_NAME,
    Content,
    Kind,
    Publication,
    check_contents,
    check_target,
    listed_files,
    without_folders,
    write_publication,
)
from tutelage.deliver.trained import checkpoint_in
from tutelage.experiment.export_run import background_of, run_of
from tutelage.experiment.prepare import load_splits


def publish(
    model: Path, target: str, settings: PublishSettings, *, do_it: bool = False
) -> list[Publication]:
    """Publish an export, a checkpoint, or the checkpoint that a run recommends; and its data.

    do_it: False: say what would be published, and write nothing

    Raises UsageError for what may not be published: a file that is no part of the model, a secret,
    an absolute path in a card; where `do_it`, also for a licence that is not named.
    """
    wanted = [_model(model, target, settings)]
    if settings.data is not None:
        wanted.append(_data(model, settings.data, settings))
    for publication in wanted:
        check_target(publication.target)
        check_contents(publication.files)
    if not do_it:
        return wanted
    for publication in wanted:
        if publication.notes:
            raise UsageError(f"{publication.target}: {publication.notes[0]}")
    return [replace(one, where=write_publication(one, public=settings.public)) for one in wanted]


def _model(model: Path, target: str, settings: PublishSettings) -> Publication:
    if is_export(model):
        exported = read_export_record(model)
        files = listed_files(model, exported.files_sha256 or {}, EXPORT_RECORD)
        base = ""
        if not (model / CARD).is_file():
            raise UsageError(f"{model / CARD}: is missing: export the model again")
        card = (model / CARD).read_text(encoding="utf-8")
    else:
        checkpoint = checkpoint_in(model)
        record = read_record(checkpoint)
        files = listed_files(checkpoint, record.files_sha256 or {}, RECORD)
        run = run_of(checkpoint)
        background = None if run is None else background_of(run)
        background = background or Background(checkpoint.resolve().parent.name)
        base = background.student
        card = without_folders(write_checkpoint_card(record, background))
    header = {"license": settings.licence, "pipeline_tag": "text-classification"}
    if HUB_NAME.fullmatch(base):
        header["base_model"] = base
    return _with_card(target, "model", files, card, header, settings)


def _with_card(
    target: str,
    kind: Kind,
    files: Sequence[Content],
    card: str,
    header: Mapping[str, str | None],
    settings: PublishSettings,
) -> Publication:
    """A publication with its card; its notes say which licences are not named."""
    notes = []
    if DATA_LICENCE_UNNAMED in card and settings.data_licence is not None:
        card = card.replace(DATA_LICENCE_UNNAMED, f"- licence of the data: {settings.data_licence}")
    if DATA_LICENCE_UNNAMED in card:
        notes.append("the licence of the data is not named: add --data-licence, or edit the card")
    if not card.startswith("---\n"):
        named = {"license": None, **header, "tags": "[tutelage]"}
        lines = [f"{name}: {value}" for name, value in named.items() if value is not None]
        card = "\n".join(["---", *lines, "---", "", card])
    if not re.search(r"^license: *\S", card.split("\n---", 1)[0], re.MULTILINE):
        notes.append("the licence is not named: add --licence (apache-2.0, mit, …)")
    whole = sorted([*files, Content(CARD, card)], key=lambda file: file.name)
    return Publication(target, kind, (*whole,), (*notes,))


def _data(model: Path, target: str, settings: PublishSettings) -> Publication:
    """The labelled training rows of a run with the rationales of its treatment arms."""
    run = None if is_export(model) else run_of(model)
    if run is None:
        raise UsageError("--data: name the folder of a run, whose training rows are published")
    recipe = load_recipe(str(run / "recipe.yaml"))
    rows = load_splits(recipe).train
    arms: dict[str, list[Rationale]] = {}
    for arm in treatment_arms(recipe.arms):
        path = run / "rationales" / f"{arm.name}.jsonl"
        if arm.control is None and not arm.learns_pool and path.is_file():
            arms[arm.name] = read_rationales(path)
    lines = "".join(_lines(rows, arms))
    card = without_folders("\n".join(_data_card(recipe, rows, arms)) + "\n")
    header = {"license": settings.data_licence, "task_categories": "[text-classification]"}
    files = [Content("data/train.jsonl", lines)]
    return _with_card(target, "dataset", files, card, header, settings)


def _lines(rows: Sequence[Example], arms: Mapping[str, Sequence[Rationale]]) -> Iterator[str]:
    """Each row as JSON: its fields, its label, and a rationale of each arm, null where unusable."""
    usable = {
        name: {r.uid: r.text for r in rationales if r.status == "ok"}
        for name, rationales in arms.items()
    }
    for row in rows:
        reasons = {f"rationale_{name}": texts.get(row.uid) for name, texts in usable.items()}
        values = {"uid": row.uid, **row.fields, "label": row.label, **reasons}
        yield json.dumps(values, ensure_ascii=False) + "\n"


def _data_card(
    recipe: Recipe, rows: Sequence[Example], arms: Mapping[str, Sequence[Rationale]]
) -> Iterator[str]:
    task = recipe.resolved_task()
    yield f"# {recipe.name}: training rows with rationales"
    yield ""
    yield (
        f"{len(rows):,} rows: {', '.join(task.fields)} → {', '.join(task.labels)}. No rows of dev "
        "and test are among them."
    )
    yield ""
    yield "| column | |"
    yield "|---|---|"
    yield "| `uid` | of the row |"
    yield from (f"| `{name}` | input |" for name in task.fields)
    yield "| `label` | the gold label |"
    sections = {arm.name: (arm, recipe.teacher_of(arm)) for arm in recipe.arms}
    for name, rationales in arms.items():
        arm, teacher = sections[name]
        by = "the data" if teacher is None or not arm.asks_teacher else teacher.model
        ok = sum(rationale.status == "ok" for rationale in rationales)
        yield (
            f"| `rationale_{name}` | {arm.strategy}, by {by}: {ok:,} of {len(rationales):,} "
            "usable, null elsewhere |"
        )
    yield ""
    yield (
        "A rationale may have been written with the gold label in view: it is something to learn "
        "to write, never an input. Rationales may be wrong."
    )
    yield ""
    yield "## Data and licence"
    yield ""
    yield f"- rows: `{recipe.data.train}`"
    teachers = {t.model for arm, t in sections.values() if t is not None and arm.asks_teacher}
    yield from (f"- rationales by {name}: its terms apply" for name in sorted(teachers))
    yield DATA_LICENCE_UNNAMED
