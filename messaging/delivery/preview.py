"""Say what would happen to a message, from what is stored (`verdict`). No provider is asked.

The message is accepted as for a real send, in a transaction that is rolled back: so it is checked
in the same way, gets the same place behind others, and is seen by the same limits.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from channels_app.connections.linked_numbers import UNCONFIRMED, UNKNOWN
from channels_app.models import Channel, Connection
from channels_app.providers import engines
from channels_app.providers.addresses import Kind
from channels_app.providers.message_keys import WAMID
from channels_app.providers.sessions import State
from messaging import contacts, costs, template_bubbles
from messaging.delivery import (
    accept,
    attempts,
    downgrade,
    policy,
    rate_limits,
    runner,
    sent_templates,
    verdict,
)
from messaging.delivery.statuses import Route
from messaging.delivery.verdict import RouteState, Situation, Verdict
from messaging.models import Conversation, DeliveryAttempt, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# A linked phone in one of these states sends nothing at present.
_DOWN = frozenset({State.DISCONNECTED, State.STARTING, State.QR, State.PAIRING, State.ERROR})
_SESSION_DOWN = "session_not_connected"


def preview(*, user: User | None, **message: Any) -> Verdict:
    """Return what would happen if `accept_message` were called with these arguments now.

    Raises ValidationError keyed by field, as it would. Nothing is stored.
    """
    conversation: Conversation | None = message.get("conversation")
    channel: Channel | None = message.get("channel")
    if channel is None and conversation is not None:
        channel = conversation.channel
    if channel is not None and not channel.active:
        return Verdict("reject", "inactive", "inactive")
    try:
        with transaction.atomic():
            accepted = accept.accept_message(user=user, rehearses=True, **message).message
            try:
                return of_message(accepted, now=timezone.now())
            finally:
                transaction.set_rollback(True)
    except ValidationError as error:
        # Everything else is as it should be.
        is_template = message.get("type") == "template" and set(error.message_dict) == {"template"}
        if channel is not None and is_template:
            found = sent_templates.find(channel, message.get("content"))
            if found is not None and found.definition.unusable:
                status = found.definition.status
                code = TEMPLATE_CODES.get(status) or verdict.template_code(status)
                return Verdict("reject", code, "refused")
        raise


# Meta's codes for a template that it does not send, by its status.
TEMPLATE_CODES: Mapping[str, str] = {"PAUSED": "132015", "DISABLED": "132016"}


def of_message(message: Message, *, now: dt.datetime) -> Verdict:
    """Return what would happen to a stored message without attempts. In a transaction."""
    channel = message.conversation.channel
    rules = runner.rules_of(channel)
    limits = rate_limits.limits_for(message, rules, now=now, may_fall_back=True, exact=True)
    situation = situation_of(message, now=now)
    found = verdict.verdict(runner.facts_of(message), rules, limits, situation, now=now)
    if message.decision == policy.WAITING_TURN:
        reason = policy.WAITING_TURN
        then = replace(found, then=None)
        return Verdict("wait", reason, reason, until=message.next_attempt_at, then=then)
    return found


def situation_of(message: Message, *, now: dt.datetime) -> Situation:
    """Return what is stored about the customer and the routes of a message."""
    channel, conversation = message.conversation.channel, message.conversation
    is_official = channel.kind == Route.OFFICIAL
    template = sent_templates.find(channel, message.content) if message.type == "template" else None
    category = template.category.lower() if template else ""
    last = conversation.last_inbound_at
    return Situation(
        is_template=message.type == "template",
        category=category,
        window_until=last + verdict.WINDOW if last else None,
        free_entry_until=_free_entry_until(conversation, now) if is_official else None,
        free_service_left=(
            is_official
            and message.type != "template"
            and costs.free_service_left(channel.primary, now)
        ),
        routes={
            (one.provider, one.pk): _state_of(one, message, category)
            for one in (channel.primary, *channel.fallback_connections)
        },
    )


def _state_of(connection: Connection, message: Message, category: str) -> RouteState:
    """Return what is stored about a route that certainly decides its outcome."""
    capabilities = engines.by_name(connection.provider).capabilities
    unavailable = refuses = ""
    if capabilities.links_phone:
        if connection.is_number_unknown:
            unavailable = UNKNOWN
        elif connection.unconfirmed_number:
            unavailable = UNCONFIRMED
        elif connection.checked_at is not None and connection.state in _DOWN:
            unavailable = _SESSION_DOWN
    address = contacts.address_for(message.conversation, connection.provider)
    contact = message.conversation.contact
    if contact.address_given_up:
        refuses = contacts.GIVEN_UP
    elif not contact.phone_number and not contacts.pick_address(
        list(contact.addresses.all()), message.conversation.channel, connection.provider
    ):
        refuses = "no_address"
    elif not contact.phone_number and category == "authentication" and address:
        refuses = verdict.NEEDS_PHONE if Kind.USER_ID in capabilities.address_kinds else ""
    changed = downgrade.adapt(
        message.type,
        message.text,
        message.content,
        capabilities,
        template=template_bubbles.read(message.context),
    )
    if isinstance(changed, downgrade.Refusal):
        return RouteState(refuses or changed.code, unavailable)
    changes = changed.changes
    if message.type == "reaction" and not _has_target(message, connection):
        refuses = refuses or "target_unknown"
    if message.reply_to_id is not None:
        attempt = DeliveryAttempt(message=message, connection=connection)
        if attempts.quote(message, attempt) is None:
            changes = (*changes, downgrade.QUOTE_LEFT_OUT)
    return RouteState(refuses, unavailable, changes)


def _has_target(message: Message, connection: Connection) -> bool:
    """Return whether the connection knows an ID of the message that a reaction refers to."""
    given = str(message.content.get("message_id") or "")
    if connection.provider == Route.OFFICIAL and given.startswith(WAMID):
        return True
    return (
        attempts.quote(message, DeliveryAttempt(message=message, connection=connection)) is not None
    )


def _free_entry_until(conversation: Conversation, now: dt.datetime) -> dt.datetime | None:
    """Return the end of the free period after an advertisement.

    It begins with our answer, which must follow within 24 hours (docs/providers/cloud.md §10.5).
    """
    recent = conversation.messages.filter(created_at__gt=now - verdict.FREE_ENTRY)
    came = recent.filter(direction=Message.Direction.IN, context__has_key="referral")
    entry = came.order_by("-created_at").values_list("created_at", flat=True).first()
    if entry is None:
        return None
    sent = DeliveryAttempt.objects.filter(
        message__in=recent.filter(created_at__gt=entry, direction=Message.Direction.OUT),
        connection__provider=Route.OFFICIAL,
        outcome="accepted",
    )
    answered = sent.order_by("started_at").values_list("started_at", flat=True).first()
    if (answered or now) - entry > verdict.WINDOW:
        return None
    return (answered or now) + verdict.FREE_ENTRY
