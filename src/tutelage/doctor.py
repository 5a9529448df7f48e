"""Findings about this installation and, given a recipe, about its teachers and its student."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from typing import Literal

from tutelage.errors import TutelageError
from tutelage.recipe import Recipe
from tutelage.records import Example
from tutelage.teacher.base import TeacherSettings

Status = Literal["ok", "missing", "optional"]

_EXTRAS = {
    "train": ("torch", "transformers", "tokenizers", "safetensors", "datasets", "pyarrow"),
    "local": ("xllamacpp",),
}
_NEEDED = ("train",)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `missing` stands in the way; `optional` only might."""

    status: Status
    what: str
    found: str


def examine(recipe: Recipe | None = None) -> list[Finding]:
    """Everything that can be found out without spending anything."""
    findings = [*_packages(), _device(), _ledger()]
    if recipe is not None:
        findings += _recipe(recipe)
    return findings


def _packages() -> Iterator[Finding]:
    for extra, packages in _EXTRAS.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            status: Status = "missing" if extra in _NEEDED else "optional"
            how = f"pip install 'tutelage[{extra}]' -c constraints.txt"
            yield Finding(status, f"extra {extra}", f"without {', '.join(missing)}: {how}")
        else:
            versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
            yield Finding("ok", f"extra {extra}", versions)


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("missing", "device", "unknown without torch")
    import torch

    from tutelage.student.precision import choose_device, choose_precision

    device = choose_device()
    precision = choose_precision("auto", device, parameters=10**9)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return Finding("ok", "device", f"{name}, {precision} for all but tiny students")


def _ledger() -> Finding:
    from tutelage.teacher.ledger import Ledger, default_path

    path = default_path()
    if not path.exists():
        return Finding("ok", "ledger", f"none yet; answers will be kept in {path}")

    def opened() -> str:
        with Ledger(path):
            return f"{path} opens"

    return _tried("ledger", opened)


def _recipe(recipe: Recipe) -> Iterator[Finding]:
    from tutelage.preparation import load_splits

    def data() -> str:
        splits = load_splits(recipe)
        return f"{len(splits.train)} train, {len(splits.dev)} dev, {len(splits.test)} test rows"

    yield _tried("data", data)
    seen = set()
    for arm in recipe.arms:
        section = recipe.teacher_of(arm) if arm.strategy not in (None, "human") else None
        if section is None or section in seen:
            continue
        seen.add(section)
        yield _tried(f"teacher {section.model}", partial(_greet, section.settings()))

    def student() -> str:
        from tutelage.student.model import count_parameters

        if recipe.student.model.startswith("scratch:"):
            return "new weights, made when it is trained"
        return f"{count_parameters(recipe.student.model) / 1e6:.1f} million weights"

    yield _tried(f"student {recipe.student.model}", student)


def _greet(settings: TeacherSettings) -> str:
    """Ask one short question, unless answers are only looked up."""
    import asyncio

    from tutelage.records import Message, Request
    from tutelage.teacher.base import open_teacher

    teacher = open_teacher(settings)
    if not teacher.paid:
        return "its answers are looked up"

    async def ask() -> str:
        question = Request(
            teacher.model, (Message("user", "Say yes."),), "doctor", Example("doctor", {}, "")
        )
        async with teacher:
            return (await teacher.complete(question)).text

    return f"answers ({asyncio.run(ask())[:40]!r})"


def _tried(what: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", what, attempt())
    except TutelageError as error:
        return Finding("missing", what, str(error))
