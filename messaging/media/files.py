"""Manage the files of messages: store uploads, and fetch received files.

The bytes determine a file's type (`media_types.sniff`). Uploads that WhatsApp would not accept are
not stored.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import structlog
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage
from django.db import DatabaseError, transaction
from django.template.defaultfilters import filesizeformat
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_app.connections import registry
from channels_app.models import Channel
from channels_app.providers import engines, header_media, media_types
from channels_app.providers.base import Downloads, OutboundFile, Rejected, SendError
from core.text import storable
from messaging import content as contents
from messaging import queue
from messaging.live import publisher
from messaging.models import Media, MediaUpload, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.core.files.uploadedfile import UploadedFile as _UploadedFile

    UploadedFile = _UploadedFile[bytes]

log = structlog.get_logger(__name__)

# Meta keeps an upload for 30 days (docs/providers/cloud.md §1.5).
UPLOAD_VALID_FOR = dt.timedelta(days=29)
# Uploads that no message uses by then are orphans.
ORPHANED_AFTER = dt.timedelta(days=1)
# Seconds between attempts to fetch a received file; then a person must request it.
RETRY_DELAYS = (5, 30, 120, 600)
# A file that is fetched or sent is in memory several times (base64, JSON, bytes): a worker handles
# few at a time and keeps its other slots for messages.
MAX_CONCURRENT_FETCHES = 3
_fetches = threading.BoundedSemaphore(MAX_CONCURRENT_FETCHES)
SLOT_RETRY_SECONDS = 3.0
LARGE_BYTES = 8 * media_types.MB
_large_sends = threading.BoundedSemaphore(2)


class NotFetchable(Exception):
    """There is nothing to fetch. `str()` is the reason, translated for display."""


# -- outgoing files --------------------------------------------------------------------------------


def store_upload(upload: UploadedFile, *, user: User | None) -> Media:
    """Store a file to be sent. Raises ValidationError (`file`) without storing anything."""
    size = upload.size or 0
    mime_type = _check(upload, size)
    name = storable(upload.name or "")
    media = Media(
        mime_type=mime_type,
        size=size,
        filename=media_types.safe_filename(name, mime_type),
        sha256=_digest(cast("BinaryIO", upload)),
        created_by=user,
    )
    upload.seek(0)
    _write(media, upload)
    _save_with_file(media)
    return media


def _check(upload: UploadedFile, size: int) -> str:
    if size == 0:
        raise ValidationError({"file": _("The file is empty.")})
    if size > media_types.MAX_BYTES:
        raise ValidationError(
            {
                "file": _("The file has %(size)s; WhatsApp accepts at most %(most)s.")
                % {"size": filesizeformat(size), "most": filesizeformat(media_types.MAX_BYTES)}
            }
        )
    mime_type = _sniff(cast("BinaryIO", upload), size, upload.name or "")
    if media_types.best_type(mime_type, size) is None:
        raise ValidationError(
            {
                "file": _(
                    "WhatsApp does not accept this type of file. It accepts images (JPEG, PNG), "
                    "videos (MP4, 3GP), audio (AAC, AMR, MP3, M4A, Ogg Opus), PDF, plain text and "
                    "Office documents."
                )
            }
        )
    return mime_type


def _write(media: Media, content: File[bytes]) -> None:
    """Write the file under a new name, and remove it if writing fails."""
    name = media.file.field.generate_filename(media, "")
    try:
        media.file.name = default_storage.save(name, content)
    except BaseException:
        default_storage.delete(name)
        raise


def _save_with_file(media: Media) -> None:
    try:
        media.save(force_insert=True)
    except BaseException:
        default_storage.delete(str(media.file.name))
        raise


def suggested_type(media: Media) -> str:
    """Return the type of message that suits a stored file best."""
    return media_types.best_type(media.mime_type, media.size) or "document"


def field_of(type_: str, content: Any) -> str:
    """Return the path of the object that names the message's file."""
    found = header_media.find(type_, content)
    if found is None:
        return type_
    kind, _file = found
    return f"interactive.header.{kind}" if type_ == "interactive" else f"template.header.{kind}"


def of_content(type_: str, content: Any) -> Media | None:
    """Return the stored file that a message's object or its header names; None for a link or none.

    Raises ValidationError, keyed by the object's path, if the file does not exist or does not suit
    the type.
    """
    kind, named = type_, content
    if type_ not in contents.MEDIA_TYPES:
        kind, named = header_media.find(type_, content) or ("", None)
    media_id = contents.media_id(named)
    if media_id is None:
        return None
    field = field_of(type_, content)
    media = Media.objects.filter(pk=media_id, state=Media.State.STORED).first()
    if media is None:
        raise ValidationError({field: _("There is no such upload.")})
    limit = media_types.LIMITS[kind]
    if media.mime_type not in limit.mime_types:
        raise ValidationError(
            {
                field: _("A file of type %(mime)s cannot be sent as this message type.")
                % {"mime": media.mime_type}
            }
        )
    if media.size > limit.most_bytes:
        raise ValidationError(
            {
                field: _("The file has %(size)s; WhatsApp accepts at most %(most)s.")
                % {"size": filesizeformat(media.size), "most": filesizeformat(limit.most_bytes)}
            }
        )
    return media


def lock_for_use(media: Media, *, field: str) -> None:
    """Mark the file as a message's; cleanup cannot delete it, now or later. In a transaction.

    Raises ValidationError, keyed by the field, if it has just been deleted.
    """
    if not Media.objects.filter(pk=media.pk).update(attached=True):
        raise ValidationError({field: _("There is no such upload.")})


def outbound_file(message: Message, *, channel: Channel) -> OutboundFile | None:
    """Return what a provider needs to send the message's file; None if it has no file."""
    media = message.media
    if media is None:
        return None
    uploads = MediaUpload.objects.filter(
        media=media, channel=channel, expires_at__gt=timezone.now()
    )
    given_name = message.content.get("filename") if isinstance(message.content, Mapping) else None
    return OutboundFile(
        mime_type=media.mime_type,
        filename=media_types.safe_filename(given_name or media.filename, media.mime_type),
        size=media.size,
        open=partial(_open, str(media.file.name)),
        uploaded_as=uploads.values_list("provider_media_id", flat=True).first() or "",
        remember=partial(_store_upload_id, media.pk, channel.pk),
    )


@contextlib.contextmanager
def limit_large_sends(file: OutboundFile | None) -> Iterator[None]:
    """Limit how many large files are sent concurrently. Other sends are not limited."""
    if file is None or file.size < LARGE_BYTES:
        yield
        return
    with _large_sends:
        yield


def _open(name: str) -> BinaryIO:
    return cast("BinaryIO", default_storage.open(name, "rb"))


def _store_upload_id(media_id: Any, channel_id: int, uploaded_as: str) -> None:
    key = {"media_id": media_id, "channel_id": channel_id}
    try:
        if not uploaded_as:
            MediaUpload.objects.filter(**key).delete()
            return
        MediaUpload.objects.update_or_create(
            **key,
            defaults={
                "provider_media_id": uploaded_as,
                "expires_at": timezone.now() + UPLOAD_VALID_FOR,
            },
        )
    except DatabaseError as error:
        # The only cost is another upload; the send must continue.
        log.warning("upload id not stored", error=type(error).__name__)


# -- received files --------------------------------------------------------------------------------


def create_pending(
    channel: Channel, type_: str, content: Mapping[str, Any], *, stored: str
) -> Media | None:
    """Create the record of a received message's file and enqueue its fetching.

    `stored` is its name in the storage if it came with the event. Returns None if it cannot be
    fetched. The caller holds a transaction.
    """
    if type_ not in contents.MEDIA_TYPES:
        return None
    source = _source(channel, content, stored)
    if source is None:
        return None
    filename = content.get("filename")
    wait = 0 if stored else _file_wait_seconds(source)
    media = Media.objects.create(
        state=Media.State.WAITING,
        filename=media_types.safe_filename(filename, "") if filename else "",
        source={**source, **_announced(content)},
        next_try_at=timezone.now() + dt.timedelta(seconds=wait),
        attached=True,
    )
    if not wait:
        queue.enqueue_fetch(str(media.pk))
    # Otherwise the sweep fetches it, unless it comes by itself (`use_stored`).
    return media


def _file_wait_seconds(source: Mapping[str, Any]) -> int:
    return engines.by_source(next(iter(source))).events.file_wait_seconds


def use_stored(media: Media, stored: str, *, filename: str) -> None:
    """Use a file that came by itself for one that is not fetched yet. In a transaction."""
    media = Media.objects.select_for_update().get(pk=media.pk)
    if media.state == Media.State.STORED or not stored:
        return
    if filename and not media.filename:
        media.filename = media_types.safe_filename(filename, "")
    media.state, media.tries, media.next_try_at = Media.State.WAITING, 0, timezone.now()
    media.source = {"stored": stored, **_announced(media.source.get(_ANNOUNCED) or {})}
    media.save()
    queue.enqueue_fetch(str(media.pk))


# In a file's source: what the event said of it.
_ANNOUNCED = "announced"
_ANNOUNCED_NAMES = ("mime_type", "sha256", "size")


def _announced(content: Mapping[str, Any]) -> dict[str, Any]:
    announced = {name: content[name] for name in _ANNOUNCED_NAMES if content.get(name)}
    return {_ANNOUNCED: announced} if announced else {}


def _source(channel: Channel, content: Mapping[str, Any], stored: str) -> dict[str, Any] | None:
    """Return where to fetch the file: the storage, or one of the channel's own connections."""
    if stored:
        return {"stored": stored}
    for engine in (engines.by_name(channel.kind), *engines.ENGINES.values()):
        reference = engine.events.file_reference(content)
        if reference is not None:
            return {engine.events.name: reference}
    return None


class _FetchFailed(Exception):
    def __init__(self, code: str, detail: str = "", *, final: bool) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.final = final


def fetch(media_id: str) -> None:
    """Fetch a received file, or record the failure and the time of the next attempt.

    A file that has been fetched already, or is not due yet, is skipped.
    """
    media = Media.objects.filter(pk=media_id, state=Media.State.WAITING).first()
    if media is None or (media.next_try_at and media.next_try_at > timezone.now()):
        return
    if not _fetches.acquire(blocking=False):
        queue.enqueue_fetch(
            str(media.pk), at=timezone.now() + dt.timedelta(seconds=SLOT_RETRY_SECONDS)
        )
        return
    try:
        _fetch(media)
    finally:
        _fetches.release()


def _fetch(media: Media) -> None:
    message = media.messages.select_related("conversation__channel").first()
    if message is None:
        return
    try:
        if stored := media.source.get("stored"):
            _use_stored(media, str(stored))
        else:
            _store_download(media, message.conversation.channel)
        if not media.filename:
            at = timezone.localtime(message.created_at)
            ending = media_types.EXTENSIONS.get(media.mime_type, "bin")
            media.filename = f"{message.type}-{at:%Y%m%d-%H%M%S}.{ending}"
    except _FetchFailed as failure:
        _record_failure(media, failure)
    except Exception as error:
        # Counted like other failures (a full disk), or the sweep would fetch it forever.
        log.exception("received file not stored", error=type(error).__name__)
        _record_failure(media, _FetchFailed("file_unreadable", final=False))
    else:
        media.state, media.next_try_at = Media.State.STORED, None
        media.error_code = media.error_detail = ""
        _save_and_publish(media)


def _store_download(media: Media, channel: Channel) -> None:
    _write(media, ContentFile(_download(channel, media.source)))
    try:
        _describe(media, str(media.file.name))
    except BaseException:
        _delete_file(media)
        raise


def _delete_file(media: Media) -> None:
    default_storage.delete(str(media.file.name))
    media.file.name = ""


def _use_stored(media: Media, name: str) -> None:
    try:
        _describe(media, name)
    except FileNotFoundError:
        raise _FetchFailed("file_missing", final=True) from None
    except OSError as error:
        log.warning("received file cannot be read", error=type(error).__name__)
        raise _FetchFailed("file_unreadable", final=False) from None
    media.file.name = name


# What other servers report may be of a file that they have converted since.
_EXACT = [engine for engine in engines.ENGINES.values() if engine.events.exact_files]


def _describe(media: Media, name: str) -> None:
    """Set type, size and digest. Raises _FetchFailed if it is not the file that was announced."""
    announced = media.source.get(_ANNOUNCED) or {}
    with _open(name) as file:
        media.size = file.seek(0, 2)
        sniffed = _sniff(file, media.size, media.filename)
        media.sha256 = _digest(file)
    media.mime_type = media_types.received_type(sniffed, announced.get("mime_type"))
    if not media.size:
        raise _FetchFailed("download_failed", final=False)
    is_exact = any(one.events.name in media.source for one in _EXACT)
    if is_exact and not media_types.is_announced(
        announced, sniffed=sniffed, sha256=media.sha256, size=media.size
    ):
        raise _FetchFailed("file_differs", final=False)


def _download(channel: Channel, source: Mapping[str, Any]) -> bytes:
    [(name, reference)] = ((name, source[name]) for name in source if name != _ANNOUNCED)
    provider = registry.unguarded(channel.connection(engines.by_source(name).name))
    if not isinstance(provider, Downloads):
        raise _FetchFailed("download_failed", final=True)
    try:
        return provider.download(reference, most_bytes=media_types.MAX_BYTES)
    except SendError as error:
        is_final = isinstance(error, Rejected)
        raise _FetchFailed(error.code, error.detail, final=is_final) from None


def _record_failure(media: Media, failure: _FetchFailed) -> None:
    media.tries += 1
    media.error_code, media.error_detail = failure.code[:64], failure.detail[:300]
    log.warning("received file not fetched", code=failure.code, tries=media.tries)
    if failure.final or media.tries > len(RETRY_DELAYS):
        media.state, media.next_try_at = Media.State.FAILED, None
        _save_and_publish(media)
        return
    media.next_try_at = timezone.now() + dt.timedelta(seconds=RETRY_DELAYS[media.tries - 1])
    with transaction.atomic():
        media.save()
        queue.enqueue_fetch(str(media.pk), at=media.next_try_at)


def _save_and_publish(media: Media) -> None:
    """Save a file's new state and publish it to the messages that have the file."""
    with transaction.atomic():
        for message in Message.objects.select_for_update().filter(media=media).order_by("pk"):
            message.version += 1
            message.save(update_fields=["version", "updated_at"])
            publisher.message_changed(message)
        media.save()


def fetch_again(message: Message) -> Message:
    """Retry fetching a file that failed. Raises NotFetchable."""
    with transaction.atomic():
        media = Media.objects.select_for_update().filter(messages=message).first()
        if media is None or media.state != Media.State.FAILED:
            raise NotFetchable(_("No failed file download to retry."))
        media.state, media.tries, media.next_try_at = Media.State.WAITING, 0, timezone.now()
        _save_and_publish(media)
        queue.enqueue_fetch(str(media.pk))
    message.refresh_from_db()
    return message


# -- content and cleanup ---------------------------------------------------------------------------


def _sniff(file: BinaryIO, size: int, filename: str) -> str:
    file.seek(0)
    head = file.read(media_types.LOOKED_AT)
    file.seek(max(0, size - media_types.LOOKED_AT))
    return media_types.sniff(head, file.read(media_types.LOOKED_AT), filename=filename)


def _digest(file: BinaryIO) -> str:
    file.seek(0)
    digest = hashlib.sha256()
    while block := file.read(1024 * 1024):
        digest.update(block)
    return digest.hexdigest()


def delete_orphans() -> int:
    """Delete files that have had no message for a day. Returns their number."""
    before = timezone.now() - ORPHANED_AFTER
    deleted = 0
    unattached = Media.objects.filter(attached=False, created_at__lt=before)
    for media_id in list(unattached.values_list("pk", flat=True)):
        with transaction.atomic():
            media = unattached.select_for_update().filter(pk=media_id).first()
            if media is None:
                continue
            if media.messages.exists():  # attached by an earlier version, during the upgrade
                unattached.filter(pk=media_id).update(attached=True)
                continue
            media.delete()
        deleted += 1
        name = str(media.file.name or "")
        # Identical received content shares one file.
        if name and not Media.objects.filter(file=name).exists():
            default_storage.delete(name)
    return deleted


def enqueue_overdue() -> None:
    """Enqueue the fetching of files whose job was lost."""
    overdue = timezone.now() - dt.timedelta(seconds=60)
    waiting = Media.objects.filter(state=Media.State.WAITING, next_try_at__lt=overdue)
    for media_id in waiting.values_list("pk", flat=True):
        queue.enqueue_fetch(str(media_id))
