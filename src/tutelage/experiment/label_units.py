"""Whether dev and test hold enough rows of each label for balanced accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tutelage.core.errors import DataError
from tutelage.core.types import Example
from tutelage.evaluation.balanced import label_of_one_unit


def check_label_units(rows: Mapping[str, Sequence[Example]], groups: Mapping[str, str]) -> None:
    """Raises DataError where a label has a single row, or group of rows, in dev or test: how its
    recall varies cannot be seen then, and it weighs as much as any other label.

    rows:   split -> its rows
    groups: uid -> unit of the statistics
    """
    for name, of_split in rows.items():
        label = single_label(of_split, groups)
        if label is not None:
            count = sum(row.label == label for row in of_split)
            what = "a single row" if count == 1 else f"{count} rows, which are of one group,"
            raise DataError(
                f"metric: balanced_accuracy needs two rows or more of each label in {name}, apart "
                f"from rows of one group: {name} has {what} with the label {label!r}: add rows of "
                f"it, leave it out of the data, or set metric: accuracy"
            )


def single_label(rows: Sequence[Example], groups: Mapping[str, str]) -> str | None:
    """A label of a single row, or of a single group of rows; None where there is none."""
    if not rows:
        return None
    label: str | None = label_of_one_unit(
        [row.label for row in rows], [groups[row.uid] for row in rows]
    )
    return label
