from __future__ import annotations

import enum
import uuid
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q, Value
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.translation import gettext_lazy as _

from channels_app.models import Channel, Connection
from channels_app.providers import engines
from channels_app.providers.addresses import MAX_LENGTH as MAX_ADDRESS
from channels_app.providers.addresses import Kind
from channels_app.providers.events import CallStatus, Receipt
from channels_app.providers.message_keys import message_key
from core.fields import EncryptedFileNameField
from messaging.delivery import statuses
from messaging.inbox.models import (
    AutomaticAnswer,
    Label,
    MessageWords,
    Note,
    PersonalState,
    QuickReply,
)

__all__ = ["AutomaticAnswer", "Label", "MessageWords", "Note", "PersonalState", "QuickReply"]


class Contact(models.Model):
    """A customer, known by any number of addresses (`ContactAddress`).

    `phone_number` and `user_id` are those to show and to send to: the number as E.164 with the plus
    sign, and a business-scoped user id or else a LID. A contact with a username may have no phone
    number (docs/providers/cloud.md §10.1), so neither field is the key. `username` is only shown.

    A contact that turned out to be another one's second half stays as an empty row that leads to
    it (`merged_into`), so that the merge can be undone.
    """

    # Null instead of empty if unknown, so that known values can be unique.
    phone_number = models.CharField(  # noqa: DJ001
        _("phone number"),
        max_length=20,
        null=True,
        unique=True,
    )
    user_id = models.CharField(  # noqa: DJ001
        _("user id"), max_length=MAX_ADDRESS, null=True, unique=True
    )
    username = models.CharField(_("username"), max_length=100, blank=True, db_default="")
    name = models.CharField(_("name"), max_length=200, blank=True)
    # Whether a person gave the name: what providers report does not replace it.
    named_by_staff = models.BooleanField(_("named by staff"), default=False, db_default=False)
    # What the profile and the address books of the business's phones say, as far as `name` is
    # another one (`messaging.names`).
    profile_name = models.CharField(
        _("profile name"), max_length=200, blank=True, default="", db_default=""
    )
    saved_name = models.CharField(
        _("name in the address book"), max_length=200, blank=True, default="", db_default=""
    )
    # Whether the customer gave up every address that is known: nothing is sent to it, because it
    # may be somebody else's by now.
    address_given_up = models.BooleanField(default=False, db_default=False, editable=False)
    merged_into = models.ForeignKey(
        "self",
        verbose_name=_("merged into"),
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="merged",
        db_index=False,
    )
    # Whether the customer has stopped the marketing messages of the business at WhatsApp, and since
    # when this or the opposite is the latest wish.
    marketing_stopped = models.BooleanField(
        _("stopped marketing messages"), default=False, db_default=False
    )
    marketing_wish_at = models.DateTimeField(_("wish of marketing since"), null=True, blank=True)
    # What staff note of the customer: text by the name of the field (`inbox.custom_fields`).
    custom_fields = models.JSONField(
        _("custom fields"), default=dict, blank=True, db_default=Value({}, models.JSONField())
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("contact")
        verbose_name_plural = _("contacts")
        constraints = [
            models.CheckConstraint(
                name="contact_has_an_address",
                condition=Q(phone_number__isnull=False)
                | Q(user_id__isnull=False)
                | Q(merged_into__isnull=False),
            )
        ]
        indexes = [
            models.Index(
                fields=["merged_into"],
                condition=Q(merged_into__isnull=False),
                name="contact_merged_into",
            )
        ]

    def __str__(self) -> str:
        return self.name or self.phone_number or self.username or self.user_id or ""


class ContactAddress(models.Model):
    """An address by which a provider names a contact (`channels_app.providers.addresses`).

    `value` is as the provider reported it, `key` the same for all spellings of a phone number.
    `scope` is the business account on which a user id was reported: another portfolio's id of the
    same person is refused there (docs/providers/cloud.md §10.1.1).

    `named_at` is the time of the latest event that is known to name it as the address to answer to,
    `retired_at` that of the latest one by which the customer gave it up. Both only grow, so the
    order in which the events arrive does not matter.
    """

    contact = models.ForeignKey(
        Contact, verbose_name=_("contact"), on_delete=models.CASCADE, related_name="addresses"
    )
    kind = models.CharField(
        _("kind"),
        max_length=14,
        choices=[
            (Kind.PHONE, _("phone number")),
            (Kind.USER_ID, _("user id")),
            (Kind.PARENT_USER_ID, _("parent user id")),
            (Kind.LID, _("LID")),
            (Kind.GROUP, _("group")),
        ],
    )
    value = models.CharField(_("address"), max_length=MAX_ADDRESS)
    key = models.CharField(max_length=MAX_ADDRESS, unique=True, editable=False)
    scope = models.CharField(_("business account"), max_length=64, blank=True)
    named_at = models.DateTimeField(null=True, blank=True, editable=False)
    retired_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        verbose_name = _("address")
        verbose_name_plural = _("addresses")
        ordering = ["id"]

    def __str__(self) -> str:
        return self.value

    @property
    def is_retired(self) -> bool:
        """Whether the customer gave it up: it still identifies them, but nothing is sent to it."""
        if self.retired_at is None:
            return False
        return self.named_at is None or self.named_at <= self.retired_at


class ContactPicture(models.Model):
    """A customer's profile picture, stored here: pages load nothing from other servers.

    `url` is where a provider reported it, without what changes while the picture stays the same.
    """

    contact = models.OneToOneField(
        Contact, verbose_name=_("contact"), on_delete=models.CASCADE, related_name="picture"
    )
    url = models.CharField(max_length=500)
    # Empty if it is not fetched yet, or could not be.
    content = models.BinaryField(default=bytes)
    content_type = models.CharField(max_length=20, blank=True)
    updated_at = models.DateTimeField()

    class Meta:
        verbose_name = _("profile picture")
        verbose_name_plural = _("profile pictures")

    def __str__(self) -> str:
        return f"{self.contact_id}"


class AddressBookEntry(models.Model):
    """How the address book of a channel's phone calls an address, since when (`address_books`).

    `name` is "" if it was removed from it. The address may be no contact's.
    """

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=MAX_ADDRESS, db_index=True)
    name = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "key"], name="address_book_entry_once_per_channel"
            )
        ]

    def __str__(self) -> str:
        return f"{self.key} {self.name}"


class ContactMerge(models.Model):
    """Two contacts that became one, and what is needed to undo it.

    An undone merge keeps the two apart: no event joins them again. `reason` is what named both
    addresses, "" for a person. `addresses` and `conversations` are the ids of what belonged to the
    merged contact, `fields` its other values.
    """

    contact = models.ForeignKey(
        Contact, verbose_name=_("contact"), on_delete=models.CASCADE, related_name="merges"
    )
    merged = models.ForeignKey(
        Contact,
        verbose_name=_("merged contact"),
        on_delete=models.CASCADE,
        related_name="merged_by",
    )
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    fields = models.JSONField(default=dict)
    addresses = models.JSONField(default=list)
    conversations = models.JSONField(default=list)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("created by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)
    undone_at = models.DateTimeField(_("undone at"), null=True, blank=True)
    undone_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("undone by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )

    class Meta:
        verbose_name = _("merge of contacts")
        verbose_name_plural = _("merges of contacts")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.merged_id} → {self.contact_id}"


class ConversationManager(models.Manager["Conversation"]):
    """The conversations that still exist: those that were joined to another one are left out."""

    def get_queryset(self) -> models.QuerySet[Conversation]:
        """Return them."""
        return super().get_queryset().filter(merged_into=None)


def _latest() -> tuple[models.OrderBy, models.OrderBy]:
    return F("last_message_at").desc(nulls_last=True), F("id").desc()


# Unassigned conversations come before all others. Without parameters, so that the index is used.
HAS_ASSIGNEE = models.Func(
    F("assignee"), template="(%(expressions)s IS NOT NULL)", output_field=models.BooleanField()
)


class Conversation(models.Model):
    """All messages between one channel and one contact.

    A conversation that was joined to another one keeps its row (`merged_into`); only `everything`
    has it. Its messages are in the other one and name it as `merged_from`.
    """

    class Status(models.TextChoices):
        OPEN = "open", _("open")
        SNOOZED = "snoozed", _("snoozed")
        RESOLVED = "resolved", _("resolved")

    channel = models.ForeignKey(
        Channel,
        verbose_name=_("channel"),
        on_delete=models.PROTECT,
        related_name="conversations",
        db_index=False,  # the unique constraint begins with it
    )
    contact = models.ForeignKey(
        Contact, verbose_name=_("contact"), on_delete=models.PROTECT, related_name="conversations"
    )
    last_message_at = models.DateTimeField(_("last message at"), null=True)
    last_inbound_at = models.DateTimeField(_("last inbound at"), null=True)
    unread_count = models.PositiveIntegerField(_("unread count"), default=0)
    # Who works on it: a new one goes to the channel's team and person.
    assignee = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("assignee"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="assigned_conversations",
        db_index=False,  # an index begins with it
    )
    team = models.ForeignKey(
        "accounts.Team",
        verbose_name=_("team"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="conversations",
        db_index=False,  # an index begins with it
    )
    status = models.CharField(
        _("status"), max_length=10, choices=Status, default=Status.OPEN, db_default=Status.OPEN
    )
    snoozed_until = models.DateTimeField(_("snoozed until"), null=True, blank=True)
    labels = models.ManyToManyField(
        Label, verbose_name=_("labels"), blank=True, related_name="conversations"
    )
    # When somebody last changed one of these, other than by a message.
    changed_at = models.DateTimeField(null=True, editable=False)
    # Which other app has the conversation at Meta (`messaging.control`), and the time of the latest
    # event that says who has it.
    controlled_by = models.CharField(
        _("controlled by"), max_length=16, blank=True, default="", db_default=""
    )
    controlled_at = models.DateTimeField(null=True, blank=True, editable=False)
    merged_into = models.ForeignKey(
        "self",
        verbose_name=_("merged into"),
        null=True,
        blank=True,
        editable=False,
        on_delete=models.PROTECT,
        related_name="merged",
        db_index=False,
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    everything: models.Manager[Conversation] = models.Manager()
    objects = ConversationManager()

    class Meta:
        verbose_name = _("conversation")
        base_manager_name = "everything"
        verbose_name_plural = _("conversations")
        ordering = [models.F("last_message_at").desc(nulls_last=True), "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "contact"], name="conversation_once_per_channel_and_contact"
            ),
            models.CheckConstraint(
                name="conversation_snoozed_until_a_time",
                condition=Q(status="snoozed", snoozed_until__isnull=False)
                | (~Q(status="snoozed") & Q(snoozed_until__isnull=True)),
            ),
        ]
        indexes = [
            models.Index(
                F("last_message_at").desc(nulls_last=True),
                F("id").desc(),
                name="conversation_latest",
            ),
            models.Index(
                Coalesce("last_message_at", "created_at").desc(),
                F("id").desc(),
                name="conversation_active",
            ),
            models.Index(
                fields=["merged_into"],
                condition=Q(merged_into__isnull=False),
                name="conversation_merged_into",
            ),
            # The filters of the list, each in its order.
            models.Index(
                F("assignee"),
                *_latest(),
                condition=Q(assignee__isnull=False),
                name="conversation_of_person",
            ),
            models.Index(
                F("team"), *_latest(), condition=Q(team__isnull=False), name="conversation_of_team"
            ),
            models.Index(*_latest(), condition=Q(unread_count__gt=0), name="conversation_unread"),
            models.Index(
                HAS_ASSIGNEE, *_latest(), condition=Q(status="open"), name="conversation_open"
            ),
            models.Index(
                fields=["snoozed_until"], condition=Q(status="snoozed"), name="conversation_snoozed"
            ),
            models.Index(
                fields=["changed_at"],
                condition=Q(changed_at__isnull=False),
                name="conversation_changed",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.contact} · {self.channel}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Give a new conversation to the channel's team and person."""
        if self._state.adding:
            self.team_id = self.team_id or self.channel.team_id
            person = self.channel.assignee
            if self.assignee_id is None and person and person.is_active and person.is_staff:
                self.assignee = person
        super().save(*args, **kwargs)

    @cached_property
    def has_written(self) -> bool:
        """Whether the customer ever wrote, in the imported history at least."""
        if self.last_inbound_at is not None:
            return True
        return self.messages.filter(direction=Message.Direction.IN).exists()


def new_file_name(media: Media, filename: str) -> str:
    """Return an unguessable name that no server executes; the user's own name is in `filename`."""
    return f"media/{uuid.uuid4().hex}.bin"


class Media(models.Model):
    """The file of a message: uploaded for sending, or downloaded after it was received.

    `mime_type` is detected from the content, `filename` is the user's name for it, `size` is in
    bytes. `source` says where to download a received file; `error_code` why that failed.
    """

    class State(models.TextChoices):
        STORED = "stored", _("stored")
        WAITING = "waiting", _("downloading")
        FAILED = "failed", _("could not be downloaded")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    state = models.CharField(max_length=10, choices=State, default=State.STORED)
    file = models.FileField(upload_to=new_file_name, max_length=200, blank=True)
    mime_type = models.CharField(max_length=150, blank=True)
    size = models.PositiveBigIntegerField(default=0)
    filename = models.CharField(max_length=200, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    source = models.JSONField(default=dict, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=64, blank=True)
    error_detail = models.CharField(max_length=300, blank=True)
    # Whether it belongs to a message. Uploads that never do are deleted (`files.delete_orphans`).
    attached = models.BooleanField(default=False, db_default=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name = _("file")
        verbose_name_plural = _("files")
        constraints = [
            models.CheckConstraint(
                name="media_stored_has_a_file",
                condition=~Q(state="stored") | (~Q(file="") & Q(size__gt=0)),
            )
        ]
        indexes = [
            models.Index(
                fields=["next_try_at"], condition=Q(state="waiting"), name="media_waiting"
            ),
            models.Index(fields=["file"]),
            models.Index(
                fields=["created_at"], condition=Q(attached=False), name="media_unattached"
            ),
            models.Index(
                KeyTextTransform("stored", "source"),
                condition=~Q(state="stored"),
                name="media_source_stored",
            ),
        ]

    def __str__(self) -> str:
        return self.filename or str(self.id)


class MediaUpload(models.Model):
    """Meta's id of a file for one channel, so that the file is uploaded only once."""

    media = models.ForeignKey(Media, on_delete=models.CASCADE, related_name="uploads")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="+")
    provider_media_id = models.CharField(max_length=255)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["media", "channel"], name="media_uploaded_once_per_channel"
            )
        ]

    def __str__(self) -> str:
        return f"{self.media_id} {self.provider_media_id}"


# Unfinished messages: in `policy`, each reason to wait has this prefix, and no final reason does.
# One sent outside is already gone, whatever WhatsApp reports about it.
UNFINISHED = Q(
    Q(decision="") | Q(decision__startswith="waiting_"),
    direction="out",
    sent_outside=False,
    status__in=[
        statuses.Status.QUEUED.value,
        statuses.Status.SENDING.value,
        statuses.Status.UNCONFIRMED.value,
        statuses.Status.REJECTED.value,
    ],
)

UNSENT_STATUSES = [
    statuses.Status.QUEUED.value,
    statuses.Status.SENDING.value,
    statuses.Status.REJECTED.value,
    statuses.Status.UNCONFIRMED.value,
]
# Messages that were not sent, or may not have been, and are not retried.
STOPPED = ~Q(decision="") & Q(
    status__in=[statuses.Status.REJECTED.value, statuses.Status.UNCONFIRMED.value],
    next_attempt_at__isnull=True,
)
# Accepted messages whose deadline has passed without a delivery.
UNDELIVERED = Q(
    overdue_at__isnull=False, status__in=[statuses.Status.HELD.value, statuses.Status.SENT.value]
)
# A message that was canceled needs nobody.
NEEDS_A_PERSON = (STOPPED & ~Q(decision="canceled")) | UNDELIVERED


class DeliveryWorker(models.Model):
    """A process that claims messages and delivers them (`delivery/outbox.py`).

    It counts as dead when `seen_at` is older than WORKER_STALLED_SECONDS. Its claims then end.
    """

    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"delivery worker {self.pk}"


class Message(models.Model):
    """A received or sent message. An outgoing one's status and route are derived from its attempts.

    `version` is incremented with each change that a page must show. `round` is 1 at first and is
    incremented with each manual retry.
    """

    class Direction(models.TextChoices):
        IN = "in", _("received")
        OUT = "out", _("sent")

    class Status(models.TextChoices):
        QUEUED = statuses.Status.QUEUED, _("Waiting")
        SENDING = statuses.Status.SENDING, _("Sending")
        HELD = statuses.Status.HELD, _("Held by Meta")
        SENT = statuses.Status.SENT, _("Sent")
        DELIVERED = statuses.Status.DELIVERED, _("Delivered")
        READ = statuses.Status.READ, _("Read")
        REJECTED = statuses.Status.REJECTED, _("Rejected")
        UNCONFIRMED = statuses.Status.UNCONFIRMED, _("Not confirmed")

    class RoundRoute(models.TextChoices):
        OFFICIAL = "official", _("official first")
        FALLBACK = "fallback", _("fallback only")

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    conversation = models.ForeignKey(
        Conversation,
        verbose_name=_("conversation"),
        on_delete=models.PROTECT,
        related_name="messages",
        db_index=False,  # two indexes begin with it
    )
    direction = models.CharField(_("direction"), max_length=3, choices=Direction)
    type = models.CharField(_("type"), max_length=20, default="text")
    text = models.TextField(_("text"), blank=True)
    content = models.JSONField(_("content"), default=dict, blank=True)
    media = models.ForeignKey(
        Media,
        verbose_name=_("media"),
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="messages",
        db_index=False,
    )
    reply_to = models.ForeignKey(
        "self",
        verbose_name=_("reply to"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="replies",
        db_index=False,
    )

    status = models.CharField(_("status"), max_length=12, choices=Status, blank=True)
    route = models.CharField(  # noqa: DJ001 (null in the API, too)
        _("route"),
        max_length=10,
        choices=engines.choices,
        null=True,
        blank=True,
    )
    error_code = models.CharField(_("error code"), max_length=64, blank=True)
    error_title = models.CharField(_("error title"), max_length=300, blank=True)
    error_detail = models.TextField(_("error detail"), blank=True)
    # Why nothing more is tried, or what the message waits for: a key of policy.REASONS.
    decision = models.CharField(_("decision"), max_length=40, blank=True)
    next_attempt_at = models.DateTimeField(_("next attempt at"), null=True, blank=True)
    round = models.PositiveSmallIntegerField(_("round"), default=1)
    round_route = models.CharField(
        _("round route"), max_length=10, choices=RoundRoute, default=RoundRoute.OFFICIAL
    )
    round_started_at = models.DateTimeField(_("round started at"), null=True, blank=True)
    # Nothing is sent before `send_at`, nor from `deliver_by` on. A message that is not delivered by
    # then is `overdue_at` that time, and `on_undelivered` says what follows; "": its channel does.
    send_at = models.DateTimeField(_("send at"), null=True, blank=True)
    deliver_by = models.DateTimeField(_("deliver by"), null=True, blank=True)
    on_undelivered = models.CharField(
        _("if not delivered by then"),
        max_length=10,
        choices=Channel.OnUndelivered,
        blank=True,
        default="",
        db_default="",
    )
    # When `delivery/deadlines.py` has to look at it; null once nothing more follows.
    deadline_check_at = models.DateTimeField(null=True, blank=True, editable=False)
    overdue_at = models.DateTimeField(_("overdue since"), null=True, blank=True)
    # The process that delivers it now. No constraint: the claim of a deleted worker has ended.
    claimed_by = models.ForeignKey(
        DeliveryWorker,
        null=True,
        editable=False,
        on_delete=models.DO_NOTHING,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    # Number of internal errors that ended its delivery in this round.
    faults = models.PositiveSmallIntegerField(default=0, editable=False)
    version = models.PositiveIntegerField(_("version"), default=1)

    # The provider's id of a message that was received, or sent outside Alterna.
    provider_message_id = models.CharField(_("provider message id"), max_length=255, blank=True)
    # What identifies the message in every form of that id (`providers.message_keys`).
    message_key = models.CharField(max_length=255, blank=True, db_default="", editable=False)
    # The conversation that was joined to the present one, if the message came with it.
    merged_from = models.ForeignKey(
        Conversation,
        null=True,
        blank=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    # The chat in which WhatsApp Web shows it, as wwebjs-api reports it: a number or an @lid.
    provider_chat = models.CharField(_("provider chat"), max_length=64, blank=True)
    sent_outside = models.BooleanField(_("sent outside"), default=False)
    # For a provider's echo of our own message: that message.
    echo_of = models.ForeignKey(
        "self",
        verbose_name=_("echo of"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="echoes",
        db_index=False,
    )
    # What stands beside the content: the keys of `MessageEvent.context`.
    context = models.JSONField(default=dict, db_default=Value({}, models.JSONField()), blank=True)
    # One per person: {"by", "name", "emoji", "at"}; for a poll {"by", "name", "chosen", "at"}.
    reactions = models.JSONField(default=list, db_default=Value([], models.JSONField()), blank=True)
    votes = models.JSONField(default=list, db_default=Value([], models.JSONField()), blank=True)
    # The texts before each edit, oldest first: {"text", "until"}.
    earlier_texts = models.JSONField(
        default=list, db_default=Value([], models.JSONField()), blank=True
    )
    edited_at = models.DateTimeField(_("edited at"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked at"), null=True, blank=True)
    client_reference = models.CharField(_("client reference"), max_length=255, blank=True)
    idempotency_key = models.CharField(_("idempotency key"), max_length=255, blank=True)
    request_digest = models.CharField(_("request digest"), max_length=64, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("created by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        db_index=False,  # only the deletion of a user would use it
    )
    created_at = models.DateTimeField(_("created at"), db_index=True)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("message")
        verbose_name_plural = _("messages")
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                name="message_idempotency_key_once_per_user",
                fields=["created_by", "idempotency_key"],
                condition=~Q(idempotency_key=""),
            ),
            models.UniqueConstraint(
                name="message_provider_id_once_per_conversation",
                # The id first: an event is matched to a message by it, whatever the conversation.
                fields=["provider_message_id", "conversation"],
                condition=~Q(provider_message_id=""),
            ),
            models.CheckConstraint(
                name="message_status_is_known_when_sent",
                condition=Q(direction="in", status="")
                | Q(direction="out", status__in=[status.value for status in statuses.Status]),
            ),
        ]
        indexes = [
            models.Index(fields=["conversation", "-created_at", "-id"]),
            models.Index(fields=["conversation", "updated_at"]),
            models.Index(fields=["updated_at"], name="message_updated"),
            # What a worker may claim at once, in the order in which it does.
            models.Index(
                fields=["created_at"],
                condition=UNFINISHED & Q(decision="", claimed_by=None),
                name="message_outbox",
            ),
            models.Index(
                fields=["created_at"], condition=Q(decision="waiting_turn"), name="message_turn"
            ),
            # Which message of a conversation is the next one.
            models.Index(
                fields=["conversation", "created_at"],
                condition=UNFINISHED,
                name="message_unfinished",
            ),
            models.Index(
                fields=["claimed_by"],
                condition=Q(claimed_by__isnull=False),
                name="message_claimed_by",
            ),
            models.Index(
                fields=["client_reference"],
                condition=~Q(client_reference=""),
                name="message_client_reference",
            ),
            # The statuses and routes that few messages have. A page of the others is found quickly
            # by walking through all messages.
            models.Index(
                fields=["status", "created_at"],
                condition=Q(status__in=UNSENT_STATUSES),
                name="message_unsent",
            ),
            models.Index(
                fields=["route", "created_at"],
                condition=Q(route__isnull=False) & ~Q(route="official"),
                name="message_by_fallback",
            ),
            models.Index(fields=["created_at"], condition=STOPPED, name="message_attention"),
            models.Index(fields=["created_at"], condition=UNDELIVERED, name="message_undelivered"),
            models.Index(
                fields=["deadline_check_at"],
                condition=Q(deadline_check_at__isnull=False),
                name="message_deadline",
            ),
            # Our messages with options, which a customer may answer by number.
            models.Index(
                fields=["conversation", "created_at"],
                condition=Q(direction="out", type__in=["interactive", "template"]),
                name="message_with_options",
            ),
            *(
                models.Index(
                    fields=[name], condition=Q((f"{name}__isnull", False)), name=f"message_{name}"
                )
                for name in ("media", "reply_to", "echo_of", "merged_from")
            ),
            models.Index(
                fields=["message_key"], condition=~Q(message_key=""), name="message_by_key"
            ),
            models.Index(
                fields=["next_attempt_at"],
                condition=Q(next_attempt_at__isnull=False),
                name="message_waiting",
            ),
            models.Index(
                fields=["conversation"],
                condition=Q(next_attempt_at__isnull=False),
                name="message_waiting_here",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.direction} {self.type} {self.id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the key with the id."""
        _set_key(self, kwargs)
        super().save(*args, **kwargs)

    @property
    def icon(self) -> str:
        """The icon of an outgoing message; empty for a received one."""
        if self.direction == self.Direction.IN:
            return ""
        return statuses.icon_for(statuses.Status(self.status), self.route).value


def _set_key(row: Message | DeliveryAttempt, options: dict[str, Any]) -> None:
    """Derive `message_key` from `provider_message_id` before a row is saved."""
    row.message_key = message_key(row.provider_message_id)
    fields = options.get("update_fields")
    if fields is not None and "provider_message_id" in fields:
        options["update_fields"] = [*fields, "message_key"]


class DeliveryAttempt(models.Model):
    """One try to send a message by one connection, committed before the provider is called.

    `rule` is the policy's reason for it. The connection is the channel's own, its wwebjs session,
    or that of the Baileys channel to which it falls back.
    """

    class Outcome(models.TextChoices):
        STARTED = statuses.Outcome.STARTED, _("started")
        ACCEPTED = statuses.Outcome.ACCEPTED, _("accepted")
        REJECTED = statuses.Outcome.REJECTED, _("rejected")
        TRANSIENT = statuses.Outcome.TRANSIENT, _("not sent, can be retried")
        UNKNOWN = statuses.Outcome.UNKNOWN, _("unknown")

    message = models.ForeignKey(
        Message,
        verbose_name=_("message"),
        on_delete=models.CASCADE,
        related_name="attempts",
        db_index=False,  # a unique constraint begins with it
    )
    number = models.PositiveSmallIntegerField(_("number"))
    round = models.PositiveSmallIntegerField(_("round"), default=1)
    connection = models.ForeignKey(
        Connection,
        verbose_name=_("connection"),
        on_delete=models.PROTECT,
        related_name="attempts",
        db_index=False,  # an index begins with it
    )
    rule = models.CharField(_("rule"), max_length=40, blank=True)
    outcome = models.CharField(
        _("outcome"), max_length=10, choices=Outcome, default=Outcome.STARTED
    )
    receipt = models.CharField(_("receipt"), max_length=10, blank=True)
    # The provider accepted the message, but had not sent it yet: it watches a template's quality.
    held = models.BooleanField(_("held"), default=False, db_default=False)
    # How the message was changed for this route: keys of `downgrade.CHANGES`. If it is another
    # message then: its type, and its text or caption.
    changes = models.JSONField(
        _("changes"), default=list, db_default=Value([], models.JSONField()), blank=True
    )
    sent_type = models.CharField(_("sent as"), max_length=20, blank=True, db_default="")
    sent_text = models.TextField(_("sent text"), blank=True, db_default="")
    # What Meta charges for: category and type, e.g. "marketing:regular".
    pricing = models.CharField(_("pricing"), max_length=64, blank=True, default="", db_default="")
    error_code = models.CharField(_("error code"), max_length=64, blank=True)
    error_title = models.CharField(_("error title"), max_length=300, blank=True)
    error_detail = models.TextField(_("error detail"), blank=True)
    provider_message_id = models.CharField(_("provider message id"), max_length=255, blank=True)
    # What identifies the message in every form of that id (`providers.message_keys`).
    message_key = models.CharField(max_length=255, blank=True, db_default="", editable=False)
    # The id that we chose before the send; the provider may assign its own instead.
    reserved_id = models.CharField(max_length=64, blank=True, editable=False)
    # Who confirmed that it arrived, if no provider did.
    confirmed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("confirmed by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    started_at = models.DateTimeField(_("started at"))
    finished_at = models.DateTimeField(_("finished at"), null=True, blank=True)

    class Meta:
        verbose_name = _("delivery attempt")
        verbose_name_plural = _("delivery attempts")
        ordering = ["message", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["message", "number"], name="attempt_number_once_per_message"
            ),
            models.UniqueConstraint(
                fields=["message"],
                condition=Q(outcome="started"),
                name="attempt_one_started_per_message",
            ),
        ]
        indexes = [
            models.Index(
                fields=["provider_message_id"],
                condition=~Q(provider_message_id=""),
                name="attempt_provider_message_id",
            ),
            models.Index(
                fields=["message_key"], condition=~Q(message_key=""), name="attempt_by_key"
            ),
            models.Index(
                fields=["reserved_id"], condition=~Q(reserved_id=""), name="attempt_reserved_id"
            ),
            models.Index(fields=["connection", "started_at"]),
            models.Index(
                fields=["confirmed_by"],
                condition=Q(confirmed_by__isnull=False),
                name="attempt_confirmed_by",
            ),
            models.Index(
                fields=["started_at"], condition=Q(outcome="unknown"), name="attempt_unknown"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.message_id}#{self.number} {self.connection_id} {self.outcome}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save the key with the id."""
        _set_key(self, kwargs)
        super().save(*args, **kwargs)

    @property
    def route(self) -> str:
        """The route of the connection: the name of its provider."""
        return self.connection.provider

    def get_route_display(self) -> str:
        """Return the route in the active language."""
        return str(engines.label(self.route))


class Rate(models.Model):
    """A price of Meta's, as the operator entered it; `messaging.costs` estimates amounts from it.

    It is for a category and for the numbers that begin with `prefix` ("+55"; "" for all), from
    `valid_from` until the next one. The longest prefix of a number counts.
    """

    class Category(models.TextChoices):
        AUTHENTICATION = "authentication", _("authentication")
        AUTHENTICATION_INTERNATIONAL = (
            "authentication-international",
            _("international authentication"),
        )
        MARKETING = "marketing", _("marketing")
        MARKETING_LITE = "marketing_lite", _("marketing (Marketing Messages API)")
        REFERRAL = "referral_conversion", _("conversation from an advertisement")
        SERVICE = "service", _("service")
        UTILITY = "utility", _("utility")

    category = models.CharField(_("category"), max_length=40, choices=Category)
    prefix = models.CharField(
        _("numbers that begin with"),
        max_length=16,
        blank=True,
        validators=[RegexValidator(r"^\+[1-9][0-9]*$", _("Enter a plus and digits, like +55."))],
        help_text=_("A country's code with the plus, like +55. Empty: all other numbers."),
    )
    price = models.DecimalField(
        _("price per delivered message"),
        max_digits=12,
        decimal_places=6,
        validators=[MinValueValidator(Decimal(0))],
    )
    currency = models.CharField(
        _("currency"),
        max_length=3,
        validators=[RegexValidator(r"^[A-Z]{3}$", _("Enter three letters, like BRL or USD."))],
    )
    valid_from = models.DateField(_("valid from"))

    class Meta:
        verbose_name = _("price")
        verbose_name_plural = _("prices")
        ordering = ["category", "prefix", "-valid_from"]
        constraints = [
            models.UniqueConstraint(
                fields=["category", "prefix", "valid_from"], name="rate_once_per_day"
            )
        ]

    def __str__(self) -> str:
        return f"{self.category} {self.prefix or '*'} {self.price} {self.currency}"


class CallAttempt(models.Model):
    """A call from the contact, or a user's visit to the page that calls the contact.

    Only that page knows whether the contact answered: an outgoing call has no status, and `channel`
    is the one whose key was used. An incoming call is identified by the provider's `call_id`.
    `phone_number` is the contact's, E.164; empty if the provider reports only a user id. `version`
    is incremented with each change that a page must show.
    """

    class Status(models.TextChoices):
        RINGING = CallStatus.RINGING, _("ringing")
        ENDED = CallStatus.ENDED, _("ended")
        MISSED = CallStatus.MISSED, _("missed")
        REJECTED = CallStatus.REJECTED, _("declined")
        ACCEPTED = CallStatus.ACCEPTED, _("answered")

    conversation = models.ForeignKey(
        Conversation, verbose_name=_("conversation"), on_delete=models.PROTECT, related_name="calls"
    )
    channel = models.ForeignKey(
        Channel, verbose_name=_("channel"), on_delete=models.PROTECT, related_name="+"
    )
    phone_number = models.CharField(_("phone number"), max_length=20, blank=True)
    incoming = models.BooleanField(_("incoming"), default=False)
    status = models.CharField(_("status"), max_length=10, choices=Status, blank=True)
    video = models.BooleanField(_("video"), default=False)
    call_id = models.CharField(_("call id"), max_length=255, blank=True)
    # The conversation that was joined to the present one, if the call came with it.
    merged_from = models.ForeignKey(
        Conversation,
        null=True,
        blank=True,
        editable=False,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )
    version = models.PositiveIntegerField(_("version"), default=1)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("created by"),
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
    )
    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    class Meta:
        verbose_name = _("call attempt")
        verbose_name_plural = _("call attempts")
        ordering = ["-created_at", "-id"]
        # Calls use the business's key: they have their own permission.
        default_permissions = ("view",)
        permissions = [("call_contact", "Can call contacts")]
        constraints = [
            models.UniqueConstraint(
                name="call_once_per_channel",
                fields=["channel", "call_id"],
                condition=~Q(call_id=""),
            ),
            models.CheckConstraint(
                name="call_has_an_id_and_a_status_when_incoming",
                condition=Q(incoming=False, status="", call_id="")
                | (
                    Q(incoming=True, status__in=[status.value for status in CallStatus])
                    & ~Q(call_id="")
                ),
            ),
        ]
        indexes = [
            models.Index(fields=["conversation", "-created_at"]),
            models.Index(fields=["updated_at"], condition=Q(incoming=True), name="call_updated"),
            models.Index(
                fields=["merged_from"],
                condition=Q(merged_from__isnull=False),
                name="call_merged_from",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.phone_number} {self.created_at:%Y-%m-%d %H:%M}"


def stored_file(path: tuple[str, ...]) -> KeyTextTransform:
    """Return the name of the file that was at this path of an event's payload, as a query."""
    return KeyTextTransform("stored", "__".join(("payload", *path)))


def has_stored_file(path: tuple[str, ...]) -> Q:
    """Return the condition that an event came with a file at this path of its payload."""
    return Q((f"payload__{'__'.join(path)}__has_key", "stored"))


class InboundEvent(models.Model):
    """A raw event as a provider delivered it, stored once before the request is answered.

    Tokens and codes that link a phone are left out (`providers.redaction`).

    `source` selects the parser, `source_key` is the channel it was received for. Events of one
    source key are processed in order of their ids. `skipped` lists the kinds in it that this
    version does not know. An event that could not be stored as received is a stub: failed, with its
    raw bytes encrypted in `raw_file` (`inbound.arrivals`).
    """

    class Source(enum.StrEnum):
        """The sources with a receiver of their own; `providers.engines` has all of them."""

        CLOUD = "cloud"
        EVOLUTION = "evolution"
        WWEBJS = "wwebjs"

    class State(models.TextChoices):
        PENDING = "pending", _("waiting")
        DONE = "done", _("read")
        SET_ASIDE = "set_aside", _("failed")

    id = models.BigAutoField(primary_key=True)
    source = models.CharField(_("source"), max_length=10, choices=engines.source_choices)
    source_key = models.CharField(_("source key"), max_length=100)
    dedupe_key = models.CharField(_("dedupe key"), max_length=200)
    payload = models.JSONField(_("payload"))
    raw_file = EncryptedFileNameField(_("raw bytes"), max_length=200, blank=True)
    state = models.CharField(_("state"), max_length=10, choices=State, default=State.PENDING)
    error = models.TextField(_("error"), blank=True)
    skipped = models.CharField(_("not processed"), max_length=200, blank=True)
    received_at = models.DateTimeField(_("received at"), auto_now_add=True)
    processed_at = models.DateTimeField(_("processed at"), null=True, blank=True)

    class Meta:
        verbose_name = _("inbound event")
        verbose_name_plural = _("inbound events")
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["dedupe_key"],
                name="inbound_once",
                # One index for equality and for prefixes, instead of one for each.
                opclasses=["varchar_pattern_ops"],
            )
        ]
        indexes = [
            models.Index(
                fields=["source", "source_key", "id"],
                condition=Q(state="pending"),
                name="inbound_pending",
            ),
            models.Index(fields=["id"], condition=Q(state="set_aside"), name="inbound_set_aside"),
            models.Index(fields=["skipped"], condition=~Q(skipped=""), name="inbound_skipped"),
            models.Index(fields=["raw_file"], condition=~Q(raw_file=""), name="inbound_raw_file"),
            models.Index(fields=["received_at"]),
            # The files that came with events: retention asks whether another event has the same.
            *(
                models.Index(
                    stored_file(source.file_path),
                    condition=has_stored_file(source.file_path),
                    name=f"inbound_file_{source.name}",
                )
                for source in engines.event_sources()
                if source.file_path
            ),
        ]

    def __str__(self) -> str:
        return f"{self.source} {self.source_key} #{self.id}"


class PendingEvent(models.Model):
    """An event whose provider message id matches no message or attempt yet.

    It is stored here and applied when the id is known (`messaging.inbound.pending_events`).
    """

    class Kind(models.TextChoices):
        SENT = Receipt.SENT
        DELIVERED = Receipt.DELIVERED
        READ = Receipt.READ
        FAILED = Receipt.FAILED
        EDIT = "edit"
        REVOKE = "revoke"
        MEDIA = "media"
        REACTION = "reaction"
        VOTE = "vote"

    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="+")
    provider_message_id = models.CharField(max_length=255)
    kind = models.CharField(max_length=10, choices=Kind)
    payload = models.JSONField(default=dict)
    received_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "provider_message_id", "kind"], name="pending_event_once"
            )
        ]
        indexes = [
            models.Index(fields=["received_at"], name="pending_event_received"),
            models.Index(
                KeyTextTransform("stored", "payload"),
                condition=Q(kind="media"),
                name="pending_event_stored",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider_message_id} {self.kind}"
