"""The simulated experiments of `evidence.py`: their rows, trainings, searches and statistics.

A training of an arm with configuration k and seed s predicts row i correctly with probability

    1 / (1 + exp(-(level + row_i + own_ai + effect_k + seed_as + gain_a)))

with row_i the difficulty of the row, part of it shared by the rows of a premise; own_ai what this
arm finds difficult; all drawn anew for every experiment, in which all arms have the same rows.
(Part of what one training alone finds difficult is shared by the rows of a premise too.) Each
replicate of each arm draws its trials with `experiment.search.draw_trials`, evaluates every trial
training on dev, chooses with `experiment.search.choose_trial`, and the choice is trained afresh and
predicts the test rows.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri, roots_hermitenorm
from scipy.stats import t as student_t

from tutelage.config.recipe_file import parse_recipe
from tutelage.config.training_settings import Config
from tutelage.evaluation.numeric import effective_groups, solve
from tutelage.evaluation.variance import of_units
from tutelage.experiment.search import choose_trial, draw_trials

Floats = NDArray[Any]
Ints = NDArray[np.int64]

LABELS = "labels"
EXTRACTION = "information-extraction"
REASONING = "informed-reasoning"
RECIPE = parse_recipe(
    {
        "name": "evidence",
        "data": dict.fromkeys(("train", "dev", "test"), "synthetic:nli?n=1000"),
        "teacher": "scripted",
        "arms": [
            {"name": LABELS},
            {"name": EXTRACTION, "strategy": "information_extraction"},
            {"name": REASONING, "strategy": "informed_reasoning"},
        ],
    }
)
"""Only its primary family of comparisons is used: the one that ships."""
PRIMARY = RECIPE.comparisons().primary
ARMS = tuple(dict.fromkeys(name for pair in PRIMARY for name in pair))
BETTER = tuple(
    dict.fromkeys(
        name for pair in PRIMARY if pair[0] == REASONING for name in pair if name != LABELS
    )
)
"""The arms with the true difference: any rationale helps, whatever its content. So one comparison
of the family has an effect and the others have none, which is Holm's strictest case."""
TRUE_DIFFERENCE = PRIMARY.index((REASONING, LABELS))
TREATMENTS = tuple(dict.fromkeys(pair[0] for pair in PRIMARY))
"""The first arm of every comparison: the arms whose seeds a scenario makes unlike the others'."""

CONFIGS = [Config(lr, weight) for weight in (0.25, 0.5, 0.75) for lr in (6e-4, 1.2e-3, 2.4e-3)]
CONFIG_ORDER = (4, 0, 7, 2, 8, 5, 1, 6, 3)
"""Which configuration is the best, the second best, and so on: not that of their order."""

PREMISES_BY_ROWS = {1: 1265, 2: 1196, 3: 417, 4: 1}
"""Number of premises by their rows in the shared e-SNLI test file; used where it is missing."""

PREMISE_SD, ROW_SD, OWN_PREMISE_SD, OWN_ROW_SD, SEED_PREMISE_SD = 1.0, 1.2, 0.42, 0.56, 0.3
"""In logits: difficulty of premises and rows; what an arm finds difficult; and one training."""
SPREAD = float(
    np.sqrt(np.sum(np.square([PREMISE_SD, ROW_SD, OWN_PREMISE_SD, OWN_ROW_SD, SEED_PREMISE_SD])))
)

REPLICATES = 1000
"""Seeds whose draws of trials are used, at random, the same draws for every arm: `draw_trials` is a
function of arm and seed, and another thousand for each arm would make arms differ by up to a tenth
of a point."""


@dataclass(frozen=True)
class Scenario:
    """The parameters of a simulated experiment; SDs in points of accuracy.

    seeds:     replicates of each arm
    rows, dev: number of test rows and of dev rows
    accuracy:  of an average training
    seed_sd:   SD of a training's expected accuracy over seeds
    treatment_seed_sd: the same for the TREATMENTS
    shape:     of the seeds' distribution: normal, heavy (t with 3 degrees of freedom), humps (two,
               three SDs of one hump away from the middle), skewed (minus a chi² with 3 degrees)
    collapse:  probability that a training of REASONING ends at chance level (.34)
    premises:  sizes of the groups of test rows: e-SNLI, alone, unequal, few
    config_sd: SD of the configurations' expected accuracies
    trials:    configurations that each replicate tries; 0 for a single configuration
    gain:      in logits: the BETTER arms have half of it more, the others half of it less
    """

    name: str
    seeds: int = 5
    rows: int = 1000
    dev: int = 1000
    accuracy: float = 0.6
    seed_sd: float = 2.0
    treatment_seed_sd: float = 2.0
    shape: str = "normal"
    collapse: float = 0.0
    premises: str = "e-SNLI"
    config_sd: float = 2.0
    trials: int = 3
    gain: float = 0.0

    def sd_of(self, arm: str) -> float:
        return self.treatment_seed_sd if arm in TREATMENTS else self.seed_sd

    def gain_of(self, arm: str) -> float:
        return self.gain / 2 if arm in BETTER else -self.gain / 2


@functools.cache
def _nodes() -> tuple[Floats, Floats]:
    nodes, weights = roots_hermitenorm(80)
    return nodes, weights / weights.sum()


def accuracy_at(level: Any) -> Any:
    """Expected accuracy over rows of a training with this level in logits."""
    nodes, weights = _nodes()
    return expit(np.asarray(level)[..., None] + SPREAD * nodes) @ weights


@functools.cache
def level_of(accuracy: float) -> float:
    """The level in logits that gives this accuracy."""
    return solve(lambda x: float(accuracy_at(x)) - accuracy, -15.0, 15.0)


def arm_effects(scenario: Scenario, arm: str) -> tuple[float, float, Floats]:
    """In logits: an arm's level, the SD of its seeds, and the effect of each of CONFIGS.

    The SDs are those of the scenario in points of accuracy where the arm is, gain included.
    """
    level = level_of(scenario.accuracy) + scenario.gain_of(arm)
    per_logit = 100 * float(accuracy_at(level + 1e-3) - accuracy_at(level - 1e-3)) / 2e-3
    effects = np.zeros(len(CONFIGS))
    if scenario.trials:
        ranked = ndtri((np.arange(len(CONFIGS)) + 0.5) / len(CONFIGS))
        effects[list(CONFIG_ORDER)] = -ranked / ranked.std() * scenario.config_sd / per_logit
    return level, scenario.sd_of(arm) / per_logit, effects


def draw_seeds(rng: np.random.Generator, shape: str, size: tuple[int, ...]) -> Floats:
    """Effects of seeds with mean 0 and SD 1."""
    if shape == "heavy":
        return rng.standard_t(3, size) / 3**0.5
    if shape == "humps":
        side = rng.integers(0, 2, size) * 2 - 1
        return (3 * side + rng.standard_normal(size)) / 10**0.5
    if shape == "skewed":
        return -(rng.chisquare(3, size) - 3) / 6**0.5
    return rng.standard_normal(size)


def seed_quantiles(shape: str, count: int = 400) -> Floats:
    """Equally likely values of `draw_seeds`."""
    parts = (np.arange(count) + 0.5) / count
    if shape == "heavy":
        values = student_t.ppf(parts, 3) / 3**0.5
    elif shape == "humps":
        half = ndtri((np.arange(count // 2) + 0.5) / (count // 2))
        values = np.concatenate([half - 3, half + 3]) / 10**0.5
    elif shape == "skewed":
        from scipy.stats import chi2

        values = -(chi2.ppf(parts, 3) - 3) / 6**0.5
    else:
        values = ndtri(parts)
    return values / values.std()


@functools.cache
def premises_by_rows() -> tuple[tuple[tuple[int, int], ...], str]:
    """Pairs (rows of a premise, number of such premises) of the e-SNLI test file, and a remark."""
    folder = Path(os.environ.get("TUTELAGE_SHARED_DATA", "../shared/data"))
    file = folder / "esnli" / "test.jsonl"
    if not file.is_file():
        known = tuple(PREMISES_BY_ROWS.items())
        return known, "generated with e-SNLI's frequencies (its file is missing)"
    with file.open(encoding="utf-8") as lines:
        rows = Counter(json.loads(line)["premise"] for line in lines)
    return tuple(sorted(Counter(rows.values()).items())), "drawn from the shared e-SNLI test file"


def draw_groups(rng: np.random.Generator, scenario: Scenario) -> Ints:
    """Each test row's premise as a number, in rising order."""
    rows = scenario.rows
    if scenario.premises == "alone":
        return np.arange(rows)
    if scenario.premises == "e-SNLI":
        sizes, counts = np.array(premises_by_rows()[0]).T
        drawn = rng.choice(sizes, rows, p=counts / counts.sum())
        return np.repeat(np.arange(rows), drawn)[:rows]
    # A few large groups and many small ones: about 45 effective of 150, about 8.5 of 12.
    count, spread = (150, 1.1) if scenario.premises == "unequal" else (12, 0.65)
    share = np.exp(spread * ndtri((np.arange(count) + 0.5) / count))
    edges = np.round(np.cumsum(share) / share.sum() * rows).astype(int)
    return np.repeat(np.arange(count), np.diff(edges, prepend=0))


@functools.cache
def drawn_trials(trials: int) -> Ints:
    """`draw_trials` of many replicates: REPLICATES × trials, as places in CONFIGS."""
    place = {config: number for number, config in enumerate(CONFIGS)}
    table = [
        [place[config] for config in draw_trials(CONFIGS, trials, seed, LABELS)]
        for seed in range(REPLICATES)
    ]
    return np.array(table)


def choices(
    rng: np.random.Generator, scenario: Scenario, arms: tuple[str, ...], count: int, seeds: int
) -> Ints:
    """The configuration that each replicate chooses: experiments × arms × seeds, places in CONFIGS.

    A trial's accuracy on dev is its expected accuracy and normal deviations, which have together
    the binomial variance: what all trainings of the arm share on these dev rows, which has no
    effect on a choice and is left out; what those of a configuration share, over all replicates of
    the experiment; and the training's own. It is a whole number of rows, so there are ties.
    """
    if not scenario.trials:
        return np.zeros((count, len(arms), seeds), dtype=np.int64)
    chosen = np.empty((count, len(arms), seeds), dtype=np.int64)
    experiments = np.arange(count)[:, None, None]
    for number, arm in enumerate(arms):
        drawn = rng.integers(0, REPLICATES, (count, seeds))
        tried = drawn_trials(scenario.trials)[drawn]
        level, seed_sd, effects = arm_effects(scenario, arm)
        shift = level + effects[tried] + seed_sd * draw_seeds(rng, scenario.shape, tried.shape)
        if arm == REASONING and scenario.collapse:
            collapsed = rng.random(tried.shape) < scenario.collapse
            shift = np.where(collapsed, level_of(0.34), shift)
        expected = _interpolated(shift)
        noise = np.sqrt(expected * (1 - expected) / scenario.dev)
        of_config = rng.standard_normal((count, len(CONFIGS)))[experiments, tried]
        own = rng.standard_normal(tried.shape)
        seen = expected + noise * (OF_CONFIG**0.5 * of_config + OF_TRAINING**0.5 * own)
        seen = np.clip(np.round(seen * scenario.dev) / scenario.dev, 0, 1)
        for experiment, (places, accuracies) in enumerate(
            zip(tried.tolist(), seen.tolist(), strict=True)
        ):
            for seed in range(seeds):
                pairs = zip(places[seed], accuracies[seed], strict=True)
                config = choose_trial([(CONFIGS[place], accuracy) for place, accuracy in pairs])
                chosen[experiment, number, seed] = _PLACE[config]
    return chosen


OF_CONFIG, OF_TRAINING = 0.1, 0.55
"""Parts of the variance of an accuracy on dev: of a configuration's and of a training's own."""


@functools.cache
def _accuracies() -> tuple[Floats, Floats]:
    levels = np.linspace(-20, 20, 4001)
    return levels, accuracy_at(levels)


def _interpolated(level: Floats) -> Floats:
    return np.interp(level, *_accuracies())


_PLACE: Mapping[Config | None, int] = {config: place for place, config in enumerate(CONFIGS)}


@dataclass(frozen=True)
class Batch:
    """Simulated experiments with the same groups of test rows.

    correct:   arm -> experiments × rows × seeds, 1.0 where right
    groups:    each row's premise
    collapsed: of REASONING, experiments × seeds
    """

    correct: dict[str, Floats]
    groups: Ints
    collapsed: Floats

    def units(self, arm: str) -> Floats:
        """Experiments × units × seeds."""
        return of_units(self.correct[arm], self.index)

    @property
    def index(self) -> Ints | None:
        return None if int(self.groups[-1]) + 1 == len(self.groups) else self.groups

    @property
    def effective(self) -> float:
        return effective_groups(self.index, len(self.groups))


def simulate(
    rng: np.random.Generator,
    scenario: Scenario,
    count: int,
    arms: tuple[str, ...] = ARMS,
) -> Batch:
    """Searches, fresh trainings and their predictions of the test rows."""
    seeds = scenario.seeds
    groups = draw_groups(rng, scenario)
    premises = int(groups[-1]) + 1
    chosen = choices(rng, scenario, arms, count, seeds)
    collapsed = rng.random((count, seeds)) < scenario.collapse

    def normal(*size: int) -> Floats:
        return rng.standard_normal((count, *size), dtype=np.float32)

    shared = PREMISE_SD * normal(premises)[:, groups] + ROW_SD * normal(scenario.rows)
    correct = {}
    for number, arm in enumerate(arms):
        level, seed_sd, effects = arm_effects(scenario, arm)
        of_seeds = seed_sd * draw_seeds(rng, scenario.shape, (count, seeds))
        shift = level + effects[chosen[:, number]] + of_seeds
        if arm == REASONING and scenario.collapse:
            shift = np.where(collapsed, level_of(0.34), shift)
        own = OWN_PREMISE_SD * normal(premises)[:, groups] + OWN_ROW_SD * normal(scenario.rows)
        of_seed = (SEED_PREMISE_SD * normal(premises, seeds))[:, groups]
        logit = (shared + own)[:, :, None] + of_seed + shift[:, None, :].astype(np.float32)
        right = rng.random(logit.shape, dtype=np.float32) * (1 + np.exp(-logit)) < 1
        correct[arm] = right.astype(np.float64)
    return Batch(correct, groups, collapsed)


def true_accuracy(scenario: Scenario, arm: str) -> tuple[float, float]:
    """Expected test accuracy of an arm's procedure, and its standard error from the simulation.

    The share of each configuration among the choices comes from a large simulation of the arm's
    search, without a gain; the expected accuracy of each, over rows and seeds, from quadrature.
    """
    level, seed_sd, effects = arm_effects(scenario, arm)
    of_seed = seed_sd * seed_quantiles(scenario.shape)
    by_config = np.array([accuracy_at(level + effect + of_seed).mean() for effect in effects])
    if scenario.collapse and arm == REASONING:
        by_config = (1 - scenario.collapse) * by_config + scenario.collapse * 0.34
    if not scenario.trials:
        return float(by_config[0]), 0.0
    plain = replace(scenario, name="", seeds=1, rows=1, premises="", gain=0.0)
    shares = _choice_shares(plain, arm)
    mean = float(shares @ by_config)
    variance = float(shares @ (by_config - mean) ** 2)
    return mean, (variance / SEARCHES) ** 0.5


SEARCHES = 40_000
"""Simulated searches of an arm, each with its own dev rows, to measure what it truly chooses."""


@functools.cache
def _choice_shares(scenario: Scenario, arm: str) -> Floats:
    """The share of each of CONFIGS among an arm's choices."""
    chosen = choices(np.random.default_rng(7), scenario, (arm,), SEARCHES, 1)
    return np.bincount(chosen.ravel(), minlength=len(CONFIGS)) / chosen.size
