"""Prices: exact to the pico-dollar, never too low, and unknown rather than guessed."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from genai_prices import Usage as TableUsage
from genai_prices import calc_price
from genai_prices.data_snapshot import DataSnapshot, set_custom_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from hypothesis import given
from hypothesis import strategies as st

from tutelage.config.teacher_settings import FREE, PriceOverride
from tutelage.core.errors import UsageError
from tutelage.core.types import Message, Usage
from tutelage.teacher.cost.prices import PICO, Price, Rates, input_bound, pico, price_of

TOKENS = st.integers(0, 2_000_000)
RATES = st.lists(
    st.tuples(*[st.integers(0, 10**9)] * 3), min_size=1, max_size=3
)  # falling ones as well


def known(model: str, base_url: str | None = None, provider: str | None = None) -> Price:
    price = price_of(model, base_url, provider)
    assert price is not None
    return price


@given(RATES, st.integers(0, 10**10), TOKENS, TOKENS, TOKENS, TOKENS, TOKENS)
def test_no_cost_exceeds_the_worst_case_of_its_bounds(
    rates: list[tuple[int, int, int]], fee: int, most: int, p: int, c: int, out: int, o: int
) -> None:
    price = Price(tuple(Rates(500_000 * i - 1, *r) for i, r in enumerate(rates)), fee, "test")
    prompt, written = min(p, most), min(o, out)
    for one in (price, price.batch()):
        cost = one.cost(Usage(prompt, written, min(c, prompt)))
        assert cost is not None
        assert cost <= one.worst(most, out)
    whole, half = price.cost(Usage(prompt, written, 0)), price.batch().cost(Usage(prompt, written))
    assert whole is not None
    assert half is not None
    assert 2 * half >= whole + fee  # rounded up, and a fee for each request stays whole


@given(
    st.decimals(0, 1000, places=9),
    st.decimals(0, 1000, places=9),
    st.decimals(0, 1000, places=9),
    TOKENS,
    TOKENS,
    TOKENS,
)
def test_the_recipes_prices_are_exact_or_rounded_up_by_less_than_a_pico_per_token(
    i: Decimal, c: Decimal, o: Decimal, prompt: int, cached: int, output: int
) -> None:
    price = price_of("any", override=PriceOverride(input=i, output=o, cached_input=c))
    assert price is not None
    cached = min(cached, prompt)
    charged = price.cost(Usage(prompt, output, cached))
    true = (Fraction(i) * (prompt - cached) + Fraction(c) * cached + Fraction(o) * output) * 10**6
    assert charged is not None
    assert true <= charged
    assert charged - true < max(prompt + output, 1)


def test_floats_are_read_as_written() -> None:
    price = price_of("any", override=PriceOverride(input=0.1, output=0.3))
    assert price is not None
    assert price.cost(Usage(1_000_000, 1_000_000)) == 4 * PICO // 10
    assert price.describe() == "$0.1 in, $0.3 out per million tokens (the recipe's price)"


@pytest.mark.parametrize(
    ("model", "url", "provider"),
    [
        ("gpt-4.1-mini", None, "openai"),
        ("gpt-3.5-turbo-0125", "https://api.openai.com/v1", "openai"),
        ("llama-3.1-8b-instant", "https://api.groq.com/openai/v1", "groq"),
        ("gemini-2.5-pro", "https://generativelanguage.googleapis.com/v1beta/openai", "google"),
        ("sonar", "https://api.perplexity.ai", "perplexity"),
    ],
)
@pytest.mark.parametrize("tokens", [(1, 1, 0), (1234, 567, 89), (200_000, 9, 7), (200_001, 9, 7)])
def test_costs_agree_with_the_price_tables_own(
    model: str, url: str | None, provider: str, tokens: tuple[int, int, int]
) -> None:
    prompt, output, cached = tokens
    price = known(model, url)
    cost = price.cost(Usage(*tokens))
    used = TableUsage(input_tokens=prompt, output_tokens=output, cache_read_tokens=cached)
    assert cost == calc_price(used, model, provider_id=provider).total_price * PICO
    assert f", {provider})" in price.describe()


def test_batches_are_charged_as_published() -> None:
    used = TableUsage(input_tokens=1000, output_tokens=100, cache_read_tokens=300)
    for model in ("gpt-4.1-mini", "gpt-5", "gpt-5.5", "o1"):
        published = calc_price(
            used, model, provider_id="openai", price_context={"processing": "batch"}
        )
        assert known(model).batch().cost(Usage(1000, 100, 300)) == published.total_price * PICO


def test_models_without_a_price_are_unknown() -> None:
    assert price_of("no-such-model") is None
    assert price_of("gpt-4.1-mini", "http://127.0.0.1:8000/v1") is None
    assert price_of("gpt-4.1-mini", "http://127.0.0.1:8000/v1", "my-openai-proxy") is None
    assert price_of("gpt-4o-search-preview") is None  # each search costs extra
    assert known("gpt-4.1-mini", "http://127.0.0.1:8000/v1", "OpenAI") == known("gpt-4.1-mini")
    # The address sends the bill, whatever name its answers are kept under.
    assert known("gpt-4.1-mini", "https://api.openai.com/v1", "groq") == known("gpt-4.1-mini")
    assert known("gpt-4.1-mini", None, "groq") == known("gpt-4.1-mini")


def test_every_model_of_the_table_has_a_price_above_zero_or_none() -> None:
    from genai_prices.data import providers

    openai = next(p for p in providers if p.id == "openai")
    prices = [price_of(model.id) for model in openai.models]
    assert sum(price is not None for price in prices) > 40
    assert any(price is None for price in prices)
    for price in prices:
        if price is not None:
            assert all(r.input > 0 and r.cached > 0 and r.output > 0 for r in price.rates)
            assert not price.free


def test_only_the_recipe_can_say_that_it_is_free() -> None:
    price = price_of("gpt-4.1-mini", override=FREE)
    assert price is not None
    assert price.free
    assert price.worst(10**9, 10**9) == 0
    assert price.cost(Usage(5, 5)) == 0
    assert price.describe() == "free (the recipe says price: 0)"
    paid = price_of("m", override=PriceOverride(input=0, output=0.01))
    assert paid is not None
    assert not paid.free


def test_bad_prices_are_refused() -> None:
    for bad in (-0.1, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="input"):
            PriceOverride(input=bad, output=1)
        with pytest.raises(UsageError):
            pico(bad)
    with pytest.raises(UsageError, match="cached_input"):
        PriceOverride(input=1, output=1, cached_input=-1)
    assert pico(20) == 20 * PICO
    assert pico(Decimal("0.0000000000019")) == 1
    assert pico(0.1) == PICO // 10


@pytest.mark.parametrize(
    "usage", [Usage(), Usage(5, None), Usage(None, 5), Usage(-1, 5), Usage(5, -1)]
)
def test_missing_or_impossible_usage_has_no_cost(usage: Usage) -> None:
    assert Price((Rates(-1, 1, 1, 1),), 0, "test").cost(usage) is None


def test_cached_tokens_above_the_prompt_do_not_count() -> None:
    price = Price((Rates(-1, 10, 1, 100),), 5, "test")
    assert price.cost(Usage(7, 2, 3)) == 4 * 10 + 3 + 200 + 5
    assert price.cost(Usage(7, 2, 999)) == 7 + 200 + 5
    assert price.cost(Usage(7, 2, -9)) == 70 + 200 + 5


def test_the_worst_case_counts_the_tiers_that_the_input_may_reach() -> None:
    price = Price((Rates(-1, 10, 1, 100), Rates(1000, 30, 40, 200)), 0, "test")
    assert price.worst(1000, 5) == 1000 * 10 + 5 * 100
    assert price.worst(1001, 5) == 1001 * 40 + 5 * 200
    assert price.cost(Usage(1001, 5)) == 1001 * 30 + 5 * 200


class Table:
    """The price table with one model of one provider, made for the test."""

    def __init__(self, *prices: ConditionalPrice, variants: list[PriceVariant] | None = None):
        model = ModelInfo("m", ClauseEquals("m"), prices=list(prices), price_variants=variants)
        provider = Provider("openai", "OpenAI", r"https://api\.openai\.com", models=[model])
        self.snapshot = DataSnapshot([provider], from_auto_update=False)

    def __enter__(self) -> None:
        set_custom_snapshot(self.snapshot)

    def __exit__(self, *_: object) -> None:
        set_custom_snapshot(None)


def held(input: str, output: str, constraint: object = None, **more: str) -> ConditionalPrice:
    parts = {"input_mtok": input, "output_mtok": output, **more}
    prices = ModelPrice(**{name: Decimal(value) for name, value in parts.items()})
    return ConditionalPrice(constraint, prices=prices)  # type: ignore[arg-type]


def test_a_price_rise_within_a_week_counts_now() -> None:
    today = datetime.now(UTC).date()

    def since(days: int) -> StartDateConstraint:
        return StartDateConstraint(today + timedelta(days=days))

    with Table(held("9", "9"), held("1", "2", since(-30)), held("3", "1", since(5))):
        assert known("m").rates == (Rates(-1, 3_000_000, 3_000_000, 2_000_000),)
    with Table(held("9", "9"), held("1", "2", since(-30)), held("3", "1", since(30))):
        assert known("m").rates == (Rates(-1, 1_000_000, 1_000_000, 2_000_000),)


def test_the_most_expensive_hour_counts() -> None:
    night = TimeOfDateConstraint(time(0, 30, tzinfo=UTC), time(16, 30, tzinfo=UTC))
    with Table(held("1", "5", cache_read_mtok="0.5"), held("2", "4", night)):
        assert known("m").rates == (Rates(-1, 2_000_000, 2_000_000, 5_000_000),)
    with Table(held("1", "2", night)):
        assert known("m").rates == (Rates(-1, 1_000_000, 1_000_000, 2_000_000),)


def test_a_price_with_a_gap_is_unknown() -> None:
    with Table(held("0", "0")):
        assert price_of("m") is None
    with Table(held("1", "0")):
        assert price_of("m") is None
    with Table(held("1", "2"), held("0", "2", StartDateConstraint(date(2020, 1, 1)))):
        assert price_of("m") is None


def test_writing_to_a_cache_and_hidden_reasoning_count_at_their_higher_rates() -> None:
    with Table(
        held("1", "2", cache_write_mtok="1.25", cache_read_mtok="0.1", output_reasoning_mtok="3")
    ):
        assert known("m").rates == (Rates(-1, 1_250_000, 100_000, 3_000_000),)


def test_tiers_are_merged_and_thirds_rounded_up() -> None:
    prices = ModelPrice(
        input_mtok=TieredPrices(Decimal("0.0000003"), [Tier(100, Decimal(2))]),
        output_mtok=TieredPrices(Decimal(3), [Tier(200, Decimal(4))]),
        requests_kcount=Decimal("0.0000000015"),
    )
    batch = PriceVariant({"processing": "batch"}, ModelPrice(output_mtok=Decimal(1)))
    with Table(ConditionalPrice(prices=prices), variants=[batch]):
        price = known("m")
    assert price.rates == (
        Rates(-1, 1, 1, 3_000_000),
        Rates(100, 2_000_000, 2_000_000, 3_000_000),
        Rates(200, 2_000_000, 2_000_000, 4_000_000),
    )
    assert price.per_request == 2
    assert [r.output for r in price.batch().rates] == [1_000_000, 1_000_000]
    assert price.cost(Usage(100, 1)) == 100 + 3_000_000 + 2
    assert price.cost(Usage(101, 1)) == 101 * 2_000_000 + 3_000_000 + 2
    assert price.cost(Usage(201, 1)) == 201 * 2_000_000 + 4_000_000 + 2
    assert "more than 100 tokens" in price.describe()


@given(st.lists(st.text(), max_size=4))
def test_input_is_bounded_by_bytes(texts: list[str]) -> None:
    messages = [Message("user", text) for text in texts]
    sizes = sum(len(text.encode()) for text in texts)
    assert input_bound(messages) == sizes + 16 * len(texts) + 32


def test_half_a_surrogate_pair_is_bounded_too() -> None:
    assert input_bound([Message("user", "\ud83d")]) == 3 + 16 + 32


def test_the_table_is_loaded_only_when_a_price_is_needed() -> None:
    code = "import sys, tutelage.teacher.cost.prices; print('genai_prices' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
