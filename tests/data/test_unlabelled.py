"""Unlabelled rows: none that dev or test has, however its text was changed, and all counted."""

from __future__ import annotations

import json
import random
import string
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tutelage.config.layout_settings import LayoutSettings
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.errors import DataError, UsageError
from tutelage.core.task import NLI, Task
from tutelage.core.types import Example
from tutelage.data.row_ids import distinct_ids
from tutelage.data.synthetic import generate
from tutelage.data.unlabelled import Pool, RemovedRows, load_unlabelled
from tutelage.experiment.prepare import load_splits

REVIEWS = Task("reviews", ("text",), ("good", "bad"))
PAIRS = Task("pairs", ("left", "right"), ("same", "other"))
TEXTS = (
    "The price is $3.50, not $35!",
    "Great :)",
    "Don't go there; it's well-known for its cold soup…",
    "ΟΔΥΣΣΕΥΣ and Straße: İstanbul’da ılık bir gün",
    "今天天气很好。我们去公园！",
    "1,000 users — of 3.5 million — complained (twice).",
    "naïve café, Ångström № 5",
    "¿Qué?",
)


def rows(*texts: str, split: str = "r", label: str = "good") -> list[Example]:
    return [Example(f"{split}{i}", {"text": text}, label) for i, text in enumerate(texts)]


def write(path: Path, texts: Sequence[str | dict[str, Any]]) -> str:
    path.write_text(
        "".join(
            json.dumps({"text": t} if isinstance(t, str) else t, ensure_ascii=False) + "\n"
            for t in texts
        ),
        encoding="utf-8",
    )
    return str(path)


def load(
    path: Path,
    texts: Sequence[str | dict[str, Any]],
    *,
    train: Sequence[Example] = (),
    dev: Sequence[Example] = (),
    test: Sequence[Example] = (),
    task: Task = REVIEWS,
    query: str = "",
    **layout: Any,
) -> Pool:
    spec = write(path / "pool.jsonl", texts) + query
    return load_unlabelled(spec, task, LayoutSettings(**layout), train=train, dev=dev, test=test)


def spaced(text: str, rng: random.Random) -> str:
    return "".join(c + rng.choice(["", "", " ", "\n", "\u00a0", "\u200b"]) for c in text)


def is_of_words(character: str) -> bool:
    return unicodedata.category(character)[0] in "LMN"


CHANGES: dict[str, Callable[[str], str]] = {
    "nothing": lambda text: text,
    "upper case": str.upper,
    "lower case": str.lower,
    "title case": str.title,
    "other case": str.swapcase,
    "no ASCII punctuation": lambda text: text.translate(
        dict.fromkeys(map(ord, string.punctuation))
    ),
    "spaces for punctuation": lambda text: "".join(c if is_of_words(c) else " " for c in text),
    "letters alone": lambda text: "".join(filter(is_of_words, text)),
    "further punctuation": lambda text: f"« {text} »!?…",
    "other punctuation": lambda text: text.replace("’", "'").replace(",", ";").replace(".", " - "),
    "spaces anywhere": lambda text: spaced(text, random.Random(text)),
    "lines and tabs": lambda text: "\t" + text.replace(" ", " \r\n\t ") + "\n",
    "all at once": lambda text: spaced(
        text.upper().translate(dict.fromkeys(map(ord, string.punctuation))), random.Random(1)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_row_of_dev_or_test_is_left(tmp_path: Path, change: str) -> None:
    new = "A row that nobody has."
    dev, test = rows(*TEXTS[:4], split="d"), rows(*TEXTS[4:], split="t")
    changed = [CHANGES[change](text) for text in TEXTS]
    pool = load(tmp_path, [*changed, new], train=rows("Something else."), dev=dev, test=test)
    assert [row.fields["text"] for row in pool.rows] == [new]
    assert (pool.removed.dev, pool.removed.test, pool.read) == (4, 4, 9)
    note = "unlabelled: 1 of 9 rows are used; left out: 4 are in test and 4 are in dev"
    assert pool.notes == (note,)


@example(text="ı", change="upper case")
@example(text="ß ẞ ﬁ", change="upper case")
@example(text="! :) ?", change="spaces anywhere")
@given(
    text=st.text(st.characters(exclude_categories=["Cs", "M"]), min_size=1).filter(str.strip),
    change=st.sampled_from(sorted(CHANGES)),
)
def test_any_changed_text_is_recognised(text: str, change: str) -> None:
    from tutelage.data.unlabelled import _places

    changed = CHANGES[change](text)
    row = Example("p", {"text": changed}, "")
    test = rows(text, split="t", label="bad")
    if any(map(is_of_words, text)) and changed.strip():
        assert _places([row], REVIEWS, train=[], dev=[], test=test) == ["test"]


def test_a_few_changed_words_are_the_same_row_and_one_word_of_a_short_text_is_not(
    tmp_path: Path,
) -> None:
    long = (
        "the keeper climbed the narrow stairs every evening to light the lamp before the ships "
        "came in from the stormy northern sea"
    )
    pool = load(
        tmp_path,
        [long.replace("evening", "night"), "the film was bad"],
        train=rows("x"),
        test=rows(long, "the film was good", split="t"),
    )
    assert [row.fields["text"] for row in pool.rows] == ["the film was bad"]
    assert pool.removed == RemovedRows(test=1)


def test_a_pair_is_recognised_in_either_order_unless_one_field_is_a_context(
    tmp_path: Path,
) -> None:
    test = [Example("t", {"left": "It cost 3.50.", "right": "So it did."}, "same")]
    other = {"left": "so it did", "right": "IT COST 350"}
    new = {"left": "another", "right": "row"}
    assert len(load(tmp_path, [other, new], test=test, task=PAIRS)) == 1
    nli = [Example("t", {"premise": "a b", "hypothesis": "c d"}, "neutral")]
    turned = {"premise": "c d", "hypothesis": "a b"}
    assert len(load(tmp_path, [turned], test=nli, task=NLI)) == 1


def test_copies_and_gold_rows_are_left_out_and_every_row_is_counted(tmp_path: Path) -> None:
    texts: list[str | dict[str, Any]] = [
        "one", "Gold!", "ONE.", "two", "in test", "in dev", {"text": " "}, {"txt": "three"}, "two",
    ]  # fmt: skip
    pool = load(
        tmp_path,
        texts,
        train=rows("gold"),
        dev=rows("In dev", split="d"),
        test=rows("In test", split="t"),
    )
    assert [row.fields["text"] for row in pool.rows] == ["one", "two"]
    assert pool.removed == RemovedRows(unreadable=2, test=1, dev=1, train=1, repeated=2)
    assert len(pool) + pool.removed.total == pool.read == len(texts)
    (note,) = pool.notes
    assert "2 of 9 rows are used; left out: 1 is in test, 1 is in dev, 1 is in train" in note
    assert "2 repeat an earlier row and 2 cannot be read; the first: " in note
    assert "pool.jsonl:7 field 'text': got ' '" in note


def test_labels_are_neither_needed_nor_read(tmp_path: Path) -> None:
    texts: list[str | dict[str, Any]] = [
        {"text": "one", "label": "no such label", "reason": "because", "tags": "x"},
        {"text": "two", "label": ""},
        {"text": "three", "label": "bad"},
        {"text": "four", "label": None},
        {"text": "five", "label": -1},
        "six",
    ]
    pool = load(tmp_path, texts, train=rows("gold"), no_label=["-1"])
    assert {(row.label, row.reason, row.tags) for row in pool.rows} == {("", None, ())}
    assert len(pool) == 6 and pool.ignored_labels == 2
    assert pool.notes == (
        f"unlabelled: 2 rows have a label in {tmp_path / 'pool.jsonl'}; it is ignored",
    )
    bare = [t["text"] if isinstance(t, dict) else t for t in texts]
    assert load(tmp_path, bare, train=rows("gold")).sha256 == pool.sha256


def test_the_layout_is_that_of_the_labelled_rows(tmp_path: Path) -> None:
    path = tmp_path / "pool.csv"
    path.write_bytes("body;id\nüber alles;7\nzwei;8\n".encode("cp1252"))
    layout = LayoutSettings(
        encoding="cp1252", delimiter=";", columns={"text": "body", "label": "mood", "uid": "id"}
    )
    pool = load_unlabelled(str(path), REVIEWS, layout, train=rows("x"), dev=(), test=())
    assert [(row.uid, row.fields["text"]) for row in pool.rows] == [
        ("7", "über alles"),
        ("8", "zwei"),
    ]
    path.write_text("txt\nx\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column 'body'"):
        load_unlabelled(str(path), REVIEWS, layout, train=rows("x"), dev=(), test=())


def test_ids_are_those_of_no_other_row(tmp_path: Path) -> None:
    texts: list[str | dict[str, Any]] = [
        {"uid": "r0", "text": "one"}, {"uid": "r0", "text": "two"}, {"uid": "new", "text": "three"},
        {"uid": "d0", "text": "in dev"},
    ]  # fmt: skip
    pool = load(tmp_path, texts, train=rows("gold"), dev=rows("in dev", split="d"))
    assert [row.uid for row in pool.rows] == ["r0-2", "r0-3", "new"]


@given(
    uids=st.lists(st.sampled_from(["a", "a-2", "a-2-2", "a-3", "b"]), max_size=12),
    taken=st.frozensets(st.sampled_from(["a", "a-2", "c"])),
)
def test_distinct_ids(uids: list[str], taken: frozenset[str]) -> None:
    own = distinct_ids(uids, taken)
    assert len(set(own)) == len(uids) == len(own) and not taken & set(own)
    assert all(new.startswith(old) for old, new in zip(uids, own, strict=True))
    assert own == uids or len(set(uids) - taken) < len(uids)


def test_a_sample_and_what_is_refused(tmp_path: Path) -> None:
    texts = [f"row number {i}" for i in range(20)]
    some = load(tmp_path, texts, query="?n=5&seed=2")
    assert len(some) == 5 == some.read
    assert some.sha256 != load(tmp_path, texts, query="?n=5&seed=3").sha256
    with pytest.raises(DataError, match="asks for n=21 rows, there are 20 readable ones"):
        load(tmp_path, texts, query="?n=21")
    with pytest.raises(UsageError, match="needs the size of the sample"):
        load(tmp_path, texts, query="?seed=2")
    with pytest.raises(DataError, match=r"none of its 2 rows is left \(1 is in test and 1 is in"):
        load(tmp_path, ["a", "b"], train=rows("b"), test=rows("a", split="t"))
    with pytest.raises(DataError, match="got '', expected text that is not blank"):
        load(tmp_path, [""])
    with pytest.raises(DataError, match="is empty, expected rows"):
        load(tmp_path, [])


def test_a_recipe_names_them(tmp_path: Path, small_recipe: Callable[..., dict[str, Any]]) -> None:
    parts = {name: generate(n, seed) for name, n, seed in
             (("train", 90, 1), ("dev", 30, 2), ("test", 45, 3), ("new", 12, 4))}  # fmt: skip
    spec = write(
        tmp_path / "pool.jsonl",
        [
            {name: CHANGES["all at once"](text) for name, text in row.fields.items()}
            for part in parts.values()
            for row in part
        ],
    )
    values = small_recipe()
    assert load_splits(parse_recipe(values)).pool is None
    values["data"]["unlabelled"] = spec
    values["arms"].append({"name": "labelled", "strategy": "label", "rows": "unlabelled"})
    splits = load_splits(parse_recipe(values))
    assert splits.pool is not None and len(splits.pool) == 12
    assert splits.pool.removed == RemovedRows(test=45, dev=30, train=90)
    assert splits.notes[-1].startswith("unlabelled: 12 of 177 rows are used")
    values["data"]["calibration"] = 0.5  # these rows choose nothing, and are held out all the same
    again = load_splits(parse_recipe(values)).pool
    assert again is not None and again.sha256 == splits.pool.sha256
    values["data"]["unlabelled"] = "synthetic:nli?n=33&seed=9"
    generated = load_splits(parse_recipe(values)).pool
    assert generated is not None and len(generated) == 33 == generated.ignored_labels
