"""`benchmarks/ledger.py` in small, and that it would notice if something were wrong."""

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
        ("once", "--kills", "8", "--rows", "250"),
        ("faults", "--fault-rows", "300"),
        ("budget", "--budget-runs", "12"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_books_hold(arguments: tuple[str, ...], tmp_path: Path) -> None:
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


def books(answers: dict[str, str], sent: tuple[str, ...] = ()) -> bench.Books:
    return bench.Books(answers, list(sent), 0, 0)


LOOKS = {
    "all is well": ([books({"a": "x"}, ("b",)), books({"a": "x", "b": "y"})], {"B": 2}, []),
    "an answer lost": ([books({"a": "x"}), books({"b": "y"})], {}, ["gone"]),
    "an answer changed": ([books({"a": "x"}), books({"a": "z"})], {}, ["gone"]),
    "a kept one asked": ([books({"a": "x"}), books({"a": "x"})], {"A": 2}, ["again", "2 times"]),
    "asked for no reason": ([books({}), books({"b": "y"})], {"B": 2}, ["2 times"]),
    "too many at once": ([books({}, ("a", "b", "c"))], {}, ["3 in flight"]),
}


@pytest.mark.parametrize("name", LOOKS)
def test_what_is_broken_is_noticed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    looks, asked_in_the_end, expected = LOOKS[name]
    check = bench.Check("once")
    witness = bench.Witness({"a": "A", "b": "B", "c": "C"}, 2, check)
    asked = Counter({"A": 1, "B": 1, "C": 1})
    for number, look in enumerate(looks):
        if number == len(looks) - 1:
            asked.update({prompt: times - 1 for prompt, times in asked_in_the_end.items()})
        witness.look(look, asked, "then")
    assert len(check.broken) == len(expected)
    assert all(word in line for word, line in zip(expected, check.broken, strict=True))
    assert check.action() is not bool(expected)
    assert ("BROKEN" in capsys.readouterr().out) is bool(expected)


def test_a_ledger_that_was_never_made_is_an_empty_one(tmp_path: Path) -> None:
    assert bench.read_books(tmp_path / "l") == books({})
    (tmp_path / "l").touch()
    assert bench.read_books(tmp_path / "l") == books({})
