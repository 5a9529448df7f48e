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
from tutelage.strategies.strategy import render_fields, status_of

QUESTIONS = ("who", "what", "when", "where", "why")
"""In the order of the canonical answer."""

SCHEMA = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in QUESTIONS},
    "required": list(QUESTIONS),
    "additionalProperties": False,
}
"""Of a structured answer."""

MAX_WORDS = 10
"""The limit that the prompt sets on each answer; a longer one is kept as it is."""

_PROMPT = f"""\
Read the text below and answer five questions about it: who, what, when, where and why.
Use only what the text says. Answer each in {MAX_WORDS} words or fewer, on a line of its own that \
starts with the question word and a colon, like "Who: ...".

{{text}}"""

# A heading at the start of a line may be bulleted, numbered, bold, in any case, and end in a colon,
# a question mark, a dash or the line's end. Inside a line only a colon makes one, and only of a
# capitalised word or at the start of a clause: "the reason why: …" is an answer's own words.
_LINE = r"""^[ \t]*(?:[-*•+>#]+[ \t]+)?(?:\(?[1-5][.):]+[ \t]*)?[*_#]*
            (?i:who|what|when|where|why)[*_]*[ \t]*(?:[:?]|[-–—](?=\s)|$)[*_:]*"""
_INLINE = r"""(?<=\s)[*_]*(?:W(?:ho|hat|hen|here|hy)|W(?:HO|HAT|HEN|HERE|HY))[*_]*[ \t]*:[*_]*"""
_CLAUSE = r"""(?<=[.;,|]\s)[*_]*w(?:ho|hat|hen|here|hy)[*_]*[ \t]*:[*_]*"""
_HEADING = re.compile(f"{_LINE}|{_INLINE}|{_CLAUSE}", re.MULTILINE | re.VERBOSE)
_WORD = re.compile("|".join(sorted(QUESTIONS, key=len, reverse=True)), re.IGNORECASE)
_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_NUMBERED = re.compile(r"^\W*1[.):]")


def render_answer(answers: Mapping[str, str]) -> str:
    """`{"who": …, "why": …}` as `Who: … Why: …`, in the order of `QUESTIONS`.

    The inverse of `parse_answer` on what that returns. Raises ValueError for an unknown question,
    and for an answer that would not come back: empty, or with a heading inside.
    """
    if unknown := sorted(set(answers) - set(QUESTIONS)):
        raise ValueError(f"{unknown} are none of the questions {list(QUESTIONS)}")
    text = _join(answers)
    if _split(text) != dict(answers):
        raise ValueError(f"{dict(answers)!r} cannot be told apart from its own headings")
    return text


def parse_answer(text: str) -> dict[str, str]:
    """The answers that a text holds, by question; those without words are left out.

    The first answer to a question counts: small models start the list again. Words before the
    first heading are no answer.
    """
    answers = _split(text)
    # A heading glued to the one before stands free once that is cut off: read again until nothing
    # changes. Each change leaves fewer characters, so this ends.
    while (again := _split(_join(answers))) != answers:
        answers = again
    return answers


def render_structured(answers: Mapping[str, str]) -> str:
    """The answers as a JSON object of `SCHEMA`, in the order of `QUESTIONS`; "" for none.

    `parse_structured` gives them back, if they are what `parse_answer` returns.
    """
    return json.dumps({name: answers.get(name, "") for name in QUESTIONS}, ensure_ascii=False)


def parse_structured(text: str) -> dict[str, str]:
    """The answers of a JSON object of `SCHEMA`, in a fence or not; none for any other text."""
    try:
        value = json.loads(_FENCE.sub("", text.strip()))
    except ValueError:
        return {}
    if not isinstance(value, dict):
        return {}
    # Half a surrogate pair passes for JSON, and cannot be kept.
    told = {
        name: value[name].encode("utf-8", "replace").decode()
        for name in QUESTIONS
        if isinstance(value.get(name), str)
    }
    # Through the plain form, so that what comes out can always be written down again.
    return parse_answer(_join({name: answer for name, answer in told.items() if answer.strip()}))


def _join(answers: Mapping[str, str]) -> str:
    parts = (f"{name.capitalize()}: {answers[name]}" for name in QUESTIONS if name in answers)
    return " ".join(parts)


def _split(text: str) -> dict[str, str]:
    headings = list(_HEADING.finditer(text))
    if not headings:
        return {}
    ends = [match.start() for match in headings[1:]] + [len(text)]
    # Numbers are cut from the end of an answer only where the list is numbered: a date may end so.
    first = headings[0].start()
    numbered = bool(_NUMBERED.match(text[first:]) or text[:first].rstrip().endswith(("1.", "1)")))
    found: dict[str, str] = {}
    for match, end in zip(headings, ends, strict=True):
        word = _WORD.search(match.group())
        assert word is not None  # every alternative of _HEADING holds one
        answer = _clean(text[match.end() : end], numbered)
        if answer:
            found.setdefault(word.group().lower(), answer)
    return {name: found[name] for name in QUESTIONS if name in found}


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
    schema: Mapping[str, Any] | None = SCHEMA

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """One user message with the context; all input fields where the task has no context."""
        if task.context is None:
            text = render_fields(example, task)
        else:
            text = f"Text: {example.fields[task.context].strip()}"
        return (Message("user", _PROMPT.format(text=text)),)

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answers in canonical form; `failed` where none of the five can be recognised."""
        status, detail = status_of(completion)
        text = ""
        if status in ("ok", "truncated"):
            answers = parse_structured(completion.text) or parse_answer(completion.text)
            if answers:
                text = render_answer(answers)
            elif status == "truncated":
                text = completion.text.strip()
            else:
                status, detail = "failed", "none of the five questions is answered in it"
        return Rationale(
            example.uid, self.name, text, status, usage=completion.usage, detail=detail
        )
