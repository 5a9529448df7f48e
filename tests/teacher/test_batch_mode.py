"""`mode: batch` through `annotate`, and batches that are open when somebody asks live."""

import pytest
from openai_server.server import Server

from tutelage.config.teacher_settings import PriceOverride, TeacherSettings
from tutelage.core.errors import BatchesOpenError, BudgetError, UsageError
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.teacher.annotate import Options, annotate
from tutelage.teacher.batch.jsonl import BatchLimits
from tutelage.teacher.ledger.charges import charged
from tutelage.teacher.ledger.store import Ledger

PRICE = PriceOverride(input=0.4, output=1.6)


def serve(**options):
    return Server(input_price=400_000, output_price=1_600_000, batch_polls=1, **options)


def rows(count, start=0):
    return [
        Example(f"r{i}", {"premise": f"Premise {i}.", "hypothesis": "It is so."}, "neutral")
        for i in range(start, start + count)
    ]


def ask(server, ledger, count, mode="batch", start=0, model="openai:m", **more):
    options = {"wait": more.pop("wait", True), "retry_failed": more.pop("retry_failed", False)}
    notes = []
    outcome = annotate(
        rows(count, start),
        strategy="informed_reasoning",
        teacher=TeacherSettings(
            model=model, base_url=server.base_url, mode=mode, price=PRICE, max_tokens=50,
            provider="test", **more,
        ),
        task=NLI,
        ledger=ledger,
        options=Options(
            budget_name="b",
            on_note=notes.append,
            batch_limits=BatchLimits(poll_s=0.02, poll_cap_s=0.05),
            **options,
        ),
    )  # fmt: skip
    return outcome, notes


@pytest.fixture
def ledger(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as kept:
        yield kept


def test_everything_comes_through_the_batch_at_half_the_price(ledger):
    with serve() as server:
        outcome, notes = ask(server, ledger, 12)
        assert outcome.counts["ok"] == 12 and outcome.cached == 12
        assert server.counts.batch_requests == 12 and server.counts.requests == 0
        assert charged(ledger, "b") == server.counts.billed_pico
        assert outcome.summary.cost_usd == pytest.approx(server.counts.billed_pico / 1e12)
        assert any("12 questions are in 1 batches" in note for note in notes)
        live, _ = ask(server, ledger, 12, mode="live")
    assert live.rationales == outcome.rationales and live.requests == 0


def test_what_expires_is_asked_again_and_nothing_twice(ledger):
    with serve(batch_outcomes=("expired",), batch_done_share=0.5) as server:
        outcome, _ = ask(server, ledger, 10)
    assert outcome.counts["ok"] == 10
    assert max(server.counts.answers.values()) == 1  # no answer was paid twice


def test_without_waiting_it_is_left_and_collected_later_by_either_mode(ledger):
    with serve() as server:
        with pytest.raises(BatchesOpenError, match="8 questions lie in 1 open batches") as caught:
            ask(server, ledger, 8, wait=False)
        assert caught.value.exit_code == 0
        # More rows, live: those in the batch are not asked again, the others are.
        outcome, _ = ask(server, ledger, 11, mode="live")
        assert outcome.counts["ok"] == 11
        assert server.counts.requests == 3 and server.counts.batch_requests == 8
        assert max(server.counts.asked.values()) == 1


def test_a_row_that_fails_for_good_in_a_batch_is_not_asked_again_unless_asked_for(ledger):
    with serve(batch_faults={"400": 1.0}) as server:
        outcome, _ = ask(server, ledger, 3)
        assert outcome.counts["failed"] == 3 and server.counts.requests == 0
        again, _ = ask(server, ledger, 3)
        assert again.counts["failed"] == 3 and server.counts.batch_requests == 3
        assert charged(ledger, "b") == 0
        server.change(batch_faults={})
        better, _ = ask(server, ledger, 3, retry_failed=True)
    assert better.counts["ok"] == 3


def test_a_budget_holds_in_batches_too(ledger):
    with serve() as server:
        with pytest.raises(BudgetError, match="budget_usd"):
            ask(server, ledger, 40, budget_usd=0.001)
        assert 0 < server.counts.billed_pico <= charged(ledger, "b") <= 0.001 * 1e12
        outcome, _ = ask(server, ledger, 40, budget_usd=1)
    assert outcome.counts["ok"] == 40


def test_a_local_teacher_has_no_batches(ledger, tmp_path):
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF" + bytes(60))
    with serve() as server, pytest.raises(UsageError, match="mode: batch is for"):
        ask(server, ledger, 1, model=f"gguf:{model}")
