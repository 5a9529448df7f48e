"""A job on a ledger whose keeper and workers are objects of the test, without engines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.core.types import Completion, Example, Message, Request, Usage
from tutelage.scale.keeper import JobSpec, Keeper
from tutelage.teacher.ledger import charges
from tutelage.teacher.ledger.charges import Claim, Session
from tutelage.teacher.ledger.leased_session import LeasedSession
from tutelage.teacher.ledger.shards import WorkerLedger
from tutelage.teacher.ledger.store import Ledger, request_key
from tutelage.teacher.ledger.writer import Writer

WORST, COST, SCOPE = 1000, 300, "job"


def request(number: int) -> Request:
    return Request("m", (Message("user", f"Why {number}?"),), "s", Example("", {}, ""))


def key(number: int) -> str:
    return request_key("server", request(number))


def claims(*numbers: int) -> list[tuple[int, Claim]]:
    return [(number + 1, Claim(key(number), WORST)) for number in numbers]


class Job:
    """A job on a ledger in `folder`, whose keeper can begin again."""

    def __init__(self, folder: Path, ledger: Ledger, session: Session) -> None:
        self.folder, self.ledger = folder, ledger
        self.shards = folder / "shards"
        self.shards.mkdir()
        self.spec = JobSpec(ledger.path, session.name, self.shards, folder / "state.sqlite", None)
        self.keeper = Keeper(self.spec)

    def begin_again(self) -> None:
        self.keeper.close()
        self.keeper = Keeper(self.spec)

    def worker(self, actor: str = "actor") -> Worker:
        return Worker(self, self.keeper.register(actor, f"{actor}'s node"))

    @property
    def charged(self) -> int:
        return charges.charged(self.ledger, SCOPE)


class Worker:
    """A worker's own ledger, and its session."""

    def __init__(self, job: Job, number: int, folder: Path | None = None) -> None:
        self.job, self.number = job, number
        folder = folder or job.folder / f"worker-{number}"
        folder.mkdir(exist_ok=True)
        self.ledger = WorkerLedger(folder / "ledger.sqlite", number)
        self.session = LeasedSession(self.ledger, number, job.keeper, job.shards)

    def claim(self, *numbers: int, cap: int | None = None) -> list[Any]:
        async def run() -> list[Any]:
            writer = Writer(self.ledger)
            try:
                wanted = [Claim(key(n), WORST) for n in numbers]
                return await self.session.claim(writer, wanted, scope=SCOPE, cap=cap)
            finally:
                writer.close()

        return asyncio.run(run())

    def answer(self, number: int, charge: int) -> None:
        completion = Completion("Because.", "stop", Usage(1, 2))
        self.ledger.transact(
            lambda c: charges.store_answer(
                c, charge, key(number), request(number), completion, identity="server", cost=COST
            )
        )


def statuses(found: Sequence[Any]) -> list[str]:
    return [one.status.name for one in found]
