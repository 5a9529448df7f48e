from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutelage.core.words import LONGEST_WORD, text_key, words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The dog runs.", "the DOG  runs"),
        ("“It’s late,” she said.", '"It\'s late", she said'),
        ("a\tb\nc", "a b c"),
        ("wait … what?!", "Wait, what"),
        ("re-elected", "reelected"),
        ("caf\u00e9", "CAFE\u0301"),  # composed and decomposed
        ("Straße", "STRASSE"),
        ("ﬁne", "fine"),  # a ligature
        ("ＡＢＣ １２", "abc 12"),  # full width
        ("soft\u00adhyphen zero\u200bwidth", "softhyphen zerowidth"),
        ("I ❤\ufe0f it", "i ❤ it"),
        ("don´t", "don't"),
        ("我喜欢。", "我 喜 欢"),
        ("Great :)", "great :-)))"),
        ("the list: (a) and (b)", "the list (a) and b"),
        ("at 10:30 (or later):", "at 10 30 or later"),
        ("\u00a0hard\u2003spaces ", "hard spaces"),
    ],
)
def test_case_punctuation_and_white_space_make_no_difference(one: str, other: str) -> None:
    assert text_key(one) == text_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3.5 stars", "35 stars"),
        ("from 10-12", "from 1012"),
        ("good", "goods"),
        ("café", "cafe"),  # an accent is not punctuation
        ("5 €", "5 $"),
        ("great 😀", "great 😡"),
        ("great :)", "great :("),
        ("Délivré :)", "Délivré :("),
        ("great:)", "great"),
        ("so it is ;-P", "so it is"),
        ("gut =D", "gut =/"),
        ("a + b", "a b"),
        ("?!", "..."),  # nothing else is there
    ],
)
def test_what_is_said_makes_one(one: str, other: str) -> None:
    assert text_key(one) != text_key(other)


def test_words_in_any_script() -> None:
    assert words("Don’t stop-ping, 3 times!") == ["don", "t", "stop", "ping", "3", "times"]
    assert words("我喜欢 Oslo") == ["我", "喜", "欢", "oslo"]
    thai = "ก" * (LONGEST_WORD + 1)  # a script without spaces
    assert words(thai) == ["ก"] * len(thai)
    assert words("مرحبا بالعالم") == ["مرحبا", "بالعالم"]
    assert words(" ?! ") == []


@given(st.text())
def test_a_key_survives_what_it_ignores(text: str) -> None:
    key = text_key(text)
    assert text_key(f"  {text}\n") == key
    assert text_key(unicodedata.normalize("NFD", text)) == text_key(
        unicodedata.normalize("NFC", text)
    )
    if words(text):
        assert text_key(f"“{text}”.") == key
