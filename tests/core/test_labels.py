"""What a value of a data file means as a label."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.errors import UsageError
from tutelage.core.labels import folded, number_of, same_label
from tutelage.core.task import NLI, YES_NO, Task


def task(*labels: str, **more: object) -> Task:
    return Task("t", ("text",), labels, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("labels", "value", "label"),
    [
        (("1.0", "0.0"), 1.0, "1.0"),  # not the position of "0.0"
        (("1.0", "0.0"), 0.0, "0.0"),
        (("1", "0"), 1, "1"),
        (("1", "0"), "1", "1"),
        (("True", "False"), True, "True"),
        (("False", "True"), True, "True"),
        (("true", "false"), "TRUE", "true"),
        (("1", "2", "3"), 1, "1"),
        (("1", "2", "3"), 2.0, "2"),
        (("1", "2", "3"), "3.0", "3"),
        (("0", "1"), "1.0", "1"),  # a column with gaps, written by pandas
        (("0", "1"), "01", "1"),
        (("1", "1.0"), "1", "1"),  # the labels hold both spellings
        (("1", "1.0"), "1.0", "1.0"),
        (("1", "1.0"), 1.0, "1.0"),
        (("-1", "0", "1"), -1, "-1"),
        (("-1", "0", "1"), "-1.0", "-1"),
        (("-", "+"), "-", "-"),
        (("good", "bad"), " BAD ", "bad"),
        (("caf\u00e9", "bar"), "cafe\u0301", "caf\u00e9"),
        (("0.1", "0.2"), 0.1, "0.1"),
        (("good", "bad"), None, None),
        (("good", "bad"), float("nan"), None),
        (("good", "bad"), "  ", None),
    ],
)
def test_a_value_that_is_spelled_like_a_label_is_that_label(
    labels: tuple[str, ...], value: object, label: str | None
) -> None:
    assert task(*labels).parse_label(value) == label


@pytest.mark.parametrize(
    ("labels", "value"),
    [
        (("good", "bad"), 0),  # positions were declared nowhere
        (("good", "bad"), "1"),
        (("1", "2", "3"), 0),
        (("1", "0"), True),  # a truth value is not a number
        (("0", "1"), "2"),
        (("1", "1.0"), "1.00"),  # one of two, and nobody says which
        (("good", "bad"), -1),
        (("good", "bad"), "-"),
        (("good", "bad"), ["good", "bad"]),
        (("good", "bad"), {"good": 1}),
        (("0", "1"), "\uff11"),  # a full-width digit
        (("10", "20"), "1_0"),
    ],
)
def test_anything_else_is_an_error(labels: tuple[str, ...], value: object) -> None:
    with pytest.raises(ValueError, match=r"got .*, expected one of "):
        task(*labels).parse_label(value)


def test_positions_are_used_only_where_names_are_declared() -> None:
    assert [NLI.parse_label(i) for i in (0, "1", 2.0)] == ["entailment", "neutral", "contradiction"]
    reviews = task("bad", "good")
    reader = reviews.label_reader(["good", "bad"])
    assert [reader.read(value) for value in (0, "1", "good", -1, "-")] == [
        "good", "bad", "good", None, None,
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"got 2, expected one of bad, good \(or 0 to 1\)"):
        reader.read(2)


def test_names_that_are_numbers_themselves_are_refused_unless_both_meanings_agree() -> None:
    stars = task("1", "2", "3")
    with pytest.raises(UsageError, match="numbers themselves"):
        stars.label_reader(["1", "2", "3"])
    assert task("0", "1").label_reader(["0", "1"]).read(1) == "1"
    assert task("5", "6").label_reader(["5", "6"]).read(0) == "5"
    assert task("5", "6").label_reader(["5", "6"]).read(5) == "5"


def test_unlabelled_values_are_declared() -> None:
    reader = task("good", "bad").label_reader(unlabelled=["-1", "?"])
    assert [reader.read(value) for value in (-1, "-1.0", " ? ", "good")] == [
        None, None, None, "good",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="'-1' is the label '-1'"):
        task("-1", "1").label_reader(unlabelled=["-1"])


@pytest.mark.parametrize(
    ("labels", "spellings", "problem"),
    [
        (("bad", "Bad"), {}, "differ only in upper and lower case"),
        (("caf\u00e9", "cafe\u0301"), {}, "differ only"),
        (("a", "b"), {"x": "c"}, "'x' stands for 'c', expected one of a, b"),
        (("a", "b"), {"A": "b"}, "'A' stands for 'b', and for 'a' as well"),
        (("0", "1"), {"1.0": "0"}, "'1.0' stands for '0', and for '1' as well"),
    ],
)
def test_ambiguous_labels_are_refused(
    labels: tuple[str, ...], spellings: dict[str, str], problem: str
) -> None:
    with pytest.raises(UsageError, match=r"labels|spellings") as caught:
        task(*labels, spellings=spellings)
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_words_and_spellings_come_after_the_labels_names() -> None:
    swapped = task("0", "1", verbalizers={"0": "one", "1": "zero"}, spellings={"x": "0"})
    assert [swapped.parse_label(v) for v in ("one", "zero", "X", 1)] == ["0", "1", "0", "1"]
    named_like_another = task("a", "b", "c", verbalizers={"a": "b", "b": "x"})
    assert named_like_another.parse_label("b") == "b"
    assert [YES_NO.parse_label(v) for v in (True, False, "Yes", "N")] == ["yes", "no", "yes", "no"]


def test_many_labels_are_not_all_listed() -> None:
    many = task(*(f"intent {i}" for i in range(77)))
    with pytest.raises(
        ValueError, match=r"… \(77 labels\) \(did you mean 'intent 7'\?\)"
    ) as caught:
        many.parse_label("intnet 7")
    assert len(str(caught.value)) < 200


@given(st.lists(st.text(max_size=6), max_size=8))
def test_spellings_that_are_taken_for_each_other_are_found(texts: list[str]) -> None:
    groups = same_label(texts)
    for group in groups:
        assert len({folded(text) for text in group}) == 1 or len({number_of(t) for t in group}) == 1
    alone = {folded(text) for text in texts}
    if not groups:
        assert len(alone) == len(set(texts))
