"""`mode: batch` through `annotate`, and live requests while batches are open."""

import pytest
from openai_server.faults import KINDS, error
from openai_server.server import Server

from tutelage.config.teacher_settings import PriceOverride, TeacherSettings
from tutelage.core.errors import BatchesOpenError, BudgetError, TeacherError, UsageError
from tutelage.core.task import NLI
from tutelage.core.types import Example
from tutelage.teacher.annotate import Options, annotate
from tutelage.teacher.batch.jsonl import BatchLimits
from tutelage.teacher.ledger.charges import charged

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
    annotation = annotate(
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
    return annotation, notes


def test_all_answers_come_from_the_batch_at_half_the_price(ledger):
    with serve() as server:
        annotation, notes = ask(server, ledger, 12)
        assert annotation.counts["ok"] == 12 and annotation.cached == 12
        assert server.counts.batch_requests == 12 and server.counts.requests == 0
        assert charged(ledger, "b") == server.counts.billed_pico
        assert annotation.summary.cost_usd == pytest.approx(server.counts.billed_pico / 1e12)
        assert any("12 requests are in 1 batches" in note for note in notes)
        live, _ = ask(server, ledger, 12, mode="live")
    assert live.rationales == annotation.rationales and live.requests == 0


def test_expired_requests_are_retried_and_nothing_is_answered_twice(ledger):
    with serve(batch_ends=("expired",), batch_done_share=0.5) as server:
        annotation, _ = ask(server, ledger, 10)
    assert annotation.counts["ok"] == 10
    assert max(server.counts.answers.values()) == 1  # no answer was paid twice


def test_without_waiting_a_batch_stays_open_and_either_mode_collects_it_later(ledger):
    with serve() as server:
        with pytest.raises(BatchesOpenError, match="8 requests are in 1 open batches") as caught:
            ask(server, ledger, 8, wait=False)
        assert caught.value.exit_code == 0
        # More rows, live: the requests in the batch are not made again, the others are made.
        annotation, _ = ask(server, ledger, 11, mode="live")
        assert annotation.counts["ok"] == 11
        assert server.counts.requests == 3 and server.counts.batch_requests == 8
        assert max(server.counts.asked.values()) == 1


def test_a_row_that_failed_for_good_in_a_batch_is_retried_on_demand_only(ledger):
    with serve(batch_faults={"400": 1.0}) as server:
        annotation, _ = ask(server, ledger, 3)
        assert annotation.counts["failed"] == 3 and server.counts.requests == 0
        again, _ = ask(server, ledger, 3)
        assert again.counts["failed"] == 3 and server.counts.batch_requests == 3
        assert charged(ledger, "b") == 0
        server.change(batch_faults={})
        better, _ = ask(server, ledger, 3, retry_failed=True)
    assert better.counts["ok"] == 3


def test_a_budget_is_kept_in_batches_too(ledger):
    with serve() as server:
        with pytest.raises(BudgetError, match="budget_usd"):
            ask(server, ledger, 40, budget_usd=0.001)
        assert 0 < server.counts.billed_pico <= charged(ledger, "b") <= 0.001 * 1e12
        annotation, _ = ask(server, ledger, 40, budget_usd=1)
    assert annotation.counts["ok"] == 40


def test_a_local_teacher_has_no_batches(ledger, tmp_path):
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF" + bytes(60))
    with serve() as server, pytest.raises(UsageError, match="mode: batch needs"):
        ask(server, ledger, 1, model=f"gguf:{model}")


# Nothing is asked live at the full price, unless the recipe says so.


def test_a_failed_batch_stops_the_run_with_its_reason(ledger):
    with serve(batch_ends=("failed",)) as server:
        with pytest.raises(TeacherError, match=r"failed: .*batch_fallback: live") as stop:
            ask(server, ledger, 6)
        assert server.counts.requests == 0 and charged(ledger, "b") == 0
        assert "\n" not in str(stop.value)
        annotation, _ = ask(server, ledger, 6)  # the next batch is processed
        assert annotation.counts["ok"] == 6 and server.counts.requests == 0


def test_a_failed_batch_is_made_live_with_consent(ledger):
    with serve(batch_ends=("failed",)) as server:
        annotation, notes = ask(server, ledger, 6, batch_fallback="live")
        assert annotation.counts["ok"] == 6 and server.counts.requests == 6
    assert any("at the full price" in note for note in notes)


def test_rows_that_fail_with_500_in_a_batch_go_into_another_one(ledger):
    def behave(body, before):
        return KINDS["500"](server.options) if before == 0 and "Premise 1" in str(body) else None

    with serve() as server:
        server._behave = behave
        annotation, notes = ask(server, ledger, 12)
        assert annotation.counts["ok"] == 12 and server.counts.requests == 0
        assert charged(ledger, "b") >= server.counts.billed_pico > 0
    assert len(notes) == 2


def test_rows_of_an_earlier_batch_that_expired_go_into_another_one(ledger):
    with serve(batch_ends=("expired",), batch_done_share=0.5) as server:
        with pytest.raises(BatchesOpenError):
            ask(server, ledger, 8, wait=False)
        annotation, _ = ask(server, ledger, 8)
        assert annotation.counts["ok"] == 8 and server.counts.requests == 0


def test_rows_that_never_come_back_stop_the_run_after_three_rounds(ledger):
    with serve(batch_faults={"500": 1.0}) as server:
        with pytest.raises(TeacherError, match="4 requests came back 3 times"):
            ask(server, ledger, 4)
        assert server.counts.requests == 0 and len(rows_of_batches(server)) == 3


def rows_of_batches(server):
    return server._batches.batches


def test_a_budget_that_ends_sends_nothing_live(ledger):
    with serve() as server:
        with pytest.raises(BudgetError, match="budget_usd"):
            ask(server, ledger, 60, budget_usd=0.0008)
        assert server.counts.requests == 0 and server.counts.batch_requests > 0
        assert server.counts.billed_pico <= charged(ledger, "b") <= 0.0008 * 1e12


@pytest.mark.parametrize("good", [0, 3])
def test_an_unknown_refusal_in_a_batch_is_judged_by_its_other_rows(good, ledger):
    def behave(body, before):
        number = int(str(body).split("Premise ")[1].split(".")[0])
        return None if number < good or repaired else error(400, "Zork.")

    repaired = False
    with serve() as server:
        server._behave = behave
        if good:
            annotation, _ = ask(server, ledger, 6)
            assert (annotation.counts["ok"], annotation.counts["failed"]) == (3, 3)
        else:
            with pytest.raises(TeacherError, match="Zork"):
                ask(server, ledger, 6)
            repaired = True
            annotation, _ = ask(server, ledger, 6)
            assert annotation.counts["ok"] == 6
        assert server.counts.requests == 0
