"""Pages' sockets for tests of live updates."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from channels.testing import WebsocketCommunicator
from django.test import Client

from channels_app.providers.events import Receipt
from messaging.delivery import attempts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from django.contrib.auth.models import User

    from messaging.models import Message

HOST = "127.0.0.1"


class Socket(WebsocketCommunicator):
    """The channels class prevents closing the database connections of the consumer's threads."""

    send_input = ApplicationCommunicator.send_input
    receive_output = ApplicationCommunicator.receive_output


class Page:
    """A browser's socket."""

    def __init__(self, communicator: Socket) -> None:
        self.communicator = communicator

    async def next(self) -> Any:
        return json.loads(await self.communicator.receive_from(5))

    async def until(self, kind: str) -> list[Any]:
        """Return the frames up to the first one of this kind."""
        frames = [await self.next()]
        while frames[-1]["kind"] != kind:
            frames.append(await self.next())
        return frames

    async def closed(self) -> int | None:
        """Return the server's close code; earlier frames are ignored."""
        for _ in range(100):
            event = await self.communicator.receive_output(5)
            if event["type"] == "websocket.close":
                code: int | None = event.get("code")
                return code
        raise AssertionError("the socket was not closed")

    async def nothing(self) -> bool:
        return bool(await self.communicator.receive_nothing(0.1))


def cookies_of(user: User | None, **more: str) -> bytes:
    client = Client()
    if user is not None:
        client.force_login(user)
    cookies: SimpleCookie = client.cookies
    for name, value in more.items():
        cookies[name] = value
    return "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items()).encode()


def communicator(cookies: bytes, query: str = "", origin: str = HOST) -> Socket:
    from config.asgi import application

    headers = [
        (b"host", HOST.encode()),
        (b"origin", f"http://{origin}".encode()),
        (b"cookie", cookies),
    ]
    return Socket(application, f"/ws/live/?{query}", headers=headers)


@asynccontextmanager
async def opened(cookies: bytes, **query: Any) -> AsyncIterator[Page]:
    """Open a page's socket and wait until it is up to date."""
    page = Page(communicator(cookies, urlencode(query)))
    connected, _ = await page.communicator.connect(5)
    assert connected
    try:
        await page.until("ready")
        yield page
    finally:
        await page.communicator.disconnect()


def is_rejected(cookies: bytes, query: str = "", origin: str = HOST) -> bool:
    async def connect() -> bool:
        page = communicator(cookies, query, origin)
        connected, _ = await page.connect(5)
        await page.disconnect(timeout=0.1)
        return not connected

    return async_to_sync(connect)()


def mark_delivered(message: Message, receipt: Receipt = Receipt.DELIVERED) -> None:
    """Record a receipt of the message, as a webhook does."""
    attempts.record_receipt(message.attempts.get(), receipt)
