"""`benchmarks/identical_arms.py`: one of its twenty experiments, with two seeds for three."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import identical_arms as bench


def test_wrong_labels_are_found_and_the_luck_of_seeds_is_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "SEEDS", 2)
    assert bench.main(1) == 0
    line, total = capsys.readouterr().out.splitlines()
    found = re.fullmatch(
        r"  0 +([+-][\d.]+) points \(([+-][\d.]+) to ([+-][\d.]+)\), p ([\d.]+); "
        r"wrong labels ([+-][\d.]+), p ([\d.]+)",
        line,
    )
    assert found is not None
    difference, low, high, p, wrong, wrong_p = map(float, found.groups())
    assert low < difference < high and (p < 0.05) == (not low <= 0 <= high)
    assert wrong < 0 and wrong_p < 0.05
    assert "wrong labels found in 1 of 1" in total
