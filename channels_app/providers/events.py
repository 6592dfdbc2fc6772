"""What a provider's event says, in words that do not depend on the provider. Pure."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Receipt(enum.StrEnum):
    """What the provider told later about an attempt."""

    NONE = ""
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


class CallStatus(enum.StrEnum):
    """How far a call from a customer is known to have gone.

    `ended` says only that it is over: a call that somebody answered on the phone, one that nobody
    did and one that the caller gave up end with the same word.
    """

    RINGING = "ringing"
    ENDED = "ended"
    MISSED = "missed"
    REJECTED = "rejected"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message failed: the provider's code and words."""

    code: str
    title: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReceiptEvent:
    """A provider told what became of a message that we sent.

    `channel_key` is the provider's name for our number. `reference` is ours, where the provider
    gives it back. A provider that did not tell the id when it took the message is matched by
    recipient (E.164, may be empty), text and time, where the event tells them.
    """

    channel_key: str
    provider_message_id: str
    receipt: Receipt
    reference: str = ""
    failure: Failure | None = None
    phone_number: str = ""
    text: str = ""
    at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """A message that we did not send: from a customer, or (`outgoing`) typed on our own phone.

    `phone_number` is the customer's, E.164; empty where the provider tells only `user_id`.
    `stored` names its file in our storage, where it came along (`inbound.media`). `history` says
    that it was exchanged before the phone was linked, and came with the link. `chat` is the chat in
    which WhatsApp Web shows it, "" where the provider tells none.
    """

    channel_key: str
    provider_message_id: str
    phone_number: str
    at: dt.datetime
    type: str
    text: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    user_id: str = ""
    name: str = ""
    reply_to: str = ""
    outgoing: bool = False
    stored: str = ""
    history: bool = False
    chat: str = ""


@dataclass(frozen=True, slots=True)
class MediaEvent:
    """The file of a message that was told before; `stored` names it in our storage."""

    channel_key: str
    provider_message_id: str
    stored: str
    filename: str = ""


@dataclass(frozen=True, slots=True)
class EditEvent:
    """A message got another text."""

    channel_key: str
    provider_message_id: str
    text: str
    at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class RevokeEvent:
    """A message was deleted for everyone."""

    channel_key: str
    provider_message_id: str
    at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class ContactEvent:
    """The provider told a customer's name. `phone_number` is E.164."""

    channel_key: str
    phone_number: str
    name: str


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """The state of the session itself: "open", "connecting", "close" or "refused".

    `reason` is the provider's number for it; `own_number` is E.164, told when it opens.
    """

    channel_key: str
    state: str
    reason: str = ""
    own_number: str = ""
    profile_name: str = ""


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """An attached wwebjs session changed; what it is now must be asked. `reason` is the library's.

    `kind` is the callback's name: "ready", "disconnected", "change_state", "status" or "qr".
    """

    channel_key: str
    kind: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class QrEvent:
    """A new code to link the phone with. An empty `digest` says that there will be no more.

    The code itself is not told (`inbound.withheld`): whoever shows it asks the server.
    """

    channel_key: str
    digest: str


@dataclass(frozen=True, slots=True)
class CallEvent:
    """A customer calls, or such a call went on or ended.

    `phone_number` is the caller's, E.164, or `user_id` where the provider tells only that; both
    are empty where it tells neither.
    """

    channel_key: str
    call_id: str
    phone_number: str
    status: CallStatus
    at: dt.datetime | None = None
    video: bool = False
    user_id: str = ""


@dataclass(frozen=True, slots=True)
class UnsupportedEvent:
    """A part of a payload that this reader does not know; counted, never an error."""

    channel_key: str
    kind: str


Event = (
    ReceiptEvent
    | MessageEvent
    | MediaEvent
    | EditEvent
    | RevokeEvent
    | ContactEvent
    | ConnectionEvent
    | SessionEvent
    | QrEvent
    | CallEvent
    | UnsupportedEvent
)
