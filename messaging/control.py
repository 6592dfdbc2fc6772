"""Who has a conversation at Meta: this app, Meta's own agent, or another app.

Meta reports it (docs/providers/cloud.md §10.4.8, §10.4.9) as hand-overs, and by where it delivers
the customer's messages: on standby while another one has the conversation. Nothing reports that it
is given back, which happens after a day without a message.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app.providers.contents import AGENT
from channels_app.providers.events import MessageEvent
from channels_app.providers.message_keys import WAMID
from messaging.models import Conversation

HANDOVER = "handover"
APP = "app"
IDLE = dt.timedelta(hours=24)
# What another app sent is reported late, perhaps after it has passed the conversation on: it only
# proves that the app had it before.
_ECHO_DELAY = dt.timedelta(seconds=30)


def holder(conversation: Conversation) -> str:
    """Return who else has the conversation now: "ai_agent" or "app"; "" if nobody else."""
    at = conversation.controlled_at
    if at is None or timezone.now() - at > IDLE:
        return ""
    return conversation.controlled_by


def sentence(conversation: Conversation) -> str:
    """Return who else has the conversation and what follows, in the active language; or ""."""
    has_it = {
        AGENT: _("Meta's agent has this conversation. A message from here takes it over."),
        APP: _("Another app has this conversation. A message from here takes it over."),
    }
    return has_it.get(holder(conversation), "")


def changes(conversation: Conversation, event: MessageEvent, at: dt.datetime) -> dict[str, Any]:
    """Return the changes of the conversation, which is locked, by a message or hand-over.

    The latest event counts, whatever the order in which they arrive.
    """
    owner = event.content.get("owner") if event.type == HANDOVER else None
    if owner == "us":
        return {"controlled_by": "", "controlled_at": at} if _is_latest(conversation, at) else {}
    if owner in (AGENT, APP):
        return _taken(conversation, str(owner), at)
    if event.context.get("standby"):
        at -= _ECHO_DELAY if event.outgoing else dt.timedelta()
        return _taken(conversation, conversation.controlled_by or APP, at)
    is_ours = event.provider_message_id.startswith(WAMID) and not event.outgoing
    if is_ours and conversation.controlled_by and _is_latest(conversation, at):
        return {"controlled_by": "", "controlled_at": at}
    return {}


def note_sent(conversation: Conversation) -> None:
    """Note that Meta took a message of ours, which takes the conversation.

    No query if nobody else had it.
    """
    if conversation.controlled_by:
        now = timezone.now()
        held = Conversation.objects.filter(pk=conversation.pk, controlled_at__lte=now)
        held.exclude(controlled_by="").update(controlled_by="", controlled_at=now)


def _is_latest(conversation: Conversation, at: dt.datetime) -> bool:
    return conversation.controlled_at is None or at >= conversation.controlled_at


def _taken(conversation: Conversation, owner: str, at: dt.datetime) -> dict[str, Any]:
    written = conversation.last_inbound_at
    if not conversation.controlled_by and written is not None and written > at:
        return {}  # the customer has written to us since then
    if _is_latest(conversation, at):
        return {"controlled_by": owner, "controlled_at": at}
    # What is known already came on standby, which does not say whose the conversation is.
    return {"controlled_by": owner} if conversation.controlled_by == APP else {}


def adopted(target: Conversation, source: Conversation) -> dict[str, Any]:
    """Return what a conversation takes over from one that is joined to it."""
    if source.controlled_at is None or not _is_latest(target, source.controlled_at):
        return {}
    return {"controlled_by": source.controlled_by, "controlled_at": source.controlled_at}
