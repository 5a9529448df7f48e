"""Puts a row's text into a prompt so that it cannot leave its place, whatever it says.

A row may hold what a prompt consists of: headings, separators, labels, the marks by which a chat
template ends a turn. Two ways to write it, each with its inverse:

quoted   `Premise: "It rained.\\nHypothesis: …"`: a JSON string on one line. Nothing in it can end
         the line or the string, and no mark of a chat template is left in one piece.
plain    `Premise: It rained.`: the text itself, as the older prompts have it. A backslash goes into
         the marks of chat templates, and before a line that looks like the heading of a later
         field. Text without these is unchanged.

What no way of writing prevents is that a model believes what it reads. Agreement with known labels
measures that.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from functools import cache

from tutelage.core.task import Task

_MARK = re.compile(
    r"""(?:
        <(?=\\*[|｜])                                        # <|im_end|>
      | <(?=\\*/?(?:s|bos|eos|pad|unk|[a-z]+(?:_[a-z]+)+)>)  # </s>, <end_of_turn>
      | <(?=\\*</?SYS>>)                                     # <<SYS>>
      | \[(?=\\*/?(?:INST|[A-Z]+(?:_[A-Z]+)+)\])             # [/INST], [TOOL_CALLS]
    )""",
    re.VERBOSE,
)
"""The first character of a mark, before any number of backslashes. Marks are recognised by their
form: chat templates have hundreds."""

_KEPT = "\u200c\u200d"
"""Invisible characters that words and emoji consist of."""


def quoted_fields(fields: Mapping[str, str], task: Task) -> str:
    """The task's input fields, one per line, each as a JSON string: `Premise: "…"`."""
    return "\n".join(f"{name.capitalize()}: {quoted(fields[name])}" for name in task.fields)


def parse_quoted_fields(text: str, task: Task) -> dict[str, str]:
    """The fields in what `quoted_fields` returned. Raises ValueError for any other text."""
    lines = text.split("\n")
    if len(lines) != len(task.fields):
        raise ValueError(f"got {len(lines)} lines, expected one for each of {list(task.fields)}")
    fields = {}
    for name, line in zip(task.fields, lines, strict=True):
        heading = f"{name.capitalize()}: "
        if not line.startswith(heading):
            raise ValueError(f"got the line {line[:60]!r}, expected it to begin with {heading!r}")
        fields[name] = str(json.loads(line.removeprefix(heading)))
    return fields


def quoted(text: str) -> str:
    """A text as a JSON string: on one line, with control and invisible characters as escapes.

    `json.loads` is the inverse.
    """
    whole = json.dumps(text, ensure_ascii=False)
    if not whole.isascii() or "\x7f" in whole:
        whole = "".join(_escaped(c) if _is_hidden(c) else c for c in whole)
    return _MARK.sub(lambda mark: _escaped(mark.group()), whole)


def _is_hidden(character: str) -> bool:
    if character < "\x7f":
        return False
    kind = unicodedata.category(character)
    return kind in ("Cc", "Cs", "Zl", "Zp") or (kind == "Cf" and character not in _KEPT)


def _escaped(character: str) -> str:
    """A character as JSON escapes it: `\\u003c`, or two escapes beyond the first plane."""
    if character == "<" or character == "[":
        return f"\\u{ord(character):04x}"
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"


def plain_fields(fields: Mapping[str, str], task: Task) -> str:
    """The task's input fields, one per line, as they are: `Premise: …`, without white space around.

    `parse_plain_fields` is the inverse up to that white space.
    """
    parts = []
    for place, name in enumerate(task.fields):
        text = plain(fields[name])
        if later := task.fields[place + 1 :]:
            text = _heading(later).sub(r"\n\\\g<slashes>", text)
        parts.append(f"{name.capitalize()}: {text}")
    return "\n".join(parts)


def parse_plain_fields(text: str, task: Task) -> dict[str, str]:
    """The fields in what `plain_fields` returned. Raises ValueError for any other text."""
    fields = {}
    rest = text
    for place, name in enumerate(task.fields):
        heading = f"{name.capitalize()}: "
        if not rest.startswith(heading):
            raise ValueError(f"got {rest[:60]!r}, expected it to begin with {heading!r}")
        own = rest.removeprefix(heading)
        if later := task.fields[place + 1 :]:
            own, found, rest = own.partition(f"\n{later[0].capitalize()}: ")
            if not found:
                raise ValueError(f"no line begins with {later[0].capitalize()!r}")
            rest = f"{later[0].capitalize()}: {rest}"
            own = _heading(later).sub(lambda h: f"\n{h['slashes'][1:]}", own)
        fields[name] = parse_plain(own)
    return fields


def plain(text: str) -> str:
    """A text without white space around it, and with a backslash in marks of chat templates."""
    return escape_marks(text.strip())


def escape_marks(text: str) -> str:
    """A text with a backslash in marks of chat templates: `<\\|im_end|>`. `parse_plain` is the
    inverse."""
    if "<" not in text and "[" not in text:
        return text  # nearly every one: no mark begins with anything else
    return _MARK.sub(lambda mark: mark.group() + "\\", text)


def parse_plain(text: str) -> str:
    """The text that `escape_marks` was given."""
    return re.sub(_MARK.pattern + r"\\", lambda mark: mark.group()[0], text, flags=re.VERBOSE)


@cache
def _heading(names: tuple[str, ...]) -> re.Pattern[str]:
    """The start of a line that is the heading of one of these fields, but for backslashes."""
    listed = "|".join(re.escape(name.capitalize()) for name in names)
    return re.compile(rf"\n(?P<slashes>\\*)(?=(?:{listed}):)")
