"""Check this installation and, given a recipe, its data, teachers and student."""

from __future__ import annotations

import importlib.util
import netrc
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tutelage.config.recipe import Recipe
from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.errors import TutelageError, require_extra
from tutelage.core.types import Example

Status = Literal["ok", "missing", "optional"]

_EXTRAS = {
    "train": (
        "torch",
        "transformers",
        "accelerate",
        "peft",
        "tokenizers",
        "safetensors",
        "datasets",
        "pyarrow",
    ),
    "local": ("xllamacpp",),
}
_NEEDED = ("train",)


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `missing` prevents a run; `optional` prevents only some."""

    status: Status
    what: str
    found: str


def examine(recipe: Recipe | None = None) -> list[Finding]:
    """Run every check; only a recipe's paid teachers are sent a request, one short one each."""
    asked = () if recipe is None else recipe.student.tracking
    findings = [*_packages(), *_trackers(asked), _device(), _ledger()]
    if recipe is not None:
        findings += _recipe(recipe)
    return findings


def _packages() -> Iterator[Finding]:
    for extra, packages in _EXTRAS.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing:
            status: Status = "missing" if extra in _NEEDED else "optional"
            how = f"pip install 'tutelage[{extra}]' -c constraints.txt"
            yield Finding(status, f"extra {extra}", f"{', '.join(missing)} not installed: {how}")
        else:
            versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
            yield Finding("ok", f"extra {extra}", versions)


def _trackers(asked: Collection[str]) -> Iterator[Finding]:
    """Check the trackers. One that the recipe names and that cannot work is `missing`."""
    from tutelage.student.training.tracking import BACKENDS, check_trackers

    for name, backend in BACKENDS.items():
        needed: Status = "missing" if name in asked else "optional"
        try:
            check_trackers([name])
        except TutelageError as error:
            yield Finding(needed, f"tracker {name}", str(error))
            continue
        status, found = _TRACKER_CHECKS[name]()
        version = metadata.version(backend.package)
        yield Finding(needed if status != "ok" else "ok", f"tracker {name}", f"{version}, {found}")


def _tensorboard() -> tuple[Status, str]:
    return "ok", "files in each training's folder"


def _wandb() -> tuple[Status, str]:
    mode = os.environ.get("WANDB_MODE", "online")
    if mode in ("offline", "dryrun"):
        return "ok", "offline: files in each training's folder, for `wandb sync`"
    if mode == "disabled":
        return "optional", "WANDB_MODE=disabled logs nothing: unset it, or set it to offline"
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    if os.environ.get("WANDB_API_KEY") or _has_login(host):
        return "ok", f"a key for {host} was found"
    return "optional", f"no key for {host}: `wandb login`, or set WANDB_MODE=offline"


def _has_login(host: str) -> bool:
    """Whether a .netrc file has an entry for `host`; `wandb login` writes its key there."""
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(str(path)).authenticators(host) is not None:
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _trackio() -> tuple[Status, str]:
    space = os.environ.get("TRACKIO_SPACE_ID")
    if not space:
        place = os.environ.get("TRACKIO_DIR", "the Hugging Face cache")
        return "ok", f"runs are kept in {place}, without an account"
    from huggingface_hub import get_token

    if get_token():
        return "ok", f"runs go to the Space {space}"
    return "optional", f"no token for the Space {space}: `hf auth login`, or set HF_TOKEN"


_TRACKER_CHECKS: Mapping[str, Callable[[], tuple[Status, str]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}
"""By tracker: the check of an installed one, which returns its status and where its logs go."""


def _device() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("missing", "device", "unknown without torch")
    import torch

    from tutelage.student.model.precision import choose_device, choose_precision

    device = choose_device()
    precision = choose_precision("auto", device, parameters=10**9)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    return Finding("ok", "device", f"{name}, {precision} for all but tiny students")


def _ledger() -> Finding:
    from tutelage.teacher.ledger.store import Ledger, default_path

    path = default_path()
    if not path.exists():
        return Finding("ok", "ledger", f"none yet; answers will be kept in {path}")

    def opened() -> str:
        with Ledger(path):
            return f"{path} opens"

    return _check("ledger", opened)


def _recipe(recipe: Recipe) -> Iterator[Finding]:
    from tutelage.experiment.prepare import load_splits

    def data() -> str:
        splits = load_splits(recipe)
        return f"{len(splits.train)} train, {len(splits.dev)} dev, {len(splits.test)} test rows"

    yield _check("data", data)
    seen = set()
    for arm in recipe.arms:
        section = recipe.teacher_of(arm) if arm.asks_teacher else None
        if section is None or section in seen:
            continue
        seen.add(section)
        yield _check(f"teacher {section.model}", partial(_send_one, section))

    def student() -> str:
        require_extra("train", "a student")
        from tutelage.student.model.loading import count_parameters

        if recipe.student.model.startswith("scratch:"):
            return "new weights, initialised when it is trained"
        return f"{count_parameters(recipe.student.model) / 1e6:.1f} million parameters"

    yield _check(f"student {recipe.student.model}", student)


def _send_one(settings: TeacherSettings) -> str:
    """Send one short request, unless the teacher's answers are looked up."""
    import asyncio

    from tutelage.core.types import Message, Request
    from tutelage.teacher.registry import open_teacher

    teacher = open_teacher(settings)
    if not teacher.paid:
        return "its answers are looked up"

    async def send() -> str:
        request = Request(
            teacher.model, (Message("user", "Say yes."),), "doctor", Example("doctor", {}, "")
        )
        async with teacher:
            return (await teacher.complete(request)).text

    return f"answers ({asyncio.run(send())[:40]!r})"


def _check(what: str, attempt: Callable[[], str]) -> Finding:
    try:
        return Finding("ok", what, attempt())
    except TutelageError as error:
        return Finding("missing", what, str(error))
