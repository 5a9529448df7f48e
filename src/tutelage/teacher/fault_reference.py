"""Writes the table of faults into docs/teacher.md: `python -m tutelage.teacher.fault_reference`."""

from __future__ import annotations

import sys
from pathlib import Path

from tutelage.core.storage import write_atomic
from tutelage.teacher.engine.fault_kinds import markdown
from tutelage.teacher.engine.fault_table import TABLE

BEGIN, END = "<!-- the table of faults -->\n", "<!-- its end -->\n"


def with_table(text: str) -> str:
    """The page with the current table between its two marks. Raises ValueError without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"expected the marks {BEGIN!r} and {END!r}")
    return f"{before}{begin}\n{markdown(TABLE)}\n{end}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/teacher.md")
    write_atomic(page, with_table(page.read_text(encoding="utf-8")))
