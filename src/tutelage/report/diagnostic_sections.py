"""What the sections on slices, confidence and chance show, made of `looks` and `selection`.

Labels alone and the rationale arms are shown at once; controls, and students that do not see all
of the input, are in tables that one folds out: a run may have a dozen arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_SLICES = 12
"""Of one kind on the page, those with most rows; results.json has all."""

_TITLES = {
    "by_label": "By gold label",
    "by_length": "By length of the {length_of}",
    "by_tag": "By tag",
}
"""Key in `looks` -> heading, in the order of the page."""


@dataclass(frozen=True, slots=True)
class SliceKind:
    """One way to slice the test rows.

    names, rows: of the slices that are shown
    left_out:    how many there are besides
    arms:        arm -> slice -> what `looks` holds of it
    """

    key: str
    title: str
    names: Sequence[str]
    rows: Mapping[str, int]
    left_out: int
    arms: Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Looks:
    """main: arms that are shown at once; folded: the others; baseline: what is compared with. `of`
    is the results' `looks`."""

    baseline: str
    main: Sequence[str]
    folded: Sequence[str]
    kinds: Sequence[SliceKind]
    of: Mapping[str, Any]

    def ece_methods(self, arms: Sequence[str]) -> list[str]:
        """How the intervals of these arms' ECE were made; none in results of before they were."""
        told = [self.of[arm]["calibration"].get("ece_ci_method") for arm in arms]
        return list(dict.fromkeys(method for method in told if method))


def looks_of(results: Mapping[str, Any]) -> Looks | None:
    """None for results of a run that took no such looks."""
    of = results.get("looks") or {}
    arms = [arm for arm in results["arms"] if arm["name"] in of]
    shown = [arm for arm in arms if arm["control"] is None and not arm.get("omits")]
    if not shown:
        return None
    main = [arm["name"] for arm in shown]
    kinds = [_kind(key, title, of) for key, title in _TITLES.items()]
    return Looks(
        baseline=next((arm["name"] for arm in shown if arm["strategy"] is None), main[0]),
        main=main,
        folded=[arm["name"] for arm in arms if arm["name"] not in main],
        kinds=[kind for kind in kinds if kind.names],
        of=of,
    )


def _kind(key: str, title: str, of: Mapping[str, Any]) -> SliceKind:
    first = next(iter(of.values()))
    names = [entry["name"] for entry in first[key]]
    return SliceKind(
        key=key,
        title=title.format(length_of=first["length_of"]),
        names=names[:MOST_SLICES],
        rows={entry["name"]: entry["n"] for entry in first[key]},
        left_out=max(0, len(names) - MOST_SLICES),
        arms={arm: {entry["name"]: entry for entry in its[key]} for arm, its in of.items()},
    )


@dataclass(frozen=True, slots=True)
class Chance:
    """What the best of k models adds by chance.

    known:  whether any arm has the seeds that it takes to know
    baseline: the arm that `best_of`, `nine` and `three` speak of; these are None where that is not
              known
    """

    baseline: str

    by_arm: Mapping[str, Mapping[str, Any]]
    best_of: Sequence[Mapping[str, Any]]
    known: bool
    nine: float | None
    three: float | None


def chance_of(results: Mapping[str, Any]) -> Chance | None:
    """None for results that do not say it, or not yet."""
    selection = results.get("selection")
    if not selection:
        return None
    by_count = {entry["models"]: entry["gain_by_chance"] for entry in selection["best_of"]}
    return Chance(
        baseline=selection["baseline"],
        by_arm=selection["by_arm"],
        best_of=selection["best_of"],
        known=any(arm["gain_by_chance"] is not None for arm in selection["by_arm"].values()),
        nine=by_count.get(9),
        three=by_count.get(3),
    )
