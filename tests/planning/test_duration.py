"""How long a run takes: measured in the pool's processes, kept, and counted as a run deals it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.plan_settings import PlanSettings
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.progress import Silent
from tutelage.experiment.prepare import load_splits
from tutelage.planning import duration
from tutelage.planning.duration import Measured
from tutelage.planning.plan import plan_recipe
from tutelage.student.jobs.measuring import TrainingCost

COST = TrainingCost(
    start=1.0, encoded_row=0.001, step=0.5, scored_row=0.01, merged=0.0, saved_model=0.2,
    saved_state=0.6, written_row=0.1, memory_bytes=10**9,
)  # fmt: skip
SLOW = replace(COST, start=2.0, step=1.0, scored_row=0.02, merged=0.3, memory_bytes=2 * 10**9)


@pytest.fixture
def recipe(searched_recipe: dict[str, Any]) -> Recipe:
    student = searched_recipe["student"] | {"epochs": 2}
    return parse_recipe(searched_recipe | {"student": student})


def _costs(recipe: Recipe) -> dict[str, TrainingCost]:
    kinds = {duration._kind(recipe, arm): arm for arm in recipe.arms}
    return {k: COST if arm.strategy is None else SLOW for k, arm in kinds.items()}


def test_a_run_is_counted(recipe: Recipe) -> None:
    splits = load_splits(recipe)
    costs = _costs(recipe)
    assert len(costs) == 2  # a shuffled control costs what its arm does
    found = duration.forecast(recipe, splits, Measured(costs, 1, False))
    # 90 rows in batches of 16: 6 steps, twice; an evaluation every 3, on 30 rows; the optimiser's
    # state is not stored at the last of 4 evaluations.
    label = 1 + 12 * 0.5 + 4 * 30 * 0.01 + 2.5 * 0.2 + 3 * 0.6
    other = 2 + 12 * 1.0 + 4 * (0.3 + 30 * 0.02) + 2.5 * 0.2 + 3 * 0.6
    each = 2 * 3  # seeds; two trials and the choice
    assert found.training == pytest.approx(each * (label + 2 * other))
    scored = each * (1 + 45 * 0.01 + 2 * (2 + 45 * 0.02))
    assert found.evaluation == pytest.approx(scored + 2 * (2 + 5 * 0.1))
    assert found.memory_bytes == 2 * 10**9
    two = duration.forecast(recipe, splits, Measured(costs, 2, False))
    assert found.training / 2 <= two.training <= found.training / 2 + 2 * other  # two stages


def test_what_is_chosen_is_trained_after_all_trials(recipe: Recipe) -> None:
    """More processes than a stage has jobs: two trainings after each other, and three evaluations
    (test, explanations, the trials on test)."""
    splits, costs = load_splits(recipe), _costs(recipe)
    found = duration.forecast(recipe, splits, Measured(costs, 99, False))
    longest = 2 + 12 * 1.0 + 4 * (0.3 + 30 * 0.02) + 2.5 * 0.2 + 3 * 0.6
    assert found.training == pytest.approx(2 * longest)
    assert found.evaluation == pytest.approx(2 * (2 + 45 * 0.02) + 2 + 5 * 0.1)


def test_rows_that_the_measurement_left_out_are_encoded_too(recipe: Recipe) -> None:
    splits, costs = load_splits(recipe), _costs(recipe)
    sample = duration._SAMPLE_STEPS * recipe.student.batch_size
    limited = recipe.student.model_copy(update={"max_steps": 3})
    short = recipe.model_copy(update={"student": limited})
    few, many = (
        duration.forecast(short, splits, Measured(costs, 1, False), rows).training
        for rows in (sample, sample + 5000)
    )
    trainings = 2 * 3 * len(recipe.arms)
    assert many - few == pytest.approx(trainings * 5000 * 0.001)


def test_no_more_rows_are_explained_than_there_are(recipe: Recipe) -> None:
    splits, costs = load_splits(recipe), _costs(recipe)
    all_of_them, more = (
        duration.forecast(
            recipe.model_copy(update={"explain_rows": rows}), splits, Measured(costs, 1, False)
        )
        for rows in (len(splits.test), 500)
    )
    assert all_of_them == more


def test_steps_end_at_their_limit(recipe: Recipe) -> None:
    student = recipe.student.model_copy(update={"max_steps": 3})
    short = recipe.model_copy(update={"student": student})
    splits, costs = load_splits(recipe), _costs(recipe)
    more, less = (
        duration.forecast(r, splits, Measured(costs, 1, False)).training for r in (recipe, short)
    )
    assert less < more / 2


def test_what_is_measured_is_kept(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpatched_measure: Any
) -> None:
    splits, ledger = load_splits(recipe), tmp_path / "ledger.sqlite"
    settings = PlanSettings(ledger=ledger, runs=tmp_path)
    assert plan_recipe(recipe, settings, Silent()).duration is None
    right = duration.measure_trainings
    monkeypatch.setattr(duration, "measure_trainings", partial(right, seconds=0.2))
    monkeypatch.setattr(duration, "workers_of", lambda *_: 1)
    found = unpatched_measure(recipe, splits, ledger)
    assert set(found.costs) == set(_costs(recipe))
    for cost in found.costs.values():
        assert 1e-3 < cost.step < 10
        assert 1e-5 < cost.scored_row < 1
        assert cost.saved_model > 0 and cost.saved_state > 0
        assert 0 < cost.encoded_row < 0.01 and cost.merged == 0
        assert 10**8 < cost.memory_bytes < 4 * 10**9
    assert not found.assumed
    assert not ledger.exists()  # nothing was asked
    monkeypatch.setattr(duration, "measure_trainings", None)
    assert unpatched_measure(recipe, splits, ledger) == found
    planned = plan_recipe(recipe, settings, Silent()).duration
    assert planned == duration.forecast(recipe, splits, found)
    longer = recipe.student.model_copy(update={"max_source_tokens": 99})
    changed = recipe.model_copy(update={"student": longer})
    assert duration.kept(changed, splits, ledger) is None


def test_rationales_that_are_not_known_are_assumed(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    values = json.loads(recipe.model_dump_json(exclude_none=True))
    paid = parse_recipe(values | {"teacher": "openai:m"})
    rows = load_splits(paid).train[:5]
    arm = paid.arms[1]
    texts, assumed = duration._rationales(paid, arm, rows, tmp_path / "none.sqlite", tmp_path)
    assert assumed
    assert {len(one.text.split()) for one in texts} == {60}
    known, assumed = duration._rationales(recipe, recipe.arms[1], rows, None, tmp_path)
    assert not assumed
    assert [one.text for one in known] != [one.text for one in texts]


def test_the_sentences_say_where_figures_come_from() -> None:
    found = duration.Duration(3600.0, 60.0, 2, True, 3 * 10**9)
    time, assumed, memory = found.sentences()
    assert "about 61 min" in time
    assert "2 at once" in time
    assert "60 words" in assumed
    assert memory == "memory: 3.0 GB for one training, measured"


def test_trainings_that_will_be_compiled_are_measured_without_and_it_is_said(
    recipe: Recipe,
) -> None:
    student = recipe.student.model_copy(update={"compile": True})
    compiled = recipe.model_copy(update={"student": student})
    splits, costs = load_splits(recipe), Measured(_costs(recipe), 1, False)
    _, said, _ = duration.forecast(compiled, splits, costs).sentences()
    assert "compile: true is left out of the measurement" in said
    assert len(list(duration.forecast(recipe, splits, costs).sentences())) == 2


@pytest.mark.parametrize(("seconds", "words"), [(45, "45 s"), (700, "12 min"), (12_240, "3.4 h")])
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration.in_words(seconds) == words
