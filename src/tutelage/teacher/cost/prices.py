"""What an answer costs, in whole pico-dollars, from a price table or from the recipe.

Costs are integers in units of 1e-12 dollars, so that sums are exact and a cap is a cap. Every
rounding and every doubt is resolved upwards: a cost computed here is never below the true one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from tutelage.config.teacher_settings import PriceOverride
from tutelage.core.errors import UsageError
from tutelage.core.types import Message, Request, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, PriceCalculation, TieredPrices

PICO = 10**12
"""Pico-dollars in a dollar."""

_PER_MILLION = PICO // 10**6  # dollars per million tokens -> pico-dollars per token
_PER_THOUSAND = PICO // 10**3

_HORIZON = timedelta(days=7)
"""A price change that the table announces within this time counts from now on: a run or a batch
that starts today may still be going then."""

_MESSAGE_TOKENS = 16
_CALL_TOKENS = 32
"""Tokens that a chat template adds to each message, and to all of them together, at most."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Pico-dollars per token, where the input has more than `above` tokens."""

    above: int
    input: int
    cached: int
    output: int


@dataclass(frozen=True, slots=True)
class Price:
    """What a model charges for a request.

    rates:       by size of the input, the smallest size first; the number of input tokens decides
                 what *all* tokens of a request cost, output included
    per_request: pico-dollars for each request, whatever its length
    source:      where the prices come from, for people
    batch_rates: of the batch API, where the source names them; None: half
    """

    rates: tuple[Rates, ...]
    per_request: int
    source: str
    batch_rates: tuple[Rates, ...] | None = None

    def worst(self, input_tokens: int, output_tokens: int) -> int:
        """Pico-dollars that a request of *at most* this many tokens costs at most.

        That is the highest rate of any input of this size or less, with nothing cached.
        """
        reached = [r for r in self.rates if input_tokens > r.above or r is self.rates[0]]
        return (
            max(max(r.input, r.cached) for r in reached) * input_tokens
            + max(r.output for r in reached) * output_tokens
            + self.per_request
        )

    def cost(self, usage: Usage) -> int | None:
        """Pico-dollars for the tokens that the server counted; None where the counts are missing or
        make no sense.

        A free model costs nothing, counted or not. The result is never below the true price: a
        price per token that is not a whole number of pico-dollars was rounded up.
        """
        if self.free:
            return 0
        prompt, output = usage.prompt_tokens, usage.completion_tokens
        if prompt is None or output is None or prompt < 0 or output < 0:
            return None
        rates = self.rates[0]
        for further in self.rates[1:]:
            if prompt <= further.above:
                break
            rates = further
        cached = min(max(usage.cached_tokens or 0, 0), prompt)
        return (
            rates.input * (prompt - cached)
            + rates.cached * cached
            + rates.output * output
            + self.per_request
        )

    def batch(self) -> Price:
        """The price through the batch API of the OpenAI protocol.

        That is the source's batch price, or half of input and output where it names none. Cached
        input then keeps its price, as in the published tables.
        """
        rates = self.batch_rates or tuple(
            Rates(
                above=r.above,
                input=_half(r.input),
                cached=_half(r.input) if r.cached == r.input else r.cached,
                output=_half(r.output),
            )
            for r in self.rates
        )
        return replace(self, rates=rates, source=f"{self.source}, batch", batch_rates=None)

    @property
    def free(self) -> bool:
        """Whether no request costs anything."""
        return self.per_request == 0 and not any(
            r.input or r.cached or r.output for r in self.rates
        )

    def describe(self) -> str:
        """The price in words: `$0.4 in, $1.6 out per million tokens (genai-prices …, openai)`."""
        if self.free:
            return f"free ({self.source})"
        base = self.rates[0]
        parts = [f"{_dollars(base.input, _PER_MILLION)} in"]
        if base.cached != base.input:
            parts.append(f"{_dollars(base.cached, _PER_MILLION)} in cached")
        parts.append(f"{_dollars(base.output, _PER_MILLION)} out")
        text = ", ".join(parts) + " per million tokens"
        for r in self.rates[1:]:
            text += (
                f"; {_dollars(r.input, _PER_MILLION)} in, {_dollars(r.output, _PER_MILLION)} out "
                f"where the input has more than {r.above:,} tokens"
            )
        if self.per_request:
            text += f"; {_dollars(self.per_request, PICO)} per request"
        return f"{text} ({self.source})"


def input_bound(messages: Iterable[Message]) -> int:
    """Tokens that a server counts for these messages, at most.

    A byte-level tokenizer never makes more tokens than there are bytes. Chat templates add tokens
    to each message and to all of them together.
    """
    total = _CALL_TOKENS
    for message in messages:
        text = message.content
        size = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        total += size + _MESSAGE_TOKENS
    return total


def request_bound(request: Request) -> int:
    """Tokens of input at most: those of the messages, and of a schema where there is one."""
    schema = request.parameters.get("response_format")
    # Providers add the schema to the prompt, each in its own form: twice its length is a bound.
    extra = 0 if schema is None else 2 * len(json.dumps(schema).encode())
    return input_bound(request.messages) + extra


def output_bound(request: Request, unset: int = 4096) -> int:
    """Tokens of an answer at most; `unset` where nothing bounds it (then no budget is set)."""
    given = request.parameters.get("max_tokens")
    return int(given) if isinstance(given, (int, float)) else unset


def worst_case(request: Request, price: Price | None) -> int:
    """Pico-dollars that a request costs at most; 0 where no price is known."""
    return 0 if price is None else price.worst(request_bound(request), output_bound(request))


def pico(dollars: float | Decimal) -> int:
    """A cap in dollars as whole pico-dollars, rounded down. Raises UsageError below 0."""
    if not (math.isfinite(dollars) and dollars >= 0):
        raise UsageError(f"got {dollars} US dollars, expected 0 or more")
    return int((Decimal(str(dollars)) * PICO).to_integral_value(ROUND_FLOOR))


def price_of(
    model: str,
    base_url: str | None = None,
    provider: str | None = None,
    override: PriceOverride | None = None,
    *,
    stores: bool = True,
) -> Price | None:
    """What `model` costs, or None where no price is known.

    model:    as the server names it, without `openai:`
    base_url: of the server; None: OpenAI's own
    provider: whose prices apply where the table does not know the address
    override: the recipe's own prices, which take precedence over the table
    stores:   whether the server may write the input to a cache, which costs more at some providers

    The table is the one in the installed package genai-prices; nothing is fetched. A model that it
    prices at zero counts as unknown (the table does that for many models whose price it lacks), and
    so does a search model, which charges for each search. Of prices that depend on the time of day
    or change within a week, the highest counts. Where writing to a cache costs more than input, all
    input that was not cached is priced as written: servers do not report it. Higher service tiers
    of a server are not considered: no request asks for them.
    """
    if override is not None:
        return _of_override(override)
    from genai_prices import __version__

    found = _look_up(model, base_url, provider)
    if found is None or "search" in model.lower():
        return None
    prices = _current(found.model)
    rates = _rates(prices, stores)
    if not rates:
        return None
    return Price(
        rates=rates,
        per_request=_up(max(_at(price.requests_kcount, 0) for price in prices), _PER_THOUSAND),
        source=f"genai-prices {__version__}, {found.provider.id}",
        batch_rates=_rates(_current_batch(found), stores) or None,
    )


def _of_override(override: PriceOverride) -> Price:
    cached = override.input if override.cached_input is None else override.cached_input
    rates = Rates(
        -1, *(_up(Decimal(str(v)), _PER_MILLION) for v in (override.input, cached, override.output))
    )
    price = Price((rates,), 0, "the recipe's price")
    return replace(price, source="the recipe says price: 0") if price.free else price


def _look_up(model: str, base_url: str | None, provider: str | None) -> PriceCalculation | None:
    """The table's entry, looked up by the address first: the address decides who charges."""
    from genai_prices import Usage as NoUsage
    from genai_prices import calc_price
    from genai_prices.data import providers

    try:
        if base_url is None:
            return calc_price(NoUsage(), model, provider_id="openai")
        return calc_price(NoUsage(), model, provider_api_url=base_url.strip())
    except LookupError:
        name = (provider or "").strip().lower()
        # The table's own look-up matches parts of a name; `my-azure-proxy` is not Azure.
        if base_url is None or name not in {known.id for known in providers}:
            return None
    try:
        return calc_price(NoUsage(), model, provider_id=name)
    except LookupError:
        return None


def _current(model: ModelInfo) -> list[ModelPrice]:
    """The prices that may apply at any time in the next week."""
    from genai_prices.types import StartDateConstraint

    if not isinstance(model.prices, list):
        return [model.prices]
    now = datetime.now(UTC)
    applicable = []
    for conditional in reversed(model.prices):  # the last one whose condition holds applies
        constraint = conditional.constraint
        if isinstance(constraint, StartDateConstraint):
            if not constraint.active(now + _HORIZON):
                continue
            constraint = None if constraint.active(now) else constraint
        applicable.append(conditional.prices)
        if constraint is None:
            return applicable
    return [*applicable, *(first.prices for first in model.prices[:1])]


def _current_batch(found: PriceCalculation) -> list[ModelPrice]:
    """The same for the batch API; empty where no batch price is published."""
    model, asked = found.model, {"processing": "batch"}
    own = any(model is candidate for candidate in found.provider.models)
    if not own or not any(variant.when == asked for variant in model.price_variants or ()):
        return []
    now = datetime.now(UTC)
    return [model.get_prices(now, asked), model.get_prices(now + _HORIZON, asked)]


def _rates(prices: Sequence[ModelPrice], stores: bool) -> tuple[Rates, ...]:
    """The highest of several prices, by size of input; empty where one of them lacks a part."""
    steps = {-1}
    for price in prices:
        for part in (*_inputs(price, stores), *_outputs(price), price.cache_read_mtok):
            if part is not None and not isinstance(part, Decimal):
                steps |= {tier.start for tier in part.tiers}
    rates = []
    for above in sorted(steps):
        size = above + 1
        inputs, cached, outputs = [], [], []
        for price in prices:
            inputs.append(
                max((_at(part, size) for part in _inputs(price, stores)), default=Decimal(0))
            )
            outputs.append(max((_at(part, size) for part in _outputs(price)), default=Decimal(0)))
            cached.append(_at(price.cache_read_mtok, size) or inputs[-1])
            if not inputs[-1] or not outputs[-1] or not _at(price.input_mtok, size):
                return ()
        if inputs:
            highest = (max(inputs), max(cached), max(outputs))
            rates.append(Rates(above, *(_up(part, _PER_MILLION) for part in highest)))
    return tuple(rates)


def _inputs(price: ModelPrice, stores: bool) -> list[Decimal | TieredPrices]:
    written = price.cache_write_mtok if stores else None
    parts = (price.input_mtok, price.input_text_mtok, written)
    return [part for part in parts if part is not None]


def _outputs(price: ModelPrice) -> list[Decimal | TieredPrices]:
    parts = (price.output_mtok, price.output_text_mtok, price.output_reasoning_mtok)
    return [part for part in parts if part is not None]


def _at(price: Decimal | TieredPrices | None, tokens: int) -> Decimal:
    """The price that applies to an input of this many tokens."""
    if price is None:
        return Decimal(0)
    if isinstance(price, Decimal):
        return price
    reached = [tier.price for tier in price.tiers if tokens > tier.start]
    return reached[-1] if reached else price.base


def _up(price: Decimal, scale: int) -> int:
    return math.ceil(price * scale)


def _half(price: int) -> int:
    return -(-price // 2)


def _dollars(price: int, scale: int) -> str:
    return f"${(Decimal(price) / scale).normalize():f}"
