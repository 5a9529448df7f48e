"""Reads a run's results.json as a typed object and prints its primary comparisons.

    tutelage run quickstart
    python examples/read_results.py runs/quickstart

Every field is documented in tutelage/core/results. Accuracies and differences are fractions.
"""

import sys
from pathlib import Path

from tutelage import Results, load_results


def main(run: Path) -> None:
    """Print each primary comparison, and the share of seeds that agree with its sign."""
    results: Results = load_results(run / "results.json")
    accuracies = {arm.name: arm.test.accuracy_by_seed for arm in results.arms}
    for found in results.comparisons:
        if not found.primary:
            continue
        low, high = (100 * bound for bound in found.ci95)
        pairs = list(zip(accuracies[found.arm], accuracies[found.baseline], strict=True))
        agree = sum((arm - baseline) * found.difference > 0 for arm, baseline in pairs)
        print(
            f"{found.arm} - {found.baseline}: {100 * found.difference:+.1f} points "
            f"({low:+.1f} to {high:+.1f}), adjusted p {found.p_adjusted:.2g}; "
            f"{agree} of {len(pairs)} seeds agree"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
