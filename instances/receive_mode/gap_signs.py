"""Buffers the signs of a gap that the webhook receiver detects until they are stored.

A delivery often cannot be stored because the database is down, so the signs wait in memory. If
the process ends, its successor requests a backfill of every session.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from typing import NamedTuple

import structlog
from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError, close_old_connections
from psycopg_pool import PoolTimeout

from core.text import is_storable
from instances.models import Backfill
from instances.receive_mode import backfill

log = structlog.get_logger(__name__)

RETRY_SECONDS = 2.0
MAX_WAITING = 1000
# Anybody can post a wrong secret and an instance name. Each name counts once in this time, and the
# number of names is limited.
UNTRUSTED_SECONDS = 60.0
MAX_NAMES = 100
# Evolution sends the name at the beginning of the body.
_HEAD_BYTES = 4096
_NAME = re.compile(rb'"instance"\s*:\s*("(?:[^"\\]|\\.){1,400}")')


class Sign(NamedTuple):
    """The sender of a rejected delivery, by secret or by name, and the reason."""

    reason: str
    authorization: str = ""
    instance: str = ""


class GapSigns:
    """Stores each sign once, as soon as the database is available."""

    def __init__(self) -> None:
        self._waiting: dict[Sign, None] = {}
        self._writing: asyncio.Task[None] | None = None
        self._named_at: dict[str, float] = {}

    def note(self, reason: Backfill.Reason, *, authorization: str) -> None:
        """Record that a delivery with a session's secret was rejected or could not be stored."""
        self._add(Sign(reason.value, authorization=authorization))

    def note_unauthorized(self, body: bytes) -> None:
        """Record a delivery without a valid secret. Only the instance name in it is used."""
        name, now = name_in(body), time.monotonic()
        if not name or now - self._named_at.get(name, -UNTRUSTED_SECONDS) < UNTRUSTED_SECONDS:
            return
        recent = {n: at for n, at in self._named_at.items() if now - at < UNTRUSTED_SECONDS}
        if len(recent) >= MAX_NAMES:
            return
        self._named_at = {**recent, name: now}
        self._add(Sign(Backfill.Reason.UNAUTHORIZED.value, instance=name))

    def note_start(self) -> None:
        """Record that this process started: earlier deliveries may have been lost."""
        self._add(Sign(Backfill.Reason.STARTED.value))

    def _add(self, sign: Sign) -> None:
        if len(self._waiting) >= MAX_WAITING:
            log.error("sign of a gap not stored: too many are waiting", reason=sign.reason)
            return
        self._waiting[sign] = None
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                sign = next(iter(self._waiting))
                try:
                    await _store(sign)
                except (OperationalError, InterfaceError, PoolTimeout):
                    await asyncio.sleep(RETRY_SECONDS)
                except Exception:
                    log.exception("sign of a gap not stored", reason=sign.reason)
                    del self._waiting[sign]
                else:
                    del self._waiting[sign]
        finally:
            self._writing = None


def name_in(body: bytes) -> str:
    """Return the instance name at the beginning of an event, or "" if there is none."""
    match = _NAME.search(body[:_HEAD_BYTES])
    try:
        name = str(json.loads(match[1])) if match else ""
    except ValueError:
        return ""
    return name if is_storable(name) else ""


def _request_backfill(sign: Sign) -> None:
    reason = Backfill.Reason(sign.reason)
    try:
        if sign.authorization:
            backfill.request_for_secret(sign.authorization, reason=reason)
        elif sign.instance:
            backfill.request_by_name(sign.instance)
        else:
            backfill.request_all(reason=reason)
    finally:
        close_old_connections()


_store = sync_to_async(_request_backfill, thread_sensitive=False)
