"""Quick replies: texts that people send often, shared by all or a person's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _

from accounts import people
from core.text import is_storable
from messaging.inbox import variables
from messaging.inbox.variables import Filled
from messaging.models import Conversation, QuickReply

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def visible_to(user: User, *, search: str = "") -> QuerySet[QuickReply]:
    """Return the shared replies and the person's own, by shortcut; `search` is a part of either."""
    replies = QuickReply.objects.filter(Q(owner=None) | Q(owner=user))
    if search := search.strip().removeprefix("/"):
        replies = replies.filter(Q(shortcut__icontains=search) | Q(text__icontains=search))
    return replies


def save(reply: QuickReply) -> QuickReply:
    """Store a new or changed reply. Raises ValidationError."""
    reply.shortcut = reply.shortcut.strip().removeprefix("/").lower()
    if not is_storable(reply.text + reply.shortcut):
        raise ValidationError({"text": _("The text contains a character that cannot be stored.")})
    if not reply.shortcut or any(map(str.isspace, reply.shortcut)):
        raise ValidationError({"shortcut": _("A shortcut is one word.")})
    reply.full_clean(validate_constraints=False)
    try:
        with transaction.atomic():
            reply.save()
    except IntegrityError:
        text = _("There is a quick reply with this shortcut already.")
        raise ValidationError({"shortcut": text}) from None
    return reply


def fill(reply: QuickReply, conversation: Conversation, *, user: User) -> Filled:
    """Return the text of a reply for the customer of a conversation."""
    contact = conversation.contact
    agent, agent_first_name = people.names_of(user)
    return variables.fill(
        reply.text,
        {
            **contact.custom_fields,
            "name": contact.name,
            "first_name": contact.name.split()[0] if contact.name.split() else "",
            "phone_number": contact.phone_number or "",
            "channel": conversation.channel.name,
            "agent": agent,
            "agent_first_name": agent_first_name,
        },
    )
