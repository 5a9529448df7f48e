"""Group commit: many writers share few transactions, and learn when their part is on disk."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tutelage.core.errors import RunFolderError
from tutelage.teacher.ledger.store import Ledger
from tutelage.teacher.ledger.writer import Writer


class Counting(Ledger):
    transactions = 0

    def transact(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        self.transactions += 1
        return super().transact(work)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Counting]:
    with Counting(tmp_path / "l.sqlite") as opened:
        opened.transact(lambda connection: connection.execute("CREATE TABLE t (x INTEGER)"))
        opened.transactions = 0
        yield opened


def put(number: int) -> Callable[[sqlite3.Connection], int]:
    def work(connection: sqlite3.Connection) -> int:
        connection.execute("INSERT INTO t VALUES (?)", (number,))
        return number * 10

    return work


def numbers(ledger: Ledger) -> list[int]:
    """The rows as another process sees them."""
    with sqlite3.connect(ledger.path) as other:
        return [row[0] for row in other.execute("SELECT x FROM t ORDER BY rowid")]


def run(ledger: Ledger, work: Callable[[Writer], Any]) -> None:
    async def begin() -> None:
        writer = Writer(ledger)
        try:
            await work(writer)
        finally:
            writer.close()

    asyncio.run(asyncio.wait_for(begin(), 30))


def test_many_share_few_transactions_and_each_has_its_own_result(ledger: Counting) -> None:
    async def work(writer: Writer) -> None:
        results = await asyncio.gather(*(writer.submit(put(number)) for number in range(500)))
        assert results == [number * 10 for number in range(500)]

    run(ledger, work)
    assert numbers(ledger) == list(range(500))
    assert ledger.transactions <= 3


def test_what_is_reported_as_written_is_on_the_disk(ledger: Counting) -> None:
    async def one(writer: Writer, number: int) -> None:
        await asyncio.sleep(number % 7 / 1000)
        await writer.submit(put(number))
        assert number in numbers(ledger)

    async def work(writer: Writer) -> None:
        await asyncio.gather(*(one(writer, number) for number in range(60)))

    run(ledger, work)
    assert sorted(numbers(ledger)) == list(range(60))


def test_work_is_done_in_the_order_of_submission(ledger: Counting) -> None:
    async def work(writer: Writer) -> None:
        for number in range(50):
            writer.submit(put(number))
            if number % 9 == 0:
                await asyncio.sleep(0.002)
        await writer.drain()
        assert numbers(ledger) == list(range(50))

    run(ledger, work)


def test_work_is_done_even_if_its_waiter_is_cancelled(ledger: Counting) -> None:
    async def work(writer: Writer) -> None:
        waiting = [asyncio.ensure_future(writer.submit(put(number))) for number in range(3)]
        waiting[1].cancel()
        assert await waiting[0] == 0 and await waiting[2] == 20
        assert waiting[1].cancelled()
        assert await writer.submit(put(3)) == 30

    run(ledger, work)
    assert numbers(ledger) == [0, 1, 2, 3]


def test_a_failed_transaction_is_reported_to_all_in_it_and_leaves_nothing(ledger: Counting) -> None:
    def broken(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("disk full")

    async def work(writer: Writer) -> None:
        results = await asyncio.gather(
            writer.submit(put(1)), writer.submit(broken), return_exceptions=True
        )
        assert [type(result) for result in results] == [RunFolderError] * 2
        assert "disk full" in str(results[0])
        assert numbers(ledger) == []
        assert await writer.submit(put(2)) == 20  # the next transaction works

    run(ledger, work)
    assert numbers(ledger) == [2]
