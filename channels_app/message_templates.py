"""Use cases of message templates: synchronize, find, create, edit, delete, unpause.

Meta has the templates; the rows are its last answer. They belong to a WhatsApp Business account,
and any of its channels can read and change them. What asks Meta raises the provider's SendError
(Rejected, Transient or Unknown) and must not be called inside a transaction.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import structlog
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet, Subquery
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app import queue
from channels_app.models import Channel, CloudCredentials, MessageTemplate, Provider, TemplateSync
from channels_app.providers import error_codes
from channels_app.providers.base import Rejected, SendError, Unknown
from channels_app.providers.cloud import template_drafts, templates
from channels_app.providers.cloud.template_client import TemplateClient
from channels_app.providers.cloud.templates import Definition
from channels_app.providers.error_codes import failure

log = structlog.get_logger(__name__)

# Meta's list is long, and no person waits for it as for a send.
MIN_TIMEOUT_SECONDS = 30.0
# Webhooks of one change come in bursts; a synchronization covers all of them.
CHANGE_DELAY = dt.timedelta(seconds=2)
SYNC_EVERY, RETRY_AFTER = dt.timedelta(days=1), dt.timedelta(minutes=15)
# A review takes minutes to a day, and a webhook reports its end only if it is subscribed. So long
# after the template changed, and so often, its end is looked for.
REVIEW_LASTS, REVIEW_EVERY = dt.timedelta(days=2), dt.timedelta(minutes=15)
UNDER_REVIEW = ("PENDING", "IN_APPEAL", "PENDING_DELETION")
# A review that begins later is not that of what was submitted here.
SUBMISSION_SEEN_WITHIN = dt.timedelta(minutes=10)
# What is refused or unknown is looked up again, but not for each of a thousand sends.
STALE_AFTER = dt.timedelta(minutes=5)
# Meta's answers to a send that mean that our copy may be outdated (docs/providers/cloud.md §11.9).
OUTDATED_CODES = frozenset({"132000", "132001", "132012", "132018"})


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a synchronization found and changed."""

    total: int
    created: int
    updated: int
    deleted: int


# -- reading -------------------------------------------------------------------------------------


def find(channel: Channel, name: str, language: str) -> MessageTemplate | None:
    """Return the template with this name and language in the channel's account, or None.

    One query, which uses an index; the channel's credentials need not be loaded.
    """
    account = CloudCredentials.objects.filter(channel=channel.pk).values("business_account_id")
    live = MessageTemplate.objects.filter(
        business_account_id=Subquery(account), name=name, language=language, deleted_at=None
    )
    # A name that returned after a deletion can be here twice until the next synchronization.
    return live.order_by("-synced_at", "-pk").first()


def of_channel(channel: Channel) -> QuerySet[MessageTemplate]:
    """Return the templates that the channel can use, now or after their review."""
    account = channel.business_account_id
    if not account:
        return MessageTemplate.objects.none()
    return MessageTemplate.objects.filter(business_account_id=account, deleted_at=None)


def channel_of(template: MessageTemplate) -> Channel | None:
    """Return the channel by which the template can be changed at Meta: the account's oldest."""
    return next(iter(_channels(template.business_account_id)), None)


def _channels(account: str) -> list[Channel]:
    """Return the official channels of an account that have a token, active ones first."""
    official = Channel.objects.filter(kind=Provider.OFFICIAL, cloud__business_account_id=account)
    found = official.select_related("cloud").order_by("-active", "pk")
    return [channel for channel in found if account and channel.access_token]


# -- synchronization -----------------------------------------------------------------------------


def synchronize(channel: Channel) -> SyncResult:
    """Read all templates of the channel's account and store what has changed.

    Templates that Meta no longer lists are marked as deleted. Raises Rejected or Transient, which
    is stored as the result, too.
    """
    account, started = channel.business_account_id, timezone.now()
    try:
        definitions = _client(channel).definitions()
    except SendError as error:
        if account:
            _record(account, started, error)
        raise
    with transaction.atomic():
        if not _record(account, started, None):
            # Another one began later and is stored already: its list is newer.
            return SyncResult(len(definitions), 0, 0, 0)
        result = _store(account, definitions, started)
    log.info("templates synchronized", account=account, **asdict(result))
    return result


def synchronize_account(account: str) -> None:
    """Synchronize an account by one of its channels. A failure is stored, and not raised."""
    for channel in _channels(account)[:1]:
        try:
            synchronize(channel)
        except SendError as error:
            log.warning("templates not synchronized", account=account, code=error.code)


def enqueue_every() -> None:
    """Enqueue the synchronization of every account."""
    for account in sorted(_accounts()):
        queue.enqueue_template_sync(account)


def _accounts() -> set[str]:
    rows = CloudCredentials.objects.exclude(business_account_id="").order_by()
    return set(rows.values_list("business_account_id", flat=True))


def enqueue_due() -> None:
    """Enqueue the accounts that were not tried for a day, or whose last try may succeed now.

    Those with a template under review are due more often.
    """
    now, accounts = timezone.now(), _accounts()
    reviewed = MessageTemplate.objects.filter(
        business_account_id__in=accounts,
        status__in=UNDER_REVIEW,
        deleted_at=None,
        updated_at__gte=now - REVIEW_LASTS,
    )
    in_review = set(reviewed.order_by().values_list("business_account_id", flat=True))
    for sync in TemplateSync.objects.filter(pk__in=accounts):
        again = error_codes.lookup(sync.error_code).transient if sync.error_code else False
        account = sync.business_account_id
        if again:
            every = RETRY_AFTER
        elif account in in_review and not sync.error_code:
            every = REVIEW_EVERY
        else:
            every = SYNC_EVERY
        if sync.tried_at > now - every:
            accounts.discard(account)
    for account in sorted(accounts):
        queue.enqueue_template_sync(account)


def enqueue_if_changed(channel: Channel, before: Channel | None) -> None:
    """Enqueue the synchronization of a channel with new credentials. In a transaction."""
    if channel.kind != Provider.OFFICIAL or not channel.access_token:
        return
    names = (*channel.primary_settings, "business_account_id")
    is_new = before is None or channel.differs_from(before, names)
    if is_new and channel.business_account_id:
        queue.enqueue_template_sync(channel.business_account_id)


def enqueue_after_change(channel: Channel) -> bool:
    """Enqueue a synchronization after something changed at Meta, once the transaction commits.

    Returns False if the channel does not know its account.
    """
    account = channel.business_account_id
    if account:
        queue.enqueue_template_sync(account, why="changed", at=timezone.now() + CHANGE_DELAY)
    return bool(account)


def enqueue_if_outdated(channel: Channel) -> None:
    """Enqueue a synchronization, because what is known of the account may be outdated.

    It begins STALE_AFTER after the last one: a program may repeat the same error all day.
    """
    account = channel.business_account_id
    if channel.kind != Provider.OFFICIAL or not (account and channel.access_token):
        return
    last = TemplateSync.objects.filter(pk=account).values_list("tried_at", flat=True).first()
    at = None if last is None else last + STALE_AFTER
    queue.enqueue_template_sync(account, why="outdated", at=at)


def _record(account: str, started: dt.datetime, error: SendError | None) -> bool:
    """Store the result of a synchronization; False if one that began later is stored already."""
    with transaction.atomic():
        sync, created = TemplateSync.objects.select_for_update().get_or_create(
            pk=account, defaults={"tried_at": started}
        )
        if not created and sync.tried_at > started:
            return False
        sync.tried_at = started
        sync.error_code = error.code[:64] if error else ""
        sync.error_detail = (error.detail or error.title)[:300] if error else ""
        if error is None:
            sync.synced_at = started
        sync.save()
    return True


def _store(account: str, definitions: Iterable[Definition], at: dt.datetime) -> SyncResult:
    """Store Meta's list. The caller holds the lock on the account's row."""
    listed = {one.template_id: _columns(one) for one in definitions}
    rows = MessageTemplate.objects.filter(business_account_id=account)
    known = {row.template_id: row for row in rows}
    changed = []
    for template_id, columns in listed.items():
        row = known.get(template_id)
        if row is not None and any(getattr(row, n) != value for n, value in columns.items()):
            _judge_ttl(row, columns, at)
            _assign(row, columns, at)
            changed.append(row)
    new = [
        MessageTemplate(
            business_account_id=account,
            template_id=template_id,
            synced_at=at,
            updated_at=at,
            **columns,
        )
        for template_id, columns in listed.items()
        if template_id not in known
    ]
    # One that is being created here may be listed already; the next synchronization compares it.
    MessageTemplate.objects.bulk_create(new, ignore_conflicts=True)
    MessageTemplate.objects.bulk_update(
        changed,
        [*MessageTemplate.SYNCED, "ttl_seconds", "submitted_ttl_seconds", "updated_at"],
        batch_size=200,
    )
    gone = rows.filter(deleted_at=None, created_at__lte=at).exclude(template_id__in=listed)
    deleted = gone.update(deleted_at=at, updated_at=at)
    rows.filter(template_id__in=listed).update(synced_at=at)
    return SyncResult(len(listed), len(new), len(changed), deleted)


def _columns(definition: Definition) -> dict[str, Any]:
    return {
        "name": definition.name,
        "language": definition.language,
        "category": definition.category,
        "status": definition.status,
        "quality": definition.quality,
        "rejected_reason": definition.rejected_reason,
        "parameter_format": definition.parameter_format,
        "components": list(definition.components),
        "deleted_at": None,
    }


def _judge_ttl(row: MessageTemplate, columns: Mapping[str, Any], at: dt.datetime) -> None:
    """Note what a change in Meta's list means for the time to live, which the list does not have.

    It is that of the version submitted here, once Meta has approved it. After any other change it
    is unknown: somebody may have edited the template elsewhere.
    """
    changed = {name for name, value in columns.items() if getattr(row, name) != value}
    if changed <= {"quality", "rejected_reason"}:
        return
    before, status = row.status, columns["status"]
    is_review = before == "PENDING" or at < row.updated_at + SUBMISSION_SEEN_WITHIN
    submitted = row.submitted_ttl_seconds if is_review and "category" not in changed else None
    is_approval = before in ("PENDING", "REJECTED") and status == "APPROVED"
    row.ttl_seconds = submitted if is_approval else None
    row.submitted_ttl_seconds = submitted if status == "PENDING" else None


def forget_ttl(account: str, template_id: str) -> None:
    """Note that a template was edited: how long Meta tries to deliver it is unknown from now on."""
    edited = MessageTemplate.objects.filter(business_account_id=account, template_id=template_id)
    edited.exclude(ttl_seconds=None).update(ttl_seconds=None, updated_at=timezone.now())


def _assign(row: MessageTemplate, columns: Mapping[str, Any], at: dt.datetime) -> None:
    for name, value in columns.items():
        setattr(row, name, value)
    row.updated_at = at


# -- changes -------------------------------------------------------------------------------------


def create(channel: Channel, draft: Mapping[str, Any]) -> MessageTemplate:
    """Create a template at Meta and return it; Meta reviews it first.

    Raises ValidationError, keyed by the part of the draft, before Meta is asked, or SendError.
    After an Unknown the next synchronization, which is enqueued, shows whether it exists.
    """
    _validate(template_drafts.creation_errors(draft))
    with _changes(channel):
        created = _client(channel).create(draft)
    # Components of a draft are not in the form of the list: the synchronization replaces them.
    components = [one for one in draft["components"] if isinstance(one, Mapping)]
    columns = _columns(
        Definition(
            created.template_id,
            str(draft["name"]),
            str(draft["language"]),
            created.category or str(draft["category"]),
            created.status or "PENDING",
            parameter_format=str(draft.get("parameter_format") or templates.POSITIONAL),
            components=tuple(components),
        )
    )
    now = timezone.now()
    # Each category has its own times to live.
    same = columns["category"] == draft["category"]
    ttl = template_drafts.ttl_seconds(draft) if same else None
    is_approved = columns["status"] == "APPROVED"
    template, _created = MessageTemplate.objects.update_or_create(
        business_account_id=channel.business_account_id,
        template_id=created.template_id,
        defaults={
            **columns,
            "ttl_seconds": ttl if is_approved else None,
            "submitted_ttl_seconds": None if is_approved else ttl,
            "synced_at": now,
            "updated_at": now,
        },
    )
    return template


def edit(template: MessageTemplate, draft: Mapping[str, Any]) -> MessageTemplate:
    """Replace the components of a template at Meta, and its category where Meta allows it.

    `draft` has "components" and may have "category". Those stored here change with the next
    synchronization, which is enqueued. Raises as `create`.
    """
    definition = template.definition
    channel = _require_channel(template)
    draft = {
        "category": definition.category,
        "parameter_format": definition.parameter_format,
        **draft,
    }
    _validate(template_drafts.edit_errors(definition, draft))
    changes: dict[str, Any] = {
        name: draft[name]
        for name in ("components", "category", "message_send_ttl_seconds")
        if name in draft
    }
    if definition.status == "APPROVED":
        del changes["category"]
    with _changes(channel):
        _client(channel).edit(template.template_id, changes)
    # Meta may send the version before until it has reviewed this one (§11.3): the synchronization
    # tells. Whether an edit without a time to live keeps the one before is not known.
    ttl = template_drafts.ttl_seconds(draft) if "message_send_ttl_seconds" in changes else None
    MessageTemplate.objects.filter(pk=template.pk).update(
        ttl_seconds=None, submitted_ttl_seconds=ttl, updated_at=timezone.now()
    )
    template.refresh_from_db()
    return template


def delete(template: MessageTemplate) -> None:
    """Delete one language of a template at Meta. Raises SendError."""
    channel = _require_channel(template)
    with _changes(channel):
        _client(channel).delete(template.name, template.template_id)
    now = timezone.now()
    MessageTemplate.objects.filter(pk=template.pk, deleted_at=None).update(
        deleted_at=now, updated_at=now
    )


def unpause(template: MessageTemplate) -> None:
    """End the pause of a template that Meta paces. Raises SendError."""
    channel = _require_channel(template)
    with _changes(channel):
        _client(channel).unpause(template.template_id)


def upload_example(channel: Channel, *, data: bytes, filename: str, mime_type: str) -> str:
    """Upload the example of a header and return the handle for a draft. Raises SendError."""
    client = _client(channel)
    return client.upload_example(data=data, filename=filename, mime_type=mime_type)


@contextlib.contextmanager
def _changes(channel: Channel) -> Iterator[None]:
    """Enqueue a synchronization after a change that Meta accepted, or may have accepted."""
    try:
        yield
    except Unknown:
        enqueue_after_change(channel)
        raise
    enqueue_after_change(channel)


def _validate(errors: Mapping[str, str]) -> None:
    if errors:
        raise ValidationError({key: [text] for key, text in errors.items()})


def _require_channel(template: MessageTemplate) -> Channel:
    channel = channel_of(template)
    if channel is None:
        raise failure(Rejected, "not_configured", _("No channel has this account any more."))
    return channel


def _client(channel: Channel) -> TemplateClient:
    timeout = max(float(channel.request_timeout_seconds), MIN_TIMEOUT_SECONDS)
    return TemplateClient(channel.credentials(CloudCredentials), timeout=timeout)
