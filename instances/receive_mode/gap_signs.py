"""Signs of a gap that the receiver of events sees, until they are written down.

A delivery that cannot be stored is often one of a time without database; so the signs wait in
memory, and the process that starts after this one notes a gap of every session.
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

AGAIN_SECONDS = 2.0
MOST_WAITING = 1000
# Anybody may post with a wrong secret and name an instance: each name counts once in this time,
# and so many names.
UNTRUSTED_SECONDS = 60.0
MOST_NAMES = 100
# The name stands at the beginning of what Evolution sends.
_HEAD_BYTES = 4096
_NAME = re.compile(rb'"instance"\s*:\s*("(?:[^"\\]|\\.){1,400}")')


class Sign(NamedTuple):
    """Whose delivery was not taken, by its secret or by the name in it, and why."""

    reason: str
    authorization: str = ""
    instance: str = ""


class GapSigns:
    """Writes signs down, each once, as soon as the database takes them."""

    def __init__(self) -> None:
        self._waiting: dict[Sign, None] = {}
        self._writing: asyncio.Task[None] | None = None
        self._named_at: dict[str, float] = {}

    def note(self, reason: Backfill.Reason, *, authorization: str) -> None:
        """A delivery with a session's secret was refused, or could not be stored."""
        self._put(Sign(reason.value, authorization=authorization))

    def note_unauthorized(self, body: bytes) -> None:
        """A delivery came without a right secret. Only the name in it is looked at."""
        name, now = name_in(body), time.monotonic()
        if not name or now - self._named_at.get(name, -UNTRUSTED_SECONDS) < UNTRUSTED_SECONDS:
            return
        recent = {n: at for n, at in self._named_at.items() if now - at < UNTRUSTED_SECONDS}
        if len(recent) >= MOST_NAMES:
            return
        self._named_at = {**recent, name: now}
        self._put(Sign(Backfill.Reason.UNAUTHORIZED.value, instance=name))

    def note_start(self) -> None:
        """This process has started: nobody took deliveries before, perhaps."""
        self._put(Sign(Backfill.Reason.STARTED.value))

    def _put(self, sign: Sign) -> None:
        if len(self._waiting) >= MOST_WAITING:
            log.error("a sign of a gap was not noted: too many wait", reason=sign.reason)
            return
        self._waiting[sign] = None
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._waiting:
                sign = next(iter(self._waiting))
                try:
                    await _write_down(sign)
                except (OperationalError, InterfaceError, PoolTimeout):
                    await asyncio.sleep(AGAIN_SECONDS)
                except Exception:
                    log.exception("a sign of a gap was not noted", reason=sign.reason)
                    del self._waiting[sign]
                else:
                    del self._waiting[sign]
        finally:
            self._writing = None


def name_in(body: bytes) -> str:
    """Return the instance's name in the beginning of an event, "" where there is none."""
    found = _NAME.search(body[:_HEAD_BYTES])
    try:
        name = str(json.loads(found[1])) if found else ""
    except ValueError:
        return ""
    return name if is_storable(name) else ""


def _note(sign: Sign) -> None:
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


_write_down = sync_to_async(_note, thread_sensitive=False)
