"""The keeper, as a worker calls it, wherever it is."""

from __future__ import annotations

from typing import Protocol

from tutelage.scale.keeper import Ruling
from tutelage.scale.rate_leases import RateCall
from tutelage.teacher.ledger.leased_session import Lessor


class KeeperCalls(Lessor, Protocol):
    """The keeper, as a worker calls it. See `Keeper` for each call."""

    def register(self, actor: str, place: str) -> int:
        """A session."""

    def beat(self, session: int) -> None:
        """The worker lives."""

    def settle_ended(self, session: int) -> list[int]:
        """Charges of a worker that has ended."""

    def begin_block(self, session: int, block: int, missing: int) -> Ruling:
        """Whether to ask for the rows of a block."""

    def end_block(self, session: int, block: int, sent: int) -> None:
        """The block is done."""

    def engine_died(self, reason: str) -> None:
        """A block was given up."""

    def rates(self, session: int, call: RateCall) -> tuple[float, float]:
        """A lease of rates."""

    def stop(self, kind: str, message: str) -> None:
        """End the job."""

    def proven(self) -> bool:
        """Whether the teacher has answered."""

    def note(self, line: str) -> None:
        """A line for the user."""
