"""The code of docs/statistics.md, run as it stands on a run's folder, agrees with the results."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tutelage.core.results import load_results
from tutelage.core.storage import write_json, write_jsonl
from tutelage.core.task import Task
from tutelage.core.types import Prediction
from tutelage.evaluation.compare import compare

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
TASK = Task("yes or no", ("text",), ("yes", "no"))


def code_of_the_page() -> Callable[[Path, str, str], dict[str, float]]:
    [code] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    namespace: dict[str, object] = {}
    exec(compile(code, str(PAGE), "exec"), namespace)
    found = namespace["compare"]
    assert callable(found)
    return found


@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize("sizes", [(1,) * 90, (2,) * 40, (1, 2, 3, 9) * 8])
def test_the_page_computes_what_compare_does(
    tmp_path: Path, seeds: int, sizes: tuple[int, ...]
) -> None:
    rng = np.random.default_rng([seeds, len(sizes)])
    unit = np.repeat(np.arange(len(sizes)), sizes)
    rng.shuffle(unit)
    uids = [f"row-{number}" for number in range(len(unit))]
    rows = [
        {"uid": uid, "fields": {"text": uid}, "label": "yes", "group": f"premise {group}"}
        for uid, group in zip(uids, unit, strict=True)
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    hard = rng.normal(0, 1, len(sizes))[unit] + rng.normal(0, 1, len(unit))
    predictions: dict[str, dict[int, list[Prediction]]] = {}
    for arm, ease in (("labels", 0.0), ("taught", 0.5)):
        predictions[arm] = {}
        for seed in range(seeds):
            right = hard + rng.normal(0, 1, len(unit)) < ease + rng.normal(0, 0.2)
            made = [
                Prediction(uid, "yes" if hit else "no", {}, "yes")
                for uid, hit in zip(uids, right, strict=True)
            ]
            predictions[arm][seed] = made
            written = [{"uid": p.uid, "label": p.label, "gold": p.gold} for p in made]
            rng.shuffle(written)
            write_jsonl(tmp_path / f"arms/{arm}/c-{seed % 2}/seed-{seed}/test.jsonl", written)
    folders = [f"c-{seed % 2}/seed-{seed}" for seed in range(seeds)]
    arms = [
        {"name": arm, "folder_by_seed": [f"arms/{arm}/{f}" for f in folders]} for arm in predictions
    ]
    write_json(tmp_path / "results.json", {"arms": arms})
    groups = {row["uid"]: row["group"] for row in rows}
    [ours] = compare(predictions, [("taught", "labels")], TASK, groups)
    page = code_of_the_page()(tmp_path, "taught", "labels")
    assert page["difference"] == pytest.approx(ours.difference, abs=1e-9)
    assert page["standard_error"] == pytest.approx(ours.standard_error, abs=1e-9)
    assert (page["low"], page["high"]) == pytest.approx(ours.ci95, abs=1e-9)


def test_the_page_computes_what_a_run_found(finished: Path, tmp_path: Path) -> None:
    """A real run, in whose folder an earlier choice has left its predictions."""
    run = tmp_path / "run"
    shutil.copytree(finished, run, ignore=shutil.ignore_patterns("model"))
    left = run / "arms/labels/an-earlier-choice/seed-0/test.jsonl"
    left.parent.mkdir(parents=True)
    left.write_text("not to be read", encoding="utf-8")
    found = [c for c in load_results(run / "results.json").comparisons if c.standard_error]
    assert found
    for comparison in found:
        page = code_of_the_page()(run, comparison.arm, comparison.baseline)
        assert page["difference"] == pytest.approx(comparison.difference, abs=1e-9)
        assert page["standard_error"] == pytest.approx(comparison.standard_error, abs=1e-9)
        assert (page["low"], page["high"]) == pytest.approx(comparison.ci95, abs=1e-9)
