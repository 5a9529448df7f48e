"""Before it pays, a run says which differences it can be expected to detect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tutelage import api
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.progress import Silent
from tutelage.experiment import run as runs
from tutelage.experiment.prepare import load_splits
from tutelage.planning.before_run import detectable_line

Make = Callable[..., dict[str, Any]]


def with_test_rows(small_recipe: Make, rows: int, **more: Any) -> Any:
    data = {
        "train": "synthetic:nli?n=40&seed=1",
        "dev": "synthetic:nli?n=20&seed=2",
        "test": f"synthetic:nli?n={rows}&seed=3",
    }
    return parse_recipe(small_recipe(data=data, **more))


@pytest.mark.parametrize(("rows", "few"), [(40, True), (6000, False)])
def test_few_rows_are_said_to_leave_small_gains_unknown(
    small_recipe: Make, tmp_path: Path, rows: int, few: bool
) -> None:
    recipe = with_test_rows(small_recipe, rows, seeds=list(range(10)))
    line = detectable_line(recipe, load_splits(recipe), tmp_path)
    assert line is not None and f"with {rows:,} test rows" in line
    assert ("cannot be told with these rows and seeds" in line) == few
    assert ("plan RECIPE --detect" in line) == few


def test_one_seed_has_a_line_and_a_finished_run_has_none(
    small_recipe: Make, tmp_path: Path
) -> None:
    recipe = with_test_rows(small_recipe, 40, seeds=[0])
    splits = load_splits(recipe)
    assert "no difference can be detected" in (detectable_line(recipe, splits, tmp_path) or "")
    (tmp_path / recipe.name).mkdir()
    (tmp_path / recipe.name / "results.json").write_text("{}", encoding="utf-8")
    assert detectable_line(recipe, splits, tmp_path) is None


def test_it_is_said_before_the_teacher_is_asked(
    small_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    class Seen(Silent):
        def note(self, line: str) -> None:
            seen.append(line)

    class Asked(Exception):
        pass

    def ask(*_: Any, **__: Any) -> None:
        raise Asked

    monkeypatch.setattr(runs, "annotate_arms", ask)
    with pytest.raises(Asked):
        api.run(with_test_rows(small_recipe, 40), runs=tmp_path, observer=Seen())
    assert [line for line in seen if line.startswith("power analysis: with 40 test rows")]
