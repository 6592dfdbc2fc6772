"""The profile picture of a linked account: fetched once, stored, shown to staff."""

from __future__ import annotations

import datetime as dt

from django.utils import timezone

from channels_app import profile_pictures
from channels_app.models import Connection
from channels_app.profile_pictures import HOSTS
from instances import live
from instances.models import ProfilePicture, WhatsAppSession

# A failed download is retried after this time, when the instance is probed.
RETRY_AFTER = dt.timedelta(hours=1)


def store(session: WhatsAppSession, url: str) -> None:
    """Fetch and store the picture at this address if it is new. Download errors never raise.

    A failed download is retried later. Without an address, the account has no picture, and the
    stored one is deleted.
    """
    connection = session.connection
    stored = ProfilePicture.objects.filter(connection=connection).first()
    if not url and stored is not None:
        forget(connection)
        live.session_changed(session)
    if not url or (stored is not None and stored.url == url and not _is_due(stored)):
        return
    content, kind = profile_pictures.download(url, hosts=HOSTS)
    ProfilePicture.objects.update_or_create(
        connection=connection,
        defaults={
            "url": url,
            "content": content,
            "content_type": kind,
            "fetched_at": timezone.now(),
        },
    )
    if kind or (stored is not None and stored.content_type):
        live.session_changed(session)


def _is_due(stored: ProfilePicture) -> bool:
    return not stored.content and stored.fetched_at < timezone.now() - RETRY_AFTER


def forget(connection: Connection) -> None:
    """Delete the picture: another account, or none, is linked."""
    ProfilePicture.objects.filter(connection=connection).delete()


def exists(connection: Connection) -> bool:
    """Return whether there is a picture to show. Runs a query."""
    return ProfilePicture.objects.filter(connection=connection).exclude(content_type="").exists()
