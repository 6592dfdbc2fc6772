"""The sessions by which channels reach WhatsApp: their state, and what a person does with them.

For views and the API: `stored_state` (no network), `state`, `connect`, `confirm_number`, `qr`,
`pairing_code`. For jobs: `probe`; `rounds` chooses which sessions are due. Commands that only one
provider has are beside its engine. Nothing here knows a provider (`session_engines`).

The server is polled without a lock; `observations` stores what it reported. A message from the
server only triggers a poll, because it may arrive late, twice and in any order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import segno
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app.connections import number_confirmation, observations, records
from channels_app.connections.linked_numbers import UNCONFIRMED
from channels_app.connections.number_confirmation import ConfirmationRefused
from channels_app.connections.recovery import RecoveryAction
from channels_app.connections.session_engines import (
    QrCode,
    SessionRefused,
    SessionState,
    configured,
    engine_for,
)
from channels_app.incidents.reason_text import describe
from channels_app.models import Connection
from channels_app.providers.sessions import Observation, State

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def stored_state(connection: Connection) -> SessionState:
    """Return the last observed state. Makes no network call."""
    engine = engine_for(connection.provider)
    if not engine.is_configured(connection.channel):
        code = "not_configured"
        return SessionState(State.NOT_CONFIGURED.value, code, describe(code))
    code = connection.state_code
    return SessionState(
        state=connection.state,
        code=code,
        detail=describe(code, connection.state_detail),
        since=connection.state_changed_at,
        checked_at=connection.checked_at,
        own_number=connection.own_number,
        field=engine.field_for(code),
        last_drop_at=connection.last_drop_at,
        last_drop_reason=describe(connection.last_drop_reason),
        qr_seen_at=connection.qr_seen_at,
        unconfirmed_number=connection.unconfirmed_number if code == UNCONFIRMED else "",
        profile_name=connection.profile_name,
    )


def current_state(connection: Connection) -> SessionState:
    """Return the state as it is stored now, and let the caller's channel read it again."""
    connection.channel.forget_connections()
    stored = Connection.objects.select_related("channel")
    return stored_state(stored.get(channel=connection.channel_id, provider=connection.provider))


def state(connection: Connection) -> SessionState:
    """Poll the server now; store and return the state. Server errors are never raised.

    Takes a few seconds at most. Do not call it inside a transaction.
    """
    if engine_for(connection.provider).is_configured(connection.channel):
        poll(connection)
        return current_state(connection)
    return stored_state(connection)


def connect(connection: Connection, *, user: User | None = None) -> SessionState:
    """Connect the session, and keep it connected. Returns the new state.

    What takes long goes on after the answer. Raises SessionRefused (409 not_configured; 502 with
    the field to correct if the server did not do it).
    """
    configured(connection).connect(connection, user=user)
    return current_state(connection)


def confirm_number(
    connection: Connection, number: str, *, user: User | None = None
) -> SessionState:
    """Record a person's confirmation of the linked number, and poll again.

    `number` is the one shown to the person. Raises SessionRefused (409 not_configured, or
    nothing_to_confirm if no number or a different one is awaiting confirmation).
    """
    configured(connection)
    try:
        number_confirmation.confirm(
            connection.channel, connection.provider, number, user_id=user.pk if user else None
        )
    except ConfirmationRefused as error:
        raise SessionRefused("nothing_to_confirm", str(error)) from None
    return state(connection)


def qr(connection: Connection) -> QrCode:
    """Return the code that can be scanned now, drawn as SVG.

    An expired code is never returned; a new one is requested instead. Raises SessionRefused
    (409 qr_not_ready or not_configured; 502 if the server cannot be reached).
    """
    engine = configured(connection)
    observation, _action = poll(connection, with_code=True)
    observed = current_state(connection)
    if observed.state == State.QR and observation.qr:
        now = timezone.now()
        seen_at = observed.qr_seen_at or now
        age = max((now - seen_at).total_seconds(), 0.0)
        pairing = getattr(observation, "pairing_code", "")
        return QrCode(observation.qr, draw(observation.qr), seen_at, age, pairing)
    engine.replace_expired_qr(connection, observed.code)
    if observed.field:
        raise refusal_of(observed)
    raise SessionRefused("qr_not_ready", _("The QR code is not ready or has been scanned already"))


def draw(text: str) -> str:
    """Return a QR code as an SVG element without a fixed size, always black on white."""
    code = segno.make(text, error="l", boost_error=False, micro=False)
    return str(code.svg_inline(border=4, omitsize=True, dark="#000", light="#fff", svgclass="qr"))


def pairing_code(connection: Connection, phone_number: str) -> str:
    """Return the code to enter on the phone instead of scanning.

    Raises SessionRefused (400 invalid_number; 409 qr_not_ready if the session is not waiting for a
    phone, or not_configured; 502 if the server returned no code).
    """
    engine = configured(connection)
    digits = re.sub(r"[\s().+-]", "", phone_number)
    if not re.fullmatch(r"[1-9]\d{7,14}", digits):
        raise invalid_number()
    return engine.pairing_code(connection, digits)


def refusal_of(observed: SessionState) -> SessionRefused:
    """Return the refusal for a session whose state prevents what was asked."""
    return SessionRefused(observed.code, observed.detail, status=502, field=observed.field)


def invalid_number() -> SessionRefused:
    text = _("Enter the phone's number with country and area code.")
    return SessionRefused("invalid_number", text, status=400, field="phone_number")


def not_waiting_for_phone() -> SessionRefused:
    return SessionRefused("qr_not_ready", _("The session is not waiting for a phone."))


def probe(connection_id: int) -> Observation | None:
    """Poll one session, store the observation and run the recovery action, if any.

    Returns the observation, or None if the channel has no complete settings.
    """
    rows = Connection.objects.select_related("channel")
    connection = rows.filter(pk=connection_id).first()
    if connection is None:
        return None
    engine = engine_for(connection.provider)
    if not engine.is_configured(connection.channel):
        return None
    with_code = engine.wants_code(connection, timezone.now())
    observation, action = poll(connection, with_code=with_code, recover=True)
    engine.after_probe(connection, observation)
    if action != RecoveryAction.NONE:
        engine.recover(connection, action)
    return observation


def poll(
    connection: Connection, *, with_code: bool = False, recover: bool = False
) -> tuple[Observation, RecoveryAction]:
    """Poll the server and store the observation. Never raises because of the server.

    What could be recovered without a person is otherwise left to the next probe.
    """
    engine = engine_for(connection.provider)
    polled_at = timezone.now()
    records.lease(connection, polled_at)
    observation = engine.poll(connection, with_code=with_code)
    action = observations.record_observation(
        connection, observation,
        polled_at=polled_at, recover=recover or engine.recovers_in_a_job,
    )  # fmt: skip
    return observation, action
