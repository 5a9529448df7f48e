"""The power analysis of `tutelage plan`: checked by simulation, and measured in a run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1] / "report"))

import small_results

from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.errors import UsageError
from tutelage.core.storage import write_json, write_jsonl
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.evaluation.crossed import crossed_random_effects
from tutelage.experiment.prepare import Splits, load_splits
from tutelage.planning.power_analysis import PowerAnalysis, analyse_power

SmallRecipe = Callable[..., dict[str, Any]]

SIZES = (1, 2, 3) * 40
NOWHERE = Path("nowhere")


@pytest.fixture
def planned(small_recipe: SmallRecipe) -> Callable[..., tuple[Recipe, Splits]]:
    """The small recipe with 240 test rows of 120 premises, and the seeds given."""
    splits = load_splits(parse_recipe(small_recipe()))
    test = [
        Example(f"t{unit}-{n}", {"premise": f"p {unit}", "hypothesis": f"h {n}"}, NLI.labels[n])
        for unit, size in enumerate(SIZES)
        for n in range(size)
    ]

    def make(seeds: int = 3) -> tuple[Recipe, Splits]:
        recipe = parse_recipe(small_recipe(seeds=list(range(seeds))))
        return recipe, replace(splits, test=test)

    return make


Planned = Callable[..., tuple[Recipe, Splits]]


def plan(
    made: tuple[Recipe, Splits], runs: Path = NOWHERE, like: Path | None = None
) -> PowerAnalysis:
    found = analyse_power(*made, runs, like)
    assert found is not None
    return found


def simulated(
    rng: np.random.Generator, seeds: int, design: dict[str, float], true: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two arms with the design's variances: f D of rows and (1 - f) D of single answers, half from
    each arm, both shared within a premise as `within_group` says, and each arm's seeds."""
    groups = np.repeat(np.arange(len(SIZES)), SIZES)
    shared, own = design["within_group"] ** 0.5, (1 - design["within_group"]) ** 0.5

    def clustered(columns: int) -> np.ndarray:
        of_group = rng.normal(size=(len(SIZES), columns))[groups]
        return shared * of_group + own * rng.normal(size=(len(groups), columns))

    repeated = (design["repeated"] * design["disagreement"]) ** 0.5
    single = ((1 - design["repeated"]) * design["disagreement"] / 2) ** 0.5
    arm, baseline = (
        single * clustered(seeds) + design["seed_sd"] * rng.normal(size=seeds) for _ in range(2)
    )
    return true + repeated * clustered(1) + arm, baseline, groups


@pytest.mark.parametrize("seeds", [3, 5])
def test_the_test_detects_a_difference_of_that_size_four_times_in_five(
    planned: Planned, seeds: int
) -> None:
    found = plan(planned(seeds))
    size = found.expected.detectable
    assert size is not None
    assert found.alpha == pytest.approx(0.05 / 2)
    rng = np.random.default_rng(seeds)
    hits = 0
    for _ in range(600):
        arm, baseline, groups = simulated(rng, seeds, dict(found.design), size)
        # As in Holm's strictest step.
        tested = crossed_random_effects(arm, groups.tolist(), baseline=baseline)
        hits += tested.p_value < 0.05 / found.family
    assert hits / 600 == pytest.approx(0.8, abs=0.055)  # 3.4 standard errors


def test_it_counts_rows_units_seeds_and_comparisons(planned: Planned) -> None:
    found = plan(planned(5))
    assert (found.rows, found.units, found.unit) == (240, 120, "premise")
    assert (found.seeds, found.family) == (5, 2)
    assert found.measured_in is None
    headline = [s for s in found.assumed if s == found.expected]
    assert len(found.assumed) == 9
    assert len(headline) == 1
    assert found.assumed[4] == headline[0]  # the middle of the table
    by_size = sorted(found.assumed, key=lambda scenario: scenario.detectable or 1)
    # A new student: its seeds vary more than those of a pretrained one.
    assert (by_size[0].disagreement, by_size[0].seed_sd) == (0.15, 0.01)
    assert (by_size[-1].disagreement, by_size[-1].seed_sd) == (0.35, 0.05)
    assert [scenario.seeds for scenario in found.other_seeds] == [3, 10]
    three, ten = (scenario.detectable or 0 for scenario in found.other_seeds)
    expected = found.expected.detectable or 0
    assert ten < expected < three
    assert found.more_rows.rows == 480
    assert (found.more_rows.detectable or 1) < expected
    assert [s.seeds for s in plan(planned(12)).other_seeds] == [3, 5, 10, 24]


def test_the_printed_sentences(planned: Planned) -> None:
    found = plan(planned(5))
    first, *others = found.sentences()
    points = 100 * (found.expected.detectable or 0)
    assert first.startswith(
        "power analysis: with 240 test rows (120 premises), 5 seeds, 2 primary comparisons: "
        f"a true difference of about {points:.0f} points is detected four times in five"
    )
    assert any(line.startswith("  assumed: ") and "on 25% of rows" in line for line in others)
    assert any(
        "detectable in other designs: with 3 seeds " in line and "twice the rows" in line
        for line in others
    )
    assert sum("*" in line for line in others) == 1


def test_one_seed_detects_nothing(planned: Planned) -> None:
    found = plan(planned(1))
    assert found.expected.detectable is None
    assert all(scenario.detectable is None for scenario in found.assumed)
    first, *others = found.sentences()
    assert "1 seed, 2 primary comparisons: no difference can be detected" in first
    assert not any("*" in line for line in others)
    assert any("with 5 seeds" in line for line in others)


def test_without_comparisons_there_is_no_power_analysis(
    small_recipe: SmallRecipe, planned: Planned
) -> None:
    recipe = parse_recipe(small_recipe(arms=[{"name": "labels"}]))
    assert analyse_power(recipe, planned()[1], NOWHERE, None) is None


def finished(folder: Path, test: list[Example], seeds: int, *, rows: bool = True) -> Path:
    """A run in which `reasoning` is wrong on 10% of rows, and each other arm on these many and on
    the rows of 10% of the premises, whatever the seed."""
    rng = np.random.default_rng(1)
    arms = []
    premises = [row.fields["premise"] for row in test]
    hard = {premise: rng.random() for premise in dict.fromkeys(premises)}
    always = np.array([hard[premise] for premise in premises])
    for name in ("labels", "reasoning", "reasoning-shuffled"):
        confusion = [[0] * 3 for _ in range(3)]
        for seed in range(seeds):
            drawn = rng.random(len(test))
            wrong = (drawn < 0.1) if name == "reasoning" else (always < 0.1) | (drawn < 0.1)
            predictions = []
            for row, missed in zip(test, wrong, strict=True):
                gold = NLI.labels.index(row.label)
                said = (gold + 1) % 3 if missed else gold
                confusion[gold][said] += 1
                label = NLI.labels[said]
                shares = dict.fromkeys(NLI.labels, 0.0) | {label: 1.0}
                predictions.append(
                    {"uid": row.uid, "label": label, "gold": row.label, "probabilities": shares}
                )
            write_jsonl(folder / f"arms/{name}/lr-0.003_w-0.5/seed-{seed}/test.jsonl", predictions)
        table = tuple(map(tuple, confusion))
        arms.append(small_results.arm(name, seeds=tuple(range(seeds)), confusion=table))
    if rows:
        lines = [
            {"uid": e.uid, "fields": e.fields, "label": e.label, "group": e.fields["premise"]}
            for e in test
        ]
        write_jsonl(folder / "rows.jsonl", lines)
    pairs = [("reasoning", "labels", True), ("reasoning", "reasoning-shuffled", True)]
    pairs += [("labels", "reasoning-shuffled", False)]  # of another family
    results = small_results.results(
        arms=tuple(arms),
        comparisons=tuple(small_results.comparison(a, b, primary=first) for a, b, first in pairs),
    )
    write_json(folder / "results.json", results)
    return folder


def test_an_earlier_run_of_that_name_replaces_the_assumptions(
    planned: Planned, tmp_path: Path
) -> None:
    recipe, splits = planned(5)
    run = finished(tmp_path / "small", list(splits.test), 6)
    found = plan((recipe, splits), tmp_path)
    assert found.measured_in == str(run)
    assert found.assumed == ()
    # Exactly one of the two is right with probability 0.9 (0.19) + 0.1 (0.81).
    assert found.design["disagreement"] == pytest.approx(0.9 * 0.19 + 0.1 * 0.81, abs=0.05)
    assert 0.1 < found.design["repeated"] < 0.6
    assert 0.04 < found.design["within_group"] < 0.9
    assert found.design["seed_sd"] < 0.02
    assert found.expected.detectable != plan((recipe, splits)).expected.detectable
    assert any(f"as measured in {run}" in line for line in found.sentences())
    assert plan((recipe, splits), NOWHERE, run) == found
    # A run of an earlier version has no rows.jsonl: the premises are those of the recipe's rows.
    older = plan((recipe, splits), like=finished(tmp_path / "o", list(splits.test), 6, rows=False))
    assert older.design == found.design


def test_an_earlier_run_of_few_seeds_gives_a_rough_seed_sd_and_one_seed_none(
    planned: Planned, tmp_path: Path
) -> None:
    recipe, splits = planned(5)
    two = plan((recipe, splits), like=finished(tmp_path / "two", list(splits.test), 2))
    assert any("rough estimate" in remark for remark in two.remarks)
    one = plan((recipe, splits), like=finished(tmp_path / "one", list(splits.test), 1))
    assert any("the SD over seeds is assumed" in remark for remark in one.remarks)
    assert (one.design["seed_sd"], one.design["repeated"]) == (0.03, 0.5)
    assert one.design["disagreement"] != 0.25


def test_a_run_without_usable_predictions(planned: Planned, tmp_path: Path) -> None:
    recipe, splits = planned(5)
    with pytest.raises(UsageError, match=r"--like .*holds no results\.json"):
        plan((recipe, splits), like=tmp_path)
    run = finished(tmp_path / "small", list(splits.test), 2)
    for file in run.glob("arms/reasoning/*/*/test.jsonl"):
        file.unlink()
    with pytest.raises(UsageError, match="no predictions of arms that differ"):
        plan((recipe, splits), like=run)
    found = plan((recipe, splits), tmp_path)  # a run of no use is reported, not refused
    assert found.measured_in is None
    assert found.assumed
    assert any("no predictions of arms that differ" in line for line in found.sentences())


def test_rows_of_one_premise_are_one_unit(planned: Planned) -> None:
    recipe, splits = planned(3)
    counts = Counter(row.fields["premise"] for row in splits.test)
    apart = [Example(row.uid, row.fields | {"premise": row.uid}, row.label) for row in splits.test]
    assert plan((recipe, splits)).units == len(counts)
    alone = plan((recipe, replace(splits, test=apart)))
    assert alone.units == alone.rows
    assert "premises" not in next(iter(alone.sentences()))
    assert (alone.expected.detectable or 1) < (plan((recipe, splits)).expected.detectable or 0)


def test_the_assumed_seed_sds_are_those_of_the_kind_of_student(
    planned: Planned, small_recipe: SmallRecipe
) -> None:
    recipe, splits = planned(5)
    assert plan((recipe, splits)).seed_sds == (0.01, 0.03, 0.05)
    student = small_recipe()["student"] | {"model": "google-t5/t5-small", "epochs": 3}
    pretrained = parse_recipe(
        small_recipe(student={**student, "max_steps": 400, "batch_size": 1}, seeds=[0, 1, 2, 3, 4])
    )
    assert plan((pretrained, splits)).seed_sds == (0.005, 0.01, 0.015)
    hardly = parse_recipe(
        small_recipe(student={**student, "max_steps": 28, "batch_size": 1}, seeds=[0, 1, 2, 3, 4])
    )
    assert plan((hardly, splits)).seed_sds == (0.01, 0.03, 0.05)


def test_a_run_of_few_seeds_gives_a_range_and_one_of_many_a_number(
    planned: Planned, tmp_path: Path
) -> None:
    recipe, splits = planned(5)
    three = plan((recipe, splits), like=finished(tmp_path / "three", list(splits.test), 3))
    low, middle, high = three.seed_sds
    assert low < middle == three.design["seed_sd"] < high
    assert [s.seed_sd for s in three.possible] == [low, high]
    many = plan((recipe, splits), like=finished(tmp_path / "many", list(splits.test), 40))
    assert many.seed_sds[2] / max(many.seed_sds[0], 1e-9) < high / max(low, 1e-9) or low == 0


def test_another_run_with_the_same_student_and_labels_is_used(
    planned: Planned, tmp_path: Path
) -> None:
    recipe, splits = planned(5)
    finished(tmp_path / "other", list(splits.test), 6)
    found = plan((recipe, splits), tmp_path)
    assert found.measured_in == str(tmp_path / "other")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "results.json").write_text("{", encoding="utf-8")
    assert plan((recipe, splits), tmp_path).measured_in == str(tmp_path / "other")
