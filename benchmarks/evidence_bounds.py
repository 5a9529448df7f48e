"""The bounds of `evidence.py`: what was measured for each, and whether it holds."""

from __future__ import annotations

from typing import Any

import numpy as np


def share_and_error(hits: Any) -> tuple[float, float]:
    """Share of hits, and its standard error over experiments, whose comparisons are dependent."""
    by_experiment = np.asarray(hits, dtype=float).reshape(len(hits), -1).mean(axis=1)
    return float(by_experiment.mean()), float(by_experiment.std(ddof=1) / len(hits) ** 0.5)


class Bounds:
    """Collects the measurements of each bound, and reports the worst."""

    def __init__(self) -> None:
        self.seen: dict[str, list[tuple[float, float, float, str]]] = {}

    def check(
        self, name: str, measured: tuple[float, float], bound: float, where: str, at_least: bool
    ) -> str:
        """A mark where the bound is broken; `room` is what is left of it beyond the error."""
        value, error = measured
        room = (value - bound if at_least else bound - value) - error
        self.seen.setdefault(name, []).append((room, value, error, where))
        return " " if room >= 0 else "*"

    def report(self) -> bool:
        print("\nbound                                        worst        where")
        for name, values in self.seen.items():
            _, value, error, where = min(values)
            broken = sum(each[0] < 0 for each in values)
            state = f"FAIL in {broken} of {len(values)}" if broken else "holds"
            print(f"{name:43s}  {value:.3f} ±{error:.3f}  {where:32s} {state}")
        return all(each[0] >= 0 for values in self.seen.values() for each in values)
