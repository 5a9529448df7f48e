"""One process of `annotate.py`: annotate DATA against BASE_URL with tutelage, ledger in FOLDER.

python annotate_ours.py DATA BASE_URL CONCURRENCY FOLDER REPORT
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from annotate_measure import measure_and_report

from tutelage import NLI, Example, Ledger, TeacherSettings, annotate
from tutelage.runfolder import write_jsonl


def read_rows(data: Path) -> Iterator[Example]:
    with data.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            fields = {name: row[name] for name in NLI.fields}
            yield Example(row["uid"], fields, row["label"])


def annotate_rows(
    rows: Iterable[Example], ledger_path: Path, output: Path, settings: TeacherSettings
) -> int:
    """Annotate into `output`; the number of usable rationales."""
    with Ledger(ledger_path) as ledger:
        outcome = annotate(
            list(rows),
            strategy="informed_reasoning",
            teacher=settings,
            task=NLI,
            ledger=ledger,
        )
    write_jsonl(output, outcome.rationales)
    return outcome.counts["ok"]


def main(data: Path, base_url: str, concurrency: int, folder: Path, report: Path) -> None:
    settings = TeacherSettings(
        model="openai:m",
        base_url=base_url,
        provider="stub",  # its port changes, the answers do not
        concurrency=concurrency,
    )
    # One question first, so that what a process pays once (imports) is not on the clock.
    with tempfile.TemporaryDirectory() as aside:
        first = Example("first", {"premise": "A first one.", "hypothesis": "One."}, "neutral")
        annotate_rows([first], Path(aside, "ledger.sqlite"), Path(aside, "out.jsonl"), settings)
    measure_and_report(
        report,
        lambda: annotate_rows(
            read_rows(data), folder / "ledger.sqlite", folder / "rationales.jsonl", settings
        ),
        version("tutelage"),
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]), Path(sys.argv[5]))
