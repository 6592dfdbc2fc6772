"""The web process: pages and REST with all middleware, webhooks without, live WebSockets."""

from __future__ import annotations

import functools
import io
import os
import tempfile
from http import HTTPStatus
from typing import IO, Any

import django
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.exception import (
    convert_exception_to_response,
    response_for_exception,
)
from django.urls import Resolver404, resolve, set_script_prefix

from config.checks import exit_if_unsafe
from config.up import startup_barrier

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
exit_if_unsafe()  # uvicorn and daphne run no system checks
django.setup(set_prefix=False)

from channels.auth import AuthMiddlewareStack  # noqa: E402  (needs the apps to be loaded)
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402

from channels_app.providers import media_types  # noqa: E402
from config import webhook_urls  # noqa: E402
from core import sizes  # noqa: E402
from instances.receiving import MAX_BYTES  # noqa: E402
from instances.webhooks import gap_signs, may_deliver  # noqa: E402
from messaging import webhooks  # noqa: E402
from messaging.api.parsers import FORM_OVERHEAD_BYTES  # noqa: E402
from messaging.inbound.group_commit import SMALL_BYTES  # noqa: E402
from messaging.live.consumer import LiveConsumer  # noqa: E402

# The largest body that each webhook receiver accepts, by path prefix. The default is SMALL_BYTES.
EVOLUTION_PATH = "/api/webhooks/evolution"
LIMITS = {
    EVOLUTION_PATH: MAX_BYTES,
    "/api/webhooks/cloud": webhooks.MAX_BYTES,
    "/api/webhooks/wwebjs/": webhooks.MAX_WWEBJS_BYTES,
}
MAX_PAGE_BYTES = media_types.MAX_BYTES + FORM_OVERHEAD_BYTES


class RequestTooLarge(Exception):
    """The body is larger than any page or REST view accepts."""


class PageHandler(ASGIHandler):
    """Limits the body size. Django would spool any body to disk before authentication.

    A body larger than the largest upload gets a 413 and is not read any further.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        note_start()
        left = MAX_PAGE_BYTES

        async def count() -> Any:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise RequestTooLarge
            return message

        try:
            if _length(scope) > MAX_PAGE_BYTES:
                raise RequestTooLarge
            await super().__call__(scope, count, send)
        except RequestTooLarge:
            detail = sizes.too_large(_length(scope) or None, MAX_PAGE_BYTES)
            problem = {"detail": detail, "code": "too_large"}
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            await self.send_response(JsonResponse(problem, status=status), send)


def _length(scope: Any) -> int:
    value = _header(scope, b"content-length")
    return int(value) if value.isascii() and value.isdigit() else 0


def _header(scope: Any, name: bytes) -> str:
    value: bytes = dict(scope["headers"]).get(name, b"")
    return value.decode("latin-1")


_started: list[bool] = []


def note_start() -> None:
    """Record the start at the first request (a health check): webhooks may have been missed before.

    The server's lifespan events are not used, because not every server supports them.
    """
    if not _started:
        _started.append(True)
        gap_signs().note_start()


def end_rejected_body(scope: Any, receive: Any) -> Any:
    """Wrap `receive` so that a body that will be rejected ends after its first chunk.

    For Evolution's receiver, that is a body whose Content-Length exceeds the largest event, or one
    without a valid secret. The response is immediate; the server discards the rest as it arrives.
    """
    must_authenticate = scope["path"].startswith(EVOLUTION_PATH)
    received, cut_off = 0, must_authenticate and _length(scope) > MAX_BYTES

    async def receive_until_rejected() -> Any:
        nonlocal received, cut_off, must_authenticate
        message = await receive()
        received += len(message.get("body", b""))
        has_more = message.get("more_body")
        if received > SMALL_BYTES and must_authenticate and not cut_off and has_more:
            must_authenticate = False
            cut_off = not await may_deliver(_header(scope, b"authorization"))
        return {**message, "more_body": False} if cut_off else message

    return receive_until_rejected


def limit_body(scope: Any, receive: Any) -> Any:
    """Wrap `receive` so that the body is cut one byte above its receiver's limit.

    The sender is not authenticated yet. The rest is still read, so that it gets its response.
    """
    path = scope["path"]
    left = 1 + next((most for start, most in LIMITS.items() if path.startswith(start)), SMALL_BYTES)

    async def receive_limited() -> Any:
        nonlocal left
        message = await receive()
        body = message.get("body", b"")[:left]
        left -= len(body)
        return {**message, "body": body} if "body" in message else message

    return receive_limited


class WebhookHandler(ASGIHandler):
    """Django without middleware: receivers are native async and authenticate their callers.

    Session, language and other middleware would cost each event several thread switches. A small
    event, as nearly all are, is passed to its receiver without Django's request and response, which
    would cost more than storing it.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        note_start()
        first = await receive()
        if _is_small_event(scope, first) and (found := _receiver(scope["path"])):
            receiver, arguments = found
            await self._receive(receiver, arguments, first.get("body", b""), scope, send)
        else:
            await self._serve(scope, _starting_with(first, receive), send)

    async def _receive(
        self,
        receiver: webhooks.Receiver,
        arguments: dict[str, Any],
        body: bytes,
        scope: Any,
        send: Any,
    ) -> None:
        try:
            status, code = await receiver.receive(body, _headers(scope), **arguments)
        except Exception as error:
            request, response = self.create_request(scope, io.BytesIO(body))
            if request is not None:
                request.urlconf = webhook_urls.__name__
                response = await sync_to_async(response_for_exception, thread_sensitive=False)(
                    request, error
                )
        else:
            if status == HTTPStatus.OK:
                for message in _accepted(code):
                    await send(message)
                return
            response = webhooks.answer(status, code)
        assert response is not None
        await self.send_response(response, send)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve without the two threads that Django uses for request signals and closing.

        They would release database connections; the receivers do that in their own threads. The
        handler does not check for disconnected callers: their events are stored anyway.
        """
        try:
            body = await self.read_body(end_rejected_body(scope, limit_body(scope, receive)))
        except RequestAborted:
            return
        set_script_prefix(get_script_prefix(scope))
        request, response = self.create_request(scope, body)
        if request is not None:
            request.urlconf = webhook_urls.__name__
            response = await self.run_get_response(request)
        assert response is not None
        await self.send_response(response, send)
        body.close()

    async def read_body(self, receive: Any) -> IO[bytes]:
        """Read the body, but store at most one byte more than the largest event.

        The rest is read and discarded: a sender that is cut off gets no response and retries.
        """
        body = tempfile.SpooledTemporaryFile(settings.FILE_UPLOAD_MAX_MEMORY_SIZE, "w+b")  # noqa: SIM115
        try:
            left, more = MAX_BYTES + 1, True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise RequestAborted
                chunk = message.get("body", b"")[:left]
                body.write(chunk)
                left -= len(chunk)
                more = message.get("more_body", False)
        except BaseException:
            body.close()
            raise
        body.seek(0)
        return body

    def load_middleware(self, is_async: bool = False) -> None:
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        get_response = self._get_response_async  # type: ignore[attr-defined]
        self._middleware_chain = convert_exception_to_response(get_response)


def _is_small_event(scope: Any, first: Any) -> bool:
    """Return whether the first message of a request is a whole event that may be grouped."""
    return (
        scope["method"] == "POST"
        and first["type"] == "http.request"
        and not first.get("more_body")
        and len(first.get("body", b"")) <= SMALL_BYTES
        and not scope.get("root_path")
    )


def _starting_with(first: Any, receive: Any) -> Any:
    """Return a `receive` that returns this message first."""
    messages = [first]

    async def receive_next() -> Any:
        return messages.pop() if messages else await receive()

    return receive_next


@functools.lru_cache(maxsize=1024)
def _receiver(path: str) -> tuple[webhooks.Receiver, dict[str, Any]] | None:
    """Return the receiver of a path with the arguments in it, or None."""
    try:
        match = resolve(path, urlconf=webhook_urls.__name__)
    except Resolver404:
        return None
    return match.func.view_class(), match.kwargs  # type: ignore[attr-defined]


def _headers(scope: Any) -> dict[str, str]:
    """Return the headers of a request. Repeated ones are joined, as Django does."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


@functools.lru_cache(maxsize=16)
def _accepted(code: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the messages of the response 200 with this code."""
    response = webhooks.answer(HTTPStatus.OK, code)
    headers = [
        (b"Content-Type", response["Content-Type"].encode()),
        (b"Content-Length", str(len(response.content)).encode()),
    ]
    start = {"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers}
    return start, {"type": "http.response.body", "body": response.content}


startup_barrier.wait()  # the code below reads the static files

_webhooks, _pages = WebhookHandler(), PageHandler()


async def serve_http(scope: Any, receive: Any, send: Any) -> None:
    """Serve a webhook, or a page or REST."""
    address = scope["path"].removeprefix(scope.get("root_path", ""))
    handler = _webhooks if address.startswith("/api/webhooks/") else _pages
    await handler(scope, receive, send)


application = ProtocolTypeRouter(
    {
        "http": serve_http,
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(
                URLRouter([path("ws/live/", LiveConsumer())])  # type: ignore[arg-type]
            )
        ),
    }
)
