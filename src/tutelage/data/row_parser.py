"""Turn a source's rows into examples: map its columns and check each row."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError, UsageError
from tutelage.core.labels import LabelReader
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.data.cells import cell_value, id_of, nested, tags_of, text_of
from tutelage.data.faults import Faults
from tutelage.data.row_columns import (
    RowPlan,
    Rows,
    examples_by_column,
    reason_of,
)
from tutelage.data.row_ids import ExactIds, Ids, NotedIds, content_id
from tutelage.data.source import CellRows, Row, Source, in_blocks

_OPTIONAL = ("uid", "reason", "tags")
_ALIASES: Mapping[str, tuple[str, ...]] = {"premise": ("context",), "tags": ("inference_tags",)}
"""Column names of the ANLI release, which need no mapping."""

Mapped = Mapping[str, tuple[str, ...]]
"""Our names -> the columns that hold them; only `reason` may have several."""

Found = Example | DataError | None
"""What a row is: an example, why it cannot be read, or None where it has no label."""

_CHUNK = 250
"""Rows that are parsed together. Memory holds them twice, as read and as examples."""

_FEW = 16
"""So few rows, one of which is unusual, are parsed one by one."""


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
        for places, chunk in self._chunks(source, ids):
            if set(map(type, chunk)) == {Example}:
                examples += cast(Sequence[Example], chunk)
                continue
            for place, found in zip(places, chunk, strict=True):
                if isinstance(found, Example):
                    examples.append(found)
                elif found is None:
                    unlabelled += 1
                else:
                    faults.add(place, found)
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

    def each(self, source: Source, ids: Ids | None = None) -> Iterator[tuple[int, Found]]:
        """Yield (place, example) for every row: None where it has no label, and the error where it
        cannot be read. `ids` is as for `read`; it learns those of the examples, in their order."""
        for places, chunk in self._chunks(source, ids):
            yield from zip(places, chunk, strict=True)

    def _chunks(
        self, source: Source, ids: Ids | None
    ) -> Iterator[tuple[Sequence[int], Sequence[Found]]]:
        """The places of some rows at a time, and what each of them is."""
        known = ExactIds() if ids is None else ids
        readers: dict[str, LabelReader] = {}
        plans = _Plans(lambda place, there: self._plan(source, place, there, readers), source)
        for places, rows in in_blocks(source.rows, _CHUNK):
            yield places, self._together(source, places, rows, plans, known)

    def _together(
        self,
        source: Source,
        places: Sequence[int],
        rows: Sequence[Row],
        plans: _Plans,
        ids: Ids,
    ) -> list[Found]:
        """What each of these rows is: by column where all are as usual, else one by one."""
        plan = plans.of_all(places, rows)
        if plan is not None:
            usual = cast(Rows, rows)  # no error among them
            read = examples_by_column(source, places, usual, plan, ids, labelled=self.labelled)
            if read is not None:
                examples, earlier = read
                found: list[Found] = [*examples]
                for index, place in enumerate(places) if earlier else ():
                    example = examples[index]
                    if place in earlier and example is not None:
                        first, uid = earlier[place], example.uid
                        found[index] = self._repeated(source, uid, place, first, plan.uid)
                return found
        if len(rows) > _FEW:
            half = len(rows) // 2
            return [
                *self._together(source, places[:half], rows[:half], plans, ids),
                *self._together(source, places[half:], rows[half:], plans, ids),
            ]
        return [
            self._alone(source, place, row, plans, ids)
            for place, row in zip(places, rows, strict=True)
        ]

    def _alone(self, source: Source, place: int, row: Row, plans: _Plans, ids: Ids) -> Found:
        if isinstance(row, DataError):
            return row
        try:
            return self._example(source, place, row, plans.of(place, row), ids)
        except DataError as error:
            return error

    def _plan(
        self, source: Source, place: int, present: Iterable[str], readers: dict[str, LabelReader]
    ) -> RowPlan:
        mapped = self._resolve(source, place, present)
        label = None if self.ignores_labels else mapped.get("label", (None,))[0]
        if label is not None and label not in readers:
            readers[label] = self._labels(source.names.get(label, ()))
        return RowPlan(
            label=label,
            reader=None if label is None else readers[label],
            fields=tuple((name, mapped[name][0]) for name in self.task.fields),
            uid=mapped.get("uid", (None,))[0],
            reasons=mapped.get("reason", ()),
            tags=mapped.get("tags", (None,))[0],
        )

    def _example(
        self, source: Source, place: int, row: Mapping[str, object], plan: RowPlan, ids: Ids
    ) -> Example | None:
        label: str | None = ""
        if plan.label is not None and plan.reader is not None:
            value = cell_value(source, place, row, plan.label)
            try:
                label = plan.reader.read(value)
            except ValueError as error:
                raise source.error(str(error), place, plan.label) from error
            if label is None and self.labelled:
                return None
        label = label or ""
        fields = {}
        for name, column in plan.fields:
            value = cell_value(source, place, row, column)
            fields[name] = text_of(source, place, value, column)
        reason, further = reason_of(source, place, row, plan.reasons)
        tags: tuple[str, ...] = ()
        if plan.tags is not None:
            value = cell_value(source, place, row, plan.tags)
            tags = tags_of(source, place, value, plan.tags)
        # The id comes last: only rows that are right have one.
        if plan.uid is not None:
            value = cell_value(source, place, row, plan.uid)
            uid = id_of(source, place, value, plan.uid)
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


def _is_there(column: str, present: Sequence[str]) -> bool:
    """Whether rows with the columns `present` have this one, or one that this path leads into."""
    return column in present or ("." in column and column.partition(".")[0] in present)


class _Plans:
    """Which columns the rows of a source have; found once for all rows with the same columns."""

    def __init__(self, find: Callable[[int, Iterable[str]], RowPlan], source: Source) -> None:
        self._find = find
        self._known: dict[tuple[str, ...], RowPlan] = {}
        self._fixed = None if source.columns is None else find(1, source.columns)

    def of(self, place: int, row: Mapping[str, object]) -> RowPlan:
        """The plan of a row. Raises DataError where it lacks a column."""
        return self._fixed or self._of_columns(place, tuple(row))

    def of_all(self, places: Sequence[int], rows: Sequence[Row]) -> RowPlan | None:
        """The plan of all these rows; None where they differ, or one of them cannot be read."""
        if not isinstance(rows, CellRows) and set(map(type, rows)) != {dict}:
            return None
        if self._fixed is not None:
            return self._fixed
        all_columns = {tuple(row) for row in cast(Rows, rows)}
        try:
            plans = {self._of_columns(places[0], columns) for columns in all_columns}
        except DataError:
            return None
        return plans.pop() if len(plans) == 1 else None

    def _of_columns(self, place: int, columns: tuple[str, ...]) -> RowPlan:
        plan = self._known.get(columns)
        if plan is None:
            plan = self._find(place, columns)
            if len(self._known) < 1000:
                self._known[columns] = plan
        return plan
