"""Sender use cases: accept a message, cancel or retry it, confirm its arrival."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import structlog
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from channels_app.models import Channel
from channels_app.providers import addresses
from channels_app.providers.addresses import Address, Kind
from core import phone_numbers
from core.text import is_storable
from core.transactions import run_atomic
from messaging import contacts, queue, sequence, template_bubbles
from messaging import content as contents
from messaging.delivery import attempts, outbox, policy, runner, statuses, template_content
from messaging.delivery.schedule import NO_TIMES, Times
from messaging.live import publisher
from messaging.media import files
from messaging.models import UNFINISHED, Conversation, Media, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User

MAX_KEY = 255

log = structlog.get_logger(__name__)


class IdempotencyConflict(Exception):
    """The idempotency key was already used with a different request."""


class NotRetryable(Exception):
    """The message's current state does not allow a retry. `str()` is the reason, for users."""


class NotCancelable(Exception):
    """The message may have been sent, or is being sent. `str()` is the reason, for users."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """`created` is False if the same request had already been accepted."""

    message: Message
    created: bool


def accept_message(
    *,
    channel: Channel | None = None,
    to: str = "",
    conversation: Conversation | None = None,
    user: User | None,
    type: str = "text",
    text: str = "",
    content: Any = None,
    reply_to: str | None = None,
    client_reference: str = "",
    idempotency_key: str = "",
    times: Times = NO_TIMES,
    batch: str = "",
    rehearses: bool = False,
) -> Acceptance:
    """Store an outgoing message. The row itself is the order to deliver it (`outbox`).

    It goes to a conversation, or to `to` on a channel: a phone number, which is checked strictly
    unless a provider reported it, or any address of a known contact. `reply_to` is the id of a
    message in the same conversation. `times` says when it may be sent. `batch` identifies, in
    place of these arguments, the request of which the message is a part. `rehearses`: the caller
    rolls back, so no page is notified. Raises ValidationError keyed by field, or
    IdempotencyConflict; in both cases nothing is stored.
    """
    if conversation is not None:
        channel = channel or conversation.channel
    recipient, file = _validated(
        channel, to, conversation, type, text, content, client_reference, idempotency_key
    )
    assert channel is not None
    request = {
        "channel": channel.pk,
        "to": recipient.value if isinstance(recipient, Address) else f"conversation {recipient.pk}",
        "type": type,
        "text": text,
        "content": content,
        "reply_to": reply_to,
        "client_reference": client_reference,
        **times.as_request(),
    }
    digest = batch or hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    if idempotency_key and (replayed := _find_replay(user, idempotency_key, digest)):
        return Acceptance(replayed, created=False)
    if not channel.active:
        raise ValidationError({"channel": _("This channel is not active.")})
    times.validate(now=timezone.now())
    context: dict[str, Any] = {}
    if type == "template":
        prepared = template_content.prepare(channel, content)
        content, file, text = prepared.content, prepared.file, prepared.text or text
        context = template_bubbles.store(prepared.rendered)

    def store() -> Message:
        message = Message(
            type=type,
            text=text,
            content={} if content is None else content,
            context=context,
            media=file,
            client_reference=client_reference,
            idempotency_key=idempotency_key,
            request_digest=digest if idempotency_key else "",
            created_by=user,
            **times.as_fields(),
        )
        return _store(channel, recipient, message, reply_to, rehearses=rehearses)

    try:
        # A new customer's addresses may be learned from an event at the same moment.
        message = run_atomic(store)
    except IntegrityError:
        # Two requests used the same key at the same moment; the other request won.
        if idempotency_key and (replayed := _find_replay(user, idempotency_key, digest)):
            return Acceptance(replayed, created=False)
        raise
    return Acceptance(message, created=True)


def ask_for_number(conversation: Conversation, *, user: User | None, key: str = "") -> Message:
    """Ask a customer with a username to share their phone number (docs/providers/cloud.md §10.1.7).

    The official API takes it within the 24-hour window. The same `key` asks once.
    """
    text = _("Please share your phone number, so that we can always reach you.")
    question = {
        "type": "request_contact_info",
        "body": {"text": str(text)},
        "action": {"name": "request_contact_info"},
    }
    accepted = accept_message(
        conversation=conversation,
        user=user,
        type="interactive",
        content=question,
        idempotency_key=key,
    )
    return accepted.message


def _validated(
    channel: Channel | None,
    to: str,
    conversation: Conversation | None,
    type_: str,
    text: str,
    content: Any,
    client_reference: str,
    idempotency_key: str,
) -> tuple[Address | Conversation, Media | None]:
    """Return the recipient and the upload to send. Raises ValidationError with all errors."""
    errors: dict[str, Any] = {}
    if channel is None:
        errors["channel"] = _("There is no such channel.")
    recipient: Address | Conversation | None = conversation
    file = None
    if conversation is None:
        recipient = parse_recipient(to)
        if recipient is None:
            errors["to"] = _("This is not a valid phone number.")
    elif to:
        errors["to"] = _("Give either a recipient or a conversation.")
    elif channel is not None and conversation.channel_id != channel.pk:
        errors["conversation"] = _("This conversation is on another channel.")
    try:
        if type_ == "template" and template_content.is_short(content):
            template_content.validate_short(content)
        else:
            contents.validate(type_, text, content)
        # That of a template is known when it is filled in.
        file = files.of_content(type_, content) if type_ != "template" else None
    except ValidationError as error:
        errors.update(error.message_dict)
    if len(client_reference) > MAX_KEY:
        errors["client_reference"] = _("At most 255 characters.")
    if len(idempotency_key) > MAX_KEY:
        errors["Idempotency-Key"] = _("At most 255 characters.")
    if not is_storable(client_reference):
        errors["client_reference"] = _("The text contains a character that cannot be stored.")
    if not is_storable(idempotency_key):
        errors["Idempotency-Key"] = _("The text contains a character that cannot be stored.")
    if errors or recipient is None:
        raise ValidationError(errors)
    return recipient, file


def parse_recipient(to: str) -> Address | None:
    """Return the address that was entered: a valid phone number, or one that a provider reported.

    What a provider reported can be answered whatever a library of numbers thinks of it.
    """
    try:
        return Address(Kind.PHONE, phone_numbers.normalize(to))
    except ValueError:
        reported = addresses.parse(to.strip())
        known = reported is not None and contacts.find(reported) is not None
        return reported if known else None


def _find_replay(user: User | None, key: str, digest: str) -> Message | None:
    message = Message.objects.filter(created_by=user, idempotency_key=key).first()
    if message is not None and message.request_digest != digest:
        raise IdempotencyConflict
    return message


def _store(
    channel: Channel,
    recipient: Address | Conversation,
    message: Message,
    reply_to: str | None,
    *,
    rehearses: bool = False,
) -> Message:
    # The row lock orders a conversation's messages; they are delivered in that order.
    if isinstance(recipient, Conversation):
        conversation = contacts.lock_conversation(recipient)
    else:
        conversation = contacts.lock_conversation_with(channel, also=[recipient])
    # It has been read, with what was read of it.
    conversation.channel = channel
    now = timezone.now()
    at = sequence.place(
        conversation, message.send_at or now, is_scheduled=message.send_at is not None
    )
    message.conversation = conversation
    message.direction = Message.Direction.OUT
    if message.type == "reaction":
        message.content = _resolve_reaction_target(conversation, message.content)
    message.status = statuses.Status.QUEUED
    # A scheduled message takes its place at the time at which it is sent.
    message.created_at = message.round_started_at = at
    if reply_to:
        message.reply_to = _quoted(conversation, reply_to)
    if message.media is not None:
        files.lock_for_use(message.media, field=files.field_of(message.type, message.content))
    if message.send_at is not None:
        message.decision, message.next_attempt_at = policy.WAITING_SCHEDULE, message.send_at
    else:
        _wait_behind_others(message)
    message.save(force_insert=True)
    if rehearses:
        return message
    if message.send_at is None:
        # Who schedules a message has not answered what the customer asked since.
        _bump_conversation(conversation, at)
    queue.wake_senders()
    publisher.message_changed(message)
    return message


def _quoted(conversation: Conversation, reply_to: str) -> Message:
    try:
        return conversation.messages.get(pk=reply_to)
    except (Message.DoesNotExist, ValidationError, ValueError):
        raise ValidationError({"context": _("This conversation has no such message.")}) from None


def _resolve_reaction_target(conversation: Conversation, content: dict[str, Any]) -> dict[str, Any]:
    """Return a reaction's content with our id of the message that it refers to, if it is stored.

    If the caller supplies a provider id, the provider validates it: the customer may have received
    that message before Alterna stored this conversation.
    """
    if "message" not in content:
        reaction = Message(conversation=conversation, type="reaction", content=content)
        target = attempts.reaction_target(reaction)
        return content if target is None else {**content, "message": str(target.pk)}
    try:
        target = conversation.messages.get(pk=content["message"])
    except (Message.DoesNotExist, ValidationError, ValueError):
        raise _no_target(_("This conversation has no such message.")) from None
    if target.type == "reaction":
        raise _no_target(_("WhatsApp takes no reaction to a reaction."))
    has_id = target.attempts.exclude(provider_message_id="").exists()
    if not (target.provider_message_id or has_id):
        raise _no_target(_("No provider has this message yet, so you cannot react to it."))
    official = target.attempts.filter(connection__provider=statuses.Route.OFFICIAL)
    sent = official.exclude(provider_message_id="").values_list("provider_message_id", flat=True)
    known = target.provider_message_id or sent.first()
    return {**content, "message": str(target.pk), **({"message_id": known} if known else {})}


def _no_target(text: Any) -> ValidationError:
    return ValidationError({"reaction.message": text})


def _wait_behind_others(message: Message) -> None:
    """Mark a new message as waiting if an earlier one of its conversation waits."""
    waiting = message.conversation.messages.filter(next_attempt_at__isnull=False)
    waiting = waiting.exclude(decision=policy.WAITING_SCHEDULE)
    until = waiting.order_by("created_at").values_list("next_attempt_at", flat=True).first()
    if until is not None:
        message.decision, message.next_attempt_at = policy.WAITING_TURN, until


def _bump_conversation(conversation: Conversation, now: dt.datetime) -> None:
    Conversation.objects.filter(pk=conversation.pk).update(last_message_at=now, unread_count=0)


def retry_message(
    message: Message, *, route: Literal["official", "fallback"], user: User | None
) -> Message:
    """Retry a rejected or unconfirmed message: a new round of the same policy.

    `route` "fallback" skips the official API. Raises NotRetryable if the message is in another
    state, if its channel is inactive or has no usable fallback, or if the official API's rejection
    must not be retried on another route.
    """
    with transaction.atomic():
        message = Message.objects.select_for_update().get(pk=message.pk)
        channel = message.conversation.channel
        if message.direction != Message.Direction.OUT or message.status not in (
            statuses.Status.REJECTED,
            statuses.Status.UNCONFIRMED,
        ):
            raise NotRetryable(_("Only a rejected or unconfirmed message can be sent again."))
        if message.sent_outside:
            raise NotRetryable(
                _("The message was not sent from here, so it cannot be sent again from here.")
            )
        if not message.decision or message.next_attempt_at is not None:
            raise NotRetryable(_("This message is still being sent."))
        if attempts.is_stopped_by_customer(message):
            raise NotRetryable(policy.reason_text("opted_out"))
        rules = runner.rules_of(channel)
        if not rules.active:
            raise NotRetryable(_("This channel is not active."))
        if route == "fallback" and not rules.fallbacks:
            raise NotRetryable(_("This channel has no working fallback."))
        previous = attempts.attempts_for(message)
        if route == "fallback" and policy.never_falls_back(attempts.facts(previous), rules):
            raise NotRetryable(policy.reason_text("never_fall_back"))
        if message.deliver_by is not None and message.deliver_by <= timezone.now():
            raise NotRetryable(policy.reason_text(policy.DEADLINE_PASSED))
        message.send_at = None
        message.deadline_check_at = message.deliver_by
        message.round += 1
        message.round_route = route
        message.round_started_at = timezone.now()
        message.faults = 0
        message.save(
            update_fields=[
                "round", "round_route", "round_started_at", "faults", "send_at",
                "deadline_check_at",
            ]
        )  # fmt: skip
        attempts.refresh_message_status(message, previous, decision="")
        queue.wake_senders()
    return message


def cancel_message(message: Message, *, user: User | None) -> Message:
    """Cancel a message that certainly has not been sent: it is scheduled, or waits for a retry.

    Raises NotCancelable. A message that was canceled already stays as it is.
    """
    with transaction.atomic():
        conversation = contacts.lock_conversation_of(str(message.pk))
        message = Message.objects.select_for_update().get(pk=message.pk)
        if message.decision == policy.CANCELED:
            return message
        if not Message.objects.filter(UNFINISHED, pk=message.pk).exists():
            raise NotCancelable(_("Only a message that still waits to be sent can be canceled."))
        previous = attempts.attempts_for(message)
        may_be_sent = (statuses.Outcome.STARTED, statuses.Outcome.UNKNOWN)
        if message.claimed_by_id or any(one.outcome in may_be_sent for one in previous):
            raise NotCancelable(_("The message is being sent, or may have been sent."))
        # It keeps no place in the future.
        message.created_at = min(message.created_at, sequence.place(conversation, timezone.now()))
        message.deadline_check_at = None
        message.save(update_fields=["created_at", "deadline_check_at"])
        attempts.refresh_message_status(
            message, previous, decision=policy.CANCELED, next_attempt_at=None
        )
        log.info(
            "message canceled",
            message=str(message.pk),
            user=user.get_username() if user else "",
        )
        outbox.wake([message.conversation_id])
    return message


def confirm_arrival(message: Message, *, user: User | None) -> Message:
    """Record a person's confirmation that a held message arrived; it then counts as sent.

    Raises NotRetryable if the message is not held.
    """
    with transaction.atomic():
        message = Message.objects.select_for_update().get(pk=message.pk)
        if message.status != statuses.Status.UNCONFIRMED:
            raise NotRetryable(_("Only an unconfirmed message can be confirmed."))
        if not message.decision or message.next_attempt_at is not None:
            raise NotRetryable(_("This message is still being sent."))
        attempts.confirm(message, user=user)
    return Message.objects.get(pk=message.pk)
