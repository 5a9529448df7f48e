"""The columns of the fault table (`fault_table`), and the table as Markdown for docs/teacher.md."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, field


class Action(enum.Enum):
    """What to do about an attempt that brought no answer."""

    RETRY = "transient: retry after a delay"
    FAIL_REQUEST = "this request is at fault: its rows fail"
    KEEP_REFUSAL = "the content filter refused: keep that as the answer"
    STOP_LATER = "a limit that lasts: stop the run, and say when to come back"
    STOP_ACCOUNT = "the account cannot pay: stop the run"
    STOP_KEY = "the API key is missing or wrong: stop the run"
    STOP_MODEL = "the model is not served: stop the run"
    STOP_PARAMETER = "the model does not support a parameter: stop the run"
    STOP_SERVER = "the address does not lead to the API: stop the run"
    JUDGE = "unknown: set the row aside until others are answered, or stop if they are not"


MEANING: dict[Action, str] = {
    Action.RETRY: "this moment",
    Action.FAIL_REQUEST: "this row",
    Action.KEEP_REFUSAL: "this row",
    Action.STOP_LATER: "this day or hour",
    Action.STOP_ACCOUNT: "this account",
    Action.STOP_KEY: "this key",
    Action.STOP_MODEL: "this model, or the address",
    Action.STOP_PARAMETER: "a parameter",
    Action.STOP_SERVER: "this address",
    Action.JUDGE: "unknown",
}
"""What a fault is about, in words."""


@dataclass(frozen=True, slots=True)
class Example:
    """An error as a server sends it. parameters: what the request had set, where that matters."""

    status: int
    code: str = ""
    message: str = ""
    parameters: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FaultLine:
    """One line of the table.

    name:     what is seen, in words
    statuses: HTTP statuses; 200 stands for an error inside of a 200
    code:     pattern for one of the error's codes; None: any, where there is no `message` either
    message:  pattern for its message
    parameter: whether the error must name a parameter that the request has set
    """

    name: str
    action: Action
    statuses: frozenset[int]
    examples: tuple[Example, ...]
    source: str
    code: re.Pattern[str] | None = None
    message: re.Pattern[str] | None = None
    parameter: bool = False


REFUSED = frozenset({200, *range(400, 408), *range(409, 425), 426, 428, 451})
"""Refusals, and errors inside of a 200."""


def pattern(text: str) -> re.Pattern[str]:
    """A pattern for codes or messages, in any case, written with white space between its parts."""
    return re.compile(text, re.IGNORECASE | re.VERBOSE)


_DONE: dict[Action, str] = {
    Action.RETRY: "retried after a delay",
    Action.FAIL_REQUEST: "the row fails, which is remembered",
    Action.KEEP_REFUSAL: "kept as a refusal; the rest goes on",
    Action.STOP_LATER: "the run stops and says when to come back",
    Action.STOP_ACCOUNT: "the run stops",
    Action.STOP_KEY: "the run stops",
    Action.STOP_MODEL: "the run stops; without a code, after an answer: unknown",
    Action.STOP_PARAMETER: "the run stops and names it; without a code, after an answer: unknown",
    Action.STOP_SERVER: "the run stops; without a code, after an answer: unknown",
    Action.JUDGE: "judged by whether other rows are answered",
}


def markdown(table: Iterable[FaultLine]) -> str:
    """The table for docs/teacher.md."""
    rows = [
        "| what is seen | it means | what is done | an example | source |",
        "|---|---|---|---|---|",
    ]
    for line in table:
        example = line.examples[0]
        shown = " ".join(part for part in (str(example.status), example.code) if part)
        said = example.message.replace("|", "/")
        said = said if len(said) <= 60 else said[:59] + "…"
        rows.append(
            f"| {line.name} | {MEANING[line.action]} | {_DONE[line.action]} | {shown}"
            f"{f': {said}' if said else ''} | {_links(line.source)} |"
        )
    return "\n".join(rows) + "\n"


def _links(source: str) -> str:
    parts = source.split(", ")
    return ", ".join(f"<{part}>" if part.startswith("https://") else part for part in parts)
