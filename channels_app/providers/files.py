"""The bytes of an outgoing file: a stored file, or the target of a public link.

This module sends no message: every failure is Rejected or Transient, never Unknown.

For the fallbacks we fetch links ourselves instead of leaving it to their servers: wwebjs-api would
deliver an error page as a document (docs/providers/wwebjs.md §3), and Evolution answers a failed
fetch with an exception that proves nothing about the send.
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
MAX_REDIRECTS = 3
# The slowest transfer rate that we wait for: it extends a request's timeout.
BYTES_PER_SECOND = 512 * 1024


def file_of(message: OutboundMessage) -> OutboundFile:
    """Return the file of a message; a link is fetched. Raises Rejected or Transient."""
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
    """Return the seconds to add to the timeout of a request that carries the file."""
    return file.size / BYTES_PER_SECOND


def fetch_link(link: str, *, type_: str, filename: object = None) -> OutboundFile:
    """Fetch the file at a public link. Raises Rejected or Transient.

    Only public addresses are requested: a link must not reach into our own network. The message
    type must accept the fetched bytes.
    """
    limit = media_types.LIMITS[type_].most_bytes
    answer = _get(link, limit)
    data = answer.body
    if answer.truncated:
        raise failure(Rejected, "too_large", sizes.detail(answer.length, limit))
    name = filename if isinstance(filename, str) and filename else _name_in(link)
    span = media_types.LOOKED_AT
    mime_type = media_types.sniff(data[:span], data[-span:], filename=name)
    if not media_types.takes(type_, mime_type, len(data)):
        raise failure(Rejected, "link_refused", mime_type if data else sizes.detail(0, None))
    return OutboundFile(
        mime_type=mime_type,
        filename=media_types.safe_filename(name, mime_type),
        size=len(data),
        open=lambda: io.BytesIO(data),
    )


def with_size(read: Callable[[], T], size: int | None) -> T:
    """Return what `read` returns; add the size of the sent file to a "too_large" rejection."""
    try:
        return read()
    except Rejected as error:
        if error.code == "too_large" and size is not None:
            raise failure(
                Rejected, error.code, sizes.detail(size, None), http_status=error.http_status
            ) from None
        raise


def _get(link: str, limit: int) -> http_client.Answer:
    for _hop in range(MAX_REDIRECTS + 1):
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
            raise failure(Rejected, "link_refused", "redirected without an address") from None
    if answer.status == 200:
        return answer
    temporary = answer.status >= 500 or answer.status == 429
    code = "link_failed" if temporary else "link_refused"
    raise failure(Transient if temporary else Rejected, code, f"HTTP {answer.status}")


def _name_in(link: str) -> str:
    return unquote(urlsplit(link).path.rsplit("/", 1)[-1])
