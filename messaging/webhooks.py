"""The doors for providers' events. Each one stores, then answers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import structlog
from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from psycopg_pool import PoolTimeout

from messaging.inbound import receiving

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger(__name__)

# contracts/cloud-api.md §3.3
MOST_BYTES = 3 * 1024 * 1024
# MAX_ATTACHMENT_SIZE of the mission as base64, with room around it.
MOST_WWEBJS_BYTES = 16 * 1024 * 1024


@method_decorator(csrf_exempt, name="dispatch")
class CloudWebhook(View):
    """Meta's webhook: `hub.*` verification by GET, signed events by POST.

    200 only after the event is committed; 503 when it cannot be, so that Meta sends it again.
    """

    async def get(self, request: HttpRequest) -> HttpResponse:
        token = request.GET.get("hub.verify_token", "")
        try:
            allowed = await _in_thread(receiving.is_verify_token)(token)
        except (DatabaseError, PoolTimeout):
            return _answer(503, "unavailable")
        if request.GET.get("hub.mode") != "subscribe" or not allowed:
            return _answer(403, "wrong_token")
        return HttpResponse(request.GET.get("hub.challenge", ""), content_type="text/plain")

    async def post(self, request: HttpRequest) -> HttpResponse:
        try:
            # Not `request.body`, which believes a missing Content-Length.
            body = request.read(MOST_BYTES + 1)
        except UnreadablePostError:
            return _answer(400, "unreadable")
        if len(body) > MOST_BYTES:
            return _answer(413, "too_large")
        signature = request.headers.get("X-Hub-Signature-256", "")
        try:
            result = await _in_thread(receiving.receive_cloud)(body, signature)
        except (DatabaseError, PoolTimeout) as error:
            log.error("event not stored; the provider is asked to repeat", error=str(type(error)))
            return _answer(503, "unavailable")
        return _answer(*result.value)


@method_decorator(csrf_exempt, name="dispatch")
class WwebjsWebhook(View):
    """wwebjs-api's callbacks. It posts each once: what is not stored now is never told again."""

    async def post(self, request: HttpRequest, channel_id: int) -> HttpResponse:
        try:
            body = request.read(MOST_WWEBJS_BYTES + 1)
        except UnreadablePostError:
            return _answer(400, "unreadable")
        if len(body) > MOST_WWEBJS_BYTES:
            return _answer(413, "too_large")
        key = request.headers.get("x-api-key", "")
        try:
            result = await _in_thread(receiving.receive_wwebjs)(channel_id, body, key)
        except (DatabaseError, PoolTimeout, OSError) as error:
            log.error("callback not stored", error=type(error).__name__)
            return _answer(503, "unavailable")
        return _answer(*result.value)


def _answer(status: int, code: str) -> JsonResponse:
    return JsonResponse({"code": code}, status=status)


def _in_thread(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Webhooks wait for the database beside each other, not behind the pages' one thread."""
    return sync_to_async(function, thread_sensitive=False)
