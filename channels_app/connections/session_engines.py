"""What the monitor asks of a provider's sessions, and the registry of the engines.

An engine knows one provider's client and its peculiarities. What sessions of every kind have in
common (`monitor`, `records`, `rounds`) names no provider. Engines are registered by the `apps.py`
of the app that has them.
"""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from django.db import transaction
from django.db.models import QuerySet
from django.utils.functional import Promise

from channels_app.connections.recovery import RecoveryAction, RecoveryContext
from channels_app.incidents.reason_text import describe
from channels_app.models import Channel, Connection
from channels_app.models.credentials import SETTINGS
from channels_app.providers.sessions import DerivedState, Observation, State
from channels_app.signals import session_changed

if TYPE_CHECKING:
    from django.contrib.auth.models import User


# The choice to leave a session on its server as it is.
KEEP = "keep"


class SessionRefused(Exception):
    """The request cannot be carried out now. `str()` says why, in the active language.

    `status` and `code` are the HTTP status and code of the REST contract. `field` is the channel's
    setting (or the argument) to correct, or "".
    """

    def __init__(self, code: str, text: str, *, status: int = 409, field: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.status = status
        self.field = field


@dataclass(frozen=True, slots=True)
class SessionState:
    """The state of a session for display. `detail` is a sentence in the active language.

    `code` is the stable reason behind it. `field` names the setting that causes the problem.
    `own_number` is the linked number, digits only, and survives a drop. `qr_seen_at` is when the
    current code was first observed. `profile_name` is the name of the linked account, if the
    provider reports it.
    """

    state: str
    code: str
    detail: str
    since: dt.datetime | None = None
    checked_at: dt.datetime | None = None
    own_number: str = ""
    field: str = ""
    last_drop_at: dt.datetime | None = None
    last_drop_reason: str = ""
    qr_seen_at: dt.datetime | None = None
    unconfirmed_number: str = ""
    profile_name: str = ""

    @property
    def label(self) -> str | Promise:
        """The text of the state's badge."""
        return State(self.state or State.NOT_CONFIGURED).label

    @property
    def field_label(self) -> str:
        """The name of the setting to correct, as the form has it, or ""."""
        return str(SETTINGS[self.field].field.verbose_name) if self.field else ""


@dataclass(frozen=True, slots=True)
class QrCode:
    """A code to scan, and the code to type instead if a number was given.

    `seen_at` is when we first observed it; the server reports no age.
    """

    text: str
    svg: str
    seen_at: dt.datetime
    age_seconds: float
    pairing_code: str = ""


class SessionEngine(ABC):
    """How sessions of one provider are polled and linked, and what only they do.

    Methods that take a `row` are called under its lock, in a transaction: they change the row,
    which the caller saves, and use no network. Methods that take a `connection` use the network and
    are called outside any transaction.
    """

    provider: ClassVar[str]
    # The channel's settings whose change makes the stored state obsolete.
    settings: ClassVar[tuple[str, ...]]
    # A claimed probe without a result is due again after this time. It outlasts the poll.
    lease: ClassVar[dt.timedelta]
    # The ways to treat a session that its channel does not use any more, with labels.
    end_choices: ClassVar[tuple[tuple[str, str | Promise], ...]]
    # Recovery runs in a job, so a poll that a person waits for may begin it, too.
    recovers_in_a_job: ClassVar[bool] = False

    # -- the session of a channel ------------------------------------------------------------------

    @abstractmethod
    def address(self, channel: Channel) -> str:
        """Return server and session name, separated by a space; "" if the settings are incomplete.

        The channel need not be stored. Makes no network call.
        """

    @abstractmethod
    def field_for(self, code: str) -> str:
        """Return the channel's setting to correct for this code, or ""."""

    def is_configured(self, channel: Channel) -> bool:
        return self.address(channel) != ""

    # -- display -----------------------------------------------------------------------------------

    @abstractmethod
    def buttons(self, session: SessionState) -> tuple[str, ...]:
        """Return the actions that a person can take now, the most likely first."""

    def tone(self, session: SessionState) -> str:
        """Return how good the state is: "ok", "waiting" or "failing"."""
        if session.state == State.READY:
            return "ok"
        return "failing" if session.state == State.ERROR else "waiting"

    # -- network -----------------------------------------------------------------------------------

    @abstractmethod
    def poll(self, connection: Connection, *, with_code: bool) -> Observation:
        """Ask the server for the state, and for the QR code `with_code`. Never raises."""

    @abstractmethod
    def connect(self, connection: Connection, *, user: User | None) -> None:
        """Connect it, and keep it connected. Raises SessionRefused."""

    @abstractmethod
    def pairing_code(self, connection: Connection, digits: str) -> str:
        """Return the code to enter on this phone. Raises SessionRefused."""

    @abstractmethod
    def end(self, connection: Connection, choice: str, *, user: User | None) -> str:
        """End the session that its channel does not use any more, as one of `end_choices` says.

        Returns a notice for the person, or "". Raises SessionRefused.
        """

    def wants_code(self, connection: Connection, now: dt.datetime) -> bool:
        """Whether a probe has to ask for the QR code."""
        return False

    def replace_expired_qr(self, connection: Connection, state_code: str) -> None:
        """Have the server show a new QR code if `state_code` says that the old one has expired."""
        return

    def after_probe(self, connection: Connection, observation: Observation) -> None:
        """Do what follows from an observation that a probe made."""
        return

    def recover(self, connection: Connection, action: RecoveryAction) -> None:
        """Run a recovery action that `begin_recovery` did not put into a job. Never raises."""
        return

    # -- after a send ------------------------------------------------------------------------------

    def send_failed(self, connection: Connection, code: str) -> None:
        """React to a send that failed because the session or its server may be down.

        Called after the commit, without a lock. It makes no network call.
        """
        return

    def send_accepted(self, connection: Connection) -> None:
        """React to the first accepted send after failures; called like `send_failed`."""
        return

    # -- under the lock of the row -----------------------------------------------------------------

    def lock_related(self, row: Connection) -> bool:
        """Lock what is written with the row. False if the row is not in use any more."""
        return True

    def save(self, row: Connection) -> None:
        row.save()

    @abstractmethod
    def interpret(
        self, row: Connection, observation: Observation, now: dt.datetime, *, had_worked: bool
    ) -> DerivedState | None:
        """Write down what the observation says, and derive the state from it.

        `had_worked`: it worked until it dropped, and has not been ended since. None: it is too
        early to say, and the session is polled again soon.
        """

    @abstractmethod
    def recovery_action(
        self,
        derived: DerivedState,
        context: RecoveryContext,
        observation: Observation,
        now: dt.datetime,
    ) -> RecoveryAction:
        """Return the action that would reconnect the session."""

    def begin_recovery(
        self, row: Connection, derived: DerivedState, action: RecoveryAction, now: dt.datetime
    ) -> DerivedState:
        """Begin the action, or leave it to `recover`. Returns the state that follows."""
        return derived

    def poll_delay(self, row: Connection, delay: float, now: dt.datetime) -> float:
        """Return the seconds until the next poll, where `delay` would be usual."""
        return delay

    def forget(self, row: Connection) -> None:
        """Clear what was stored of the session elsewhere: the channel has another one now."""
        return

    def notify_pages(self, row: Connection) -> None:
        """Update the open pages of the channel and of the channels that fall back to it."""
        dependents = Channel.objects.filter(fallback_routes__connection=row)
        for channel in (row.channel, *dependents.exclude(pk=row.channel_id)):
            session_changed.send(sender=Connection, channel=channel)

    # -- jobs --------------------------------------------------------------------------------------

    def due(self, rows: QuerySet[Connection]) -> QuerySet[Connection]:
        """Restrict due connections to those that are to be polled."""
        return rows

    def before_round(self) -> None:
        """Called before each round of probes."""
        return

    @abstractmethod
    def enqueue_probe(self, row: Connection) -> None:
        """Enqueue an immediate probe, after commit."""


_ENGINES: dict[str, SessionEngine] = {}


def register(engine: SessionEngine) -> None:
    """Let the monitor handle the connections of the engine's provider."""
    _ENGINES[engine.provider] = engine


def engines() -> list[SessionEngine]:
    """Return the registered engines."""
    return list(_ENGINES.values())


def engine_for(provider: str) -> SessionEngine:
    """Return the engine of a provider. Raises KeyError if its connections are no sessions."""
    return _ENGINES[provider]


def send_failed(connection: Connection, code: str) -> None:
    """Let the session's engine react to a failed send, once the transaction is committed."""
    if engine := _ENGINES.get(connection.provider):
        transaction.on_commit(partial(engine.send_failed, connection, code), robust=True)


def send_accepted(connection: Connection) -> None:
    """Let the session's engine react to an accepted send, once the transaction is committed."""
    if engine := _ENGINES.get(connection.provider):
        transaction.on_commit(partial(engine.send_accepted, connection), robust=True)


def configured(connection: Connection) -> SessionEngine:
    """Return the engine of a connection. Raises SessionRefused if its settings are incomplete."""
    engine = engine_for(connection.provider)
    if not engine.is_configured(connection.channel):
        raise SessionRefused("not_configured", describe("not_configured"))
    return engine


def refused(provider: str, code: str, detail: str = "") -> SessionRefused:
    """Return the refusal for a server that did not do what was asked of it."""
    field = engine_for(provider).field_for(code)
    return SessionRefused(code, describe(code, detail), status=502, field=field)
