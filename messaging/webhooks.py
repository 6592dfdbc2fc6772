"""Webhook endpoints for providers' events. Each stores the event before it responds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import structlog
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from core import sizes
from messaging.inbound import authentication, group_commit
from messaging.inbound.arrivals import STORAGE_ERRORS
from messaging.inbound.authentication import (
    CloudDelivery,
    EngineDelivery,
    Received,
    WwebjsDelivery,
)
from messaging.inbound.group_commit import SMALL_BYTES, GroupCommit

log = structlog.get_logger(__name__)

# The database or the file storage does not work now.
UNAVAILABLE = (DatabaseError, *STORAGE_ERRORS)

# docs/providers/cloud.md §3.3
MAX_BYTES = 3 * 1024 * 1024
# The configured MAX_ATTACHMENT_SIZE of wwebjs-api as base64, plus the rest of the body.
MAX_WWEBJS_BYTES = 16 * 1024 * 1024
# The default of `config.asgi.LIMITS`: a larger file is fetched, not posted.
MAX_EVENT_BYTES = SMALL_BYTES

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
    """An endpoint for a provider's events, without middleware.

    `receive` answers an event of at most `max_bytes` bytes once it is committed, or that it cannot
    be stored now (503). Events that arrive together are committed together. The web process calls
    it without Django's request and response if the event is small (`config.asgi`).
    """

    max_bytes: ClassVar[int]

    async def post(self, request: HttpRequest, **arguments: Any) -> HttpResponse:
        try:
            # Not `request.body`, which treats a missing Content-Length as an empty body.
            body = request.read(self.max_bytes + 1)
        except UnreadablePostError:
            return answer(400, "unreadable")
        if len(body) > self.max_bytes:
            return too_large(request, self.max_bytes)
        headers = {name.lower(): value for name, value in request.headers.items()}
        return answer(*await self.receive(body, headers, **arguments))

    async def receive(
        self, body: bytes, headers: Mapping[str, str], **arguments: Any
    ) -> tuple[int, str]:
        """Store an event; return status and code. Header names are lower case."""
        try:
            result = await self.store(body, headers, **arguments)
        except UNAVAILABLE as error:
            log.error("event not stored", receiver=type(self).__name__, error=type(error).__name__)
            return 503, "unavailable"
        return result.value

    async def store(self, body: bytes, headers: Mapping[str, str], **arguments: Any) -> Received:
        """Authenticate and commit an event. Raises one of `UNAVAILABLE`."""
        raise NotImplementedError

    def http_method_not_allowed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        response = answer(405, "method_not_allowed")
        response["Allow"] = ", ".join(self._allowed_methods())  # type: ignore[attr-defined]

        async def respond() -> HttpResponse:
            return response

        return respond()


class CloudWebhook(Receiver):
    """Meta's webhook: `hub.*` verification by GET, signed events by POST.

    It returns 200 only after the event is committed, and 503 if the event cannot be stored, so
    that Meta sends it again.
    """

    max_bytes = MAX_BYTES
    _events = GroupCommit(authentication.receive_cloud_group)

    async def get(self, request: HttpRequest) -> HttpResponse:
        token = request.GET.get("hub.verify_token", "")
        try:
            allowed = await group_commit.in_thread(authentication.is_verify_token)(token)
        except UNAVAILABLE:
            return answer(503, "unavailable")
        if request.GET.get("hub.mode") != "subscribe" or not allowed:
            return answer(403, "wrong_token")
        return HttpResponse(request.GET.get("hub.challenge", ""), content_type="text/plain")

    async def store(self, body: bytes, headers: Mapping[str, str]) -> Received:  # type: ignore[override]
        signature = headers.get("x-hub-signature-256", "")
        return await self._events.receive(CloudDelivery(body, signature))


class WwebjsWebhook(Receiver):
    """wwebjs-api's callbacks. It posts each callback once and does not retry."""

    max_bytes = MAX_WWEBJS_BYTES
    _events = GroupCommit(authentication.receive_wwebjs_group)

    async def store(  # type: ignore[override]
        self, body: bytes, headers: Mapping[str, str], *, channel_id: int
    ) -> Received:
        key = headers.get("x-api-key", "")
        return await self._events.receive(WwebjsDelivery(channel_id, body, key))


class EngineWebhook(Receiver):
    """The webhook of an engine that authenticates its events itself (`EventSource`).

    It returns 200 only after the event is committed, and 503 if it cannot be stored.
    """

    max_bytes = MAX_EVENT_BYTES
    _events = GroupCommit(authentication.receive_group)

    async def store(  # type: ignore[override]
        self, body: bytes, headers: Mapping[str, str], *, source: str, channel_id: int
    ) -> Received:
        return await self._events.receive(EngineDelivery(source, channel_id, body, headers))
