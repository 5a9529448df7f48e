"""Each seed draws rows in an order of its own, which all arms share."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.task import NLI, SENTIMENT
from tutelage.core.types import Example
from tutelage.experiment.row_orders import block_sizes, seed_orders


def rows(count: int, of_context: int = 1) -> list[Example]:
    return [
        Example(f"r{n}", {"premise": f"p{n // of_context}", "hypothesis": f"h{n}"}, "neutral")
        for n in range(count)
    ]


@given(st.integers(1, 60), st.sets(st.integers(0, 1000), min_size=1, max_size=6), st.booleans())
def test_every_order_holds_every_row_once(count: int, seeds: set[int], disjoint: bool) -> None:
    given = rows(count)
    found = seed_orders(given, sorted(seeds), "gold", NLI, disjoint=disjoint)
    assert set(found) == seeds
    for order in found.values():
        assert sorted(row.uid for row in order) == sorted(row.uid for row in given)


def test_independent_orders_do_not_depend_on_other_seeds_and_differ_by_seed_and_kind() -> None:
    given = rows(50)
    alone = seed_orders(given, [3], "gold", NLI)
    more = seed_orders(list(reversed(given)), [1, 2, 3], "gold", NLI)
    assert alone[3] == more[3]
    assert len({tuple(row.uid for row in order) for order in more.values()}) == 3
    assert seed_orders(given, [3], "pool", NLI)[3] != alone[3]


@given(st.integers(20, 80), st.integers(2, 5), st.integers(1, 4))
def test_disjoint_draws_share_no_row_within_a_block(count: int, seeds: int, group: int) -> None:
    given = rows(count, group)
    found = seed_orders(given, range(seeds), "pool", NLI, disjoint=True)
    sizes = block_sizes(given, seeds, "pool", NLI)
    assert sum(sizes) == count and max(sizes) - min(sizes) <= group
    firsts = [
        {row.fields["premise"] for row in found[seed][:size]} for seed, size in enumerate(sizes)
    ]
    for one in range(seeds):
        for other in range(one):
            assert not firsts[one] & firsts[other]  # contexts stay whole, so rows differ as well


def test_first_rows_are_a_sample_and_not_the_head_of_the_file() -> None:
    texts = [Example(f"t{n}", {"text": str(n)}, "positive") for n in range(200)]
    found = seed_orders(texts, range(20), "gold", SENTIMENT)
    places = [int(row.fields["text"]) for order in found.values() for row in order[:10]]
    assert 85 < sum(places) / len(places) < 115
