"""Which arms are compared with which: the families of tests, decided by the recipe alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.config import design_rules
from tutelage.config.arm_settings import ArmSection


@dataclass(frozen=True, slots=True)
class Families:
    """Pairs (arm, baseline) that are compared. Holm's correction is applied to each family alone.

    primary:   each treatment arm with labels alone, and with the controls that its claim rests on:
               shuffled rationales; for unlabelled rows, self-training, dropped rationales or a
               random filter. More gold rows for the same money with labels alone
    secondary: each treatment arm with its other controls (label echo, filler, scrambled)
    """

    primary: tuple[tuple[str, str], ...]
    secondary: tuple[tuple[str, str], ...]


def families_of(arms: Sequence[ArmSection], plain: ArmSection) -> Families:
    """The families of a recipe's arms.

    plain: the arm of labels alone

    Arms that are only described (a spend of their own, points of the curve of gold rows) are in
    none.
    """
    primary: list[tuple[str, str]] = []
    secondary: list[tuple[str, str]] = []
    for arm in tested_arms(arms):
        primary.append((arm.name, plain.name))
        for control in design_rules.controls_of(arm, arms):
            family = primary if control.control in design_rules.IN_PRIMARY else secondary
            family.append((arm.name, control.name))
    return Families(tuple(primary), tuple(secondary))


def tested_arms(arms: Sequence[ArmSection]) -> list[ArmSection]:
    """Arms whose gain over labels alone is tested: treatment arms, and more gold rows for the same
    spend; not those that are only described."""
    treated = design_rules.treatment_arms(arms)
    return [
        arm for arm in arms if (arm in treated or arm.gold == "spend") and not arm.described_only
    ]
