"""Turn a source's rows into examples: map its columns and check each row."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError, UsageError
from tutelage.core.labels import LabelReader
from tutelage.core.storage import half_character
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.data.faults import Faults
from tutelage.data.source import Source

_OPTIONAL = ("uid", "reason", "tags")
_ALIASES: Mapping[str, tuple[str, ...]] = {"premise": ("context",), "tags": ("inference_tags",)}
"""Column names of the ANLI release, which need no mapping."""

_NO_REFERENCES: Mapping[str, str] = {}
"""One for all examples, of which there may be millions."""

_quoted = json.encoder.encode_basestring_ascii

Mapped = Mapping[str, tuple[str, ...]]
"""Our names -> the columns that hold them; only `reason` may have several."""


@dataclass(frozen=True)
class RowParser:
    """Parses rows as examples of `task`.

    labelled: whether a row needs a label; otherwise its label is "" where there is none, and no
              column of labels need exist
    """

    task: Task
    layout: LayoutSettings = field(default_factory=LayoutSettings)
    labelled: bool = True

    def __post_init__(self) -> None:
        known = (*self.task.fields, "label", *_OPTIONAL)
        for ours, theirs in self.layout.columns.items():
            if ours not in known:
                near = difflib.get_close_matches(ours, known, n=1)
                raise UsageError(
                    f"columns: unknown name {ours!r}, expected one of "
                    f"{', '.join(known)}" + (f" (did you mean {near[0]!r}?)" if near else "")
                )
            if not theirs and ours not in _OPTIONAL:
                raise UsageError(f"columns: {ours!r} needs the name of a column, got an empty one")
            if not isinstance(theirs, str) and ours != "reason":
                raise UsageError(
                    f"columns: {ours!r} has {len(theirs)} columns, expected one (only `reason` may "
                    "have several)"
                )
        self._labels(())  # raises for names that contradict the labels

    def _labels(self, declared: Sequence[str]) -> LabelReader:
        names = self.layout.label_names or declared
        if unknown := [n for n in self.layout.label_names if self._label_named(n) is None]:
            raise UsageError(
                f"label_names: {', '.join(map(repr, unknown))} is not a label, expected "
                f"some of {', '.join(self.task.labels)}"
            )
        by_file = not self.layout.label_names and bool(declared)
        return self.task.label_reader(names, self.layout.unlabelled, only_positions=by_file)

    def _label_named(self, name: str) -> str | None:
        try:
            return self.task.label_reader().read(name)
        except ValueError:
            return None

    def parse(self, source: Source) -> tuple[list[Example], int]:
        """Parse all rows: the labelled ones in order, and the number of unlabelled ones.

        Raises DataError for faulty rows, repeated ids, or a source without labelled rows.
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

        Raises DataError at the end where rows were faulty; it names the first of each kind, and
        says how many there are.
        """
        faults = Faults(source)
        for place, found in self.each(source):
            if isinstance(found, DataError):
                faults.add(place, found)
            else:
                yield found
        faults.raise_any()

    def each(self, source: Source) -> Iterator[tuple[int, Example | DataError | None]]:
        """Yield (place, example) for every row: None where it has no label, and the error where it
        cannot be read."""
        first_seen: dict[str, int] = {}
        copies: Counter[str] = Counter()
        resolved: dict[tuple[str, ...], Mapped] = {}
        labels: dict[str, LabelReader] = {}
        if source.columns is not None:
            fixed = self._resolve(source, 1, source.columns)
        for place, row in source.rows:
            if isinstance(row, DataError):
                yield place, row
                continue
            try:
                if source.columns is not None:
                    mapped = fixed
                elif (keys := tuple(row)) in resolved:
                    mapped = resolved[keys]
                else:
                    mapped = self._resolve(source, place, row)
                    if len(resolved) < 1000:
                        resolved[keys] = mapped
                yield place, self._example(source, place, row, mapped, labels, first_seen, copies)
            except DataError as error:
                yield place, error

    def _example(
        self,
        source: Source,
        place: int,
        row: Mapping[str, object],
        mapped: Mapped,
        labels: dict[str, LabelReader],
        first_seen: dict[str, int],
        copies: Counter[str],
    ) -> Example | None:
        label: str | None = ""
        if "label" in mapped:
            column = mapped["label"][0]
            value = self._value(source, place, row, column)
            if column not in labels:
                labels[column] = self._labels(source.names.get(column, ()))
            try:
                label = labels[column].read(value)
            except ValueError as error:
                raise source.error(str(error), place, column) from error
            if label is None:
                if self.labelled:
                    return None
                label = ""
        fields = {}
        for name in self.task.fields:
            column = mapped[name][0]
            value = self._value(source, place, row, column)
            fields[name] = self._text(source, place, value, column)
        if "uid" in mapped:
            column = mapped["uid"][0]
            uid = self._uid(source, place, self._value(source, place, row, column), column)
            if uid in first_seen:
                raise source.error(
                    f"got id {uid!r}, which {'line' if source.lines else 'row'} "
                    f"{first_seen[uid]} also has, expected unique ids: correct the file, or "
                    'ignore its ids with columns: {uid: ""}',
                    place,
                    column,
                )
            first_seen[uid] = place
        else:
            uid = _content_id(fields, label or "")
            copies[uid] += 1
            uid += f"-{copies[uid]}" if copies[uid] > 1 else ""
        reason: str | None = None
        further = _NO_REFERENCES
        if "reason" in mapped:
            reasons: dict[str, None] = {}
            for column in mapped["reason"]:
                value = self._value(source, place, row, column)
                reasons.update(dict.fromkeys(self._reasons(source, place, value, column)))
            texts = list(reasons)
            reason = texts[0] if texts else None
            # The reasons of further annotators are kept as references.
            if len(texts) > 1:
                further = {f"human-{number}": text for number, text in enumerate(texts[1:], 2)}
        tags: tuple[str, ...] = ()
        if "tags" in mapped:
            column = mapped["tags"][0]
            tags = self._tags(source, place, self._value(source, place, row, column), column)
        return Example(uid, fields, label or "", reason, tags, further)

    def _value(self, source: Source, place: int, row: Mapping[str, object], column: str) -> Any:
        value = row[column] if column in row else nested(row, column)
        _check_whole(source, place, value, column)
        return value

    def _resolve(self, source: Source, place: int, present: Iterable[str]) -> Mapped:
        """Our names -> the columns that hold them; optional names only where a column exists."""
        present = list(present)
        resolved: dict[str, tuple[str, ...]] = {}
        for name in (*self.task.fields, "label", *_OPTIONAL):
            mapped = self.layout.columns.get(name)
            if mapped == "":
                continue
            if isinstance(mapped, list):
                found = tuple(column for column in mapped if _is_there(column, present))
                options: tuple[str, ...] = tuple(mapped)
            else:
                options = (name, *_ALIASES.get(name, ())) if mapped is None else (mapped,)
                found = tuple(option for option in options if _is_there(option, present))[:1]
            # JSON lines may lack an optional key, even a mapped one; a table may not.
            required = name not in _OPTIONAL or (mapped is not None and source.columns is not None)
            if name in ("label", "reason", "tags") and not self.labelled:
                required = False
            if found:
                resolved[name] = found
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
        return [text for text in texts if text]

    def _tags(self, source: Source, place: int, value: object, column: str) -> tuple[str, ...]:
        """Parse a list of texts, or one text separated by commas or semicolons."""
        if value is None:
            return ()
        parts = re.split(r"[;,]", value) if isinstance(value, str) else value
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise source.error(f"got {_shown(value)}, expected a list of texts", place, column)
        return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def nested(value: object, path: str) -> Any:
    """The value at `a.b.c` inside of objects and lists; None where there is none.

    A list on the way stands for what its members hold there: nothing where it is empty, one value
    where all agree, else the list of the different values.
    """
    if isinstance(value, list):
        found: list[Any] = []
        for part in value:
            inner = nested(part, path) if path else part
            for one in inner if isinstance(inner, list) else [inner]:
                if one is not None and one not in found:
                    found.append(one)
        return found[0] if len(found) == 1 else (found or None)
    if not path:
        return value
    if not isinstance(value, Mapping):
        return None
    if path in value:
        return nested(value[path], "")
    key, _, rest = path.partition(".")
    return nested(value[key], rest) if rest and key in value else None


def _is_there(column: str, present: Sequence[str]) -> bool:
    """Whether rows with the columns `present` have this one, or one that this path leads into."""
    return column in present or ("." in column and column.partition(".")[0] in present)


def _check_whole(source: Source, place: int, value: object, column: str) -> None:
    """Refuse half of a surrogate pair here, where the row is known."""
    if isinstance(value, str) and value.isascii():
        return
    for text in value if isinstance(value, list) else (value,):
        if isinstance(text, str) and (trouble := half_character(text)) is not None:
            raise source.error(trouble, place, column)


def _content_id(fields: Mapping[str, str], label: str) -> str:
    """An id computed from the row's content: equal rows have equal ids."""
    # The text that json.dumps([sorted(fields.items()), label]) makes, in a third of its time.
    pairs = ", ".join(
        f"[{_quoted(name)}, {_quoted(text)}]" for name, text in sorted(fields.items())
    )
    text = f"[[{pairs}], {_quoted(label)}]"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
