"""Loads rows without a label, without those that the labelled rows already hold.

    pool = load_unlabelled("unlabelled.jsonl", task, layout, train=train, dev=dev, test=test)

What a teacher labels is trained on. So no row of dev or test may be in it, however its text was
changed on the way: in case, punctuation and white space, or in a few words. A row of train would be
paid for although its label is known, and a row that comes twice would count twice.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

from tutelage.config.layout_settings import LayoutSettings
from tutelage.core.errors import DataError
from tutelage.core.storage import digest_of_rows
from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.core.wording import joined, several
from tutelage.core.words import text_key
from tutelage.data.duplicates import compare_texts
from tutelage.data.faults import Faults
from tutelage.data.load import draw_sample, load_examples, open_source, parse_spec
from tutelage.data.row_ids import NotedIds, distinct_ids
from tutelage.data.row_parser import RowParser
from tutelage.data.source import Row, Source
from tutelage.data.synthetic import label_answers


@dataclass(frozen=True, slots=True)
class RemovedRows:
    """Rows of a file that are not in the pool, by the first reason that applies.

    unreadable: without a text, or damaged
    test, dev:  equal to a row of that split up to case, punctuation and white space, or nearly
                equal by overlap of word trigrams (`duplicates`)
    train:      equal to a gold training row up to case, punctuation and white space
    repeated:   equal to an earlier row of the pool, likewise
    """

    unreadable: int = 0
    test: int = 0
    dev: int = 0
    train: int = 0
    repeated: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return sum(getattr(self, field.name) for field in fields(self))


@dataclass(frozen=True, repr=False)
class Pool:
    """Rows without a label, in file order, and where they come from.

    rows:    each with the label "", without a reason or tags; ids differ from each other and from
             those of the labelled rows
    source:  the data spec as written, with environment variables not expanded
    sha256:  digest of `rows`
    read:    rows that the source holds, or those of the sample that the spec asks for
    removed: those of them that are not in `rows`
    ignored_labels: rows of the source that have a label, which nothing looks at
    notes:   what a reader should know of them, one sentence each
    """

    rows: tuple[Example, ...]
    source: str
    sha256: str
    read: int
    removed: RemovedRows
    ignored_labels: int
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return f"<{len(self.rows):,} unlabelled rows from {self.source!r}>"


def load_unlabelled(
    spec: str,
    task: Task,
    layout: LayoutSettings,
    *,
    train: Sequence[Example],
    dev: Sequence[Example],
    test: Sequence[Example],
    taken: frozenset[str] = frozenset(),
) -> Pool:
    """The rows that `spec` names, without those that train, dev or test have.

    spec:   as for `load_examples`; its rows need no label, and a label is not even read
    layout: how the file is read, as the labelled ones are
    taken:  ids that no row may get, in addition to those of train, dev and test

    An id that is taken, or comes twice, gets a number: in many files ids only number the rows.

    Raises UsageError for an invalid spec, and DataError for a file that cannot be read, has no
    readable row, or has none left.
    """
    rows, faults, labelled = _read(spec, task, layout)
    unreadable = 0 if faults is None else faults.count
    place = _places(rows, task, train=train, dev=dev, test=test)
    kept = [row for row, reason in zip(rows, place, strict=True) if reason is None]
    removed = RemovedRows(
        unreadable, *(place.count(name) for name in ("test", "dev", "train", "repeated"))
    )
    if not kept:
        raise DataError(
            f"data {spec!r}: none of its {several(len(rows) + unreadable, 'row')} is left "
            f"({_reasons(removed)}): expected unlabelled rows that train, dev and test do not have"
        )
    used = {row.uid for split in (train, dev, test) for row in split} | taken
    uids = distinct_ids((row.uid for row in kept), used)
    own = tuple(
        row if row.uid == uid else replace(row, uid=uid)
        for row, uid in zip(kept, uids, strict=True)
    )
    notes = []
    if labelled:
        notes.append(
            f"unlabelled: {several(labelled, 'row')} have a label in {spec}; it is ignored"
        )
    if removed.total:
        first = f"; the first: {faults.error()}" if faults is not None and unreadable else ""
        notes.append(
            f"unlabelled: {len(own):,} of {several(len(rows) + unreadable, 'row')} are used; left "
            f"out: {_reasons(removed)}{first}"
        )
    return Pool(
        own,
        spec,
        digest_of_rows(own),
        len(rows) + unreadable,
        removed,
        labelled,
        tuple(notes),
    )


def _read(
    spec: str, task: Task, layout: LayoutSettings
) -> tuple[list[Example], Faults | None, int]:
    """The readable rows, the faults of the others, and how many rows have a label."""
    parsed = parse_spec(spec)
    if parsed.scheme == "synthetic":
        generated = load_examples(spec, task, layout)
        return [without_label(row) for row in generated], None, len(generated)
    wanted, seed = parsed.sample()
    parser = RowParser(task, layout, labelled=False, ignores_labels=True)
    labelled = 0

    def counted(source: Source) -> Iterator[tuple[int, Row]]:
        nonlocal labelled
        for place, row in source.rows:
            if not isinstance(row, DataError) and parser.has_label(row):
                labelled += 1
            yield place, row

    source = open_source(spec, layout)
    source = replace(source, rows=counted(source))
    faults = Faults(source)
    rows: list[Example] = []
    for place, found in parser.each(source, NotedIds()):
        if isinstance(found, DataError):
            faults.add(place, found)
        elif found is not None:
            rows.append(without_label(found))
    if not rows:
        faults.raise_any()
        raise DataError("it holds no rows, expected unlabelled ones", path=source.name)
    if wanted is not None:
        rows = draw_sample(rows, wanted, seed, spec, "readable ones")
    return rows, faults, labelled


def without_label(row: Example) -> Example:
    """A row as somebody sees it who does not know its label: without reason and tags as well.

    A generated row keeps what the teacher `scripted` answers when it is asked for the label.
    """
    return replace(row, label="", reason=None, tags=(), references=label_answers(row))


def _places(
    rows: Sequence[Example],
    task: Task,
    *,
    train: Sequence[Example],
    dev: Sequence[Example],
    test: Sequence[Example],
) -> list[str | None]:
    """For each row the split that has its text, `repeated` for a copy of an earlier row, or None.

    A row of dev or test costs the evaluation its honesty, and one row too many that is left out
    costs nothing: so labelled rows are recognised by their letters and digits alone as well.
    """
    likeness = compare_texts([rows, train, dev, test], task, [2, 3])
    texts, gold = likeness.texts[0].tolist(), set(likeness.texts[1].tolist())
    near = {"test": likeness.duplicates(0, 3), "dev": likeness.duplicates(0, 2)}
    letters = {
        name: {_letters(row, task) for row in split}
        for name, split in (("test", test), ("dev", dev), ("train", train))
    }
    places: list[str | None] = []
    seen: set[int] = set()
    for number, (row, text) in enumerate(zip(rows, texts, strict=True)):
        bare = _letters(row, task)
        place = next(
            (
                name
                for name, of_split in letters.items()
                if bare in of_split or (text in gold if name == "train" else number in near[name])
            ),
            "repeated" if text in seen else None,
        )
        seen.add(text)
        places.append(place)
    return places


def _letters(row: Example, task: Task) -> tuple[str, ...]:
    """The row's fields without all that is not a letter, a digit or a mark on one, and without
    case; the two fields of a pair without a context in either order."""
    bare = [_bare(row.fields[name]) for name in task.fields]
    return tuple(sorted(bare) if len(bare) == 2 and task.context is None else bare)


def _bare(text: str) -> str:
    # Upper case first: a capital may stand for several small letters (Turkish has i with and
    # without a dot), which casefold keeps apart.
    folded = unicodedata.normalize("NFKC", _of_words(text)).upper().casefold()
    return _of_words(unicodedata.normalize("NFKC", folded)) or text_key(text)


def _of_words(text: str) -> str:
    """The letters, digits and marks of a text."""
    if text.isascii():
        return "".join(filter(str.isalnum, text))
    return "".join(c for c in text if unicodedata.category(c)[0] in "LMN")


def _reasons(removed: RemovedRows) -> str:
    """`3 are in test, 1 is in train and 2 could not be read`."""
    return joined(
        [
            f"{number:,} {words[number != 1]}"
            for number, words in (
                (removed.test, ("is in test", "are in test")),
                (removed.dev, ("is in dev", "are in dev")),
                (removed.train, ("is in train", "are in train")),
                (removed.repeated, ("repeats an earlier row", "repeat an earlier row")),
                (removed.unreadable, ("cannot be read", "cannot be read")),
            )
            if number
        ]
    )
