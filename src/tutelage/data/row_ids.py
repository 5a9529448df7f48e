"""Ids of rows: compute them, find those that come twice, and number rows of equal content.

While rows are read, one of these learns their ids in order:

`ExactIds`  knows at once whether an id came before; it holds every id in memory
`NotedIds`  finds out at the end which may have come twice; it holds a bounded number in memory
"""

from __future__ import annotations

import array
import io
import json
import tempfile
from collections import Counter
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from contextlib import ExitStack
from hashlib import sha256
from itertools import repeat
from operator import neg
from typing import Protocol

from tutelage.core.errors import RunFolderError

_HELD = 1 << 18
"""Hashes in memory: 2 MB."""
_PARTS = 64
"""Files into which further hashes go, so that a part of the hashes is sorted at a time."""


_quoted = json.encoder.encode_basestring_ascii


def content_id(fields: Mapping[str, str], label: str) -> str:
    """An id computed from the row's content: equal rows have equal ids."""
    return content_ids({name: (value,) for name, value in fields.items()}, (label,))[0]


def content_ids(fields: Mapping[str, Sequence[str]], labels: Sequence[str]) -> list[str]:
    """The `content_id` of each row. fields: the values of all rows by name."""
    # The text that json.dumps([sorted(pairs of names and values), label]) makes, in a fraction of
    # its time.
    between, parts = "[[", list[Iterable[str]]()
    for name, values in sorted(fields.items()):
        parts += [repeat(f"{between}[{_quoted(name)}, "), map(_quoted, values)]
        between = "], "
    parts += [repeat("]], " if fields else "[[], "), map(_quoted, labels), repeat("]")]
    texts = map("".join, zip(*parts))  # noqa: B905  of what is repeated there is no end
    return [sha256(text).hexdigest()[:16] for text in map(str.encode, texts)]


def distinct_ids(uids: Iterable[str], taken: Collection[str]) -> list[str]:
    """The ids in their order, each one that is taken, or came before, with a number: `7-2`."""
    used, copies = set(taken), Counter[str]()
    found = []
    for uid in uids:
        own = uid
        while own in used:
            copies[uid] += 1
            own = f"{uid}-{copies[uid] + 1}"
        used.add(own)
        found.append(own)
    return found


class Ids(Protocol):
    """What learns the ids of rows, in their order."""

    def given(self, uid: str, place: int) -> int | None:
        """The place of an earlier row with the id `uid`, which the row at `place` has."""

    def computed(self, uid: str, place: int) -> str:
        """The id of a row whose content has the digest `uid`: numbered where it came before."""

    def all_given(self, uids: Sequence[str], places: Sequence[int]) -> Mapping[int, int]:
        """`given` for each of these rows: what it returns by the row's place, where it is any."""

    def all_computed(self, uids: Sequence[str], places: Sequence[int]) -> Sequence[str]:
        """`computed` for each of these rows."""


class ExactIds:
    """Ids that are compared as they come.

    among: the hashes of all ids that occur several times; None: any may. Only these ids are held.
    """

    def __init__(self, among: Container[int] | None = None) -> None:
        self._among = among
        self._first: dict[str, int] = {}
        self._copies: Counter[str] = Counter()

    def given(self, uid: str, place: int) -> int | None:
        """See `Ids`."""
        if self._among is not None and hash(uid) not in self._among:
            return None
        first = self._first.setdefault(uid, place)
        return None if first == place else first

    def computed(self, uid: str, place: int) -> str:
        """See `Ids`."""
        if self._among is not None and hash(uid) not in self._among:
            return uid
        self._copies[uid] += 1
        return f"{uid}-{self._copies[uid]}" if self._copies[uid] > 1 else uid

    def all_given(self, uids: Sequence[str], places: Sequence[int]) -> Mapping[int, int]:
        """See `Ids`."""
        found = zip(places, map(self.given, uids, places), strict=True)
        return {place: first for place, first in found if first is not None}

    def all_computed(self, uids: Sequence[str], places: Sequence[int]) -> Sequence[str]:
        """See `Ids`."""
        return list(map(self.computed, uids, places))


class NotedIds:
    """Ids that are compared at the end: `repeated` has the hashes of those that came twice.

    Until then every id counts as the first of its kind. Python's hash of a text has 64 bits; two
    ids of one hash are only compared in vain. What does not fit into memory is in temporary files,
    at 8 bytes a row; each holds the hashes of one remainder, and is sorted by itself.

    keep_places: whether `places` gets the place of each row, negative where its id was computed
    """

    def __init__(self, *, keep_places: bool = False) -> None:
        self.places: array.array[int] | None = array.array("q") if keep_places else None
        self._given = _Hashes()
        self._computed = _Hashes()

    def given(self, uid: str, place: int) -> int | None:
        """See `Ids`."""
        return self.all_given([uid], [place]).get(place)

    def computed(self, uid: str, place: int) -> str:
        """See `Ids`."""
        return self.all_computed([uid], [place])[0]

    def all_given(self, uids: Sequence[str], places: Sequence[int]) -> Mapping[int, int]:
        """See `Ids`."""
        self._given.add(map(hash, uids))
        if self.places is not None:
            self.places.extend(places)
        return {}

    def all_computed(self, uids: Sequence[str], places: Sequence[int]) -> Sequence[str]:
        """See `Ids`."""
        self._computed.add(map(hash, uids))
        if self.places is not None:
            self.places.extend(map(neg, places))
        return uids

    def repeated(self) -> tuple[frozenset[int], frozenset[int]]:
        """The hashes of the given ids, and of the computed ones, that came twice or more. Called
        once, after the last row."""
        return self._given.repeated(), self._computed.repeated()


class _Hashes:
    """Numbers of 64 bits of which those that come twice are wanted."""

    def __init__(self) -> None:
        self._held = array.array("q")
        self._files: list[io.FileIO] = []
        self._stack = ExitStack()

    def add(self, numbers: Iterable[int]) -> None:
        self._held.extend(numbers)
        if len(self._held) >= _HELD:
            self._spill()

    def _spill(self) -> None:
        import numpy as np

        numbers = np.frombuffer(self._held, np.int64)
        parts = numbers % _PARTS
        try:
            if not self._files:
                for _ in range(_PARTS):
                    file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  closed by the stack
                    self._files.append(self._stack.enter_context(file))
            for part, file in enumerate(self._files):
                file.write(numbers[parts == part].tobytes())
        except OSError as error:
            self._stack.close()
            raise RunFolderError(
                f"{tempfile.gettempdir()}: cannot be written ({error.strerror or error}), expected "
                "8 bytes of room for each row: free disk space, or set TMPDIR to another folder"
            ) from error
        self._held = array.array("q")

    def repeated(self) -> frozenset[int]:
        """Those that were added twice or more."""
        import numpy as np

        with self._stack:
            if not self._files:
                return frozenset(_twice(np.frombuffer(self._held, np.int64)))
            self._spill()
            found: set[int] = set()
            for file in self._files:
                file.seek(0)
                found.update(_twice(np.frombuffer(file.read(), np.int64)))
        return frozenset(found)


def _twice(numbers: object) -> list[int]:
    import numpy as np

    ordered = np.sort(np.asarray(numbers))
    twice: list[int] = np.unique(ordered[1:][ordered[1:] == ordered[:-1]]).tolist()
    return twice
