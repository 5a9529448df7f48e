"""A spend in dollars through the batch API: few batches, and what would have been bought anyway."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "teacher"))
from openai_server.answers import prompt_of
from openai_server.faults import Reply, error
from openai_server.server import Server

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.config.spend_settings import SpendSection
from tutelage.core.errors import BatchesOpenError
from tutelage.core.progress import Silent
from tutelage.core.types import Example, Rationale
from tutelage.experiment import batch_rounds
from tutelage.experiment.arm_rows import draw_rows
from tutelage.experiment.batch_rounds import ask_in_few_rounds
from tutelage.experiment.learnt_rows import ArmRows
from tutelage.experiment.prepare import load_splits
from tutelage.experiment.purchases import Asker, Bought, Charge, affordable, buy, distinct_charges
from tutelage.teacher.batch import batches
from tutelage.teacher.batch.jsonl import BatchLimits

Recipes = Callable[..., dict[str, Any]]
SEEDS = [0, 1, 2]


def answer(body: dict[str, Any], before: int) -> Reply:
    """Far fewer tokens than the most, and not always as many."""
    return Reply("Because.", completion_tokens=10 + random.Random(prompt_of(body)).randint(0, 20))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    brief = BatchLimits(poll_s=0.005, poll_cap_s=0.01)
    monkeypatch.setattr(batches, "limits_of", lambda settings: brief)
    with Server(answer, input_price=400_000, output_price=1_600_000, batch_polls=0) as running:
        yield running


def recipe_of(small_recipe: Recipes, server: Server, spend: Any, mode: str = "batch") -> Recipe:
    values = small_recipe(
        protocol="quick",
        arms=[
            {"name": "labels"},
            {"name": "reasons", "strategy": "informed_reasoning"},
            {"name": "half", "strategy": "informed_reasoning", "spend": spend / 2},
        ],
        spend=spend,
        seeds=SEEDS,
        teacher={
            "model": "openai:m",
            "base_url": server.base_url,
            "price": {"input": 0.4, "output": 1.6},
            "max_tokens": 60,
            "mode": mode,
        },
    )
    for key in ("controls", "baselines", "departures"):
        values.pop(key)
    values["data"] |= {"train": "synthetic:nli?n=240&seed=1", "gold": 200}
    return parse_recipe(values)


def draw(recipe: Recipe, ledger: Path) -> ArmRows:
    return draw_rows(recipe, load_splits(recipe), ledger, Silent())


def bought(rows: ArmRows, arm: str) -> list[list[str]]:
    found = []
    for seed in SEEDS:
        purchase = rows.learnt[arm][seed].purchase
        assert purchase is not None
        found.append([row.example.uid for row in purchase.rows])
    return found


def test_a_spend_in_dollars_takes_few_batches(
    small_recipe: Recipes, server: Server, tmp_path: Path
) -> None:
    recipe = recipe_of(small_recipe, server, 0.004)
    rows = draw(recipe, tmp_path / "l.sqlite")
    sent = len(server._batches.batches)
    own = bought(rows, "reasons")
    assert all(90 < len(uids) < 200 for uids in own) and len({tuple(u) for u in own}) == 3
    # As long as the most of all rows fits, a tenth of what is left is spent in each round.
    assert 2 <= sent <= 8
    for seed in SEEDS:
        purchase = rows.learnt["reasons"][seed].purchase
        assert purchase is not None and purchase.cost_usd is not None
        assert 0.88 * 0.004 < purchase.cost_usd <= 0.004
    # Each answer was paid for once, and all that was paid is counted.
    assert max(server.counts.asked.values()) == 1 and server.counts.requests == 0
    assert len(rows.charges()) == server.counts.batch_requests
    paid = sum(charge.pico or 0 for charge in rows.charges())
    assert paid == server.counts.billed_pico
    assert len(distinct_charges(rows.left_over)) <= 0.02 * len(rows.charges())
    # The smaller spend bought the first rows of these.
    for whole, half in zip(own, bought(rows, "half"), strict=True):
        assert whole[: len(half)] == half and 0.4 < len(half) / len(whole) < 0.6
    # Again, nobody is asked; and live, row by row, the same answers buy the same rows.
    again = draw(recipe, tmp_path / "l.sqlite")
    assert (again.learnt, again.left_over) == (rows.learnt, rows.left_over)
    live = draw(recipe_of(small_recipe, server, 0.004, "live"), tmp_path / "l.sqlite")
    assert [bought(live, arm) for arm in ("reasons", "half")] == [own, bought(rows, "half")]
    assert len(server._batches.batches) == sent and server.counts.requests == 0


def test_without_waiting_the_batches_of_all_arms_are_sent(
    small_recipe: Recipes, server: Server, tmp_path: Path
) -> None:
    recipe = recipe_of(small_recipe, server, 0.004)
    facts = recipe.arms[1].model_copy(
        update={"name": "facts", "strategy": "information_extraction"}
    )
    recipe = recipe.model_copy(update={"arms": [*recipe.arms, facts]})
    server.change(batch_ends=("stuck",))
    with pytest.raises(BatchesOpenError, match="open batches"):
        draw_rows(recipe, load_splits(recipe), tmp_path / "l.sqlite", Silent(), wait=False)
    assert len(server._batches.batches) == 2


class Priced:
    """An asker whose rows cost what a list says, at most 100 each."""

    def __init__(self, costs: dict[str, int], failing: frozenset[str] = frozenset()) -> None:
        self.costs, self.failing = costs, failing
        self.calls: list[int] = []

    def check_unit(self, unit: str) -> None:
        assert unit == "tokens"

    def keys(self, example: Example) -> tuple[str, ...]:
        return (example.uid,)

    def most(self, example: Example, unit: str, known: frozenset[str] | set[str]) -> int:
        return 0 if example.uid in known else 100

    def ask(self, rows: Sequence[Example]) -> list[Bought]:
        self.calls.append(len(rows))
        return [
            Bought(
                row,
                (Rationale(row.uid, "label", "", "ok"),),
                (Charge(row.uid, None, 0, self.costs[row.uid]),),
            )
            for row in rows
        ]


def examples(count: int) -> list[Example]:
    return [Example(f"r{i}", {"text": "t"}, "a") for i in range(count)]


def ask(orders: list[list[Example]], amount: int, priced: Priced) -> dict[str, Bought]:
    asker: Asker = priced  # type: ignore[assignment]
    spend = SpendSection(tokens=amount)
    answered = ask_in_few_rounds(orders, spend, asker)
    for order in orders:
        there = [answered[row.uid] for row in order if row.uid in answered]
        kept = affordable(there, spend, asker)
        spent = sum(row.charges[0].tokens for row in kept)
        assert spent <= amount
        # The purchase ends because the next row might not fit, or because there is no other.
        assert amount - spent < 100 or len(kept) == len(order)
    return answered


@pytest.mark.parametrize("share", [1, 20, 60, 100])
def test_rounds_are_few_whatever_share_of_the_most_rows_cost(share: int) -> None:
    rng = random.Random(share)
    costs = {f"r{i}": max(1, round(rng.gauss(share, share / 5))) for i in range(1500)}
    costs = {uid: min(cost, 100) for uid, cost in costs.items()}
    orders = []
    for _ in range(5):
        order = examples(1500)
        rng.shuffle(order)
        orders.append(order)
    priced = Priced(costs)
    answered = ask(orders, 6000, priced)
    assert len(priced.calls) <= 9
    alone = Priced(costs)
    plain: Asker = alone  # type: ignore[assignment]
    for order in orders:
        buy(order, SpendSection(tokens=6000), plain)
    assert len(alone.calls) > 4 * len(priced.calls) or share > 20
    used = set()
    for order in orders:
        there = [answered[row.uid] for row in order if row.uid in answered]
        asker: Asker = priced  # type: ignore[assignment]
        used |= {b.example.uid for b in affordable(there, SpendSection(tokens=6000), asker)}
    assert len(set(answered) - used) <= 0.01 * len(answered) + 1


def test_costs_that_change_midway_are_within_the_spend_and_left_over_rows_are_few() -> None:
    """The first rows cost a tenth of what later ones do: no spend is exceeded."""
    costs = {f"r{i}": 5 if i < 200 else 50 for i in range(2000)}
    priced = Priced(costs)
    answered = ask([examples(2000)], 20_000, priced)
    kept = 200 + (20_000 - 1000 - 50) // 50
    assert len(answered) >= kept - 2 and len(priced.calls) <= 30


def test_few_rows_are_all_asked_at_once() -> None:
    priced = Priced({f"r{i}": 7 for i in range(10)})
    assert len(ask([examples(10), examples(5)], 5000, priced)) == 10
    assert priced.calls == [10]


def test_a_law_is_never_above_the_most() -> None:
    law = batch_rounds._Law(0.9, 0.5, 20)
    assert law.at_most(1000, 1e5) == 1000
    steady = batch_rounds._Law(0.1, 0.0, 20)
    assert steady.at_most(1000, 1e5) == pytest.approx(100)


def test_failures_count_rows_over_all_calls(
    small_recipe: Recipes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live and row by row: those that failed in an earlier call are among them."""

    def behave(body: dict[str, Any], before: int) -> Reply:
        if random.Random(prompt_of(body)).random() < 0.2:
            return error(400, "too long", "context_length_exceeded")
        return answer(body, before)

    with Server(behave, input_price=400_000, output_price=1_600_000) as server:
        recipe = recipe_of(small_recipe, server, 0.002, "live")
        rows = draw(recipe, tmp_path / "l.sqlite")
    summary = rows.annotations["reasons"].summary
    found = {
        row.example.uid: row.answers[0].status
        for seed in SEEDS
        if (purchase := rows.learnt["reasons"][seed].purchase) is not None
        for row in purchase.rows
    }
    failed = sum(status == "failed" for status in found.values())
    assert failed > 5 and summary.counts["failed"] == failed
    assert sum(summary.failures.values()) == failed and summary.unparsable == {}
    assert set(summary.examples) == set(summary.failures)
    assert sum(summary.counts.values()) == len(found)
