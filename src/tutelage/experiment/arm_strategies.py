"""How an arm's teacher is asked: its strategy, with the training rows that prompts show."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

from tutelage.config.arm_settings import ArmSection
from tutelage.config.recipe import Recipe
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.strategies.lookup import Strategy, get_strategy


def strategy_of(recipe: Recipe, arm: ArmSection, train: Sequence[Example]) -> Strategy:
    """The strategy that an arm asks with.

    train: all training rows, from which the rows in the prompt are drawn
    """
    assert arm.strategy is not None
    task = recipe.resolved_task()
    return get_strategy(
        arm.strategy, template=arm.template, task=task, shots=shots_of(recipe, train)
    )


def shots_of(recipe: Recipe, train: Sequence[Example]) -> tuple[Example, ...]:
    """The training rows that every prompt of a strategy that labels rows shows; by default none."""
    per_label = recipe.labelling.shots_per_label
    return draw_shots(train, (), per_label, recipe.resolved_task()) if per_label else ()


def draw_rows(dev: Sequence[Example], count: int, task: Task) -> tuple[Example, ...]:
    """`count` rows, or all: those whose text has the smallest digests, in any order of `dev`."""
    return tuple(sorted(dev, key=lambda row: _digest(row, task))[:count])


def draw_shots(
    train: Sequence[Example], rows: Sequence[Example], per_label: int, task: Task
) -> tuple[Example, ...]:
    """Worked examples: `per_label` of each label, fewer where train has fewer.

    Chosen and ordered by the digest of their text, no two of one context, and none of a context
    that one of `rows` has: it would show more than how to answer.
    """
    taken = {task.group(row.uid, row.fields) for row in rows}
    missing = Counter(dict.fromkeys(task.labels, per_label))
    shots = []
    for row in sorted(train, key=lambda row: _digest(row, task)):
        group = task.group(row.uid, row.fields)
        if missing[row.label] > 0 and group not in taken:
            missing[row.label] -= 1
            taken.add(group)
            shots.append(row)
    return tuple(shots)


def _digest(row: Example, task: Task) -> str:
    text = "\0".join(row.fields[name] for name in task.fields)
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() + row.uid
