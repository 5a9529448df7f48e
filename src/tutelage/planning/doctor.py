"""Check this installation and, given a recipe, its data, teachers and student."""

from __future__ import annotations

import importlib.util
import netrc
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import load_recipe
from tutelage.core.errors import RunFolderError, TutelageError, require_extra
from tutelage.planning.doctor_findings import Finding, Status, check

if TYPE_CHECKING:
    from tutelage.config.arm_settings import ArmSection
    from tutelage.experiment.prepare import Splits

__all__ = ["Finding", "Status", "examine"]

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


_LEAST_FREE = 200_000_000
"""Bytes of free space below which a run may not be able to keep what it pays for."""


def examine(recipe: Recipe | str | None = None) -> list[Finding]:
    """Run every check. Only a recipe's paid teachers get a request, one for each strategy.

    recipe: a recipe, or the file or name of one: a fault in it is a finding too

    Never raises for what is broken: each fault is a finding, with what to do.
    """
    findings: list[Finding] = []
    loaded = recipe if isinstance(recipe, Recipe) else None
    if isinstance(recipe, str):
        found = []

        def load() -> str:
            found.append(load_recipe(recipe))
            return f"{recipe} is valid"

        findings.append(check("recipe", load))
        loaded = found[0] if found else None
    asked = () if loaded is None else loaded.student.tracking
    for group in (_packages, partial(_trackers, asked), _machine):
        findings += _all_of(group)
    if loaded is not None:
        findings += _all_of(partial(_recipe, loaded))
    return findings


def _all_of(group: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """The findings of a group of checks; a fault in the group itself is one more."""
    found: list[Finding] = []

    def collect() -> str:
        found.extend(group())
        return ""

    ended = check("further checks", collect)
    return found if ended.status == "ok" else [*found, ended]


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
    with Ledger(path):
        return Finding("ok", "ledger", f"{path} opens")


def _machine() -> Iterator[Finding]:
    yield check("device", lambda: _device().found) if _has_torch() else _device()
    yield check("ledger", lambda: _ledger().found)
    yield check("disk", _disk)


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _disk() -> str:
    """Whether the folders of the ledger and of the runs can be written to, and have space."""
    from tutelage.teacher.ledger.store import default_path

    shown = []
    for place in dict.fromkeys((default_path().parent, Path("runs"))):
        folder = next(path for path in (place, *place.absolute().parents) if path.exists())
        free = shutil.disk_usage(folder).free
        if free < _LEAST_FREE:
            raise RunFolderError(
                f"{folder}: {free / 1e6:,.0f} MB are free: make room, or a run may stop before it "
                "can keep what it has paid for"
            )
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x" * 4096)
                file.flush()
        except OSError as error:
            raise RunFolderError(
                f"{folder}: cannot be written to ({error.strerror}): correct its permissions, or "
                "name another place (TUTELAGE_LEDGER for the ledger, --runs for runs)"
            ) from error
        shown.append(f"{folder}: {free / 1e9:,.1f} GB free")
    return "; ".join(dict.fromkeys(shown))


def _recipe(recipe: Recipe) -> Iterator[Finding]:
    from tutelage.experiment.prepare import load_splits
    from tutelage.planning.teacher_check import check_teachers

    loaded: list[Splits] = []

    def data() -> str:
        splits = load_splits(recipe)
        loaded.append(splits)
        return f"{len(splits.train)} train, {len(splits.dev)} dev, {len(splits.test)} test rows"

    yield check("data", data)
    yield from check_teachers(recipe, loaded[0].train if loaded else [])

    def student() -> str:
        require_extra("train", "a student")
        from tutelage.experiment.student_check import examine_recipe

        # Where the data cannot be loaded, that is a finding above, and this one repeats its reason.
        found = examine_recipe(recipe, loaded[0] if loaded else load_splits(recipe))
        notes = "".join(f"; {note}" for note in found.notes)
        size = f"{found.parameters / 1e6:.1f} million parameters"
        if recipe.student.model.startswith("scratch:"):
            size = "new weights"
        return (
            f"{size}; computes what the plain model computes, with inputs of up to {found.longest} "
            f"tokens (examined in {found.seconds:.1f} s){notes}"
        )

    yield check(f"student {recipe.student.model}", student)
    for arm in recipe.arms:
        if arm.classifier is not None:
            yield check(
                f"classifier {arm.classifier.classifier}", partial(_classifier, recipe, arm, loaded)
            )

    def training() -> str:
        require_extra("train", "a training")
        from tutelage.planning import duration

        splits = loaded[0] if loaded else load_splits(recipe)
        measured = duration.measure(recipe, splits)
        found = duration.forecast(recipe, splits, measured)
        compiled = f" ({duration.NOT_COMPILED})" if found.compiled else ""
        total = duration.in_words(found.total)
        return f"{measured.memory_in_words}; {total} for a run{compiled}"

    yield check("training", training)


def _classifier(recipe: Recipe, arm: ArmSection, loaded: Sequence[Splits]) -> str:
    from tutelage.experiment.prepare import load_splits
    from tutelage.experiment.student_check import examine_classifier

    found = examine_classifier(recipe, arm, loaded[0] if loaded else load_splits(recipe))
    notes = "".join(f"; {note}" for note in found.notes)
    return (
        f"{found.parameters / 1e6:.1f} million parameters; computes what the plain model computes, "
        f"with inputs of up to {found.longest} tokens (examined in {found.seconds:.1f} s){notes}"
    )
