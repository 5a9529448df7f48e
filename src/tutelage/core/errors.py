"""The errors that Tutelage raises, and the optional extras that MissingExtraError names.

    TutelageError              exit code 1: the work failed
    ├── UsageError             exit code 2: the call is wrong
    │   ├── RecipeError        an invalid recipe; holds every problem found
    │   └── MissingExtraError  a package of an optional extra is not installed
    ├── DataError              a faulty data file or row
    ├── TeacherError           the teacher cannot answer
    │   ├── ModelNotServedError
    │   ├── AuthenticationError
    │   ├── BatchesOpenError   exit code 0: nothing failed; batches are still open
    │   ├── BudgetError
    │   └── ServerUnreachableError
    ├── StudentError           a model that cannot be loaded, trained or evaluated
    └── RunFolderError         a run folder that is damaged or of another experiment

A message is one line: what was found, what was expected and what to do.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path


class TutelageError(Exception):
    """Base class. Any other exception that reaches the user is a bug in Tutelage."""

    exit_code = 1


class UsageError(TutelageError):
    """The call is at fault, not the work."""

    exit_code = 2


class RecipeError(UsageError):
    """An invalid recipe. `problems` holds one line for each problem found."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class MissingExtraError(UsageError):
    """A package of an optional extra is not installed.

    purpose: what needs it, the subject of the message
    """

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
            "charset_normalizer",
            "datasets",
            "gguf",
            "peft",
            "psutil",
            "pyarrow",
            "python_calamine",
            "safetensors",
            "sentencepiece",
            "tokenizers",
            "torch",
            "transformers",
        }
    ),
    "local": frozenset({"xllamacpp"}),
    "scale": frozenset({"ray"}),
    "deliver": frozenset(
        {"ctranslate2", "fastapi", "openvino", "prometheus_client", "starlette", "uvicorn"}
    ),
}
"""The modules that each optional extra installs."""


def extra_of(module: str | None) -> str | None:
    """The extra that installs `module` or its package; None where none does."""
    package = (module or "").partition(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if package in modules), None)


def require_extra(extra: str, purpose: str, *also: str) -> None:
    """Raise MissingExtraError where a package of `extra` that `purpose` needs is not installed.

    also: packages of the extra that not every use of it needs

    Call this before anything is paid for or written. It imports none of the packages.
    """
    needed = ("torch", "transformers", "accelerate") if extra == "train" else EXTRAS[extra]
    for package in (*needed, *also):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, extra, purpose)


class DataError(TutelageError):
    """A data file or row that is not as the task expects.

    `path`, `line` (counted from 1) and `field` locate the fault, as far as known.
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
    """The teacher cannot answer, and a retry would not help."""


class ModelNotServedError(TeacherError):
    """The server does not have the requested model, or no longer serves it."""


class AuthenticationError(TeacherError):
    """The API key is missing, or the server refuses it."""


class BatchesOpenError(TeacherError):
    """Requests are in batches that the server has not finished, and the call is not to wait."""

    exit_code = 0


class BudgetError(TeacherError):
    """The next request could cost more than the rest of the budget."""


class ServerUnreachableError(TeacherError):
    """The teacher's server does not respond, or keeps failing."""


class StudentError(TutelageError):
    """A student that cannot be loaded, trained or evaluated."""


class DivergedError(StudentError):
    """A student whose scores are not finite, because its training diverged."""


class RunFolderError(TutelageError):
    """A run folder that is damaged, or that is of another experiment."""
