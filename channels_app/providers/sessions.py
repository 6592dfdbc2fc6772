"""The neutral states of a session, which connects a phone through any server. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class State(enum.StrEnum):
    """The states of the REST contract, with badge labels."""

    NOT_CONFIGURED = "not_configured"
    DISCONNECTED = "disconnected"
    STARTING = "starting"
    QR = "qr"
    PAIRING = "pairing"
    CONNECTED = "connected"
    READY = "ready"
    ERROR = "error"

    @property
    def label(self) -> str | Promise:
        return _LABELS[self]


_LABELS: dict[State, str | Promise] = {
    State.NOT_CONFIGURED: _("Not configured"),
    State.DISCONNECTED: _("Disconnected"),
    State.STARTING: _("Starting"),
    State.QR: _("Waiting for the QR code"),
    State.PAIRING: _("Linking the phone"),
    State.CONNECTED: _("Loading"),
    State.READY: _("Ready"),
    State.ERROR: _("Not working"),
}
STATE_CHOICES = [(state.value, state.label) for state in State]


@dataclass(frozen=True, slots=True)
class DerivedState:
    """A state and the reason for it: a key of `states.SENTENCES`, or a code from
    `error_codes`.

    `detail` is the server's own text, if it adds information.
    """

    state: State
    code: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """What a server reported about a session; each provider adds its own fields.

    `error_code` is a code from `error_codes` or `states.SENTENCES` if the server did not report the
    state. `qr` is the text of the code that can be scanned now.
    """

    error_code: str = ""
    detail: str = ""
    qr: str = ""


# Reasons that prove an outage of the server itself: it was not running, has lost a session, or was
# unreachable.
SERVER_ABSENCES: dict[str, str] = {
    "connection_refused": "restarted",
    "not_started": "restarted",
    **dict.fromkeys(
        ("dns_failed", "connect_timeout", "unreachable", "timeout", "connection_broken"),
        "unreachable",
    ),
}
