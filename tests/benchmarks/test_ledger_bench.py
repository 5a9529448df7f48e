"""`benchmarks/ledger.py` with few runs, and that it detects broken ledgers."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
import ledger as bench  # noqa: E402


@pytest.mark.parametrize(
    "arguments",
    [
        ("once", "--kills", "5", "--rows", "150"),
        ("faults", "--fault-rows", "200"),
        ("budget", "--budget-runs", "6"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_ledger_holds(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "ledger.py"), *arguments, "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0 and f"{arguments[0]}: holds" in done.stdout, (
        done.stdout + done.stderr
    )
    assert list(tmp_path.iterdir()) == []


def state(answers: dict[str, str], sent: tuple[str, ...] = ()) -> bench.LedgerState:
    return bench.LedgerState(answers, list(sent), 0, 0)


CASES = {
    "nothing is wrong": ([state({"a": "x"}, ("b",)), state({"a": "x", "b": "y"})], {"B": 2}, []),
    "an answer lost": ([state({"a": "x"}), state({"b": "y"})], {}, ["missing"]),
    "an answer changed": ([state({"a": "x"}), state({"a": "z"})], {}, ["missing"]),
    "an answer requested again": (
        [state({"a": "x"}), state({"a": "x"})],
        {"A": 2},
        ["again", "2 times"],
    ),
    "repeated without a kill": ([state({}), state({"b": "y"})], {"B": 2}, ["2 times"]),
    "too many in flight": ([state({}, ("a", "b", "c"))], {}, ["3 in flight"]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_broken_ledger_is_detected(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    states, requested_at_the_end, expected = CASES[name]
    check = bench.Check("once")
    answers = bench.AnswerCheck({"a": "A", "b": "B", "c": "C"}, 2, check)
    requested = Counter({"A": 1, "B": 1, "C": 1})
    for number, found in enumerate(states):
        if number == len(states) - 1:
            requested.update({prompt: times - 1 for prompt, times in requested_at_the_end.items()})
        answers.check(found, requested, "then")
    assert len(check.broken) == len(expected)
    assert all(word in line for word, line in zip(expected, check.broken, strict=True))
    assert check.report() is not bool(expected)
    assert ("BROKEN" in capsys.readouterr().out) is bool(expected)


def test_a_ledger_that_was_never_created_is_empty(tmp_path: Path) -> None:
    assert bench.read_ledger(tmp_path / "l") == state({})
    (tmp_path / "l").touch()
    assert bench.read_ledger(tmp_path / "l") == state({})
