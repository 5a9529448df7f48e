"""Reservations, charges and budgets: of one session, of several, and of sessions that die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from tutelage.core.types import Completion, Example, Message, Request, Usage
from tutelage.teacher.engine.requests import PendingRequest
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import (
    Claim,
    Failure,
    Reservation,
    ReservationStatus,
    Session,
    charged,
    lost,
)
from tutelage.teacher.ledger.store import Ledger, request_key


def pending(number: int) -> PendingRequest:
    request = Request("m", (Message("user", f"Why {number}?"),), "s", Example("e", {}, "l"))
    return PendingRequest(request_key("t", request), request)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "l.sqlite") as opened:
        yield opened


@pytest.fixture
def session(ledger: Ledger) -> Iterator[Session]:
    with Session(ledger) as opened:
        yield opened


def reserve(
    session: Session, *claims: tuple[int, int], cap: int | None = None, **more: Any
) -> list[Reservation]:
    """claims: (number of a request, its worst case)"""
    wanted = [Claim(pending(number)[0], worst) for number, worst in claims]
    return session.ledger.transact(
        lambda connection: session.reserve(
            connection, wanted, **{"scope": "run", "cap": cap, **more}
        )
    )


def statuses(reservations: list[Reservation]) -> list[ReservationStatus]:
    return [reservation.status for reservation in reservations]


def mark(ledger: Ledger, *numbers: int) -> None:
    ledger.transact(lambda connection: charges.mark_sent(connection, numbers))


def answer(
    ledger: Ledger, charge: int, number: int, cost: int | None, text: str = "because"
) -> None:
    key, request = pending(number)
    ledger.transact(
        lambda connection: charges.store_answer(
            connection, charge, key, request, Completion(text, "stop", Usage(1, 1)),
            identity="t", cost=cost,
        )
    )  # fmt: skip


def states(ledger: Ledger) -> dict[int, str]:
    with ledger.reader() as connection:
        return dict(connection.execute("SELECT id, state FROM charges"))


def sum_of_parts(ledger: Ledger, scope: str = "run") -> int:
    """The sum of a budget's charges and answers, which its running sum must equal."""
    with ledger.reader() as connection:
        parts = [
            connection.execute(
                f"SELECT coalesce(sum(pico), 0) FROM {table} WHERE scope = ?", (scope,)
            ).fetchone()[0]
            for table in ("charges", "answers")
        ]
    return sum(parts)


def test_a_claim_is_reserved_sent_and_charged_at_its_cost(ledger: Ledger, session: Session) -> None:
    (reserved,) = reserve(session, (1, 100), cap=100)
    assert reserved.status is ReservationStatus.RESERVED and charged(ledger, "run") == 100
    mark(ledger, reserved.charge)
    assert states(ledger) == {reserved.charge: "sent"}
    answer(ledger, reserved.charge, 1, cost=30)
    assert (charged(ledger, "run"), states(ledger)) == (30, {})
    kept = ledger.get(pending(1)[0])
    assert kept is not None and kept.pico == 30
    assert statuses(reserve(session, (1, 100), cap=100)) == [ReservationStatus.ANSWERED]
    assert charged(ledger, "run") == 30


def test_an_answer_without_usage_stays_at_its_worst_case(ledger: Ledger, session: Session) -> None:
    (reserved,) = reserve(session, (1, 100))
    answer(ledger, reserved.charge, 1, cost=None)
    kept = ledger.get(pending(1)[0])
    assert kept is not None and kept.pico == 100 == charged(ledger, "run")


def test_an_answer_without_a_price_does_not_count_as_free(ledger: Ledger, session: Session) -> None:
    unknown, free = reserve(session, (1, 0), (2, 0))
    answer(ledger, unknown.charge, 1, cost=None)
    answer(ledger, free.charge, 2, cost=0)
    found = ledger.get_many([pending(1)[0], pending(2)[0]])
    assert [found[pending(n)[0]].pico for n in (1, 2)] == [None, 0]


def test_a_request_is_made_by_one_session(ledger: Ledger, session: Session) -> None:
    with Session(ledger) as other:
        (mine,) = reserve(session, (1, 10))
        assert statuses(reserve(other, (1, 10), (2, 10))) == [
            ReservationStatus.HELD,
            ReservationStatus.RESERVED,
        ]
        assert charged(ledger, "run") == 20
        ledger.transact(lambda connection: charges.release(connection, [mine.charge]))
        assert statuses(reserve(other, (1, 10))) == [ReservationStatus.RESERVED]


def test_after_the_first_claim_that_does_not_fit_none_is_reserved(session: Session) -> None:
    reservation = reserve(session, (1, 40), (2, 70), (3, 10), (1, 40), cap=100)
    assert statuses(reservation) == [
        ReservationStatus.RESERVED,
        ReservationStatus.OVER_BUDGET,
        ReservationStatus.OVER_BUDGET,
        ReservationStatus.HELD,
    ]
    assert charged(session.ledger, "run") == 40
    # To the last pico-dollar, and not one more.
    assert statuses(reserve(session, (4, 61), cap=100)) == [ReservationStatus.OVER_BUDGET]
    assert statuses(reserve(session, (4, 60), cap=100)) == [ReservationStatus.RESERVED]


def test_budgets_with_other_names_are_separate(session: Session) -> None:
    reserve(session, (1, 100), cap=100)
    assert statuses(reserve(session, (2, 100), cap=100, scope="other")) == [
        ReservationStatus.RESERVED
    ]
    assert charged(session.ledger, "run") == charged(session.ledger, "other") == 100


def test_released_charges_cost_nothing_and_lost_ones_stay(ledger: Ledger, session: Session) -> None:
    first, second, third = reserve(session, (1, 1), (2, 20), (3, 300))
    mark(ledger, first.charge, second.charge)
    ledger.transact(lambda connection: charges.release(connection, [first.charge, third.charge]))
    ledger.transact(lambda connection: charges.mark_lost(connection, [second.charge]))
    assert charged(ledger, "run") == 20 and lost(ledger, "run") == (1, 20)
    ledger.transact(lambda connection: charges.release(connection, [second.charge, 999]))
    assert charged(ledger, "run") == 20 and lost(ledger, "run") == (1, 20)
    # A request whose first attempt was lost can be sent again, and is then charged twice.
    (again,) = reserve(session, (2, 20))
    answer(ledger, again.charge, 2, cost=5)
    assert charged(ledger, "run") == 25 and states(ledger) == {second.charge: "lost"}


def test_a_session_settles_its_charges_when_it_ends(ledger: Ledger) -> None:
    with Session(ledger) as session:
        held, sent, batched = (
            *reserve(session, (1, 1), (2, 20)),
            *reserve(session, (3, 300), batch=7),
        )
        mark(ledger, sent.charge, batched.charge)
    assert states(ledger) == {sent.charge: "lost", batched.charge: "sent"}
    assert charged(ledger, "run") == 320 and held.charge not in states(ledger)
    assert list((ledger.path.parent / "l.sqlite.sessions").iterdir()) == []


def test_a_live_session_is_not_settled(ledger: Ledger, session: Session) -> None:
    (sent,) = reserve(session, (1, 10))
    mark(ledger, sent.charge)
    with Ledger(ledger.path) as again, Session(again) as other:
        assert other.settle_dead_sessions() == 0
        assert statuses(reserve(other, (1, 10))) == [ReservationStatus.HELD]
    assert states(ledger) == {sent.charge: "sent"}


def test_sessions_on_a_ledger_in_memory_follow_each_other() -> None:
    with Ledger(":memory:") as ledger:
        with Session(ledger) as session:
            (sent,) = reserve(session, (1, 10))
            mark(ledger, sent.charge)
        with Session(ledger) as session:
            assert lost(ledger, "run") == (1, 10)
            assert statuses(reserve(session, (1, 10))) == [ReservationStatus.RESERVED]


def test_failures_are_stored_until_there_is_an_answer(ledger: Ledger, session: Session) -> None:
    keys = [pending(number)[0] for number in range(1200)]
    for number, transient in ((3, False), (4, True), (1100, False)):
        failure = Failure("refused", f"no {number}", transient)
        ledger.transact(
            lambda connection, key=keys[number], failure=failure: charges.store_failure(
                connection, key, "s", failure
            )
        )

    def failed() -> dict[str, str]:
        with ledger.reader() as connection:
            found = charges.final_failures(connection, keys)
        return {key: failure.detail for key, failure in found.items()}

    assert failed() == {keys[3]: "no 3", keys[1100]: "no 1100"}
    (reserved,) = reserve(session, (3, 1))
    answer(ledger, reserved.charge, 3, cost=1)
    assert failed() == {keys[1100]: "no 1100"}


steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["reserve", "send", "answer", "uncounted", "release", "mark_lost", "restart"]
        ),
        st.integers(0, 5),
        st.integers(0, 60),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(steps, st.integers(0, 200))
def test_a_budget_is_the_sum_of_its_parts_and_never_above_the_cap(
    script: list[tuple[str, int, int]], cap: int
) -> None:
    with Ledger(":memory:") as ledger:
        session = Session(ledger).__enter__()
        live: dict[int, tuple[int, int, bool]] = {}  # request -> charge, worst, sent
        for what, number, amount in script:
            if what == "reserve":
                (reservation,) = reserve(session, (number, amount), cap=cap)
                if reservation.status is ReservationStatus.RESERVED:
                    assert number not in live
                    live[number] = (reservation.charge, amount, False)
            elif what == "restart":
                session.__exit__(None, None, None)
                session, live = Session(ledger).__enter__(), {}
            elif number in live:
                charge, worst, sent = live[number]
                if what == "send":
                    mark(ledger, charge)
                    live[number] = (charge, worst, True)
                    continue
                del live[number]
                if what == "release" or not sent:
                    ledger.transact(lambda c, charge=charge: charges.release(c, [charge]))
                elif what == "mark_lost":
                    ledger.transact(lambda c, charge=charge: charges.mark_lost(c, [charge]))
                else:
                    answer(
                        ledger, charge, number, None if what == "uncounted" else min(amount, worst)
                    )
            assert charged(ledger, "run") == sum_of_parts(ledger) <= cap
        session.__exit__(None, None, None)
        assert set(states(ledger).values()) <= {"lost"}
        assert charged(ledger, "run") == sum_of_parts(ledger)


def _die_holding(path: Path) -> None:
    session = Session(Ledger(path)).__enter__()
    held, sent, _batched = (
        *reserve(session, (1, 1), (2, 20)),
        *reserve(session, (3, 300), batch=1),
    )
    assert held.status is sent.status is ReservationStatus.RESERVED
    mark(session.ledger, sent.charge)
    os.kill(os.getpid(), signal.SIGKILL)


def _spend(path: Path, cap: int) -> None:
    with Ledger(path) as ledger, Session(ledger) as session:
        for number in range(60):
            (reserved,) = reserve(session, (number, 7), cap=cap)
            if reserved.status is ReservationStatus.RESERVED:
                mark(ledger, reserved.charge)
                answer(ledger, reserved.charge, number, cost=3 + number % 5, text=str(os.getpid()))


def test_the_next_session_settles_one_that_died(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    process = multiprocessing.get_context("spawn").Process(target=_die_holding, args=(path,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with Ledger(path) as ledger:
        assert sorted(states(ledger).values()) == ["reserved", "reserved", "sent"]
        assert charged(ledger, "run") == 321
        with Session(ledger) as session:
            assert charged(ledger, "run") == 320 == sum_of_parts(ledger)
            assert sorted(states(ledger).values()) == [
                "lost",
                "reserved",
            ]  # the batch keeps its charge
            assert lost(ledger, "run") == (1, 20)
            reservation = reserve(session, (1, 1), (2, 20), (3, 300))
            assert statuses(reservation) == [
                ReservationStatus.RESERVED,
                ReservationStatus.RESERVED,
                ReservationStatus.BATCHED,
            ]


def test_concurrent_processes_do_not_spend_more_than_the_cap(tmp_path: Path) -> None:
    path, cap = tmp_path / "l.sqlite", 150
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_spend, args=(path, cap)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0] * 3
    with Ledger(path) as ledger:
        assert cap - 7 < charged(ledger, "run") == sum_of_parts(ledger) <= cap
        assert len(ledger) < 60 and states(ledger) == {}


def test_an_old_lock_of_no_session_is_removed(ledger: Ledger) -> None:
    folder = ledger.path.with_name(ledger.path.name + ".sessions")
    with Session(ledger) as living:
        old, young, held = (folder / f"{name}.lock" for name in ("old", "young", "held"))
        for file in (old, young, held):
            file.touch()
        with ledger.reader() as connection:
            (name,) = connection.execute("SELECT lock FROM sessions").fetchone()
        mine = folder / f"{name}.lock"
        hours_ago = time.time() - 2 * 3600
        for file in (old, held, mine):
            os.utime(file, (hours_ago, hours_ago))
        with FileLock(held):  # a session that is starting: it has its lock but no row yet
            Session(ledger).__enter__().__exit__(None, None, None)
        assert not old.exists() and young.exists() and held.exists() and mine.exists()
        (kept,) = reserve(living, (1, 10))
        assert kept.status is ReservationStatus.RESERVED
