"""Does the pipeline detect an effect that exists, and say where it comes from?

    make bench-effect                              about 25 minutes on two cores
    python benchmarks/find_effect.py --runs runs   keeps the run's folder and continues in it
    python benchmarks/find_effect.py --tiny        a rehearsal of a minute: it detects nothing

On `synthetic:nli` a new, tiny student gains much from the reason why a label is right. This is a
whole experiment with quickstart's data, student and seeds, five epochs in place of three, and every
control arm. It prints the arms and the tested differences, and exits with 1 unless informed
reasoning beat labels alone and each of its control arms: a positive difference with p below .05
after Holm's correction.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tutelage.cli.terminal import Bars, print_results
from tutelage.config.design_rules import CONTROLS
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import load_recipe, parse_recipe
from tutelage.core.results import Results
from tutelage.experiment.run import run
from tutelage.report.control_arms import MUST_BE_BEATEN
from tutelage.report.findings import findings, is_significant

LABELS, REASONING = "labels", "informed-reasoning"

TO_BEAT = tuple(control for control in CONTROLS if control in MUST_BE_BEATEN)

TINY: Mapping[str, Any] = {
    "data": {
        "train": "synthetic:nli?n=90&seed=1",
        "dev": "synthetic:nli?n=30&seed=2",
        "test": "synthetic:nli?n=45&seed=3",
    },
    "student": {"model": "scratch:t5-tiny", "max_steps": 4, "batch_size": 16},
    "search": {"learning_rate": [3e-3], "label_weight": [0.3]},
    "seeds": [0, 1],
}


def effect_recipe(tiny: bool = False) -> Recipe:
    """Quickstart's experiment with the one kind of rationale that helps on these data and every
    control arm; tiny: of a size that only shows that it runs."""
    values = load_recipe("quickstart").model_dump(mode="json", exclude_none=True)
    return parse_recipe(
        values
        | {
            "name": "find-effect",
            "arms": [{"name": LABELS}, {"name": REASONING, "strategy": "informed_reasoning"}],
            "controls": list(TO_BEAT),
            "explain_rows": 0,
            # Quickstart's students stop long before they have learnt what they can.
            "student": {**values["student"], "epochs": 5},
        }
        | (TINY if tiny else {})
    )


def faults(results: Results) -> list[str]:
    """What the results lack to show that informed reasoning works; empty where they show it.

    It has to beat labels alone and a control arm of each kind by the tested differences, and the
    report has to credit the content of the rationales.
    """
    kinds = {arm.name: arm.control for arm in results.arms}
    against = {c.baseline: c for c in results.comparisons if c.arm == REASONING}
    found = [
        f"{missing}: not compared"
        for missing in (LABELS, *TO_BEAT)
        if missing not in against and missing not in {kinds[name] for name in against}
    ]
    for name, c in against.items():
        if not (c.difference > 0 and is_significant(c)):
            found.append(
                f"{name}: not beaten ({100 * c.difference:+.1f} points, p {c.p_adjusted:.2g} "
                "after correction)"
            )
    concluded = [f.conclusion for f in findings(results) if f.gain.arm == REASONING]
    if concluded != ["content"]:
        found.append(f"the report's conclusion: {', '.join(concluded) or 'none'}, not content")
    if not results.finished:
        found.append("the run: not finished")
    return found


def main(tiny: bool, runs: Path, workers: int | None) -> int:
    began = time.perf_counter()
    with Bars() as bars:
        results = run(
            effect_recipe(tiny), runs=runs, ledger=runs / "ledger.sqlite", workers=workers,
            observer=bars,
        ).results  # fmt: skip
    print_results(results)
    against = faults(results)
    print(f"\n{time.perf_counter() - began:.0f} s")
    if not against:
        print(f"{REASONING} beat {LABELS} and every control")
        return 0
    print(f"{REASONING} DID NOT BEAT ALL:", *against, sep="\n  ")
    return 1


def arguments() -> argparse.Namespace:
    summary, description = (__doc__ or "").split("\n\n", 1)
    parser = argparse.ArgumentParser(
        description=summary, epilog=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="rehearse; it exits with 1")
    parser.add_argument("--runs", type=Path, help="keep the run's folder here; default: delete it")
    parser.add_argument(
        "--workers", type=int, help="trainings at the same time (default: as many as fit)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    given = arguments()
    if given.runs is not None:
        sys.exit(main(given.tiny, given.runs, given.workers))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(given.tiny, Path(temporary), given.workers))
