"""The simulated experiments of `evidence_worth.py`: arms of unequal rows, drawn anew by each seed.

There is a pool of gold rows and one of unlabelled rows, which a teacher has answered, some wrongly.
Each seed draws an order of its own of both; an arm of a seed trains on the first so many rows of
it, so that a larger arm contains a smaller one's rows, and all arms of a seed share theirs. A
training on the rows D predicts test row i correctly with probability

    1 / (1 + exp(-(level(n) + q(D) + f(D) . g_i + row_i + own_ai + seed_as)))

with level(n) the level in logits that the learning curve has at the number n of gold rows that D
counts for, q(D) the mean quality of its rows, f(D) the mean of what they are about (FEATURES
normals), and g_i what the test row is about; the rest as in `evidence_model`. A wrongly labelled
row counts with the sign reversed: in n, in q and in f. Random errors strike any row. Systematic
ones strike the rows that are about one thing: so all seeds and arms that draw the teacher's answers
are wrong about the same test rows.

The experiments of a batch have the same pool and answers: the truth that is claimed is the mean
over draws from that pool, measured here by other draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from evidence_model import (
    OWN_PREMISE_SD,
    OWN_ROW_SD,
    PREMISE_SD,
    ROW_SD,
    SEED_PREMISE_SD,
    SPREAD,
    Floats,
    Ints,
    accuracy_at,
    draw_groups,
    draw_seeds,
)
from evidence_model import Scenario as PlainScenario
from scipy.special import expit, roots_hermitenorm

from tutelage.evaluation.numeric import effective_groups

GOLD_ROWS, BOUGHT = 250, 750
"""Gold rows of an arm that is not of the gold curve, and the rows that a teacher labels for it."""
FEATURES, QUALITY_SD, FEATURE_SD = 3, 1.1, 1.5
"""What rows are about, and how much: in logits, of a single training row. So the SD of a sample of
500 rows is 0.05 logits, one point of accuracy."""

PEOPLE = 500
"""Size of the gold arm that stands for people in the set of possibly best arms."""
DRAWS = 300
"""Draws from the pool whose mean is the truth."""


def power_law(rows: Floats) -> Floats:
    return 0.88 - 0.23 * (rows / 250) ** -0.5


def s_shaped(rows: Floats) -> Floats:
    return 0.34 + 0.5 / (1 + (rows / 500) ** -1.5)


def flat(rows: Floats) -> Floats:
    return 0.7 - 0.04 * (rows / 250) ** -0.5


@dataclass(frozen=True)
class Worth:
    """The parameters of a simulated experiment; SDs in points of accuracy.

    seeds, rows: of each arm; test rows
    errors:     share of the unlabelled rows that the teacher labels wrongly
    systematic: whether the errors strike rows that are about one thing
    sizes:      of the gold curve
    pool:       gold rows and unlabelled rows to draw from
    curve:      accuracy at a number of gold rows
    seed_sd:    SD of a training's expected accuracy over seeds, apart from its rows
    sample:     factor of QUALITY_SD and FEATURE_SD
    one_order:  whether all seeds of an experiment draw the same rows, which no recipe does
    """

    name: str
    seeds: int = 5
    rows: int = 1000
    errors: float = 0.2
    systematic: bool = False
    sizes: tuple[int, ...] = (250, 500, 1000, 2000)
    pool: tuple[int, int] = (3000, 2000)
    curve: Callable[[Floats], Floats] = power_law
    seed_sd: float = 2.0
    sample: float = 1.0
    one_order: bool = False


@dataclass(frozen=True)
class Pool:
    """The rows that can be drawn: rows × (quality, features), in logits.

    signs: of each teacher, -1 for an unlabelled row that it labels wrongly, else 1
    """

    gold: Floats
    unlabelled: Floats
    signs: dict[str, Floats]


@dataclass(frozen=True)
class WorthBatch:
    """Experiments with one pool and its answers.

    correct: arm -> experiments × rows × seeds, 1.0 where right; the gold curve's are `gold SIZE`
    groups:  each test row's premise
    truth:   arm -> its expected accuracy, the mean over draws from the pool
    worth:   arm -> the number of gold rows at which the curve's expected accuracy is the arm's; 0
             and infinity where that is beyond the curve's sizes
    """

    correct: dict[str, Floats]
    groups: Ints
    truth: dict[str, float]
    worth: dict[str, float]

    @property
    def index(self) -> Ints | None:
        return None if int(self.groups[-1]) + 1 == len(self.groups) else self.groups

    @property
    def effective(self) -> float:
        return effective_groups(self.index, len(self.groups))


ANSWERS = {"teacher": "one", "rationale": "one", "shuffled": "one", "other teacher": "other"}
"""The arms that the teacher's answers were bought for, and whose they are."""


def gold_arm(size: int) -> str:
    return f"gold {size}"


def draw_pool(rng: np.random.Generator, scenario: Worth) -> Pool:
    sds = scenario.sample * np.array([QUALITY_SD, *[FEATURE_SD] * FEATURES])
    plain = [rng.standard_normal((rows, 1 + FEATURES)) for rows in scenario.pool]
    unlabelled = plain[1]
    shared = rng.random(len(unlabelled))
    signs = {}
    for number, teacher in enumerate(dict.fromkeys(ANSWERS.values())):
        # Half of the random errors are those of both teachers; of the systematic, other things.
        common = rng.random(len(unlabelled)) < 0.5
        score = np.where(common, shared, rng.random(len(unlabelled)))
        if scenario.systematic:
            score = unlabelled[:, 1 + number]
        signs[teacher] = np.where(score > np.quantile(score, 1 - scenario.errors), -1.0, 1.0)
    return Pool(plain[0] * sds, unlabelled * sds, signs)


def levels(
    scenario: Worth, pool: Pool, orders: tuple[Ints, Ints], sizes: Ints
) -> dict[str, Floats]:
    """Arm -> draws × (level in logits, features): what a training on each draw's rows learns.

    orders: draws × rows, of the gold and of the unlabelled rows
    sizes:  of the gold arms
    """
    gold, bought = pool.gold[orders[0][:, : sizes.max()]], orders[1][:, :BOUGHT]
    sums = gold.cumsum(axis=1)
    found = {
        gold_arm(size): _level(scenario, sums[:, size - 1] / size, np.full(len(gold), size))
        for size in sizes.tolist()
    }
    own, total = sums[:, GOLD_ROWS - 1], GOLD_ROWS + BOUGHT
    of_teacher = {}
    for teacher, sign in pool.signs.items():
        learnt = own + (pool.unlabelled[bought] * sign[bought][..., None]).sum(axis=1)
        counts = GOLD_ROWS + np.maximum(sign[bought].sum(axis=1), 0.0)
        of_teacher[teacher] = _level(scenario, learnt / total, counts)
    return found | {arm: of_teacher[teacher] for arm, teacher in ANSWERS.items()}


def _level(scenario: Worth, means: Floats, counts: Floats) -> Floats:
    shift = np.interp(scenario.curve(counts.astype(float)), *_levels_by_accuracy())
    return np.concatenate([(means[:, 0] + shift)[:, None], means[:, 1:]], axis=1)


def _levels_by_accuracy() -> tuple[Floats, Floats]:
    if not _LEVELS:
        at = np.linspace(-8, 8, 801)
        _LEVELS.append((accuracy_at(at), at))
    return _LEVELS[0]


_LEVELS: list[tuple[Floats, Floats]] = []


def draw_orders(
    rng: np.random.Generator, scenario: Worth, count: int, most: int
) -> tuple[Ints, Ints]:
    """Orders of the two pools, the first rows of each alone: count × rows."""
    gold, unlabelled = (
        rng.permuted(np.tile(np.arange(rows), (count, 1)), axis=1) for rows in scenario.pool
    )
    return gold[:, :most], unlabelled[:, :BOUGHT]


def seed_sd(scenario: Worth) -> float:
    """The SD of the seeds' own part, in logits."""
    accuracies, at = _levels_by_accuracy()
    per_logit = float(np.interp(np.interp(0.7, accuracies, at), at, np.gradient(accuracies, at)))
    return scenario.seed_sd / 100 / per_logit


def truths(
    rng: np.random.Generator, scenario: Worth, pool: Pool
) -> tuple[dict[str, float], dict[str, float]]:
    """Each arm's expected accuracy, and the number of gold rows that have it."""
    first, last = scenario.sizes[0], scenario.sizes[-1]
    grid = np.unique(np.r_[scenario.sizes, np.geomspace(first, last, 25).astype(int)])
    sizes = np.unique(np.r_[grid, GOLD_ROWS, PEOPLE])
    learnt = levels(scenario, pool, draw_orders(rng, scenario, DRAWS, last), sizes)
    nodes, weights = roots_hermitenorm(40)
    weights = weights / weights.sum()
    truth = {}
    for arm, each in learnt.items():
        spread = np.sqrt(SPREAD**2 + seed_sd(scenario) ** 2 + (each[:, 1:] ** 2).sum(axis=1))
        truth[arm] = float((expit(each[:, :1] + spread[:, None] * nodes) @ weights).mean())
    curve = np.maximum.accumulate([truth[gold_arm(size)] for size in grid.tolist()])
    worth = {
        arm: float(np.exp(np.interp(truth[arm], curve, np.log(grid), left=-np.inf, right=np.inf)))
        for arm in ANSWERS
    }
    return truth, worth


def simulate_worth(rng: np.random.Generator, scenario: Worth, count: int) -> WorthBatch:
    """A pool, its truth, and so many experiments with it."""
    pool = draw_pool(rng, scenario)
    truth, worth = truths(rng, scenario, pool)
    seeds = scenario.seeds
    sizes = np.unique(np.r_[scenario.sizes, GOLD_ROWS, PEOPLE])
    drawn = count if scenario.one_order else count * seeds
    orders = draw_orders(rng, scenario, drawn, scenario.sizes[-1])
    if scenario.one_order:
        orders = orders[0].repeat(seeds, axis=0), orders[1].repeat(seeds, axis=0)
    learnt = levels(scenario, pool, orders, sizes)
    groups = draw_groups(rng, PlainScenario("", rows=scenario.rows))
    premises = int(groups[-1]) + 1

    def normal(*size: int) -> Floats:
        return rng.standard_normal((count, *size), dtype=np.float32)

    shared = PREMISE_SD * normal(premises)[:, groups] + ROW_SD * normal(scenario.rows)
    about = normal(scenario.rows, FEATURES)
    correct = {}
    for arm, each in learnt.items():
        by_seed = each.reshape(count, seeds, 1 + FEATURES).astype(np.float32)
        own_seed = seed_sd(scenario) * draw_seeds(rng, "normal", (count, seeds))
        shift = by_seed[..., 0] + own_seed.astype(np.float32)
        own = OWN_PREMISE_SD * normal(premises)[:, groups] + OWN_ROW_SD * normal(scenario.rows)
        logit = (SEED_PREMISE_SD * normal(premises, seeds))[:, groups]
        logit += about @ by_seed[..., 1:].swapaxes(1, 2)
        logit += (shared + own)[:, :, None] + shift[:, None, :]
        right = rng.random(logit.shape, dtype=np.float32) * (1 + np.exp(-logit)) < 1
        correct[arm] = right.astype(np.float64)
    return WorthBatch(correct, groups, truth, worth)
