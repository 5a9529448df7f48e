"""Rows that fool an experiment: each recipe is refused or warned about, in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import parse_recipe
from tutelage.core.errors import DataError
from tutelage.core.progress import Silent
from tutelage.core.results import DroppedRows
from tutelage.experiment.prepare import Splits, load_splits
from tutelage.experiment.run import run

Make = Callable[..., dict[str, Any]]

TEXTS = (
    "the soup was cold and the waiter did not care about it at all when we said so on our way out",
    "what a lovely evening we had at the small table by the window that looks out over the harbour",
    "they charged us twice for the same bottle and would not give it back until we insisted",
    "our daughter loved the pancakes so much that we came back on each of the following three days",
)


@pytest.fixture
def load(tmp_path: Path, small_recipe: Make) -> Callable[..., Splits]:
    """Loads a recipe about texts and labels; rows are (text, label)."""

    def made(
        train: list[tuple[str, str]],
        dev: Any,
        test: Any,
        overlap: str = "error",
        labels: tuple[str, ...] = ("good", "bad"),
    ) -> Splits:
        data: dict[str, Any] = {"overlap": overlap}
        for name, rows in (("train", train), ("dev", dev), ("test", test)):
            data[name] = rows
            if isinstance(rows, list):
                path = tmp_path / f"{name}.jsonl"
                lines = [
                    json.dumps({"uid": f"{name}{i}", "text": text, "label": label})
                    for i, (text, label) in enumerate(rows)
                ]
                path.write_text("\n".join(lines), encoding="utf-8")
                data[name] = str(path)
        task = {"fields": ["text"], "labels": list(labels)}
        return load_splits(
            parse_recipe(
                small_recipe(task=task, data=data, arms=[{"name": "labels"}], teacher=None)
            )
        )

    return made


TRAIN = [(TEXTS[0], "bad"), (TEXTS[1], "good"), ("no", "bad"), ("yes", "good")]
DEV = [("quite nice", "good"), ("rather dull", "bad")]
TEST = [("a feast", "good"), ("never again", "bad")]


def test_good_rows_pass_without_a_word(load: Callable[..., Splits]) -> None:
    assert load(TRAIN, DEV, TEST).notes == ()


@pytest.mark.parametrize(
    ("copy", "kind"),
    [
        (TEXTS[0].upper() + "!!", "1 equal up to case, punctuation and white space"),
        ("“" + TEXTS[0].replace(" ", "\u00a0\n") + "”", "1 equal up to"),
        (TEXTS[0].replace("soup", "stew"), "1 nearly equal by overlap of word trigrams"),
        ("Update: " + TEXTS[0], "1 nearly equal by overlap"),
    ],
)
@pytest.mark.parametrize("pair", [("train", "dev"), ("train", "test"), ("dev", "test")])
def test_a_copy_in_another_split(
    load: Callable[..., Splits], copy: str, kind: str, pair: tuple[str, str]
) -> None:
    splits = {"train": [*TRAIN[1:]], "dev": [*DEV], "test": [*TEST]}
    splits[pair[0]].append((TEXTS[0], "bad"))
    splits[pair[1]].append((copy, "bad"))
    with pytest.raises(DataError) as caught:
        load(*splits.values())
    line = str(caught.value)
    assert "\n" not in line and f"{pair[0]} shares 1 row with {pair[1]}" in line and kind in line
    assert "data: {overlap: drop}" in line
    kept = load(*splits.values(), overlap="drop")
    sizes = {name: len(rows) - (name == pair[0]) for name, rows in splits.items()}
    assert {"train": len(kept.train), "dev": len(kept.dev), "test": len(kept.test)} == sizes
    assert len(kept.notes) == 1


def test_held_out_rows_do_not_repeat_those_of_train(load: Callable[..., Splits]) -> None:
    """Forty texts in five spellings: by rows, each of them would be on both sides."""
    rows = [
        (f"{n} is what we thought of {word}{mark}", "good" if n % 2 else "bad")
        for n in range(20)
        for word in ("it", "him")
        for mark in ("", "!", ".", " …", "?")
    ]
    splits = load(rows, 0.2, 0.2)
    assert len(splits.dev) == len(splits.test) == 40
    assert splits.duplicates.test_groups_alike == 8
    groups = splits.groups(splits.test, parse_task())
    assert len(set(groups.values())) == 8


def parse_task() -> Any:
    from tutelage.core.task import Task

    return Task("task", ("text",), ("good", "bad"))


def test_copies_within_test_are_reported_and_count_once(load: Callable[..., Splits]) -> None:
    test = [
        *TEST,
        (TEXTS[2], "bad"),
        (TEXTS[2].replace("bottle", "glass"), "bad"),
        ("A FEAST", "good"),
    ]
    splits = load(TRAIN, DEV, test)
    assert [row.uid for row in splits.test] == [f"test{i}" for i in range(5)]
    groups = splits.groups(splits.test, parse_task())
    assert groups == {
        "test0": "test0", "test1": "test1", "test2": "test2", "test3": "test2", "test4": "test0"
    }  # fmt: skip
    [note] = splits.notes
    assert note.startswith(
        "test: 4 rows have nearly the same text as another test row; they form 2"
    )


def test_one_text_under_two_labels(load: Callable[..., Splits]) -> None:
    [note] = load([*TRAIN, ("Yes.", "bad")], DEV, TEST).notes
    assert note.startswith("train: 2 rows have a text that another row has under another label")


def test_labels_that_allow_no_comparison(load: Callable[..., Splits]) -> None:
    three = ("good", "bad", "mixed")
    with pytest.raises(DataError, match="train: has no row with the label 'mixed', which 1 row of"):
        load(TRAIN, DEV, [*TEST, ("so so", "mixed")], labels=three)
    with pytest.raises(DataError, match="test: all of its 2 rows have the label 'good', so that"):
        load(TRAIN, DEV, [TEST[0], ("superb", "good")])
    mixed = ("so so", "mixed")
    [note] = load([*TRAIN, mixed], [*DEV, ("meh", "mixed")], TEST, labels=three).notes
    assert note.startswith("test: has no row with the label 'mixed', so the results say nothing")


def test_a_run_says_it_everywhere(tmp_path: Path, small_recipe: Make) -> None:
    """Duplicates, the bag of words and the scrambled control, from the files to the report."""
    from tutelage.data.synthetic import generate

    def write(name: str, rows: list[Any]) -> str:
        path = tmp_path / f"{name}.jsonl"
        lines = [
            json.dumps(
                {"uid": f"{name}{i}", **row.fields, "label": row.label, "reason": row.reason}
            )
            for i, row in enumerate(rows)
        ]
        path.write_text("\n".join(lines), encoding="utf-8")
        return str(path)

    train, dev, test = generate(60, 1), generate(20, 2), generate(30, 3)
    data = {
        "train": write("train", [*train, test[0]]),
        "dev": write("dev", dev),
        "test": write("test", test),
        "overlap": "drop",
    }
    human = {"strategy": "human"}
    recipe = parse_recipe(
        small_recipe(
            data=data,
            arms=[{"name": "labels"}, {"name": "human", **human}],
            controls=["scrambled"],
            baselines=["majority", "bag_of_words"],
            search={"learning_rate": [3e-3], "label_weight": [0.3]},
            explain_rows=0,
            student={"model": "scratch:t5-tiny", "max_steps": 2, "max_rationale_tokens": 16},
        )
    )
    notes: list[str] = []

    class Notes(Silent):
        def note(self, line: str) -> None:
            notes.append(line)

    done = run(recipe, runs=tmp_path / "runs", workers=1, observer=Notes())
    results = done.results
    assert results.data.duplicates.dropped == (DroppedRows("train", "test", 1, 0, 0, 0, 0),)
    assert results.data.dropped_overlap == 1 and results.data.train.rows == 60
    assert any(note.startswith("train shares 1 row with test (1 equal up to") for note in notes)
    manifest = json.loads((done.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["duplicates"]["dropped"][0]["equal"] == 1
    report = (done.folder / "report.md").read_text(encoding="utf-8")
    assert "train shares 1 row with test" in report and "| Bag of words |" in report

    words = results.baselines.bag_of_words
    assert words is not None and words.n == 30
    kinds = {
        (c.arm, c.baseline): c for c in results.context_comparisons if c.kind == "bag_of_words"
    }
    assert set(kinds) == {("labels", "bag of words"), ("human", "bag of words")}
    for (arm, _), compared in kinds.items():
        of_arm = results.arm(arm).test.accuracy
        assert compared.difference == pytest.approx(of_arm - words.accuracy)
    [control] = results.control_comparisons
    assert (control.arm, control.baseline) == ("human-scrambled", "labels")
    assert control.family == 1 and control.p_adjusted == control.p_value
    learned = (done.folder / "rationales" / "human-scrambled.jsonl").read_text(encoding="utf-8")
    texts = {row["uid"]: row["text"] for row in map(json.loads, learned.splitlines())}
    assert sorted(texts["train0"].split()) == sorted((train[0].reason or "").split())
    assert texts["train0"] != train[0].reason
