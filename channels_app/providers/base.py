"""The contract of a provider: one message in, one of four outcomes out.

`send` returns `Accepted`, or raises exactly one of `Rejected`, `Transient`, `Unknown`.
`messaging/delivery/policy.py` decides what follows; a provider reports only what is certain.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol, runtime_checkable

from django.utils.functional import Promise

from channels_app.providers.addresses import Kind
from channels_app.providers.events import Event, Receipt

if TYPE_CHECKING:
    from channels_app.models import Channel, Connection

Text = str | Promise


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
    """The message that a reply quotes or a reaction refers to, as the sending provider knows it.

    `id` is a wamid for the Cloud API and WhatsApp's own key ID for the others. `from_us`: our
    number sent it. `chat` is the chat in which WhatsApp Web shows it, or "" if unknown. `text` is
    its text or a word for its content, for a server that does not have the message. `author` is the
    address of who wrote it in a group, as the provider reported it, "" if unknown.
    """

    id: str
    from_us: bool
    chat: str = ""
    text: str = ""
    author: str = ""


@dataclass(frozen=True, slots=True)
class OutboundMessage:
    """A message in provider-independent form.

    `reference` is our ID; providers that support it return it in their events. `to` is E.164 with
    the plus sign. `message_id` is the ID to assign to the message, if the provider lets us choose
    one. `content` is the object named after the type, in the Cloud API's own shape; `text` is the
    body of a text message. `quote` is the message that this one replies to or, for a reaction, the
    one that it refers to. `file` is the stored file of an image, video, audio, document or sticker,
    or of the header of a template or interactive message; without it, the object has a public
    "link".
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
    had chosen; None if we sent none. `held`: it has not been sent yet, and may still be rejected.
    `unquoted`: it is a reply, but the provider does not have the quoted message.
    """

    provider_message_id: str | None
    recipient_id: str | None = None
    took_our_id: bool | None = None
    lid: str = ""
    held: bool = False
    unquoted: bool = False


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


@dataclass(frozen=True, slots=True)
class SentMessage:
    """A message in a provider's list of sent ones. For a file, `text` is its caption."""

    id: str
    type: str
    text: str
    filename: str


class LookupFailed(Exception):
    """A look-up of sent messages without a result. `answered`: the server responded."""

    def __init__(self, code: str, *, answered: bool) -> None:
        super().__init__(code)
        self.code = code
        self.answered = answered


@runtime_checkable
class ListsSent(Protocol):
    """A provider whose server lists the messages that it sent (`Capabilities.lists_sent`)."""

    def sent_messages(self, to: str, *, since: dt.datetime) -> list[SentMessage]:
        """Return the messages to this number that WhatsApp accepted since then, oldest first.

        An empty list proves nothing. Raises LookupFailed.
        """
        ...


@runtime_checkable
class FindsById(Protocol):
    """A provider whose server finds a message by its ID (`Capabilities.finds_by_id`)."""

    def find_sent(self, message_id: str) -> Receipt | None:
        """Return SENT if WhatsApp accepted the message, NONE if the server only has it.

        None if the server does not know the ID, which proves nothing. Raises LookupFailed.
        """
        ...


@runtime_checkable
class MarksRead(Protocol):
    """A provider that shows the customer that we read (`Capabilities.marks_read`)."""

    def mark_read(self, to: str, ids: Sequence[str], *, typing: bool) -> None:
        """Mark a customer's messages as read; show that we are typing, if asked.

        `ids` are the provider's, oldest first. Raises Rejected, Transient or Unknown: each send
        may be repeated without harm.
        """
        ...


@runtime_checkable
class Downloads(Protocol):
    """A provider from which received files are fetched (`EventSource.file_reference`)."""

    def download(self, reference: Any, *, most_bytes: int) -> bytes:
        """Return a file that a customer sent.

        Raises Rejected (not found, or larger than `most_bytes`) or Transient.
        """
        ...


class NumberCache(Protocol):
    """The results of earlier look-ups of numbers (digits). Nothing here raises."""

    def lookup(self, number: str) -> str | None: ...

    def remember(self, number: str, chat_id: str) -> None: ...

    def forget(self, number: str) -> None: ...

    def lid_of(self, number: str) -> str: ...

    def note_lid(self, number: str, lid: str) -> None: ...


def _everything(type_: str, content: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do. The conformance suite proves each statement, in both directions.

    `types`: the message types that it can express; it rejects every other as "unsupported_type".
    `reports`: the kinds of neutral events that its parser may yield, besides UnsupportedEvent.
    `links_phone`: it sends by a linked phone, so it sends nothing until the number is known and, if
    it is another one than expected, confirmed by a person.
    `may_omit_id`: it may accept a message without an ID; an ack is then matched by its text.
    `lists_sent`, `finds_by_id`: its provider is a `ListsSent`, a `FindsById`.
    `marks_read`: its provider is a `MarksRead`.
    `looks_up_numbers`: it asks for the recipient's address before the first send, and caches it.
    `address_kinds`: the addresses besides phone numbers that it can send to, the best one first.
    `expresses(type, content)`: whether it can express this very object of one of its types.
    """

    types: frozenset[str]
    reports: frozenset[type[Event]] = frozenset()
    links_phone: bool = False
    may_omit_id: bool = False
    lists_sent: bool = False
    finds_by_id: bool = False
    marks_read: bool = False
    looks_up_numbers: bool = False
    address_kinds: tuple[Kind, ...] = ()
    expresses: Callable[[str, Any], bool] = _everything

    def takes(self, type_: str, content: Any) -> bool:
        """Return whether it sends a message with this content as it is."""
        return type_ in self.types and self.expresses(type_, content)


def _unchanged(payload: Any) -> Any:
    return payload


def _no_defect(payload: Mapping[str, Any]) -> str:
    return ""


def _no_file(content: Mapping[str, Any]) -> Any:
    return None


@dataclass(frozen=True, slots=True)
class EventSource:
    """How the events of an engine are stored and read.

    `name` is `InboundEvent.source` and, where `authenticate` is given, the path of the webhook:
    /api/webhooks/<name>/<channel ID>. `parse` is the pure parser; it raises nothing for any JSON.
    `channel_key` is what its events name the channel (`Event.channel_key`).

    `dedupe_key` is equal for repeated deliveries of the same fact and different for any two facts
    of one channel; None: the digest of the raw body. `key_prefix` precedes it in the journal; None:
    the name.
    `redact` removes what must not be stored; it is idempotent. `defect` returns a code for an
    object that cannot be an event, else "". `file_path` leads to a file's base64, which is stored
    as a file; `gather_file` returns the event with the base64 there, wherever the server put it.
    `list_field` names the list of an event that may be too large for one row.

    `authenticate(channel, headers, body)` returns whether a request to the webhook comes from the
    channel's server. Header names are lower case. It compares in constant time.
    `file_reference` returns, from the content of a MessageEvent, what `provider.download` needs
    to fetch its file; None if it has none. `file_wait_seconds`: the file may follow by itself, so
    that it is fetched only after this time. `exact_files`: type, digest and size that an event
    reports of a file are those of the file itself, so a different one is fetched again.
    """

    name: str
    label: Text
    parse: Callable[[Any], Iterable[Event]]
    channel_key: Callable[[Channel], str]
    dedupe_key: Callable[[Any], str] | None = None
    key_prefix: str | None = None
    redact: Callable[[Any], Any] = _unchanged
    defect: Callable[[Mapping[str, Any]], str] = _no_defect
    file_path: tuple[str, ...] = ()
    gather_file: Callable[[dict[str, Any]], dict[str, Any]] = _unchanged
    list_field: str = ""
    authenticate: Callable[[Channel, Mapping[str, str], bytes], bool] | None = None
    file_reference: Callable[[Mapping[str, Any]], Any] = _no_file
    file_wait_seconds: int = 0
    exact_files: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """What a channel's owner enters for an engine.

    `name` is its name in REST and in the form. `column` is that of the engine's credentials, which
    says what is valid and whether it is a secret. `required`: the engine cannot be used without it,
    and another value is another account. `label` and `help` are for the form; without a label, it
    shows the column's. `default` returns what is stored if nothing was entered.
    """

    name: str
    column: str
    required: bool = False
    label: Text = ""
    help: Text = ""
    default: Callable[[Channel], str] | None = None


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """The kind of the channels whose own connection an engine is, as people choose it."""

    label: Text
    description: Text


@dataclass(frozen=True, slots=True)
class Engine:
    """A kind of server through which a connection reaches WhatsApp.

    `name` is stored as `Connection.provider` and `Message.route`, at most ten characters. `label`
    names the route in a sentence, `title` its connection in a heading. `create` returns the
    provider of a connection; it opens nothing. `reserve_id(type, content)` returns a new ID to
    assign to a message, or "" if the server lets us choose none for this type.

    `channel`: channels can have it as their own connection, and `Channel.kind` is then its name.
    Every engine except the official API can be a fallback: one with channels through one of these,
    one without is attached to the official channel, which has its settings.
    """

    name: str
    label: Text
    title: Text
    create: Callable[[Connection, NumberCache], Provider]
    capabilities: Capabilities
    events: EventSource
    settings: tuple[Setting, ...] = ()
    channel: ChannelKind | None = None
    reserve_id: Callable[[str, object], str] = field(default=lambda type_, content: "")
