"""`benchmarks/evidence.py` on few experiments: the families are those that ship, and a broken bound
is reported."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import evidence as bench  # noqa: E402

SETTING = bench.Setting(3, 0.5, 0.7, tuple(bench.PREMISES_BY_ROWS.items()))


@pytest.fixture(scope="module")
def measured() -> bench.Measured:
    slope = bench.slope_of(SETTING)
    made = bench.run_chunk(SETTING, slope, 8, [1, 2], (bench.PRIMARY, bench.SECONDARY))
    assert made.shape == (8, len(bench.PRIMARY) + len(bench.SECONDARY), 8)
    return bench.Measured(*np.moveaxis(made, 2, 0))


def test_the_families_are_those_that_ship() -> None:
    strategies = ("information-extraction", "informed-reasoning")
    assert set(bench.PRIMARY) == {
        (arm, other) for arm in strategies for other in ("labels", f"{arm}-shuffled")
    }
    assert set(bench.SECONDARY) == {
        (arm, other) for arm in strategies for other in ("label-echo", f"{arm}-filler")
    }
    assert len(bench.ARMS) == 8


def test_one_primary_comparison_has_an_effect() -> None:
    differ = [pair for pair in bench.PRIMARY if len({name in bench.BETTER for name in pair}) == 2]
    assert differ == [bench.PRIMARY[bench.TRUE_DIFFERENCE]] == [("informed-reasoning", "labels")]


@pytest.mark.parametrize(
    ("alarming", "shares"),
    [("primary", ["100.0%", "0.0%", "100.0%"]), ("secondary", ["0.0%", "100.0%", "100.0%"])],
)
def test_the_bound_is_that_of_the_primary_family(
    measured: bench.Measured, alarming: str, shares: list[str]
) -> None:
    p = np.ones_like(measured.p_adjusted)
    p[:, 0 if alarming == "primary" else -1] = 0.01
    bounds = bench.Bounds()
    line = bench.null_line(SETTING, dataclasses.replace(measured, p_adjusted=p), bounds)
    # After the setting's three cells and the false alarms: primary, secondary, either.
    cells = [cell for cell in line.split() if cell.endswith("%") and "±" not in cell]
    assert cells[1:4] == shares
    ((_, _, kept, _),) = bounds.seen["primary family-wise at most 6%"]
    assert kept is (alarming == "secondary")


def test_a_broken_bound_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    bounds = bench.Bounds()
    bounds.check("coverage at least 93%", 0.95, 0.01, True, "here")
    assert bounds.report() and "FAIL" not in capsys.readouterr().out
    bounds.check("coverage at least 93%", 0.91, 0.01, False, "there")
    assert not bounds.report() and "there" in capsys.readouterr().out
