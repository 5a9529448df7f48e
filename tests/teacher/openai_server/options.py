"""The options of a server, as values that can be sent to its process as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The defaults are harmless: no faults, no limits, no prices, immediate answers.

    Times are in seconds, prices in pico-dollars (1e-12 $) per token, shares and probabilities from
    0 to 1.
    """

    seed: int = 0
    models: tuple[str, ...] = ("m",)  # any other model gives a 404
    shutdown_date: str | None = None  # of all models, in their list
    api_key: str | None = None  # any other key gives a 401
    record: bool = True  # keep bodies and headers of all requests in memory

    # The answer.
    text: str = "Because of {prompt}"  # {prompt} is the last message's content
    delay_s: float = 0.0
    delay_spread_s: float = 0.0  # a random share of this is added
    default_max_tokens: int = 256  # where a request has no limit
    bytes_per_token: float = 4.0  # of a prompt; 1.0 is the worst case of a tokenizer
    cached_share: float = 0.0  # of a prompt's tokens
    reasoning: str = "none"  # "details": counted in usage; "total": only in total_tokens
    refuses: tuple[str, ...] = ()  # parameters that the model does not support

    # Faults: kind -> probability; the kinds are in faults.KINDS.
    faults: dict[str, float] = field(default_factory=dict)
    retry_after_s: float = 0.05
    slow_s: float = 0.3
    stall_s: float = 3600.0  # at most; a stall ends when the client disconnects

    # Limits.
    requests_per_window: int | None = None
    tokens_per_window: int | None = None
    window_s: float = 60.0
    window_slack_s: float = 0.0  # by which the network may bring two requests closer together
    rate_headers: bool = False

    # Prices.
    input_price: int = 0
    cached_price: int | None = None  # None: as for input
    output_price: int = 0

    # Files and batches.
    batch_polls: int = 1  # polls of a batch in each state
    batch_step_s: float | None = None  # instead: time between two states
    # Of the first, second, ... batch: "completed", "failed", "expired" or "stuck"; later batches
    # complete.
    batch_ends: tuple[str, ...] = ()
    batch_done_share: float = 0.5  # of the requests, processed before an expiry or a cancellation
    batch_faults: dict[str, float] = field(default_factory=dict)
    batch_list: bool = True  # False: listing gives a 404
    batch_max_requests: int = 50_000
    batch_max_bytes: int = 200 * 1024 * 1024
    batch_max_tokens: int | None = None  # prompt tokens in all open batches together
    # call ("upload", "create", ...; calls.CALLS) -> faults of its first, second, ... ; see calls
    call_faults: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Options:
        """The options in a JSON object. Raises TypeError for an unknown name."""
        named: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        return cls(**named)
