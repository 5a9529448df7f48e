"""The blocks of code of README and docs: where they are, and what they hold."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", *(
    str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))
))  # fmt: skip


class Block(NamedTuple):
    """page: relative to the project; language: "" for a block that is indented or names none."""

    page: str
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line, by which tables of blocks name it."""
        return self.text.strip().partition("\n")[0].strip()


_BLOCK = re.compile(
    r"^```(?P<language>\S*)[^\n]*\n(?P<fenced>.*?)^```$"
    r"|(?:(?<=\n\n)|\A)(?P<indented>(?:    [^\n]*\n|\n(?=    ))+)",
    re.MULTILINE | re.DOTALL,
)


def blocks(page: str, *languages: str) -> list[Block]:
    """The page's blocks, fenced or indented, in its order; languages: these alone."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        body = match["fenced"] if match["indented"] is None else match["indented"]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, match["language"] or "", body))
    return [block for block in found if not languages or block.language in languages]


def commands(block: str) -> list[list[str]]:
    """The words of each command of a block for the shell, without comments."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]
