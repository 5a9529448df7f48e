"""The values of a file's label column: which of them are labels, and which may mean nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError, UsageError
from tutelage.core.labels import (
    LabelReader,
    Spellings,
    alike,
    may_be_nothing,
    number_of,
    same_label,
    spelled,
)
from tutelage.core.task import Task
from tutelage.data.cells import nested
from tutelage.data.columns import Column
from tutelage.data.sample import Sample

_EXAMPLE = 60
"""Characters of an example's text."""


@dataclass(frozen=True, slots=True)
class LabelFound:
    """A label as the file has it.

    value:   the value in the file, where it is not spelled as the label
    count:   rows of the sample
    example: the beginning of the text of the first of them
    """

    label: str
    value: str | None
    count: int
    example: str


class LabelValues:
    """The values of the label column in a sample, before and after the task is known."""

    def __init__(
        self,
        sample: Sample,
        column: Column,
        texts: Sequence[str],
        names: Sequence[str],
        layout: LayoutSettings,
        where: str,
    ) -> None:
        self.names, self.unlabelled, self.where = names, layout.no_label, where
        self.column, self.by_file = column.name, not layout.label_names and bool(names)
        self.counts: dict[str, int] = {}
        self.examples: dict[str, str] = {}
        self.missing = 0
        numbers = set()
        for row in sample.rows:
            value = row[column.name] if column.name in row else nested(row, column.name)
            try:
                text = spelled(value)
            except TypeError as error:
                raise DataError(
                    f"column {column.name!r} holds {str(value)[:60]}, expected one label in each "
                    "row: name another column with --label-column",
                    path=where,
                ) from error
            if text is None:
                self.missing += 1
                continue
            text = text.strip()
            if isinstance(value, int | float | Decimal):
                numbers.add(text)
            self.counts[text] = self.counts.get(text, 0) + 1
            if text not in self.examples:
                first = row.get(texts[0], nested(row, texts[0]))
                self.examples[text] = _shortened(first)
        self._join_equal_numbers(numbers)

    def _join_equal_numbers(self, numbers: set[str]) -> None:
        """0 and 0.0, both numbers in the file, are one label: the shortest spelling."""
        for group in same_label(self.counts):
            if numbers.issuperset(group):
                kept = min(group, key=len)
                for other in group:
                    if other != kept:
                        self.counts[kept] += self.counts.pop(other)

    def values(self) -> list[str]:
        """The values that are labels, most frequent first: those declared, else those found."""
        if self.names:
            return list(self.names)
        blank = set(self.unlabelled)
        for group in same_label([*self.unlabelled, *self.counts]):
            if blank.intersection(group):
                blank.update(group)
        found = [text for text in self.counts if text not in blank]
        certain = [text for text in found if not may_be_nothing(text)]
        # Of two values, one alone would be no task: 1 and -1 are labels.
        if len(certain) > 1 or len(found) > 2:
            found = certain
        ordered = sorted(found, key=lambda text: -self.counts[text])
        numbers = [number_of(text) for text in ordered]
        if all(number is not None for number in numbers):
            ordered = sorted(ordered, key=lambda text: number_of(text) or 0)
        return ordered

    def checked(self) -> tuple[str, ...]:
        """The labels of a task of the file's own. Raises where they are not two or more."""
        labels = self.values()
        groups = [] if self.names else alike(labels)
        if groups:
            shown = "; ".join(
                " and ".join(f"{text!r} ({self.counts.get(text, 0):,} rows)" for text in group)
                for group in groups[:3]
            )
            raise UsageError(
                f"{self.where}: labels that differ only in the way they are written: {shown}: "
                "correct the file, or list the labels to keep with --labels, and the others are "
                "read as them"
            )
        if len(labels) < 2:
            raise DataError(
                f"column {self.column!r} holds {len(labels)} distinct labels, expected two or more",
                path=self.where,
            )
        return tuple(labels)

    def spellings(self, labels: Sequence[str]) -> dict[str, str]:
        """Values that are hardly meant as anything but one of `labels`, though spelled otherwise:
        value -> label."""
        plain = Spellings(labels, {}, {})
        found = {}
        for value in self.counts:
            if not self.names and plain.of_text(value) is None:
                meant = [label for label in labels if alike((label, value))]
                if len(meant) == 1:
                    found[value] = meant[0]
        return found

    def reader(self, task: Task) -> LabelReader:
        """The reader of the file's labels."""
        return task.label_reader(self.names, self.unlabelled, only_positions=self.by_file)

    @property
    def only_numbers(self) -> bool:
        """Whether all values are numbers without declared names."""
        return not self.names and all(number_of(text) is not None for text in self.counts)

    def fit(self, task: Task) -> bool:
        """Whether the values are all of this task's labels, and nothing else."""
        values = [text for text in self.counts if not may_be_nothing(text)]
        try:
            reader = self.reader(task)
            names = {reader.spellings.of_text(name) for name in self.names}
            read = {reader.read(value) for value in values}
        except (UsageError, ValueError):
            return False
        return (names or read) == set(task.labels) and None not in names | read

    def read(self, task: Task) -> tuple[tuple[LabelFound, ...], int, tuple[LabelFound, ...]]:
        """Each label, the rows without one, and the values that are neither for certain."""
        reader = self.reader(task)
        found, blank, undecided = [], self.missing, []
        for value, count in self.counts.items():
            try:
                label = reader.read(value)
            except ValueError:
                undecided.append(LabelFound(value, value, count, self.examples[value]))
                continue
            if label is None:
                blank += count
            else:
                shown = None if label == value else value
                found.append(LabelFound(label, shown, count, self.examples[value]))
        found.sort(key=lambda one: -one.count)
        undecided.sort(key=lambda one: -one.count)
        return tuple(found), blank, tuple(undecided)


def _shortened(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _EXAMPLE else text[: _EXAMPLE - 1] + "…"
