"""Finds rows with the same or nearly the same text, in any task and for files of any size.

Two rows are
equal     where all their fields are equal up to case, punctuation and white space
swapped   where the two fields of a pair are equal so in the other order (in a task without a
          context: a premise is not a hypothesis)
near      where every field is so similar to its counterpart that a student who knows one row has
          seen the other

Two fields are near where the sets of their word trigrams have a Jaccard similarity of at least
`THRESHOLD`, or where they are equal. The rule is for each field, because rows may share one by
design: two hypotheses about one premise are different rows.

Why trigrams and this threshold: one word that is replaced removes three trigrams and adds three
others, so that a text needs 15 words to be near to what it becomes by that, and 12 for a word that
is added at an end. In a shorter text a single word may well be what decides the label ("was not
good"); it is a duplicate only where it is equal. docs/design.md has what was measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tutelage.core.task import Task
from tutelage.core.types import Example
from tutelage.core.words import text_key, words

Kind = Literal["equal", "swapped", "near"]

NGRAM = 3
"""Words in an n-gram. The edges of a text count as well: it has two n-grams more than words."""

THRESHOLD = 0.7
"""Jaccard similarity of two fields from which on they are near."""

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_ENTRIES_AT_A_TIME = 2_000_000
"""Pairs that are held in memory at a time, about."""


@dataclass(frozen=True)
class Likeness:
    """Which rows of several splits have the same or nearly the same text.

    texts:      for each split, the number of each row's text; equal rows have one number
    alike:      for each split, text -> a text of that split that is like it but not equal, or -1
    swapped:    for each split, whether that one is equal in the other order of its fields
    components: for each split, the group of each row: texts of that split that are like each other,
                directly or through others of them
    """

    texts: tuple[Ints, ...]
    alike: tuple[Ints, ...]
    swapped: tuple[Flags, ...]
    components: tuple[Ints, ...]

    def duplicates(self, split: int, of: int) -> dict[int, tuple[int, Kind]]:
        """Row of `split` -> a row of the split `of` that it is a duplicate of, and how."""
        first: dict[int, int] = {}
        for row, text in enumerate(self.texts[of].tolist()):
            first.setdefault(text, row)
        found: dict[int, tuple[int, Kind]] = {}
        for row, text in enumerate(self.texts[split].tolist()):
            if text in first:
                found[row] = first[text], "equal"
            elif (other := int(self.alike[of][text])) >= 0:
                found[row] = first[other], "swapped" if self.swapped[of][text] else "near"
        return found


def compare_texts(
    splits: Sequence[Sequence[Example]], task: Task, searched: Sequence[int]
) -> Likeness:
    """Compare every row with the rows of the splits `searched` (numbers of `splits`).

    Exact: no pair is overlooked of which at least one row is in a searched split. For 20,000 rows
    it takes seconds.
    """
    numbers: dict[tuple[str, ...], int] = {}
    unique: list[Example] = []
    texts = []
    for rows in splits:
        of_split = []
        for row in rows:
            key = tuple(text_key(row.fields[name]) for name in task.fields)
            of_split.append(numbers.setdefault(key, len(numbers)))
            if len(numbers) > len(unique):
                unique.append(row)
        texts.append(np.array(of_split, dtype=np.int64))
    size, keys = len(unique), list(numbers)
    member = [np.zeros(size, bool) for _ in splits]
    alike = [np.full(size, -1) for _ in splits]
    swapped = [np.zeros(size, bool) for _ in splits]
    labels = [np.arange(size) for _ in splits]
    for split in searched:
        member[split][texts[split]] = True

    def is_news(pairs: Ints) -> Flags:
        """Whether a pair would say something new: of many copies of one text, few do."""
        one, other = pairs[:, 0], pairs[:, 1]
        new = np.zeros(len(pairs), bool)
        for split in searched:
            mine, theirs = member[split][one], member[split][other]
            new |= mine & (alike[split][other] < 0) | theirs & (alike[split][one] < 0)
            new |= mine & theirs & (labels[split][one] != labels[split][other])
        return new

    def record(pairs: Ints) -> None:
        for split in searched:
            both = np.concatenate([pairs, pairs[:, ::-1]])
            both = both[member[split][both[:, 1]] & (alike[split][both[:, 0]] < 0)]
            new, place = np.unique(both[:, 0], return_index=True)
            alike[split][new] = both[place, 1]
            for text, other in both[place].tolist():
                swapped[split][text] = len(task.fields) == 2 and keys[text] == keys[other][::-1]
            labels[split] = _merged(labels[split], pairs[member[split][pairs].all(axis=1)])

    for pairs, are_near in _candidates(unique, task, np.logical_or.reduce(member)):
        # A few of each row's first: where these are near, most of the others say nothing new.
        most = 1
        while len(pairs := pairs[is_news(pairs)]):
            early = _place_in_row(pairs) < most
            record(pairs[early][are_near(pairs[early])])
            pairs, most = pairs[~early], 4 * most
    components = tuple(labels[split][of] for split, of in enumerate(texts))
    return Likeness(tuple(texts), tuple(alike), tuple(swapped), components)


def units_of(
    rows: Sequence[Example], task: Task, likeness: Likeness | None = None, split: int = 0
) -> list[str]:
    """The unit that each row belongs to: what rows share by design, or have in common by text.

    likeness: known already for these rows, as its split `split`

    Rows with one context (equal up to case, punctuation and white space) and rows of nearly the
    same text are one unit. Where no two rows are alike, it is `task.group`, the row's own context
    or id. Splits keep units whole, and statistics take them for the independent observations.
    """
    likeness = likeness or compare_texts([rows], task, [0])
    parent = list(range(len(rows)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    first: dict[tuple[str, str | int], int] = {}
    components = likeness.components[split].tolist()
    for row, (example, component) in enumerate(zip(rows, components, strict=True)):
        shared: list[tuple[str, str | int]] = [("text", component)]
        if task.context is not None:
            shared.append(("context", text_key(example.fields[task.context])))
        for key in shared:
            # The earlier row is the root, so that a unit is named after its first row.
            one, other = sorted((root(first.setdefault(key, row)), root(row)))
            parent[other] = one
    return [task.group(rows[i].uid, rows[i].fields) for i in map(root, range(len(rows)))]


def _merged(labels: Ints, pairs: Ints) -> Ints:
    """Labels of the texts after joining those of each pair."""
    joined = labels[pairs]
    joined = joined[joined[:, 0] != joined[:, 1]]
    if not len(joined):
        return labels
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = len(labels)
    graph = coo_array((np.ones(len(joined)), (joined[:, 0], joined[:, 1])), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)[labels]


def _candidates(
    rows: Sequence[Example], task: Task, searched: Flags
) -> Iterator[tuple[Ints, Callable[[Ints], Flags]]]:
    """Pairs of rows, one of which is searched, that may be near in all fields; in parts, sorted by
    their first row. With each part comes the function that says which of its pairs are.

    In a task without a context the two fields of a pair may be in either order.
    """
    if not searched.any():
        return
    fields = _field_ngrams(rows, task)
    orders = [list(range(len(fields)))]
    if len(fields) == 2 and task.context is None:
        orders.append([1, 0])
    targets = np.flatnonzero(searched)
    found = _rarest(fields, orders[0])[targets].T.tocsr()
    for order in orders:
        mine = _rarest(fields, order)
        are_near = partial(_all_near, fields, order)
        for start, end in _parts(mine @ np.diff(found.indptr)):
            product = (mine[start:end] @ found).tocoo()
            one, other = product.coords[0] + start, targets[product.coords[1]]
            # Each pair once: of two searched rows, the later one finds the earlier.
            once = np.where(searched[one], one > other, one != other)
            yield np.stack([one[once], other[once]], axis=1).astype(np.int64), are_near


def _place_in_row(pairs: Ints) -> Ints:
    """The number of pairs with the same first row before each pair; they are sorted by it."""
    place = np.arange(len(pairs))
    return place - np.searchsorted(pairs[:, 0], pairs[:, 0])


def _parts(work: npt.NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Parts of the rows with about equally much work each."""
    part = np.cumsum(work) // _ENTRIES_AT_A_TIME
    bounds = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist(), len(work)]
    return itertools.pairwise(bounds)


def _field_ngrams(rows: Sequence[Example], task: Task) -> list[Any]:
    """For each field a sparse matrix, rows × n-grams: 1 where the row's field has the n-gram."""
    from scipy.sparse import csr_array

    vocabulary: dict[str, int] = {}
    owners, hashes = [], []
    for name in task.fields:
        ids: list[int] = []
        lengths = []
        for row in rows:
            of_row = words(row.fields[name]) or [row.fields[name]]
            ids += [vocabulary.setdefault(word, len(vocabulary) + 1) for word in of_row]
            lengths.append(len(of_row))
        owner, hashed = _hashed(np.array(ids, dtype=np.uint64), np.array(lengths))
        owners.append(owner)
        hashes.append(hashed)
    distinct, columns = np.unique(np.concatenate(hashes), return_inverse=True)
    matrices = []
    start = 0
    for owner in owners:
        entries = np.unique(np.stack([owner, columns[start : start + len(owner)]]), axis=1)
        start += len(owner)
        ones = np.ones(entries.shape[1], dtype=np.int32)
        matrices.append(csr_array((ones, entries), shape=(len(rows), len(distinct))))
    return matrices


def _hashed(ids: npt.NDArray[np.uint64], lengths: npt.NDArray[Any]) -> tuple[Ints, Any]:
    """The n-grams of consecutive texts, as 64-bit hashes, and the text that each belongs to.

    ids: of all words, from 1. Before and after each text stand NGRAM - 1 zeros: edges count

    Among a million n-grams two share a hash once in thirty million times.
    """
    edge = NGRAM - 1
    padded = lengths + edge  # zeros after each text are those before the next one
    starts = np.cumsum(padded) - padded + edge
    words_at = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(len(ids))
    line = np.zeros(int(padded.sum()) + edge, dtype=np.uint64)
    line[words_at] = ids
    hashed = np.zeros(len(line) - edge, dtype=np.uint64)
    for offset in range(NGRAM):
        hashed = _mixed(hashed ^ line[offset : offset + len(hashed)])
    return np.repeat(np.arange(len(lengths)), padded), hashed


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele et al. 2014), which spreads every bit over all others."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _rarest(fields: Sequence[Any], order: Sequence[int]) -> Any:
    """The rarest n-grams of each row, of all fields together, those of different fields apart.

    Two sets with a Jaccard similarity of at least t share one of their |S| - ⌈t |S|⌉ + 1 rarest
    elements (Chaudhuri et al. 2006), so that pairs which do not need not be looked at. Where every
    field reaches t, so do all of them together.
    """
    from scipy.sparse import csr_array, hstack

    whole = hstack([fields[place] for place in order], format="csr")
    frequency = np.bincount(hstack(fields, format="csr").indices, minlength=whole.shape[1])
    sizes = np.diff(whole.indptr)
    row = np.repeat(np.arange(whole.shape[0]), sizes)
    sorted_by = np.lexsort((whole.indices, frequency[whole.indices], row))
    rank = np.arange(len(row)) - np.repeat(whole.indptr[:-1], sizes)
    kept = sorted_by[rank < np.repeat(sizes - np.ceil(THRESHOLD * sizes - 1e-9) + 1, sizes)]
    ones = np.ones(len(kept), dtype=np.int32)
    return csr_array((ones, (row[kept], whole.indices[kept])), shape=whole.shape)


def _all_near(fields: Sequence[Any], order: Sequence[int], pairs: Ints) -> Flags:
    """Which pairs are near in every field; the first row's fields are taken in `order`."""
    near = np.ones(len(pairs), bool)
    for place, field in enumerate(fields):
        left = np.flatnonzero(near)
        mine = fields[order[place]]
        one, other = pairs[left, 0], pairs[left, 1]
        common = np.asarray(mine[one].multiply(field[other]).sum(axis=1)).ravel()
        total = np.diff(mine.indptr)[one] + np.diff(field.indptr)[other]
        near[left] = common >= THRESHOLD / (1 + THRESHOLD) * total - 1e-9
    return near
