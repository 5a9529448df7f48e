"""One attempt at one request: recorded on the disk before it is sent, and settled before it ends.

The result is an answer, a permanent failure, a refusal that is judged later, or a delay before the
next attempt. A fault that concerns every request ends the run: `attempt` raises it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from tutelage.core.errors import TeacherError
from tutelage.core.types import Completion, Request, Usage
from tutelage.teacher.cost.budget import Budget
from tutelage.teacher.cost.prices import output_bound
from tutelage.teacher.engine.balancer import Limiter
from tutelage.teacher.engine.failures import Action, Fault, FaultKind, RetryPolicy
from tutelage.teacher.engine.rate_limits import Permit
from tutelage.teacher.engine.requests import ActiveRequest, AttemptCounts
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Failure
from tutelage.teacher.ledger.writer import Writer
from tutelage.teacher.teacher import RequestFailedError, Teacher


@dataclass(frozen=True, slots=True)
class RetryLater:
    """A transient fault: the request is to be sent again after `delay_s` seconds, charged anew."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Undecided:
    """A refusal that may be about this row or about all: whether other rows are answered decides.

    seen_at: on the monotonic clock, in seconds
    """

    fault: Fault
    seen_at: float


_ABOUT_ALL = frozenset({Action.STOP_MODEL, Action.STOP_PARAMETER, Action.STOP_SERVER})
"""Said of every request. Where that was inferred and the same run has had an answer, it cannot be:
the refusal is then judged like an unknown one."""


class RequestSender:
    """Makes the engine's attempts, and records the charge of each in the ledger."""

    def __init__(
        self,
        teacher: Teacher,
        writer: Writer,
        budget: Budget,
        limiter: Limiter,
        policy: RetryPolicy,
    ) -> None:
        self.attempts = AttemptCounts()
        self._teacher = teacher
        self._writer = writer
        self._budget = budget
        self._limiter = limiter
        self._policy = policy
        self._served = False

    async def attempt(
        self, active: ActiveRequest, permit: Permit
    ) -> Completion | Failure | RetryLater | Undecided:
        """Send the request and settle its charge.

        Raises TeacherError after a fault that concerns every request.
        """
        charge = active.charge
        await self._writer.submit(lambda connection: charges.mark_sent(connection, [charge]))
        self.attempts.sent += 1
        try:
            completion = await (permit.server or self._teacher).complete(active.request)
        except Fault as fault:
            fault.server = permit.server
            if fault.action is Action.KEEP_REFUSAL:
                self._limiter.refused(permit)
                cost = 0 if fault.unpaid else None
                server = None if permit.server is None else permit.server.address
                refusal = Completion("", "content_filter", server=server)
                return await self._store(active, refusal, cost)
            return await self._settle(active, fault, permit)
        except RequestFailedError as error:
            self._limiter.not_sent(permit)
            return Failure("refused", str(error), error.transient)
        if permit.server is not None:
            completion = replace(completion, server=permit.server.address)
        self._served = True
        self._limiter.succeeded(permit, _counted(active.request, completion.usage))
        price, cost = self._budget.price, completion.pico
        if cost is None and price is not None:  # else the server has said what it charges
            cost = price.cost(completion.usage)
        return await self._store(active, completion, cost)

    async def _store(
        self, active: ActiveRequest, completion: Completion, cost: int | None
    ) -> Completion:
        identity = self._teacher.identity
        # The writer completes what was submitted even if this coroutine is cancelled: an answer
        # that has arrived is never dropped.
        await self._writer.submit(
            lambda connection: charges.store_answer(
                connection,
                active.charge,
                active.key,
                active.request,
                completion,
                identity=identity,
                cost=cost,
            )
        )
        paid = active.worst_pico if cost is None and self._budget.price is not None else cost
        return completion if completion.pico == paid else replace(completion, pico=paid)

    async def _settle(
        self, active: ActiveRequest, fault: Fault, permit: Permit
    ) -> Failure | RetryLater | Undecided:
        """Settle the charge of a failed attempt; then retry, fail the request, set it aside, or end
        the run."""
        charge, active.charge = active.charge, 0
        settle = charges.release if fault.unpaid else charges.mark_lost
        self.attempts.lost += not fault.unpaid
        await self._writer.submit(lambda connection: settle(connection, [charge]))
        if fault.action is Action.FAIL_REQUEST:
            self._limiter.refused(permit)
            return Failure("refused", str(fault), False)
        judged = fault.action is Action.JUDGE or (
            self._served and fault.inferred and fault.action in _ABOUT_ALL
        )
        if not judged and (fault.retry_after_s or 0.0) > self._policy.max_retry_after_s:
            fault.action = Action.STOP_LATER
        if fault.action is not Action.RETRY:
            if self._limiter.goes_elsewhere(permit, fault, judged=judged):
                return RetryLater(0.0)
            if not judged:
                raise await self.end(fault)
            self._limiter.undecided(permit)
            return Undecided(fault, time.monotonic())
        active.faults[fault.kind] = count = active.faults.get(fault.kind, 0) + 1
        total = sum(active.faults.values())
        allowed = self._policy.attempts[fault.kind]
        if not self._limiter.answered and fault.kind is not FaultKind.THROTTLED:
            # Nothing has answered yet: a server that is down is reported within seconds.
            allowed = min(allowed, self._policy.first_attempts)
            lost = fault.page or fault.kind is FaultKind.CONNECTION
            if lost and self._limiter.faults + 1 >= allowed:
                raise await self.end(fault)
        self._limiter.failed(permit, fault)
        if count >= allowed:
            return Failure(fault.kind.value, f"{fault} ({total} attempts)", True)
        if self._limiter.has_another(active):
            return RetryLater(0.0)
        return RetryLater(self._policy.delay(total, fault.retry_after_s))

    async def end(self, fault: Fault) -> TeacherError:
        """The error that ends the run after a fault that concerns every request."""
        self._limiter.close()
        return await self._teacher.explain(fault)


def _counted(request: Request, usage: Usage) -> int | None:
    """Tokens that the server's limit may have been charged for an answer; None: unknown.

    Servers count a request when it arrives, with the longest answer that it allows. So an answer
    counts at its limit and not at its length, where a limit was set.
    """
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return usage.prompt_tokens + max(output_bound(request, unset=0), usage.completion_tokens)
