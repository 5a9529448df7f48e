"""Annotates in a process of its own, for tests that kill it: BASE_URL LEDGER ROWS [BUDGET_USD].

BASE_URL may be several, with commas between them. With a budget, a million tokens cost a dollar.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tutelage.config.teacher_settings import TeacherSettings
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.strategies.lookup import get_strategy
from tutelage.teacher.annotate import Options, annotate
from tutelage.teacher.ledger.store import Ledger

base_url, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
paid = (
    {"budget_usd": float(sys.argv[4]), "price": {"input": 1, "output": 1}, "max_tokens": 20}
    if sys.argv[4:]
    else {}
)
rows = [
    Example(f"r{i}", {"premise": f"Premise {i}.", "hypothesis": "It is so."}, "neutral")
    for i in range(count)
]
with Ledger(Path(path)) as ledger:
    annotation = annotate(
        rows,
        strategy=get_strategy("informed_reasoning"),
        teacher=TeacherSettings(
            model="openai:m",
            base_url=tuple(base_url.split(",")) if "," in base_url else base_url,
            concurrency=4,
            **paid,
        ),
        task=NLI,
        ledger=ledger,
        options=Options(on_progress=lambda progress: print(progress.done, flush=True)),
    )
print("end", annotation.requests, annotation.cached, annotation.counts["ok"], flush=True)
