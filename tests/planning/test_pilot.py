"""A pilot shows what its answers are like, and a plan says when the server ends the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai_server.faults import Reply
from openai_server.server import Server

from tutelage.cli import plan as command
from tutelage.config.plan_settings import PlanSettings
from tutelage.config.recipe_file import parse_recipe
from tutelage.core.progress import Silent
from tutelage.core.types import Rationale, Usage
from tutelage.planning.pilot import Lengths, judge_pilot
from tutelage.planning.plan import Plan, plan_recipe

Make = Callable[..., dict[str, Any]]


def rationale(number: int, status: Any = "ok", words: int = 3, **more: Any) -> Rationale:
    text = " ".join(["word"] * words) if status == "ok" else ""
    return Rationale(f"r{number}", "s", text, status, usage=Usage(5, 10 * number), **more)


def test_statuses_lengths_and_three_answers_in_full() -> None:
    long = "because " * 500
    pilot = judge_pilot(
        [
            Rationale("r0", "s", long, "ok", usage=Usage(5, 600)),
            rationale(1, words=7),
            rationale(2, words=9, reasoning="hm"),
            rationale(3, "truncated", detail="cut at the token limit"),
            rationale(4, "refused", detail="no"),
        ]
    )
    assert pilot is not None
    assert (pilot.asked, pilot.usable, pilot.reasoned) == (5, 0.6, 1)
    assert dict(pilot.statuses) == {"ok": 3, "truncated": 1, "refused": 1}
    assert pilot.usable_ci95[0] < 0.6 < pilot.usable_ci95[1]
    assert pilot.words == Lengths(7, 9, 500) and pilot.tokens == Lengths(10, 30, 600)
    assert [answer.status for answer in pilot.answers] == ["ok", "ok", "truncated"]
    assert pilot.answers[0].text == long and pilot.answers[2].detail == "cut at the token limit"


def test_a_pilot_without_a_usable_answer() -> None:
    pilot = judge_pilot([rationale(n, "empty") for n in range(4)])
    assert pilot is not None and pilot.words is None and pilot.usable == 0
    assert len(pilot.answers) == 3
    assert judge_pilot([]) is None


@pytest.fixture
def planned(
    small_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Plan]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    def make(server: Server, pilot: int | None) -> Plan:
        teacher = {
            "model": "openai:m", "base_url": server.base_url, "max_tokens": 50,
            "price": {"input": 1, "output": 4}, "budget_usd": 1,
        }  # fmt: skip
        values = small_recipe(
            teacher=teacher,
            arms=[{"name": "labels"}, {"name": "why", "strategy": "informed_reasoning"}],
        )
        settings = PlanSettings(pilot=pilot, ledger=tmp_path / "l.sqlite")
        return plan_recipe(parse_recipe(values), settings, Silent())

    return make


def test_a_pilot_of_a_model_that_only_reasons_stops_and_says_so(
    planned: Callable[..., Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    empty = Reply(text="", finish_reason="length")
    with Server(lambda body, before: empty) as server:
        plan = planned(server, 60)
        assert 20 <= server.counts.requests <= 28
    (group,) = [group for group in plan.requests if group.pilot is not None]
    assert group.pilot is not None and group.pilot.usable == 0
    assert group.pilot.statuses["truncated"] == group.pilot.asked == server.counts.requests
    assert "hidden reasoning" in (group.pilot.stopped or "")
    command._show(plan)
    shown = capsys.readouterr().out
    assert "0% usable" in shown and "hidden reasoning" in shown and "truncated," in shown


def test_a_good_pilot_shows_answers_and_what_the_rest_costs(
    planned: Callable[..., Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    with Server(text="Because it rains, so it is wet.") as server:
        plan = planned(server, 6)
    command._show(plan)
    shown = capsys.readouterr().out
    assert "6 answers: 6 ok; 100% usable" in shown
    assert shown.count("Because it rains, so it is wet.") == 3
    assert "7 to 7, median 7" in shown and "from 6 answers" in shown


@pytest.mark.parametrize(("ends", "said"), [("2020-01-31", "since 2020-01-31"), (None, None)])
def test_a_plan_warns_of_a_model_that_ends(
    planned: Callable[..., Plan], ends: str | None, said: str | None
) -> None:
    with Server(shutdown_date=ends) as server:
        warnings = planned(server, None).warnings
        assert server.counts.requests == 0
    assert any("shut down" in line for line in warnings) is (said is not None)
    assert said is None or any(said in line for line in warnings)
