"""Rows for a teacher that labels them, without the labels that they have, and the comparison after.

Rows may be too many for memory: of each only the number of its label is kept, in two bytes.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable, Iterator, Sequence

from tutelage.core.task import Task
from tutelage.core.types import Example, Rationale
from tutelage.core.words import text_key
from tutelage.data.unlabelled import without_label
from tutelage.evaluation.statistics import wilson_interval
from tutelage.teacher.summary import LabelAgreement

_NO_LABEL = -1


class BlindRows:
    """Rows without their labels, which are compared with the answers.

    open_rows: reads the rows from the beginning; each has a label of `task`, or ""
    shots:     labelled rows that the teacher is shown: their answers prove nothing, and rows of the
               same text are not compared
    """

    def __init__(
        self, open_rows: Callable[[], Iterable[Example]], task: Task, shots: Sequence[Example] = ()
    ) -> None:
        self._open, self._task = open_rows, task
        self._numbers = {label: number for number, label in enumerate(task.labels)}
        self._shown = {self._key(shot) for shot in shots}
        self._gold = array.array("h")
        self._rows = self._agreed = 0

    def open(self) -> Iterator[Example]:
        """The rows, from the beginning, without their labels."""
        for index, row in enumerate(self._open()):
            if index == len(self._gold):
                known = bool(row.label) and not (self._shown and self._key(row) in self._shown)
                self._gold.append(self._numbers[row.label] if known else _NO_LABEL)
            yield without_label(row)

    def compare(self, index: int, rationale: Rationale) -> None:
        """Count the answer about the row at `index`, which was read before; once for each row."""
        number = self._gold[index]
        if number != _NO_LABEL:
            self._rows += 1
            self._agreed += rationale.label == self._task.labels[number]

    def agreement(self) -> LabelAgreement | None:
        """How often answer and label are the same; None where no row has a label."""
        if not self._rows:
            return None
        ci95 = wilson_interval(self._agreed, self._rows)
        return LabelAgreement(self._rows, self._agreed, ci95)

    def _key(self, row: Example) -> tuple[str, ...]:
        return tuple(text_key(row.fields[name]) for name in self._task.fields)
