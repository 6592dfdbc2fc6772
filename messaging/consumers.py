"""The live socket: what pages see change without a reload."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import parse_qs

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from redis.exceptions import RedisError

from accounts.language import chosen_language
from messaging import live_frames

log = structlog.get_logger(__name__)

# The channel layer forgets a group's member after a day, and a person's rights may change: the
# page is made to connect anew well before.
LIFETIME_SECONDS = 6 * 3600
PING_SECONDS = 25
CLOSE_COME_AGAIN = 4000
CLOSE_NO_LAYER = 4013


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """Catches the page up, then sends a frame for each change, several changes at a time.

    Reads run outside of the one thread that all sockets would otherwise share.
    """

    async def __call__(self, *arguments: Any) -> None:
        self._views: list[live_frames.View] = []
        self._changes: dict[str, set[Any]] = {}
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        try:
            await super().__call__(*arguments)
        except RedisError as error:
            log.warning("channel layer lost; the page comes again", error=type(error).__name__)
            # The page may have gone in the same moment.
            with contextlib.suppress(Exception):
                await self.close(CLOSE_NO_LAYER)
        finally:
            # `disconnect` is not called where the channel layer failed.
            for task in self._tasks:
                task.cancel()

    async def connect(self) -> None:
        try:
            query = parse_qs(self.scope["query_string"].decode(), keep_blank_values=True)
            self._views = live_frames.views_of(
                query,
                user=self.scope["user"],
                language=chosen_language(self.scope.get("cookies", {})),
            )
            since = parse_datetime(query.get("since", [""])[0])
            if since is not None and timezone.is_naive(since):
                since = timezone.make_aware(since)
            if since is not None and since.year < 2000:
                raise ValueError("no page is that old")
            allowed = await _read(live_frames.allowed)(self._views)
        except (ValueError, OverflowError):
            allowed = False
        if not allowed:
            await self.close()
            return
        await self.accept()
        try:
            for group in self._groups():
                await self.channel_layer.group_add(group, self.channel_name)
        except Exception as error:
            log.warning("no channel layer; the page will come again", error=type(error).__name__)
            await self.close(CLOSE_NO_LAYER)
            return
        began = timezone.now()
        for frame in await _read(live_frames.catch_up)(self._views, since):
            await self.send_json(frame)
        await self.send_json({"kind": "ready", "at": began.isoformat()})
        self._tasks = [asyncio.create_task(self._send_changes()), asyncio.create_task(self._ping())]

    async def disconnect(self, code: int) -> None:
        with contextlib.suppress(Exception):
            for group in self._groups():
                await self.channel_layer.group_discard(group, self.channel_name)

    def _groups(self) -> set[str]:
        return {view.group for view in self._views}

    async def live_change(self, event: dict[str, Any]) -> None:
        """A row changed. What it is now is read when the change is sent."""
        for kind, ids in event["changed"].items():
            self._changes.setdefault(kind, set()).update(ids)
        self._wake.set()

    async def _send_changes(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            changes, self._changes = self._changes, {}
            began = timezone.now()
            try:
                for frame in await _read(live_frames.frames)(self._views, changes):
                    await self.send_json({**frame, "at": began.isoformat()})
            except Exception as error:
                # The page comes again and catches up; there is nothing to mend here.
                log.warning("live socket closed", error=type(error).__name__)
                await self.close(CLOSE_COME_AGAIN)
                return

    async def _ping(self) -> None:
        deadline = asyncio.get_running_loop().time() + LIFETIME_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(PING_SECONDS)
            await self.send_json({"kind": "ping", "at": timezone.now().isoformat()})
        await self.close(CLOSE_COME_AGAIN)


def _read(function: Any) -> Any:
    return database_sync_to_async(function, thread_sensitive=False)
