"""What a value of a data file means as a label. This is decided here and nowhere else.

1. Nothing (None, NaN, a blank text, an empty list) and the values declared as `unlabelled` are no
   label. A list of one value is that value.
2. A whole number is a position where names for positions were declared: by the file (the
   `datasets` package's class labels), by the recipe's `label_names`, or by the task's preset.
3. A value that is spelled like a label is that label: exactly first, then up to case, outer
   white space and Unicode form.
4. Equal numbers are the same label (0, 0.0, "0"), unless the labels hold several spellings of
   that number, or programs may have rounded it (9007199254740993 as a float).
5. Anything else is an error. No value is ever a guess between two meanings.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from decimal import Decimal

_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?")

ROUNDED_FROM = 2**53
"""From here on, several whole numbers are one float."""

USUAL_MARKS = ("-1", "-")
"""How data sets mark a row without a label: SNLI has -1 on the hub and `-` in the release. They
count where names of positions are declared; elsewhere -1 may be a label."""

_MARKS = frozenset(
    (
        *USUAL_MARKS,
        "?",
        "\\N",
        "NA",
        "N/A",
        "n/a",
        "<NA>",
        "#N/A",
        "NaN",
        "nan",
        "null",
        "NULL",
        "None",
    )
)
"""What programs write for a value that is missing: spreadsheets, databases, pandas, R, Weka."""

_TRUTH = {
    **dict.fromkeys(("true", "yes", "t", "y", "1"), True),
    **dict.fromkeys(("false", "no", "f", "n", "0"), False),
}

_SHOWN = 8
"""Labels that an error message lists."""


def spelled(value: object) -> str | None:
    """The text that a value stands for: `True` → "true", 1.0 → "1.0"; None where it is nothing.

    A list of one value stands for that value, and an empty one for nothing: how tools that allow
    several labels write one.

    Raises TypeError for what is neither text nor number nor truth value.
    """
    if isinstance(value, list | tuple) and len(value) < 2:
        value = value[0] if value else None
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float, Decimal)):
        text = str(value)
        return text if text.strip() else None
    raise TypeError(type(value).__name__)


def folded(text: str) -> str:
    """The text up to case, outer white space and Unicode form."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).casefold())


def number_of(text: str) -> Decimal | None:
    """The number that a text spells in ASCII, else None. Exact: "0.1" is not 0.1000000001."""
    stripped = text.strip()
    return Decimal(stripped) if _NUMBER.fullmatch(stripped) else None


def _maybe_rounded(text: str) -> bool:
    """Whether a program may have made this spelling of another number: of an id that it held as a
    float, say, since its column has gaps."""
    number = number_of(text)
    whole = text.strip().lstrip("+-").isdigit()
    return number is not None and not whole and abs(number) >= ROUNDED_FROM


def same_label(texts: Iterable[str]) -> list[tuple[str, ...]]:
    """The spellings among `texts` that a reader takes for the same label, in groups of two or more:
    those that differ only in case, outer white space or Unicode form, or that are equal numbers."""
    groups: dict[object, list[str]] = {}
    for text in dict.fromkeys(texts):
        number = number_of(text)
        groups.setdefault(folded(text) if number is None else number, []).append(text)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def may_be_nothing(text: str) -> bool:
    """Whether data may have this text, or number, for a label that is missing. It may be a label as
    well: `NA` is a region, and -1 a polarity."""
    return text.strip() in _MARKS or number_of(text) == -1


def alike(texts: Iterable[str]) -> list[tuple[str, ...]]:
    """The spellings among `texts` that are hardly meant as different labels, in groups: those of
    `same_label`; those that differ in what joins their words (`card payment`, `card_payment`), in
    characters that are not seen, or in compatible forms of a character; several words for true
    (`yes`, `Y`, 1), or for false."""
    texts = list(dict.fromkeys(texts))
    letters = all(_number_as_whole(text) in _TRUTH for text in texts)

    def exact(text: str) -> Hashable:
        number = number_of(text)
        return folded(text) if number is None else number

    def truth(text: str) -> Hashable:
        # A single letter is a word for true or false only among others of their kind.
        known = _TRUTH.get(_number_as_whole(text))
        return exact(text) if known is None or (len(text) == 1 and not letters) else known

    group_of = {text: text for text in texts}
    keys: tuple[Callable[[str], Hashable], ...] = (exact, _loosely, truth)
    for key in keys:
        first: dict[Hashable, str] = {}
        for text in texts:
            group, other = group_of[text], group_of[first.setdefault(key(text), text)]
            if group != other:
                group_of = {t: other if g == group else g for t, g in group_of.items()}
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(group_of[text], []).append(text)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _number_as_whole(text: str) -> str:
    number = number_of(text)
    return str(int(number)) if number is not None and number == int(number) else folded(text)


def _loosely(text: str) -> str:
    """The text in compatible forms, without what cannot be seen, its words joined by spaces."""
    seen = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc"))
    composed = unicodedata.normalize("NFKC", seen).casefold()
    return " ".join(re.sub(r"(?<=\w)[\s_\-\u2010-\u2015/]+(?=\w)", " ", composed).split())


class Spellings:
    """The labels of a task, by every spelling that data may have for them.

    labels:     canonical names
    further:    other spelling -> label
    words:      label -> the words that the student writes for it
    """

    def __init__(
        self, labels: Sequence[str], further: Mapping[str, str], words: Mapping[str, str]
    ) -> None:
        self.labels = tuple(labels)
        # In the order of precedence: a value that is spelled like a label is that label.
        spellings = [(label, label) for label in labels]
        spellings += further.items()
        spellings += [(words[label], label) for label in labels if label in words]
        self._exact: dict[str, str] = {}
        self._folded: dict[str, str] = {}
        self._numbers: dict[Decimal, set[str]] = {}
        names = {number_of(label) for label in labels} - {None}
        for index, (text, label) in enumerate(spellings):
            self._exact.setdefault(text, label)
            self._folded.setdefault(folded(text), label)
            number = number_of(text)
            if number is not None and (index < len(labels) or number not in names):
                self._numbers.setdefault(number, set()).add(label)

    def problems(self, further: Mapping[str, str]) -> list[str]:
        """What makes these labels or further spellings ambiguous, one line each."""
        found = [
            f"labels: {' and '.join(map(repr, group))} differ only in upper and lower case or "
            "white space: list one of them, the others are then read as it"
            for group in same_label(self.labels)
            if len({folded(text) for text in group}) < len(group)
        ]
        for text, label in further.items():
            if label not in self.labels:
                found.append(
                    f"spellings: {text!r} stands for {label!r}, expected one of {self.listed()}"
                )
                continue
            meant = self._folded[folded(text)]
            number = number_of(text)
            numbers = set() if number is None else self._numbers.get(number, set())
            other = meant if meant != label else next(iter(numbers - {label}), None)
            if other is not None:
                found.append(f"spellings: {text!r} stands for {label!r}, and for {other!r} as well")
        return found

    def of_text(self, text: str) -> str | None:
        """The label that `text` spells, or None."""
        label = self._exact.get(text)
        if label is None:
            label = self._folded.get(folded(text))
        if label is None and not _maybe_rounded(text) and (number := number_of(text)) is not None:
            equal = self._numbers.get(number, set())
            label = next(iter(equal)) if len(equal) == 1 else None
        return label

    def listed(self) -> str:
        """The labels for a message: all, or the first and their number."""
        shown = ", ".join(self.labels[:_SHOWN])
        return shown + (f", … ({len(self.labels)} labels)" if len(self.labels) > _SHOWN else "")


class LabelReader:
    """Reads the label of a row; one for each source, because a file may declare names.

    spellings:  of the task's labels
    names:      names of the positions 0, 1, 2, …; empty: a number is never a position
    unlabelled: values that mean that a row has no label
    only_positions: whether the source has nothing but positions where it has numbers, as a class
                label of the `datasets` package; then a name may be a number

    The constructor raises ValueError for names or values that contradict the labels.
    """

    def __init__(
        self,
        spellings: Spellings,
        names: Sequence[str] = (),
        unlabelled: Sequence[str] = (),
        *,
        only_positions: bool = False,
    ) -> None:
        self.spellings = spellings
        self.names = tuple(names)
        self._blank = {folded(text) for text in unlabelled}
        self._blank_numbers = {number_of(text) for text in unlabelled} - {None}
        for text in unlabelled:
            if (label := spellings.of_text(text)) is not None:
                raise ValueError(f"no_label: {text!r} is the label {label!r}: remove one of them")
        for position, name in enumerate(names):
            number = number_of(name)
            other = number is not None and number != position and number in range(len(names))
            if other and not only_positions:
                raise ValueError(
                    f"label_names: {list(names)} are numbers themselves, so that {name} could be a "
                    "name or a position: leave label_names out, and list the labels as the file "
                    "has them"
                )
        self._known: dict[tuple[type, object], str | None] = {}

    def read(self, value: object) -> str | None:
        """The label of `value`, or None for a row without one. Raises ValueError for anything else;
        the message says what was found and what was expected."""
        key = (type(value), value)
        try:
            return self._known[key]
        except (KeyError, TypeError):
            label = self._read(value)
        if len(self._known) < 10_000 and isinstance(value, (str, int, float)):
            self._known[key] = label
        return label

    def _read(self, value: object) -> str | None:
        try:
            text = spelled(value)
        except TypeError as error:
            raise ValueError(
                f"got {_shown(value)}, expected one of {self.spellings.listed()}: a row has one "
                "label, as a text, a number or true or false"
            ) from error
        if text is None or folded(text) in self._blank:
            return None
        # A truth value is "true" here and not 1, in whatever language the file was written.
        number = number_of(text)
        if number is not None and number in self._blank_numbers:
            return None
        if number is not None and number in range(len(self.names)):
            name = self.names[int(number)]
            label = self.spellings.of_text(name)
            if label is None:
                raise ValueError(
                    f"got {value!r}, which the declared names call {name!r}, expected one of "
                    f"{self.spellings.listed()}: list it as a label, or correct label_names"
                )
            return label
        label = self.spellings.of_text(text)
        if label is None and self.names and (folded(text) in USUAL_MARKS or number == -1):
            return None
        if label is None:
            raise ValueError(
                f"got {_shown(value)}, expected one of {self.spellings.listed()}"
                + self._advice(text)
            )
        return label

    def _advice(self, text: str) -> str:
        number = number_of(text)
        if self.names and number is not None:
            return f" (or 0 to {len(self.names) - 1})"
        if may_be_nothing(text):
            return f"; if it marks rows without a label, say no_label: [{text.strip()!r}]"
        if _maybe_rounded(text):
            return "; a number of this size may have been rounded: write the labels as text"
        if number is not None:
            return "; if it is a label's position, say label_names: with the names in order"
        meant = [one for one in self.spellings.labels if alike((one, text))]
        if len(meant) == 1:
            return (
                f"; if it means {meant[0]!r}, say task: {{spellings: {{{text!r}: {meant[0]!r}}}}}"
            )
        return self._near(text)

    def _near(self, text: str) -> str:
        near = difflib.get_close_matches(text, self.spellings.labels, n=1, cutoff=0.7)
        return f" (did you mean {near[0]!r}?)" if near else ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
