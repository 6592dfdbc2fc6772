"""A small HTTP/1.1 client for many small requests to one server, on connections that stay open.

A general client costs more processor time per request than the receiver of the request does.
Redirects, TLS and compression are not supported.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Response:
    """The status and the body; a chunked body is not decoded."""

    status: int
    body: bytes


class _Connection(asyncio.Protocol):
    """One connection with at most one request at a time."""

    def __init__(self) -> None:
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Response] | None = None
        self._received = b""
        # Filled once the head has arrived.
        self._status = 0
        self._body_at = self._length = 0
        self._chunked = self._closes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self, request: bytes) -> asyncio.Future[Response]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._received, self._body_at = b"", 0
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._body_at and not self._read_head():
            return
        body = self._received[self._body_at :]
        if self._chunked:
            complete = body.endswith(b"0\r\n\r\n")
        else:
            complete = self._length >= 0 and len(body) >= self._length
        if complete:
            self._finish(body)

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self._received[:end].lower()
        self._body_at = end + 4
        try:
            self._status = int(head[9:12])
            _, found, rest = head.partition(b"\r\ncontent-length:")
            self._length = int(rest.partition(b"\r\n")[0]) if found else -1
        except ValueError:
            self.close()
            return False
        self._chunked = b"\r\ntransfer-encoding: chunked" in head
        self._closes = b"\r\nconnection: close" in head
        if self._status in (204, 304):
            self._length = 0
        return True

    def _finish(self, body: bytes) -> None:
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(Response(self._status, body))
        if self._closes:
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        # Without a length the end of the connection is the end of the body.
        if self._body_at and self._length < 0 and not self._chunked:
            self._finish(self._received[self._body_at :])
        elif self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(str(error or "closed without a response")))

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()


class KeepAliveClient:
    """Sends requests to one server on at most `limit` connections; more requests wait."""

    def __init__(self, host: str, port: int, *, limit: int = 100, timeout: float = 15.0) -> None:
        self._address = (host, port)
        self._host = f"{host}:{port}".encode()
        self._timeout = timeout
        self._idle: deque[_Connection] = deque()
        self._free = asyncio.Semaphore(limit)

    async def request(
        self, method: str, target: str, body: bytes = b"", headers: bytes = b""
    ) -> Response:
        """Send a request. `headers`: complete lines. Raises OSError or TimeoutError."""
        request = b"%b %b HTTP/1.1\r\nHost: %b\r\nContent-Length: %d\r\n%b\r\n%b" % (
            method.encode(), target.encode(), self._host, len(body), headers, body,
        )  # fmt: skip
        async with asyncio.timeout(self._timeout), self._free:
            connection = self._take() or await self._connect()
            try:
                response = await connection.ask(request)
            except BaseException:
                connection.close()
                raise
        if not connection.closed:
            self._idle.append(connection)
        return response

    def _take(self) -> _Connection | None:
        # The one used last, so that the server closes those that are not needed.
        while self._idle:
            if not (connection := self._idle.pop()).closed:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, *self._address)
        return connection

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()
