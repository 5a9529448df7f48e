"""One process of `annotate.py`: annotate DATA against BASE_URL with tutelage, ledger in FOLDER.

python annotate_ours.py DATA BASE_URL CONCURRENCY FOLDER REPORT
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from annotate_measure import measure_and_report

from tutelage import NLI, Example, Ledger, TeacherSettings
from tutelage.teacher.annotate import annotate_to_file


def read_rows(data: Path) -> Iterator[Example]:
    with data.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            fields = {name: row[name] for name in NLI.fields}
            yield Example(row["uid"], fields, row["label"])


def annotate_rows(
    rows: Callable[[], Iterable[Example]],
    ledger_path: Path,
    output: Path,
    settings: TeacherSettings,
) -> int:
    """Annotate into `output`; returns the number of usable rationales."""
    with Ledger(ledger_path) as ledger:
        summary = annotate_to_file(
            rows,
            output,
            strategy="informed_reasoning",
            teacher=settings,
            task=NLI,
            ledger=ledger,
        )
    return summary.counts["ok"]


def main(data: Path, base_url: str, concurrency: int, folder: Path, report: Path) -> None:
    settings = TeacherSettings(
        model="openai:m",
        base_url=base_url,
        provider="stub",  # its port changes, its answers do not
        concurrency=concurrency,
    )
    # One request first, so that one-time costs of the process (imports) are not measured.
    with tempfile.TemporaryDirectory() as aside:
        first = Example("first", {"premise": "A first one.", "hypothesis": "One."}, "neutral")
        annotate_rows(
            lambda: [first], Path(aside, "ledger.sqlite"), Path(aside, "out.jsonl"), settings
        )
    measure_and_report(
        report,
        lambda: annotate_rows(
            lambda: read_rows(data),
            folder / "ledger.sqlite",
            folder / "rationales.jsonl",
            settings,
        ),
        version("tutelage"),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
