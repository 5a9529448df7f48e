"""Numbers as the report and the terminal show them."""

from __future__ import annotations

import pytest

from tutelage.core import wording


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.031, "+3.1"), (-0.02, "−2.0"), (0.0, "0.0"), (-0.0001, "0.0"), (1, "+100.0"), (None, "–")],
)
def test_points(value: float | None, text: str) -> None:
    assert wording.points(value) == text


def test_intervals() -> None:
    assert wording.points_interval([-0.012, 0.05]) == "−1.2 to 5.0"
    assert wording.points_interval([-0.05, -0.012], turned=True) == "1.2 to 5.0"
    assert wording.percent_interval([0.58, 0.642]) == "58.0 to 64.2%"


@pytest.mark.parametrize(
    ("p", "text"),
    [(0, "< 0.001"), (0.00099, "< 0.001"), (0.001, "0.001"), (0.0462, "0.046"), (0.43, "0.43")],
)
def test_p_values(p: float, text: str) -> None:
    assert wording.p_value(p) == text


@pytest.mark.parametrize("p, below", [(0.04999, True), (0.0501, False), (0.05, False)])
def test_a_p_value_is_never_rounded_across_5_percent(p: float, below: bool) -> None:
    assert (float(wording.p_value(p).lstrip("< ")) < 0.05) == below


def test_unknown_is_never_zero() -> None:
    assert wording.percent(None) == wording.decimal(None) == wording.count(None) == "–"
    assert wording.dollars(None) == "unknown"
    assert [wording.dollars(c) for c in (0, 0.0042, 12.3)] == ["$0.00", "$0.0042", "$12.30"]


def test_counts() -> None:
    assert (wording.count(4912), wording.several(1, "seed")) == ("4,912", "1 seed")
    assert wording.several(1200, "row") == "1,200 rows"


@pytest.mark.parametrize(
    ("one", "many"),
    [("premise", "premises"), ("story", "stories"), ("day", "days"), ("class", "classes"),
     ("box", "boxes"), ("comments", "comments")],
)  # fmt: skip
def test_plurals(one: str, many: str) -> None:
    assert wording.plural(one) == many


@pytest.mark.parametrize(
    ("margin", "text"), [(0.01, "1.0 points"), (0.0025, "0.25 points"), (0.007, "0.7 points")]
)
def test_the_margin_has_the_digits_that_it_was_given(margin: float, text: str) -> None:
    assert wording.margin_in_points(margin) == text


def test_lists() -> None:
    lists = [wording.joined(list(letters)) for letters in ("", "a", "ab", "abc")]
    assert lists == ["", "a", "a and b", "a, b and c"]


def test_durations() -> None:
    shown = [wording.duration(s) for s in (None, 0.4, 59.4, 59.6, 433.4, 4690.1)]
    assert shown == ["–", "0 s", "59 s", "1 min 0 s", "7 min 13 s", "1 h 18 min"]


def test_of_many_labels_ten_are_named() -> None:
    assert wording.first_labels(("good", "bad")) == "good, bad"
    many = tuple(f"intent-{number}" for number in range(77))
    assert wording.first_labels(many[:10]) == ", ".join(many[:10])
    assert wording.first_labels(many) == f"{', '.join(many[:10])}, … 77 labels"
