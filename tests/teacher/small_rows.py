"""Rows of NLI whose texts are their numbers."""

from __future__ import annotations

from tutelage.core.task import NLI
from tutelage.core.types import Example


def rows(count: int, start: int = 0) -> list[Example]:
    """`count` rows from number `start` on, each with a premise of its own."""
    return [
        Example(
            f"r{i}", {"premise": f"Premise {i}.", "hypothesis": f"Claim {i}."}, NLI.labels[i % 3]
        )
        for i in range(start, start + count)
    ]
