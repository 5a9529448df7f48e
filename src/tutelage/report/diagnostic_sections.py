"""Arranges the sections on slices, calibration and selection by chance.

Labels alone and the treatment arms are shown at once; control arms, and students that do not see
all of the input, are in tables to unfold: a run may have a dozen arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tutelage.core.results import ArmDiagnostics, ArmSelection, BestOf, Results, SliceResult

MOST_SLICES = 12
"""Slices of one kind on the page, those with most rows; results.json has all."""

_TITLES = {
    "by_label": "By gold label",
    "by_length": "By length of the {length_of}",
    "by_tag": "By tag",
}
"""Field of `ArmDiagnostics` -> heading, in the order of the page."""


@dataclass(frozen=True, slots=True)
class SliceKind:
    """One way to slice the test rows.

    key:      the field of `ArmDiagnostics`
    title:    heading
    names:    the slices that are shown
    rows:     slice -> its number of rows
    left_out: how many slices are not shown
    arms:     arm -> slice -> its accuracy
    """

    key: str
    title: str
    names: Sequence[str]
    rows: Mapping[str, int]
    left_out: int
    arms: Mapping[str, Mapping[str, SliceResult]]


@dataclass(frozen=True, slots=True)
class DiagnosticSections:
    """The diagnostics of all arms.

    baseline: the arm that treatment arms are compared with
    main:     the arms that are shown at once
    folded:   the others
    kinds:    the ways to slice the rows
    of:       arm -> its diagnostics
    """

    baseline: str
    main: Sequence[str]
    folded: Sequence[str]
    kinds: Sequence[SliceKind]
    of: Mapping[str, ArmDiagnostics]

    def ece_methods(self, arms: Sequence[str]) -> list[str]:
        """How the intervals of these arms' ECE were computed."""
        return list(dict.fromkeys(self.of[arm].calibration.ece_ci_method for arm in arms))


def diagnostic_sections(results: Results) -> DiagnosticSections | None:
    """The diagnostics of a run; None where it has none."""
    of = results.diagnostics
    arms = [arm for arm in results.arms if arm.name in of]
    shown = [arm for arm in arms if arm.is_plain or arm.is_treatment]
    if not shown:
        return None
    main = [arm.name for arm in shown]
    kinds = [_kind(key, title, of) for key, title in _TITLES.items()]
    return DiagnosticSections(
        baseline=next((arm.name for arm in shown if arm.strategy is None), main[0]),
        main=main,
        folded=[arm.name for arm in arms if arm.name not in main],
        kinds=[kind for kind in kinds if kind.names],
        of=of,
    )


def _kind(key: str, title: str, of: Mapping[str, ArmDiagnostics]) -> SliceKind:
    first = next(iter(of.values()))
    slices = {arm: _slices(its, key) for arm, its in of.items()}
    entries = _slices(first, key)
    names = [entry.name for entry in entries]
    return SliceKind(
        key=key,
        title=title.format(length_of=first.length_of),
        names=names[:MOST_SLICES],
        rows={entry.name: entry.n for entry in entries},
        left_out=max(0, len(names) - MOST_SLICES),
        arms={arm: {entry.name: entry for entry in its} for arm, its in slices.items()},
    )


def _slices(diagnostics: ArmDiagnostics, key: str) -> Sequence[SliceResult]:
    slices: Sequence[SliceResult] = getattr(diagnostics, key)
    return slices


@dataclass(frozen=True, slots=True)
class ChanceSection:
    """What the best of k models gains by chance.

    baseline: the arm of labels alone
    by_arm:   arm -> the best of its models
    best_of:  gains by chance of other numbers of models, for models like those of `baseline`
    known:    whether any arm has the two seeds that it takes to know
    nine, three: the gain by chance of the best of nine, and of three; None where it is not known
    """

    baseline: str
    by_arm: Mapping[str, ArmSelection]
    best_of: Sequence[BestOf]
    known: bool
    nine: float | None
    three: float | None


def chance_section(results: Results) -> ChanceSection | None:
    """What the best of k models gains by chance; None for a run that has not got there."""
    selection = results.selection
    if selection is None:
        return None
    by_count = {entry.models: entry.gain_by_chance for entry in selection.best_of}
    return ChanceSection(
        baseline=selection.baseline,
        by_arm=selection.by_arm,
        best_of=selection.best_of,
        known=any(arm.gain_by_chance is not None for arm in selection.by_arm.values()),
        nine=by_count.get(9),
        three=by_count.get(3),
    )
