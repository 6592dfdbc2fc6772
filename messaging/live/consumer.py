"""The live socket: what pages see change without a reload."""

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

# The channel layer forgets a group's member after a day: the page is made to connect anew well
# before.
LIFETIME_SECONDS = 6 * 3600
# So often the page is told what pushes that were lost would have told, and a person's rights are
# looked at again.
PING_SECONDS = 25
CLOSE_COME_AGAIN = 4000
CLOSE_NOT_ALLOWED = 4003
CLOSE_NO_LAYER = 4013


class LiveConsumer(AsyncJsonWebsocketConsumer):
    """Catches the page up, then sends a frame for each change, several changes at a time.

    `at` of `ready` and `ping` is the time as of which the page is right. A change that was pushed
    says nothing of those before it, whose push may have been lost. One task does all this, so that
    nothing older is sent after something newer. Reads run outside of the one thread that all
    sockets would otherwise share.
    """

    async def __call__(self, *arguments: Any) -> None:
        self._views: list[live_frames.View] = []
        self._changes: dict[str, set[Any]] = {}
        self._wake = asyncio.Event()
        self._since: dt.datetime | None = None
        self._told = live_frames.Told()
        self._task: asyncio.Task[None] | None = None
        try:
            await super().__call__(*arguments)
        except RedisError as error:
            log.warning("channel layer lost; the page comes again", error=type(error).__name__)
            # The page may have gone in the same moment.
            with contextlib.suppress(Exception):
                await self.close(CLOSE_NO_LAYER)
        finally:
            # `disconnect` is not called where the channel layer failed.
            if self._task is not None:
                self._task.cancel()

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
            log.warning("no channel layer; the page will come again", error=type(error).__name__)
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
        """A row changed. What it is now is read when the change is sent."""
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
            # The page comes again and catches up; there is nothing to mend here.
            log.warning("live socket closed", error=type(error).__name__)
        with contextlib.suppress(Exception):  # it may have gone
            await self.close(CLOSE_COME_AGAIN)

    async def _send_changes(self) -> None:
        self._wake.clear()
        changes, self._changes = self._changes, {}
        frames = await _read(live_frames.frames)(self._views, changes)
        self._told.note(frames)
        for frame in frames:
            await self.send_json(frame)

    async def _catch_up(self, kind: str) -> None:
        """Send what the page does not know yet, then the frame that says that it is right."""
        began = timezone.now()
        for frame in await _read(live_frames.catch_up)(self._views, self._since, self._told):
            await self.send_json(frame)
        await self.send_json({"kind": kind, "at": began.isoformat()})
        self._since = began

    async def _is_still_allowed(self) -> bool:
        """Whether the session is still signed in, by whom, and what that person may do by now."""
        views = await _read(_views_by_now)(self._views, self.scope["session"].session_key)
        self._views = views or self._views
        return views is not None


def _views_by_now(
    views: list[live_frames.View], session_key: str | None
) -> list[live_frames.View] | None:
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    return live_frames.for_user(views, get_user(request))


def _read(function: Any) -> Any:
    return database_sync_to_async(function, thread_sensitive=False)
