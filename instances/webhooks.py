"""The webhook for Evolution's events."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import structlog
from django.http import HttpRequest, HttpResponse
from django.http.request import UnreadablePostError

from instances import receiving
from instances.models import Backfill
from instances.receive_mode.gap_signs import GapSigns
from instances.receiving import Delivery, Received
from messaging.inbound import group_commit
from messaging.inbound.group_commit import SMALL_BYTES, GroupCommit
from messaging.webhooks import UNAVAILABLE, Receiver, answer, too_large

log = structlog.get_logger(__name__)

_signs: WeakKeyDictionary[asyncio.AbstractEventLoop, GapSigns] = WeakKeyDictionary()


def gap_signs() -> GapSigns:
    """Return the gap signs of this process. Call it in the event loop."""
    return _signs.setdefault(asyncio.get_running_loop(), GapSigns())


async def may_deliver(authorization: str) -> bool:
    """Return whether to read the rest of a large body; the receiver reports the reason.

    If the database is down, return True: the receiver cannot store the event and reports that.
    """
    try:
        return await _is_known(authorization)
    except UNAVAILABLE:
        return True


async def _is_known(authorization: str) -> bool:
    return await group_commit.in_thread(receiving.is_known)(authorization)


class EvolutionWebhook(Receiver):
    """Answers 200 once the event is committed, 503 if it cannot be stored.

    Evolution never retries after 400, 401, 403, 404 or 422, but retries after 503
    (docs/providers/evolution.md §1). So 4xx is used only if a retry would not help. A rejected
    delivery is a sign of a gap: the message and its file are fetched from Evolution.
    """

    max_bytes = receiving.MAX_BYTES
    _events = GroupCommit(receiving.receive_all)

    async def post(self, request: HttpRequest, **arguments: Any) -> HttpResponse:
        authorization = request.headers.get("Authorization", "")
        try:
            # Not `request.body`: it applies the size limit of the other pages.
            body = request.read(SMALL_BYTES + 1)
            if len(body) > SMALL_BYTES:
                body += await group_commit.in_thread(request.read)(self.max_bytes + 1 - len(body))
        except UnreadablePostError:
            gap_signs().note(Backfill.Reason.NOT_STORED, authorization=authorization)
            return answer(503, "unreadable")
        if max(len(body), _declared_length(request)) > self.max_bytes:
            return await self._reject_large(request, body, authorization)
        return answer(*await self.receive(body, {"authorization": authorization}))

    async def receive(
        self, body: bytes, headers: Mapping[str, str], **arguments: Any
    ) -> tuple[int, str]:
        authorization = headers.get("authorization", "")
        try:
            result = await self._events.receive(Delivery(body, authorization))
        except Exception as error:
            if isinstance(error, UNAVAILABLE):
                log.error("event not stored; Evolution retries", error=type(error).__name__)
            else:
                log.exception("event not stored; Evolution retries")
            # It retries from memory only: a restart loses the event.
            gap_signs().note(Backfill.Reason.NOT_STORED, authorization=authorization)
            return 503, "unavailable"
        self._record_rejection(result, body)
        return result.value

    async def _reject_large(
        self, request: HttpRequest, body: bytes, authorization: str
    ) -> HttpResponse:
        try:
            known = await _is_known(authorization)
        except UNAVAILABLE:
            gap_signs().note(Backfill.Reason.TOO_LARGE, authorization=authorization)
            return too_large(request, receiving.MAX_BYTES)
        if not known:
            self._record_rejection(Received.BAD_SECRET, body)
            return answer(*Received.BAD_SECRET.value)
        gap_signs().note(Backfill.Reason.TOO_LARGE, authorization=authorization)
        return too_large(request, receiving.MAX_BYTES)

    def _record_rejection(self, result: Received, body: bytes) -> None:
        if result in (Received.BAD_SECRET, Received.WRONG_INSTANCE):
            gap_signs().note_unauthorized(body)


def _declared_length(request: HttpRequest) -> int:
    """Return the Content-Length of the body; 0 if the header is missing or invalid."""
    length = request.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdigit() else 0
