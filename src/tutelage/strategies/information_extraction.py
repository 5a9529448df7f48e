"""Information extraction: the five W questions about the context alone.

The prompt shows neither the hypothesis nor the label, so one answer serves every example that
shares the context.

    1. **Who:** Ada Lom          ->  Who: Ada Lom What: opened a mill When: 1871
    2. **What:** opened a mill
    3. **When:** 1871
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale
from tutelage.strategies.row_text import plain
from tutelage.strategies.strategy import render_fields, status_of

FIVE_W = ("who", "what", "when", "where", "why")
"""In the order of the canonical answer."""

SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in FIVE_W},
    "required": list(FIVE_W),
    "additionalProperties": False,
}
"""The JSON schema of a structured answer."""

MAX_WORDS = 10
"""The limit in the prompt for each answer; longer answers are kept unchanged."""

_PROMPT = f"""\
Read the text below and answer five questions about it: who, what, when, where and why.
Use only what the text says. Answer each in {MAX_WORDS} words or fewer, on a line of its own that \
starts with the question word and a colon, like "Who: ...".

{{text}}"""

# A heading at the start of a line may be bulleted, numbered, bold, in any case, and end with `:`,
# `?`, a dash or the end of the line. Within a line a heading needs a colon, and a capital or the
# start of a clause: "the reason why: …" is part of an answer.
_LINE = r"""^[ \t]*(?:[-*•+>#]+[ \t]+)?(?:\(?[1-5][.):]+[ \t]*)?[*_#]*
            (?i:who|what|when|where|why)[*_]*[ \t]*(?:[:?]|[-–—](?=\s)|$)[*_:]*"""
_INLINE = r"""(?<=\s)[*_]*(?:W(?:ho|hat|hen|here|hy)|W(?:HO|HAT|HEN|HERE|HY))[*_]*[ \t]*:[*_]*"""
_CLAUSE = r"""(?<=[.;,|]\s)[*_]*w(?:ho|hat|hen|here|hy)[*_]*[ \t]*:[*_]*"""
_HEADING = re.compile(f"{_LINE}|{_INLINE}|{_CLAUSE}", re.MULTILINE | re.VERBOSE)
_WORD = re.compile("|".join(sorted(FIVE_W, key=len, reverse=True)), re.IGNORECASE)
_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_NUMBERED = re.compile(r"^\W*1[.):]")


def render_answer(answers: Mapping[str, str]) -> str:
    """`{"who": …, "why": …}` as `Who: … Why: …`, in the order of `FIVE_W`.

    The inverse of `parse_answer` on what that returns. Raises ValueError for a name that is not one
    of the five W, and for an answer that could not be parsed again: empty, or with a heading in it.
    """
    if unknown := sorted(set(answers) - set(FIVE_W)):
        raise ValueError(f"unknown names {unknown}: expected names from {list(FIVE_W)}")
    text = _join(answers)
    if _split(text) != dict(answers):
        raise ValueError(f"{dict(answers)!r} contains a heading or an empty answer")
    return text


def parse_answer(text: str) -> dict[str, str]:
    """The answers in a text, by W word; empty ones are left out.

    The first answer to each of the five W counts, because small models start the list again. Text
    before the first heading is ignored.
    """
    answers = _split(text)
    # Removing a heading can reveal another one that was attached to it: repeat until nothing
    # changes. Each change leaves fewer characters, so this ends.
    while (again := _split(_join(answers))) != answers:
        answers = again
    return answers


def render_structured(answers: Mapping[str, str]) -> str:
    """The answers as a JSON object of `SCHEMA`, in the order of `FIVE_W`; "" where there is none.

    `parse_structured` is the inverse for answers that `parse_answer` returns.
    """
    return json.dumps({name: answers.get(name, "") for name in FIVE_W}, ensure_ascii=False)


def parse_structured(text: str) -> dict[str, str]:
    """The answers in a JSON object of `SCHEMA`, fenced or not; empty for any other text."""
    try:
        value = json.loads(_FENCE.sub("", text.strip()))
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    # Half a surrogate pair is valid JSON, but cannot be stored as UTF-8.
    texts = {
        name: value[name].encode("utf-8", "replace").decode()
        for name in FIVE_W
        if isinstance(value.get(name), str)
    }
    # Through the plain form, so that `render_answer` accepts the result.
    return parse_answer(_join({name: answer for name, answer in texts.items() if answer.strip()}))


def _join(answers: Mapping[str, str]) -> str:
    parts = (f"{name.capitalize()}: {answers[name]}" for name in FIVE_W if name in answers)
    return " ".join(parts)


def _split(text: str) -> dict[str, str]:
    headings = list(_HEADING.finditer(text))
    if not headings:
        return {}
    ends = [match.start() for match in headings[1:]] + [len(text)]
    # A number at the end of an answer is removed only in a numbered list: it may end a date.
    first = headings[0].start()
    numbered = bool(_NUMBERED.match(text[first:]) or text[:first].rstrip().endswith(("1.", "1)")))
    found: dict[str, str] = {}
    for match, end in zip(headings, ends, strict=True):
        word = _WORD.search(match.group())
        assert word is not None  # every alternative of _HEADING contains one
        answer = _clean(text[match.end() : end], numbered)
        if answer:
            found.setdefault(word.group().lower(), answer)
    return {name: found[name] for name in FIVE_W if name in found}


def _clean(answer: str, numbered: bool) -> str:
    answer = " ".join(answer.replace("**", "").replace("__", "").split())
    while True:
        before = answer
        answer = re.sub(r"(?:(?:^|\s)[-*•+|/#>_]+|[,;]|\s)$", "", answer)
        answer = re.sub(r"^[*_]+\s*", "", answer)
        if numbered:
            answer = re.sub(r"(?:^|\s)\(?[2-5][.)]$", "", answer)
        if answer == before:
            return answer


class InformationExtraction:
    """Who, what, when, where and why, from the context field alone."""

    name = "information_extraction"
    asks_teacher = True
    labels_rows = False
    schema: Mapping[str, Any] | None = SCHEMA

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """One user message with the context; all input fields where the task has no context."""
        if task.context is None:
            text = render_fields(example, task)
        else:
            text = f"Text: {plain(example.fields[task.context])}"
        return (Message("user", _PROMPT.format(text=text)),)

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answers in canonical form; `failed` where none of the five is recognised."""
        status, detail = status_of(completion)
        text = ""
        if status in ("ok", "truncated"):
            answers = parse_structured(completion.text) or parse_answer(completion.text)
            if answers:
                text = render_answer(answers)
            elif status == "truncated":
                text = completion.text.strip()
            else:
                status, detail = "failed", "it answers none of the five questions"
        return Rationale(
            example.uid, self.name, text, status, usage=completion.usage, detail=detail
        )
