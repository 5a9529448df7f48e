"""Escapes names and texts for Markdown, so that they are shown as they are."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~#!&$])")


def escaped(text: object) -> str:
    """The text on one line, with a backslash before every character that Markdown interprets.

    An @ is followed by an empty comment, so that a pull request does not notify that user.
    """
    line = " ".join(str(text).split())
    return _SPECIAL.sub(r"\\\1", line).replace("@", "@<!-- -->")
