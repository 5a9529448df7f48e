"""Packs the test rows into the page: small numbers and texts, compressed, in base64.

The browser unpacks them (templates/rows.js) and shows a few at a time, so that a page with twenty
thousand rows stays small and opens fast.
"""

from __future__ import annotations

import json
import sys
import zlib
from array import array
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutelage.core.types import Example
from tutelage.report.run_files import RunFiles

MOST_ROWS = 50_000
"""Rows that a page can hold; of a larger file this many are shown, evenly spaced."""

MOST_RATIONALES = 500
"""Rationales by the students of each arm that a page holds, evenly spaced."""

MOST_BYTES = 9_000_000
"""Bytes of compressed rows: 12 MB in base64, so that the page stays below 15 MB."""

_LEAST_TEXT = 80


@dataclass(frozen=True, slots=True)
class PackedRows:
    """The rows in the page.

    numbers: little-endian unsigned 16-bit: the gold label of each row, then, arm by arm, each
             seed's label and each label's mean probability in thousandths (zlib, base64)
    texts:   JSON: names, and for each row what is not a number (zlib, base64)
    rows:    in the page
    total:   in the test set
    cut_to:  characters that texts were cut to; None where none was cut
    tags:    every tag of the rows, those with most rows first
    written: arm -> (rationales in the page, rationales in the run folder)
    """

    numbers: str
    texts: str
    rows: int
    total: int
    cut_to: int | None
    tags: Sequence[str]
    written: Mapping[str, tuple[int, int]]


def pack_rows(files: RunFiles, labels: Sequence[str], most_bytes: int = MOST_BYTES) -> PackedRows:
    """The rows of `files` (at least one, predicted by at least one arm), ready for the page.

    labels: of the task, in the order of the numbers

    Texts are cut, the longest first, until everything takes at most `most_bytes`; the students'
    rationales and the references are cut in the same way.
    """
    total = len(files.uids)
    kept = _spread(range(total), MOST_ROWS)
    numbers = zlib.compress(_numbers(files, kept), 6)
    tags = _tags(files.examples)
    content = _texts(files, labels, kept, tags)
    cut_to: int | None = None
    texts = _compressed(content)
    while len(numbers) + len(texts) > most_bytes and (cut_to is None or cut_to > _LEAST_TEXT):
        room = max(most_bytes - len(numbers), 1) / len(texts)
        cut_to = max(_cap(list(_all_texts(content)), 0.9 * room), _LEAST_TEXT)
        content = _cut(content, cut_to)
        texts = _compressed(content)
    return PackedRows(
        numbers=b64encode(numbers).decode(),
        texts=b64encode(texts).decode(),
        rows=len(kept),
        total=total,
        cut_to=cut_to,
        tags=tags,
        written={
            arm: (min(len(p.rationales), MOST_RATIONALES), len(p.rationales))
            for arm, p in files.predictions.items()
            if p.rationales
        },
    )


def _spread(values: Sequence[int], most: int) -> Sequence[int]:
    """At most `most` of the values, evenly spaced."""
    if len(values) <= most:
        return values
    return [values[i * len(values) // most] for i in range(most)]


def _numbers(files: RunFiles, kept: Sequence[int]) -> bytes:
    columns: list[Sequence[int]] = [files.gold]
    for arm in files.predictions.values():
        columns += [*arm.labels, *arm.probabilities]
    whole = len(kept) == len(files.uids)
    packed = array("H")
    for column in columns:
        packed.extend(column if whole else (column[row] for row in kept))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _texts(
    files: RunFiles, labels: Sequence[str], kept: Sequence[int], tags: Sequence[str]
) -> dict[str, Any]:
    place = {row: number for number, row in enumerate(kept)}
    rows = [files.examples[row] for row in kept] if files.examples else []
    tag = {name: number for number, name in enumerate(tags)}
    strategies = sorted({strategy for row in rows for strategy in row.references})
    references: dict[str, list[str | None]] = {
        strategy: [row.references.get(strategy) for row in rows] for strategy in strategies
    }
    # Synthetic rows give one text as both.
    reasons = [None if row.reason in row.references.values() else row.reason for row in rows]
    if any(reasons):
        references["the data's own"] = reasons
    arms = []
    for name, arm in files.predictions.items():
        shown = _spread([row for row in sorted(arm.rationales) if row in place], MOST_RATIONALES)
        written = {place[row]: arm.rationales[row] for row in shown}
        arms.append({"name": name, "seeds": arm.seeds, "rationales": written})
    return {
        "labels": labels,
        "arms": arms,
        "tags": tags,
        "uids": [files.uids[row] for row in kept],
        "fields": {
            name: [row.fields[name] for row in rows] for name in (rows[0].fields if rows else ())
        },
        "tagged": [[tag[name] for name in row.tags] for row in rows],
        "references": references,
        "number": None if len(kept) == len(files.uids) else list(kept),
    }


def _tags(examples: Sequence[Example]) -> list[str]:
    counts: dict[str, int] = {}
    for example in examples:
        for tag in example.tags:
            counts[tag] = counts.get(tag, 0) + 1
    return sorted(counts, key=lambda tag: (-counts[tag], tag))


def _compressed(content: Mapping[str, Any]) -> bytes:
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    # UTF-8 cannot hold half of a surrogate pair: it becomes `?`.
    return zlib.compress(text.encode("utf-8", "replace"), 6)


def _all_texts(content: Mapping[str, Any]) -> Iterator[str]:
    for column in (*content["fields"].values(), *content["references"].values()):
        yield from (text for text in column if text)
    for arm in content["arms"]:
        yield from (text for _, text in arm["rationales"].values())


def _cap(texts: Sequence[str], share: float) -> int:
    """The length to cut texts to so that `share` of their characters is left."""
    lengths = sorted(map(len, texts))
    target, below = share * sum(lengths), 0
    for number, length in enumerate(lengths):
        left = len(lengths) - number
        if below + length * left >= target:
            return int((target - below) / left)
        below += length
    return lengths[-1] if lengths else 0


def _cut(content: Mapping[str, Any], most: int) -> dict[str, Any]:
    def cut(text: str | None) -> str | None:
        return text if text is None or len(text) <= most else text[: most - 1] + "…"

    def columns(table: Mapping[str, Sequence[str | None]]) -> dict[str, list[str | None]]:
        return {name: [cut(text) for text in column] for name, column in table.items()}

    return {
        **content,
        "fields": columns(content["fields"]),
        "references": columns(content["references"]),
        "arms": [
            {
                **arm,
                "rationales": {
                    row: (seed, cut(text)) for row, (seed, text) in arm["rationales"].items()
                },
            }
            for arm in content["arms"]
        ],
    }
