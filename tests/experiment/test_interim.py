"""Seeds that are added by a plan: when the run ends, and what it says."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "report"))

import small_results

from tutelage.config.recipe_file import parse_recipe
from tutelage.core.progress import Silent
from tutelage.core.results import ComparisonResult, InterimAnalyses
from tutelage.core.storage import read_json
from tutelage.evaluation.sequence import level_at, overall_p
from tutelage.evaluation.statistics import holm
from tutelage.experiment import interim
from tutelage.experiment.interim import (
    Analysis,
    analyses_of,
    corrected,
    describe_interim,
    is_decided,
)
from tutelage.experiment.run import run
from tutelage.report.answer import answer_sentences

Make = Callable[..., dict[str, Any]]
PLAN = (5, 10, 15, 20)
FEW = {
    "train": "synthetic:nli?n=36&seed=1",
    "dev": "synthetic:nli?n=12&seed=2",
    "test": "synthetic:nli?n=24&seed=3",
}
"""Rows for trainings of two steps."""


def _compared(*p_values: float, primary: bool = True, **more: Any) -> list[ComparisonResult]:
    return [
        small_results.comparison("a", str(place), 0.1, p=p, primary=primary, **more)
        for place, p in enumerate(p_values)
    ]


def test_a_list_of_seeds_is_one_look_and_changes_nothing(small_recipe: Make) -> None:
    (analysis,) = analyses_of(parse_recipe(small_recipe(seeds=[4, 2, 9])))
    assert (analysis.seeds, analysis.planned) == (3, False)
    compared = _compared(0.01, 0.04)
    assert list(corrected(compared, analysis)) == compared
    assert describe_interim(compared, analysis) is None


def test_the_analyses_of_a_plan(small_recipe: Make) -> None:
    recipe = parse_recipe(small_recipe(seeds={"start": 2, "step": 3, "at_most": 9}))
    assert [(analysis.seeds, analysis.plan) for analysis in analyses_of(recipe)] == [
        (seeds, (2, 5, 8, 9)) for seeds in (2, 5, 8, 9)
    ]
    assert recipe.with_first_replicates(5).replicates == [0, 1, 2, 3, 4]


def test_p_values_are_adjusted_for_the_analyses_and_then_for_their_family() -> None:
    analysis = Analysis(10, PLAN)
    compared = [*_compared(0.001, 0.02), *_compared(0.01, primary=False)]
    found = corrected(compared, analysis)
    first = holm([overall_p(p, 10, PLAN) for p in (0.001, 0.02)])
    second = [overall_p(0.01, 10, PLAN)]
    assert [c.p_adjusted for c in found] == pytest.approx([*first, *second])
    assert [replace(c, p_adjusted=0) for c in found] == [replace(c, p_adjusted=0) for c in compared]
    # A single comparison is significant exactly where its p-value is at most the analysis's level.
    for seeds in PLAN:
        level = level_at(seeds, PLAN)
        for factor in (0.99, 1.01):
            (alone,) = corrected(_compared(level * factor), Analysis(seeds, PLAN))
            assert (alone.p_adjusted < 0.05) == (factor < 1)


def test_it_is_decided_where_every_primary_difference_is() -> None:
    analysis = Analysis(5, PLAN)
    assert is_decided(corrected(_compared(1e-6, 1e-6), analysis), analysis)
    assert not is_decided(corrected(_compared(1e-6, 0.5), analysis), analysis)
    within = _compared(0.5, equivalence_p_value=1e-6)
    assert is_decided(corrected([*_compared(1e-6), *within], analysis), analysis)
    # One-sided tests are paid for by the analysis as well.
    barely = _compared(0.5, equivalence_p_value=0.04)
    assert not is_decided(corrected(barely, analysis), analysis)
    secondary = _compared(0.9, primary=False)
    assert is_decided(corrected([*_compared(1e-6), *secondary], analysis), analysis)
    assert is_decided([], analysis)


class _Stages(Silent):
    def __init__(self) -> None:
        self.titles: list[str] = []
        self.trained = 0

    def stage(self, title: str) -> None:
        self.titles.append(title)

    def job(self, progress: Any) -> None:
        self.trained += 1


@pytest.mark.usefixtures("once")
@pytest.mark.parametrize("decided_after", [3, None])
def test_a_run_ends_with_the_look_that_decides(
    small_recipe: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    decided_after: int | None,
) -> None:
    """Looks after 2, 3 and 4 seeds; these tiny students decide nothing by themselves."""

    def decide(comparisons: Sequence[ComparisonResult], analysis: Analysis) -> bool:
        return decided_after is not None and analysis.seeds >= decided_after

    monkeypatch.setattr(interim, "is_decided", decide)
    values = small_recipe(
        arms=[{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}],
        search={"learning_rate": [3e-3]},
        seeds={"start": 2, "step": 1, "at_most": 4},
        explain_rows=0,
        data=FEW,
    )
    values["student"] |= {"max_steps": 2}
    stages = _Stages()
    done = run(parse_recipe(values), runs=tmp_path, workers=1, observer=stages)
    results, last = done.results, decided_after or 4
    assert results.arms[0].seeds == tuple(range(last))
    assert results.interim == InterimAnalyses(
        (2, 3, 4), last, level_at(last, (2, 3, 4)), decided_after is not None
    )
    planned = [title for title in stages.titles if "interim analysis" in title]
    assert planned == [
        f"An interim analysis: {seeds} of at most 4 seeds" for seeds in (2, 3, 4) if seeds <= last
    ]
    assert not list(tmp_path.rglob(f"seed-{last}"))  # no seed is trained in advance
    # Each analysis's answer is kept, and none is called another choice.
    openings = read_json(done.folder / "manifest.json")["test_set_openings"]
    assert [len(opening["students"]) for opening in openings] == [
        seeds for seeds in (2, 3, 4) if seeds <= last
    ]
    assert all(len(opening["answer"]) == 1 for opening in openings)
    assert {other.change for other in results.other_answers} == {"planned analysis"}
    sentences = answer_sentences(results)
    (sentence,) = [s for s in sentences if "planned beforehand" in s]
    assert f"after 2, 3 and 4 seeds; this is the one after {last}." in sentence
    assert ("so no more seeds are added" in sentence) == (decided_after is not None)
    assert not any("another choice" in s or "outside of a plan" in s for s in sentences)
    assert "planned beforehand" in (done.folder / "report.md").read_text(encoding="utf-8")

    again = _Stages()
    repeated = run(parse_recipe(values), runs=tmp_path, workers=1, observer=again).results
    assert again.trained == 0
    assert (repeated.arms, repeated.comparisons, repeated.interim) == (
        results.arms, results.comparisons, results.interim
    )  # fmt: skip
    assert {other.change for other in repeated.other_answers} == {"planned analysis"}


@pytest.mark.usefixtures("once")
def test_a_plan_that_is_made_with_the_answer_known_is_not_believed(
    small_recipe: Make, tmp_path: Path
) -> None:
    values = small_recipe(
        arms=[{"name": "labels"}, {"name": "reasoning", "strategy": "informed_reasoning"}],
        search={"learning_rate": [3e-3]},
        explain_rows=0,
        data=FEW,
    )
    values["student"] |= {"max_steps": 2}
    run(parse_recipe(values), runs=tmp_path, workers=1)  # seeds 0 and 1, by a list
    later = values | {"seeds": {"start": 2, "step": 1, "at_most": 3}}
    results = run(parse_recipe(later), runs=tmp_path, workers=1).results
    assert results.interim is not None and results.interim.seeds == 3
    assert [other.change for other in results.other_answers] == ["seeds added"]
    assert any("outside of a plan" in s for s in answer_sentences(results))
