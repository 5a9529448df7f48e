"""What a made-up experiment's money bought, for tests of its sentences and pictures."""

from __future__ import annotations

from typing import Any

from tutelage.core.results.worth import (
    ArmWorth,
    Candidate,
    CheaperCandidate,
    CostOfUse,
    GoldWorth,
    PreviewedArm,
    Worth,
)

HOSTILE = "chat <b>$|*"
"""The name of an arm that would change a page if it were not escaped."""


def arm(
    name: str, intervention: Any, accuracy: float, usd: float | None = 0.0, **more: Any
) -> ArmWorth:
    """One that all learn 250 gold rows; `usd` None: no price is known."""
    values: dict[str, Any] = {
        "gold_rows": 250,
        "pool_rows": 0.0,
        "rationales": 0.0,
        "spend": None,
        "cost": CostOfUse(0.0, 0.0, 0.0, usd),
        "left_out": {},
        "pool_share": None,
        "gold_share": 0.25,
        "ci95": (accuracy - 0.02, accuracy + 0.02),
        "tested": False,
    }
    return ArmWorth(arm=name, intervention=intervention, accuracy=accuracy, **(values | more))


def bought(usd: float | None, rows: float = 1500.0) -> dict[str, Any]:
    """The fields of an arm that learns labels which a teacher wrote for rows of the pool."""
    return {
        "pool_rows": rows,
        "spend": 1.0,
        "cost": CostOfUse(rows, rows, 200 * rows, usd),
        "pool_share": 0.4,
        "tested": True,
    }


ARMS = (
    arm("labels", "labels alone", 0.70),
    arm(HOSTILE, "teacher labels", 0.78, **bought(0.42), left_out={"refused": 3.5, "no label": 0}),
    arm("half", "teacher labels", 0.75, **(bought(0.21, 750.0) | {"tested": False, "spend": 0.5})),
    arm("self", "self-training", 0.71, pool_rows=1500.0),
    arm("reasons", "rationales", 0.71, **(bought(0.9, 0.0) | {"rationales": 248.2})),
    arm("gold 500", "gold rows", 0.74, 25.0, gold_rows=500),
    arm("gold 1000", "gold rows", 0.77, 75.0, gold_rows=1000),
    arm("gold 2000", "gold rows", 0.80, 175.0, gold_rows=2000),
)


def candidate(name: str, may_be_best: bool, rival: str = HOSTILE) -> Candidate:
    accuracy = {each.arm: each.accuracy for each in ARMS}
    behind = accuracy[rival] - accuracy[name]
    return Candidate(name, accuracy[name], may_be_best, 0.2 if may_be_best else 1e-5, rival, behind)


def gold(low: float | None, high: float | None, **more: Any) -> GoldWorth:
    """Of the arm HOSTILE."""
    values: dict[str, Any] = {
        "worth": 903.0,
        "beyond": None,
        "break_even": 0.42 / 903,
        "break_even_low": 0.42 / high if (high or 0) > 0 else None,
        "break_even_high": 0.42 / low if (low or 0) > 0 else None,
    }
    return GoldWorth(arm=HOSTILE, low=low, high=high, **(values | more))


def sample_worth(**more: Any) -> Worth:
    """Where one arm is the best, with a closed interval; `more` replaces fields."""
    values: dict[str, Any] = {
        "unit": "dollars",
        "spend": 1.0,
        "gold_price": 0.1,
        "paid_usd": 1.63,
        "paid_requests": 5210,
        "gold_usd": 130.0,
        "orders": 5,
        "pool_rows": 3000,
        "train_rows": 4000,
        "steps": 150,
        "arms": ARMS,
        "candidates": (
            candidate("labels", False),
            candidate(HOSTILE, True, "reasons"),
            candidate("reasons", False),
        ),
        "margin": 0.03,
        "cheaper": (
            CheaperCandidate("labels", 0.0, False, 0.9, HOSTILE, 0.08, 0.1),
            CheaperCandidate(HOSTILE, 0.42, True, 1e-4, "reasons", -0.07, -0.05),
        ),
        "curve": ((250, "labels"), (500, "gold 500"), (1000, "gold 1000"), (2000, "gold 2000")),
        "gold": (gold(618.0, 1404.0),),
        "no_gold": None,
        "preview": (PreviewedArm("labels", (0.6, 0.62)), PreviewedArm(HOSTILE, (0.66, 0.68))),
    }
    return Worth(**(values | more))
