"""Load labelled examples from a file, the hub, an ANLI release or the generator.

    load_examples("train.csv", NLI)
    load_examples("hf:facebook/anli#train_r1", NLI)
    load_examples("anli_v1.0#train_r1?n=2000&seed=1", NLI)
    load_examples("synthetic:nli?n=4000&seed=1&people=1", NLI)
    load_examples("pairs.parquet", NLI, columns={"premise": "text_a", "hypothesis": "text_b"})
    load_examples("notes.csv", NLI, LayoutSettings(encoding="cp1252", delimiter=";"))

A spec is `[SCHEME:]PLACE[?KEY=VALUE&…][#SPLIT]`; the query may also follow the split. `${NAME}` and
`${NAME:-default}` in it are environment variables. `?n=…&seed=…` takes a random sample,
kept in file order.
"""

from __future__ import annotations

import difflib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from tutelage.config.layout_settings import LayoutSettings, layout_of
from tutelage.core.collector import collector_paused
from tutelage.core.environment import expand_variables
from tutelage.core.errors import DataError, UsageError
from tutelage.core.storage import digest_of_rows
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.data import hub, readers, synthetic
from tutelage.data.row_ids import ExactIds, NotedIds
from tutelage.data.row_parser import RowParser
from tutelage.data.source import Source

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_ANLI_SPLIT = re.compile(r"(train|dev|test)_r([1-9])")


@dataclass(frozen=True, repr=False)
class Examples(Sequence[Example]):
    """Examples in file order, and where they come from.

    source:     the data spec as written, with environment variables not expanded
    unlabelled: rows left out because they have no label, counted before sampling
    sha256:     digest of the examples; equal rows from different files have equal digests
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

    def __repr__(self) -> str:
        counts = Counter(example.label for example in self.rows).most_common(5)
        shown = ", ".join(f"{label} ({count:,})" for label, count in counts)
        return f"<{len(self.rows):,} examples from {self.source!r}: {shown}>"

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each example: uid, its fields, label, reason."""
        import pandas

        return pandas.DataFrame(
            [{"uid": e.uid, **e.fields, "label": e.label, "reason": e.reason} for e in self.rows]
        )


@dataclass(frozen=True, slots=True)
class Spec:
    """The parts of a data spec; `scheme` is "" for a path."""

    written: str
    scheme: str
    place: str
    query: Mapping[str, str]
    split: str | None

    def number(self, key: str, *, least: int, default: int | None = None) -> int | None:
        """The whole number that the query gives for `key`, or `default`. Raises UsageError."""
        text = self.query.get(key)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]+", text) or int(text) < least:
            raise UsageError(
                f"data {self.written!r}: {key}={text!r}, expected a whole number from {least} up"
            )
        return int(text)

    def sample(self) -> tuple[int | None, int]:
        """The size of the sample that the query asks for, None for all rows, and its seed.

        Raises UsageError.
        """
        wanted, seed = self.number("n", least=1), self.number("seed", least=0, default=0)
        if wanted is None and "seed" in self.query:
            raise UsageError(f"data {self.written!r}: `seed` needs the size of the sample: add n=…")
        return wanted, seed or 0


def load_examples(
    spec: str,
    task: Task,
    layout: LayoutSettings | None = None,
    *,
    columns: Mapping[str, str] | None = None,
) -> Examples:
    """Load the labelled examples that `spec` names, each a valid row of `task`.

    layout: how the file is read
    columns: short for `LayoutSettings(columns=…)`: our name -> the source's column, for the task's
             fields, `label`, `uid`, `reason` and `tags`; an empty column name means "none" for the
             last three. The default is our own names, or ANLI's (`context` for the premise,
             `inference_tags` for the tags).

    A row without an id gets one computed from its content, so that equal rows of two files have
    equal ids; further copies within a file are numbered. Rows without a label are left out and
    counted in `unlabelled`.

    Raises UsageError for an invalid spec or mapping, MissingExtraError where a format's package is
    not installed, and DataError for faults in the data.
    """
    parsed, layout = parse_spec(spec), layout or layout_of(columns)
    if parsed.scheme == "synthetic":
        if layout.columns:
            raise UsageError(
                f"data {spec!r}: generated rows have no columns to map: remove `columns`"
            )
        rows, unlabelled = _generate(parsed, task), 0
    else:
        # Checked before any row is read, so that a wrong query costs no download.
        wanted, seed = parsed.sample()
        parser = RowParser(task, layout)
        with collector_paused():
            rows, unlabelled = parser.parse(_OPENERS[parsed.scheme](parsed, layout))
        if wanted is not None:
            rows = draw_sample(rows, wanted, seed, spec)
    with collector_paused():
        return Examples(tuple(rows), spec, unlabelled, digest_of_rows(rows))


@dataclass(frozen=True)
class ExampleStream:
    """Examples that are read again on each `open`, for files too large for memory.

    total:      number of examples
    unlabelled: rows left out because they have no label
    """

    open: Callable[[], Iterator[Example]]
    total: int
    unlabelled: int


def stream_examples(
    spec: str,
    task: Task,
    layout: LayoutSettings | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    labelled: bool = True,
) -> ExampleStream:
    """Like `load_examples`, for files of any size: check every row now, read it again on `open`.

    labelled: False: rows without a label are not left out; theirs is ""

    Memory does not grow with the rows, but for those of which the content occurs several times;
    samples and generated rows are held in memory.
    """
    parsed, layout = parse_spec(spec), layout or layout_of(columns)
    if parsed.scheme == "synthetic" or (parsed.query and labelled):
        examples = load_examples(spec, task, layout)
        return ExampleStream(lambda: iter(examples), len(examples), examples.unlabelled)
    parser, opener = RowParser(task, layout, labelled=labelled), _OPENERS[parsed.scheme]
    wanted, seed = parsed.sample()
    if wanted is not None:
        rows = [row for row in parser.read(opener(parsed, layout)) if row is not None]
        sampled = draw_sample(rows, wanted, seed, spec, "rows")
        return ExampleStream(lambda: iter(sampled), wanted, 0)
    noted = NotedIds()
    total = unlabelled = 0
    error: DataError | None = None
    try:
        for example in parser.read(opener(parsed, layout), noted):
            if example is None:
                unlabelled += 1
            else:
                total += 1
    except DataError as found:
        error = found
    given, computed = noted.repeated()

    def again() -> Iterator[Example]:
        ids = ExactIds(given | computed)
        return (e for e in parser.read(opener(parsed, layout), ids) if e is not None)

    if given:
        for _ in again():  # raises all errors, those of the ids among them
            pass
    if error is not None:
        raise error
    if not total and not labelled:
        raise DataError(f"data {spec!r}: holds no rows")
    if not total:
        load_examples(spec, task, layout)  # raises the error
    return ExampleStream(again, total, unlabelled)


def parse_spec(spec: str) -> Spec:
    """Split a data spec into its parts. Raises UsageError for an invalid one."""
    text = expand_variables(spec)
    if not text.strip():
        raise UsageError(
            f"data {spec!r}: is blank, expected a file, a folder#split, hf:NAME#SPLIT or "
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
        # `#` and `?` may come in either order. A file whose name contains one was found above.
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
            raise UsageError(f"data {spec!r}: gives {key!r} twice: remove one")
        values[key] = value
    return values


def _suggest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def draw_sample(
    rows: list[Example], wanted: int, seed: int, spec: str, kind: str = "labelled ones"
) -> list[Example]:
    """Draw `wanted` rows without replacement, kept in file order.

    kind: what the rows of the source are, for the message

    Raises DataError where there are too few.
    """
    if wanted > len(rows):
        raise DataError(f"data {spec!r}: asks for n={wanted} rows, there are {len(rows)} {kind}")
    rng = random.Random(f"tutelage/sample/{seed}")
    return [rows[index] for index in sorted(rng.sample(range(len(rows)), wanted))]


def _generate(spec: Spec, task: Task) -> list[Example]:
    if spec.place != "nli" or spec.split is not None:
        raise UsageError(f"data {spec.written!r}: expected synthetic:nli?n=4000&seed=1&people=1")
    fits = set(task.fields) == {"premise", "hypothesis"}
    if not fits or set(task.labels) != set(synthetic.LABELS):
        raise UsageError(
            f"data {spec.written!r}: holds premise, hypothesis and {', '.join(synthetic.LABELS)}; "
            f"task {task.name!r} needs {', '.join(task.fields)} and {', '.join(task.labels)}"
        )
    n = spec.number("n", least=1, default=synthetic.DEFAULT_ROWS)
    seed = spec.number("seed", least=0, default=0)
    people = spec.number("people", least=1, default=1)
    assert n is not None and seed is not None and people is not None
    return synthetic.generate(n, seed, people=people)


def open_source(spec: str, layout: LayoutSettings) -> Source:
    """Open what a data spec names as plain rows, all of them where it asks for a sample; generated
    rows have no source.

    Raises as `load_examples` does.
    """
    parsed = parse_spec(spec)
    if parsed.scheme not in _OPENERS:
        raise UsageError(f"data {spec!r}: expected a file, a folder#split or hf:NAME#SPLIT")
    return _OPENERS[parsed.scheme](parsed, layout)


def _open_path(spec: Spec, layout: LayoutSettings) -> Source:
    path = Path(spec.place)
    if not path.is_dir():
        return readers.open_file(path, layout, part=spec.split)
    release = _release_file(path, spec)
    if release is not None:
        return readers.open_file(release, layout)
    return readers.open_folder(path, spec.split, layout)


def _release_file(folder: Path, spec: Spec) -> Path | None:
    """The file of a split in an unpacked ANLI release: `#train_r1` is R1/train.jsonl. None where
    the folder is no such release."""
    found = sorted(
        f"{file.stem}_{file.parent.name.lower()}"
        for file in folder.glob("R[1-9]/*.jsonl")
        if file.stem in ("train", "dev", "test")
    )
    if not found:
        return None
    match = _ANLI_SPLIT.fullmatch(spec.split or "")
    if match is None or spec.split not in found:
        got = f"has no split {spec.split!r}" if spec.split else "is an ANLI release without #SPLIT"
        raise DataError(f"{got}: expected one of {', '.join(found)}", path=folder)
    return folder / f"R{match[2]}" / f"{match[1]}.jsonl"


def _open_hub(spec: Spec, layout: LayoutSettings) -> Source:
    return hub.open_hub(spec.place, spec.split, spec.query.get("config"), spec.written)


_QUERY_KEYS: Mapping[str, tuple[str, ...]] = {
    "": ("n", "seed"),
    "hf": ("n", "seed", "config"),
    "synthetic": ("n", "seed", "people"),
}
_OPENERS: Mapping[str, Callable[[Spec, LayoutSettings], Source]] = {
    "": _open_path,
    "hf": _open_hub,
}
