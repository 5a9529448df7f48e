"""The code of docs/statistics.md, run as it stands on a run's folder, agrees with the results."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tutelage.core.storage import write_jsonl
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
    groups = {row["uid"]: row["group"] for row in rows}
    [ours] = compare(predictions, [("taught", "labels")], TASK, groups)
    page = code_of_the_page()(tmp_path, "taught", "labels")
    assert page["difference"] == pytest.approx(ours.difference, abs=1e-9)
    assert page["standard_error"] == pytest.approx(ours.standard_error, abs=1e-9)
    assert (page["low"], page["high"]) == pytest.approx(ours.ci95, abs=1e-9)
