"""The HTTP client for all outgoing requests. It knows whether a failed request was sent.

`request` returns an `Answer` for every HTTP status. Without a response it raises `RequestNotSent`
(no byte of the request was written) or `ResponseLost` (the server may have acted on the request).
It never retries, follows no redirects, uses no cookies, `.netrc` or proxy variables, and verifies
certificates. Neither logs nor exceptions contain query strings, headers or bodies.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import json as jsonlib
import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final
from urllib.parse import quote, urlsplit

import requests
import structlog
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NameResolutionError

log = structlog.get_logger(__name__)
# urllib3's warnings quote whole URLs; our own log line has the same facts without the query.
# A filter rather than a level, because any code may change a level.
for _name in ("urllib3.connectionpool", "urllib3.connection"):
    logging.getLogger(_name).addFilter(lambda record: record.levelno >= logging.ERROR)

CONNECT_SECONDS = 5.0
MAX_ANSWER_BYTES = 4 * 1024 * 1024
# Node closes an idle connection after 5 s (docs/providers/wwebjs.md §1). A request that races with
# the close has an unknown outcome, so we close first.
IDLE_SECONDS = 3.0
_CHUNK_BYTES = 64 * 1024
_POOL_SIZE = 32
_USER_AGENT = "Alterna/1"
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class NoJson:
    """The falsy value that `Answer.json` returns for a body that is not JSON."""

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "NO_JSON"


NO_JSON: Final = NoJson()


class RequestFailed(Exception):
    """No response. `reason` is a stable identifier, `detail` one line without secrets."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class RequestNotSent(RequestFailed):
    """No byte of the request was sent.

    `reason` is one of dns_failed, connection_refused, connect_timeout, certificate_refused,
    not_tls (the server does not speak TLS), tls_failed (any other handshake failure),
    unreachable, not_public, invalid_address.
    """


class ResponseLost(RequestFailed):
    """The request may have reached the server; the outcome is unknown.

    `reason` is one of timeout, connection_broken, not_http.
    """


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's response. `truncated` means that the body exceeded the caller's limit."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    truncated: bool = False

    @property
    def length(self) -> int | None:
        """The body's full length in bytes from Content-Length, or None."""
        value = self.headers.get("Content-Length", "")
        return int(value) if value.isdecimal() else None

    def json(self) -> Any:
        """The decoded body, or `NO_JSON`. Never raises."""
        if self.truncated:
            return NO_JSON
        try:
            return jsonlib.loads(self.body)
        except (ValueError, RecursionError):
            return NO_JSON

    def json_object(self) -> dict[str, Any] | None:
        """The decoded body if it is a JSON object, else None. Never raises."""
        value = self.json()
        return value if isinstance(value, dict) else None


def request(
    method: str,
    base: str,
    path: str = "",
    *,
    params: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    json: Any = None,
    data: Any = None,
    files: Any = None,
    timeout: float,
    connect_timeout: float = CONNECT_SECONDS,
    max_bytes: int = MAX_ANSWER_BYTES,
    public_only: bool = False,
) -> Answer:
    """Make one request and return the response, whatever its status.

    `path` is a template such as `/session/status/{session}`; `params` fill it, escaped, and only
    the template is logged. `timeout` is in seconds and covers the whole exchange, from connecting
    to the last byte of the body. A body longer than `max_bytes` is truncated. With `public_only`
    nothing is written to a peer whose IP is not public. Raises RequestNotSent or ResponseLost.
    """
    exchange = _Exchange(time.monotonic() + timeout, public_only=public_only)
    started = time.monotonic()
    host = _host(base)
    try:
        answer = _exchange(
            exchange,
            method,
            base.rstrip("/") + _fill(path, params or {}) if path else base,
            query=query,
            headers=headers,
            json=json,
            data=data,
            files=files,
            connect_timeout=min(connect_timeout, timeout),
            max_bytes=max_bytes,
        )
        failure = None
    except (requests.RequestException, HTTPError, http.client.HTTPException, OSError) as error:
        failure = _failure(error, left=exchange.sent, secure=base[:6].lower() == "https:")
    except ValueError as error:  # an invalid header or address
        failure = (
            ResponseLost("not_http", type(error).__name__)
            if exchange.sent
            else RequestNotSent("invalid_address", type(error).__name__)
        )
    event = {
        "method": method,
        "host": host,
        "path": path,
        "ms": round((time.monotonic() - started) * 1000),
    }
    if failure is not None:
        log.warning(
            "http_request", **event, status=None, failure=failure.reason, sent=exchange.sent
        )
        # Raised outside the `except` block: the library's own exception, which quotes the address,
        # must not become its context.
        raise failure
    # What works is repeated every few seconds by whatever waits for something.
    level = logging.DEBUG if answer.status < 400 else logging.INFO
    log.log(level, "http_request", **event, status=answer.status)
    return answer


def is_public(address: str) -> bool:
    """Return whether an IP address is public, including an IPv4 address embedded in IPv6."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        translated = ip in _NAT64 and ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = ip.ipv4_mapped or ip.sixtofour or translated or ip
    return ip.is_global and not ip.is_multicast


def safe_text(value: object, *, secrets: tuple[str, ...] = (), limit: int = 500) -> str:
    """Return a provider's text as one printable line with the given secrets masked.

    Providers quote their input: Meta answers "Malformed access token <token>".
    """
    if not isinstance(value, str):
        return ""
    text = value
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    text = text[: limit * 20]
    text = "".join(character if character.isprintable() else " " for character in text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


# -- the exchange ---------------------------------------------------------------------------------


class _Exchange:
    """The state of one running request: its deadline, and whether a byte was written."""

    def __init__(self, deadline: float, *, public_only: bool = False) -> None:
        self.deadline = deadline
        self.public_only = public_only
        self.sent = False

    def remaining(self) -> float:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError("timed out")
        return seconds


class _NotPublic(OSError):
    """The peer's address is not public, but the request requires a public one."""


class _Current(threading.local):
    """This thread's current exchange; the library creates the connections that need it."""

    exchange: _Exchange = _Exchange(float("inf"))


_current = _Current()


def _exchange(
    exchange: _Exchange,
    method: str,
    url: str,
    *,
    query: Mapping[str, str] | None,
    headers: Mapping[str, str] | None,
    json: Any,
    data: Any,
    files: Any,
    connect_timeout: float,
    max_bytes: int,
) -> Answer:
    prepared = requests.Request(
        method,
        url,
        params=query,
        headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **(headers or {})},
        json=json,
        data=data,
        files=files,
        # Credentials in the address may be for a proxy in front of the server, but they must not
        # replace our own Authorization header.
        auth=_KeepHeaders() if headers and "Authorization" in headers else None,
    ).prepare()
    _current.exchange = exchange
    try:
        response = _adapter().send(
            prepared, stream=True, timeout=(connect_timeout, exchange.remaining()), verify=True
        )
        try:
            body, truncated = _read(response.raw, max_bytes)
        except BaseException:
            response.close()
            raise
        if truncated:
            response.close()
        return Answer(response.status_code, response.headers, body, truncated)
    finally:
        del _current.exchange


def _read(raw: urllib3.BaseHTTPResponse, max_bytes: int) -> tuple[bytes, bool]:
    parts: list[bytes] = []
    size = 0
    for part in _parts(raw):
        parts.append(part)
        size += len(part)
        if size > max_bytes:
            return b"".join(parts)[:max_bytes], True
    return b"".join(parts), False


def _parts(raw: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    yield from raw.stream(_CHUNK_BYTES, decode_content=True)


class _KeepHeaders(AuthBase):
    def __call__(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        return prepared


def _fill(template: str, params: Mapping[str, str]) -> str:
    """Fill the path with escaped values. Raises ValueError for empty or dot-only values."""

    def value(match: re.Match[str]) -> str:
        text = params[match[1]]
        # Servers resolve `.` and `..` segments even when they are escaped.
        if not text.strip("."):
            raise ValueError("empty or dots")
        return quote(text, safe="")

    return re.sub(r"\{(\w+)\}", value, template)


def _host(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        return ""


# -- connections ----------------------------------------------------------------------------------


class _TimedReader(io.RawIOBase):
    """A raw socket reader that enforces the deadline of the exchange.

    A socket's own timeout restarts with each read, so a slow server could block us forever.
    """

    def __init__(self, raw: socket.SocketIO, sock: socket.socket, exchange: _Exchange) -> None:
        self._raw = raw
        self._sock = sock
        self._exchange = exchange

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._exchange.remaining())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _TimedSocket:
    """The only socket method that `http.client.HTTPResponse` uses."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> io.BufferedReader:
        raw = self._sock.makefile("rb", buffering=0)
        return io.BufferedReader(_TimedReader(raw, self._sock, _current.exchange))


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(_TimedSocket(sock), *args, **kwargs)  # type: ignore[arg-type]


class _TrackedConnection:
    """Records the first byte sent, limits write time, and drops connections idle for too long."""

    response_class: Any = _TimedResponse
    sock: socket.socket | None
    _used_at = 0.0

    def send(self, data: Any) -> None:
        exchange = _current.exchange
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        if self.sock is not None:
            # Check the actual peer, also of pooled connections: DNS answers may change.
            if exchange.public_only and not is_public(self.sock.getpeername()[0]):
                raise _NotPublic
            self.sock.settimeout(exchange.remaining())
        exchange.sent = True
        super().send(data)  # type: ignore[misc]
        self._used_at = time.monotonic()

    def getresponse(self) -> Any:
        response = super().getresponse()  # type: ignore[misc]
        self._used_at = time.monotonic()
        return response

    @property
    def is_connected(self) -> bool:
        if time.monotonic() - self._used_at > IDLE_SECONDS:
            return False
        return bool(super().is_connected)  # type: ignore[misc]


class _HTTPConnection(_TrackedConnection, HTTPConnection):
    pass


class _HTTPSConnection(_TrackedConnection, HTTPSConnection):
    pass


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class _Adapter(HTTPAdapter):
    """The connection pool. Used without a Session, which adds cookies, .netrc and redirects."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


@cache
def _adapter() -> _Adapter:
    return _Adapter(pool_connections=_POOL_SIZE, pool_maxsize=_POOL_SIZE, max_retries=0)


# A forked child must not write to its parent's connections.
os.register_at_fork(after_in_child=_adapter.cache_clear)


# -- failures -------------------------------------------------------------------------------------


def _failure(error: BaseException, *, left: bool, secure: bool = False) -> RequestFailed:
    chain = list(_chain(error))
    if left:
        if _first(chain, TimeoutError, urllib3.exceptions.TimeoutError):
            return ResponseLost("timeout", "no complete response in time")
        if isinstance(_first(chain, http.client.HTTPException), http.client.BadStatusLine) and (
            not _first(chain, http.client.RemoteDisconnected)
        ):
            return ResponseLost("not_http", "the response is not HTTP")
        return ResponseLost("connection_broken", _describe(chain))
    if _first(chain, _NotPublic):
        return RequestNotSent("not_public", "not a public internet address")
    if dns_error := _first(chain, socket.gaierror, NameResolutionError):
        return RequestNotSent("dns_failed", _describe([dns_error]))
    if reason := _tls_reason(chain):
        return RequestNotSent(reason, _describe(chain))
    if secure and _first(chain, ConnectionResetError):
        # Only handshake bytes were written.
        return RequestNotSent("tls_failed", _describe(chain))
    # urllib3's own TimeoutError is also a base class of its "connection refused" error.
    if _first(chain, TimeoutError):
        return RequestNotSent("connect_timeout", "no connection in time")
    if _first(chain, ConnectionRefusedError):
        return RequestNotSent("connection_refused", "connection refused")
    if _first(chain, ValueError):
        return RequestNotSent("invalid_address", type(error).__name__)
    return RequestNotSent("unreachable", _describe(chain))


# OpenSSL's reasons for a peer that does not speak TLS.
_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNKNOWN_PROTOCOL",
     "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
)  # fmt: skip


def _tls_reason(chain: list[BaseException]) -> str | None:
    """Return the reason for a failed TLS handshake; None if the failure is not from TLS."""
    # An invalid certificate or a host name that does not match it.
    if _first(chain, ssl.SSLCertVerificationError):
        return "certificate_refused"
    tls_error = _first(chain, ssl.SSLError)
    if isinstance(tls_error, ssl.SSLError):
        return "not_tls" if tls_error.reason in _NOT_TLS else "tls_failed"
    return "tls_failed" if _first(chain, urllib3.exceptions.SSLError) else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception and every exception it wraps, by any of four mechanisms, once each."""
    visited: set[int] = set()
    queue: list[object] = [error]
    while queue:
        item = queue.pop(0)
        if isinstance(item, BaseException) and id(item) not in visited:
            visited.add(id(item))
            yield item
            queue += [getattr(item, "reason", None), item.__cause__, item.__context__, *item.args]


def _first(chain: list[BaseException], *kinds: type[BaseException]) -> BaseException | None:
    return next((item for item in chain if isinstance(item, kinds)), None)


def _describe(chain: list[BaseException]) -> str:
    """Describe the failure with the system's message; a library's message quotes the address."""
    for item in chain:
        if isinstance(item, ssl.SSLCertVerificationError):
            return safe_text(f"certificate refused: {item.verify_message}")
        if isinstance(item, ssl.SSLError) and item.reason:
            return safe_text(f"TLS: {item.reason}")
    for item in chain:
        if isinstance(item, OSError) and item.strerror and item.filename is None:
            return safe_text(item.strerror)
    return type(chain[-1]).__name__
