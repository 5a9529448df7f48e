"""Turn a source's rows into examples: map its columns and check each row."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError, UsageError
from tutelage.core.labels import LabelReader
from tutelage.core.storage import half_character
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.data.faults import Faults
from tutelage.data.row_ids import ExactIds, Ids, NotedIds, content_id
from tutelage.data.source import Source

_OPTIONAL = ("uid", "reason", "tags")
_ALIASES: Mapping[str, tuple[str, ...]] = {"premise": ("context",), "tags": ("inference_tags",)}
"""Column names of the ANLI release, which need no mapping."""

_NO_REFERENCES: Mapping[str, str] = {}
"""One for all examples, of which there may be millions."""

Mapped = Mapping[str, tuple[str, ...]]
"""Our names -> the columns that hold them; only `reason` may have several."""


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which columns of a row hold what; None or empty where none does.

    reader: of the label's column
    fields: the task's fields in order, each with its column
    """

    label: str | None
    reader: LabelReader | None
    fields: tuple[tuple[str, str], ...]
    uid: str | None
    reasons: tuple[str, ...]
    tags: str | None


@dataclass(frozen=True)
class RowParser:
    """Parses rows as examples of `task`.

    labelled: whether a row needs a label; otherwise its label is "" where there is none, and no
              column of labels need exist
    ignores_labels: whether labels are not even read; needs `labelled=False`
    """

    task: Task
    layout: LayoutSettings = field(default_factory=LayoutSettings)
    labelled: bool = True
    ignores_labels: bool = False

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

    def has_label(self, row: Mapping[str, object]) -> bool:
        """Whether a row has anything where its label would be, whether or not it can be read."""
        column = self.layout.columns.get("label", "label")
        assert isinstance(column, str)  # the constructor refuses a list
        value = row[column] if column in row else nested(row, column)
        if value is None or value != value or value == []:  # nothing, not a number, an empty list
            return False
        return str(value).strip() not in ("", *self.layout.no_label)

    def _labels(self, declared: Sequence[str]) -> LabelReader:
        names = self.layout.label_names or declared
        if unknown := [n for n in self.layout.label_names if self._label_named(n) is None]:
            raise UsageError(
                f"label_names: {', '.join(map(repr, unknown))} is not a label, expected "
                f"some of {', '.join(self.task.labels)}"
            )
        by_file = not self.layout.label_names and bool(declared)
        return self.task.label_reader(names, self.layout.no_label, only_positions=by_file)

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
        faults, ids = Faults(source), NotedIds(keep_places=True)
        for place, found in self.each(source, ids):
            if found is None:
                unlabelled += 1
            elif isinstance(found, DataError):
                faults.add(place, found)
            else:
                examples.append(found)
        self._compare(source, examples, ids, faults)
        faults.raise_any()
        if not examples:
            found_rows = (
                f"none of its {unlabelled} rows has a label" if unlabelled else "it holds no rows"
            )
            raise DataError(f"{found_rows}, expected labelled rows", path=source.name)
        return examples, unlabelled

    def _compare(
        self, source: Source, examples: list[Example], ids: NotedIds, faults: Faults
    ) -> None:
        """Number the rows of equal content, and add a fault for each id that came before."""
        given, computed = ids.repeated()
        if not (given or computed) or ids.places is None:
            return
        exact = ExactIds()
        for index, place in enumerate(ids.places):
            example = examples[index]
            if place < 0 and hash(example.uid) in computed:
                uid = exact.computed(example.uid, -place)
                if uid != example.uid:
                    examples[index] = replace(example, uid=uid)
            elif place > 0 and hash(example.uid) in given:
                first = exact.given(example.uid, place)
                if first is not None:
                    faults.add(place, self._repeated(source, example.uid, place, first))

    def read(self, source: Source, ids: Ids | None = None) -> Iterator[Example | None]:
        """Yield the examples one by one, None for a row without a label.

        ids: what learns the ids; default: all stay in memory, and are compared

        Raises DataError at the end where rows were faulty; it names the first of each kind, and
        says how many there are.
        """
        faults = Faults(source)
        for place, found in self.each(source, ids):
            if isinstance(found, DataError):
                faults.add(place, found)
            else:
                yield found
        faults.raise_any()

    def each(
        self, source: Source, ids: Ids | None = None
    ) -> Iterator[tuple[int, Example | DataError | None]]:
        """Yield (place, example) for every row: None where it has no label, and the error where it
        cannot be read. `ids` is as for `read`; it learns those of the examples, in their order."""
        known = ExactIds() if ids is None else ids
        resolved: dict[tuple[str, ...], _Plan] = {}
        readers: dict[str, LabelReader] = {}
        fixed: _Plan | None = None
        if source.columns is not None:
            fixed = self._plan(source, 1, source.columns, readers)
        plan = fixed
        for place, row in source.rows:
            if isinstance(row, DataError):
                yield place, row
                continue
            try:
                if fixed is None:
                    keys = tuple(row)
                    plan = resolved.get(keys)
                    if plan is None:
                        plan = self._plan(source, place, row, readers)
                        if len(resolved) < 1000:
                            resolved[keys] = plan
                assert plan is not None
                yield place, self._example(source, place, row, plan, known)
            except DataError as error:
                yield place, error

    def _plan(
        self, source: Source, place: int, present: Iterable[str], readers: dict[str, LabelReader]
    ) -> _Plan:
        mapped = self._resolve(source, place, present)
        label = None if self.ignores_labels else mapped.get("label", (None,))[0]
        if label is not None and label not in readers:
            readers[label] = self._labels(source.names.get(label, ()))
        return _Plan(
            label=label,
            reader=None if label is None else readers[label],
            fields=tuple((name, mapped[name][0]) for name in self.task.fields),
            uid=mapped.get("uid", (None,))[0],
            reasons=mapped.get("reason", ()),
            tags=mapped.get("tags", (None,))[0],
        )

    def _example(
        self, source: Source, place: int, row: Mapping[str, object], plan: _Plan, ids: Ids
    ) -> Example | None:
        # A step for each of millions of rows: what is usual takes the short way.
        label: str | None = ""
        if plan.label is not None and plan.reader is not None:
            value = row.get(plan.label)
            if not (type(value) is str and value.isascii()):
                value = self._value(source, place, row, plan.label)
            try:
                label = plan.reader.read(value)
            except ValueError as error:
                raise source.error(str(error), place, plan.label) from error
            if label is None and self.labelled:
                return None
        label = label or ""
        fields = {}
        for name, column in plan.fields:
            text = row.get(column)
            if not (type(text) is str and text.isascii() and text and not text.isspace()):
                value = self._value(source, place, row, column)
                text = self._text(source, place, value, column)
            fields[name] = text
        reason: str | None = None
        further = _NO_REFERENCES
        if plan.reasons:
            reasons: dict[str, None] = {}
            for column in plan.reasons:
                value = self._value(source, place, row, column)
                reasons.update(dict.fromkeys(self._reasons(source, place, value, column)))
            texts = list(reasons)
            reason = texts[0] if texts else None
            # The reasons of further annotators are kept as references.
            if len(texts) > 1:
                further = {f"human-{number}": text for number, text in enumerate(texts[1:], 2)}
        tags: tuple[str, ...] = ()
        if plan.tags is not None:
            tags = self._tags(source, place, self._value(source, place, row, plan.tags), plan.tags)
        # The id comes last: only rows that are right have one.
        if plan.uid is not None:
            value = self._value(source, place, row, plan.uid)
            uid = self._uid(source, place, value, plan.uid)
            first = ids.given(uid, place)
            if first is not None:
                raise self._repeated(source, uid, place, first, plan.uid)
        else:
            uid = ids.computed(content_id(fields, label), place)
        return Example(uid, fields, label, reason, tags, further)

    def _repeated(
        self, source: Source, uid: str, place: int, first: int, column: str | None = None
    ) -> DataError:
        if column is None:
            said = self.layout.columns.get("uid")
            column = said if isinstance(said, str) and said else "uid"
        return source.error(
            f"got id {uid!r}, which {'line' if source.lines else 'row'} {first} also has, expected "
            'unique ids: correct the file, or ignore its ids with columns: {uid: ""}',
            place,
            column,
        )

    def _value(self, source: Source, place: int, row: Mapping[str, object], column: str) -> Any:
        value = row[column] if column in row else nested(row, column)
        if not (isinstance(value, str) and value.isascii()):
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
            if name in ("label", "reason", "tags", "uid") and not self.labelled:
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
        text = as_id(value)
        if text is None:
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


def as_id(value: object) -> str | None:
    """The id that a value is: text or a whole number. None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return None
    return str(value).strip() or None


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
    for text in value if isinstance(value, list) else (value,):
        if isinstance(text, str) and (trouble := half_character(text)) is not None:
            raise source.error(trouble, place, column)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
