"""A server's own counts: its requests, its answers and what they cost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Counts:
    """Live requests and requests in batches; prompts are counted over both.

    A request is `asked` when its body has arrived, whatever its result, and billed at that moment
    if the model will process it.
    """

    requests: int = 0  # live ones
    batch_requests: int = 0  # those of a batch that were processed
    in_flight: int = 0
    most_in_flight: int = 0
    answered: int = 0  # live answers sent to the end, to a connected client
    batch_answered: int = 0  # lines in output files
    abandoned: int = 0  # the client had disconnected before the answer
    refused: int = 0  # live requests that got a 4xx
    rate_violations: int = 0  # 429s because of the server's own windows
    retried_early: int = 0  # a prompt asked again before its Retry-After
    prompt_tokens: int = 0
    completion_tokens: int = 0
    billed_pico: int = 0  # of all requests, batches at half price
    billed_requests: int = 0
    asked: Counter[str] = field(default_factory=Counter)  # by prompt
    answers: Counter[str] = field(default_factory=Counter)  # by prompt, sent to the end
    statuses: Counter[str] = field(
        default_factory=Counter
    )  # by HTTP status or kind of disconnection
    calls: Counter[str] = field(default_factory=Counter)  # of files and batches

    def as_json(self, *, prompts: bool = False) -> dict[str, Any]:
        """All counts; those by prompt only on demand, because there may be a million."""
        kept = ("asked", "answers")
        found = {name: value for name, value in vars(self).items() if name not in kept}
        found["distinct_prompts"] = len(self.asked)
        found["asked_again"] = sum(times - 1 for times in self.asked.values())
        found["answered_again"] = sum(times - 1 for times in self.answers.values())
        if prompts:
            found |= {name: getattr(self, name) for name in kept}
        return found
