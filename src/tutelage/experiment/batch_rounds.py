"""Buys in few batches what a spend in dollars, tokens or requests buys.

What a row costs is known when it is answered, and until then only what it can cost at most, which
is several times as much. Row by row, or as long as the most of all rows fits, a spend would take
dozens of batches, each of which may take a day. So the rows of all seeds go together, and once some
answers are known, as many rows are asked about as their costs let expect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tutelage.config.spend_settings import SpendSection
from tutelage.core.types import Example
from tutelage.experiment.purchases import Asker, Bought, costs_of_rows, total_of

_ENOUGH = 20
"""Answers from which on costs are expected from them."""

_SAFETY = 3.0
"""Standard deviations by which costs may exceed what is expected before rows are paid for that the
spend does not buy: about one round in a thousand."""


@dataclass(frozen=True, slots=True)
class _Law:
    """What answers cost, as a share of the most that they could have cost.

    mean, sd: of the share
    known:    number of answers
    """

    mean: float
    sd: float
    known: int

    def at_most(self, mosts: float, squares: float) -> float:
        """What rows cost, but for a chance of about one in a thousand.

        mosts, squares: sums over the rows of the most that each can cost, and of its square

        Their costs vary around the expectation, which itself is known from `known` answers alone.
        """
        spread = self.sd * math.sqrt(squares + mosts**2 / self.known)
        return min(self.mean * mosts + _SAFETY * spread, mosts)


def ask_in_few_rounds(
    orders: Sequence[Sequence[Example]], spend: SpendSection, asker: Asker
) -> dict[str, Bought]:
    """Ask about the rows that `spend` buys of each order, all orders together; uid -> answer.

    orders: of each seed, the rows in its order

    What each buys is decided by `purchases.affordable`, row by row, as without batches. In a rare
    round some rows cost so much more than those before that a few answers are left over.
    """
    asker.check_unit(spend.unit)
    answered: dict[str, Bought] = {}
    shares: list[float] = []
    while True:
        law = _law_of(shares)
        wanted = {
            row.uid: row for order in orders for row in _next(order, spend, asker, answered, law)
        }
        if not wanted:
            return answered
        for bought in asker.ask(list(wanted.values())):
            answered[bought.example.uid] = bought
            most = asker.most(bought.example, spend.unit, frozenset())
            (cost,) = costs_of_rows([bought], spend.unit, set())
            if most:
                shares.append(cost / most)


def _law_of(shares: Sequence[float]) -> _Law | None:
    if len(shares) < _ENOUGH:
        return None
    mean = math.fsum(shares) / len(shares)
    square = math.fsum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
    return _Law(mean, math.sqrt(square), len(shares))


def _next(
    order: Sequence[Example],
    spend: SpendSection,
    asker: Asker,
    answered: dict[str, Bought],
    law: _Law | None,
) -> list[Example]:
    """The rows of an order to ask about now; none where the spend is used up, or all are answered.

    As long as the next row can be bought at its most, there is one.
    """
    left, known, place = total_of(spend), set[str](), 0
    while place < len(order) and (bought := answered.get(order[place].uid)) is not None:
        if asker.most(order[place], spend.unit, known) > left:
            return []
        left -= sum(costs_of_rows([bought], spend.unit, known))
        place += 1
    chunk: list[Example] = []
    fixed, mosts, squares = 0, 0, 0.0  # of rows after `place`: known costs, and the most of others
    for row in order[place:]:
        most = asker.most(row, spend.unit, known)
        before = mosts if law is None else law.at_most(mosts, squares)
        if fixed + before + most > left:
            break
        if (bought := answered.get(row.uid)) is not None:  # by another seed
            fixed += sum(costs_of_rows([bought], spend.unit, known))
            continue
        chunk.append(row)
        known.update(asker.keys(row))
        mosts, squares = mosts + most, squares + float(most) ** 2
    return chunk
