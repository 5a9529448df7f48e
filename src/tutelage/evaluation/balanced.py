"""Balanced accuracy as a mean over rows, so that every test of a mean serves for it as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tutelage.evaluation.numeric import Floats, Groups, Ints, effective_groups, group_index


def balanced_tables(
    tables: Sequence[Floats], labels: Groups, index: Ints | None
) -> tuple[list[Floats], float]:
    """Tables whose means over rows are balanced accuracies, and the effective number of units.

    tables: … × rows × seeds of correctness; the same rows in each
    labels: the gold label of each row
    index:  each row's group as a number from 0; None where the rows are the units

    Balanced accuracy is the mean over labels of the share of a label's rows that are right, that
    is, a mean in which a row of a label with n_l of n rows weighs w = n / (L n_l), for L labels
    that have rows. With r_l a seed's recall of a label and m their mean, a row's value becomes

        m + w k (y - r_l)

    (Taylor linearisation of a mean of ratios; Cochran 1977, chapter 6). So a seed's mean over rows
    is its balanced accuracy, and the rows' variance is that within labels: which labels the test
    rows have is taken as given. k makes the variance unbiased for independent rows,

        k² = g_l / (g_l - 1) · (G* - 1) / G*

    where g_l is the effective number of groups among the label's rows (`numeric.effective_groups`;
    rows, where none share one): the first factor is for the recall that is subtracted, the second
    takes back what `variance_of_arm` multiplies by. G* - 1, the degrees of freedom of the variance
    over rows, is Satterthwaite's for a sum of one variance for each label,

        (Σ 1 / g_l)² / Σ 1 / (g_l² (g_l - 1))

    and not more than without labels. With one rare label it is little more than that label's own.

    Raises ValueError for another number of labels than rows, and for a label whose rows are of one
    group: how its recall varies cannot be seen.
    """
    rows = tables[0].shape[-2]
    if len(labels) != rows:
        raise ValueError(f"got {len(labels)} labels for {rows} rows, expected one for each row")
    label = group_index(labels)
    own = _units_by_label(label, index)
    if (alone := _single(labels, label, own)) is not None:
        raise ValueError(
            f"got a single row, or group of rows, with the label {alone!r}, expected two or more: "
            "balanced accuracy has no interval otherwise"
        )
    effective = _effective(own, effective_groups(index, rows))
    unbiased = np.sqrt(own / (own - 1) * (effective - 1) / effective)
    factor = (row_weights(labels) * unbiased[label])[:, None]
    balanced = []
    for table in tables:
        recalls = label_recalls(table, labels)
        mean = recalls.mean(axis=-2, keepdims=True)
        balanced.append(mean + factor * (table - recalls[..., label, :]))
    return balanced, effective


def label_recalls(table: Floats, labels: Groups) -> Floats:
    """The recalls of the labels that have rows: rows × seeds of correctness -> labels × seeds.

    labels: the gold label of each row
    """
    label = group_index(labels)
    counts = np.bincount(label)
    recalls: Floats = ((label == np.arange(len(counts))[:, None]) / counts[:, None]) @ table
    return recalls


def label_of_one_unit(labels: Groups, groups: Groups | None = None) -> Any:
    """A label whose rows are a single row, or of a single group; None where there is none.

    labels, groups: of each row. For such a label `balanced_tables` raises an error
    """
    label = group_index(labels)
    index = None if groups is None else group_index(groups)
    return _single(labels, label, _units_by_label(label, index))


def row_weights(labels: Groups) -> Floats:
    """What each row weighs in the mean: n / (L n_l), with a mean of 1."""
    label = group_index(labels)
    counts = np.bincount(label)
    weights: Floats = (len(label) / (len(counts) * counts))[label]
    return weights


def effective_units(labels: Groups, groups: Groups | None = None) -> float:
    """The effective number of units of a test of balanced accuracies, as in `balanced_tables`.

    Needs two units of each label.
    """
    label = group_index(labels)
    index = None if groups is None else group_index(groups)
    return _effective(_units_by_label(label, index), effective_groups(index, len(label)))


def _effective(own: Floats, most: float) -> float:
    """own: effective units of each label; most: of all rows."""
    freedom = float((1 / own).sum() ** 2 / (1 / (own**2 * (own - 1))).sum())
    return min(most, 1 + freedom)


def _units_by_label(label: Ints, index: Ints | None) -> Floats:
    """The effective number of units among each label's rows."""
    return np.array(
        [
            effective_groups(None if index is None else index[label == each], int(count))
            for each, count in enumerate(np.bincount(label))
        ]
    )


def _single(labels: Groups, label: Ints, own: Floats) -> Any:
    alone = own < 1 + 1e-9
    if not alone.any():
        return None
    return labels[int(np.flatnonzero(label == int(np.argmax(alone)))[0])]
