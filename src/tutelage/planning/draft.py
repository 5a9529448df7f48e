"""Draft a recipe for a data file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tutelage.config.recipe_file import parse_recipe
from tutelage.config.teacher_settings import DEFAULT_TEACHER, DEFAULT_TEACHER_SETTINGS
from tutelage.data.describe import Description

_COMMENTS = {
    "data": "dev and test are shares of train here; name separate files if you have them",
    "teacher": "one request for each training row; answers are kept in .tutelage/ledger.sqlite",
    "protocol": "quick: one control, no search; standard: more controls, a search; full: label "
    "echo and all baselines too. `tutelage plan` says what each takes",
    "search": "for each seed every arm tries up to `trials` of these (default 3; quick: the first "
    "alone), chooses by dev accuracy, and trains its choice afresh",
}


def draft_recipe(
    file: Path,
    found: Description,
    *,
    dev: str | None,
    test: str | None,
    teacher: str,
    student: str,
) -> str:
    """Write a valid recipe for `file`, as YAML with comments.

    found: the file's columns, labels and task, from `data.describe`
    """
    data: dict[str, Any] = {"train": str(file), "dev": dev or 0.1, "test": test or 0.2}
    if found.columns:
        data["columns"] = dict(found.columns)
    values: dict[str, Any] = {
        "name": "".join(c if c.isalnum() or c in "-_" else "-" for c in file.stem) or "experiment",
        "task": "nli",
        "data": data,
        "teacher": {"model": teacher, **_asked(teacher)},
        "student": {"model": student},
        "protocol": "standard",
        "arms": [
            {"name": "labels"},
            {"name": "informed-reasoning", "strategy": "informed_reasoning"},
        ],
        "search": {"learning_rate": [0.0006, 0.0012, 0.0024], "label_weight": [0.5]},
        "seeds": [0, 1, 2, 3, 4],
    }
    if not found.is_nli:
        values["task"] = {"fields": list(found.fields), "labels": list(found.labels)}
    parse_recipe(values, f"draft for {file}")
    parts = []
    for key, value in values.items():
        if key in _COMMENTS:
            parts.append(f"# {_COMMENTS[key]}\n")
        parts.append(yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True))
    return "".join(parts)


def _asked(teacher: str) -> dict[str, Any]:
    """How a drafted recipe asks a teacher: with nothing that servers refuse more and more often."""
    if teacher == DEFAULT_TEACHER:
        return dict(DEFAULT_TEACHER_SETTINGS)
    local = teacher.startswith(("gguf:", "package:"))
    return {"temperature": 0.2, "max_tokens": 400} if local else {"max_tokens": 400}
