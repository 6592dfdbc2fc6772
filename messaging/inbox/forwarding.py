"""Forwarding: a message again in another conversation, as a message of the person who forwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from messaging.content import MEDIA_TYPES
from messaging.delivery import accept
from messaging.models import Conversation, Media, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# Templates, questions and reactions belong to their conversation.
_AS_THEY_ARE: Final = ("location", "contacts")


def can_forward(message: Message) -> bool:
    """Return whether the message can be sent again in another conversation."""
    if message.revoked_at is not None:
        return False
    if message.type in MEDIA_TYPES:
        return message.media is not None and message.media.state == Media.State.STORED
    return message.type in _AS_THEY_ARE or (message.type == "text" and bool(message.text))


def forward(message: Message, conversation: Conversation, *, user: User, key: str = "") -> Message:
    """Send the message in another conversation. Raises ValidationError."""
    if not can_forward(message):
        raise ValidationError(_("This message cannot be forwarded."))
    sent: dict[str, Any] = {"type": message.type, "content": message.content}
    if message.type == "text":
        sent = {"text": message.text}
    elif message.type in MEDIA_TYPES:
        sent["content"] = {"media": str(message.media_id)}
        caption = message.content.get("caption") or message.text
        if message.type in ("image", "video", "document") and caption:
            sent["content"]["caption"] = caption
        if message.type == "audio" and message.content.get("voice"):
            sent["content"]["voice"] = True
    accepted = accept.accept_message(
        conversation=conversation, user=user, idempotency_key=key, **sent
    )
    return accepted.message
