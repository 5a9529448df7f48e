"""What one server is to do, as values that JSON can carry to a process of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Every setting has a harmless default: no faults, no limits, no prices, answers at once.

    Times are seconds, prices pico-dollars (1e-12 $) a token, shares and probabilities 0..1.
    """

    seed: int = 0
    models: tuple[str, ...] = ("m",)  # any other model is a 404
    api_key: str | None = None  # any other key is a 401
    record: bool = True  # keep bodies and headers of all requests in memory

    # The answer.
    text: str = "Because of {prompt}"  # {prompt} is the last message's content
    delay_s: float = 0.0
    delay_spread_s: float = 0.0  # a random part of this is added
    default_max_tokens: int = 256  # where a request names no limit
    bytes_per_token: float = 4.0  # of a prompt; 1.0 is the worst that a tokenizer can do
    cached_share: float = 0.0  # of a prompt's tokens
    reasoning: str = "none"  # "details": told in usage; "total": only in total_tokens
    refuses: tuple[str, ...] = ()  # parameters that the model does not take

    # Faults: kind -> probability; the kinds are in faults.KINDS.
    faults: dict[str, float] = field(default_factory=dict)
    retry_after_s: float = 0.05
    slow_s: float = 0.3
    stall_s: float = 3600.0  # at most; a stall ends when the client goes

    # Limits.
    requests_per_window: int | None = None
    tokens_per_window: int | None = None
    window_s: float = 60.0
    window_slack_s: float = 0.0  # what the network may push two requests together
    rate_headers: bool = False

    # Budget.
    input_price: int = 0
    cached_price: int | None = None  # None: as the input
    output_price: int = 0

    # Files and batches.
    batch_polls: int = 1  # times that a batch is seen in one state
    batch_step_s: float | None = None  # instead: time between two states
    # Of the first, second, ... batch, then "completed"; or "failed", "expired", "stuck".
    batch_outcomes: tuple[str, ...] = ()
    batch_done_share: float = 0.5  # of the requests, done before an expiry or a cancellation
    batch_faults: dict[str, float] = field(default_factory=dict)
    batch_list: bool = True  # False: listing is a 404
    batch_max_requests: int = 50_000
    batch_max_bytes: int = 200 * 1024 * 1024
    batch_max_tokens: int | None = None  # prompt tokens in open batches, all together
    # call ("upload", "create", ...; calls.CALLS) -> what its first, second, ... meets; see calls
    call_faults: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Options:
        """The settings that a JSON object names. Raises TypeError for an unknown name."""
        named: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**named)
