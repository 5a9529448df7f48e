"""What the answer of an experiment whose arms buy holds for, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator

from tutelage.core.results.worth import ArmWorth, Worth
from tutelage.core.wording import percent, percent_interval, several

_MOSTLY_DRAWN = 0.5
"""Where the draws hold more of a pool than this, they hardly show how another sample would do."""


def _agreement(worth: Worth, metric: str) -> Iterator[str]:
    was = "was right on" if metric == "accuracy" else f"had a {metric} of"
    on = "of dev" if metric == "accuracy" else "on dev"
    for found in worth.agreement:
        compared = (
            ""
            if found.student_accuracy is None
            else f"; a student of labels alone {was} {percent(found.student_accuracy)} {on}"
        )
        yield (
            f"Asked about {found.rows:,} labelled training rows whose labels it did not see, "
            f"{found.model} ({found.strategy}) {was} {percent(found.accuracy)} "
            f"({percent_interval(found.ci95)}){compared}."
        )


def scope_sentences(worth: Worth, metric: str = "accuracy") -> Iterator[str]:
    """What the answer holds for, a sentence or two each; metric: in words."""
    yield from _agreement(worth, metric)
    yield (
        f"The claim is about draws from these {several(worth.train_rows, 'labelled row')}"
        + (f" and {several(worth.pool_rows, 'unlabelled row')}" if worth.pool_rows else "")
        + ", with the answers that this teacher gave. "
        + (
            f"Each of the {worth.orders} seeds drew its own rows."
            if worth.orders > 1
            else "There was one draw of rows and one training of each arm: others may answer "
            "otherwise."
        )
    )
    if shown := max((found.shots for found in worth.agreement), default=0):
        yield (
            f"Every draw of labelled rows holds the {several(shown, 'row')} that the teacher's "
            "prompt shows."
        )
    for what, shares in (
        ("labelled rows", [arm.gold_share for arm in worth.arms]),
        ("unlabelled rows", [arm.pool_share or 0.0 for arm in worth.arms]),
    ):
        most = max(shares, default=0.0)
        if worth.orders > 1 and most > _MOSTLY_DRAWN:
            yield (
                f"The seeds' draws together hold up to {percent(most, 0)} of the {what}: they are "
                "so alike that another sample may answer otherwise."
            )
    if any(is_described(arm, worth) for arm in worth.arms):
        yield "Arms with a spend of their own and points of the curve are described, not tested."


def is_described(arm: ArmWorth, worth: Worth) -> bool:
    """Whether an arm is described and not tested."""
    own_spend = arm.spend is not None and arm.spend != worth.spend
    return not arm.tested and (own_spend or arm.intervention == "gold rows")
