"""One attempt at one question: sent once that is on the disk, and settled before anything else.

What became of it is an answer, a failure for good, or a wish to be asked again after a while. A
fault that concerns every question ends the run: `attempt` raises it.
"""

from __future__ import annotations

from dataclasses import dataclass

from tutelage.core.errors import TeacherError
from tutelage.core.types import Completion, Request, Usage
from tutelage.teacher.cost.budget import Money
from tutelage.teacher.cost.prices import output_bound
from tutelage.teacher.engine.failures import Fault, Kind, RetryPolicy, Verdict
from tutelage.teacher.engine.rate_limits import Governor, Permit
from tutelage.teacher.engine.requests import Sent, Ticket
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Failure
from tutelage.teacher.ledger.writer import Writer
from tutelage.teacher.teacher import RequestFailedError, Teacher


@dataclass(frozen=True, slots=True)
class Again:
    """A transient fault: to be asked again in so many seconds, as a new request."""

    after_s: float


class Asker:
    """Asks a teacher for the engine, and keeps the books of each attempt."""

    def __init__(
        self,
        teacher: Teacher,
        writer: Writer,
        money: Money,
        governor: Governor,
        policy: RetryPolicy,
    ) -> None:
        self.sent = Sent()
        self._teacher = teacher
        self._writer = writer
        self._money = money
        self._governor = governor
        self._policy = policy

    async def attempt(self, ticket: Ticket, permit: Permit) -> Completion | Failure | Again:
        """Send the question and settle its charge. Raises TeacherError where none has an answer."""
        charge = ticket.charge
        await self._writer.submit(lambda connection: charges.mark_sent(connection, [charge]))
        self.sent.requests += 1
        try:
            completion = await self._teacher.complete(ticket.request)
        except Fault as fault:
            if fault.verdict is Verdict.REFUSED:
                self._governor.refused(permit)
                cost = 0 if fault.unpaid else None
                return await self._keep(ticket, Completion("", "content_filter"), cost)
            return await self._settle(ticket, fault, permit)
        except RequestFailedError as error:
            self._governor.withdrawn(permit)
            return Failure("refused", str(error), error.transient)
        self._governor.succeeded(permit, _counted(ticket.request, completion.usage))
        price = self._money.price
        return await self._keep(
            ticket, completion, None if price is None else price.cost(completion.usage)
        )

    async def _keep(self, ticket: Ticket, completion: Completion, cost: int | None) -> Completion:
        identity = self._teacher.identity
        # Once submitted it is done, even if this is cancelled: nothing that was told is dropped.
        await self._writer.submit(
            lambda connection: charges.keep_answer(
                connection,
                ticket.charge,
                ticket.key,
                ticket.request,
                completion,
                identity=identity,
                cost=cost,
            )
        )
        paid = ticket.worst if cost is None and self._money.price is not None else cost
        return Completion(completion.text, completion.finish_reason, completion.usage, paid)

    async def _settle(self, ticket: Ticket, fault: Fault, permit: Permit) -> Failure | Again:
        """Charge a vain attempt or not; then ask again, fail the question, or end the run."""
        charge, ticket.charge = ticket.charge, 0
        settle = charges.release if fault.unpaid else charges.lose
        self.sent.lost += not fault.unpaid
        await self._writer.submit(lambda connection: settle(connection, [charge]))
        if fault.verdict is Verdict.ROW:
            self._governor.refused(permit)
            return Failure("refused", str(fault), False)
        if fault.verdict is not Verdict.RETRY:
            raise await self._end(fault)
        ticket.faults[fault.kind] = count = ticket.faults.get(fault.kind, 0) + 1
        total = sum(ticket.faults.values())
        allowed = self._policy.attempts[fault.kind]
        if not self._governor.answered and fault.kind is not Kind.THROTTLED:
            # Nobody has answered yet: a server that is down is told so within seconds.
            allowed = min(allowed, self._policy.first_attempts)
            if fault.kind is Kind.CONNECTION and self._governor.faults + 1 >= allowed:
                raise await self._end(fault)
        self._governor.failed(permit, fault)
        if count >= allowed:
            return Failure(fault.kind.value, f"{fault} ({total} attempts)", True)
        return Again(self._policy.delay(total, fault.retry_after_s))

    async def _end(self, fault: Fault) -> TeacherError:
        self._governor.close()
        return await self._teacher.explain(fault)


def _counted(request: Request, usage: Usage) -> int | None:
    """Tokens that the server's limit may have been charged for an answer; None: unknown.

    Servers count a request when it comes, with all that its answer may be: so the limit of an
    answer counts and not its length, where one was named.
    """
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    return usage.prompt_tokens + max(output_bound(request, unset=0), usage.completion_tokens)
