"""Names and texts in Markdown, so that none of them is read as anything but text."""

from __future__ import annotations

import re

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|~#!&$])")


def escaped(text: object) -> str:
    """The text on one line, with a backslash before what Markdown, or a table, would read.

    An @ gets an empty comment behind it, or a pull request would call whoever bears that name.
    """
    line = " ".join(str(text).split())
    return _SPECIAL.sub(r"\\\1", line).replace("@", "@<!-- -->")
