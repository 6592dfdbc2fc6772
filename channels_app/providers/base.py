"""The contract of a provider: one message in, one of four outcomes out.

`send` returns `Accepted`, or raises exactly one of `Rejected`, `Transient`, `Unknown`.
`messaging/delivery/policy.py` decides what follows; a provider reports only what is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, ClassVar, Protocol


def _discard_upload_id(uploaded_as: str) -> None:
    """Default `remember` callback: do not store the upload ID."""


@dataclass(frozen=True, slots=True)
class OutboundFile:
    """The file of a message. `open` raises FileNotFoundError if it was deleted, else OSError.

    `uploaded_as` is the ID of an earlier upload to this provider, if there was one. `remember`
    stores such an ID for later sends; "" clears it.
    """

    mime_type: str
    filename: str
    size: int
    open: Callable[[], BinaryIO] = field(repr=False)
    uploaded_as: str = ""
    remember: Callable[[str], None] = field(default=_discard_upload_id, repr=False)


@dataclass(frozen=True, slots=True)
class Quote:
    """The message that a reply quotes, as the provider that sends the reply identifies it.

    `id` is a wamid for the Cloud API and WhatsApp's own key ID for the others. `from_us`: our
    number sent it. `chat` is the chat in which WhatsApp Web shows it, or "" if unknown.
    """

    id: str
    from_us: bool
    chat: str = ""


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A message in provider-independent form.

    `reference` is our ID; providers that support it return it in their events. `to` is E.164 with
    the plus sign. `message_id` is the ID to assign to the message, if the provider lets us choose
    one. `content` is the object named after the type, in the Cloud API's own shape; `text` is the
    body of a text message. `quote` is the message that this one replies to. `file` is the stored
    file of an image, video, audio, document or sticker; without it, `content` has a public "link".
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
    """The provider accepted the message. This is not a delivery.

    `provider_message_id` is None if the provider returned no ID (docs/providers/wwebjs.md §3).
    `recipient_id` is the address that the provider used, `lid` WhatsApp's hidden ID of the same
    person if the response contained it. `took_our_id` says whether the message got the ID that we
    had chosen; None if we sent none.
    """

    provider_message_id: str | None
    recipient_id: str | None = None
    took_our_id: bool | None = None
    lid: str = ""


class SendError(Exception):
    """A send that did not end in `Accepted`.

    `code` is stable and machine readable: the provider's own code if it has one ("131047"), else
    one of our own codes ("timeout"). `title` is one line, `detail` the provider's error text;
    neither ever contains a secret. `http_status` is informative only.
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
    """Certainly not sent, and the same request would be rejected again."""

    outcome = "rejected"


class Transient(SendError):
    """Certainly not sent, and the same request may succeed later."""

    outcome = "transient"


class Unknown(SendError):
    """May have been sent: the response does not prove either outcome.

    `provider_message_id` is the provider's ID of the message, if the response contained one. Later
    events are matched by it.
    """

    outcome = "unknown"
    provider_message_id: str | None = None


@dataclass(frozen=True, slots=True)
class ConnectionReport:
    """The result of a connection test: a code, and the provider's own text (`detail`).

    `reason_text.summary` renders it as a sentence. `details` is for programs and for a table.
    """

    ok: bool
    code: str
    detail: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


class Provider(Protocol):
    """One provider. Instances are cheap, hold no connection and may be used by several threads."""

    def send(self, message: OutboundMessage) -> Accepted:
        """Send the message. Raises Rejected, Transient or Unknown."""
        ...

    def check(self) -> ConnectionReport:
        """Ask the provider whether the credentials work now. Never raises."""
        ...
