"""The teacher labels training rows first: on which rows, what it is shown, and when a run stops."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "teacher"))

from scripted_server import Reply, ScriptedServer

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.errors import BudgetError, DataError, TeacherError
from tutelage.core.progress import Silent
from tutelage.core.results import TeacherAgreement
from tutelage.core.results.decode import decode
from tutelage.core.storage import as_json
from tutelage.core.task import NLI
from tutelage.core.types import Rationale
from tutelage.experiment.agreement_check import (
    below_student,
    check_agreement,
    label_teachers,
    sample_rows,
    sentence,
    with_pool_answers,
)
from tutelage.experiment.arm_strategies import shots_of
from tutelage.experiment.prepare import Splits, load_splits
from tutelage.strategies.label_options import rotated_labels
from tutelage.strategies.row_text import parse_quoted_fields
from tutelage.teacher.annotate import annotate


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


class Judge:
    """Answers by what the prompt holds: the gold label of known rows, wrong for every n-th."""

    def __init__(self) -> None:
        self.gold: dict[str, str] = {}
        self.wrong_every = 0
        self.asked: list[str] = []

    def learn(self, splits: Splits) -> None:
        self.gold = {row.fields["hypothesis"] + row.fields["premise"]: row.label
                     for row in splits.train}  # fmt: skip

    def __call__(self, body: dict[str, Any], before: int) -> Reply:
        prompt = body["messages"][-1]["content"]
        self.asked.append(prompt)
        lines = [line for line in prompt.split("\n") if line.startswith(("Premise: ", "Hypoth"))]
        fields = parse_quoted_fields("\n".join(lines[-2:]), NLI)
        label = self.gold.get(fields["hypothesis"] + fields["premise"])
        if label is None:
            return Reply("perhaps")
        if self.wrong_every and len(self.asked) % self.wrong_every == 0:
            label = NLI.labels[NLI.labels.index(label) - 1]
        return Reply(label)


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def server(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with ScriptedServer(judge) as running:
        yield running


Make = Callable[..., Recipe]


@pytest.fixture
def recipe(small_recipe: Callable[..., dict[str, Any]]) -> Make:
    def make(teacher: Any, **labelling: Any) -> Recipe:
        values = small_recipe(
            teacher=teacher,
            departures={"baselines": "a small test"},
            arms=[
                {"name": "labels"},
                {"name": "bought", "strategy": "label", "rows": "unlabelled"},
                {"name": "self", "strategy": "label", "rows": "unlabelled",
                 "control": "self_training"},
            ],
        )  # fmt: skip
        values["data"]["unlabelled"] = "synthetic:nli?n=40&seed=9"
        values["labelling"] = {"agreement_rows": 30, **labelling}
        return parse_recipe(values)

    return make


def of(server: ScriptedServer, **more: Any) -> dict[str, Any]:
    return {"model": "openai:m", "base_url": server.base_url, "max_tokens": 9, **more}


def test_a_good_teacher_is_described_and_never_sees_a_label(
    server: ScriptedServer, judge: Judge, recipe: Make, tmp_path: Path
) -> None:
    asked = recipe(of(server))
    splits, notes = load_splits(asked), Notes()
    judge.learn(splits)
    judge.wrong_every = 10
    (found,) = check_agreement(asked, splits, tmp_path / "l.sqlite", notes)
    assert len(judge.asked) == found.rows == found.requests == 30
    assert found.accuracy == pytest.approx(0.9) and found.without_label == 0
    assert found.ci95[0] < 0.9 < found.ci95[1]
    assert sum(of.rows for of in found.per_label.values()) == 30
    assert (found.shares_from, found.pool_answers, found.shots) == ("training rows", 0, 0)
    assert [of.share for of in found.per_label.values()] == pytest.approx([1 / 3] * 3)
    assert any("the terms of 127.0.0.1" in n or "licence of the model" in n for n in notes.lines)
    assert any("gives the label of 27 of 30 training rows (90.0%" in n for n in notes.lines)
    of_balanced = sentence(found, "balanced_accuracy")
    assert "gives the label of 27 of 30 training rows (balanced accuracy 90.0%, 95%" in of_balanced
    # Rotated labels and the row: no prompt is another for another gold label.
    for prompt in judge.asked:
        row = next(
            row
            for row in splits.train
            if all(json.dumps(text) in prompt for text in row.fields.values())
        )
        order = [prompt.index(f"\n- {label}:") for label in rotated_labels(row, NLI)]
        assert order == sorted(order)
        assert row.reason is not None and row.reason not in prompt
    # The ledger answers the same call, and results.json keeps what was found.
    (again,) = check_agreement(asked, splits, tmp_path / "l.sqlite", notes)
    assert len(judge.asked) == 30 and (again.requests, again.cached) == (0, 30)
    assert replace(again, requests=30, cached=0) == found
    assert decode(TeacherAgreement, json.loads(json.dumps(as_json(found)))) == found


def test_a_teacher_below_the_majority_class_stops_the_run(
    server: ScriptedServer, judge: Judge, recipe: Make, tmp_path: Path
) -> None:
    asked, notes = recipe(of(server)), Notes()
    splits = load_splits(asked)
    judge.learn(splits)
    judge.wrong_every = 1
    with pytest.raises(TeacherError) as caught:
        check_agreement(asked, splits, tmp_path / "l.sqlite", notes, pool_rows=splits.train[:5])
    message = str(caught.value)
    assert "gives the label of 0 of 30 training rows (0.0%, 95% interval 0.0 to 17.9%)" in message
    assert "is right on 33.3%: nothing else was asked" in message and "\n" not in message
    assert caught.value.exit_code == 1 and len(judge.asked) == 30


def test_a_teacher_below_labels_alone_is_warned_of(
    server: ScriptedServer, judge: Judge, recipe: Make, tmp_path: Path
) -> None:
    asked, notes = recipe(of(server)), Notes()
    splits = load_splits(asked)
    judge.learn(splits)
    judge.wrong_every = 2
    (found,) = check_agreement(asked, splits, tmp_path / "l.sqlite", notes, student_accuracy=0.9)
    assert below_student(found) in notes.lines and "50.0%" in str(below_student(found))
    of_balanced = str(below_student(found, "balanced_accuracy"))
    assert "has a balanced accuracy of 50.0% on labelled rows (95% interval" in of_balanced
    assert below_student(replace(found, student_accuracy=0.6)) is None
    assert below_student(replace(found, student_accuracy=None)) is None


def test_examples_in_the_prompt_are_not_in_the_sample(recipe: Make) -> None:
    asked = recipe("openai:m", shots_per_label=2)
    splits = load_splits(asked)
    shots = shots_of(asked, splits.train)
    assert len(shots) == 6
    rows = sample_rows(splits.train, shots, NLI)
    contexts = {row.fields["premise"] for row in shots}
    assert rows and not contexts & {row.fields["premise"] for row in rows}
    assert {row.uid for row in rows} | {
        row.uid for row in splits.train if row.fields["premise"] in contexts
    } == {row.uid for row in splits.train}
    (teacher,) = label_teachers(asked, splits.train)
    prompt = teacher.strategy.render(rows[0], NLI)[0].content
    assert all(json.dumps(shot.fields["hypothesis"]) in prompt for shot in shots)
    copied = [replace(shots[0], uid="copy", fields={
        name: text.upper() + "!" for name, text in shots[0].fields.items()
    })]  # fmt: skip
    assert not sample_rows(copied, shots, NLI)
    # The arms ask with the same rows in their prompts.
    from tutelage.experiment.arm_strategies import strategy_of

    arm = next(arm for arm in asked.arms if arm.name == "bought")
    assert strategy_of(asked, arm, splits.train).render(rows[0], NLI)[0].content == prompt


def test_answers_about_unlabelled_rows_give_the_shares(recipe: Make, tmp_path: Path) -> None:
    asked, notes = recipe("scripted"), Notes()
    splits = load_splits(asked)
    assert splits.pool is not None
    neutral = [row for row in splits.pool.rows if row.references["label"] == "neutral"]
    others = [row for row in splits.pool.rows if row.references["label"] != "neutral"]
    pool = [*neutral, *others[:2]]
    (found,) = check_agreement(asked, splits, tmp_path / "l.sqlite", notes, pool_rows=pool)
    assert found.accuracy == 1 and found.ci95[0] > 0.8
    assert (found.shares_from, found.pool_answers) == ("answers", len(pool))
    shares = {label: of.share for label, of in found.per_label.items()}
    assert shares["neutral"] > 0.75 and sum(shares.values()) == pytest.approx(1)
    assert all(of.precision == 1 for of in found.per_label.values())
    assert "with shares from its 15 answers about unlabelled rows" in " ".join(notes.lines)
    # Without an answer that names a label nothing is estimated.
    rows = splits.train[:3]
    done = annotate(rows, strategy="label", teacher=asked.teacher, task=NLI)
    silent = [Rationale("x", "label", "", "failed")]
    assert with_pool_answers(found, NLI, rows, done, silent) is found


def test_arms_that_ask_in_batches_are_not_asked_live_about_unlabelled_rows(
    server: ScriptedServer, judge: Judge, recipe: Make, tmp_path: Path
) -> None:
    asked = recipe(of(server, mode="batch"))
    splits = load_splits(asked)
    judge.learn(splits)
    pool = splits.train[40:50]
    (found,) = check_agreement(asked, splits, tmp_path / "l.sqlite", Notes(), pool_rows=pool)
    assert (found.shares_from, len(judge.asked)) == ("training rows", 30)


def test_recorded_answers_count_where_there_are_any(recipe: Make, tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    asked = recipe(f"recorded:{path}#m", agreement_rows=20)
    splits = load_splits(asked)
    known = splits.train[:40]
    lines = [
        {"uid": row.uid, "teacher_labels": {"m": row.label if place % 4 else "unclear"}}
        for place, row in enumerate(known)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (found,) = check_agreement(asked, splits, None, Notes())
    assert found.rows == 20 and 0 < found.without_label < 12
    right = 20 - found.without_label
    assert found.accuracy == right / 20
    assert found.statuses == {"ok": right, "failed": found.without_label}
    lines = [{"uid": "elsewhere", "teacher_labels": {"m": "neutral"}}]
    path.write_text(json.dumps(lines[0]) + "\n", encoding="utf-8")
    with pytest.raises(TeacherError, match="no answer about any of 90 training rows"):
        check_agreement(asked, splits, None, Notes())


def test_budget_and_rows_that_all_stand_in_the_prompt(
    server: ScriptedServer, judge: Judge, recipe: Make, tmp_path: Path
) -> None:
    price = {"input": 1000, "output": 1000}
    asked = recipe(of(server, budget_usd=0.01, price=price))
    splits = load_splits(asked)
    with pytest.raises(BudgetError, match=r"agreement of openai:m \(label\): "):
        check_agreement(asked, splits, tmp_path / "l.sqlite", Notes())
    assert not judge.asked
    few = replace(splits, train=splits.train[:1])
    with pytest.raises(DataError, match="all 1 training rows stand in the prompt"):
        check_agreement(recipe(of(server), shots_per_label=1), few, None, Notes())


def test_recipes_whose_arms_buy_no_labels_ask_nothing(
    small_recipe: Callable[..., dict[str, Any]],
) -> None:
    plain = parse_recipe(small_recipe())
    assert check_agreement(plain, load_splits(plain), None, Notes()) == ()
