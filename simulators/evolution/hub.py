"""Event delivery of the Evolution simulator: Socket.IO, then webhooks with retries.

Rules and quirks: `docs/providers/evolution.md` §1 (delivery and retry) and §2 (WebSocket).
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import socketio
from aiohttp import web
from multidict import CIMultiDict
from socketio import packet as socketio_packet
from yarl import URL

from simulators.base import JsonObject
from simulators.evolution.model import (
    Delivery,
    EmittedEvent,
    EvolutionSettings,
    Instance,
    Ledger,
    dumps,
    false_iso,
    utc_now,
)

SOCKET_PATH = "/socket.io/"
WEBHOOK_HEADERS = {
    "Accept": "application/json, text/plain, */*",
    "Content-Type": "application/json",
    "User-Agent": "axios/1.13.2",
    "Accept-Encoding": "gzip, compress, deflate, br",
    "Connection": "keep-alive",
}
_JWT_SECONDS = 600

Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


def subscription_name(event: str) -> str:
    """`messages.upsert` -> `MESSAGES_UPSERT` (§1)."""
    return event.replace(".", "_").replace("-", "_").upper()


class _Packet(socketio_packet.Packet):
    """Decodes like Node: a namespace ends at the comma, not at a question mark."""

    def decode(self, encoded_packet: Any) -> Any:
        """Decode as described above."""
        count = super().decode(encoded_packet)
        has_namespace = getattr(self, "namespace", None) is not None
        if isinstance(encoded_packet, str) and has_namespace:
            name, _, _ = encoded_packet[encoded_packet.index("/") :].partition(",")
            self.namespace = name
        return count


class SocketHub:
    """The Socket.IO server: a namespace exists from its first emit until the restart (§2)."""

    def __init__(self, settings: EvolutionSettings) -> None:
        self._settings = settings
        self._transports: weakref.WeakSet[asyncio.BaseTransport] = weakref.WeakSet()
        self._namespaces: set[str] = set()
        self._background: set[asyncio.Task[Any]] = set()
        self._server = self._new_server()

    def _new_server(self) -> Any:
        server = socketio.AsyncServer(
            async_mode="aiohttp",
            serializer=_Packet,
            namespaces="*",
            cors_allowed_origins="*",
            ping_interval=self._settings.ping_interval,
            ping_timeout=self._settings.ping_timeout,
            max_http_buffer_size=1_000_000,
        )
        # Engine.IO keeps no reference to its ping tasks, so they are tracked here.
        server.eio.start_background_task = self._start_background
        server.eio._async = _with_read_body(server.eio._async)
        server.on("connect", self._on_connect, namespace="*")
        server.on("connect", self._on_root_connect)
        return server

    def _start_background(self, work: Callable[..., Any], *arguments: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work(*arguments))
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _on_root_connect(self, sid: str, environ: JsonObject, auth: Any = None) -> None:
        """Accept the connection: the root namespace always exists."""

    async def _on_connect(
        self, namespace: str, sid: str, environ: JsonObject, auth: Any = None
    ) -> None:
        if namespace not in self._namespaces:
            raise socketio.exceptions.ConnectionRefusedError("Invalid namespace")

    @property
    def namespaces(self) -> list[str]:
        """The namespaces that clients can join, besides `/`."""
        return sorted(self._namespaces)

    def clients(self, namespace: str) -> int:
        """Return the number of clients in a namespace."""
        return len(self._server.manager.rooms.get(namespace, {}).get(None, {}))

    async def emit(self, namespace: str, event: str, payload: JsonObject) -> JsonObject:
        """Emit to a namespace, creating it if needed; return the number of its clients."""
        created = namespace != "/" and namespace not in self._namespaces
        if created:
            self._namespaces.add(namespace)
        clients = self.clients(namespace)
        if clients:
            await self._server.emit(event, payload, namespace=namespace)
        return {"namespace": namespace, "clients": clients, "created": created}

    async def handle(self, request: web.Request, known_key: Callable[[str], bool]) -> Any:
        """Check an Engine.IO request in the order of engine.io, then do the handshake (§2)."""
        if request.transport is not None:
            self._transports.add(request.transport)
        query = request.query
        if query.get("transport") not in ("polling", "websocket"):
            return _engine_error(400, 0, "Transport unknown")
        if "sid" in query:
            connection = self._server.eio.sockets.get(query["sid"])
            if connection is None:
                return _engine_error(400, 1, "Session ID unknown")
            answer = await self._server.eio.handle_request(request)
            if connection.closed:
                # A client that closed by POST has an open GET that Engine.IO would not answer.
                connection.queue.put_nowait(None)
            return answer
        if request.method != "GET":
            return _engine_error(400, 2, "Bad handshake method")
        rejection = self._rejection(request, known_key)
        if rejection:
            return _engine_error(403, 4, rejection)
        if query.get("EIO") != "4":
            return _engine_error(400, 5, "Unsupported protocol version")
        return await self._server.eio.handle_request(request)

    def _rejection(self, request: web.Request, known_key: Callable[[str], bool]) -> str | None:
        # A handshake without EIO needs a key even from an allowed host (capture 03).
        if "EIO" in request.query and self._is_allowed_host(request):
            return None
        key = request.query.get("apikey") or request.headers.get("apikey")
        if not key:
            return "apiKey is required"
        return None if known_key(key) else "Invalid global token"

    def _is_allowed_host(self, request: web.Request) -> bool:
        allowed = self._settings.websocket_allowed_hosts
        # The asterisk was added in 2.3.7 (§8).
        if allowed.strip() == "*" and self._settings.version != "2.3.6":
            return True
        return (request.remote or "") in [host.strip() for host in allowed.split(",")]

    async def restart(self) -> None:
        """Simulate a server restart: close connections, drop namespaces and sessions."""
        old, self._server = self._server, self._new_server()
        self._namespaces.clear()
        await self._shut_down(old)

    async def close(self) -> None:
        """Close every connection so that the application can stop."""
        await self._shut_down(self._server)

    async def _shut_down(self, server: Any) -> None:
        for transport in list(self._transports):
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
        for connection in list(server.eio.sockets.values()):
            # Wakes long polls, which would otherwise wait for the next ping.
            await connection.close(wait=False)
        await server.shutdown()
        tasks = tuple(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _ReadBody:
    """The body of a request that has already been read."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self, length: int = -1) -> bytes:
        """Return the whole body."""
        return self._body


def _with_read_body(driver: JsonObject) -> JsonObject:
    """Adapt Engine.IO's driver to requests whose body has been read for recording."""

    async def translate(request: web.Request) -> JsonObject:
        environ: JsonObject = driver["translate_request"](request)
        environ["wsgi.input"] = _ReadBody(await request.read())
        return environ

    return {**driver, "translate_request": translate}


def _engine_error(status: int, code: int, message: str) -> web.Response:
    return web.Response(
        status=status,
        body=dumps({"code": code, "message": message}).encode(),
        content_type="application/json",
    )


class EventHub:
    """Emits events of instances and records the delivery of each."""

    def __init__(self, settings: EvolutionSettings, ledger: Ledger, spawn: Spawn) -> None:
        self._settings = settings
        self._ledger = ledger
        self._spawn = spawn
        self._retrying: dict[asyncio.Task[None], list[Delivery]] = {}
        self._client: aiohttp.ClientSession | None = None
        self.sockets = SocketHub(settings)

    async def start(self) -> None:
        """Open the HTTP client; like axios in Node, it has no connection limit."""
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            auto_decompress=False,
        )

    async def stop(self) -> None:
        """Drop pending retries and close all connections."""
        await self.drop_retries()
        await self.sockets.close()
        if self._client is not None:
            await self._client.close()

    async def drop_retries(self) -> None:
        """Cancel pending retries, which exist in memory only and are lost on restart (§1)."""
        tasks = dict(self._retrying)
        for task, deliveries in tasks.items():
            task.cancel()
            for delivery in deliveries:
                if delivery.state in ("pending", "retrying"):
                    delivery.state = "dropped"
        await asyncio.gather(*tasks, return_exceptions=True)

    async def emit(
        self,
        instance: Instance,
        event: str,
        data: Any,
        *,
        extra: JsonObject | None = None,
        socket_only: bool = False,
    ) -> asyncio.Task[None] | None:
        """Emit one event: to sockets immediately, to webhooks in a separate task.

        Returns the task, which ends with the last webhook attempt, or None without a webhook.
        Evolution itself awaits it only for a few events (§1).
        """
        settings = self._settings
        record = EmittedEvent(
            id=self._ledger.next_id(),
            at=time.time(),
            instance=instance.name,
            event=event,
            message_id=_message_id(data),
            data=data,
        )
        self._ledger.events.append(record)
        payload: JsonObject = {
            **(extra or {}),
            "event": event,
            "instance": instance.name,
            "data": data,
            "server_url": settings.server_url,
            "date_time": false_iso(utc_now(), settings.timezone),
        }
        if instance.sender:
            payload["sender"] = instance.sender
        payload["apikey"] = instance.token if settings.expose_token else None
        name = subscription_name(event)
        if settings.websocket_enabled:
            if settings.websocket_global_events:
                record.sockets.append(await self.sockets.emit("/", event, payload))
            row = instance.websocket
            if row is not None and row.enabled and name in row.events:
                namespace = f"/{instance.name}"
                record.sockets.append(await self.sockets.emit(namespace, event, payload))
        if socket_only:
            return None
        return self._start_webhooks(instance, event, name, payload, record)

    def _start_webhooks(
        self, instance: Instance, event: str, name: str, payload: JsonObject, record: EmittedEvent
    ) -> asyncio.Task[None] | None:
        settings = self._settings
        suffix = f"/{event.replace('.', '-')}"
        posts: list[tuple[Delivery, dict[str, str], JsonObject]] = []
        row = instance.webhook
        if row is not None and row.enabled and name in row.events and _is_http(row.url):
            delivery = Delivery(row.url + suffix if row.by_events else row.url)
            body = {**payload, "destination": row.url}
            added = _headers_of_2_4(instance, event) if settings.version == "2.4.0" else {}
            posts.append((delivery, {**_own_headers(row.headers), **added}, body))
        if settings.webhook_global_url and name in settings.webhook_global_events:
            url = settings.webhook_global_url + (
                suffix if settings.webhook_global_by_events else ""
            )
            own = row.url if row is not None and row.url else ""
            posts.append((Delivery(url), {}, {**payload, "destination": own or url}))
        if not posts:
            return None
        record.webhooks += [delivery for delivery, _, _ in posts]
        task = self._spawn(self._deliver_all(posts))
        self._retrying[task] = [delivery for delivery, _, _ in posts]
        task.add_done_callback(lambda done: self._retrying.pop(done, None))
        return task

    async def _deliver_all(self, posts: list[tuple[Delivery, dict[str, str], JsonObject]]) -> None:
        # The global webhook waits for that of the instance, including retries.
        for delivery, headers, body in posts:
            await self._deliver(delivery, headers, dumps(body).encode())

    async def _deliver(self, delivery: Delivery, own: dict[str, str], body: bytes) -> None:
        """Post until a 2xx, a status that is not retried, or the last attempt (§1).

        All attempts use the URL and headers of the first one, even after a `/webhook/set`.
        """
        settings = self._settings
        url, basic = _split_user(delivery.url)
        headers: CIMultiDict[str] = CIMultiDict(WEBHOOK_HEADERS)
        headers.update(own)
        if basic:
            headers["Authorization"] = basic
        wait = settings.webhook_initial_seconds
        for attempt in range(1, settings.webhook_max_attempts + 1):
            status = await self._post(delivery, url, headers, body)
            if status is not None and 200 <= status < 300:
                delivery.state = "delivered"
                return
            if status in settings.webhook_not_retried:
                break
            if attempt == settings.webhook_max_attempts:
                break
            delivery.state = "retrying"
            factor = 1 + random.uniform(-settings.webhook_jitter, settings.webhook_jitter)
            pause = min(wait, settings.webhook_max_seconds) * factor
            pause = max(settings.webhook_initial_seconds, pause)
            delivery.attempts[-1]["pause"] = pause
            await asyncio.sleep(pause)
            wait *= 2
        delivery.state = "gone"

    async def _post(
        self, delivery: Delivery, url: URL, headers: CIMultiDict[str], body: bytes
    ) -> int | None:
        if self._client is None:
            raise RuntimeError("the simulator is not running")
        entry: JsonObject = {"at": time.time(), "status": None}
        delivery.attempts.append(entry)
        timeout = aiohttp.ClientTimeout(total=self._settings.webhook_timeout_seconds)
        data = _chunks(body) if self._settings.webhook_chunked else body
        try:
            async with self._client.post(
                url, data=data, headers=headers, timeout=timeout, max_redirects=21
            ) as answer:
                await answer.read()
                entry["status"] = answer.status
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            entry["error"] = type(error).__name__
            return None


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 64 * 1024):
        yield body[start : start + 64 * 1024]


def _message_id(data: Any) -> str | None:
    if not isinstance(data, dict):
        return None
    key = data.get("key")
    if isinstance(key, dict):
        return key.get("id")
    return data.get("keyId") or (data.get("id") if "remoteJid" in data else None)


def _is_http(url: str) -> bool:
    return url.startswith(("http://", "https://"))


def _own_headers(configured: JsonObject | None) -> dict[str, str]:
    """Return the instance's headers; `jwt_key` becomes one signed token for all retries (§1)."""
    headers = {name: str(value) for name, value in (configured or {}).items()}
    secret = headers.pop("jwt_key", None)
    if secret is not None:
        headers["Authorization"] = f"Bearer {make_jwt(secret, int(time.time()))}"
    return headers


def _headers_of_2_4(instance: Instance, event: str) -> dict[str, str]:
    return {
        "User-Agent": "EvolutionAPI-Webhook/2.3.7",
        "X-Instance-ID": instance.id,
        "X-Instance-Name": instance.name,
        "X-Event-Type": event,
        "X-Timestamp": str(time.time_ns() // 1_000_000),
    }


def make_jwt(secret: str, issued_at: int) -> str:
    """Return the HS256 token that Evolution creates from `headers.jwt_key` (§1)."""
    claims = {
        "iat": issued_at,
        "exp": issued_at + _JWT_SECONDS,
        "app": "evolution",
        "action": "webhook",
    }
    head = _segment(dumps({"alg": "HS256", "typ": "JWT"}).encode())
    signed = f"{head}.{_segment(dumps(claims).encode())}"
    return f"{signed}.{_segment(hmac.digest(secret.encode(), signed.encode(), hashlib.sha256))}"


def _segment(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _split_user(url: str) -> tuple[URL, str | None]:
    """Return the URL without credentials, and axios' Basic header for them (§1)."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return URL(url, encoded=True), None
    user, _, host = parts.netloc.rpartition("@")
    bare = urlunsplit((parts.scheme, host, parts.path, parts.query, parts.fragment))
    return URL(bare, encoded=True), "Basic " + base64.b64encode(user.encode()).decode()
