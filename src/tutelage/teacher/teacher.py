"""The protocol of a teacher, and the settings that describe one; `registry` opens it.

A teacher makes one attempt at one request. Concurrency, retries, rate limits and the budget are the
engine's work (`engine`, `ledger`).
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self

from tutelage.core.errors import TeacherError, UsageError
from tutelage.core.types import Completion, Parameter, Request
from tutelage.teacher.cost.prices import PriceOverride
from tutelage.teacher.engine.failures import Fault

Mode = Literal["live", "batch"]


class RequestFailedError(TeacherError):
    """One request has no answer; others may have one. Its rows become `failed` rationales.

    transient: True where a later retry may help (the server's fault), False otherwise
    """

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(message)
        self.transient = transient


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherSettings:
    """Which teacher, and how it is asked. Everything that is None is not sent.

    model:       `openai:MODEL`, `gguf:PATH`, `package:PACKAGE/FILE`, `recorded:FILE#KEY` or
                 `scripted`
    base_url:    of an OpenAI-compatible server, up to and with its `/v1`; None: OpenAI's own
    api_key_env: the environment variable that holds the key
    provider:    a name for whoever answers, kept with the answers instead of the address, so that
                 a server that moves does not have everything asked again
    temperature, seed, max_tokens, top_p: as the API names them
    concurrency: questions in flight at most; fewer where the server cannot keep up
    timeout_s:   seconds for one answer, connecting included
    max_failed:  the run stops when more rows than this have failed; None: never for this reason
    requests_per_minute, tokens_per_minute: kept to; None: as the server's headers say, if they do
    budget_usd:  US dollars that may be charged at most, over all runs of one name; None: no limit
    price:       what tokens cost, where it is not known or another than the public one
    structured:  have answers as JSON of the strategy's schema, where it has one and the server can
    mode:        `live`: one request a question; `batch`: through the batch API, at half the price
    """

    model: str
    base_url: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    provider: str | None = None
    temperature: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    concurrency: int = 8
    timeout_s: float = 120.0
    max_failed: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget_usd: float | None = None
    price: PriceOverride | None = None
    mode: Mode = "live"
    structured: bool = False

    def __post_init__(self) -> None:
        rules = {
            "temperature is 0 or more": self.temperature is None or self.temperature >= 0,
            "max_tokens is 1 or more": self.max_tokens is None or self.max_tokens >= 1,
            "top_p is above 0, at most 1": self.top_p is None or 0 < self.top_p <= 1,
            "concurrency is 1 or more": self.concurrency >= 1,
            "timeout_s is above 0": self.timeout_s > 0,
            "max_failed is 0 or more": self.max_failed is None or self.max_failed >= 0,
            "requests_per_minute is above 0": (self.requests_per_minute or 1) > 0,
            "tokens_per_minute is above 0": (self.tokens_per_minute or 1) > 0,
            "budget_usd is 0 or more": self.budget_usd is None or self.budget_usd >= 0,
        }
        broken = [
            f"{rule} (got {getattr(self, rule.split()[0])!r})"
            for rule, held in rules.items()
            if not held
        ]
        if broken:
            raise UsageError(f"teacher {self.model!r}: " + "; ".join(broken))

    @property
    def remote(self) -> bool:
        """Whether it is a server, which may send a bill and may have to be spared."""
        return self.model.startswith("openai:")

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The sampling parameters that are set, as the API names them."""
        values: dict[str, Parameter | None] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        return {name: value for name, value in values.items() if value is not None}


class Teacher(Protocol):
    """Answers requests. This is the whole contract.

    A teacher is opened once with `async with` before the first request, and closed after the last
    one. Constructing it costs nothing and needs no key: a run whose answers are all in the ledger
    opens none.
    """

    @property
    def identity(self) -> str:
        """The provider in each answer's key: a name or an address, or a model file's digest."""
        ...

    @property
    def model(self) -> str:
        """The model's name as the server uses it."""
        ...

    @property
    def paid(self) -> bool:
        """Whether an answer has a price or takes time: then equal requests are made once, and the
        ledger keeps their answer. False for a teacher that looks answers up by their example.
        """
        ...

    @property
    def settings(self) -> TeacherSettings:
        """The settings that describe it."""
        ...

    async def complete(self, request: Request) -> Completion:
        """One attempt at the answer.

        Raises Fault for an attempt that failed (its action says what to do), RequestFailedError for
        a request that has no answer, TeacherError where no request has one.
        """
        ...

    async def explain(self, fault: Fault) -> TeacherError:
        """The error that ends a run after a fault that concerns every request."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
