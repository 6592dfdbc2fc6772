"""The bytes that go out with a message: of a file kept here, or from behind a public link.

Nothing in here sends: whatever fails is Rejected or Transient, never Unknown.

A link is fetched here for the fallbacks, and not by their servers: wwebjs-api would deliver an
error page as a document (contracts/wwebjs-api.md §3), and Evolution answers a failed fetch with an
exception that proves nothing about the send.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote, urljoin, urlsplit

from channels_app.providers import media_types
from channels_app.providers.base import OutboundFile, OutboundMessage, Rejected, Transient
from channels_app.providers.error_codes import failure
from core import http_client, sizes

T = TypeVar("T")

LINK_SECONDS = 30.0
MOST_REDIRECTS = 3
# Slow, but not hopeless: each such number of bytes adds a second to a request's time.
BYTES_PER_SECOND = 512 * 1024


def file_of(message: OutboundMessage) -> OutboundFile:
    """Return the file of a message, fetched where it is a link. Raises Rejected or Transient."""
    if message.file is not None:
        return message.file
    content = message.content
    link = content.get("link") if hasattr(content, "get") else None
    if not isinstance(link, str):
        raise failure(Rejected, "invalid_content")
    return fetch_link(link, type_=message.type, filename=content.get("filename"))


def read(file: OutboundFile) -> bytes:
    """Return a file's bytes. Raises Rejected or Transient."""
    try:
        with file.open() as opened:
            return opened.read()
    except FileNotFoundError:
        raise failure(Rejected, "file_missing") from None
    except OSError as error:
        raise failure(Transient, "file_unreadable", type(error).__name__) from None


def read_base64(file: OutboundFile) -> str:
    """Return a file's bytes as base64. Raises Rejected or Transient."""
    return base64.b64encode(read(file)).decode()


def seconds_for(file: OutboundFile) -> float:
    """Return by how much a request that carries the file may take longer than others."""
    return file.size / BYTES_PER_SECOND


def fetch_link(link: str, *, type_: str, filename: object = None) -> OutboundFile:
    """Fetch what stands behind a public link. Raises Rejected or Transient.

    Only addresses of the internet are asked: a link must not reach into our own network. Its
    bytes must be what the type of message takes.
    """
    limit = media_types.LIMITS[type_].most_bytes
    answer = _get(link, limit)
    data = answer.body
    if answer.truncated:
        raise failure(Rejected, "too_large", sizes.detail(answer.length, limit))
    name = filename if isinstance(filename, str) and filename else _name_in(link)
    looked = media_types.LOOKED_AT
    mime_type = media_types.sniff(data[:looked], data[-looked:], filename=name)
    if not media_types.takes(type_, mime_type, len(data)):
        raise failure(Rejected, "link_refused", mime_type if data else sizes.detail(0, None))
    return OutboundFile(
        mime_type=mime_type,
        filename=media_types.safe_filename(name, mime_type),
        size=len(data),
        open=lambda: io.BytesIO(data),
    )


def with_size(read: Callable[[], T], size: int | None) -> T:
    """Return what `read` returns; have its "too_large" say the size of the file that was sent."""
    try:
        return read()
    except Rejected as error:
        if error.code == "too_large" and size is not None:
            raise failure(
                Rejected, error.code, sizes.detail(size, None), http_status=error.http_status
            ) from None
        raise


def _get(link: str, limit: int) -> http_client.Answer:
    for _hop in range(MOST_REDIRECTS + 1):
        try:
            answer = http_client.request(
                "GET", link, timeout=LINK_SECONDS, max_bytes=limit, public_only=True
            )
        except http_client.RequestFailed as error:
            if error.reason in ("not_public", "invalid_address"):
                raise failure(Rejected, "link_refused", error.detail) from None
            raise failure(Transient, "link_failed", error.detail or error.reason) from None
        target = answer.headers.get("Location")
        if answer.status not in (301, 302, 303, 307, 308) or not target:
            break
        try:
            link = urljoin(link, target)
        except ValueError:
            raise failure(Rejected, "link_refused", "redirected to no address") from None
    if answer.status == 200:
        return answer
    passing = answer.status >= 500 or answer.status == 429
    code = "link_failed" if passing else "link_refused"
    raise failure(Transient if passing else Rejected, code, f"HTTP {answer.status}")


def _name_in(link: str) -> str:
    return unquote(urlsplit(link).path.rsplit("/", 1)[-1])
