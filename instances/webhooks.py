"""The door for Evolution's events."""

from __future__ import annotations

from typing import Any

import structlog
from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from psycopg_pool import PoolTimeout

from instances import receiving

log = structlog.get_logger(__name__)


@method_decorator(csrf_exempt, name="dispatch")
class EvolutionWebhook(View):
    """Answers 200 once the event is committed, 503 when it cannot be.

    Evolution never repeats what it got a 400, 401, 403, 404 or 422 for, but repeats after 503
    (contracts/evolution-api.md §1): so 4xx only for what no repeating would mend.
    """

    async def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        # Beside each other, not behind the pages' one thread.
        return await sync_to_async(_receive, thread_sensitive=False)(request)


def _receive(request: HttpRequest) -> HttpResponse:
    try:
        # Not `request.body`: that has the limit of the other pages.
        body = request.read(receiving.MOST_BYTES + 1)
    except UnreadablePostError:
        return _answer(503, "unreadable")
    if len(body) > receiving.MOST_BYTES:
        return _answer(413, "too_large")
    try:
        result = receiving.receive(body, request.headers.get("Authorization", ""))
    except (DatabaseError, PoolTimeout, OSError) as error:
        log.error("event not stored; Evolution is asked to repeat", error=type(error).__name__)
        return _answer(503, "unavailable")
    return _answer(*result.value)


def _answer(status: int, code: str) -> JsonResponse:
    return JsonResponse({"code": code}, status=status)
