"""What a server was asked, what it answered, and what that costs by its own books."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Counts:
    """Live requests and requests in batches; prompts are counted over both.

    A request is `asked` when its body has arrived, whatever becomes of it, and billed at that
    moment if the model is going to work on it.
    """

    requests: int = 0  # live ones
    batch_requests: int = 0  # those of a batch that were processed
    in_flight: int = 0
    most_in_flight: int = 0
    answered: int = 0  # live answers sent to the end, to a client that was there
    batch_answered: int = 0  # lines in output files
    abandoned: int = 0  # the client had gone before its answer
    refused: int = 0  # live requests that got a 4xx
    rate_violations: int = 0  # 429s by the server's own windows
    retried_early: int = 0  # a prompt asked again before the Retry-After that it was given
    prompt_tokens: int = 0
    completion_tokens: int = 0
    billed_pico: int = 0  # all that was spent, batches at half price
    billed_requests: int = 0
    asked: Counter[str] = field(default_factory=Counter)  # by prompt
    answers: Counter[str] = field(default_factory=Counter)  # by prompt, sent to the end
    statuses: Counter[str] = field(default_factory=Counter)  # by HTTP status or breakage
    calls: Counter[str] = field(default_factory=Counter)  # of files and batches

    def as_json(self, *, prompts: bool = False) -> dict[str, Any]:
        """All counts; by prompt only on demand, since there may be a million."""
        kept = ("asked", "answers")
        found = {name: value for name, value in vars(self).items() if name not in kept}
        found["distinct_prompts"] = len(self.asked)
        found["asked_again"] = sum(times - 1 for times in self.asked.values())
        found["answered_again"] = sum(times - 1 for times in self.answers.values())
        if prompts:
            found |= {name: getattr(self, name) for name in kept}
        return found
