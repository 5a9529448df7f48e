"""The order in which each seed draws rows: gold ones, and those of the unlabelled pool.

Pure functions. All arms of a seed share its order, and an arm takes the first rows of it: so what a
cheaper arm learns is among what a dearer one learns, and two arms of a seed differ in what was
bought, not in which rows happened to be drawn. Each seed draws for itself, so that the sample of
rows is part of what the seeds vary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from tutelage.core.storage import digest
from tutelage.core.task import Task
from tutelage.core.types import Example

Kind = Literal["gold", "pool"]


def seed_orders(
    rows: Sequence[Example],
    seeds: Sequence[int],
    kind: Kind,
    task: Task,
    *,
    disjoint: bool = False,
    first: Sequence[Example] = (),
) -> Mapping[int, tuple[Example, ...]]:
    """Seed -> all rows, in the order in which it draws them.

    disjoint: each seed begins with a block of rows that no other seed begins with; the blocks are
              of nearly equal size, and rows that share a context (`Task.group`) are in one of them
    first:    rows that every seed draws before all others, in this order

    Rows are ordered by a digest of (kind, seed, uid): independent for each seed, and the same
    whatever other seeds there are, in independent draws.
    """
    rows = _without(rows, first)
    if not disjoint:
        return {seed: (*first, *_shuffled(rows, kind, seed)) for seed in seeds}
    blocks = _blocks(rows, len(seeds), kind, task)
    orders = {}
    for place, seed in enumerate(seeds):
        others = [row for other, block in enumerate(blocks) if other != place for row in block]
        own = _shuffled(blocks[place], kind, seed)
        orders[seed] = (*first, *own, *_shuffled(others, kind, seed))
    return orders


def block_sizes(
    rows: Sequence[Example], seeds: int, kind: Kind, task: Task, first: Sequence[Example] = ()
) -> tuple[int, ...]:
    """How many rows each seed draws before it shares others, in disjoint draws; `first` are in all
    of them, as in `seed_orders`."""
    blocks = _blocks(_without(rows, first), seeds, kind, task)
    return tuple(len(first) + len(block) for block in blocks)


def _without(rows: Sequence[Example], first: Sequence[Example]) -> Sequence[Example]:
    taken = {row.uid for row in first}
    return [row for row in rows if row.uid not in taken] if taken else rows


def _shuffled(rows: Sequence[Example], kind: Kind, seed: int) -> list[Example]:
    return sorted(rows, key=lambda row: digest([kind, seed, row.uid]))


def _blocks(rows: Sequence[Example], count: int, kind: Kind, task: Task) -> list[list[Example]]:
    """The rows in `count` blocks of nearly equal size; groups stay whole."""
    groups: dict[str, list[Example]] = {}
    for row in rows:
        groups.setdefault(task.group(row.uid, row.fields), []).append(row)
    blocks: list[list[Example]] = [[] for _ in range(count)]
    for key in sorted(groups, key=lambda key: digest([kind, "block", key])):
        min(blocks, key=len).extend(groups[key])
    return blocks
