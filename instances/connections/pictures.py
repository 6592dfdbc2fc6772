"""The profile picture of a linked account: fetched once, kept here, shown to staff."""

from __future__ import annotations

import datetime as dt
from urllib.parse import urlsplit

from django.utils import timezone

from core import http_client
from instances import live
from instances.models import ProfilePicture, WhatsAppSession

# Evolution passes on the address that WhatsApp gave it; nothing else is fetched for it.
HOSTS = (".whatsapp.net",)
SECONDS = 5.0
# A picture that could not be fetched is tried again, as an instance is probed, after this time.
AGAIN_AFTER = dt.timedelta(hours=1)
MOST_BYTES = 512 * 1024
_KINDS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
}


def keep(session: WhatsAppSession, url: str) -> None:
    """Fetch and keep the picture at this address, where it is another one. Never raises for it.

    One that could not be fetched is asked for again later. No address: an account without a
    picture, and the one that is kept is of another.
    """
    known = ProfilePicture.objects.filter(session=session).first()
    if not url and known is not None:
        forget(session)
        live.session_changed(session)
    if not url or (known is not None and known.url == url and not _is_due(known)):
        return
    content = _fetch(url)
    kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), "")
    ProfilePicture.objects.update_or_create(
        session=session,
        defaults={
            "url": url,
            "content": content if kind else b"",
            "content_type": kind,
            "fetched_at": timezone.now(),
        },
    )
    if session.has_picture != bool(kind):
        WhatsAppSession.objects.filter(pk=session.pk).update(has_picture=bool(kind))
        live.session_changed(session)


def _is_due(known: ProfilePicture) -> bool:
    return not known.content and known.fetched_at < timezone.now() - AGAIN_AFTER


def forget(session: WhatsAppSession) -> None:
    """Another account, or none, is linked."""
    ProfilePicture.objects.filter(session=session).delete()
    WhatsAppSession.objects.filter(pk=session.pk).update(has_picture=False)


def _fetch(url: str) -> bytes:
    try:
        host = urlsplit(url).hostname or ""
        if not host.endswith(HOSTS):
            return b""
        answer = http_client.request(
            "GET", url, timeout=SECONDS, max_bytes=MOST_BYTES + 1, public_only=True
        )
    except (http_client.RequestFailed, ValueError):
        return b""
    fits = answer.status == 200 and len(answer.body) <= MOST_BYTES
    return answer.body if fits else b""
