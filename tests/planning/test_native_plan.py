"""`plan` for teachers of Anthropic and Gemini: tokens, prices, and the run that follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from native_server import Native, NativeServer

from tutelage.config.plan_settings import PlanSettings
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.progress import Silent
from tutelage.experiment.prepare import annotate_recipe
from tutelage.planning.plan import Plan, plan_recipe

PRICE = {"input": 1, "output": 4, "cached_input": 0.1}
"""That of the scripted servers, in dollars per million tokens."""
TOKENS = (20, 0, 8)
ONE = (20 * 1 + 8 * 4) / 1e6
"""Dollars of an answer."""
BOTH = pytest.mark.parametrize("scheme", ["anthropic", "gemini"])


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, "the-secret-key")


@pytest.fixture
def recipe(small_recipe: Callable[..., dict[str, Any]]) -> Callable[..., Recipe]:
    def make(**teacher: Any) -> Recipe:
        data = {"train": "synthetic:nli?n=24&seed=1", "dev": "synthetic:nli?n=12&seed=2",
                "test": "synthetic:nli?n=12&seed=3"}  # fmt: skip
        return parse_recipe(small_recipe(teacher={"max_tokens": 50, **teacher}, data=data))

    return make


def planned(recipe: Recipe, folder: Path, pilot: int | None = None) -> Plan:
    return plan_recipe(recipe, PlanSettings(ledger=folder / "ledger.sqlite", pilot=pilot), Silent())


@BOTH
def test_a_plan_has_the_tokens_and_the_cost_of_the_run(
    scheme: str, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    with NativeServer(scheme, lambda prompt, before: Native(tokens=TOKENS)) as server:
        made = recipe(model=f"{scheme}:m", base_url=server.base_url, price=PRICE, budget_usd=1)
        before = planned(made, tmp_path)
        (group,) = before.requests
        assert server.answered == 0 and list(tmp_path.iterdir()) == []
        assert group.teacher == f"{scheme}:m"
        assert group.price is not None and group.price.startswith("$1 in, $0.1 in cached, $4 out")
        assert group.missing == group.requests == 24
        assert group.output.most == 24 * 50
        assert group.dollars.most == pytest.approx(
            ((group.input.most or 0) + 4 * (group.output.most or 0)) / 1e6
        )
        assert group.batch is not None
        assert group.batch.most == pytest.approx((group.dollars.most or 0) / 2)

        (piloted,) = planned(made, tmp_path, pilot=6).requests
        assert server.answered == 6 and server.calls["create"] == 0
        assert (piloted.known, piloted.missing, piloted.answers) == (6, 18, 6)
        assert piloted.pilot is not None and piloted.unmeasured == 0
        assert piloted.input.expected == pytest.approx(18 * 20, rel=0.2)
        assert piloted.output.expected == pytest.approx(18 * 8)
        assert piloted.dollars.expected == pytest.approx(18 * ONE, rel=0.2)

        annotate_recipe(made, tmp_path / "runs", tmp_path / "ledger.sqlite", Silent())
        assert server.answered == 24
        after = planned(made, tmp_path)
        assert after.requests[0].missing == 0 and after.dollars.most == 0
        assert after.budgets[0].charged_usd == pytest.approx(24 * ONE)
        assert after.budgets[0].charged_usd == pytest.approx(server.billed_pico / 1e12)


@pytest.mark.parametrize(
    "model", ["anthropic:claude-haiku-4-5", "gemini:gemini-2.5-flash", "gemini:gemini-2.5-pro"]
)
def test_the_published_price_is_shown(
    model: str, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    (group,) = planned(recipe(model=model, mode="batch"), tmp_path).requests
    assert group.price is not None and "genai-prices" in group.price
    assert group.dollars.most is not None and group.batch is not None
    assert 0 < (group.batch.most or 0) < group.dollars.most
    assert group.mode == "batch"


@BOTH
def test_an_unknown_price_is_reported(
    scheme: str, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    found = planned(recipe(model=f"{scheme}:no-such-model"), tmp_path)
    assert found.requests[0].price is None and found.dollars.most is None
    assert any(f"no price is known for '{scheme}:no-such-model'" in w for w in found.warnings)
