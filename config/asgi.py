"""The web process: pages and REST with all middleware, webhooks with none, live sockets."""

from __future__ import annotations

import os
import tempfile
from http import HTTPStatus
from typing import IO, Any

import django
from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.exception import convert_exception_to_response
from django.urls import set_script_prefix

from config.checks import refuse_unsafe
from config.up import gate

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
refuse_unsafe()  # uvicorn and daphne run no system checks
django.setup(set_prefix=False)

from channels.auth import AuthMiddlewareStack  # noqa: E402  (needs the apps to be loaded)
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.http import JsonResponse  # noqa: E402
from django.urls import path, re_path  # noqa: E402

from channels_app.providers import media_types  # noqa: E402
from config import webhook_urls  # noqa: E402
from core import sizes  # noqa: E402
from instances.receiving import MOST_BYTES  # noqa: E402
from instances.webhooks import SMALL_BYTES, gap_signs, may_deliver  # noqa: E402
from messaging import webhooks  # noqa: E402
from messaging.api.parsers import ROOM  # noqa: E402
from messaging.live.consumer import LiveConsumer  # noqa: E402

# The largest body that a receiver takes, by the beginning of its path; else SMALL_BYTES.
EVOLUTION_PATH = "/api/webhooks/evolution"
LIMITS = {
    EVOLUTION_PATH: MOST_BYTES,
    "/api/webhooks/cloud": webhooks.MOST_BYTES,
    "/api/webhooks/wwebjs/": webhooks.MOST_WWEBJS_BYTES,
}
MOST_PAGE_BYTES = media_types.MOST_BYTES + ROOM


class RequestTooLarge(Exception):
    """The body is larger than anything that a page or REST takes."""


class PageHandler(ASGIHandler):
    """Django's own, which would write a body of any length to the disk before it looks who sent it.

    What is larger than the largest upload is answered with 413 and not read any further.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        note_start()
        left = MOST_PAGE_BYTES

        async def count() -> Any:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise RequestTooLarge
            return message

        try:
            if _length(scope) > MOST_PAGE_BYTES:
                raise RequestTooLarge
            await super().__call__(scope, count, send)
        except RequestTooLarge:
            told = sizes.too_large(_length(scope) or None, MOST_PAGE_BYTES)
            problem = {"detail": told, "code": "too_large"}
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
            await self.send_response(JsonResponse(problem, status=status), send)


def _length(scope: Any) -> int:
    given = _header(scope, b"content-length")
    return int(given) if given.isascii() and given.isdigit() else 0


def _header(scope: Any, name: bytes) -> str:
    value: bytes = dict(scope["headers"]).get(name, b"")
    return value.decode("latin-1")


_started: list[bool] = []


def note_start() -> None:
    """At the first request, which a health check makes: nobody received before, perhaps.

    The server's lifespan events are not used, because not every server has them.
    """
    if not _started:
        _started.append(True)
        gap_signs().note_start()


def beginning(scope: Any, receive: Any) -> Any:
    """Return `receive`, for which a body that nothing takes ends after its beginning.

    That is one that is larger than the largest event by its own header, or comes to Evolution's
    receiver without a right secret. It is answered at once; the server throws the rest away while
    it comes.
    """
    must_ask = scope["path"].startswith(EVOLUTION_PATH)
    had, enough = 0, must_ask and _length(scope) > MOST_BYTES

    async def receive_beginning() -> Any:
        nonlocal had, enough, must_ask
        message = await receive()
        had += len(message.get("body", b""))
        if had > SMALL_BYTES and must_ask and not enough and message.get("more_body"):
            must_ask = False
            enough = not await may_deliver(_header(scope, b"authorization"))
        return {**message, "more_body": False} if enough else message

    return receive_beginning


def bounded(scope: Any, receive: Any) -> Any:
    """Return `receive` without what of a body is more than its receiver takes, and a byte.

    Nobody is authenticated yet. The rest is read all the same, so that the sender gets its answer.
    """
    path = scope["path"]
    left = 1 + next((most for start, most in LIMITS.items() if path.startswith(start)), SMALL_BYTES)

    async def receive_bounded() -> Any:
        nonlocal left
        message = await receive()
        body = message.get("body", b"")[:left]
        left -= len(body)
        return {**message, "body": body} if "body" in message else message

    return receive_bounded


class WebhookHandler(ASGIHandler):
    """Django without middleware: receivers are native async and prove their callers themselves.

    Sessions, languages and the rest would cost a provider's event several changes of thread.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Without the two threads that Django starts for a request's signals and its close.

        What these would do, give back connections, the receivers do in their own threads. A caller
        that has gone is not looked for: its event is stored all the same.
        """
        note_start()
        try:
            body = await self.read_body(beginning(scope, bounded(scope, receive)))
        except RequestAborted:
            return
        set_script_prefix(get_script_prefix(scope))
        request, answer = self.create_request(scope, body)
        if request is not None:
            request.urlconf = webhook_urls.__name__
            answer = await self.run_get_response(request)
        assert answer is not None
        await self.send_response(answer, send)
        body.close()

    async def read_body(self, receive: Any) -> IO[bytes]:
        """Read the body, but keep no more than the largest event and a byte.

        The rest is read and thrown away: one who is cut off in the middle hears no answer, and
        would only try again.
        """
        body = tempfile.SpooledTemporaryFile(settings.FILE_UPLOAD_MAX_MEMORY_SIZE, "w+b")  # noqa: SIM115
        try:
            left, more = MOST_BYTES + 1, True
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
        answer = self._get_response_async  # type: ignore[attr-defined]
        self._middleware_chain = convert_exception_to_response(answer)


gate.wait()  # what follows looks for the static files

application = ProtocolTypeRouter(
    {
        "http": URLRouter(
            [
                re_path(r"^api/webhooks/", WebhookHandler()),  # type: ignore[arg-type]
                re_path(r"", PageHandler()),  # type: ignore[arg-type]
            ]
        ),
        "websocket": AllowedHostsOriginValidator(
            AuthMiddlewareStack(URLRouter([path("ws/live/", LiveConsumer.as_asgi())]))
        ),
    }
)
