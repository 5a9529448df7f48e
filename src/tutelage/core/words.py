"""Splits a text into words, and reduces it to what remains without case, punctuation and spaces.

For comparing texts, in any script. Nothing that a student or a teacher reads is made here.
"""

from __future__ import annotations

import re
import unicodedata

LONGEST_WORD = 30
"""A longer run of letters is cut into single characters: Thai, for example, writes no spaces."""

_SPACE_THAT_DIVIDES_NOTHING = re.compile(r"(?<!\d) | (?!\d)")
_SMILEY = re.compile(r"([:;=])['^o-]?(?:([)(\[\]/\\|*])\2*(?!\w)|(?<!\w.)(?<!\w..)([dDpP])(?!\w))")
"""Eyes, perhaps a nose, and a mouth, which may be repeated; a letter is a mouth only where no word
stands before the eyes."""

_VARIATION_SELECTORS = range(0xFE00, 0xFE10)


def words(text: str) -> list[str]:
    """The words of a text, in its order: runs of letters, digits and symbols, case folded.

    Compatible forms of a character are one (NFKC: `é` however it is encoded, full-width letters).
    Punctuation and white space divide words; what cannot be seen (a zero-width space, a soft
    hyphen) is left out. A wide character (Chinese, Japanese, Korean, most emoji) is a word, and so
    is a smiley of punctuation: `:)` is not `:(`, but is `:-)`.
    """
    if text.isascii():
        text = _SMILEY.sub(_kept, text)
    if text.isascii():
        folded = text.lower().translate(_CHARACTERS)
    else:
        # Composed first, so that a wide character is one; and without free-standing accents, of
        # which NFKC makes a space and an accent.
        composed = _SMILEY.sub(_kept, unicodedata.normalize("NFC", text)).translate(_CHARACTERS)
        folded = unicodedata.normalize("NFKC", composed).casefold()
        folded = unicodedata.normalize("NFKC", folded).translate(_CHARACTERS)
    return [
        word
        for run in folded.split()
        for word in ((run,) if len(run) <= LONGEST_WORD else tuple(run))
    ]


def _kept(smiley: re.Match[str]) -> str:
    """The smiley as a word: in characters of private use, which are not punctuation."""
    seen = smiley[1] + (smiley[2] or smiley[3].lower())
    return f" {''.join(chr(0xE000 + ord(character)) for character in seen)} "


def text_key(text: str) -> str:
    """Equal for texts that are equal up to case, punctuation and white space.

    What stands between two digits still divides them: `3.5` is not `35`. A text of punctuation
    alone is its own key, without white space.
    """
    return _SPACE_THAT_DIVIDES_NOTHING.sub("", " ".join(words(text))) or "".join(text.split())


class _Characters(dict[int, str]):
    """What `str.translate` makes of a character; each is looked up in Unicode's tables once."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        category = unicodedata.category(character)
        if character.isspace() or category[0] in "PZ" or category == "Sk":
            kept = " "
        elif category in ("Cc", "Cf") or code in _VARIATION_SELECTORS:
            kept = ""
        elif category in ("Lo", "So") and unicodedata.east_asian_width(character) == "W":
            kept = f" {character} "
        else:
            kept = character
        self[code] = kept
        return kept


_CHARACTERS = _Characters()
