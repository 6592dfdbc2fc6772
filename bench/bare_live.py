"""The yardstick of the live sockets: each writes what arrives in one group of the channel layer."""

from __future__ import annotations

import os
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter  # noqa: E402

GROUP = "bench.bare"
# About as long as the frame of a message.
PADDING = "x" * 2000


class BareConsumer(AsyncWebsocketConsumer):
    groups = [GROUP]

    async def connect(self) -> None:
        await self.accept()
        await self.send('{"kind": "ready"}')

    async def bench_change(self, event: dict[str, Any]) -> None:
        await self.send(f'{{"kind": "message", "html": "{event["text"]}{PADDING}"}}')


application = ProtocolTypeRouter({"websocket": BareConsumer.as_asgi()})
