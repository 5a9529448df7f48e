"""What each arm and seed learns, and that a control lacks one thing alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.config.training_settings import TrainSettings
from tutelage.core.errors import DataError
from tutelage.core.progress import Silent
from tutelage.core.types import Prediction, Rationale
from tutelage.experiment.arm_rows import (
    draw_rows,
    repeats,
    self_training_pool,
    self_training_rows,
    training_examples,
)
from tutelage.experiment.bought_labels import OTHER_LABEL
from tutelage.experiment.learnt_rows import ArmRows
from tutelage.experiment.prepare import Splits, load_splits
from tutelage.experiment.purchases import Asker
from tutelage.experiment.training_rows import TrainingRows, equal_steps

POOL = {"rows": "unlabelled"}


@pytest.fixture(scope="module")
def recipe(small_recipe: Callable[..., dict[str, Any]]) -> Recipe:
    values = small_recipe(
        protocol="quick",
        arms=[
            {"name": "labels"},
            {"name": "bought", "strategy": "label", **POOL},
            {"name": "thoughts", "strategy": "chain_of_thought", **POOL},
            {"name": "agreed", "strategy": "label", **POOL, "agrees_with": "scripted"},
            {"name": "reasons", "strategy": "chain_of_thought"},
            {"name": "gold-60", "gold": 60},
        ],
        spend={"rows": 40},
        seeds=[3, 4],
    )
    for key in ("controls", "baselines", "departures"):
        del values[key]
    values["data"] = {
        **values["data"],
        "gold": 30,
        "unlabelled": "synthetic:nli?n=80&seed=4",
    }
    return parse_recipe(values)


@pytest.fixture(scope="module")
def splits(recipe: Recipe) -> Splits:
    return load_splits(recipe)


def draw(recipe: Recipe, splits: Splits, folder: Path) -> ArmRows:
    return draw_rows(recipe, splits, folder / "l.sqlite", Silent())


@pytest.fixture(scope="module")
def rows(recipe: Recipe, splits: Splits, tmp_path_factory: pytest.TempPathFactory) -> ArmRows:
    return draw(recipe, splits, tmp_path_factory.mktemp("rows"))


def uids(examples: Any) -> list[str]:
    return [example.uid for example in examples]


@pytest.mark.parametrize("seed", [3, 4])
def test_arms_of_a_seed_share_its_rows(rows: ArmRows, splits: Splits, seed: int) -> None:
    learnt = {name: by_seed[seed] for name, by_seed in rows.learnt.items()}
    gold = uids(learnt["labels"].gold)
    assert len(gold) == 30
    for name, found in learnt.items():
        assert uids(found.gold)[:30] == gold, name
    assert len(learnt["gold-60"].gold) == 60
    assert uids(learnt["bought"].pool) == uids(learnt["thoughts"].pool)
    held_out = set(uids([*splits.dev, *splits.test]))
    assert not held_out & {uid for found in learnt.values() for uid in uids(found.pool)}


def test_seeds_draw_different_rows(rows: ArmRows) -> None:
    for name in ("labels", "bought"):
        first, second = (rows.learnt[name][seed] for seed in (3, 4))
        assert uids((*first.gold, *first.pool)) != uids((*second.gold, *second.pool))


def test_a_control_lacks_one_thing_alone(rows: ArmRows) -> None:
    learnt = {name: by_seed[3] for name, by_seed in rows.learnt.items()}
    thoughts, dropped = learnt["thoughts"], learnt["thoughts-rationale-dropped"]
    assert dropped.pool == thoughts.pool and not dropped.rationales
    assert sum(r.status == "ok" for r in thoughts.rationales) == 40
    other = learnt["thoughts-shuffled"]
    assert other.pool == thoughts.pool
    texts = {r.uid: r.text for r in thoughts.rationales}
    moved = [r for r in other.rationales if r.text != texts[r.uid]]
    assert len(moved) > 35
    # A donor is a row of the same draw.
    assert {r.text for r in other.rationales} <= set(texts.values())


def test_a_random_filter_has_the_size_and_the_labels_of_the_agreed_rows(
    recipe: Recipe, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Asker.ask

    def disagreeing(self: Asker, examples: Any) -> Any:
        found = real(self, examples)
        if len(self.settings) == 1:
            return found
        changed = []
        for place, row in enumerate(found):
            first, second = row.answers
            label = "neutral" if place % 3 == 0 else second.label
            second = Rationale(second.uid, second.strategy, "", "ok", label)
            changed.append(type(row)(row.example, (first, second), row.charges))
        return changed

    monkeypatch.setattr(Asker, "ask", disagreeing)
    rows = draw(recipe, splits, tmp_path)
    agreed, other = rows.learnt["agreed"][3], rows.learnt["agreed-random-filter"][3]
    assert 20 < len(agreed.pool) < 40
    assert agreed.left_out == {"the teachers disagree": 40 - len(agreed.pool)}
    assert Counter(e.label for e in agreed.pool) == Counter(e.label for e in other.pool)
    assert set(uids(agreed.pool)) != set(uids(other.pool))
    assert agreed.purchase == other.purchase  # both pay for both teachers


def test_self_training_learns_the_students_labels_of_the_same_rows(
    recipe: Recipe, rows: ArmRows
) -> None:
    arm = next(arm for arm in recipe.arms if arm.control == "self_training")
    wanted = self_training_pool(recipe, arm, rows)
    assert uids(wanted[3]) == uids(rows.learnt["bought"][3].pool)
    said = {
        seed: [Prediction(uid, "contradiction", {}, "") for uid in uids(pool)]
        for seed, pool in wanted.items()
    }
    learnt = self_training_rows(recipe, arm, rows, said)
    assert {e.label for e in learnt[3].pool} == {"contradiction"}
    assert learnt[3].gold == rows.learnt["labels"][3].gold and learnt[3].purchase is None


def test_a_rationale_for_another_label_is_not_learnt(
    recipe: Recipe, splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Asker.ask

    def wrong(self: Asker, examples: Any) -> Any:
        found = real(self, examples)
        if self.strategy.name != "chain_of_thought" or self.name != "reasons":
            return found
        first = found[0]
        answer = first.answers[0]
        label = "neutral" if first.example.label != "neutral" else "entailment"
        changed = Rationale(answer.uid, answer.strategy, answer.text, "ok", label)
        return [type(first)(first.example, (changed,), first.charges), *found[1:]]

    monkeypatch.setattr(Asker, "ask", wrong)
    learnt = draw(recipe, splits, tmp_path).learnt["reasons"][3]
    bad = [r for r in learnt.rationales if r.status != "ok"]
    assert [r.detail for r in bad] == [OTHER_LABEL] and len(learnt.gold) == 30


def test_more_gold_rows_than_there_are_is_one_line(
    recipe: Recipe, splits: Splits, tmp_path: Path
) -> None:
    data = recipe.data.model_copy(update={"gold": 91})
    with pytest.raises(DataError, match=r"'labels' is to learn 91 gold rows, and train has 90"):
        draw(recipe.model_copy(update={"data": data}), splits, tmp_path)


@given(st.integers(1, 500), st.integers(1, 2000), st.floats(0.05, 0.95))
def test_repeated_gold_rows_come_near_their_share(gold: int, pool: int, share: float) -> None:
    times = repeats(gold, pool, share)

    def distance(count: int) -> float:
        return abs(count * gold / (count * gold + pool) - share)

    assert times >= 1
    assert distance(times) <= min(distance(times + 1), distance(max(1, times - 1))) + 1e-12
    assert repeats(gold, 0, share) == repeats(gold, pool, None) == 1


@given(st.integers(1, 300), st.integers(1, 3000), st.integers(1, 64), st.integers(1, 6))
def test_every_arm_trains_for_as_many_steps(rows: int, more: int, batch: int, epochs: int) -> None:
    most = rows + more
    settings = TrainSettings(batch_size=batch, epochs=epochs)
    own, largest = (equal_steps(settings, count, most) for count in (rows, most))
    assert own.max_steps == largest.max_steps == epochs * -(-most // batch)
    assert own.evaluate_every == largest.evaluate_every == -(-most // batch)
    for count, found in ((rows, own), (most, largest)):
        assert found.epochs * -(-count // batch) >= (found.max_steps or 0)
    capped = equal_steps(settings.replace(max_steps=1), rows, most)
    assert capped.max_steps == 1


def test_gold_rows_are_repeated_in_training_and_counted_once(
    recipe: Recipe, rows: ArmRows, splits: Splits
) -> None:
    learnt, arm = rows.learnt["bought"][3], next(a for a in recipe.arms if a.name == "bought")
    found = training_examples(learnt, arm, recipe.resolved_task(), 0.6)
    assert len(found) == 30 * 2 + 40 and learnt.rows == 70
    training = TrainingRows(recipe, splits, {}, rows)
    settings = [
        training.settings(TrainSettings(epochs=2, batch_size=16), each, 3)
        for each in recipe.arms
        if each.control != "self_training"
    ]
    assert {each.max_steps for each in settings} == {2 * 5}
