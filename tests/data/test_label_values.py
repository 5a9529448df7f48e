"""Each row has the label that it was given, or the file is refused: no label is ever exchanged."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_files import FORMATS, by_row, drafted, loaded, task_of, write

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError, TutelageError, UsageError
from tutelage.core.labels import folded, number_of, spelled
from tutelage.core.task import NLI, Task
from tutelage.data.load import load_examples

pytest.importorskip("pyarrow")


def same(given: object, read: str) -> bool:
    """Whether a label read is the value given: as text, or as a number."""
    text = spelled(given)
    assert text is not None
    number = None if isinstance(given, bool) else number_of(text)
    return folded(text) == folded(read) or (number is not None and number == number_of(read))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "values",
    [
        [1.0] * 17 + [0.0] * 7,
        [0, 1, 1, 1],
        [1, 2, 3, 3, 3],
        [3, 1, 2],
        [True, True, True, False],
        ["True", "False", "False"],
        ["1.0", "0.0", "0.0"],
        ["yes", "no"],
        ["no", "yes", "yes"],
        ["null", "nil"],
        ["1:30", "6e-4", "0x1F", "010", "~", "@at", "#hash", "a: b"],
        ["\u2028", "b"],
        ["5", "4", "3", "2", "1", "0"],
        ["100000000000000000000", "7"],
        ["NA", "None"],
    ],
)
def test_drafted_recipes_give_each_row_its_own_label(
    tmp_path: Path, kind: str, values: list[object]
) -> None:
    path = write(tmp_path, kind, values)
    if values == ["\u2028", "b"]:
        with pytest.raises(DataError, match="distinct labels"):
            drafted(path)  # nothing but white space
        return
    rows = by_row(loaded(path, drafted(path)))
    assert len(rows) == len(values)
    for (_, label), value in zip(rows, values, strict=True):
        assert same(value, label)


VALUES = st.one_of(
    st.integers(-3, 12),
    st.booleans(),
    st.sampled_from([0.0, 1.0, 2.0, 1.5, -1.0, 2.0**53]),
    st.sampled_from([2**53, 2**53 + 1, -(2**53) - 1]),
    st.sampled_from(
        [
            *("0", "1", "1.0", "-1", "-", "true", "True", "no", "yes", "bad", "Bad", "bad "),
            *("1e3", "1000", "+1", "\uff10", "\uff11", "caf\u00e9", "cafe\u0301", "a\u200b", "a"),
            *("NA", "null", "None", "nan", "2020-01-01", "9007199254740992", "9007199254740993"),
        ]
    ),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(VALUES, min_size=2, max_size=9), st.sampled_from(FORMATS))
def test_any_values_are_read_as_they_were_given_or_refused(values: list[object], kind: str) -> None:
    kinds = {type(value) for value in values}
    if kind == "parquet" and len(kinds) > 1:
        values = [str(value) for value in values]  # a column has one type
    with TemporaryDirectory() as folder:
        path = write(Path(folder), kind, values)
        try:
            rows = by_row(loaded(path, drafted(path)))
        except TutelageError as error:
            assert "\n" not in str(error)
            return
    # Only what is blank has no label, and these rows are counted as such.
    labelled = [(i, v) for i, v in enumerate(values) if str(v).strip()]
    assert [text for text, _ in rows] == [f"the film number {i} was shown" for i, _ in labelled]
    for (_, label), (_, value) in zip(rows, labelled, strict=True):
        assert same(value, label)
    for (_, one), (_, first) in zip(rows, labelled, strict=True):
        for (_, other), (_, second) in zip(rows, labelled, strict=True):
            assert (one == other) == same(first, spelled(second) or "") or kind == "csv"


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        (["bad", "good", "Bad", "Good"], "'bad' (1 rows) and 'Bad' (1 rows)"),
        (["1", "1.0", "2"], "'1' (1 rows) and '1.0' (1 rows)"),
        (["caf\u00e9", "cafe\u0301", "b"], "differ only"),
    ],
)
def test_spellings_of_one_label_are_refused_or_folded(
    tmp_path: Path, kind: str, values: list[str], problem: str
) -> None:
    path = write(tmp_path, kind, values)
    with pytest.raises(UsageError) as caught:
        drafted(path)
    assert problem in str(caught.value) and "--labels" in str(caught.value)
    kept = values[:1] + values[1:2] if "good" in values else [values[0], values[2]]
    labels = [label for _, label in by_row(loaded(path, drafted(path, labels=kept)))]
    assert set(labels) == set(kept) and len(labels) == len(values)
    assert all(
        same(v, label) or folded(v) == folded(label)
        for v, label in zip(values, labels, strict=True)
    )


@pytest.mark.parametrize("kind", FORMATS)
def test_equal_numbers_of_two_files_are_one_label(tmp_path: Path, kind: str) -> None:
    """The second file comes from pandas, from a column with gaps."""
    path = write(tmp_path, kind, [0, 1, 1])
    other = write(tmp_path, kind, ["0.0", "1.0"] if kind == "csv" else [0.0, 1.0], name="other")
    recipe = drafted(path)
    assert [label for _, label in by_row(loaded(path, recipe))] == ["0", "1", "1"]
    assert [label for _, label in by_row(loaded(other, recipe))] == ["0", "1"]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("value", [2, "maybe", 0.5])
def test_a_value_that_is_not_a_label_is_an_error_with_file_and_row(
    tmp_path: Path, kind: str, value: object
) -> None:
    recipe = drafted(write(tmp_path, kind, [0, 1, 1]))
    values: list[object] = [0, 1, value]
    path = write(tmp_path, kind, [str(v) for v in values] if kind != "jsonl" else values, "other")
    with pytest.raises(DataError) as caught:
        loaded(path, recipe)
    message = str(caught.value)
    assert str(path) in message and "field 'label'" in message and "expected one of 0, 1" in message
    assert ("row 3" if kind == "parquet" else f":{3 + (kind == 'csv')} ") in message


@pytest.mark.parametrize("kind", FORMATS)
def test_a_number_that_may_have_been_rounded_is_refused(tmp_path: Path, kind: str) -> None:
    """2**53 + 1 is 2**53 as a float, which is another label."""
    labels = [2**53, 2**53 + 1]
    path = write(tmp_path, kind, labels)
    recipe = drafted(path)
    assert [label for _, label in by_row(loaded(path, recipe))] == list(map(str, labels))
    other = write(tmp_path, kind, list(map(float, labels)), name="other")
    with pytest.raises(DataError, match="may have been rounded: write the labels as text"):
        loaded(other, recipe)
    task = Task("t", ("text",), ("9007199254740992.0", "9007199254740994.0"))
    exact = write(tmp_path, kind, [2.0**53, 2.0**53 + 2], name="exact")
    assert [e.label for e in load_examples(str(exact), task)] == list(task.labels)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("mark", ["-1", "-"])
def test_minus_one_is_decided_by_the_user(tmp_path: Path, kind: str, mark: str) -> None:
    path = write(tmp_path, kind, ["good", "bad", mark, "good", mark])
    recipe = drafted(path)
    text = recipe.read_text(encoding="utf-8")
    assert task_of(recipe)["labels"] == ["good", "bad"]  # type: ignore[index]
    assert f"TO DECIDE: '{mark}' in 2 rows" in text
    with pytest.raises(DataError, match="if it marks rows without a label, say no_label"):
        loaded(path, recipe)
    # The line that the recipe has is one way to decide; the label among the labels the other.
    decided = text.replace("  # no_label:", "  no_label:")
    recipe.write_text(decided, encoding="utf-8")
    assert (len(loaded(path, recipe)), loaded(path, recipe).unlabelled) == (3, 2)
    recipe.write_text(text.replace("  - bad\n", f"  - bad\n  - '{mark}'\n"), encoding="utf-8")
    assert [e.label for e in loaded(path, recipe)] == ["good", "bad", mark, "good", mark]


def test_minus_one_zero_and_one_may_all_be_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "jsonl", [-1, 0, 1, 1])
    task = Task("polarity", ("text",), ("-1", "0", "1"))
    assert [e.label for e in load_examples(str(path), task)] == ["-1", "0", "1", "1"]


def test_declared_names_decide_what_numbers_mean(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", [0, 2, 1, -1])
    task = Task("nli", ("text",), NLI.labels)
    with pytest.raises(DataError, match="say label_names: with the names in order"):
        load_examples(str(path), task)
    names = ["contradiction", "entailment", "neutral"]
    examples = load_examples(str(path), task, LayoutSettings(label_names=names))
    assert [e.label for e in examples] == ["contradiction", "neutral", "entailment"]
    assert examples.unlabelled == 1
    with pytest.raises(UsageError, match="label_names: 'maybe' is not a label, expected"):
        load_examples(str(path), task, LayoutSettings(label_names=["maybe", "neutral"]))


def test_the_files_own_names_of_classes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["1", "2", "3"])
    )
    rows = {"text": ["a b", "c d", "e f", "g h"], "label": [0, 1, 2, -1]}
    path = tmp_path / "stars.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(path)
    examples = loaded(path, drafted(path))
    assert [e.label for e in examples] == ["1", "2", "3"]  # positions, though the names are numbers
    assert examples.unlabelled == 1


def test_problems_of_one_kind_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path, "csv", ["good", "w", "bad", "w", "x", "y", "good"])
    with pytest.raises(DataError) as caught:
        load_examples(str(path), Task("t", ("text",), ("good", "bad")))
    message = str(caught.value)
    assert message.startswith(f"{path}:3 field 'label': got 'w', expected one of good, bad")
    assert "(so in lines 5 and 6; 4 rows in all)" in message and "\n" not in message
    assert (caught.value.line, caught.value.field) == (3, "label")


def test_not_a_number_means_without_a_label(tmp_path: Path) -> None:
    path = write(tmp_path, "parquet", [1.0, 0.0, math.nan, 1.0])
    examples = loaded(path, drafted(path))
    assert [e.label for e in examples] == ["1.0", "0.0", "1.0"] and examples.unlabelled == 1
