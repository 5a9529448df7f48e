"""What is leased and not reported stays charged; what a shard holds is recorded once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kept_job import COST, SCOPE, WORST, Job, claims, key, statuses

from tutelage.core.errors import RunFolderError
from tutelage.core.types import Completion, Usage
from tutelage.scale.job_state import JobState
from tutelage.scale.keeper import JobStoppedError, SessionEndedError
from tutelage.scale.rate_leases import RateCall, SharedRates
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Failure, ReservationStatus, Session
from tutelage.teacher.ledger.shards import merge_folder
from tutelage.teacher.ledger.store import Ledger


def test_an_answer_is_recorded_with_its_shard_and_costs_what_it_cost(job: Job) -> None:
    worker = job.worker()
    leased = worker.claim(0, 1)
    assert statuses(leased) == ["RESERVED", "RESERVED"] and job.charged == 2 * WORST
    worker.answer(0, leased[0].charge)
    assert len(job.ledger) == 0
    worker.session.record()
    assert len(job.ledger) == 1 and job.charged == COST + WORST
    worker.session.record()  # nothing new: no shard
    assert job.keeper.progress() == (1, 0) and not list(job.shards.iterdir())
    assert job.ledger.get(key(0)) == Completion("Because.", "stop", Usage(1, 2), COST)


def test_what_a_worker_leased_and_did_not_report_stays_charged(job: Job) -> None:
    worker = job.worker()
    leased = worker.claim(0, 1, 2)
    worker.answer(0, leased[0].charge)
    worker.session.record()
    worker.answer(1, leased[1].charge)  # and its disk is lost
    other = job.worker("another")
    assert statuses(other.claim(1, 5)) == ["HELD", "RESERVED"]
    again = job.worker()  # the same actor begins again: its process has ended
    assert job.charged == COST + 2 * WORST + WORST
    (ended,) = job.keeper.ended_workers()
    assert ended.keys == (key(1), key(2)) and ended.place == "actor's node"
    assert charges.lost(job.ledger, SCOPE) == (2, 2 * WORST)
    assert statuses(again.claim(0, 1, 2)) == ["ANSWERED", "RESERVED", "RESERVED"]
    with pytest.raises(SessionEndedError):
        job.keeper.lease(worker.number, claims(7), SCOPE, None, [])


def test_a_lease_outlives_the_keeper_and_a_repeated_call_changes_nothing(job: Job) -> None:
    worker = job.worker()
    first = job.keeper.lease(worker.number, claims(0, 1), SCOPE, None, [])
    job.begin_again()
    assert job.charged == 2 * WORST
    assert job.keeper.lease(worker.number, claims(0, 1), SCOPE, None, []) == first
    assert job.charged == 2 * WORST
    job.keeper.finish()
    assert charges.lost(job.ledger, SCOPE) == (2, 2 * WORST)


def test_the_end_of_the_whole_job_leaves_its_leases_charged(tmp_path: Path, ledger: Ledger) -> None:
    with Session(ledger) as session:
        job = Job(tmp_path, ledger, session)
        job.worker().claim(0, 1)
        job.keeper.close()
        with Session(ledger):
            assert charges.lost(ledger, SCOPE) == (0, 0)  # another process sees that it lives
    assert charges.lost(ledger, SCOPE) == (2, 2 * WORST) and job.charged == 2 * WORST
    with Session(ledger) as later:
        assert later.settle_dead_sessions() == 0


def test_a_shard_whose_worker_was_given_up_still_counts(job: Job) -> None:
    worker = job.worker()
    leased = worker.claim(0, 1)
    worker.answer(0, leased[0].charge)
    name = worker.ledger.close_shard(job.shards)
    kept = (job.shards / str(name)).read_bytes()
    (job.shards / str(name)).rename(job.folder / "away")
    job.worker()
    assert job.charged == 2 * WORST
    (job.shards / str(name)).write_bytes(kept)
    job.keeper.report(worker.number, str(name))
    assert job.charged == COST + WORST and len(job.ledger) == 1
    (job.shards / str(name)).write_bytes(kept)
    merge_folder(job.ledger, job.shards)
    assert job.charged == COST + WORST and not list(job.shards.iterdir())


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_shard_brings_nothing_and_is_named(job: Job, damage: str) -> None:
    worker = job.worker()
    leased = worker.claim(0)
    worker.answer(0, leased[0].charge)
    path = job.shards / str(worker.ledger.close_shard(job.shards))
    content = bytearray(path.read_bytes())
    content[100] ^= damage == "changed"
    path.write_bytes(bytes(content[: len(content) // (2 if damage == "cut" else 1)]))
    job.keeper.finish()
    (line,) = job.keeper.damaged()
    assert "its rows are asked again" in line and path.name in line
    assert len(job.ledger) == 0 and job.charged == WORST
    assert [p.name for p in job.shards.iterdir()] == [path.name + ".damaged"]


def test_a_lease_whose_request_cost_nothing_is_used_again(job: Job) -> None:
    worker = job.worker()
    (lease,) = worker.claim(0)
    worker.ledger.transact(lambda c: charges.release(c, [lease.charge]))
    assert worker.claim(0) == [lease] and job.charged == WORST
    worker.ledger.transact(lambda c: charges.mark_sent(c, [lease.charge]))
    worker.ledger.transact(lambda c: charges.mark_lost(c, [lease.charge]))
    (second,) = worker.claim(0)
    assert second.charge != lease.charge and job.charged == 2 * WORST
    worker.answer(0, second.charge)
    worker.session.record()
    assert job.charged == WORST + COST and charges.lost(job.ledger, SCOPE) == (1, WORST)


def test_the_end_of_a_session_gives_back_what_was_not_sent(job: Job) -> None:
    worker = job.worker()
    with worker.session:
        leased = worker.claim(0, 1, 2)
        worker.ledger.transact(lambda c: charges.mark_sent(c, [leased[1].charge]))
    assert job.charged == WORST and charges.lost(job.ledger, SCOPE) == (1, WORST)


def test_a_budget_that_others_hold_is_waited_for(job: Job) -> None:
    one, other = job.worker("one"), job.worker("other")
    cap = 2 * WORST
    leased = one.claim(0, 1, cap=cap)
    assert statuses(other.claim(2, cap=cap)) == ["HELD"]
    one.answer(0, leased[0].charge)
    one.answer(1, leased[1].charge)
    one.session.record()
    assert statuses(other.claim(2, cap=cap)) == ["RESERVED"]
    assert statuses(other.claim(3, cap=cap)) == ["OVER_BUDGET"]
    assert job.charged == 2 * COST + WORST


def test_answers_that_are_not_recorded_yet_make_room_when_the_budget_is_used_up(job: Job) -> None:
    worker = job.worker()
    for number in range(5):  # four paid answers leave room for a fifth at its worst case
        (lease,) = worker.claim(number, cap=4 * COST + WORST)
        assert lease.status is ReservationStatus.RESERVED
        worker.answer(number, lease.charge)
    assert statuses(worker.claim(5, cap=4 * COST + WORST)) == ["OVER_BUDGET"]
    assert len(job.ledger) == 5 and job.charged == 5 * COST


def test_failures_are_recorded_unless_another_worker_has_the_answer(job: Job) -> None:
    one, other = job.worker("one"), job.worker("other")
    for number in (0, 1):
        one.ledger.transact(
            lambda c, n=number: charges.store_failure(c, key(n), "s", Failure("no", "why", False))
        )
    (lease,) = other.claim(0)
    other.answer(0, lease.charge)
    other.session.record()
    one.session.record()
    answered, failed = job.keeper.look_up([key(0), key(1), key(2)])
    assert answered == [key(0)] and failed == {key(1): Failure("no", "why", False)}
    assert job.keeper.progress() == (1, 1)


def test_a_stopped_job_leases_nothing_and_the_first_error_stays(job: Job) -> None:
    worker = job.worker()
    job.keeper.stop("BudgetError", "spent")
    job.keeper.stop("TeacherError", "later")
    job.begin_again()
    assert job.keeper.begin_block(worker.number, 0, 5).action == "stop"
    with pytest.raises(JobStoppedError):
        job.keeper.lease(worker.number, claims(0), SCOPE, None, [])
    error = job.keeper.stopped()
    assert (type(error).__name__, str(error)) == ("BudgetError", "spent")


def test_a_block_is_given_up_after_attempts_without_progress(job: Job) -> None:
    found = [
        job.keeper.begin_block(job.worker().number, 7, missing).action
        for missing in (20, 20, 20, 15, 15, 15, 15, 15, 20)
    ]
    assert found == [*["ask"] * 7, "fail", "fail"]


def test_a_shared_folder_that_cannot_be_written_loses_nothing(job: Job) -> None:
    worker = job.worker()
    (lease,) = worker.claim(0)
    worker.answer(0, lease.charge)
    job.shards.rmdir()
    job.shards.write_text("no folder", encoding="utf-8")
    with pytest.raises(RunFolderError, match="cannot be copied there"):
        worker.session.record()
    job.shards.unlink()
    worker.session.record()
    assert len(job.ledger) == 1


def test_a_shard_that_is_not_where_all_see_it_ends_the_job(job: Job) -> None:
    worker = job.worker()
    (lease,) = worker.claim(0)
    worker.answer(0, lease.charge)
    name = str(worker.ledger.close_shard(job.folder / "another machine's"))
    job.keeper.report(worker.number, name)
    error = job.keeper.stopped()
    assert isinstance(error, RunFolderError) and "shared_folder that all of them see" in str(error)
    assert len(job.ledger) == 0 and job.charged == WORST


# Rates.


def call(number: int, least: float = 0, wanted: float = 0, held: float = 0, used: float = 0) -> Any:
    return RateCall("", "requests", number, 60.0, least, wanted or least, held, used)


def test_leased_rates_outlive_the_keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """60 a minute, at most a second ahead of the even pace: what is out counts until it ends."""
    clock = [1000.0]
    monkeypatch.setattr("tutelage.scale.rate_leases.now", lambda: clock[0])

    def again() -> SharedRates:
        return SharedRates(JobState(tmp_path / "state.sqlite"))

    rates = again()
    granted = 0.0
    for number in range(1, 200):
        amount, wait_s = rates.call(1, call(number, 1))
        assert rates.call(1, call(number, 1)) == (amount, wait_s)  # the same call
        granted += amount
        rates = again() if number % 7 == 0 else rates
        clock[0] += max(wait_s, 0.01)
        if clock[0] > 1100:
            break
    assert granted == 60  # none has ended
    assert again().call(2, call(1, 1))[0] == 0
    rates = again()
    rates.end_holder(1)
    assert again().call(2, call(2, 1))[0] == 0  # ended now: each may have been sent just before
    clock[0] += 61
    assert again().call(2, call(3, 1))[0] == 1


def test_what_is_given_back_unused_can_be_leased_by_another(tmp_path: Path) -> None:
    with closing(JobState(tmp_path / "state.sqlite")) as state:
        rates = SharedRates(state)
        big = RateCall("", "tokens", 1, 1000.0, 900.0, 1000.0, 0.0, 0.0)
        assert rates.call(1, big)[0] == 1000
        assert rates.call(2, big)[0] == 0
        rates.call(1, big._replace(number=2, least=0.0, held=1000.0, used=100.0))
        state.rows("SELECT 1")
        assert rates._window("", "tokens", None).wait(900, 10**9) == 0
