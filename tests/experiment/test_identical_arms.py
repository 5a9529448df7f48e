"""Identical arms rarely differ significantly, and different ones do: real trainings.

A smoke test of the instrument as a whole, from rows to a p-value; `make bench-evidence` is the
proof, on thousands of simulated experiments.

20 runs, each of two arms that are one and the same: same rows, settings, student, tokenizer; only
the seeds differ, three a side. Every run has rows of its own to train on and to read, and all 120
trainings have a seed of their own. None is used twice: two runs that share a training share its
luck, and 20 results would be fewer. In some of the runs a third arm has learnt wrong labels, on
the same rows, so that the instrument cannot pass by being blind.

The students are as small as they come. Of a premise they see one word, and most hypotheses begin
with the label's own name: else they would learn nothing in 24 steps. How much they make of it, and
what they guess for the other rows, is luck.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from tutelage.config.training_settings import TrainSettings
from tutelage.core.results import Comparison
from tutelage.core.task import NLI
from tutelage.core.types import Example, Prediction
from tutelage.data.synthetic import generate
from tutelage.evaluation.compare import ALPHA, compare
from tutelage.student.encoding.targets import build_training_examples
from tutelage.student.inference.score import score_labels
from tutelage.student.model.loading import load_student
from tutelage.student.model.scratch import tokenizer_for
from tutelage.student.training.trainer import train

pytestmark = pytest.mark.timeout(900)  # 132 trainings

RUNS, SEEDS, DIFFERENT_IN = 20, 3, 4
HINTED = 0.6
WRONG = dict(zip(NLI.labels, NLI.labels[1:] + NLI.labels[:1], strict=True))
SETTINGS = TrainSettings(
    objective="label",
    learning_rate=4e-3,
    epochs=100,
    max_steps=24,
    batch_size=12,
    warmup_steps=5,
    evaluate_every=24,
)
LONGER = SETTINGS.replace(max_steps=40, evaluate_every=40)
"""Of the arm that learns wrong labels, so that it learns them in every run."""

BySeed = dict[int, list[Prediction]]


@dataclass(frozen=True)
class SmallRun:
    """The predictions of one run's students for its test rows.

    arms:   "one" and "other", which are identical; in some runs "wrong"
    groups: uid -> key of the premise, the unit of the test
    """

    arms: dict[str, BySeed]
    groups: dict[str, str]

    def compared(self, arm: str, baseline: str) -> Comparison:
        """As the pipeline compares: by premise, over seeds."""
        (comparison,) = compare(self.arms, [(arm, baseline)], NLI, self.groups)
        return comparison


def _easier(rows: Sequence[Example], seed: int) -> list[Example]:
    """The rows in the form that these students see."""
    draw = random.Random(seed)
    easier = []
    for e in rows:
        hint = f"{e.label} " if draw.random() < HINTED else ""
        fields = {
            "premise": e.fields["premise"].split()[0],
            "hypothesis": hint + e.fields["hypothesis"],
        }
        easier.append(dataclasses.replace(e, fields=fields))
    return easier


def _wrong(rows: Sequence[Example]) -> list[Example]:
    return [dataclasses.replace(e, label=WRONG[e.label]) for e in rows]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[SmallRun]:
    """All trainings, one after the other, in this process."""
    folder = tmp_path_factory.mktemp("identical")
    words = build_training_examples(_easier(generate(200, 0), 0), NLI, None, "label")
    tokenizer = tokenizer_for(words, folder / "tokenizer")
    torch.set_num_threads(1)
    seeds = itertools.count()

    def arm(
        training: Sequence[Example],
        dev: Sequence[Example],
        test: Sequence[Example],
        settings: TrainSettings = SETTINGS,
    ) -> BySeed:
        rows = build_training_examples(training, NLI, None, "label")
        predictions = {}
        for seed in itertools.islice(seeds, SEEDS):
            student = load_student("scratch:t5-tiny", tokenizer=tokenizer, seed=seed)
            mine = settings.replace(seed=seed)
            train(student, rows, dev, NLI, mine, folder / f"seed-{seed}")
            predictions[seed] = score_labels(student, test, NLI)
        return predictions

    made = []
    for number in range(RUNS):
        drawn = [generate(n, 3 * number + i) for i, n in ((1, 96), (2, 6), (3, 150))]
        training, dev, test = (_easier(rows, number) for rows in drawn)
        arms = {"one": arm(training, dev, test), "other": arm(training, dev, test)}
        if number < DIFFERENT_IN:
            arms["wrong"] = arm(_wrong(training), _wrong(dev), test, LONGER)
        made.append(SmallRun(arms, {e.uid: NLI.group(e.uid, e.fields) for e in drawn[2]}))
    assert next(seeds) == SEEDS * (2 * RUNS + DIFFERENT_IN)
    return made


def _accuracy(predictions: Sequence[Prediction]) -> float:
    return sum(p.label == p.gold for p in predictions) / len(predictions)


def _significant_by_rows_alone(run: SmallRun) -> bool:
    """A paired t-test over the rows, on means over the seeds."""
    from scipy.stats import ttest_1samp

    right = {
        name: np.array([[p.label == p.gold for p in rows] for rows in run.arms[name].values()])
        for name in ("one", "other")
    }
    difference = right["one"].mean(axis=0) - right["other"].mean(axis=0)
    return bool(ttest_1samp(difference, 0).pvalue < ALPHA)


def test_seeds_make_different_students(runs: list[SmallRun]) -> None:
    """Else nothing below says anything: no luck, or nothing learnt."""
    for run in runs:
        of_seed = [rows for name in ("one", "other") for rows in run.arms[name].values()]
        sure = [[p.probabilities for p in rows] for rows in of_seed]
        assert all(one != other for one, other in itertools.combinations(sure, 2))
        assert len({tuple(p.label for p in rows) for rows in of_seed}) > SEEDS
        assert len({_accuracy(rows) for rows in of_seed}) > 1
        assert sum(map(_accuracy, of_seed)) / len(of_seed) > 0.4


def test_identical_arms_differ_significantly_in_at_most_3_of_20_runs(runs: list[SmallRun]) -> None:
    comparisons = [run.compared("one", "other") for run in runs]
    assert all(c.n == 150 and c.groups < 100 and c.seeds == SEEDS for c in comparisons)
    alarms = [c.p_adjusted < ALPHA for c in comparisons]
    assert alarms == [not c.ci95[0] <= 0 <= c.ci95[1] for c in comparisons]
    assert sum(alarms) <= 3
    # Not because there is nothing to be fooled by: a test that takes the students as they are, and
    # rows alone as a sample, breaks this very bound.
    assert sum(_significant_by_rows_alone(run) for run in runs) > 3


def test_an_arm_that_learnt_wrong_labels_is_found(runs: list[SmallRun]) -> None:
    for run in runs[:DIFFERENT_IN]:
        found = run.compared("wrong", "one")
        assert found.ci95[1] < 0
        assert found.p_adjusted < ALPHA
