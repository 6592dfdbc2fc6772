"""Webhook endpoints for providers' events. Each stores the event before it responds."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

import structlog
from asgiref.sync import sync_to_async
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from psycopg_pool import PoolTimeout

from core import sizes
from messaging.inbound import authentication
from messaging.inbound.authentication import Received

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger(__name__)

# docs/providers/cloud.md §3.3
MAX_BYTES = 3 * 1024 * 1024
# The configured MAX_ATTACHMENT_SIZE of wwebjs-api as base64, plus the rest of the body.
MAX_WWEBJS_BYTES = 16 * 1024 * 1024
# The default of `config.asgi.LIMITS`: a larger file is fetched, not posted.
MAX_EVENT_BYTES = 256 * 1024

_DETAILS = {
    "bad_key": _("The x-api-key header does not match this channel."),
    "bad_secret": _("The Authorization header contains no session's secret."),
    "bad_signature": _("The X-Hub-Signature-256 header does not match any channel's app secret."),
    "method_not_allowed": _("This address does not support this method."),
    "not_authenticated": _("The request does not come from this channel's server."),
    "unavailable": _("The event cannot be stored now. Send it again."),
    "unknown_source": _("This address belongs to no provider."),
    "unreadable": _("The request body could not be read completely."),
    "wrong_instance": _("The secret belongs to another instance."),
    "wrong_token": _("No channel has this verification token."),
}


def answer(status: int, code: str) -> JsonResponse:
    """Return a provider's response; an error has a `detail`, as everywhere in the API."""
    detail = {"detail": str(_DETAILS[code])} if status >= 400 else {}
    return JsonResponse({**detail, "code": code}, status=status)


def too_large(request: HttpRequest, limit: int) -> JsonResponse:
    """Return 413 for a body of more than `limit` bytes, with the limit in the detail."""
    length = request.headers.get("Content-Length", "")
    detail = sizes.too_large(int(length) if length.isdecimal() else None, limit)
    return JsonResponse({"detail": detail, "code": "too_large"}, status=413)


@method_decorator(csrf_exempt, name="dispatch")
class Receiver(View):
    """An endpoint for a provider's events, without middleware."""

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        response = answer(405, "method_not_allowed")
        response["Allow"] = ", ".join(self._allowed_methods())  # type: ignore[attr-defined]

        async def respond() -> HttpResponse:
            return response

        return respond()

    async def receive(
        self, request: HttpRequest, limit: int, store: Callable[[bytes], Received]
    ) -> HttpResponse:
        """Read the body and have it stored; answer 503 if it cannot be stored now."""
        try:
            # Not `request.body`, which treats a missing Content-Length as an empty body.
            body = request.read(limit + 1)
        except UnreadablePostError:
            return answer(400, "unreadable")
        if len(body) > limit:
            return too_large(request, limit)
        try:
            result = await _in_thread(store)(body)
        except (DatabaseError, PoolTimeout, OSError) as error:
            log.error("event not stored", path=request.path, error=type(error).__name__)
            return answer(503, "unavailable")
        return answer(*result.value)


class CloudWebhook(Receiver):
    """Meta's webhook: `hub.*` verification by GET, signed events by POST.

    It returns 200 only after the event is committed, and 503 if the event cannot be stored, so
    that Meta sends it again.
    """

    async def get(self, request: HttpRequest) -> HttpResponse:
        token = request.GET.get("hub.verify_token", "")
        try:
            allowed = await _in_thread(authentication.is_verify_token)(token)
        except (DatabaseError, PoolTimeout):
            return answer(503, "unavailable")
        if request.GET.get("hub.mode") != "subscribe" or not allowed:
            return answer(403, "wrong_token")
        return HttpResponse(request.GET.get("hub.challenge", ""), content_type="text/plain")

    async def post(self, request: HttpRequest) -> HttpResponse:
        signature = request.headers.get("X-Hub-Signature-256", "")
        return await self.receive(
            request, MAX_BYTES, lambda body: authentication.receive_cloud(body, signature)
        )


class WwebjsWebhook(Receiver):
    """wwebjs-api's callbacks. It posts each callback once and does not retry."""

    async def post(self, request: HttpRequest, channel_id: int) -> HttpResponse:
        key = request.headers.get("x-api-key", "")
        return await self.receive(
            request,
            MAX_WWEBJS_BYTES,
            lambda body: authentication.receive_wwebjs(channel_id, body, key),
        )


class EngineWebhook(Receiver):
    """The webhook of an engine that authenticates its events itself (`EventSource`).

    It returns 200 only after the event is committed, and 503 if it cannot be stored.
    """

    async def post(self, request: HttpRequest, source: str, channel_id: int) -> HttpResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        return await self.receive(
            request,
            MAX_EVENT_BYTES,
            lambda body: authentication.receive(source, channel_id, body, headers),
        )


def _in_thread(function: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Run in a thread pool, so that webhooks do not queue behind the pages' single thread."""
    return sync_to_async(function, thread_sensitive=False)
