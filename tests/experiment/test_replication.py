"""Which model is named to use, and what is said of what was replicated."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tutelage.config.recipe_file import parse_recipe
from tutelage.core.results import ArmResult, ComparisonResult, Configuration
from tutelage.experiment.replication import describe_search, recommended_model
from tutelage.report.answer import answer_sentences

sys.path.append(str(Path(__file__).parents[1] / "report"))
from small_results import arm, comparison, results

Make = Callable[..., dict[str, Any]]
REASONS = "informed_reasoning"


def _dev(name: str, by_seed: tuple[float, ...], **more: Any) -> ArmResult:
    made = arm(name, seeds=tuple(range(len(by_seed))), **more)
    mean = sum(by_seed) / len(by_seed)
    return replace(made, dev=replace(made.dev, accuracy=mean, accuracy_by_seed=by_seed))


LABELS = _dev("labels", (0.6, 0.7, 0.65), accuracy=0.61)
TREATED = _dev("reasons", (0.8, 0.7, 0.9), accuracy=0.75, strategy=REASONS)
SHUFFLED = _dev("reasons-shuffled", (0.9, 0.9, 0.95), strategy=REASONS, control="shuffled")
FILLER = _dev("reasons-filler", (0.9, 0.9, 0.95), strategy=REASONS, control="filler")
ARMS = [LABELS, TREATED, SHUFFLED, FILLER]


def _compared(
    gain: float = 0.1, p: float = 0.01, against: float = 0.1, p_against: float = 0.01
) -> list[ComparisonResult]:
    return [
        comparison("reasons", "labels", gain, p=p),
        comparison("reasons", "reasons-shuffled", against, p=p_against),
        # Not among what decides: a filler that does as well is said in the answer.
        comparison("reasons", "reasons-filler", -0.1, p=0.9, primary=False),
    ]


def test_a_treatment_arm_that_beat_labels_and_its_shuffled_control_is_recommended() -> None:
    model = recommended_model(ARMS, _compared())
    assert model is not None
    assert (model.arm, model.better, model.seed) == ("reasons", True, 2)
    assert model.folder == "arms/reasons/lr-0.003_w-0.5/seed-2/model"
    assert (model.dev_accuracy, model.accuracy, model.ci95) == (
        0.9,
        TREATED.test.accuracy,  # the arm's mean, not that of the model that dev likes best
        TREATED.test.ci95,
    )


@pytest.mark.parametrize(
    "compared",
    [
        _compared(p=0.06),
        _compared(p_against=0.06),
        _compared(gain=-0.1),
        _compared(against=-0.1),
        _compared()[:1],  # no shuffled control
        _compared()[1:],
        [],
    ],
)
def test_otherwise_labels_alone_is(compared: list[ComparisonResult]) -> None:
    model = recommended_model(ARMS, compared)
    assert model is not None
    assert (model.arm, model.better, model.seed) == ("labels", False, 1)
    assert model.accuracy == LABELS.test.accuracy


def test_of_several_better_arms_the_best_on_dev_is() -> None:
    other = _dev("other", (0.95, 0.7, 0.9), accuracy=0.7, strategy=REASONS)
    control = _dev("other-shuffled", (0.5,) * 3, strategy=REASONS, control="shuffled")
    more = [
        comparison("other", "labels", 0.1, p=0.01),
        comparison("other", "other-shuffled", 0.1, p=0.01),
    ]
    model = recommended_model([*ARMS, other, control], [*_compared(), *more])
    assert model is not None and (model.arm, model.seed) == ("other", 0)


def test_a_replicate_without_a_checkpoint_is_not_recommended() -> None:
    def with_steps(*steps: int) -> ArmResult:
        return replace(LABELS, training=replace(LABELS.training, best_step_by_seed=steps))

    model = recommended_model([with_steps(4, 0, 4)], [])
    assert model is not None and model.seed == 2
    assert recommended_model([with_steps(0, 0, 0)], []) is None
    assert recommended_model([], []) is None


def test_the_answer_names_the_model_and_the_mean() -> None:
    compared = tuple(_compared())
    found = results(arms=tuple(ARMS), comparisons=compared)
    found = replace(found, recommended=recommended_model(ARMS, compared))
    (sentence,) = [s for s in answer_sentences(found) if "model to use" in s]
    assert sentence == (
        "The model to use is arms/reasons/lr-0.003_w-0.5/seed-2/model, of the 3 students of "
        "reasons the best on dev. Expect a test accuracy of 75.0% (70.0 to 80.0%), the mean of "
        "all 3."
    )
    plain = replace(found, recommended=recommended_model(ARMS, []))
    (sentence,) = [s for s in answer_sentences(plain) if "model to use" in s]
    assert "61.0%" in sentence and "no treatment arm was significantly better" in sentence
    assert not [s for s in answer_sentences(replace(found, recommended=None)) if "model to" in s]


def test_what_was_replicated_is_what_the_recipe_replicates(
    small_recipe: Make, searched_recipe: dict[str, Any]
) -> None:
    searched = describe_search(parse_recipe(searched_recipe))
    assert (searched.configurations, searched.trials) == (2, 2)
    assert "all of 2 configurations" in searched.replicated[0]
    single = parse_recipe(small_recipe(search={"learning_rate": [3e-3]}))
    alone = describe_search(single)
    assert alone.trials == 0 and not any("search" in what for what in alone.replicated)
    assert "new weights" in alone.replicated[0]
    assert any("shuffle" in what for what in alone.held_fixed)
    bare = small_recipe(arms=[{"name": "labels"}], student={"model": "google-t5/t5-small"})
    fixed = describe_search(parse_recipe(bare))
    assert "the pretrained weights" in fixed.held_fixed
    assert not any("shuffle" in what or "teacher" in what for what in fixed.held_fixed)
    grid = {"learning_rate": [1e-3, 2e-3, 3e-3, 4e-3], "trials": 2}
    drawn = describe_search(parse_recipe(small_recipe(search=grid)))
    assert "2 of 4 configurations, drawn at random" in drawn.replicated[0]


def test_configuration_is_that_of_the_replicate() -> None:
    other = Configuration(0.001, 0.25)
    changed = replace(LABELS, config_by_seed=(LABELS.config_by_seed[0], other, other))
    model = recommended_model([changed], [])
    assert model is not None and model.config == other
