"""`openai_server` for tests that decide every reply themselves and expect simple numbers.

Every answer counts 7 tokens of prompt and 3 of output, and is "because of" the prompt unless
`behave` says otherwise. Any model name is accepted, whatever the list of models.
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
    """`with ScriptedServer(behave) as server`: `server.base_url`, and its counts."""

    def __init__(self, behave: Behaviour | None = None, models: tuple[str, ...] = ("m",)) -> None:
        because: Behaviour = lambda body, before: Reply(f"because of {prompt(body)}")  # noqa: E731
        super().__init__(behave or because, models=models)

    @property
    def answered(self) -> int:
        """Requests whose answer was sent to the end."""
        return self.counts.answered

    @property
    def most_in_flight(self) -> int:
        return self.counts.most_in_flight

    def refuse(self, body: dict[str, Any]) -> None:
        """Only `behave` refuses requests."""

    def settle(
        self, body: dict[str, Any], reply: Reply, before: int, *, batch: bool = False
    ) -> tuple[Any, None]:
        """A short answer, in JSON."""
        if reply.body is not None or reply.status != 200:
            return reply.body, None
        message = {"role": "assistant", "content": reply.text}
        return {
            "model": body["model"],
            "choices": [{"message": message, "finish_reason": reply.finish_reason}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        }, None
