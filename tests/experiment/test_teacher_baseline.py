"""The teacher asked for labels: on which rows, with which examples, and how answers are scored."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "teacher"))

from scripted_server import Reply, ScriptedServer, error

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.errors import BudgetError
from tutelage.core.progress import Silent
from tutelage.core.results import TeacherBaseline, TeacherLabelScore
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.evaluation.statistics import wilson_interval
from tutelage.experiment.arm_strategies import draw_rows, draw_shots
from tutelage.experiment.prepare import Splits, load_splits
from tutelage.experiment.teacher_baseline import ask_for_labels, label_requests
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.store import Ledger

Make = Callable[..., Recipe]


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def answer(body: dict[str, Any], before: int) -> Reply:
    """Always `neutral`; where there are examples, what the hypothesis' length says."""
    if len(body["messages"]) == 1:
        return Reply("neutral")
    prompt = body["messages"][-1]["content"]
    return (
        lambda: Reply("Label: **Contradiction**."),
        lambda: Reply("I would rather not say."),
        lambda: Reply("I cannot assist with that."),
        lambda: Reply("entailment, for the", finish_reason="length"),
        lambda: error(400, "too long"),
    )[len(prompt) % 5]()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with ScriptedServer(answer) as running:
        yield running


@pytest.fixture
def recipe(server: ScriptedServer, small_recipe: Callable[..., dict[str, Any]]) -> Make:
    def make(*, baselines: tuple[str, ...] = ("teacher",), **teacher: Any) -> Recipe:
        asked = {"model": "openai:m", "base_url": server.base_url, "max_tokens": 9, **teacher}
        return parse_recipe(
            small_recipe(
                teacher=asked,
                baselines=list(baselines),
                teacher_baseline={"rows": 25, "shots_per_label": 2},
            )
        )

    return make


def shown(row: Example) -> str:
    return f"Premise: {row.fields['premise']}\nHypothesis: {row.fields['hypothesis']}"


def dev_rows(recipe: Recipe) -> tuple[Example, ...]:
    return draw_rows(load_splits(recipe).dev, 25, NLI)


def ask(
    recipe: Recipe, folder: Path, notes: Notes | None = None
) -> tuple[tuple[TeacherBaseline, ...], str | None]:
    ledger = folder / "ledger.sqlite"
    return ask_for_labels(recipe, load_splits(recipe), ledger, notes or Notes())


def test_dev_is_asked_and_every_answer_counts(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    made = recipe()
    splits = load_splits(made)
    (without, with_examples), note = ask(made, tmp_path)
    assert note is None

    rows = draw_rows(splits.dev, 25, NLI)
    neutral = [row.label == "neutral" for row in rows]
    assert without.shots == 0
    assert without.accuracy == pytest.approx(sum(neutral) / 25)
    assert (without.unparsed, without.split, without.model) == (0, "dev", "openai:m")
    assert without.per_label["neutral"] == TeacherLabelScore(sum(neutral), 1.0, 25)
    assert without.per_label["entailment"].accuracy == 0.0

    read = {0: "contradiction", 3: "entailment"}
    kinds = [len(shown(row)) % 5 for row in rows]
    assert set(kinds) == set(range(5))
    right = sum(read.get(kind) == row.label for kind, row in zip(kinds, rows, strict=True))
    assert with_examples.shots == 6
    assert with_examples.rows == 25
    assert with_examples.accuracy == pytest.approx(right / 25)
    assert with_examples.unparsed == sum(kind not in read for kind in kinds)
    assert with_examples.statuses == {
        "ok": kinds.count(0),
        "refused": kinds.count(2),
        "truncated": kinds.count(3),
        "empty": 0,
        "failed": kinds.count(1) + kinds.count(4),
    }
    assert "I would rather not say." in with_examples.unparsed_examples
    assert with_examples.ci95[0] < with_examples.accuracy < with_examples.ci95[1]
    assert with_examples.requests == server.requests - 25 == 25
    asked = {body["messages"][-1]["content"].split("\n\n")[-1] for body in server.bodies}
    assert asked == {shown(row) for row in rows}  # and so none of test


def test_a_repeat_makes_no_request_and_agrees(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    first, _ = ask(recipe(), tmp_path)
    sent = server.requests
    again, _ = ask(recipe(), tmp_path)
    assert server.requests == sent
    for before, after in zip(first, again, strict=True):
        assert after.requests == 0
        assert replace(after, requests=before.requests, cached=before.cached) == before


def test_it_is_charged_to_the_recipes_budget(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    price = {"input": 1.0, "output": 2.0}
    found, _ = ask(recipe(price=price, budget_usd=1), tmp_path)
    answered = [25, 25 - sum(len(shown(r)) % 5 == 4 for r in dev_rows(recipe()))]
    assert [entry.cost_usd for entry in found] == pytest.approx([n * 13e-6 for n in answered])
    with Ledger(tmp_path / "ledger.sqlite") as book:
        charged = charges.charged(book, "small")
    assert charged == sum(answered) * 13 * 10**6
    poor = recipe(price=price, budget_usd=0.0005, temperature=0.5)
    with pytest.raises(BudgetError, match=r"no example: .*or leave `teacher` out of .*baselines"):
        ask(poor, tmp_path / "poor")


def test_live_and_structured_as_the_teacher_is_set(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    found, _ = ask(recipe(structured=True, mode="batch", temperature=0.25), tmp_path)
    assert len(found) == 2
    assert server.counts.batch_requests == 0
    body = server.bodies[0]
    assert (body["temperature"], body["max_tokens"]) == (0.25, 9)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["label"]["enum"] == list(NLI.labels)


def test_each_teacher_once_whatever_the_arms(recipe: Make) -> None:
    made = recipe()
    other = {"model": "openai:m", "base_url": "http://127.0.0.1:9/v1", "max_tokens": 9}
    reasoning = {"strategy": "informed_reasoning"}
    arms = [
        *made.model_dump(exclude_none=True)["arms"],
        {"name": "other", **reasoning, "teacher": other},
        {"name": "again", **reasoning, "teacher": {**other, "concurrency": 2}},
        {"name": "warm", **reasoning, "teacher": {**other, "temperature": 1.0}},
        {"name": "known", **reasoning, "teacher": "scripted"},
    ]
    several = parse_recipe(made.model_dump(exclude_none=True) | {"arms": arms})
    requests, why_not = label_requests(several, load_splits(several))
    assert why_not == "scripted looks answers up and cannot be asked for labels"
    assert [(q.settings.base_url, q.settings.temperature, len(q.shots)) for q in requests] == [
        (url, temperature, shots)
        for url, temperature in (
            (made.teacher.base_url if made.teacher else None, None),
            (other["base_url"], None),
            (other["base_url"], 1.0),
        )
        for shots in (0, 6)
    ]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"teacher": "scripted"}, "scripted looks answers up"),
        ({"arms": [{"name": "labels"}, {"name": "h", "strategy": "human"}]}, "no arm asks"),
        ({"baselines": ["majority"]}, "leave the teacher out"),
    ],
)
def test_a_teacher_that_cannot_be_asked_is_skipped_with_a_note(
    small_recipe: Callable[..., dict[str, Any]],
    changes: dict[str, Any],
    why: str,
    tmp_path: Path,
) -> None:
    notes = Notes()
    made = parse_recipe(small_recipe(**{"baselines": ["teacher"], **changes}))
    found, note = ask(made, tmp_path, notes)
    assert found == ()
    assert note is not None and why in note
    assert any(why in line for line in notes.lines)
    assert not (tmp_path / "ledger.sqlite").exists()


def test_without_an_example_the_teacher_is_asked_once(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    made = recipe()
    splits = load_splits(made)
    all_taken = replace(splits, train=list(dev_rows(made)))
    found, note = ask_for_labels(made, all_taken, tmp_path / "ledger.sqlite", Silent())
    assert [entry.shots for entry in found] == [0]
    assert note is not None and "no training row can be a worked example" in note


def row(number: int, context: str, label: str) -> Example:
    return Example(f"u{number}", {"premise": context, "hypothesis": f"h {number}"}, label)


def test_rows_and_examples_do_not_depend_on_the_order_of_the_file() -> None:
    dev = [row(n, f"p {n // 2}", NLI.labels[n % 3]) for n in range(60)]
    train = [row(100 + n, f"q {n // 3}", NLI.labels[n % 3]) for n in range(60)]
    rows = draw_rows(dev, 20, NLI)
    shots = draw_shots(train, rows, 2, NLI)
    assert len({r.uid for r in rows}) == 20
    assert list(rows) != dev[:20]
    mixed_dev, mixed_train = dev[:], train[:]
    random.Random(1).shuffle(mixed_dev)
    random.Random(2).shuffle(mixed_train)
    assert draw_rows(mixed_dev, 20, NLI) == rows
    assert draw_shots(mixed_train, rows, 2, NLI) == shots
    assert draw_rows(dev, 10, NLI) == rows[:10]  # a larger sample goes on from a smaller one
    assert draw_rows(dev, 100, NLI) == draw_rows(dev, 60, NLI)


def test_examples_are_balanced_and_share_no_context() -> None:
    rows = [row(n, f"p {n}", "neutral") for n in range(5)]
    train = [row(100 + n, f"q {n // 4}", NLI.labels[n % 3]) for n in range(90)]
    # Whatever their digests, these are never shown: dev rows have their contexts.
    train += [row(300 + n, f"p {n % 5}", NLI.labels[n % 3]) for n in range(200)]
    shots = draw_shots(train, rows, 2, NLI)
    assert sorted(shot.label for shot in shots) == sorted([*NLI.labels, *NLI.labels])
    contexts = [shot.fields["premise"] for shot in shots]
    assert len(set(contexts)) == 6
    assert not {r.fields["premise"] for r in rows} & set(contexts)
    few = [shot for shot in train if shot.label != "neutral"]
    assert {shot.label for shot in draw_shots(few, rows, 1, NLI)} == {"entailment", "contradiction"}
    assert draw_shots(train[90:], rows, 2, NLI) == ()


def test_shared_contexts_widen_the_interval(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    made = recipe()
    splits = load_splits(made)
    alone = [row(n, f"p {n}", NLI.labels[n % 3]) for n in range(24)]
    together = [row(100 + n, f"p {n % 8}", NLI.labels[n % 8 % 3]) for n in range(24)]
    intervals = []
    for name, dev in (("alone", alone), ("together", together)):
        changed: Splits = replace(splits, dev=dev)
        (found, *_), _ = ask_for_labels(made, changed, tmp_path / name, Silent())
        intervals.append((found.accuracy, found.ci95, found.ci_method))
    accuracy, ci95, _ = intervals[0]
    assert (accuracy, ci95) == (8 / 24, wilson_interval(8, 24))
    accuracy, ci95, method = intervals[1]
    assert "8 groups" in method
    assert accuracy == 9 / 24
    assert ci95[1] - ci95[0] > 1.5 * (wilson_interval(9, 24)[1] - wilson_interval(9, 24)[0])
