"""Draft a recipe for a data file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.recipe_file import parse_recipe
from tutelage.config.teacher_settings import (
    DEFAULT_TEACHER,
    DEFAULT_TEACHER_SETTINGS,
    TeacherSettings,
)
from tutelage.config.yaml_files import dump_yaml
from tutelage.data.describe import Description, describe_file
from tutelage.data.pool_description import describe_pool
from tutelage.teacher.cost.budget import price_for

_COMMENTS = {
    "teacher": "one request for each training row; answers are kept in .tutelage/ledger.sqlite",
    "protocol": "quick: one control, no search; standard: more controls, a search; full: label "
    "echo and all baselines too. `tutelage plan` says what each takes",
    "search": "for each seed every arm tries up to `trials` of these (default 3; quick: the first "
    "alone), chooses by dev accuracy, and trains its choice afresh.",
}

_RATES = {
    "a pretrained T5": [0.0006, 0.0012, 0.0024],
    "a pretrained decoder-only model": [0.0001, 0.0002, 0.0004],
    "new weights": [0.001, 0.003, 0.01],
}
"""Learning rates to search, by kind of student: that of T5 is the paper's."""

_ROWS = 500
"""Rows that a drafted recipe buys of a teacher without a price; of a small pool half."""

_POOL_ARMS = [
    {"name": "teacher-labels", "strategy": "label", "rows": "unlabelled"},
    {"name": "teacher-reasons", "strategy": "chain_of_thought", "rows": "unlabelled"},
]
_POOL_COMMENTS = {
    "teacher": "before it labels unlabelled rows, it labels 200 training rows, and is compared "
    "with their labels; answers are kept in .tutelage/ledger.sqlite",
    "spend": "what each arm may buy, when it pays alone: dollars, or `{rows: 500}`. `tutelage "
    "plan` says what can be told with it",
    "arms": "a rationale for each labelled row; labels for unlabelled rows; labels and reasons "
    "for them. docs/worth.md has more",
}

_OVERLAP = (
    "  # a run stops where files share rows; to drop these from train (and from dev what test "
    "has), remove the # of the next line\n  # overlap: drop\n"
)

_CLASSIFIER = (
    "# To compare with an encoder that learns labels alone, remove the # of the next line. Its "
    "learning rates are its own;\n# a model of random weights, or few steps, need larger ones.\n"
    "# baselines: [{classifier: answerdotai/ModernBERT-base, learning_rate: [2.0e-5, 1.0e-5, "
    "5.0e-5]}]\n"
)


def draft(
    file: str,
    *,
    dev: str | None,
    test: str | None,
    teacher: str,
    student: str,
    unlabelled: str | None = None,
    label_column: str | None = None,
    text_columns: Sequence[str] = (),
    labels: Sequence[str] = (),
    layout: LayoutSettings | None = None,
) -> tuple[str, Description]:
    """A recipe for a data file, as YAML, and what the file was taken for.

    unlabelled: rows without a label, whose labels arms may buy
    label_column, text_columns, labels, layout: as far as the user says what the file holds; see
        `data.describe.describe_file`
    """
    found = describe_file(
        file,
        label=label_column,
        texts=text_columns,
        labels=labels,
        layout=layout,
        others=[spec for spec in (dev, test) if spec is not None],
    )
    if unlabelled is not None:
        found = replace(found, pool=describe_pool(unlabelled, found, file))
    text = draft_recipe(file, found, dev=dev, test=test, teacher=teacher, student=student)
    return text, found


def draft_recipe(
    file: str,
    found: Description,
    *,
    dev: str | None,
    test: str | None,
    teacher: str,
    student: str,
) -> str:
    """Write a valid recipe for `file`, as YAML with comments.

    found: what the file holds, from `data.describe`
    """
    said = found.layout.model_dump(mode="json")
    defaults = LayoutSettings().model_dump(mode="json")
    data: dict[str, Any] = {"train": file, "dev": dev or 0.1, "test": test or 0.2}
    if found.pool is not None:
        data["unlabelled"] = found.pool.source
    data |= {key: value for key, value in said.items() if value != defaults[key]}
    stem = Path(file.partition("#")[0]).stem
    kind = _kind(student)
    shares = [key for key in ("dev", "test") if not isinstance(data[key], str)]
    comments = _comments(found, kind, shares)
    values: dict[str, Any] = {
        "name": "".join(c if c.isalnum() or c in "-_" else "-" for c in stem) or "experiment",
        "task": found.preset or _own_task(found),
        "data": data,
        "teacher": {"model": teacher, **_asked(teacher)},
        "student": {"model": student},
        **_bought(found, teacher),
        "protocol": "standard",
        "arms": [
            {"name": "labels"},
            {"name": "informed-reasoning", "strategy": "informed_reasoning"},
            *(_POOL_ARMS if found.pool is not None else []),
        ],
        "search": {"learning_rate": _RATES[kind], "label_weight": [0.5]},
        "seeds": [0, 1, 2, 3, 4],
    }
    parse_recipe(values, f"draft for {file}")
    parts = []
    for key, value in values.items():
        if key in comments:
            parts.append(f"# {comments[key]}\n")
        parts.append(dump_yaml({key: value}))
        if key == "protocol":
            parts.append(_CLASSIFIER)
        if key == "data":
            parts += [f"  # check {note}\n" for note in found.notes]
            parts.append(_OVERLAP if dev or test else "")
            parts += [_decision(found), _metric(found)]
    return "".join(parts)


def _comments(found: Description, kind: str, shares: list[str]) -> dict[str, str]:
    """What is said above a key of the recipe. shares: which of dev and test are cut from train"""
    comments = _COMMENTS | (_POOL_COMMENTS if found.pool is not None else {})
    if shares:
        are = "are shares" if len(shares) > 1 else "is a share"
        listed = f"{' and '.join(shares)} {are} of train here"
        comments["data"] = f"{listed}; name separate files if you have them"
    others = [
        f"{rates[0]} to {rates[-1]} for {name}" for name, rates in _RATES.items() if name != kind
    ]
    comments["search"] += f"\n# These learning rates suit {kind}. Use {', '.join(others)}"
    return comments


def _kind(student: str) -> str:
    """The kind of a student, in the words of `_RATES`: as far as its name or files tell it."""
    if student.startswith("scratch:"):
        return "new weights"
    if student.startswith(("package:", "gguf:")):
        return "a pretrained decoder-only model"
    try:
        config = json.loads((Path(student) / "config.json").read_text(encoding="utf-8"))
        decoder_only = not config.get("is_encoder_decoder")
    except (OSError, ValueError, AttributeError):
        decoder_only = False  # a name on the hub: T5 is the default
    return "a pretrained decoder-only model" if decoder_only else "a pretrained T5"


def _bought(found: Description, teacher: str) -> dict[str, Any]:
    """What each arm may buy: dollars where the teacher's price is known, else rows."""
    if found.pool is None:
        return {}
    settings = TeacherSettings(model=teacher, **_asked(teacher))
    if settings.remote and price_for(teacher.partition(":")[2], settings) is not None:
        return {"spend": 1.0}
    return {"spend": {"rows": max(1, min(_ROWS, found.pool.rows // 2))}}


def _asked(teacher: str) -> dict[str, Any]:
    """How a drafted recipe asks a teacher: with nothing that servers refuse more and more often."""
    if teacher == DEFAULT_TEACHER:
        return dict(DEFAULT_TEACHER_SETTINGS)
    local = teacher.startswith(("gguf:", "package:"))
    return {"temperature": 0.2, "max_tokens": 400} if local else {"max_tokens": 400}


def _own_task(found: Description) -> dict[str, Any]:
    task: dict[str, Any] = {"fields": list(found.task.fields), "labels": list(found.task.labels)}
    if found.task.spellings:
        task["spellings"] = dict(found.task.spellings)
    if found.task.context is not None:
        task["context"] = found.task.context
    return task


def _metric(found: Description) -> str:
    """The line for balanced accuracy, as a comment, where one label has most of the rows."""
    counts = [label.count for label in found.found]
    share = max(counts, default=0) / max(1, sum(counts))
    if share < (0.7 if len(counts) < 3 else 0.5):
        return ""
    return (
        f"# {share:.0%} of the rows have the same label. To compare by the mean of the labels' "
        "recalls, in which each\n# label counts alike, remove the # of the next line.\n"
        "# metric: balanced_accuracy\n"
    )


def _decision(found: Description) -> str:
    """The line that has to be decided, as a comment, where values may be labels or none."""
    if not found.undecided:
        return ""
    values = [one.value for one in found.undecided]
    values_shown = ", ".join(f"{one.value!r} in {one.count:,} rows" for one in found.undecided)
    listed = json.dumps(values, ensure_ascii=False)
    return (
        f"  # TO DECIDE: {values_shown}: no label? Then remove the # of the next line. A label? "
        f"Then add it to task.labels.\n  # no_label: {listed}\n"
    )
