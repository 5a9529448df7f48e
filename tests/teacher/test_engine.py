"""The engine makes each request once, reports it as often as it came, and keeps to the budget."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_worker import Spec, Worker
from openai_server.faults import KINDS, Reply
from openai_server.server import Server

from tutelage.config.teacher_settings import PriceOverride, TeacherSettings
from tutelage.core.errors import BudgetError, TeacherError
from tutelage.core.task import NLI
from tutelage.core.types import Completion, Example, Message, Request, Usage
from tutelage.teacher.annotate import annotate, annotate_to_file
from tutelage.teacher.clients.http_api import ServerTeacher
from tutelage.teacher.cost.budget import Budget
from tutelage.teacher.cost.prices import Price, Rates, input_bound, pico
from tutelage.teacher.engine import engine
from tutelage.teacher.engine.engine import Engine
from tutelage.teacher.engine.failures import Action, Fault, FaultKind, RetryPolicy
from tutelage.teacher.engine.interrupts import Interrupted
from tutelage.teacher.engine.rate_limits import FailureMonitor, RateLimiter, RateLimits
from tutelage.teacher.engine.requests import PendingRequest
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Claim, Failure, Session, charged, lost
from tutelage.teacher.ledger.store import Ledger, request_key

QUICK = RetryPolicy(dict.fromkeys(FaultKind, 3), first_attempts=3, base_s=0.001, cap_s=0.002)
PRICE = Price((Rates(-1, 1, 1, 10),), 0, "test")
MAX_TOKENS = 20


@cache
def pending(text: object) -> PendingRequest:
    request = Request(
        "m",
        (Message("user", f"Why {text}?"),),
        "s",
        Example("e", {}, "l"),
        parameters={"max_tokens": MAX_TOKENS},
    )
    return PendingRequest(request_key("fake", request), request)


def number_of(request: Request) -> int:
    """The number that `pending` made a request of."""
    return int(request.messages[0].content.removeprefix("Why ").removesuffix("?"))


WORST = PRICE.worst(input_bound(pending(10)[1].messages), MAX_TOKENS)


class Fake:
    """A teacher in this process: `behave(request)` returns a completion, or raises."""

    identity = "fake"
    model = "m"
    paid = True

    def __init__(self, behave: Callable[[Request], Any] | None = None, wait_s: float = 0.0) -> None:
        self.settings = TeacherSettings(model="openai:m")
        self.requested: Counter[str] = Counter()
        self.opened = 0
        self._behave = behave
        self._wait_s = wait_s

    async def complete(self, request: Request) -> Completion:
        self.requested[request_key("fake", request)] += 1
        await asyncio.sleep(self._wait_s)
        completion = None if self._behave is None else self._behave(request)
        return Completion("because", "stop", Usage(1, 2)) if completion is None else completion

    async def explain(self, fault: Fault) -> TeacherError:
        return TeacherError(str(fault))

    async def __aenter__(self) -> Self:
        self.opened += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.opened -= 1


class Results:
    """A listener that counts what the engine reports of each request."""

    def __init__(self) -> None:
        self.was_cached: Counter[str] = Counter()
        self.was_answered: Counter[str] = Counter()
        self.failures: dict[str, list[tuple[Failure, bool]]] = {}

    def cached(self, key: str, completion: Completion) -> None:
        self.was_cached[key] += 1

    def answered(self, key: str, completion: Completion) -> None:
        self.was_answered[key] += 1

    def failed(self, key: str, failure: Failure, *, sent: bool) -> None:
        self.failures.setdefault(key, []).append((failure, sent))

    def batched(self, key: str) -> None:
        raise AssertionError("there are no batches")

    @property
    def times(self) -> Counter[str]:
        failed = Counter({key: len(found) for key, found in self.failures.items()})
        return self.was_cached + self.was_answered + failed


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "l.sqlite") as opened:
        yield opened


def run(
    teacher: Any,
    ledger: Ledger,
    requests: Iterable[PendingRequest],
    *,
    cap: int | None = None,
    price: Price | None = PRICE,
    concurrency: int = 4,
    during: Callable[[Engine], Any] | None = None,
    **more: Any,
) -> Results:
    """One session on the ledger, and one engine in it. during: a coroutine that runs meanwhile."""
    results = Results()

    async def begin() -> None:
        ours = Engine(
            teacher,
            session,
            Budget("run", cap, price),
            RateLimiter(RateLimits(concurrency=concurrency)),
            results,
            monitor=FailureMonitor(proven=True, max_failed=None),
            policy=QUICK,
            **more,
        )
        concurrent = None if during is None else asyncio.create_task(during(ours))
        try:
            await ours.run(requests)
        finally:
            if concurrent is not None:
                await concurrent

    with Session(ledger) as session:
        asyncio.run(asyncio.wait_for(begin(), 30))
    return results


def nothing_is_open(ledger: Ledger) -> bool:
    with ledger.reader() as connection:
        rows = connection.execute("SELECT count(*) FROM charges WHERE state != 'lost'").fetchone()
    return rows == (0,)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=700), st.integers(1, 40), st.integers(0, 200))
def test_each_request_is_made_once_and_reported_as_often_as_it_came(
    numbers: list[int], concurrency: int, seed: int
) -> None:
    rng = random.Random(seed)
    numbers = numbers + rng.choices(numbers, k=300) if numbers else []
    bad = {number for number in set(numbers) if number % 11 == 0}

    def behave(request: Request) -> None:
        if number_of(request) in bad:
            raise Fault(Action.FAIL_REQUEST, "too long", unpaid=True)

    with Ledger(":memory:") as ledger:
        for again in (False, True):
            teacher = Fake(behave)
            results = run(teacher, ledger, map(pending, numbers), concurrency=concurrency)
            assert results.times == Counter(pending(number)[0] for number in numbers)
            assert set(teacher.requested) == (
                set() if again else {pending(number)[0] for number in numbers}
            )
            assert set(teacher.requested.values()) <= {1} and teacher.opened == 0
            assert set(results.failures) == {pending(number)[0] for number in bad}
        assert len(ledger) == len(set(numbers) - bad)
        assert charged(ledger, "run") == 21 * len(ledger) and nothing_is_open(ledger)


def test_only_a_window_of_the_stream_is_read_ahead(ledger: Ledger) -> None:
    read = done = most = 0

    def stream() -> Iterator[PendingRequest]:
        nonlocal read
        for number in range(2000):
            read += 1
            yield pending(number)

    def behave(request: Request) -> None:
        nonlocal done, most
        done += 1
        most = max(most, read - done)

    run(Fake(behave), ledger, stream(), concurrency=10)
    assert done == 2000 and most <= 200 + 2 * 10 + 10


def test_repeats_of_an_active_request_are_read_up_to_a_limit(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_MAX_REPEATS", 500)
    read = 0

    def rows() -> Iterator[PendingRequest]:
        nonlocal read
        for number in [0] * 3000 + [1, 0, 2] * 700:
            read += 1
            yield pending(number)

    seen: list[int] = []
    teacher = Fake(lambda request: seen.append(read), wait_s=0.1)
    results = run(teacher, ledger, rows())
    assert seen[0] <= 500 + engine._CHUNK
    assert read == 5100
    assert sorted(results.times.values()) == [700, 700, 3700]
    assert set(teacher.requested.values()) == {1}


def test_the_stream_goes_on_after_repeats_however_their_request_ends(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answered, retried first, or failed for good: the repeats no longer count as open."""
    monkeypatch.setattr(engine, "_MAX_REPEATS", 5)
    numbers = random.Random(1).choices(range(300), k=6000)

    def behave(request: Request) -> None:
        key = request_key("fake", request)
        if number_of(request) % 5 == 0:
            raise Fault(Action.FAIL_REQUEST, "too long", unpaid=True)
        if number_of(request) % 5 == 1 and teacher.requested[key] == 1:
            raise Fault(Action.RETRY, "oops", kind=FaultKind.SERVER)

    teacher = Fake(behave)
    results = run(teacher, ledger, map(pending, numbers))
    assert results.times == Counter(pending(number)[0] for number in numbers)
    assert len(results.failures) == 60
    assert sum(teacher.requested.values()) == 300 + 60


def test_a_teacher_is_not_opened_where_all_answers_are_in_the_ledger(ledger: Ledger) -> None:
    run(Fake(), ledger, map(pending, range(5)))

    class Closed(Fake):
        async def __aenter__(self) -> Self:
            raise AssertionError("the teacher was opened")

    assert sum(run(Closed(), ledger, map(pending, range(5))).was_cached.values()) == 5


# Faults.


def test_a_transient_fault_is_retried_and_each_attempt_is_charged(ledger: Ledger) -> None:
    def behave(request: Request) -> None:
        if teacher.requested[request_key("fake", request)] < 3:
            raise Fault(Action.RETRY, "oops", kind=FaultKind.SERVER)

    teacher = Fake(behave)
    results = run(teacher, ledger, [pending(10)])
    assert sum(results.was_answered.values()) == 1 and teacher.requested[pending(10)[0]] == 3
    assert lost(ledger, "run") == (2, 2 * WORST)
    assert charged(ledger, "run") == 2 * WORST + 21 and nothing_is_open(ledger)


def test_a_refusal_by_the_server_costs_nothing(ledger: Ledger) -> None:
    def behave(request: Request) -> None:
        if teacher.requested[request_key("fake", request)] < 3:
            raise Fault(Action.RETRY, "slow down", kind=FaultKind.THROTTLED, unpaid=True)

    teacher = Fake(behave)
    run(teacher, ledger, [pending(10)])
    assert (charged(ledger, "run"), lost(ledger, "run")) == (21, (0, 0))


@pytest.mark.parametrize(("unpaid", "cost"), [(True, 0), (False, WORST)])
def test_a_refusal_of_the_filter_is_an_answer_and_is_charged_unless_it_was_free(
    unpaid: bool, cost: int, ledger: Ledger
) -> None:
    def behave(request: Request) -> None:
        raise Fault(Action.KEEP_REFUSAL, "the filter", unpaid=unpaid)

    run(Fake(behave), ledger, [pending(10)])
    kept = ledger.get(pending(10)[0])
    assert kept is not None and kept.finish_reason == "content_filter"
    assert charged(ledger, "run") == cost == kept.pico


def test_a_permanent_failure_is_retried_on_demand_only(ledger: Ledger) -> None:
    def behave(request: Request) -> None:
        if not forgiving:
            raise Fault(Action.FAIL_REQUEST, "no", unpaid=True)

    forgiving, key = False, pending(10)[0]
    for first in (True, False):
        results = run(Fake(behave), ledger, [pending(10)])
        assert results.failures == {key: [(Failure("refused", "no", False), first)]}
    forgiving = True
    assert run(Fake(behave), ledger, [pending(10)]).failures
    assert run(Fake(behave), ledger, [pending(10)], retry_failed=True).was_answered == {key: 1}
    assert run(Fake(behave), ledger, [pending(10)]).was_cached == {key: 1}


def test_a_request_that_keeps_failing_fails_and_can_succeed_later(ledger: Ledger) -> None:
    def behave(request: Request) -> None:
        if not forgiving and request == pending(10)[1]:
            raise Fault(Action.RETRY, "oops", kind=FaultKind.GARBLED)

    forgiving = False
    results = run(Fake(behave), ledger, map(pending, range(9, 12)))
    ((failure, sent),) = results.failures[pending(10)[0]]
    assert (failure.reason, failure.detail) == (FaultKind.GARBLED.value, "oops (3 attempts)")
    assert sent and failure.transient and lost(ledger, "run")[0] == 3
    forgiving = True
    assert run(Fake(behave), ledger, map(pending, range(9, 12))).was_answered.total() == 1


@pytest.mark.parametrize("action", [Action.STOP_KEY, Action.STOP_ACCOUNT, Action.STOP_PARAMETER])
def test_a_fault_of_the_account_ends_the_run_and_keeps_the_answers_in_flight(
    action: Action, ledger: Ledger
) -> None:
    def behave(request: Request) -> None:
        if number_of(request) == 30:
            raise Fault(action, "no more", unpaid=True)

    teacher = Fake(behave, wait_s=0.01)
    with pytest.raises(TeacherError, match="no more"):
        run(teacher, ledger, map(pending, range(1000)), concurrency=8)
    assert len(ledger) == teacher.requested.total() - 1 < 60
    assert nothing_is_open(ledger) and lost(ledger, "run") == (0, 0)


def test_the_rate_limit_counts_the_longest_possible_answer(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int | None] = []
    monkeypatch.setattr(
        RateLimiter, "_end", lambda self, permit, tokens: counted.append(tokens) or None
    )
    usages = iter([Usage(5, 2), Usage(5, 50), Usage(5, None), Usage()])
    teacher = Fake(lambda request: Completion("because", "stop", next(usages)))
    for number in range(10, 14):
        run(teacher, ledger, [pending(number)])
    most = input_bound(pending(10)[1].messages) + MAX_TOKENS
    assert counted == [5 + MAX_TOKENS, 5 + 50, most, most]


# Budget.


@pytest.mark.parametrize("price", [None, PriceOverride(input=1, output=1)])
def test_a_refusal_of_the_filter_costs_the_same_now_and_from_the_ledger(
    price: PriceOverride | None, ledger: Ledger
) -> None:
    rows = [Example("a", {"premise": "p", "hypothesis": "h"}, "neutral")]
    with Server(lambda body, before: KINDS["400_filter"](server.options)) as server:
        given = TeacherSettings(
            model="openai:m", base_url=server.base_url, price=price, max_tokens=5
        )
        for _ in range(2):  # from the server, then from the ledger
            annotation = annotate(
                rows, strategy="informed_reasoning", teacher=ServerTeacher("m", given), task=NLI,
                ledger=ledger,
            )  # fmt: skip
            assert annotation.counts["refused"] == 1
            assert annotation.rationales[0].cost_usd == annotation.summary.cost_usd == 0.0
    assert server.counts.requests == 1


def test_an_unknown_price_stays_unknown(ledger: Ledger) -> None:
    for price, cost in ((None, None), (PriceOverride(input=0, output=0), 0.0)):
        with Server() as server:
            teacher = ServerTeacher(
                "m", TeacherSettings(model="openai:m", base_url=server.base_url, price=price)
            )
            rows = [Example("a", {"premise": "p", "hypothesis": f"h{price}"}, "neutral")]
            for _ in range(2):  # from the server, then from the ledger
                annotation = annotate(
                    rows, strategy="informed_reasoning", teacher=teacher, task=NLI, ledger=ledger
                )
                assert annotation.rationales[0].cost_usd == annotation.summary.cost_usd == cost


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40 * WORST), st.integers(1, 20), st.integers(0, 10**6))
def test_the_budget_is_used_and_never_overdrawn(cap: int, concurrency: int, seed: int) -> None:
    rng = random.Random(seed)

    def behave(request: Request) -> Completion | None:
        luck = rng.random()
        if luck < 0.1:
            raise Fault(Action.RETRY, "oops", kind=FaultKind.SERVER)
        if luck < 0.2:
            raise Fault(Action.RETRY, "slow down", kind=FaultKind.THROTTLED, unpaid=True)
        tokens = None if luck < 0.3 else rng.randint(0, MAX_TOKENS)
        return Completion("because", "stop", Usage(rng.randint(1, 50), tokens))

    with Ledger(":memory:") as ledger:
        requests = [pending(number) for number in range(10, 90)]
        try:
            run(Fake(behave), ledger, requests, cap=cap, concurrency=concurrency)
        except BudgetError:
            # One more request would not have fitted.
            assert cap - WORST < charged(ledger, "run") <= cap
        assert charged(ledger, "run") <= cap and nothing_is_open(ledger)
        with ledger.reader() as connection:
            paid = connection.execute("SELECT coalesce(sum(pico), 0) FROM answers").fetchone()[0]
        assert paid + lost(ledger, "run")[1] == charged(ledger, "run")


def test_an_exhausted_budget_names_a_sufficient_one_and_cached_answers_are_free(
    ledger: Ledger,
) -> None:
    cap = 3 * WORST
    with pytest.raises(BudgetError) as stop:
        run(
            Fake(lambda request: Completion("because", "stop")),  # no usage: all at the worst case
            ledger,
            map(pending, range(10, 20)),
            cap=cap,
        )
    assert len(ledger) == 3 and charged(ledger, "run") == cap
    assert "'run'" in str(stop.value) and "set budget_usd to" in str(stop.value)
    results = run(Fake(), ledger, map(pending, range(10, 13)), cap=cap)
    assert results.was_cached.total() == 3
    with pytest.raises(BudgetError):
        run(Fake(), ledger, map(pending, range(10, 20)), cap=cap + WORST - 1)
    assert len(ledger) == 3
    with pytest.raises(BudgetError):
        run(
            Fake(lambda request: Completion("because", "stop")), ledger,
            map(pending, range(10, 20)), cap=cap + WORST,
        )  # fmt: skip
    assert len(ledger) == 4


def test_the_budget_that_the_error_names_is_sufficient(ledger: Ledger) -> None:
    price = Price((Rates(-1, 411_111, 411_111, 1_733_333),), 0, "test")
    budget = Decimal(0)
    for least in (0, 1, 1, 1):
        teacher = Fake(lambda request: Completion("because", "stop"))
        with pytest.raises(BudgetError) as stop:
            run(teacher, ledger, map(pending, range(10, 20)), cap=pico(budget), price=price)
        assert teacher.requested.total() >= least
        (named,) = re.findall(r"set budget_usd to \$([\d.]+) or more", str(stop.value))
        budget = Decimal(named)
    assert len(ledger) >= 3


@pytest.mark.parametrize(("model", "first"), [("openai:m", 1), ("gguf:m", 4)])
def test_a_server_gets_one_request_first_and_a_model_in_this_process_does_not(
    model: str, first: int, ledger: Ledger
) -> None:
    together: list[int] = []

    class Busy(Fake):
        async def complete(self, request: Request) -> Completion:
            together.append(1 + len(together))
            await asyncio.sleep(0.05)
            together.append(-1)
            return Completion("because", "stop")

    teacher: Any = Busy()
    teacher.settings = TeacherSettings(model=model, concurrency=4)
    rows = [Example(f"r{n}", {"premise": f"p{n}", "hypothesis": "h"}, "neutral") for n in range(6)]
    annotate(rows, strategy="informed_reasoning", teacher=teacher, task=NLI, ledger=ledger)
    assert together.index(-1) == first


# Runs that end early.


def test_an_interrupt_while_cached_rows_are_read_leaves_no_partial_file(
    ledger: Ledger, tmp_path: Path
) -> None:
    rows = [
        Example(f"r{n}", {"premise": f"p{n}", "hypothesis": "h"}, NLI.labels[n % 3])
        for n in range(1000)
    ]
    teacher: Any = Fake()
    teacher.settings = TeacherSettings(model="openai:m", concurrency=50)
    common: Any = {"strategy": "informed_reasoning", "task": NLI, "ledger": ledger}
    annotate(rows, teacher=teacher, **common)
    assert teacher.requested.total() == 1000

    def interrupted() -> Iterator[Example]:
        for number, row in enumerate(rows):
            if number == 300:
                os.kill(os.getpid(), signal.SIGINT)
            yield row

    output = tmp_path / "out.jsonl"

    def run_interrupted() -> None:
        with Ledger(ledger.path) as own:
            try:
                annotate_to_file(interrupted, output, teacher=teacher, **{**common, "ledger": own})
            except KeyboardInterrupt:
                sys.exit(0 if teacher.requested.total() == 1000 else 2)
        sys.exit(1)

    # A fork: a signal that came late would end the process of the tests without a word.
    process = multiprocessing.get_context("fork").Process(target=run_interrupted)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert not output.exists()


def test_what_is_not_answered_in_time_is_lost_and_earlier_answers_are_kept(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "DRAIN_S", 0.2)

    class Stuck(Fake):
        async def complete(self, request: Request) -> Completion:
            completion = await super().complete(request)
            number = number_of(request)
            await asyncio.sleep(0.1 if number == 14 else 60 if number > 12 else 0)
            return completion

    async def during(ours: Engine) -> None:
        while teacher.requested.total() < 6:
            await asyncio.sleep(0.005)
        ours.stop(Interrupted())

    teacher, begun = Stuck(), time.monotonic()
    with pytest.raises(Interrupted):
        run(teacher, ledger, map(pending, range(10, 30)), concurrency=3, during=during)
    assert 0.2 <= time.monotonic() - begun < 5
    kept = {number for number in range(10, 30) if ledger.get(pending(number)[0])}
    assert kept == {10, 11, 12, 14} and teacher.requested.total() == 6
    assert lost(ledger, "run") == (2, 2 * WORST) and nothing_is_open(ledger)


def test_the_stream_may_fail(ledger: Ledger) -> None:
    def stream() -> Iterator[PendingRequest]:
        yield from map(pending, range(500))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(Fake(), ledger, stream())
    assert nothing_is_open(ledger)


# Other sessions on the same ledger.


@pytest.mark.parametrize("end", ["answered", "failed", "gone"])
def test_a_request_of_another_session_is_waited_for(end: str, ledger: Ledger) -> None:
    key, request = pending(10)
    with Ledger(ledger.path) as theirs:
        other = Session(theirs).__enter__()
        (held,) = theirs.transact(
            lambda connection: other.reserve(connection, [Claim(key, 5)], scope="run", cap=None)
        )

        def settle(connection: Any) -> None:
            if end == "answered":
                charges.store_answer(
                    connection, held.charge, key, request, Completion("theirs"),
                    identity="fake", cost=3,
                )  # fmt: skip
            elif end == "failed":
                charges.release(connection, [held.charge])
                charges.store_failure(connection, key, "s", Failure("refused", "no", False))

        async def during(ours: Engine) -> None:
            await asyncio.sleep(0.4)
            assert teacher.requested[key] == 0
            theirs.transact(settle)
            other.__exit__(None, None, None)

        teacher = Fake()
        results = run(teacher, ledger, map(pending, [9, 10, 11, 10]), during=during)
    assert results.times == {pending(9)[0]: 1, key: 2, pending(11)[0]: 1}
    if end == "answered":
        assert results.was_cached[key] == 2 and teacher.requested[key] == 0
    elif end == "failed":
        assert results.failures == {key: [(Failure("refused", "no", False), False)] * 2}
        assert teacher.requested[key] == 0
    else:
        assert (
            teacher.requested[key] == 1
            and results.was_answered[key] == results.was_cached[key] == 1
        )


def test_what_another_session_held_may_be_over_budget_once_it_is_free(ledger: Ledger) -> None:
    """Nothing else is under way then: the run ends, and does not wait for what cannot come."""
    with Ledger(ledger.path) as theirs:
        other = Session(theirs).__enter__()

        def claim(connection: Any, number: int) -> int:
            claims = [Claim(pending(number)[0], WORST)]
            (made,) = other.reserve(connection, claims, scope="run", cap=None)
            return made.charge

        first = theirs.transact(lambda connection: claim(connection, 10))

        def spend_on_another(connection: Any) -> None:
            charges.release(connection, [first])
            claim(connection, 11)

        async def during(ours: Engine) -> None:
            await asyncio.sleep(0.1)
            theirs.transact(spend_on_another)

        begun = time.monotonic()
        with pytest.raises(BudgetError):
            run(Fake(), ledger, [pending(10)], cap=WORST + 1, during=during)
        assert time.monotonic() - begun < 5
        other.__exit__(None, None, None)


@pytest.mark.parametrize("held", [300, 1500])
def test_requests_that_others_hold_are_read_up_to_a_limit_and_delay_nothing_else(
    held: int, ledger: Ledger
) -> None:
    """300: another run of the same size holds them, and ours goes on with later requests. 1500:
    several runs or a larger one hold them: ours waits, and takes over what becomes free."""
    concurrency, total, read = 20, held + 200, 0
    most = 4 * (2 * concurrency + 200)

    def stream() -> Iterator[PendingRequest]:
        nonlocal read
        for number in range(total):
            read += 1
            yield pending(number)

    async def requested(count: int) -> None:
        async with asyncio.timeout(20):
            while teacher.requested.total() < count:
                await asyncio.sleep(0.01)

    with Ledger(ledger.path) as theirs:
        other = Session(theirs).__enter__()
        claims = [Claim(pending(number)[0], 5) for number in range(held)]
        reservations = theirs.transact(lambda c: other.reserve(c, claims, scope="run", cap=None))

        async def during(ours: Engine) -> None:
            if held < most:
                await requested(200)
                assert read == total
            else:
                await asyncio.sleep(0.6)  # it has polled them once or twice
                assert teacher.requested.total() == 0 and most <= read < most + 400
                free = [reservation.charge for reservation in reservations[:100]]
                theirs.transact(lambda c: charges.release(c, free))
                await requested(100)
                assert read < most + 600
            other.__exit__(None, None, None)

        teacher = Fake()
        results = run(teacher, ledger, stream(), concurrency=concurrency, during=during)
    assert set(results.times.values()) == {1} and len(results.times) == total
    assert set(teacher.requested.values()) == {1} and teacher.requested.total() == total
    assert nothing_is_open(ledger)


def spec(server: Server, folder: Path, who: str, **more: Any) -> Spec:
    values = {"rows": 150, "concurrency": 6, "price": (1000, 4000), **more}
    return Spec(
        base_url=server.base_url,
        ledger=folder / "l.sqlite",
        output=folder / f"{who}.jsonl",
        **values,
    )


def test_two_processes_share_requests_in_flight(tmp_path: Path) -> None:
    with Server(delay_s=0.02, record=False) as server:
        workers = [Worker(spec(server, tmp_path, who)) for who in "ab"]
        ends = [worker.wait() for worker in workers]
    assert [end["counts"]["ok"] for end in ends] == [150, 150]
    assert server.counts.requests == 150 and set(server.counts.asked.values()) == {1}
    # Both took part, and what one requested is in the ledger for the other.
    assert sum(end["requests"] for end in ends) == 150 == sum(end["cached"] for end in ends)
    assert (tmp_path / "a.jsonl").stat().st_size > 0


def test_the_requests_of_a_process_that_dies_are_made_by_the_other(tmp_path: Path) -> None:
    with Server(delay_s=0.15, delay_spread_s=0.1, input_price=1000, output_price=4000) as server:
        # It has reserved all rows, and some requests are in flight, when the other one starts.
        first = Worker(spec(server, tmp_path, "a", rows=60))
        while server.counts.requests < 10:
            time.sleep(0.01)
        second = Worker(spec(server, tmp_path, "b", rows=60))
        time.sleep(0.5)
        while server.counts.in_flight < 3:
            time.sleep(0.001)
        assert first.kill()
        end = second.wait()
        server.wait_idle()
        with Ledger(tmp_path / "l.sqlite") as ledger:
            count, pico = lost(ledger, "run")
            total = charged(ledger, "run")
            with ledger.reader() as connection:
                paid = connection.execute("SELECT sum(pico) FROM answers").fetchone()[0]
            assert len(ledger) == 60 and nothing_is_open(ledger)
    assert end["counts"]["ok"] == 60
    assert 3 <= count <= 6 and total == paid + pico
    # What was in flight when it died was requested and paid twice, nothing else was.
    assert 60 + 3 <= server.counts.requests <= 60 + count
    assert max(server.counts.asked.values()) == 2
    assert paid < server.counts.billed_pico <= total


def test_an_http_error_of_the_filter_is_not_charged(tmp_path: Path) -> None:
    def behave(body: dict[str, Any], before: int) -> Reply | None:
        return KINDS["400_filter"](server.options) if "Premise 3" in str(body) else None

    with Server(behave, input_price=1000, output_price=4000) as server:
        end = spec(server, tmp_path, "a", rows=10).run()
        with Ledger(tmp_path / "l.sqlite") as ledger:
            assert end["counts"]["refused"] == 1 and end["counts"]["ok"] == 9
            assert charged(ledger, "run") == server.counts.billed_pico
