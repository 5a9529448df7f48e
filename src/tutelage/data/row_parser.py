"""Turn a source's rows into examples: map its columns and check each row."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tutelage.core.errors import DataError, UsageError
from tutelage.core.storage import half_character
from tutelage.core.task import Task
from tutelage.core.types import Example

_OPTIONAL = ("uid", "reason", "tags")
_ALIASES: Mapping[str, tuple[str, ...]] = {"premise": ("context",), "tags": ("inference_tags",)}
"""Column names of the ANLI release, which need no mapping."""


@dataclass(frozen=True, slots=True)
class Source:
    """An opened source of rows.

    name:    path or hub name, for messages
    columns: the columns of every row; None where rows may differ (JSON lines)
    rows:    (place, values); place is a line or row number, counted from 1
    lines:   whether places are lines of a text file
    """

    name: str
    columns: Sequence[str] | None
    rows: Iterable[tuple[int, Mapping[str, object]]]
    lines: bool

    def error(self, message: str, place: int, field: str | None = None) -> DataError:
        """Make a DataError for the row at `place`."""
        if self.lines:
            return DataError(message, path=self.name, line=place, field=field)
        return DataError(f"row {place}: {message}", path=self.name, field=field)


@dataclass(frozen=True, slots=True)
class RowParser:
    """Parses rows as examples of `task`; `columns` maps our names to the source's columns."""

    task: Task
    columns: Mapping[str, str]

    def __post_init__(self) -> None:
        known = (*self.task.fields, "label", *_OPTIONAL)
        for ours, theirs in self.columns.items():
            if ours not in known:
                near = difflib.get_close_matches(ours, known, n=1)
                raise UsageError(
                    f"columns: unknown name {ours!r}, expected one of "
                    f"{', '.join(known)}" + (f" (did you mean {near[0]!r}?)" if near else "")
                )
            if not theirs and ours not in _OPTIONAL:
                raise UsageError(f"columns: {ours!r} needs the name of a column, got an empty one")

    def parse(self, source: Source) -> tuple[list[Example], int]:
        """Parse all rows: the labelled ones in order, and the number of unlabelled ones.

        Raises DataError for the first faulty row, a repeated id, or a source without labelled rows.
        """
        examples: list[Example] = []
        unlabelled = 0
        for example in self.read(source):
            if example is None:
                unlabelled += 1
            else:
                examples.append(example)
        if not examples:
            found = (
                f"none of its {unlabelled} rows has a label" if unlabelled else "it holds no rows"
            )
            raise DataError(f"{found}, expected labelled rows", path=source.name)
        return examples, unlabelled

    def read(self, source: Source) -> Iterator[Example | None]:
        """Yield the examples one by one, None for a row without a label; only ids stay in memory.

        Raises DataError for the first faulty row, or a repeated id.
        """
        first_seen: dict[str, int] = {}
        copies: Counter[str] = Counter()
        names = None if source.columns is None else self._resolve(source, 1, source.columns)
        for place, row in source.rows:
            mapped = names if names is not None else self._resolve(source, place, row)
            for column in mapped.values():
                _check_whole(source, place, row[column], column)
            label = self._label(source, place, row[mapped["label"]], mapped["label"])
            if label is None:
                yield None
                continue
            fields = {
                name: self._text(source, place, row[mapped[name]], mapped[name])
                for name in self.task.fields
            }
            if "uid" in mapped:
                uid = self._uid(source, place, row[mapped["uid"]], mapped["uid"])
                if uid in first_seen:
                    raise source.error(
                        f"got id {uid!r}, which {'line' if source.lines else 'row'} "
                        f"{first_seen[uid]} also has, expected unique ids: correct the file, or "
                        'ignore its ids with columns: {uid: ""}',
                        place,
                        mapped["uid"],
                    )
                first_seen[uid] = place
            else:
                uid = _content_id(fields, label)
                copies[uid] += 1
                uid += f"-{copies[uid]}" if copies[uid] > 1 else ""
            reasons: list[str] = []
            tags = None
            if "reason" in mapped:
                reasons = self._reasons(source, place, row[mapped["reason"]], mapped["reason"])
            if "tags" in mapped:
                tags = self._tags(source, place, row[mapped["tags"]], mapped["tags"])
            # The reasons of further annotators are kept as references.
            further = {f"human-{number}": text for number, text in enumerate(reasons[1:], 2)}
            yield Example(uid, fields, label, next(iter(reasons), None), tags or (), further)

    def _resolve(self, source: Source, place: int, present: Iterable[str]) -> dict[str, str]:
        """Our names -> the columns that hold them; optional names only where a column exists."""
        present = list(present)
        resolved = {}
        for name in (*self.task.fields, "label", *_OPTIONAL):
            mapped = self.columns.get(name)
            if mapped == "":
                continue
            options = (name, *_ALIASES.get(name, ())) if mapped is None else (mapped,)
            column = next((option for option in options if option in present), None)
            # JSON lines may lack an optional key, even a mapped one; a table may not.
            required = name not in _OPTIONAL or (mapped is not None and source.columns is not None)
            if column is not None:
                resolved[name] = column
            elif required:
                there = ", ".join(present) or "none"
                advice = (
                    f"map it with columns: {{{name}: …}}"
                    if mapped is None
                    else f"correct columns: {{{name}: {mapped}}}"
                )
                message = f"no column {options[0]!r}, expected one of: {there}; {advice}"
                if source.columns is not None:
                    raise DataError(message, path=source.name)
                raise source.error(message, place)
        return resolved

    def _label(self, source: Source, place: int, value: object, column: str) -> str | None:
        try:
            return self.task.parse_label(value)
        except ValueError as error:
            raise source.error(str(error), place, column) from error

    def _text(self, source: Source, place: int, value: object, column: str) -> str:
        if not isinstance(value, str):
            raise source.error(f"got {_shown(value)}, expected text", place, column)
        if not value.strip():
            raise source.error(f"got {value!r}, expected text that is not blank", place, column)
        return value

    def _uid(self, source: Source, place: int, value: object, column: str) -> str:
        text = str(value).strip() if isinstance(value, (str, int)) else ""
        if not text or isinstance(value, bool):
            raise source.error(
                f"got {_shown(value)}, expected an id (text or a whole number)",
                place,
                column,
            )
        return text

    def _reasons(self, source: Source, place: int, value: object, column: str) -> list[str]:
        """Parse one text, or a list of them where several annotators gave a reason."""
        parts = value if isinstance(value, list) else [] if value is None else [value]
        texts = [part.strip() for part in parts if isinstance(part, str)]
        if len(texts) < len(parts):
            raise source.error(
                f"got {_shown(value)}, expected text, a list of texts or nothing", place, column
            )
        return list(dict.fromkeys(text for text in texts if text))

    def _tags(self, source: Source, place: int, value: object, column: str) -> tuple[str, ...]:
        """Parse a list of texts, or one text separated by commas or semicolons."""
        if value is None:
            return ()
        parts = re.split(r"[;,]", value) if isinstance(value, str) else value
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise source.error(f"got {_shown(value)}, expected a list of texts", place, column)
        return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _check_whole(source: Source, place: int, value: object, column: str) -> None:
    """Refuse half of a surrogate pair here, where the row is known."""
    for text in value if isinstance(value, list) else (value,):
        if isinstance(text, str) and (trouble := half_character(text)) is not None:
            raise source.error(trouble, place, column)


def _content_id(fields: Mapping[str, str], label: str) -> str:
    """An id computed from the row's content: equal rows have equal ids."""
    text = json.dumps([sorted(fields.items()), label])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
