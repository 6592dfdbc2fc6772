"""What a provider's event says, in words that do not depend on the provider. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from messaging.states import Receipt


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
    gives it back.
    """

    channel_key: str
    provider_message_id: str
    receipt: Receipt
    reference: str = ""
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """A message that we did not send: from a customer, or (`outgoing`) typed on our own phone.

    `phone_number` is the customer's, E.164; empty where the provider tells only `user_id`.
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


@dataclass(frozen=True, slots=True)
class UnreadableEvent:
    """A part of a payload that this reader does not know; counted, never an error."""

    channel_key: str
    kind: str


NeutralEvent = ReceiptEvent | MessageEvent | UnreadableEvent
