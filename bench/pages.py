"""Open pages: the live WebSockets of many pages in one event loop, for little processor time."""

from __future__ import annotations

import asyncio
import base64
import os
import time
from collections.abc import Callable, Sequence

HOST = "127.0.0.1"
OPEN_SECONDS = 300.0
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


class Page(asyncio.Protocol):
    """One WebSocket that counts its frames. It sends nothing but what the protocol demands."""

    def __init__(self, target: str, headers: str, on_text: Callable[[Page, bytes], None]) -> None:
        self.texts = self.pings = 0
        self.awaits = False
        self.closed = False
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = (
            f"GET {target} HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n{headers}\r\n"
        )
        self._on_text = on_text
        self._buffer = bytearray()
        self._is_open = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request.encode())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_open:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            if b" 101 " not in self._buffer[:20]:
                self._fail(f"no WebSocket: {bytes(self._buffer[:end])!r}")
                return
            self._is_open = True
            del self._buffer[: end + 4]
        while self._read_frame():
            pass

    def _read_frame(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 2:
            return False
        length, start = buffer[1] & 127, 2
        if length == 126:
            length, start = int.from_bytes(buffer[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(buffer[2:10], "big"), 10
        if len(buffer) < start + length:
            return False
        kind, payload = buffer[0] & 15, bytes(buffer[start : start + length])
        del buffer[: start + length]
        if kind == TEXT:
            self._text(payload)
        elif kind == PING:
            self._send(PONG, payload)
        elif kind == CLOSE:
            self.close()
        return True

    def _text(self, payload: bytes) -> None:
        self.texts += 1
        if payload.startswith(b'{"kind": "ping"'):
            self.pings += 1
        elif payload.startswith(b'{"kind": "ready"') and not self.ready.done():
            self.ready.set_result(None)
        self._on_text(self, payload)

    def _send(self, kind: int, payload: bytes) -> None:
        assert self._transport is not None
        # A mask of zeros leaves the payload as it is.
        self._transport.write(bytes([128 | kind, 128 | len(payload)]) + bytes(4) + payload)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"closed: {error}")

    def _fail(self, reason: str) -> None:
        self.closed = True
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(reason))

    def close(self) -> None:
        self.closed = True
        if self._transport is not None:
            self._transport.close()


class Pages:
    """Many open pages. `texts` counts the text frames of all of them."""

    def __init__(self, port: int, cookies: str) -> None:
        self._port = port
        self._headers = f"Host: {HOST}:{port}\r\nOrigin: http://{HOST}:{port}\r\n"
        self._headers += f"Cookie: {cookies}\r\n"
        self._awaited = b""
        self._missing = 0
        self._last = 0.0
        self._arrived: asyncio.Event = asyncio.Event()
        self.pages: list[Page] = []

    async def open(self, targets: Sequence[str], *, at_once: int = 10) -> None:
        """Open one page for each target, and wait until all are ready: five minutes at most."""
        turn = asyncio.Semaphore(at_once)
        loop = asyncio.get_running_loop()

        async def one(target: str) -> None:
            async with turn:
                _, page = await loop.create_connection(
                    lambda: Page(target, self._headers, self._saw), HOST, self._port
                )
                self.pages.append(page)
                await page.ready

        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await asyncio.gather(*map(one, targets))
        except TimeoutError:
            ready = sum(page.ready.done() for page in self.pages)
            raise RuntimeError(
                f"{ready} of {len(targets)} pages are open after {OPEN_SECONDS:g} s"
            ) from None

    @property
    def texts(self) -> int:
        return sum(page.texts for page in self.pages)

    @property
    def pings(self) -> int:
        return sum(page.pings for page in self.pages)

    @property
    def closed(self) -> int:
        return sum(page.closed for page in self.pages)

    def expect(self, text: str) -> None:
        """Begin to wait until each page has received a frame with this text."""
        self._awaited, self._missing = text.encode(), len(self.pages)
        for page in self.pages:
            page.awaits = True
        self._arrived.clear()

    async def all_received(self, patience: float) -> float | None:
        """Return when the last page had the frame; None if some have not after `patience`."""
        try:
            async with asyncio.timeout(patience):
                await self._arrived.wait()
        except TimeoutError:
            return None
        return self._last

    @property
    def missing(self) -> int:
        return self._missing

    def _saw(self, page: Page, payload: bytes) -> None:
        if page.awaits and self._awaited in payload:
            page.awaits = False
            self._missing -= 1
            if self._missing == 0:
                self._last = time.perf_counter()
                self._arrived.set()

    def close(self) -> None:
        for page in self.pages:
            page.close()
