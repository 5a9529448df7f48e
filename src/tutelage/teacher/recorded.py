"""`recorded:FILE#KEY`: answers that somebody else paid for, looked up by the example's uid.

FILE has one JSON object a line, each with a `uid` and `rationales: {KEY: text or null}`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from tutelage.environment import expand_variables
from tutelage.errors import DataError, TeacherError, UsageError
from tutelage.records import Completion, Request
from tutelage.teacher.base import TeacherSettings
from tutelage.teacher.faults import Fault


class RecordedTeacher:
    """The answers under one key of one file.

    spec: `FILE#KEY`; `${NAME:-default}` in FILE is an environment variable, and a relative FILE
          counts from `base`. A KEY may hold anything but `#`.

    A uid without a text under the key is answered with no words, which counts as `empty`. Raises
    UsageError for a missing file or unknown key, DataError for a damaged line.
    """

    identity = "recorded"
    paid = False

    def __init__(self, spec: str, settings: TeacherSettings, base: Path | None = None) -> None:
        self.settings = settings
        file, hash_sign, self.model = spec.rpartition("#")
        if not (hash_sign and file and self.model):
            raise UsageError(
                f"teacher model 'recorded:{spec}': expected 'recorded:FILE#KEY', KEY being a name "
                "under `rationales` in the file's rows"
            )
        self._path = (base or Path()) / Path(expand_variables(file)).expanduser()
        self._texts = _read(self._path, self.model)

    async def complete(self, request: Request) -> Completion:
        """The text recorded for the example, or no words."""
        text = self._texts.get(request.example.uid)
        return Completion("") if text is None else Completion(text, "stop")

    async def explain(self, fault: Fault) -> TeacherError:
        """Nothing is wrong with a teacher that only looks answers up."""
        return TeacherError(str(fault))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


def _read(path: Path, key: str) -> dict[str, str]:
    texts: dict[str, str] = {}
    keys: set[str] = set()
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    uid, rationales = _row(path, number, line)
                    keys.update(rationales)
                    text = rationales.get(key)
                    if not isinstance(text, str):
                        continue
                    if texts.setdefault(uid, text) != text:
                        raise DataError(
                            f"{uid!r} has another text further up: ids name one row each",
                            path=path,
                            line=number,
                            field="uid",
                        )
    except OSError as error:
        raise UsageError(
            f"{path}: recorded answers cannot be read ({error.strerror}): check the path in "
            "'recorded:FILE#KEY'"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError("is no UTF-8 text: expected one JSON object a line", path=path) from error
    if key not in keys:
        raise UsageError(
            f"{path}: no row has rationales under {key!r}; there are: "
            f"{', '.join(sorted(keys)) or 'none'}"
        )
    return texts


def _row(path: Path, number: int, line: str) -> tuple[str, dict[str, object]]:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"is no JSON ({error})", path=path, line=number) from error
    uid = row.get("uid") if isinstance(row, dict) else None
    if uid is None:
        raise DataError("expected an object with a `uid`", path=path, line=number)
    rationales = row.get("rationales") or {}
    if not isinstance(rationales, dict):
        raise DataError(
            "expected an object of texts by name", path=path, line=number, field="rationales"
        )
    return str(uid), rationales
