"""The live socket, which updates pages without a reload."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings
from django.contrib.auth import get_user
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from redis.exceptions import RedisError

from accounts.language import chosen_language
from messaging.live import frames as live_frames
from messaging.live import publisher

log = structlog.get_logger(__name__)

# The channel layer drops a group member after a day: the page must reconnect well before that.
LIFETIME_SECONDS = 6 * 3600
# The interval for sending changes whose push was lost and for checking permissions again.
PING_SECONDS = 25
CLOSE_RECONNECT = 4000
CLOSE_NOT_ALLOWED = 4003
CLOSE_NO_LAYER = 4013


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """Sends the changes that the page missed, then a frame for each new change, in batches.

    The page is up to date as of the time `at` in `ready` and `ping`. A pushed change does not
    advance that time, because an earlier push may have been lost. One task sends everything, so
    that nothing older follows something newer. Database reads run outside the thread that all
    sockets would otherwise share.
    """

    async def __call__(self, *arguments: Any) -> None:
        self._views: list[live_frames.View] = []
        self._changes: dict[str, set[Any]] = {}
        self._wake = asyncio.Event()
        self._since: dt.datetime | None = None
        self._sent_frames = live_frames.SentFrames()
        self._task: asyncio.Task[None] | None = None
        try:
            await super().__call__(*arguments)
        except RedisError as error:
            log.warning("channel layer lost; the page reconnects", error=type(error).__name__)
            # The page may have disconnected at the same time.
            with contextlib.suppress(Exception):
                await self.close(CLOSE_NO_LAYER)
        finally:
            # `disconnect` is not called if the channel layer failed.
            if self._task is not None:
                self._task.cancel()

    async def connect(self) -> None:
        try:
            query = parse_qs(self.scope["query_string"].decode(), keep_blank_values=True)
            self._views = live_frames.views_for_query(
                query,
                user=self.scope["user"],
                language=chosen_language(self.scope.get("cookies", {})),
            )
            since = parse_datetime(query.get("since", [""])[0])
            if since is not None and timezone.is_naive(since):
                since = timezone.make_aware(since)
            if since is not None and since.year < 2000:
                raise ValueError("no page is that old")
            self._since = since
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
            log.warning("no channel layer; the page reconnects", error=type(error).__name__)
            await self.close(CLOSE_NO_LAYER)
            return
        await self._catch_up("ready")
        self._task = asyncio.create_task(self._serve())

    async def disconnect(self, code: int) -> None:
        with contextlib.suppress(Exception):
            for group in self._groups():
                await self.channel_layer.group_discard(group, self.channel_name)

    def _groups(self) -> set[str]:
        groups = {view.group for view in self._views}
        key = self.scope["session"].session_key
        return groups | {publisher.session_group(key)} if key else groups

    async def live_change(self, event: dict[str, Any]) -> None:
        """Record that a row changed. Its current data is read when the change is sent."""
        if publisher.SIGNED_OUT in event["changed"]:
            await self.close(CLOSE_NOT_ALLOWED)
            return
        for kind, ids in event["changed"].items():
            self._changes.setdefault(kind, set()).update(ids)
        self._wake.set()

    async def _serve(self) -> None:
        time = asyncio.get_running_loop().time
        deadline = time() + LIFETIME_SECONDS
        try:
            while time() < deadline:
                ping_at = time() + PING_SECONDS
                while (left := ping_at - time()) > 0:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(left):
                            await self._wake.wait()
                    if self._wake.is_set():
                        await self._send_changes()
                if not await self._is_still_allowed():
                    await self.close(CLOSE_NOT_ALLOWED)
                    return
                await self._catch_up("ping")
        except Exception as error:
            # The page reconnects and catches up: no recovery is needed here.
            log.warning("live socket closed", error=type(error).__name__)
        with contextlib.suppress(Exception):  # it may have disconnected
            await self.close(CLOSE_RECONNECT)

    async def _send_changes(self) -> None:
        self._wake.clear()
        changes, self._changes = self._changes, {}
        frames = await _read(live_frames.frames)(self._views, changes)
        self._sent_frames.record(frames)
        for frame in frames:
            await self.send_json(frame)

    async def _catch_up(self, kind: str) -> None:
        """Send what the page has not received, then a frame that says it is up to date."""
        started_at = timezone.now()
        for frame in await _read(live_frames.catch_up)(self._views, self._since, self._sent_frames):
            await self.send_json(frame)
        await self.send_json({"kind": kind, "at": started_at.isoformat()})
        self._since = started_at

    async def _is_still_allowed(self) -> bool:
        """Return whether the session's user is still signed in and has the permissions."""
        views = await _read(_current_views)(self._views, self.scope["session"].session_key)
        self._views = views or self._views
        return views is not None


def _current_views(
    views: list[live_frames.View], session_key: str | None
) -> list[live_frames.View] | None:
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    return live_frames.for_user(views, get_user(request))


def _read(function: Any) -> Any:
    return database_sync_to_async(function, thread_sensitive=False)
