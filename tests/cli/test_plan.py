"""`tutelage plan`: its counts are those of the run that follows, and its forecasts hold."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from scripted_server import Reply, ScriptedServer, error, prompt

from forked import run_command
from tutelage.config.plan_settings import PlanSettings
from tutelage.config.recipe import Recipe
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.errors import BudgetError
from tutelage.core.progress import Silent
from tutelage.core.task import NLI
from tutelage.experiment.prepare import annotate_recipe, load_splits
from tutelage.experiment.teacher_baseline import ask_for_labels
from tutelage.planning.plan import Plan, plan_recipe
from tutelage.planning.request_cost import RequestPlan
from tutelage.strategies.lookup import get_strategy
from tutelage.teacher.cost.prices import PICO
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.store import Ledger

Make = Callable[..., Recipe]

PRICE = {"input": 1.0, "output": 2.0}
"""Of the recipes here: a millionth of a dollar for an input token, two for an output token."""
MAX_TOKENS = 60


def answer(body: dict[str, Any], before: int) -> Reply:
    """An answer whose length depends on the prompt; two lengths differ by less than 40 tokens."""
    text = prompt(body)
    usage = {
        "prompt_tokens": len(text) // 5 + 9,
        "completion_tokens": 20 + sum(map(ord, text)) % 40,
    }
    choice = {
        "message": {"role": "assistant", "content": "Who: Ada What: a mill Why: for bread"},
        "finish_reason": "stop",
    }
    body = {"model": "m", "choices": [choice], "usage": usage}
    return Reply(body=body, headers={"Content-Type": "application/json"})


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with ScriptedServer(answer) as running:
        yield running


@pytest.fixture
def recipe(server: ScriptedServer, small_recipe: Callable[..., dict[str, Any]]) -> Make:
    def make(
        arms: list[dict[str, Any]] | None = None, baselines: tuple[str, ...] = (), **teacher: Any
    ) -> Recipe:
        asked = {
            "model": "openai:m",
            "base_url": server.base_url,
            "max_tokens": MAX_TOKENS,
            "price": PRICE,
            **teacher,
        }
        reasoning = {"strategy": "informed_reasoning"}
        values = small_recipe(
            teacher=asked,
            search={"learning_rate": [1e-3, 3e-3], "label_weight": [0.3]},
            baselines=list(baselines),
            arms=[
                {"name": "labels"},
                {"name": "extraction", "strategy": "information_extraction"},
                {"name": "reasoning", **reasoning},
                {"name": "reasoning-shuffled", **reasoning, "control": "shuffled"},
                *(arms or []),
            ],
        )
        return parse_recipe(values)

    return make


def plan(recipe: Recipe, folder: Path, pilot: int | None = None) -> Plan:
    return plan_recipe(recipe, PlanSettings(ledger=folder / "ledger.sqlite", pilot=pilot), Silent())


def run(recipe: Recipe, folder: Path) -> None:
    annotate_recipe(recipe, folder / "runs", folder / "ledger.sqlite", Silent())


def of_arm(plan: Plan, name: str) -> RequestPlan:
    return next(group for group in plan.requests if name in group.arms)


def test_nothing_is_sent_and_no_file_is_made(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    found = plan(recipe(), tmp_path)
    assert server.requests == 0
    assert list(tmp_path.iterdir()) == []
    assert [group.arms for group in found.requests] == [
        ("extraction",),
        ("reasoning", "reasoning-shuffled"),
    ]
    assert found.pilot_requests == 0
    for group in found.requests:
        assert group.answers == 0
        assert group.known == 0
        assert group.missing == group.requests <= group.rows == 90
        assert group.output.expected == group.output.most == MAX_TOKENS * group.missing
        assert group.dollars.most == pytest.approx(
            ((group.input.most or 0) + 2 * (group.output.most or 0)) / 1e6
        )
        assert group.dollars.low is None
        assert group.batch is not None
        assert group.batch.most == pytest.approx((group.dollars.most or 0) / 2)
    assert found.dollars.most == pytest.approx(sum(q.dollars.most or 0 for q in found.requests))
    assert any("--pilot" in warning for warning in found.warnings)


def test_the_counts_are_those_of_the_run_and_the_worst_case_is_never_exceeded(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    made = recipe(budget_usd=1)
    before = plan(made, tmp_path)
    run(made, tmp_path)
    assert server.requests == sum(group.missing for group in before.requests)
    after = plan(made, tmp_path)
    for old, new in zip(before.requests, after.requests, strict=True):
        assert (new.known, new.missing) == (old.missing, 0)
        assert new.dollars.expected == new.dollars.most == 0
    spent = after.budgets[0].charged_usd
    assert before.dollars.most is not None
    assert 0 < spent <= before.dollars.most
    assert after.budgets[0].left_usd == pytest.approx(1 - spent)
    assert after.warnings == ()


def test_a_pilot_is_kept_continued_and_right(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    made = recipe(budget_usd=1)
    ten = plan(made, tmp_path, pilot=10)
    assert ten.pilot_requests == server.requests == 20
    again = plan(made, tmp_path, pilot=10)
    assert again.pilot_requests == 0
    assert again.requests == ten.requests
    found = plan(made, tmp_path, pilot=25)
    assert found.pilot_requests == 30
    for group in found.requests:
        assert group.answers == group.known == 25
        assert group.missing == group.requests - 25
        low, high = group.dollars.low, group.dollars.high
        assert low is not None
        assert high is not None
        assert low < high <= (group.dollars.most or 0)
        assert group.batch is not None
        assert group.batch.expected == pytest.approx((group.dollars.expected or 0) / 2)
    paid_for_pilot = found.budgets[0].charged_usd
    run(made, tmp_path)
    with Ledger(tmp_path / "ledger.sqlite") as book:
        rest = charges.charged(book, made.name) / PICO - paid_for_pilot
    assert found.dollars.low is not None
    assert found.dollars.high is not None
    # The rest of these very rows and answers. Which are in the pilot depends on the server's port:
    # an interval of 95% misses now and then, one of twice the width once in ten thousand.
    middle, width = (
        (found.dollars.low + found.dollars.high) / 2,
        found.dollars.high - found.dollars.low,
    )
    assert abs(rest - middle) <= width
    assert width < rest / 2  # and it says something


def test_a_pilot_is_a_sample_and_not_the_first_rows(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    made = recipe()
    rows, strategy = load_splits(made).train, get_strategy("informed_reasoning", task=NLI)
    first = [strategy.render(row, NLI)[0].content for row in rows[:10]]
    plan(made, tmp_path, pilot=10)
    assert server.requests == 20
    assert not set(first) <= set(server.prompts)
    run(made, tmp_path)
    assert set(first) <= set(server.prompts)
    assert len(set(server.prompts)) == server.requests  # no request was sent twice


def test_what_failed_permanently_is_not_sent_again(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def picky(body: dict[str, Any], before: int) -> Reply:
        return error(400, "too long") if sum(prompt(body).encode()) % 3 == 0 else answer(body, 0)

    with ScriptedServer(picky) as server:
        made = recipe(base_url=server.base_url)
        found = plan(made, tmp_path, pilot=12)
        again = plan(made, tmp_path, pilot=12)
        assert server.requests == 24
    failed = sum(group.failed for group in found.requests)
    assert failed > 0
    assert sum("have no answer" in warning for warning in found.warnings) > 0
    for group, same in zip(found.requests, again.requests, strict=True):
        assert group.answers == group.known == 12 - group.failed
        assert group.missing == group.requests - 12
        assert same.dollars == group.dollars


def test_a_pilot_stays_within_the_budget(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    made = recipe(budget_usd=0.001, concurrency=1)
    with pytest.raises(BudgetError, match="budget_usd"):
        plan(made, tmp_path, pilot=50)
    found = plan(made, tmp_path)
    assert 0 < of_arm(found, "extraction").known < 50
    assert found.budgets[0].charged_usd <= 0.001
    assert any("a run will stop there" in warning for warning in found.warnings)


def test_answers_without_usage_are_charged_at_the_worst_case(
    recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(body: dict[str, Any], before: int) -> Reply:
        reply = answer(body, before)
        del reply.body["usage"]
        return reply

    with ScriptedServer(silent) as server:
        found = plan(recipe(base_url=server.base_url, budget_usd=1), tmp_path, pilot=5)
    for group in found.requests:
        assert group.unmeasured == group.answers == 5
        assert group.input.low is None
        most = group.dollars.most or 0
        assert 0.8 * most < (group.dollars.expected or 0) <= most
    assert sum("without usage" in warning for warning in found.warnings) == 2


def test_a_request_shared_by_two_teacher_sections_is_counted_once(
    recipe: Make, server: ScriptedServer, tmp_path: Path
) -> None:
    teacher = {
        "model": "openai:m",
        "base_url": server.base_url,
        "max_tokens": MAX_TOKENS,
        "price": PRICE,
        "concurrency": 2,
    }
    arms = [{"name": "again", "strategy": "informed_reasoning", "teacher": teacher}]
    found = plan(recipe(arms=arms), tmp_path)
    again, reasoning = of_arm(found, "again"), of_arm(found, "reasoning")
    assert (again.missing, again.shared) == (0, again.requests)
    assert reasoning.missing == again.requests
    assert again.dollars.most == 0


def test_a_free_teacher_is_shown_as_free(recipe: Make, tmp_path: Path) -> None:
    arms = [
        {"name": "human", "strategy": "human"},
        {"name": "scripted", "strategy": "informed_reasoning", "teacher": {"model": "scripted"}},
    ]
    found = plan(recipe(arms=arms, price=0), tmp_path)
    assert of_arm(found, "human").price == "free (the reasons are in the data)"
    assert of_arm(found, "scripted").price == "free (the answers are looked up)"
    assert of_arm(found, "reasoning").price == "free (the recipe says price: 0)"
    assert of_arm(found, "reasoning").missing > 0
    assert found.dollars.most == 0
    assert all(group.batch is None for group in found.requests)


def test_an_unknown_price_is_reported(recipe: Make, tmp_path: Path) -> None:
    found = plan(recipe(price=None, max_tokens=None), tmp_path)
    assert all(group.price is None for group in found.requests)
    assert all(group.dollars.expected is None for group in found.requests)
    assert found.dollars.most is None
    assert sum("no price is known for 'openai:m'" in warning for warning in found.warnings) == 2
    assert sum("without teacher.max_tokens" in warning for warning in found.warnings) == 2
    known = plan(recipe(price=None, model="openai:gpt-4.1-mini", provider="openai"), tmp_path)
    assert known.requests[0].price is not None
    assert "genai-prices" in known.requests[0].price


def test_the_teacher_as_a_baseline_is_counted_with_the_rest(
    server: ScriptedServer, recipe: Make, tmp_path: Path
) -> None:
    made = recipe(baselines=("teacher",), budget_usd=1, mode="batch")
    without, found = plan(recipe(mode="batch"), tmp_path), plan(made, tmp_path)
    asked = found.requests[2:]
    assert [(q.title, q.arms, q.split, q.rows, q.mode) for q in asked] == [
        ("teacher baseline, no example", (), "dev", 30, "live"),
        ("teacher baseline, 3 examples", (), "dev", 30, "live"),
    ]
    assert all(group.missing == group.requests for group in asked)
    assert found.dollars.most == pytest.approx(
        (without.dollars.most or 0) + sum(q.dollars.most or 0 for q in asked)
    )
    assert found.batch.most == pytest.approx(  # live, whatever the mode: at the full price
        (without.batch.most or 0) + sum(q.dollars.most or 0 for q in asked)
    )
    entries, _ = ask_for_labels(made, load_splits(made), tmp_path / "ledger.sqlite", Silent())
    assert server.requests == sum(q.missing for q in asked)
    after = plan(made, tmp_path)
    assert [group.missing for group in after.requests[2:]] == [0, 0]
    spent = sum(entry.cost_usd or 0 for entry in entries)
    assert after.budgets[0].charged_usd == pytest.approx(spent)


def tutelage(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("TUTELAGE")}
    return run_command(*arguments, cwd=cwd, environment=inherited)


def test_the_printed_plan(server: ScriptedServer, recipe: Make, tmp_path: Path) -> None:
    made = recipe(budget_usd=1)
    (tmp_path / "recipe.yaml").write_text(
        yaml.safe_dump(made.model_dump(exclude_none=True)), encoding="utf-8"
    )
    done = tutelage("plan", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert server.requests == 0
    lines = done.stdout.splitlines()
    assert "reasoning, reasoning-shuffled: informed_reasoning, answered by openai:m" in lines
    assert "  price          $1 in, $2 out per million tokens (the recipe's price)" in lines
    assert any(line.startswith("  by batch API   $0.0") for line in lines)
    assert "budget: $1.00, of which $0 is charged and $1.00 left" in lines
    assert "tutelage: warning: without known answers the forecast assumes" in done.stderr
    (power,) = (line for line in lines if line.startswith("power analysis: with 45 test rows"))
    assert "2 seeds, 3 primary comparisons" in power
    (trained,) = (line for line in lines if line.startswith("trainings: "))
    arms = len(made.arms)
    assert trained == (
        f"trainings: {6 * arms}: {arms} arms × 2 seeds × (2 trials of 2 configurations + 1 tested)"
    )

    done = tutelage("plan", "recipe.yaml", "--pilot", "4", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["trainings"][0] == {
        "protocol": None, "arms": arms, "seeds": 2, "configurations": 2, "trials": 2,
        "total": 6 * arms, "before_first_analysis": 6 * arms, "hours": None,
    }  # fmt: skip
    assert [each["protocol"] for each in said["trainings"][1:]] == ["quick", "standard", "full"]
    assert said["pilot_requests"] == server.requests == 8
    assert [group["answers"] for group in said["requests"]] == [4, 4]
    assert said["budgets"][0]["charged_usd"] > 0
    assert (said["power_analysis"]["family"], said["power_analysis"]["seeds"]) == (3, 2)
    assert len(said["power_analysis"]["assumed"]) == 9

    done = tutelage("plan", "recipe.yaml", cwd=tmp_path)
    assert "from 4 answers" in done.stdout
    assert "(95%: $0.0" in done.stdout
    done = tutelage("plan", "recipe.yaml", "--pilot", "0", cwd=tmp_path)
    assert done.returncode == 2
    done = tutelage("plan", "recipe.yaml", "--like", "runs/none", cwd=tmp_path)
    assert done.returncode == 2
    assert "--like runs/none" in done.stderr
