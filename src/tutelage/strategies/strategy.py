"""The protocol of a strategy, and the status of an answer, which is the same for all strategies.

A strategy renders a prompt and parses the answer; both are in the same file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from tutelage.core.task import Task
from tutelage.core.types import Completion, Example, Message, Rationale, RationaleStatus
from tutelage.strategies.finish_reasons import FILTERED, LENGTH, STOP, standard_reason
from tutelage.strategies.row_text import plain_fields


class Strategy(Protocol):
    """A way to get one rationale for one example. This is the whole contract.

    asks_teacher: False where the answer is in the data (`human`): no teacher is opened, and `parse`
                  receives an empty completion, which it ignores
    schema:       JSON schema of answers that `parse` accepts as well as plain text; None: plain
                  text alone
    labels_rows:  whether the answer names a label, and the prompt does not depend on the gold one,
                  so that rows without a label can be asked about; a plugin may leave it out, which
                  means False
    """

    @property
    def name(self) -> str:
        """The name in a recipe and in `Rationale.strategy`."""
        ...

    @property
    def asks_teacher(self) -> bool:
        """Whether it needs a teacher."""
        ...

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """The JSON schema of a structured answer, if there is one."""
        ...

    @property
    def labels_rows(self) -> bool:
        """Whether it labels rows, without the gold label."""
        ...

    def render(self, example: Example, task: Task) -> tuple[Message, ...]:
        """The prompt; empty where the strategy has none. Equal prompts are requested once."""
        ...

    def parse(self, completion: Completion, example: Example, task: Task) -> Rationale:
        """The answer as a Rationale with a status. Never raises, whatever the teacher answers."""
        ...


MAX_REFUSAL_WORDS = 60
"""A longer answer counts as an explanation, however it begins."""

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
    """Whether an answer is short and begins with the formula of a refusal.

    Conservative: "I cannot conclude that …" is an explanation, and so is a long answer that begins
    with an apology. A refusal that passes as an answer is noticed by readers of the rationales; an
    answer that passes as a refusal is lost.
    """
    return len(text.split()) <= MAX_REFUSAL_WORDS and _REFUSAL.match(text) is not None


def status_of(completion: Completion) -> tuple[RationaleStatus, str]:
    """The status of an answer before it is parsed, and the reason where it is not `ok`."""
    reason = standard_reason(completion.finish_reason)
    if reason == FILTERED:
        return "refused", "the server's content filter"
    if reason == LENGTH:
        return "truncated", "cut at the token limit"
    if not completion.text.strip():
        return "empty", "an empty answer"
    if reason not in (None, STOP):
        return "truncated", f"it ended for a reason that is not understood: {reason}"[:80]
    if is_refusal(completion.text):
        return "refused", _shorten(completion.text)
    return "ok", ""


def parse_text(completion: Completion, example: Example, strategy: str) -> Rationale:
    """The answer as a Rationale, unchanged but for surrounding white space."""
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
    """The task's input fields, one per line, never the label: `Premise: …`.

    Text that looks like the heading of another field, or like a mark of a chat template, gets a
    backslash (`row_text.plain_fields`).
    """
    return plain_fields(example.fields, task)


def _shorten(text: str, limit: int = 80) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
