"""Provider-independent events. Pure."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from channels_app.providers.addresses import Address


class Receipt(enum.StrEnum):
    """The receipt that the provider reported later for an attempt."""

    NONE = ""
    SENT = "sent"
    DELIVERED = "delivered"
    READ = "read"
    FAILED = "failed"


class CallStatus(enum.StrEnum):
    """The last known status of a call from a customer.

    `ended` says only that the call is over: calls that were answered on the phone, missed, or
    abandoned by the caller all end with the same word.
    """

    RINGING = "ringing"
    ENDED = "ended"
    MISSED = "missed"
    REJECTED = "rejected"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a message failed: the provider's code and text."""

    code: str
    title: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReceiptEvent:
    """A provider reported the status of a message that we sent.

    `channel_key` is the provider's name for our number. `reference` is our ID, if the provider
    returns it. If the provider returned no message ID on acceptance, the event is matched by
    recipient (E.164, may be empty), text and time, as far as it contains them. `phone_number`,
    `user_id` and `also` are addresses of one customer. `pricing` is what the provider charges for,
    "category:type" ("marketing:regular"), "" if it does not say. `history`: it stands in a history;
    a failure in it is only shown.
    """

    channel_key: str
    provider_message_id: str
    receipt: Receipt
    reference: str = ""
    failure: Failure | None = None
    phone_number: str = ""
    user_id: str = ""
    text: str = ""
    at: dt.datetime | None = None
    pricing: str = ""
    history: bool = False
    also: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageEvent:
    """A message that we did not send: from a customer, or (`outgoing`) typed on our own phone.

    `phone_number` is the customer's, E.164; empty if the provider reports only `user_id`, which is
    a business-scoped id or a LID. `also` are further addresses of the same customer, such as those
    before a change, which are `former`, too. For a message of a group, `user_id` is the group's
    address (…@g.us). `stored` names its file in our storage, if the event contained it
    (`embedded_files`). `history`: it was exchanged before the phone was linked and was synced on
    linking. `chat` is the chat in which WhatsApp Web shows it, or "" if the provider reports none.
    `at` is None if the provider reports no time that can be read: it counts as that of the arrival.

    `context` is what stands beside the content, as far as the provider reports it:
    `quoted {"id", "text", "type", "from_us", "status"}`, `forwarded` ("once" or "often"),
    `referral` and `product` (Meta's own objects: the ad or post, and the product, that the customer
    wrote about), `error {"code", "title", "detail"}` (why the content is missing), `author {"id",
    "name"}` (of a message in a group), `imported` (true: the provider says for certain that it is
    history, however recent), `standby` (true: another app had the conversation when it came).
    """

    channel_key: str
    provider_message_id: str
    phone_number: str
    at: dt.datetime | None
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
    also: tuple[Address, ...] = ()
    former: tuple[Address, ...] = ()
    username: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MediaEvent:
    """The file of a message that was reported before; `stored` names it in our storage."""

    channel_key: str
    provider_message_id: str
    stored: str
    filename: str = ""


@dataclass(frozen=True, slots=True)
class EditEvent:
    """The text of a message was edited.

    `by` is who did it, as far as the provider says: the person's address (E.164 or a user ID), US,
    or "". `reported_in` is the id of the journal's row that reported it, 0 if it is not known.
    """

    channel_key: str
    provider_message_id: str
    text: str
    at: dt.datetime | None = None
    by: str = ""
    reported_in: int = 0


@dataclass(frozen=True, slots=True)
class RevokeEvent:
    """A message was deleted for everyone; `by` and `reported_in` as for `EditEvent`."""

    channel_key: str
    provider_message_id: str
    at: dt.datetime | None = None
    by: str = ""
    reported_in: int = 0


@dataclass(frozen=True, slots=True)
class ReactionEvent:
    """A person reacted to a message; an empty `emoji` takes the reaction back.

    `by` is the person's address (E.164 or a user ID), or US. A person has one reaction to a
    message: the latest. `history` as for `MessageEvent`.
    """

    channel_key: str
    provider_message_id: str
    by: str
    emoji: str
    at: dt.datetime | None = None
    name: str = ""
    history: bool = False


@dataclass(frozen=True, slots=True)
class VoteEvent:
    """A person voted in a poll, or changed the vote: `chosen` has all options chosen now.

    `by` is the person's address (E.164 or a user ID), or US.
    """

    channel_key: str
    provider_message_id: str
    by: str
    chosen: tuple[str, ...]
    at: dt.datetime | None = None
    name: str = ""


# Who reacted or voted, if it was our own phone.
US = "us"


@dataclass(frozen=True, slots=True)
class ContactEvent:
    """The provider reported a customer's name. `phone_number` is E.164, `user_id` a LID.

    `name` may be "", and then only `picture` counts, the address of the profile's picture. `saved`:
    it is the name in the phone's address book, not that of the profile. `at` is None if the
    provider reports no time: it counts as that of the arrival.
    """

    channel_key: str
    phone_number: str
    name: str
    user_id: str = ""
    saved: bool = False
    at: dt.datetime | None = None
    picture: str = ""


@dataclass(frozen=True, slots=True)
class AddressBookEvent:
    """The business has a customer in its phone's address book under `name`; "": not any more."""

    channel_key: str
    addresses: tuple[Address, ...]
    name: str
    username: str = ""
    at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class AddressEvent:
    """The provider named several addresses of one customer, the current ones first.

    `former` are those of them that the customer gave up. `at` is None if the provider does not say
    when that was so.
    """

    channel_key: str
    addresses: tuple[Address, ...]
    former: tuple[Address, ...] = ()
    at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class GroupEvent:
    """The provider reported the name of a group; `group_id` is its address, which ends in @g.us."""

    channel_key: str
    group_id: str
    name: str


@dataclass(frozen=True, slots=True)
class ConnectionEvent:
    """The state of the session itself: "open", "connecting", "close" or "refused".

    `reason` is the provider's numeric code; `own_number` is E.164, reported when it opens.
    """

    channel_key: str
    state: str
    reason: str = ""
    own_number: str = ""
    profile_name: str = ""


@dataclass(frozen=True, slots=True)
class SessionEvent:
    """An attached wwebjs session changed; poll it for the new state. `reason` is the library's.

    `kind` is the callback's name: "ready", "disconnected", "change_state", "status" or "qr".
    """

    channel_key: str
    kind: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class QrEvent:
    """A new code to link the phone with. An empty `digest`: no further codes will follow.

    The code itself is left out (`redaction`); the code that displays it requests it from the
    server.
    """

    channel_key: str
    digest: str


@dataclass(frozen=True, slots=True)
class CallEvent:
    """A call from a customer started, progressed or ended.

    `phone_number` is the caller's, E.164, `user_id` a business-scoped id or a LID. Both are empty
    if the provider reports neither. `also`, `name` and `username` as for `MessageEvent`.
    `opens_window`: by Meta's rules it opens the 24-hour window.
    """

    channel_key: str
    call_id: str
    phone_number: str
    status: CallStatus
    at: dt.datetime | None = None
    video: bool = False
    user_id: str = ""
    also: tuple[Address, ...] = ()
    name: str = ""
    username: str = ""
    opens_window: bool = False


@dataclass(frozen=True, slots=True)
class AccountEvent:
    """The provider reported something about an account, a number or a template.

    If it names no number of ours (`channel_key` is empty), it concerns the channel with
    `phone_number` (digits), or those of the account `account_id`; each is "" if it is not named.
    `topic` identifies what it is about: a later event of the same topic ends what an earlier one
    raised. `reason` is the code of what is wrong, "" if nothing is any more. `passing`: no event
    reports its end. `at` is when the provider reported it, None if it does not say.
    """

    channel_key: str
    account_id: str
    phone_number: str
    topic: str
    reason: str
    detail: str = ""
    passing: bool = False
    at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class TemplateEvent:
    """Something about a template of the account changed. Its details are in the provider's list.

    `edited` is its id if it has other components now.
    """

    channel_key: str
    account_id: str
    edited: str = ""


@dataclass(frozen=True, slots=True)
class PreferenceEvent:
    """A customer stopped, or resumed, the marketing messages of the business.

    `phone_number` is E.164; it is empty if the provider reports only `user_id`.
    """

    channel_key: str
    phone_number: str
    stopped: bool
    at: dt.datetime | None = None
    user_id: str = ""
    also: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class UnsupportedEvent:
    """A part of a payload that the parser does not support; counted, never an error."""

    channel_key: str
    kind: str


Event = (
    ReceiptEvent
    | MessageEvent
    | MediaEvent
    | EditEvent
    | RevokeEvent
    | ReactionEvent
    | VoteEvent
    | ContactEvent
    | AddressBookEvent
    | AddressEvent
    | GroupEvent
    | ConnectionEvent
    | SessionEvent
    | QrEvent
    | CallEvent
    | AccountEvent
    | TemplateEvent
    | PreferenceEvent
    | UnsupportedEvent
)
