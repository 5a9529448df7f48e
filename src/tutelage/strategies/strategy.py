"""What a strategy is, and how any answer's status is told.

A strategy renders a prompt and reads the answer to it; both halves stand side by side in one file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale, RationaleStatus


class Strategy(Protocol):
    """A way to get one rationale for one example. This is the whole contract.

    asks_teacher: False where the answer lies in the data (`human`): no teacher is opened, and
                  `parse` gets an empty completion that it does not look at.
    schema:       JSON schema of an answer that `parse` takes as well as plain text; None: it takes
                  plain text alone
    """

    @property
    def name(self) -> str:
        """As a recipe names it, and as `Rationale.strategy` records it."""
        ...

    @property
    def asks_teacher(self) -> bool:
        """Whether there is anything to ask."""
        ...

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """Of a structured answer, if it can be one."""
        ...

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """The prompt; empty where the strategy has none. Equal prompts are asked once."""
        ...

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answer as a Rationale with a status. Never raises for what a teacher may say."""
        ...


MAX_REFUSAL_WORDS = 60
"""A longer answer explains something, however it begins."""

_CANNOT = (
    r"(?:\s(?:can(?:no|['’])t|can\snot|won['’]?t|will\snot)"
    r"|(?:\s(?:am|are)|['’](?:m|re))\s(?:unable|not\sable))"
)
_REFUSAL = re.compile(
    rf"""^[\s*_"'“>]*(?:
        (?:(?:i|we)(?:\s(?:am|are)|['’](?:m|re))\s)?(?:very\s|so\s)?sorry\b[,.!:;]?\s*
            (?:but\s|that\s)?(?:as\san\sai[^,.]*,\s)?(?:i|we){_CANNOT}\b
      | (?:i|we){_CANNOT}\s(?:to\s)?
            (?:assist|help(?!\sbut)|comply|fulfil|provide|answer|engage|participate|generate
              |create|write|discuss|continue|respond|support|do\s(?:that|this))
      | (?:i|we)\s(?:must\s)?(?:respectfully\s)?decline\b
      | as\san\sai\b[^.]{{0,60}}?\b(?:i|we){_CANNOT}\b
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def is_refusal(text: str) -> bool:
    """Whether an answer begins with a refusal's formula and is short.

    Conservative: "I cannot conclude that …" is an explanation, and so is a long answer that opens
    with an apology. A refusal taken for an answer is seen by whoever reads the rationales; an
    answer taken for a refusal is lost.
    """
    return len(text.split()) <= MAX_REFUSAL_WORDS and _REFUSAL.match(text) is not None


def status_of(completion: Completion) -> tuple[RationaleStatus, str]:
    """The status that any strategy gives an answer, and why, before it looks inside."""
    if completion.finish_reason == "content_filter":
        return "refused", "the server's content filter"
    if completion.finish_reason == "length":
        return "truncated", "cut at the limit of tokens"
    if not completion.text.strip():
        return "empty", "an answer without words"
    if is_refusal(completion.text):
        return "refused", _shorten(completion.text)
    return "ok", ""


def parse_text(completion: Completion, example: Example, strategy: str) -> Rationale:
    """The answer word for word, without the white space around it."""
    status, detail = status_of(completion)
    return Rationale(
        uid=example.uid,
        strategy=strategy,
        text=completion.text.strip() if status in ("ok", "truncated") else "",
        status=status,
        usage=completion.usage,
        detail=detail,
    )


def render_fields(example: Example, task: Task) -> str:
    """The task's input fields, one a line, never the label: `Premise: …`."""
    return "\n".join(f"{name.capitalize()}: {example.fields[name].strip()}" for name in task.fields)


def _shorten(text: str, limit: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
