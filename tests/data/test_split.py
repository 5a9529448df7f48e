import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.errors import DataError, UsageError
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example
from tutelage.data.split import check_splits, drop_overlap, hold_out

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
    _, dev = hold_out([flat(str(i), "same") for i in range(10)], FLAT, rows=3)
    assert len(dev) == 3


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
    test = [row("e", "One text"), row("f", "Four"), row("g", "One text")]
    overlap = check_splits(train, dev, test, NLI)
    assert (overlap.dev_rows, overlap.test_rows) == (1, 2)
    assert overlap.unseen_test == {"f"}


def test_without_context_every_test_row_is_unseen() -> None:
    overlap = check_splits([flat("a", "x")], [flat("b", "y")], [flat("c", "z")], FLAT)
    assert (overlap.dev_rows, overlap.test_rows, overlap.unseen_test) == (0, 0, {"c"})


def test_repeated_ids_within_a_split() -> None:
    with pytest.raises(DataError, match=r"dev: 1 rows repeat an id, for example 'a' \(rows 1 and"):
        check_splits([row("x")], [row("a"), row("b"), row("a", "other")], [], NLI)


def test_the_same_text_under_another_id_case_and_spacing_is_the_same_row() -> None:
    train = [row("a", "A Dog  runs.", "It\nmoves."), row("b")]
    test = [row("z", "a dog runs.", "It moves. ")]
    with pytest.raises(DataError) as caught:
        check_splits(train, [row("c")], test, NLI)
    text = str(caught.value)
    assert "train shares with test 1 rows (for example 'a', there 'z')" in text
    assert "data: {overlap: drop}" in text
    assert "dev" not in text
    kept, dropped = drop_overlap(train, [row("c")], test, NLI)
    assert ([e.uid for e in kept], dropped) == (["b"], 1)
    assert check_splits(kept, [row("c")], test, NLI).test_rows == 0


def test_an_id_shared_by_different_texts_is_reported() -> None:
    train, dev = [row("1"), row("2")], [row("1", "Else", "Else")]
    with pytest.raises(
        DataError, match=r"train shares with dev 1 ids of different texts .*uid: \"\""
    ):
        check_splits(train, dev, [], NLI)
    assert drop_overlap(train, dev, [], NLI)[1] == 1


def test_both_splits_are_reported_at_once() -> None:
    train = [row("a"), row("b"), row("c")]
    with pytest.raises(DataError, match=r"with dev 1 rows .*with test 2 rows"):
        check_splits(train, [row("a")], [row("b"), row("c")], NLI)


def test_dev_and_test_must_differ_too() -> None:
    with pytest.raises(DataError, match="dev shares with test 1 rows"):
        check_splits([row("a")], [row("b")], [row("b")], NLI)


def test_dropping_everything_is_an_error_and_dropping_nothing_is_none() -> None:
    with pytest.raises(DataError, match="all 1 rows of train"):
        drop_overlap([row("a")], [row("a")], [], NLI)
    assert drop_overlap([row("a")], [row("b")], [], NLI) == ([row("a")], 0)
