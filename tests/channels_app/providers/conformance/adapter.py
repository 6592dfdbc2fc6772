"""What the suite has to know of an engine."""

from __future__ import annotations

import abc
import io
import queue
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, ClassVar, Protocol, TypeVar

import requests

from channels_app.models import Channel
from channels_app.providers.base import (
    Accepted,
    Engine,
    OutboundFile,
    OutboundMessage,
    Provider,
    Quote,
    SendError,
)
from channels_app.providers.events import Event
from channels_app.providers.sessions import DerivedState, State
from core import http_client
from simulators.base import RunningApp, Simulator, only_digits, run_in_thread
from tests import files
from tests.channels_app.conftest import ORDINARY
from tests.simulators.conftest import Receiver

E = TypeVar("E", bound=Event)
Outcome = tuple[str, str]
SECONDS = 10.0


class Numbers:
    """A number cache in memory. `known` has the stored results."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    def lookup(self, number: str) -> str | None:
        return self.known.get(number)

    def remember(self, number: str, chat_id: str) -> None:
        self.known[number] = chat_id

    def forget(self, number: str) -> None:
        self.known.pop(number, None)

    def lid_of(self, number: str) -> str:
        return ""

    def note_lid(self, number: str, lid: str) -> None:
        """Not needed here."""


class Session(Protocol):
    """The life of a session that does not exist yet. `scan` is done by its phone."""

    can_stop: bool

    def start(self) -> None: ...

    def state(self) -> DerivedState: ...

    def qr(self) -> str: ...

    def scan(self) -> None: ...

    def stop(self) -> None: ...

    def unlink(self) -> None: ...

    def provider(self) -> Provider: ...


class Adapter(abc.ABC):
    """An engine with its running simulator, whose events a receiver collects.

    The tables map a scenario of the simulator to the code with which a send to it must end:
    `rejected` and `transient` as such, certainly not sent; `unknown`, sent or not.
    """

    engine: ClassVar[Engine]
    secrets: ClassVar[tuple[str, ...]]
    late_failure: ClassVar[str]
    rejected: ClassVar[Mapping[str, str]]
    transient: ClassVar[Mapping[str, str]]
    unknown: ClassVar[Mapping[str, str]]
    # The settings with which the server refuses us, and the code of that.
    wrong_key: ClassVar[tuple[Mapping[str, Any], str]]
    # Settings without which nothing can be sent.
    required: ClassVar[tuple[str, ...]]
    # The setting with the server's address.
    address: ClassVar[str]
    # The response to an accepted send, and one that contains no ID: status and JSON.
    with_id: ClassVar[tuple[int, Any]]
    without_id: ClassVar[tuple[int, Any]]
    # The response to a request that precedes the send; None if there is none.
    look_up: ClassVar[bytes | None] = None
    quote: ClassVar[Quote] = Quote("3EB0C431C26A1916E07E", from_us=False)

    def __init__(self, stack: ExitStack) -> None:
        self.receiver = Receiver()
        receiving = stack.enter_context(run_in_thread(self.receiver.application()))
        self.receiver.url = receiving.url
        self.simulator = self.create_simulator(receiving.url)
        self.app: RunningApp = stack.enter_context(run_in_thread(self.simulator.application()))
        self.payloads: list[Any] = []
        self.bodies: list[bytes] = []
        self.events: list[Event] = []

    @abc.abstractmethod
    def create_simulator(self, webhook_url: str) -> Simulator:
        """Return the simulator, which is ready to send and posts its events to the URL."""

    @abc.abstractmethod
    def channel(self, **settings: Any) -> Channel:
        """Return a channel with credentials for the simulator, changed by the settings.

        "timeout" is the seconds that a request may take.
        """

    @abc.abstractmethod
    def sent_body(self, request: Mapping[str, Any]) -> Any:
        """Return the body of a recorded request that sends; None if it does not."""

    @abc.abstractmethod
    def quoted_id(self, body: Any) -> str:
        """Return the ID that the body of a send quotes, or ""."""

    @abc.abstractmethod
    def read_answer(self, answer: http_client.Answer) -> Accepted:
        """Interpret a response to a send, as the client does."""

    @abc.abstractmethod
    def customer_writes(self, text: str) -> str:
        """Let a customer write, and return the ID of the message."""

    @abc.abstractmethod
    def echo(self, text: str) -> str:
        """Let our own phone or session report a message that we sent, and return its ID."""

    # Whether a reply quotes a message that the server does not have.
    quotes_anything: ClassVar[bool] = True

    def marking(self, ids: list[str], *, typing: bool) -> list[Any]:
        """Return the bodies of the requests that mark these messages as read, in order."""
        raise NotImplementedError

    def can(self, action: str) -> bool:
        """Return whether the simulator can do this: the adapter has the method."""
        return getattr(type(self), action) is not getattr(Adapter, action)

    def edit(self, message_id: str, text: str) -> None:
        """Let the customer edit a message, where the server reports it."""
        raise NotImplementedError

    def revoke(self, message_id: str) -> None:
        """Let the customer delete a message, where the server reports it."""
        raise NotImplementedError

    def customer_sends_a_picture(self, data: bytes) -> str:
        """Let a customer send a file that is fetched later, and return the ID of the message."""
        raise NotImplementedError

    def other_events(self) -> None:  # noqa: B027 (most engines have none)
        """Cause an event of each remaining kind that the engine reports."""

    def session(self) -> Session | None:
        """Return a session that was never started, if the engine has sessions."""
        return None

    # -- sending -------------------------------------------------------------------------------

    def provider(self, *, numbers: Numbers | None = None, **settings: Any) -> Provider:
        channel = self.channel(**settings)
        connection = channel.connection(self.engine.name)
        return self.engine.create(connection, numbers or Numbers())

    def number(self, scenario: str = "ok") -> str:
        """Return the E.164 number of a customer whose messages have this scenario."""
        return f"+{only_digits(self.simulator.example(self.simulator.scenarios[scenario]))}"

    def message(self, type_: str = "text", **fields: Any) -> OutboundMessage:
        """Return a message of this type with valid content."""
        text = "Olá" if type_ == "text" else ""
        content, file = CONTENTS.get(type_, {}), FILES.get(type_)
        return OutboundMessage(
            **{
                "reference": "5e7a0000-0000-4000-8000-000000000001.1",
                "to": self.number(),
                "type": type_,
                "text": text,
                "content": content,
                "file": file and outbound_file(*file),
                **fields,
            }
        )

    def send(self, scenario: str, **settings: Any) -> Outcome:
        """Send to a scenario; return the outcome and its code, or the ID of the message."""
        message = self.message(to=self.number(scenario))
        return outcome_of(lambda: self.provider(**settings).send(message))

    def sends(self) -> list[Any]:
        """Return the bodies of the received sends."""
        bodies = (self.sent_body(request) for request in tuple(self.simulator.requests))
        return [body for body in bodies if body is not None]

    # -- events --------------------------------------------------------------------------------

    def control(self, path: str, **command: Any) -> Any:
        answer = requests.post(f"{self.app.url}/_control/{path}", json=command, timeout=SECONDS)
        assert answer.ok, answer.text
        return answer.json()

    def event(self, kind: type[E], **fields: Any) -> E:
        """Wait until the simulator has posted an event of this kind with these fields."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if isinstance(event, kind) and matches(event, fields):
                    return event
            seen = len(self.events)
            try:
                webhook = self.receiver.next()
            except queue.Empty:
                raise AssertionError(f"no {kind.__name__} {fields} in {self.events}") from None
            self.payloads.append(webhook.json)
            self.bodies.append(webhook.raw)
            self.events += self.engine.events.parse(webhook.json)


def matches(event: Event, fields: Mapping[str, Any]) -> bool:
    return all(getattr(event, name) == value for name, value in fields.items())


def outcome_of(send: Callable[[], Accepted]) -> Outcome:
    try:
        return "accepted", send().provider_message_id or ""
    except SendError as error:
        return error.outcome, error.code


def reaches(session: Session, state: State) -> DerivedState:
    """Wait until the session is in the state."""
    deadline = time.monotonic() + SECONDS
    while (derived := session.state()).state != state:
        assert time.monotonic() < deadline, derived
    return derived


def outbound_file(mime_type: str, data: bytes, **fields: Any) -> OutboundFile:
    return OutboundFile(
        **{
            "mime_type": mime_type,
            "filename": "arquivo.bin",
            "size": len(data),
            "open": lambda: io.BytesIO(data),
            **fields,
        }
    )


FILES: Mapping[str, tuple[str, bytes]] = {
    "image": ("image/png", files.PNG),
    "video": ("video/mp4", files.MP4),
    "audio": ("audio/mpeg", files.MP3),
    "document": ("application/pdf", files.PDF),
    "sticker": ("image/webp", files.WEBP),
}
CONTENTS: Mapping[str, Any] = {
    "location": {"latitude": -23.5, "longitude": -46.65, "name": "Clínica"},
    "contacts": {
        "contacts": [
            {
                "name": {"formatted_name": "Ana", "first_name": "Ana"},
                "phones": [{"phone": ORDINARY, "wa_id": ORDINARY.removeprefix("+")}],
            }
        ]
    },
    "reaction": {"message_id": "wamid.AA==", "emoji": "👍"},
    "template": {"name": "hello_world", "language": {"code": "en_US"}},
    "interactive": {
        "type": "button",
        "body": {"text": "?"},
        "action": {"buttons": [{"type": "reply", "reply": {"id": "1", "title": "Sim"}}]},
    },
}
