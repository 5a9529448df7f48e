"""`openai_server` where a test says itself what each request gets, and counts on round figures.

Every answer has 7 tokens of prompt and 3 of its own, "because of" the prompt unless `behave` says
otherwise; any model's name is taken, whatever the list of models says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from openai_server.answers import prompt_of as prompt
from openai_server.faults import Reply, error
from openai_server.server import Server

__all__ = ["Reply", "ScriptedServer", "error", "prompt"]

Behaviour = Callable[[dict[str, Any], int], Reply]
"""(the request's body, how often its prompt was asked before) -> Reply"""


class ScriptedServer(Server):
    """`with ScriptedServer(behave) as server`: `server.base_url`, and what it has seen."""

    def __init__(self, behave: Behaviour | None = None, models: tuple[str, ...] = ("m",)) -> None:
        because: Behaviour = lambda body, before: Reply(f"because of {prompt(body)}")  # noqa: E731
        super().__init__(behave or because, models=models)

    @property
    def answered(self) -> int:
        """Requests that were sent an answer to the end."""
        return self.counts.answered

    @property
    def most_in_flight(self) -> int:
        return self.counts.most_in_flight

    def refuse(self, body: dict[str, Any]) -> None:
        """Only the script refuses."""

    def settle(
        self, body: dict[str, Any], reply: Reply, before: int, *, batch: bool = False
    ) -> tuple[Any, None]:
        """An answer of few words, in JSON."""
        if reply.body is not None or reply.status != 200:
            return reply.body, None
        message = {"role": "assistant", "content": reply.text}
        return {
            "model": body["model"],
            "choices": [{"message": message, "finish_reason": reply.finish_reason}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        }, None
