"""A deadline for receiving a request, where it is received: in the protocol.

uvicorn waits for headers and body as long as a client likes, and an application is called when the
headers are there. A client that sends a byte a second would hold its connection for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s"
)
_ENDED = (h11.DONE, h11.MUST_CLOSE, h11.CLOSED, h11.ERROR)


def protocol_with_deadline(seconds: float) -> type[asyncio.Protocol]:
    """uvicorn's protocol, with that many seconds from a request's first byte to its last.

    A new connection has as long for its first byte.
    """

    class Protocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._arm()

        def data_received(self, data: bytes) -> None:
            if self._timer is None:
                self._arm()
            super().data_received(data)
            if self.conn.their_state in _ENDED:
                self._disarm()

        def connection_lost(self, exc: Exception | None) -> None:
            self._disarm()
            super().connection_lost(exc)

        def _arm(self) -> None:
            self._timer = self.loop.call_later(seconds, self._late)

        def _disarm(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _late(self) -> None:
            self._timer = None
            if self.conn.their_state in _ENDED or self.transport.is_closing():
                return
            begun = self.cycle is not None and self.cycle.response_started
            if not begun or self.conn.their_state is h11.IDLE:
                text = b'{"detail": "the request did not arrive within %g seconds"}' % seconds
                self.transport.write(_TOO_SLOW % (len(text), text))
            self.transport.close()

    return Protocol
