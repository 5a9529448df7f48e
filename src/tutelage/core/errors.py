"""Every error that Tutelage raises on purpose.

    TutelageError              exit code 1: the work failed
    ├── UsageError             exit code 2: the call is wrong
    │   ├── RecipeError        a recipe that cannot be run; carries every problem found
    │   └── MissingExtraError  a package that an optional extra would have installed
    ├── DataError              a data file, or a row of it
    ├── TeacherError           an answer that cannot be had
    │   ├── ModelNotServedError
    │   ├── AuthenticationError
    │   ├── BatchesOpenError   exit code 0: nothing is wrong, and nothing more to do for now
    │   ├── BudgetError
    │   └── ServerUnreachableError
    ├── StudentError           a model that cannot be loaded, trained or scored
    └── RunFolderError         a run folder that is damaged, or belongs to something else

A message is one line that says what was got, what was expected and what to do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path


class TutelageError(Exception):
    """Base of all of ours. Anything else that escapes is a bug in Tutelage."""

    exit_code = 1


class UsageError(TutelageError):
    """The call, not the work, is at fault."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe that cannot be run. `problems` holds a line for each fault, so that all show."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class MissingExtraError(UsageError):
    """A package is missing that one of our extras installs."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed: "
            f"pip install 'tutelage[{extra}]' -c constraints.txt"
        )
        self.package = package
        self.extra = extra


EXTRAS: Mapping[str, frozenset[str]] = {
    "train": frozenset(
        {
            "accelerate",
            "datasets",
            "gguf",
            "peft",
            "psutil",
            "pyarrow",
            "safetensors",
            "sentencepiece",
            "tokenizers",
            "torch",
            "transformers",
        }
    ),
    "local": frozenset({"xllamacpp"}),
}
"""The modules that each optional extra installs."""


def extra_of(module: str | None) -> str | None:
    """The extra that installs `module` (or the package that it is part of); None: none does."""
    package = (module or "").partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if package in modules), None)


def require_extra(extra: str, purpose: str, *also: str) -> None:
    """Raise MissingExtraError where a package of `extra` that `purpose` needs is not installed.

    also: packages of the extra that not every use of it needs

    Called before anything is paid for or written. Imports none of them.
    """
    needed = ("torch", "transformers", "accelerate") if extra == "train" else EXTRAS[extra]
    for package in (*needed, *also):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra, purpose)


class DataError(TutelageError):
    """A data file, or one row of it, that is not what the task expects.

    `path`, `line` (counted from 1) and `field` say where, as far as is known.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        where = "" if path is None else str(path) + ("" if line is None else f":{line}")
        where += "" if field is None else f" field {field!r}"
        super().__init__(f"{where}: {message}" if where else message)
        self.path = path
        self.line = line
        self.field = field


class TeacherError(TutelageError):
    """The teacher cannot answer, and asking again would not help."""


class ModelNotServedError(TeacherError):
    """The server does not know, or no longer serves, the model asked for."""


class AuthenticationError(TeacherError):
    """No key, or a key that the server refuses."""


class BatchesOpenError(TeacherError):
    """Questions lie in batches that the server has not answered, and nobody wants to wait."""

    exit_code = 0


class BudgetError(TeacherError):
    """The next question can cost more than what the budget has left."""


class ServerUnreachableError(TeacherError):
    """Nothing answers at the teacher's address, or it went on failing."""


class StudentError(TutelageError):
    """A student that cannot be loaded, trained or scored."""


class RunFolderError(TutelageError):
    """A run folder that is damaged, or that belongs to another experiment."""
