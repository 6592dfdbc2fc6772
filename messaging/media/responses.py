"""Build file responses: inline or as a download, complete or a byte range."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from typing import BinaryIO, cast

from asgiref.sync import sync_to_async
from django.core.files.storage import default_storage
from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.http import content_disposition_header

from channels_app.providers import media_types
from messaging.models import Media

BLOCK = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")


def file_response(
    request: HttpRequest, media: Media, *, download: bool = False
) -> HttpResponseBase:
    """Return a response with the file, or with the requested range of it.

    Only images, videos and audio are shown inline. Everything else is downloaded, with a type that
    a browser does not execute. Raises Http404 if there is no file (yet).
    """
    if media.state != Media.State.STORED:
        raise Http404
    span = _span(request.headers.get("Range", ""), media.size)
    if span is None:
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{media.size}"})
    start, end, partial = span
    try:
        file = cast("BinaryIO", default_storage.open(str(media.file.name), "rb"))
    except FileNotFoundError:
        raise Http404 from None
    file.seek(start)
    length = end - start + 1
    # Under ASGI Django would read a synchronous iterator completely first.
    streams = isinstance(request, ASGIRequest)
    response = StreamingHttpResponse(
        _read_async(file, length) if streams else _read(file, length),
        status=206 if partial else 200,
        content_type=media.mime_type or media_types.UNKNOWN,
    )
    response._resource_closers.append(file.close)  # type: ignore[attr-defined]
    inline = not download and media.mime_type in media_types.SHOWN
    headers = {
        "Content-Length": str(length),
        "Content-Disposition": str(
            content_disposition_header(not inline, media.filename or "file.bin")
        ),
        "Accept-Ranges": "bytes",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, max-age=3600",
        # If a browser took the file for a page, the page could do nothing.
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }
    for name, value in headers.items():
        response[name] = value
    if partial:
        response.headers["Content-Range"] = f"bytes {start}-{end}/{media.size}"
    return response


def _span(header: str, size: int) -> tuple[int, int, bool] | None:
    """Return the first and last byte and whether they are a part; None if not satisfiable.

    Several ranges or an invalid header select the whole file.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match[0] == "bytes=-":
        return 0, size - 1, False
    first, last = match[1], match[2]
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
    return (start, end, True) if start <= end and start < size else None


def _read(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length > 0 and (block := file.read(min(BLOCK, length))):
        length -= len(block)
        yield block


async def _read_async(file: BinaryIO, length: int) -> AsyncIterator[bytes]:
    read = sync_to_async(file.read, thread_sensitive=False)
    while length > 0 and (block := await read(min(BLOCK, length))):
        length -= len(block)
        yield block
