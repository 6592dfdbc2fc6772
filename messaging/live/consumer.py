"""The live socket, which updates pages without a reload."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.language import chosen_language
from accounts.people import hue_of, initials_of, names_of
from messaging.live import frames as live_frames
from messaging.live import hub, presence, publisher
from messaging.live.audiences import CLOSE_INVALID, Outbox, Subscriber

# A page reconnects, perhaps to another process, at the first ping after this time.
LIFETIME_SECONDS = 6 * 3600
# The interval for sending changes whose push was lost and for checking permissions again.
PING_SECONDS = 25


class LiveConsumer:
    """Sends the changes that the page missed, then a frame for each new change, in batches.

    The page is up to date as of the time `at` in `ready` and `ping`. A pushed change does not
    advance that time, because an earlier push may have been lost. The hub of the process decides
    what is sent and when the socket closes. A page says who looks and types (`presence`); anything
    else that it sends closes the socket.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            subscriber = await _in_thread(_subscriber)(scope)
        except (ValueError, OverflowError):
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        subscriber.expires_at = asyncio.get_running_loop().time() + LIFETIME_SECONDS
        outbox = subscriber.outbox
        sending = asyncio.create_task(_send_all(outbox, send))
        outbox.abort = sending.cancel
        its_hub = hub.current(PING_SECONDS)
        its_hub.add(subscriber)
        waiting = asyncio.create_task(_until_disconnected(receive, its_hub, subscriber))
        try:
            await asyncio.wait({sending, waiting}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            waiting.cancel()
            await asyncio.gather(sending, waiting, return_exceptions=True)
            await its_hub.remove(subscriber)
        if outbox.close_code is not None:
            with contextlib.suppress(Exception):  # it may have disconnected
                await send({"type": "websocket.close", "code": outbox.close_code})


def _subscriber(scope: Any) -> Subscriber:
    """Return what the page watches. ValueError if it is nothing that its user may watch."""
    query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
    user, session_key = scope["user"], scope["session"].session_key
    views = live_frames.views_for_query(
        query, user=user, language=chosen_language(scope.get("cookies", {}))
    )
    since = parse_datetime(query.get("since", [""])[0])
    if since is not None and timezone.is_naive(since):
        since = timezone.make_aware(since)
    if since is not None and since.year < 2000:
        raise ValueError("no page is that old")
    if not live_frames.allowed(views):
        raise ValueError("not allowed")
    return Subscriber(
        views=views,
        rights=live_frames.rights(user),
        session_key=session_key,
        session_group=publisher.session_group(session_key),
        since=since,
        person=_person(user),
    )


def _person(user: Any) -> presence.Person:
    name = names_of(user)
    return presence.Person(id=user.pk, name=name[1], initials=initials_of(user), hue=hue_of(user))


async def _send_all(outbox: Outbox, send: Any) -> None:
    while (text := await outbox.next()) is not None:
        await send({"type": "websocket.send", "text": text})


async def _until_disconnected(receive: Any, its_hub: hub.Hub, subscriber: Subscriber) -> None:
    """Pass on what the page says, until it disconnects or sends what no page sends."""
    time = asyncio.get_running_loop().time
    rate = presence.Rate(time())
    while (event := await receive())["type"] != "websocket.disconnect":
        try:
            what, value = presence.read_frame(event.get("text"))
        except (ValueError, RecursionError):
            break
        if not rate.allows(time()):
            break
        its_hub.say(subscriber, what, value)
    else:
        return
    subscriber.outbox.close_now(CLOSE_INVALID)


def _in_thread(function: Any) -> Any:
    return database_sync_to_async(function, thread_sensitive=False)
