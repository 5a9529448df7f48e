"""The glossary of docs/design.md, checked against what users and readers see: names, text, docs.

    python tests/test_words.py src/tutelage/teacher    lists what a folder says in other words

A rule is a pattern, the words to write instead, and the contexts in which the pattern is right.
"""

from __future__ import annotations

import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

SKIPPED = {"test_words.py"}
"""Files that have to name what they forbid; docs/design.md's glossary is cut out below."""


SUFFIXES = {".py", ".md", ".ipynb", ".j2", ".js", ".yaml", ".toml", ".css", ".sh"}


class Rule(NamedTuple):
    """pattern: what is not written; instead: what is; right: contexts in which it is right."""

    pattern: str
    instead: str
    right: tuple[str, ...] = ()


RULES = (
    Rule(
        r"\breadings?\b",
        "evaluation",
        (
            r"[Rr]eading (the |a |an |from |of |its |their |them|it|one |files?|rows?|recipes?|"
            r"data|lines?|and writing|label|time)",
            r"\b(while|by|before|after|for|of|when|without|on|from|is|are|in) reading\b",
        ),
    ),
    Rule(
        r"\b(read|reads|reading) (dev|test|the dev|the test)\b",
        "evaluate on",
        (r"the (dev|test) (file|rows|split|data|examples|set from)",),
    ),
    Rule(
        r"\btold\b",
        "significant, detected; said, reported",
        (r"as told in", r"(can(not)? be|is|be) told"),
    ),
    Rule(r"\bbeside\b|\bbesides\b", "compared with, next to"),
    Rule(r"\bheld against\b|\bhold against\b", "compared with"),
    Rule(r"\bworth is in question\b|\bput to the question\b", "treatment arm"),
    Rule(
        r"\bpass(es)?\b",
        "micro-batch",
        (
            r"(forward|backward|single|one|first|second|every|each|same) pass(es)?\b",
            r"\bpass(es)?\b( \w+)? (on|in|through|it|them|the|a|an|over|by|as|all|tests?|to|its|"
            r"their|`|--|this|what|every|no|None)",
            r"^\s*pass\b",
            r": pass\b",
            r"SD [0-9.]+ +pass$",  # a benchmark's printed table
            r"\b(to|must|not|and|tests|may|can|should|will|checks) pass\b",
        ),
    ),
    Rule(r"\bstrands?\b", "sequence"),
    Rule(r"\blanes?\b", "thread"),
    Rule(r"\b(deeper|closer|second|further|first) looks?\b|\bthe looks\b", "diagnostics"),
    Rule(r"\bforesight\b|\bforesees?\b|\bforeseen\b", "power analysis"),
    Rule(r"\boutcomes?\b", "result"),
    Rule(r"\bgovernors?\b", "rate limits"),
    # A teacher's own word for its answer, in the pattern that finds labels, is right.
    Rule(
        r"\bverdicts?\b",
        "action; retry policy",
        (r"answer\|verdict\|classification", r"\"verdict\""),
    ),
    Rule(
        r"\btickets?\b",
        "request",
        (
            r"\"ticket(_id)?\"",
            r"[Ss]upport tickets?",
            r"[Nn]ew ticket",
            r"Ticket (NUMBER|number)",
            r"tickets\.",
            r"name: tickets",
        ),
    ),
    Rule(
        r"\bquestions?\b",
        "request, prompt",
        (
            r"five (W )?(\S+ )?questions?",
            r"\bW[- ]questions?\b",
            r"questions? that begin",
            r"five W",
            # Column of the ledger, and words of a prompt: they do not change.
            r"questions (BLOB|= NULL|IS NOT NULL)|price, questions\)|SELECT questions, price",
            r"the question word",
            r"\"question[12]?\"|\bthe question\"",  # columns of data sets, and the field of a task
            r"passage and question",
        ),
    ),
    Rule(r"\baccounts\b", "charges"),
    # What an experiment's arms spend is money, and no budget: `spend`.
    Rule(
        r"\bmoney\b",
        "budget, cost",
        (
            r"([Tt]he|same|equal|[Ww]hat|teacher's) money\b",
            r"\bmoney (is|buys|bought)\b",
            r"costs money",
        ),
    ),
    Rule(r"\bdeparts?\b|\bdeparted\b|\bleaves? (a|the|this) rule", "departure from the protocol"),
    Rule(
        r"\b(is|are|was|were) no (?!(longer|more|less|better|worse|different|larger|smaller|such|"
        r"one|way|need|doubt|reason|lower|higher|wider|narrower|further|other|part|help|interval|"
        r"difference|key|price|label|test|room|use|rationale|known)\b)\w+",
        "is not a …",
        (r"\b([Tt]here|[Ww]here|[Ii]f there) (is|are|was|were) no\b", r"that there (is|are) no\b"),
    ),
    Rule(r"\bis no (YAML|JSON|key|label|number|recipe|model|field|file|folder)\b", "is not a …"),
)


class Hit(NamedTuple):
    """Where a rule is broken, and by what."""

    place: str
    found: str
    instead: str
    line: str

    def __str__(self) -> str:
        return f"{self.place}: {self.found!r} ({self.instead}): {self.line.strip()[:110]}"


def hits_in(text: str, place: str) -> Iterator[Hit]:
    """Each place in `text` that a rule forbids. A name counts as its words, however joined."""
    # CamelCase and snake_case are words as well.
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ")
    lines = text.split("\n")
    for rule in RULES:
        # Most rules match nowhere in most files.
        if re.search(rule.pattern, words, re.IGNORECASE) is None:
            continue
        for number, plain in enumerate(words.split("\n"), 1):
            found = list(re.finditer(rule.pattern, plain, re.IGNORECASE))
            if not found:
                continue
            allowed = [m.span() for right in rule.right for m in re.finditer(right, plain)]
            for match in found:
                if not any(a <= match.start() < b for a, b in allowed):
                    line = lines[number - 1]
                    yield Hit(f"{place}:{number}", match.group(), rule.instead, line)


def _without_keywords(source: str) -> str:
    """Python source without its keywords `pass`, in the same lines."""
    if re.search(r"\bpass\b", source) is None:
        return source
    lines = source.split("\n")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.NAME and token.string == "pass":
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + "    " + line[column + 4 :]
    return "\n".join(lines)


def hits(path: Path) -> list[Hit]:
    """What a file says in words that the glossary replaces."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = _without_keywords(text)
    place = str(path.resolve().relative_to(ROOT.resolve()))
    if place == "docs/design.md":
        text = re.sub(r"\n\| write \| not \|\n(\|.*\n)+", "\n", text)
    return list(hits_in(text, place))


def files(*places: str) -> Iterator[Path]:
    """Every file below `places` that people read."""
    for place in places:
        root = ROOT / place
        for path in [root] if root.is_file() else sorted(root.rglob("*")):
            named = path.name not in SKIPPED and "__pycache__" not in path.parts
            if named and path.suffix in SUFFIXES:
                yield path


EVERYWHERE = (
    *("src", "tests", "docs", "benchmarks", "examples", "scripts"),
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md"),
)


def test_the_glossary_is_kept() -> None:
    found = [hit for path in files(*EVERYWHERE) for hit in hits(path)]
    assert not found, "\n".join(str(hit) for hit in found)


if __name__ == "__main__":
    listed = [hit for path in files(*(sys.argv[1:] or EVERYWHERE)) for hit in hits(path)]
    print("\n".join(str(hit) for hit in listed))
    print(f"{len(listed)} places")
