"""The profile pictures of customers: fetched by a job when a provider reports another one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from urllib.parse import urlsplit

from django.utils import timezone

from channels_app import profile_pictures
from messaging import queue
from messaging.models import Contact, ContactPicture

# A picture that could not be fetched is tried again when it is reported after this time: it is
# reported with nearly every message.
RETRY_AFTER = dt.timedelta(days=1)


def note(contacts: Sequence[int], url: str) -> None:
    """Have the picture at this address fetched if it is another one. In a transaction.

    One query if it is known.
    """
    name, now = _without_signature(url), timezone.now()
    retry = now - RETRY_AFTER
    stored = ContactPicture.objects.filter(contact__in=contacts).defer("content")
    known = {row.contact_id: row for row in stored}
    for contact in contacts:
        row = known.get(contact)
        if row is not None and row.url == name and (row.content_type or row.updated_at > retry):
            continue
        ContactPicture.objects.update_or_create(
            contact_id=contact, defaults={"url": name, "updated_at": now}
        )
        queue.enqueue_picture(contact, url)


def fetch(contact: int, url: str) -> None:
    """Fetch and store a picture, unless another one was reported since. Raises nothing."""
    wanted = ContactPicture.objects.filter(contact=contact, url=_without_signature(url))
    if wanted.exists():
        content, kind = profile_pictures.download(url)
        wanted.update(content=content, content_type=kind, updated_at=timezone.now())


def of(contact: Contact) -> ContactPicture | None:
    """Return the picture to show, or None. One query."""
    return ContactPicture.objects.filter(contact=contact).exclude(content_type="").first()


def _without_signature(url: str) -> str:
    """Return the part of an address that stays: its query is signed anew all the time."""
    try:
        return urlsplit(url)._replace(query="", fragment="").geturl()[:500]
    except ValueError:
        return url[:500]
