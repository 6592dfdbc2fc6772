"""The contract of a provider: one message in, one of four endings out.

`send` returns `Accepted`, or raises exactly one of `Rejected`, `Transient`, `Unknown`. What follows
from each is decided in `messaging/delivery/policy.py`; a provider only says what is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, Protocol


def _forget(uploaded_as: str) -> None:
    """What a file without a memory does."""


@dataclass(frozen=True, slots=True)
class OutboundFile:
    """The file of a message. `open` raises FileNotFoundError where it is gone, else OSError.

    `uploaded_as` is the id under which this provider still has it, where it was uploaded before;
    `remember` keeps such an id for the next time, and "" forgets it.
    """

    mime_type: str
    filename: str
    size: int
    open: Callable[[], BinaryIO] = field(repr=False)
    uploaded_as: str = ""
    remember: Callable[[str], None] = field(default=_forget, repr=False)


@dataclass(frozen=True, slots=True)
class Quote:
    """The message that a reply quotes, in the terms of the provider that sends the reply.

    `id` is a wamid for the Cloud API, WhatsApp's own key id for the others. `from_us`: our number
    wrote it. `chat` is the chat in which WhatsApp Web shows it, "" where that is not known.
    """

    id: str
    from_us: bool
    chat: str = ""


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A message as every provider understands it.

    `reference` is ours and comes back in the provider's events where it can. `to` is E.164 with
    the plus sign. `message_id` is the id that the message is to have, where the provider lets us
    choose one. `content` is the object named after the type, in the Cloud API's own shape;
    `text` is the body of a text message. `quote` is the message that this one replies to.
    `file` is the one of an image, video, audio, document or sticker that is kept here; without it
    `content` has a public "link".
    """

    reference: str
    to: str
    type: str = "text"
    text: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)
    quote: Quote | None = None
    message_id: str = ""
    file: OutboundFile | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider took the message. This is not a delivery.

    `provider_message_id` is None where the provider took it without telling an id
    (contracts/wwebjs-api.md §3). `recipient_id` is the address that the provider really used, `lid`
    WhatsApp's hidden id of the same person where the answer named it. `took_our_id` says whether
    the message got the id that we had chosen; None where none was sent.
    """

    provider_message_id: str | None
    recipient_id: str | None = None
    took_our_id: bool | None = None
    lid: str = ""


class SendError(Exception):
    """A send that did not end in `Accepted`.

    `code` is stable and machine readable: the provider's own code where it has one ("131047"),
    else a short word of ours ("timeout"). `title` is one line, `detail` what the provider said;
    neither ever holds a secret. `http_status` is informative only.
    """

    outcome: ClassVar[str]

    def __init__(
        self, code: str, title: str, detail: str = "", *, http_status: int | None = None
    ) -> None:
        super().__init__(f"{code}: {title}")
        self.code = code
        self.title = title
        self.detail = detail
        self.http_status = http_status


class Rejected(SendError):
    """Certainly not sent, and the same request would be refused again."""

    outcome = "rejected"


class Transient(SendError):
    """Certainly not sent, and the same request may succeed later."""

    outcome = "transient"


class Unknown(SendError):
    """May have been sent: nothing that was seen proves either.

    `provider_message_id` is what the provider calls the message, where it told that all the same:
    what it tells later is known by it.
    """

    outcome = "unknown"
    provider_message_id: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """What a test of the connection found: a code, and what the provider said in its own words.

    `session_words.summary` makes a sentence of it. `details` is for programs and for a table.
    """

    ok: bool
    code: str
    told: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """One way out. Instances are cheap, hold no connection and may be used by several threads."""

    def send(self, message: OutboundMessage) -> Accepted:
        """Hand the message over. Raises Rejected, Transient or Unknown."""
        ...

    def check(self) -> ConnectionReport:
        """Ask the provider whether the credentials work now. Never raises."""
        ...
