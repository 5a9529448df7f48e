"""Labelled examples out of whatever a person has: hub, file, ANLI release or the generator.

    load_examples("train.csv", NLI)
    load_examples("hf:facebook/anli#train_r1", NLI)
    load_examples("anli_v1.0#train_r1?n=2000&seed=1", NLI)
    load_examples("synthetic:nli?n=4000&seed=1&people=1", NLI)
    load_examples("pairs.parquet", NLI, columns={"premise": "text_a", "hypothesis": "text_b"})

A spec is `[SCHEME:]PLACE[?KEY=VALUE&…][#SPLIT]`; the query may also follow the split. `${NAME}` and
`${NAME:-default}` in it are environment variables. `?n=…&seed=…` takes a sample, in file order.
"""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

from tutelage.core.environment import expand_variables
from tutelage.core.errors import DataError, UsageError
from tutelage.core.storage import digest
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.data import readers, synthetic
from tutelage.data.row_parser import RowParser, Source

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_ANLI_SPLIT = re.compile(r"(train|dev|test)_r([1-9])")


@dataclass(frozen=True)
class Examples(Sequence[Example]):
    """Examples in file order, and where they come from.

    source:     the spec as it was written (environment variables not filled in)
    unlabelled: rows of the source that were left out because they carry no label, before sampling
    sha256:     digest of the examples: equal rows, equal digests, whatever file they came from
    """

    rows: tuple[Example, ...]
    source: str
    unlabelled: int
    sha256: str

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Example, ...]: ...
    def __getitem__(self, index: int | slice) -> Example | tuple[Example, ...]:
        return self.rows[index]

    def __iter__(self) -> Iterator[Example]:
        return iter(self.rows)


@dataclass(frozen=True, slots=True)
class Spec:
    """The parts of a data spec; `scheme` is "" for a path."""

    written: str
    scheme: str
    place: str
    query: Mapping[str, str]
    split: str | None

    def number(self, key: str, *, least: int, default: int | None = None) -> int | None:
        """The whole number that the query gives for `key`."""
        text = self.query.get(key)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]+", text) or int(text) < least:
            raise UsageError(
                f"data {self.written!r}: {key}={text!r}, expected a whole number from {least} up"
            )
        return int(text)


def load_examples(spec: str, task: Task, *, columns: Mapping[str, str] | None = None) -> Examples:
    """The labelled examples that `spec` names, each a valid row of `task`.

    columns: our name -> the source's, for the task's fields, `label`, `uid`, `reason` and `tags`;
             for the last three an empty name says "use none". Without it our own names are looked
             for, and ANLI's (`context` for the premise, `inference_tags` for the tags).

    A row without an id gets one made of its content, so that equal rows of two files are known as
    equal, and further copies of it within a file are numbered. Rows without a label are left out
    and counted in `unlabelled`.

    Raises UsageError for a spec or a mapping that cannot be meant, MissingExtraError where a
    format's package is not installed, and DataError for everything that is wrong with the data.
    """
    parsed = parse_spec(spec)
    if parsed.scheme == "synthetic":
        if columns:
            raise UsageError(
                f"data {spec!r}: generated rows have no columns to map: leave them out"
            )
        rows, unlabelled = _generate(parsed, task), 0
    else:
        # Checked before any row is read: a wrong query should not cost a download.
        wanted, seed = parsed.number("n", least=1), parsed.number("seed", least=0, default=0)
        if wanted is None and "seed" in parsed.query:
            raise UsageError(f"data {spec!r}: `seed` draws a sample and needs its size: add n=…")
        parser = RowParser(task, columns or {})
        rows, unlabelled = parser.parse(_OPENERS[parsed.scheme](parsed))
        if wanted is not None:
            rows = _sample(rows, wanted, seed or 0, spec)
    return Examples(tuple(rows), spec, unlabelled, digest(rows))


@dataclass(frozen=True)
class ExampleStream:
    """Examples that are read anew each time, for files that should not be held in memory.

    total: how many there are; unlabelled: rows left out because they carry no label
    """

    open: Callable[[], Iterator[Example]]
    total: int
    unlabelled: int


def stream_examples(
    spec: str, task: Task, *, columns: Mapping[str, str] | None = None
) -> ExampleStream:
    """`load_examples` for files of any size: every row is checked now, and read again on `open`.

    Samples and generated rows are held in memory all the same.
    """
    parsed = parse_spec(spec)
    if parsed.scheme == "synthetic" or parsed.query:
        examples = load_examples(spec, task, columns=columns)
        return ExampleStream(lambda: iter(examples), len(examples), examples.unlabelled)
    parser, opener = RowParser(task, columns or {}), _OPENERS[parsed.scheme]
    total = unlabelled = 0
    for example in parser.read(opener(parsed)):
        if example is None:
            unlabelled += 1
        else:
            total += 1
    if not total:
        load_examples(spec, task, columns=columns)  # says what is wrong
    return ExampleStream(
        lambda: (example for example in parser.read(opener(parsed)) if example is not None),
        total,
        unlabelled,
    )


def parse_spec(spec: str) -> Spec:
    """Take a spec apart. Raises UsageError for an unknown scheme, query key or variable."""
    text = expand_variables(spec)
    if not text.strip():
        raise UsageError(
            f"data {spec!r}: names nothing; expected a file, a folder#split, hf:NAME#SPLIT or "
            "synthetic:nli?n=4000&seed=1"
        )
    match = _SCHEME.match(text)
    if match is None or Path(text).exists():
        scheme, rest = "", text
    else:
        scheme, rest = match[1], text[match.end() :]
    if scheme not in _QUERY_KEYS:
        raise UsageError(
            f"data {spec!r}: unknown scheme {scheme + ':'!r}, expected hf:NAME#SPLIT, "
            f"synthetic:nli, or the path of a file{_suggest(scheme, [k for k in _QUERY_KEYS if k])}"
        )
    place, query, split = rest, "", None
    if scheme or not Path(rest).exists():
        # `#` and `?` may come in either order; a file whose name holds one was found above.
        place, *parts = re.split(r"(?=[?#])", rest)
        for part in parts:
            if part[0] == "?":
                query += ("&" if query else "") + part[1:]
            elif split is None:
                split = part[1:]
            else:
                raise UsageError(f"data {spec!r}: names two splits, expected one #SPLIT")
    return Spec(spec, scheme, place, _parse_query(query, scheme, spec), split or None)


def _parse_query(query: str, scheme: str, spec: str) -> dict[str, str]:
    known = _QUERY_KEYS[scheme]
    values: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key not in known:
            raise UsageError(
                f"data {spec!r}: unknown query key {key!r}, expected one of "
                f"{', '.join(known)}{_suggest(key, known)}"
            )
        if key in values:
            raise UsageError(f"data {spec!r}: gives {key!r} twice")
        values[key] = value
    return values


def _suggest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _sample(rows: list[Example], wanted: int, seed: int, spec: str) -> list[Example]:
    """`wanted` rows drawn without replacement, in their old order."""
    if wanted > len(rows):
        raise DataError(f"data {spec!r}: asks for n={wanted} rows, there are {len(rows)} labelled")
    rng = random.Random(f"tutelage/sample/{seed}")
    return [rows[index] for index in sorted(rng.sample(range(len(rows)), wanted))]


def _generate(spec: Spec, task: Task) -> list[Example]:
    if spec.place != "nli" or spec.split is not None:
        raise UsageError(f"data {spec.written!r}: expected synthetic:nli?n=4000&seed=1&people=1")
    fits = set(task.fields) == {"premise", "hypothesis"}
    if not fits or set(task.labels) != set(synthetic.LABELS):
        raise UsageError(
            f"data {spec.written!r}: holds premise, hypothesis and {', '.join(synthetic.LABELS)}; "
            f"task {task.name!r} wants {', '.join(task.fields)} and {', '.join(task.labels)}"
        )
    n = spec.number("n", least=1, default=synthetic.DEFAULT_ROWS)
    seed = spec.number("seed", least=0, default=0)
    people = spec.number("people", least=1, default=1)
    assert n is not None and seed is not None and people is not None
    return synthetic.generate(n, seed, people=people)


def _open_path(spec: Spec) -> Source:
    path = Path(spec.place)
    if path.is_dir():
        return readers.open_file(_release_file(path, spec))
    if spec.split is not None and path.exists():
        raise UsageError(f"data {spec.written!r}: a file has no splits: leave #{spec.split} out")
    return readers.open_file(path)


def _release_file(folder: Path, spec: Spec) -> Path:
    """The file of a split in an unpacked ANLI release: `#train_r1` is R1/train.jsonl."""
    found = sorted(
        f"{file.stem}_{file.parent.name.lower()}"
        for file in folder.glob("R[1-9]/*.jsonl")
        if file.stem in ("train", "dev", "test")
    )
    if not found:
        files = sorted(f.name for f in folder.iterdir() if f.suffix in readers.FORMATS)
        raise DataError(
            "is a directory, expected a file"
            + (f": name one of {', '.join(files[:5])}" if files else "")
            + f" (a folder for the `datasets` package is hf:{spec.place}#SPLIT)",
            path=folder,
        )
    match = _ANLI_SPLIT.fullmatch(spec.split or "")
    if match is None or spec.split not in found:
        got = f"has no split {spec.split!r}" if spec.split else "is an ANLI release without #SPLIT"
        raise DataError(f"{got}: expected one of {', '.join(found)}", path=folder)
    return folder / f"R{match[2]}" / f"{match[1]}.jsonl"


def _open_hub(spec: Spec) -> Source:
    return readers.open_hub(spec.place, spec.split, spec.query.get("config"), spec.written)


_QUERY_KEYS: Mapping[str, tuple[str, ...]] = {
    "": ("n", "seed"),
    "hf": ("n", "seed", "config"),
    "synthetic": ("n", "seed", "people"),
}
_OPENERS: Mapping[str, Callable[[Spec], Source]] = {"": _open_path, "hf": _open_hub}
