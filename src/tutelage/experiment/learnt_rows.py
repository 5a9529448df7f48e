"""What the students of each arm and seed learn, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tutelage.core.types import Example, Rationale
from tutelage.experiment.purchases import Bought, Charge, Purchase, distinct_charges
from tutelage.teacher.annotate import Annotation


@dataclass(frozen=True)
class Learnt:
    """What the student of one arm and seed learns.

    gold:       labelled rows
    pool:       unlabelled rows, each with the label that it was given
    rationales: of gold or of pool, as far as there are any
    purchase:   what it paid for; None for an arm that buys nothing
    left_out:   pool rows that were paid for and are not learnt, by reason
    """

    gold: tuple[Example, ...]
    pool: tuple[Example, ...] = ()
    rationales: tuple[Rationale, ...] = ()
    purchase: Purchase | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows it learns, each counted once."""
        return len(self.gold) + len(self.pool)


@dataclass(frozen=True)
class ArmRows:
    """What every arm learns, by arm and seed; of self-training arms, once their labels are known.

    learnt:      arm -> seed -> rows
    annotations: arm -> its teacher's answers over all seeds, for arms with a strategy
    left_over:   rows that were answered and that no arm has bought (see `batch_rounds`)
    """

    learnt: Mapping[str, Mapping[int, Learnt]]
    annotations: Mapping[str, Annotation]
    left_over: tuple[Bought, ...] = ()

    def charges(self) -> list[Charge]:
        """What all arms and seeds paid for, each request once."""
        learnt = [each for by_seed in self.learnt.values() for each in by_seed.values()]
        bought = [row for each in learnt if each.purchase for row in each.purchase.rows]
        return distinct_charges([*bought, *self.left_over])

    def gold_of(self, arm: str) -> dict[int, tuple[Example, ...]]:
        """Seed -> the gold rows of an arm."""
        return {seed: learnt.gold for seed, learnt in self.learnt[arm].items()}

    def labels(self) -> dict[str, str]:
        """uid -> label, of every row that an arm learns; of pool rows a label that it was given."""
        return {
            example.uid: example.label
            for by_seed in self.learnt.values()
            for learnt in by_seed.values()
            for example in (*learnt.pool, *learnt.gold)
        }
