import asyncio
import email.utils
import heapq
import itertools
import random
import time
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtual_time import run_virtually

from tutelage.core.errors import ServerUnreachableError, TeacherError
from tutelage.teacher.engine.failures import (
    Action,
    Fault,
    FaultKind,
    RetryPolicy,
    action_for,
    parse_duration,
    parse_retry_after,
)
from tutelage.teacher.engine.rate_limits import (
    FailureMonitor,
    RateLimiter,
    RateLimits,
    RateWindow,
)
from tutelage.teacher.teacher import RequestFailedError


@pytest.mark.parametrize(
    ("status", "code", "message", "action"),
    [
        (429, "", "slow down", Action.RETRY),
        (429, "insufficient_quota", "", Action.STOP_ACCOUNT),
        (503, "", "", Action.RETRY),
        (599, "", "", Action.RETRY),
        (400, "", "bad", Action.JUDGE),
        (400, "context_length_exceeded", "the model's limit", Action.FAIL_REQUEST),
        (400, "", "Unknown field. The model is fine", Action.JUDGE),
        (413, "", "", Action.FAIL_REQUEST),
        (401, "", "", Action.STOP_KEY),
        (403, "model_not_found", "", Action.STOP_MODEL),
        (402, "", "", Action.STOP_ACCOUNT),
        (404, "", "", Action.STOP_MODEL),
        (400, "MODEL_DEPRECATED", "", Action.STOP_MODEL),
        (400, "", "The model gpt-1 is no longer supported", Action.STOP_MODEL),
        (500, "", "model not found in cache", Action.RETRY),
    ],
)
def test_the_decision_table(status, code, message, action):
    assert action_for(status, code, message) is action


@given(st.integers(1, 60), st.none() | st.floats(0, 1e6))
def test_delays_are_bounded_and_never_below_retry_after(attempt, retry_after):
    policy = RetryPolicy()
    delay = policy.delay(attempt, retry_after)
    assert 0 < delay <= max(policy.cap_s, policy.max_retry_after_s)
    assert delay >= min(retry_after or 0.0, policy.max_retry_after_s)


def test_delays_grow_and_differ():
    policy = RetryPolicy()
    assert len({policy.delay(1) for _ in range(20)}) > 10
    assert max(policy.delay(1) for _ in range(50)) < min(policy.delay(4) for _ in range(50))


def test_retry_after_may_be_a_date():
    later = email.utils.formatdate(time.time() + 20, usegmt=True)
    seconds = parse_retry_after({"Retry-After": later})
    assert seconds is not None and 18 < seconds <= 20
    assert parse_retry_after({}) is None


def transient():
    return RequestFailedError("oops", transient=True)


def permanent():
    return RequestFailedError("too long", transient=False)


def failures(monitor, error, most=1000):
    """How many failures in a row end the run, and the error."""
    for count in range(1, most):
        try:
            monitor.request_failed(error, 1)
        except TeacherError as stop:
            return count, stop
    return None, None


def test_a_teacher_that_never_answered_is_given_up_soon():
    count, stop = failures(FailureMonitor(proven=False, max_failed=None), permanent())
    assert count == FailureMonitor.FIRST and "too long" in str(stop)


def test_a_teacher_that_has_answered_may_refuse_any_number_of_rows():
    assert failures(FailureMonitor(proven=True, max_failed=None), permanent()) == (None, None)


def test_failures_in_a_row_end_the_run_unless_a_success_comes_between():
    monitor = FailureMonitor(proven=True, max_failed=None)
    for _ in range(3 * FailureMonitor.LATER):
        monitor.request_failed(transient(), 1)
        monitor.succeeded()
    count, stop = failures(monitor, transient())
    assert count == FailureMonitor.LATER and isinstance(stop, ServerUnreachableError)


def test_max_failed_counts_rows():
    monitor = FailureMonitor(proven=True, max_failed=3)
    monitor.request_failed(permanent(), 3)
    with pytest.raises(TeacherError, match="max_failed: 3"):
        monitor.request_failed(permanent(), 1)


# The rates.


def most_in_a_window(counted, seconds):
    """The largest sum in any window; counted: (time, amount), as the server counts them."""
    counted = sorted(counted)
    most = used = first = 0
    for when, amount in counted:
        used += amount
        while counted[first][0] <= when - seconds + 1e-9:
            used -= counted[first][1]
            first += 1
        most = max(most, used)
    return most


def send_by(window, requests, gap=0.0):
    """Send requests as `window` allows; what the server counted, and when the last one was sent.

    requests: (amount, share of it that counts, latency, share of the latency until it counts)
    """
    now, counted, ends = 0.0, [], []
    for held, share, latency, moment in requests:
        while True:
            while ends and ends[0][0] <= now:
                window.end(*heapq.heappop(ends)[1:])
            wait = window.wait(held, now)
            if wait == 0:
                break
            now = min([now + max(wait, 1e-6), *(end for end, *_ in ends[:1])])
        window.start(held, now)
        used = max(1, int(held * share))
        counted.append((now + moment * latency, used))
        heapq.heappush(ends, (now + latency, held, used, now + latency))
        now += gap
    return counted, now


shares = st.floats(0, 1)
sent_requests = st.lists(
    st.tuples(st.integers(1, 40), shares, st.floats(0, 90), shares), max_size=60
)


@given(sent_requests, st.integers(40, 200), st.sampled_from([0.5, 60.0]))
def test_no_window_of_the_server_holds_more_than_the_limit(requests, limit, seconds):
    counted, _ = send_by(RateWindow(limit, seconds), requests)
    assert len(counted) == len(requests)
    assert most_in_a_window(counted, seconds) <= limit


@given(st.integers(10, 300), st.floats(0, 0.5))
def test_a_rate_is_used_fully_and_evenly(limit, latency):
    requests = [(1, 1.0, latency, 0.5)] * (3 * limit)
    counted, took = send_by(RateWindow(limit, 60.0), requests)
    assert took <= 3 * (60.0 + latency) + 1
    # Servers also count by the second: no burst at the start of each minute.
    assert most_in_a_window(counted, 1.0) <= max(1, limit / 60) * 2 + 2


def test_an_amount_above_the_limit_goes_alone():
    counted, _ = send_by(RateWindow(10, 60.0), [(5, 1, 1, 0), (50, 1, 1, 0), (5, 1, 1, 0)])
    assert [amount for _, amount in counted] == [5, 50, 5]
    times = [when for when, _ in counted]
    assert all(later - before >= 60 for before, later in itertools.pairwise(times))


@dataclass
class FakeServer:
    """Counts each request halfway; faulty(number, in flight) -> FaultKind or None."""

    limiter: RateLimiter
    latency: object = lambda: 0.05
    faulty: object = lambda number, in_flight: None
    in_flight = most = number = 0

    def __post_init__(self):
        self.requests, self.tokens, self.faults, self.times = [], [], [], []

    async def send(self, tokens, used=None):
        permit = await self.limiter.admit(tokens)
        loop = asyncio.get_running_loop()
        self.in_flight += 1
        self.number += 1
        number, self.most = self.number, max(self.most, self.in_flight)
        kind = self.faulty(number, self.in_flight)
        way, back = self.latency() / 2, self.latency() / 2
        await asyncio.sleep(way)
        self.requests.append((loop.time(), 1))
        self.tokens.append((loop.time(), tokens if used is None else used))
        await asyncio.sleep(back)
        self.in_flight -= 1
        if kind is None:
            self.times.append(loop.time())
            self.limiter.succeeded(permit, used)
            return True
        self.faults.append((loop.time(), kind))
        self.limiter.failed(permit, Fault(Action.RETRY, "oops", kind=kind))
        return False

    async def send_until_answered(self, tokens, used=None):
        while not await self.send(tokens, used):
            await asyncio.sleep(0.1)

    async def send_all(self, sizes):
        await asyncio.gather(*(self.send_until_answered(*size) for size in sizes))


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 50),
    st.integers(5, 60) | st.none(),
    st.integers(400, 3000),
)
def test_a_rate_limiter_keeps_to_both_limits_whatever_happens(seed, concurrency, requests, tokens):
    rng = random.Random(seed)
    kinds = [None] * 5 + [FaultKind.THROTTLED, FaultKind.SERVER, FaultKind.TIMEOUT]

    async def work():
        limiter = RateLimiter(
            RateLimits(
                concurrency=concurrency, requests_per_minute=requests, tokens_per_minute=tokens
            )
        )
        server = FakeServer(
            limiter,
            latency=lambda: rng.choice([0.01, 1.0, 20.0]) * rng.random(),
            faulty=lambda number, in_flight: rng.choice(kinds),
        )
        sizes = [(held, rng.randint(1, held)) for held in (rng.randint(1, 400) for _ in range(40))]
        await server.send_all(sizes)
        return server, limiter

    (server, limiter), _ = run_virtually(work())
    assert len(server.times) == 40 and limiter.in_flight == 0 and server.most <= concurrency
    assert requests is None or most_in_a_window(server.requests, 60.0) <= requests
    assert most_in_a_window(server.tokens, 60.0) <= tokens


# How many are in flight.


def test_one_request_goes_first_and_the_number_doubles_each_round_trip():
    async def work():
        server = FakeServer(RateLimiter(RateLimits(concurrency=64)))
        await server.send_all([(1,)] * 500)
        return server

    server, took = run_virtually(work())
    arrivals = [
        sum(1 for when in server.times if when <= 1000 + 0.05 * n + 0.01) for n in (1, 2, 3)
    ]
    assert arrivals == [1, 3, 7] and server.most == 64
    assert took < 0.05 * (6 + 500 / 64 + 1)


def test_a_teacher_in_this_process_gets_all_requests_at_once():
    async def work():
        server = FakeServer(RateLimiter(RateLimits(concurrency=8), slow_start=False))
        await server.send_all([(1,)] * 8)

    assert run_virtually(work())[1] == pytest.approx(0.05)


def test_congestion_reduces_the_number_once_a_round_trip_to_what_the_server_takes():
    async def work():
        server = FakeServer(
            RateLimiter(RateLimits(concurrency=200)),
            faulty=lambda number, in_flight: FaultKind.THROTTLED if in_flight > 20 else None,
        )
        await server.send_all([(1,)] * 3000)
        return server

    server, took = run_virtually(work())
    # 3,000 at 20 at once and 0.05 s each would take 7.5 s.
    assert took < 1.6 * 7.5 and len(server.faults) < 0.1 * 3000


def test_faults_of_requests_sent_together_are_one_sign_of_congestion():
    async def work():
        limiter = RateLimiter(RateLimits(concurrency=100), slow_start=False)
        permits = [await limiter.admit(1) for _ in range(100)]
        await asyncio.sleep(1)
        for permit in permits[:50]:
            limiter.failed(permit, Fault(Action.RETRY, "slow down", kind=FaultKind.THROTTLED))
        return limiter.allowed

    assert run_virtually(work())[0] == pytest.approx(70)


@pytest.mark.parametrize("kind", [FaultKind.SERVER, FaultKind.CONNECTION, FaultKind.GARBLED])
def test_other_faults_do_not_count_as_congestion(kind):
    async def work():
        limiter = RateLimiter(RateLimits(concurrency=10), slow_start=False)
        for _ in range(5):
            limiter.failed(await limiter.admit(1), Fault(Action.RETRY, "oops", kind=kind))
        return limiter.allowed

    assert run_virtually(work())[0] == 10


# What the server states.


def headers(**values):
    return {f"x-ratelimit-{name.replace('_', '-')}": value for name, value in values.items()}


def seconds_for(count, tokens, stated, **limits):
    async def work():
        limiter = RateLimiter(RateLimits(concurrency=100, **limits), slow_start=False)
        limiter.apply_headers(stated)
        server = FakeServer(limiter, latency=lambda: 0.0)
        await server.send_all([(tokens,)] * count)
        return server

    return run_virtually(work())


def test_limits_are_read_from_headers():
    assert seconds_for(60, 10, {})[1] < 0.1
    server, took = seconds_for(90, 10, headers(limit_requests="60"))
    assert 85 < took < 95 and most_in_a_window(server.requests, 60) <= 60
    server, took = seconds_for(60, 10, headers(limit_tokens="400"))
    assert 85 < took < 95 and most_in_a_window(server.tokens, 60) <= 400


@pytest.mark.parametrize(("given", "stated"), [(30, "60"), (60, "30")])
def test_the_lower_of_the_given_and_the_stated_limit_counts(given, stated):
    server, took = seconds_for(45, 1, headers(limit_requests=stated), requests_per_minute=given)
    assert 80 < took < 95 and most_in_a_window(server.requests, 60) <= 30


def test_an_exhausted_account_gets_no_request_until_its_reset():
    used_up = headers(remaining_requests="0", reset_requests="12.5s")
    assert seconds_for(5, 1, used_up)[1] == pytest.approx(12.5, abs=0.1)
    far = headers(remaining_tokens="0", reset_tokens="6m0s")
    assert seconds_for(5, 1, far)[1] == pytest.approx(360, abs=0.1)
    # Too long to wait for: the server refuses the next request, and that ends the run.
    too_far = headers(remaining_tokens="0", reset_tokens="5h0m0s")
    assert seconds_for(5, 1, too_far)[1] < 0.1
    assert seconds_for(5, 1, headers(remaining_tokens="7", reset_tokens="6m0s"))[1] < 0.1


@pytest.mark.parametrize("odd", ["", "many", "-1", "0", "nan", "inf"])
def test_malformed_headers_stop_nothing(odd):
    stated = headers(limit_requests=odd, remaining_requests=odd, reset_requests=odd)
    assert seconds_for(5, 1, stated)[1] <= RateLimits().max_pause_s + 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("1s", 1.0),
        ("8.64s", 8.64),
        ("6m0s", 360.0),
        ("1h0m0s", 3600.0),
        ("1d2h3m4.5s", 93784.5),
        ("1m", 60.0),
        ("3", 3.0),
        (" 2s ", 2.0),
        ("", None),
        ("soon", None),
        ("1x", None),
        ("s", None),
    ],
)
def test_durations_as_servers_write_them(text, seconds):
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


@given(st.integers(0, 10**8))
def test_durations_of_the_test_server_are_read_back(milliseconds):
    from openai_server.limits import duration

    assert parse_duration(duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


def test_retry_after_delays_every_request():
    async def work():
        limiter = RateLimiter(RateLimits(concurrency=4), slow_start=False)
        fault = Fault(Action.RETRY, "later", kind=FaultKind.THROTTLED, retry_after_s=7.0)
        limiter.failed(await limiter.admit(1), fault)
        await limiter.admit(1)

    assert run_virtually(work())[1] == pytest.approx(7.0, abs=0.05)


# The circuit breaker.


def test_a_server_that_stops_answering_is_probed_and_then_given_up():
    async def work():
        server = FakeServer(
            RateLimiter(RateLimits(concurrency=50, give_up_s=180.0)),
            faulty=lambda number, in_flight: None if number <= 100 else FaultKind.CONNECTION,
        )
        with pytest.raises(ServerUnreachableError, match=r"no answer for \d+ s: \d+ faults"):
            await server.send_all([(1,)] * 400)
        return server

    server, took = run_virtually(work())
    assert 180 < took < 260 and len(server.faults) < 16 + 3 * 50


def test_a_server_that_recovers_gets_requests_at_full_speed():
    async def work():
        loop = asyncio.get_running_loop()
        server = FakeServer(
            RateLimiter(RateLimits(concurrency=50)),
            faulty=lambda number, in_flight: (
                FaultKind.SERVER if 1001 < loop.time() < 1100 else None
            ),
        )
        await server.send_all([(1,)] * 3000)
        return server

    server, took = run_virtually(work())
    assert took < 100 + 45 and len(server.faults) < 16 + 3 * 50


def test_a_refusal_shows_that_the_server_works():
    async def work():
        limiter = RateLimiter(RateLimits(concurrency=4, tokens_per_minute=100), slow_start=False)
        for _ in range(40):
            permit = await limiter.admit(1)
            limiter.failed(permit, Fault(Action.RETRY, "oops", kind=FaultKind.SERVER))
            limiter.refused(await limiter.admit(1))
        assert limiter.faults == 0 and limiter.answered == 40 and limiter.allowed == 4

    run_virtually(work())


def test_a_request_that_is_cancelled_while_it_waits_gives_up_its_place():
    async def work():
        limiter = RateLimiter(RateLimits(concurrency=1))
        first = await limiter.admit(1)
        waiting = [asyncio.create_task(limiter.admit(1)) for _ in range(3)]
        await asyncio.sleep(0.1)
        waiting[0].cancel()
        limiter.succeeded(first, 1)  # allowed is 1: the second in the queue goes
        waiting[1].cancel()  # it has been admitted, but has not resumed yet
        await asyncio.wait_for(waiting[2], 5)
        return limiter.in_flight

    assert run_virtually(work())[0] == 1
