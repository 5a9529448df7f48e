from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.errors import DataError, UsageError
from tutelage.core.results import DroppedRows
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example
from tutelage.data.split import check_labels, check_splits, hold_out

FLAT = Task(name="mood", fields=("text",), labels=("good", "bad"))


def row(uid: str, premise: str = "", hypothesis: str = "", label: str = "neutral") -> Example:
    return Example(
        uid, {"premise": premise or f"P {uid}", "hypothesis": hypothesis or f"H {uid}"}, label
    )


def flat(uid: str, text: str) -> Example:
    return Example(uid, {"text": text}, "good")


def grouped(sizes: list[int]) -> list[Example]:
    return [
        row(f"{group}-{i}", f"Premise {group}")
        for group, size in enumerate(sizes)
        for i in range(size)
    ]


# Holding out


@given(st.lists(st.integers(1, 3), min_size=20, max_size=80), st.integers(0, 5), st.data())
def test_groups_stay_whole_and_nothing_is_lost(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    examples = grouped(sizes)
    rows = data.draw(st.integers(3, len(examples) - 10))
    train, dev = hold_out(examples, NLI, rows=rows, seed=seed)
    assert not {e.fields["premise"] for e in train} & {e.fields["premise"] for e in dev}
    position = {e.uid: i for i, e in enumerate(examples)}
    for side in (train, dev):
        assert [position[e.uid] for e in side] == sorted(position[e.uid] for e in side)
    assert sorted(e.uid for e in (*train, *dev)) == sorted(position)
    assert abs(len(dev) - rows) <= 1  # groups of up to 3 rows: never further than half of one
    assert (train, dev) == hold_out(examples, NLI, rows=rows, seed=seed)


def test_share_is_of_rows_and_the_seed_matters() -> None:
    examples = grouped([2] * 100)
    held = [{e.uid for e in hold_out(examples, NLI, share=0.2, seed=s)[1]} for s in (0, 1)]
    assert [len(uids) for uids in held] == [40, 40]
    assert held[0] != held[1]


def test_rows_of_a_task_without_context_are_their_own_groups() -> None:
    _, dev = hold_out([flat(str(i), f"text {i}") for i in range(10)], FLAT, rows=3)
    assert len(dev) == 3


def test_rows_of_nearly_the_same_text_are_held_out_together() -> None:
    # Four ids for each text: grouping goes by the text.
    examples = [flat(f"{i}-{j}", f"text {i}" + "!" * j) for i in range(10) for j in range(4)]
    train, dev = hold_out(examples, FLAT, rows=12)
    assert len(dev) == 12
    texts = [{e.fields["text"].rstrip("!") for e in side} for side in (train, dev)]
    assert not texts[0] & texts[1]
    with pytest.raises(DataError, match="groups of rows with nearly the same text, the largest of"):
        hold_out([flat(str(i), "same") for i in range(10)], FLAT, rows=3)


@pytest.mark.parametrize(
    "how",
    [{}, {"share": 0.1, "rows": 3}, {"share": 0.0}, {"share": 1.0}, {"share": -1.0}, {"rows": 0}],
)
def test_wrong_sizes_are_usage_errors(how: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="expected"):
        hold_out(grouped([1] * 5), NLI, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sizes", "rows"), [([], 1), ([1], 1), ([7], 3), ([50, 50], 3), ([2, 2], 4), ([1, 1], 9)]
)
def test_an_impossible_split_describes_the_groups(sizes: list[int], rows: int) -> None:
    with pytest.raises(DataError, match=f"cannot hold out about {rows} of {sum(sizes)} rows"):
        hold_out(grouped(sizes), NLI, rows=rows)


# Overlap of splits


def test_shared_contexts_are_counted_not_refused() -> None:
    train = [row("a", "One  text"), row("b", "Two")]
    dev = [row("c", "Two"), row("d", "Three")]
    test = [row("e", "One text"), row("f", "Four"), row("g", "one text.")]
    overlap = check_splits(train, dev, test, NLI).overlap
    assert (overlap.dev_rows, overlap.test_rows) == (1, 2)
    assert overlap.unseen_test == {"f"}


def test_without_context_every_test_row_is_unseen() -> None:
    overlap = check_splits([flat("a", "x")], [flat("b", "y")], [flat("c", "z")], FLAT).overlap
    assert (overlap.dev_rows, overlap.test_rows, overlap.unseen_test) == (0, 0, {"c"})


def test_repeated_ids_within_a_split() -> None:
    with pytest.raises(DataError, match=r"dev: 1 rows repeat an id, for example 'a' \(rows 1 and"):
        check_splits([row("x")], [row("a"), row("b"), row("a", "other")], [], NLI)


def refused(train: list[Example], dev: list[Example], test: list[Example], task: Task) -> str:
    with pytest.raises(DataError) as caught:
        check_splits(train, dev, test, task)
    text = str(caught.value)
    assert "data: {overlap: drop}" in text and "\n" not in text
    return text


def uids(rows: Iterable[Example]) -> list[str]:
    return [each.uid for each in rows]


def test_the_same_text_under_another_id_case_and_spacing_is_the_same_row() -> None:
    train = [row("a", "A Dog  runs.", "It\nmoves."), row("b")]
    test = [row("z", "a dog runs", "“It moves.” ")]
    text = refused(train, [row("c")], test, NLI)
    assert text.startswith(
        "train shares 1 row with test (1 equal up to case, punctuation and white space), for "
        "example 'a' and 'z': “A Dog runs. | It moves.”: correct the files, or drop"
    )
    assert "dev (" not in text
    kept = check_splits(train, [row("c")], test, NLI, drop=True)
    assert (uids(kept.train), uids(kept.dev), uids(kept.test)) == (["b"], ["c"], ["z"])
    assert kept.duplicates.dropped == (DroppedRows("train", "test", 1, 0, 0, 0, 0),)
    assert kept.overlap.test_rows == 0
    [note] = kept.notes
    assert note.endswith("“A Dog runs. | It moves.”: dropped from train")
    # What is left has nothing in common, and dropping again finds nothing.
    again = check_splits(kept.train, kept.dev, kept.test, NLI)
    assert again.duplicates.dropped == () and again.notes == ()


SENTENCE = (
    "the train to the coast was late again because a cow had walked onto the rails near the old "
    "mill, and nobody knew whose it was"
)


def test_each_kind_is_counted_and_named() -> None:
    pair = Task("pair", ("one", "two"), ("same", "other"))

    def made(uid: str, one: str, two: str, label: str = "same") -> Example:
        return Example(uid, {"one": one, "two": two}, label)

    train = [
        made("a", "First thing", "second thing"),
        made("b", SENTENCE, "why?"),
        made("c", "here", "there"),
        made("7", "quite", "alone"),
        made("d", "nothing", "like it"),
    ]
    test = [
        made("t1", "first  thing!", "Second thing", "other"),
        made("t2", SENTENCE.replace("late", "delayed"), "Why"),
        made("t3", "There", "here"),
        made("7", "by", "chance"),
    ]
    text = refused(train, [made("e", "un", "like")], test, pair)
    assert text.startswith(
        "train shares 4 rows with test (1 equal up to case, punctuation and white space, 1 equal "
        "with the two fields swapped, 1 nearly equal by overlap of word trigrams, 1 with the id of "
        "another text; where ids only number the rows of a file, ignore them with columns: "
        '{uid: ""}, 1 of these under another label), for example'
    )
    kept = check_splits(train, [made("e", "un", "like")], test, pair, drop=True)
    assert uids(kept.train) == ["d"]
    assert kept.duplicates.dropped == (DroppedRows("train", "test", 1, 1, 1, 1, 1),)


def test_an_id_shared_by_different_texts_is_reported() -> None:
    train, dev = [row("1"), row("2")], [row("1", "Else", "Else")]
    text = refused(train, dev, [], NLI)
    assert "train shares 1 row with dev (1 with the id of another text; " in text
    assert uids(check_splits(train, dev, [], NLI, drop=True).train) == ["2"]


def test_all_splits_are_reported_at_once() -> None:
    train = [row("a"), row("b"), row("c")]
    text = refused(train, [row("a"), row("d")], [row("b"), row("c"), row("d")], NLI)
    assert "train shares 1 row with dev" in text
    assert "train shares 2 rows with test" in text
    assert "dev shares 1 row with test" in text


def test_train_loses_what_dev_or_test_has_dev_what_test_has_and_test_nothing() -> None:
    train = [row("a"), row("b"), row("c"), row("d")]
    dev = [row("a2", "P a", "H a"), row("e"), row("f")]
    test = [row("b2", "p B", "h B"), row("e2", "P e", "H e."), row("b3", "p b!", "H b")]
    kept = check_splits(train, dev, test, NLI, drop=True)
    assert uids(kept.train) == ["c", "d"]
    assert uids(kept.dev) == ["a2", "f"]
    assert kept.test == test
    assert [(d.split, d.other, d.equal) for d in kept.duplicates.dropped] == [
        ("train", "dev", 1),
        ("train", "test", 1),
        ("dev", "test", 1),
    ]


def test_dropping_everything_is_an_error() -> None:
    with pytest.raises(DataError, match="all 1 rows of train are also in dev, so none is left to"):
        check_splits([row("a")], [row("a")], [], NLI, drop=True)
    with pytest.raises(DataError, match="all 1 rows of dev are also in test, so none"):
        check_splits([row("a")], [row("b")], [row("b")], NLI, drop=True)


def test_copies_within_test_stay_and_are_one_unit() -> None:
    test = [flat("t1", "Late again."), flat("t2", "late AGAIN"), flat("t3", "on time")]
    test += [flat("t4", SENTENCE), flat("t5", SENTENCE.replace("late", "delayed"))]
    kept = check_splits([flat("a", "x")], [flat("d", "y"), flat("d2", "Y")], test, FLAT)
    assert kept.test == test
    units = [kept.units[each.uid] for each in test]
    assert units == ["t1", "t1", "t3", "t4", "t4"]
    assert kept.units["d"] == kept.units["d2"]
    assert (kept.duplicates.test_rows_alike, kept.duplicates.test_groups_alike) == (4, 2)
    [note] = kept.notes
    assert note.startswith("test: 4 rows have nearly the same text as another test row; they form")


def test_one_text_with_two_labels_is_reported() -> None:
    train = [
        Example("a", {"text": "It is late."}, "good"),
        Example("b", {"text": "it is  late"}, "bad"),
        Example("c", {"text": "fine"}, "good"),
        Example("c2", {"text": "Fine!"}, "good"),
    ]
    kept = check_splits(train, [flat("d", "y")], [flat("t", "z")], FLAT)
    assert kept.train == train
    assert kept.duplicates.two_labels == {"train": 2, "dev": 0, "test": 0}
    [note] = kept.notes
    assert note == (
        "train: 2 rows have a text that another row has under another label, for example "
        "“It is late.” as 'bad' and 'good'"
    )


# Labels


def labelled(name: str, *labels: str) -> list[Example]:
    return [Example(f"{name}{i}", {"text": f"{name} {i}"}, label) for i, label in enumerate(labels)]


THREE = Task("mood", ("text",), ("good", "bad", "so-so"))


def test_a_test_set_of_one_label_is_refused() -> None:
    with pytest.raises(DataError, match="test: all of its 2 rows have the label 'good', so that"):
        check_labels(
            labelled("a", "good", "bad"), labelled("b", "bad"), labelled("c", "good", "good"), THREE
        )


@pytest.mark.parametrize("where", ["dev", "test"])
def test_a_label_that_train_lacks_is_refused(where: str) -> None:
    rows = {"train": ["good", "bad"], "dev": ["good", "bad"], "test": ["good", "bad"]}
    rows[where] += ["so-so", "so-so"]
    with pytest.raises(DataError) as caught:
        check_labels(*(labelled(name, *labels) for name, labels in rows.items()), THREE)
    assert str(caught.value) == (
        f"train: has no row with the label 'so-so', which 2 rows of {where} have: no student can "
        f"learn it; add such rows to train, or remove them from {where}"
    )


def test_a_label_that_is_missing_from_test_or_dev_is_reported() -> None:
    train = labelled("a", "good", "bad", "so-so")
    notes = check_labels(train, labelled("b", "good"), labelled("c", "good", "bad"), THREE)
    assert notes == [
        "test: has no row with the label 'so-so', so the results say nothing about such rows",
        "dev: has no row with the label 'bad' and 'so-so', so such rows have no part in choosing a "
        "configuration",
    ]
    everything = labelled("d", "good", "bad", "so-so")
    assert check_labels(train, everything, everything, THREE) == []
