"""`recorded:FILE#KEY`: recorded answers, looked up by the example's uid.

FILE has one JSON object per line, each with a `uid`, and `rationales: {KEY: text or null}` or
`teacher_labels: {KEY: label}`, the label that the teacher itself gave, or both. For labels the part
of KEY after its last slash is enough: `chain_of_thought/big-1` finds the label of `big-1`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Self

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.environment import expand_variables
from tutelage.core.errors import DataError, TeacherError, UsageError
from tutelage.core.storage import half_character
from tutelage.core.types import Completion, Request
from tutelage.teacher.engine.failures import Fault


class RecordedTeacher:
    """The answers under one key of one file.

    spec: `FILE#KEY`; `${NAME:-default}` in FILE is an environment variable, and a relative FILE is
          resolved against `base`. A KEY may contain anything but `#`.

    The answer for a uid without a text under the key is empty, and counts as `empty`. The label,
    where there is one, is returned separately and is not part of the text.

    Raises UsageError for a missing file or unknown key, DataError for a damaged line.
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
        self._texts, self._labels = _read(self._path, self.model)

    async def complete(self, request: Request) -> Completion:
        """The text recorded for the example (empty where there is none), and the label."""
        uid = request.example.uid
        text, label = self._texts.get(uid), self._labels.get(uid)
        if text is None:
            return Completion("", label=label)
        return Completion(text, "stop", label=label)

    async def explain(self, fault: Fault) -> TeacherError:
        """The fault as an error; a teacher that only looks answers up raises none."""
        return TeacherError(str(fault))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


def _read(path: Path, key: str) -> tuple[dict[str, str], dict[str, str]]:
    """The texts and the labels, by uid."""
    texts: dict[str, str] = {}
    labels: dict[str, str] = {}
    label_keys = (key, key.rpartition("/")[2])
    keys: set[str] = set()
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    uid, rationales, given = _row(path, number, line)
                    keys.update(rationales, given)
                    label = next((given[k] for k in label_keys if k in given), None)
                    if isinstance(label, str):
                        labels[uid] = label
                    text = rationales.get(key)
                    if not isinstance(text, str):
                        continue
                    if (trouble := half_character(text)) is not None:
                        raise DataError(trouble, path=path, line=number, field="rationales")
                    if texts.setdefault(uid, text) != text:
                        raise DataError(
                            f"{uid!r} has another text further up: expected one row per uid",
                            path=path,
                            line=number,
                            field="uid",
                        )
    except OSError as error:
        raise UsageError(
            f"{path}: recorded answers could not be read ({error.strerror}): check the path in "
            "'recorded:FILE#KEY'"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            "is not UTF-8 text: expected one JSON object per line", path=path
        ) from error
    if key not in keys:
        raise UsageError(
            f"{path}: no row has rationales or teacher_labels under {key!r}; the keys are: "
            f"{', '.join(sorted(keys)) or 'none'}"
        )
    return texts, labels


def _row(path: Path, number: int, line: str) -> tuple[str, dict[str, object], dict[str, object]]:
    """The uid of a row, and its `rationales` and `teacher_labels`."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"is not valid JSON ({error})", path=path, line=number) from error
    uid = row.get("uid") if isinstance(row, dict) else None
    if uid is None:
        raise DataError("expected an object with a `uid`", path=path, line=number)
    found = []
    for name in ("rationales", "teacher_labels"):
        values = row.get(name) or {}
        if not isinstance(values, dict):
            raise DataError(
                "expected an object of texts by name", path=path, line=number, field=name
            )
        found.append(values)
    return str(uid), found[0], found[1]
