"""Webhook or WebSocket: the handover between them.

Make before break: the new way is set up and proven before the old one is switched off, and what
comes by both ways in between is stored once by the journal. Each phase is written down before it
is run and may be run again, so a process that dies leaves a handover that `resume` completes or
undoes. An advisory lock of PostgreSQL, which dies with its process, keeps two processes apart.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app.providers.evolution_instance import (
    EvolutionFailed,
    EvolutionInstance,
    WebhookConfig,
    WebsocketConfig,
)
from instances import listeners, live
from instances.models import Mode, ReceiveModeChange, WhatsAppSession

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

Phase = WhatsAppSession.Phase
Source = ReceiveModeChange.Source
Result = ReceiveModeChange.Result

# What Alterna reads. REMOVE_INSTANCE is left out on purpose: Evolution holds back the deletion of
# an instance until that event was delivered (contracts/evolution-api.md §1).
EVENTS = (
    "MESSAGES_UPSERT",
    "MESSAGES_UPDATE",
    "MESSAGES_EDITED",
    "MESSAGES_DELETE",
    "SEND_MESSAGE",
    "SEND_MESSAGE_UPDATE",
    "CONTACTS_UPSERT",
    "CONTACTS_UPDATE",
    "CONNECTION_UPDATE",
    "QRCODE_UPDATED",
    "CALL",
    "LOGOUT_INSTANCE",
    "STATUS_INSTANCE",
)

# Seconds that a caller waits for the socket to open before the answer is "pending".
JOIN_PATIENCE = 3.0
_POLL = 0.02
_LOCK_CLASS = 0x4D4F_4445


class SwitchRefused(Exception):
    """The switch was not begun, or was undone: the old mode is as it was. `str()` says why.

    `status` is the HTTP status of the REST contract: 409 while another switch runs, 502 where
    Evolution did not do what was asked, 503 without a running listener.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Switched:
    """`pending`: the handover waits for the socket and finishes by itself; the webhook stays on."""

    mode: Mode
    previous: Mode | None
    pending: bool = False


def enable_webhook(
    session: WhatsAppSession, *, base64: bool, source: str, user: User | None
) -> Switched:
    """Deliver by webhook from now on. Raises SwitchRefused."""
    with _locked(session):
        session = _claim(session, Mode.WEBHOOK, source=source, user=user, base64=base64)
        return _advance(session, patience=0)


def enable_websocket(session: WhatsAppSession, *, source: str, user: User | None) -> Switched:
    """Deliver by WebSocket from now on; pending while its socket cannot open.

    Raises SwitchRefused.
    """
    if not listeners.is_running():
        raise SwitchRefused(503, _("No listener is running, so the WebSocket would not be heard."))
    with _locked(session):
        session = _claim(session, Mode.WEBSOCKET, source=source, user=user)
        return _advance(session, patience=JOIN_PATIENCE)


def cancel(session: WhatsAppSession) -> None:
    """End a pending handover and go back. Raises SwitchRefused when none is pending."""
    with _locked(session):
        session.refresh_from_db()
        if session.switching_phase != Phase.JOINING:
            raise SwitchRefused(409, _("No switch is waiting."))
        _undo(session, Result.CANCELLED, _("Cancelled by a person."))


def resume(session_id: int) -> None:
    """Go on with a handover that no process is at: one that waits, or whose process died.

    Does nothing where another process is at it, or where none is under way.
    """
    session = WhatsAppSession.objects.select_related("channel").filter(pk=session_id).first()
    if session is None:
        return
    with contextlib.suppress(SwitchRefused), _locked(session):
        session.refresh_from_db()
        if session.switching_to:
            _advance(session, patience=0)


def repair(session: WhatsAppSession, *, keep: str, user: User | None) -> Switched:
    """Make database and Evolution agree again: `keep` says which of the two is right.

    Raises SwitchRefused, also where Evolution has both or neither and so cannot be kept.
    """
    if keep == "database":
        wanted = session.mode or Mode.WEBHOOK
    else:
        found = find(session)
        if found.webhook.enabled == found.websocket.enabled:
            raise SwitchRefused(409, _("Evolution has both ways on, or none: keep ours instead."))
        wanted = Mode.WEBHOOK if found.webhook.enabled else Mode.WEBSOCKET
    if wanted == Mode.WEBHOOK:
        return enable_webhook(session, base64=session.wants_base64, source=Source.REPAIR, user=user)
    return enable_websocket(session, source=Source.REPAIR, user=user)


# --- what Evolution really does -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What `find` says of both ways, and whether it is what the database says."""

    webhook: WebhookConfig
    websocket: WebsocketConfig
    in_sync: bool


def find(session: WhatsAppSession, *, timeout: float = 4.0) -> Found:
    """Ask Evolution for both ways and store the answer. Raises SwitchRefused (502)."""
    instance = EvolutionInstance(session.channel, timeout=timeout)
    try:
        webhook, websocket = instance.webhook(), instance.websocket()
    except EvolutionFailed as error:
        _note_found(session, found_error=str(error)[:300])
        raise SwitchRefused(502, str(error)) from None
    found = Found(webhook, websocket, _agrees(session, webhook, websocket))
    _note_found(
        session,
        found_webhook=webhook.enabled,
        found_websocket=websocket.enabled,
        found_error="",
        in_sync=found.in_sync,
    )
    return found


def _agrees(session: WhatsAppSession, webhook: WebhookConfig, websocket: WebsocketConfig) -> bool:
    if session.switching_to:
        # Both may be on during a handover; the old one must be.
        return webhook.enabled if session.webhook_enabled else True
    if session.webhook_enabled:
        return not websocket.enabled and _webhook_is_ours(session, webhook)
    if session.websocket_enabled:
        return not webhook.enabled and websocket.enabled and websocket.events >= set(EVENTS)
    return not webhook.enabled and not websocket.enabled


def _webhook_is_ours(session: WhatsAppSession, webhook: WebhookConfig) -> bool:
    return webhook.delivers_to(
        session.webhook_url or "", secret_header=session.secret_header, events=EVENTS
    ) and webhook.base64 == bool(session.webhook_base64)


def _note_found(session: WhatsAppSession, **values: Any) -> None:
    before = (session.in_sync, session.found_error)
    values["found_at"] = timezone.now()
    for name, value in values.items():
        setattr(session, name, value)
    WhatsAppSession.objects.filter(pk=session.pk).update(**values)
    if (session.in_sync, session.found_error) != before:
        if session.in_sync is False:
            log.warning("receive mode drifted", instance=session.name, mode=session.mode)
        live.session_changed(session)


# --- the handover ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(session: WhatsAppSession) -> Iterator[None]:
    """Hold the handover of this session. Raises SwitchRefused (409) where another process does.

    The lock belongs to the database connection, and so ends with the process.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [_LOCK_CLASS, session.pk])
        (held,) = cursor.fetchone()
    if not held:
        raise SwitchRefused(409, _("This session is being switched already."))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [_LOCK_CLASS, session.pk])


def _claim(
    session: WhatsAppSession,
    to: Mode,
    *,
    source: str,
    user: User | None,
    base64: bool | None = None,
) -> WhatsAppSession:
    """Write down that a handover begins. Raises SwitchRefused (409) while one is under way."""
    with transaction.atomic():
        session = (
            WhatsAppSession.objects.select_for_update(of=("self",))
            .select_related("channel")
            .get(pk=session.pk)
        )
        if session.switching_to:
            raise SwitchRefused(409, _("This session is being switched already."))
        change = ReceiveModeChange.objects.create(
            session=session,
            from_mode=session.mode or "",
            to_mode=to,
            source=source,
            user=user,
        )
        values: dict[str, Any] = {
            "switching_to": to,
            "switching_phase": Phase.PREPARING,
            "switching_since": timezone.now(),
            "switching_change": change,
        }
        if base64 is not None:
            values["wants_base64"] = base64
        if to == Mode.WEBSOCKET and session.mode != Mode.WEBSOCKET:
            values["listener_connected"] = False
        _write(session, **values)
    return session


def _advance(session: WhatsAppSession, *, patience: float) -> Switched:
    """Run the phases from the present one on. Raises SwitchRefused once all was undone.

    `patience` is how long to wait for the socket (seconds).
    """
    previous = session.mode
    to = Mode(session.switching_to)
    if session.switching_phase == Phase.UNDOING:
        _undo(session, Result.UNDONE, "")
        raise SwitchRefused(502, _("The switch failed and was undone."))
    try:
        if session.switching_phase == Phase.PREPARING:
            _PREPARE[to](session)
        if session.switching_phase == Phase.JOINING and not _joined(session, patience):
            return Switched(to, previous, pending=True)
        _write(session, switching_phase=Phase.CUTTING)
        _CUT[to](session)
    except EvolutionFailed as error:
        text = str(error)
        _undo(session, Result.UNDONE, text)
        raise SwitchRefused(502, text) from None
    _finish(session, to)
    return Switched(to, previous)


def _prepare_webhook(session: WhatsAppSession) -> None:
    instance = EvolutionInstance(session.channel)
    instance.set_webhook(
        url=webhook_address(),
        secret_header=session.secret_header,
        base64=session.wants_base64,
        events=EVENTS,
    )
    found = instance.webhook()
    if not found.delivers_to(webhook_address(), secret_header=session.secret_header, events=EVENTS):
        raise EvolutionFailed("refused", _("Evolution did not keep the webhook that was set."))


def _prepare_websocket(session: WhatsAppSession) -> None:
    EvolutionInstance(session.channel).set_websocket(enabled=True, events=EVENTS)
    _write(session, switching_phase=Phase.JOINING)
    listeners.wake()


def _joined(session: WhatsAppSession, patience: float) -> bool:
    """Wait for the listener's word that it is in the namespace."""
    deadline = time.monotonic() + patience
    while True:
        session.refresh_from_db(fields=["listener_connected", "listener_seen_at"])
        if session.listener_connected and listeners.is_fresh(session.listener_seen_at):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)


def _cut_webhook(session: WhatsAppSession) -> None:
    """WebSocket is proven: switch the webhook off and look that this is what Evolution has."""
    instance = EvolutionInstance(session.channel)
    instance.disable_webhook()
    if instance.webhook().enabled or not instance.websocket().enabled:
        raise EvolutionFailed("refused", _("Evolution did not switch the webhook off."))


def _cut_websocket(session: WhatsAppSession) -> None:
    instance = EvolutionInstance(session.channel)
    instance.set_websocket(enabled=False)
    if instance.websocket().enabled:
        raise EvolutionFailed("refused", _("Evolution did not switch the WebSocket off."))


_PREPARE: dict[Mode, Callable[[WhatsAppSession], None]] = {
    Mode.WEBHOOK: _prepare_webhook,
    Mode.WEBSOCKET: _prepare_websocket,
}
_CUT: dict[Mode, Callable[[WhatsAppSession], None]] = {
    Mode.WEBHOOK: _cut_websocket,
    Mode.WEBSOCKET: _cut_webhook,
}


def _finish(session: WhatsAppSession, mode: Mode) -> None:
    by_webhook = mode == Mode.WEBHOOK
    with transaction.atomic():
        _close_change(session, Result.DONE, "")
        _write(
            session,
            webhook_enabled=by_webhook,
            websocket_enabled=not by_webhook,
            webhook_url=webhook_address() if by_webhook else None,
            webhook_base64=session.wants_base64 if by_webhook else None,
            found_webhook=by_webhook,
            found_websocket=not by_webhook,
            found_error="",
            found_at=timezone.now(),
            in_sync=True,
            **_NO_SWITCH,
        )
    log.info("receive mode switched", instance=session.name, mode=mode.value)
    listeners.wake()


def _undo(session: WhatsAppSession, result: str, why: str) -> None:
    """Bring Evolution back to the agreed mode. What cannot be undone now is tried again later."""
    _write(session, switching_phase=Phase.UNDOING)
    instance = EvolutionInstance(session.channel)
    try:
        if session.mode == Mode.WEBHOOK:
            instance.set_webhook(
                url=session.webhook_url or webhook_address(),
                secret_header=session.secret_header,
                base64=bool(session.webhook_base64),
                events=EVENTS,
            )
        if session.mode == Mode.WEBSOCKET:
            instance.set_websocket(enabled=True, events=EVENTS)
        if session.mode != Mode.WEBHOOK:
            instance.disable_webhook()
        if session.mode != Mode.WEBSOCKET:
            instance.set_websocket(enabled=False)
    except EvolutionFailed as error:
        log.warning("switch not undone yet", instance=session.name, error=str(error))
        _close_change(session, Result.RUNNING, why or str(error))
        live.session_changed(session)
        return
    with transaction.atomic():
        _close_change(session, result, why)
        _write(session, **_NO_SWITCH)
    log.info("switch undone", instance=session.name, why=why)
    listeners.wake()


_NO_SWITCH: dict[str, Any] = {
    "switching_to": "",
    "switching_phase": "",
    "switching_since": None,
    "switching_change": None,
}


def _close_change(session: WhatsAppSession, result: str, detail: str) -> None:
    change = session.switching_change
    if change is None:
        return
    change.result = result
    change.detail = (detail or change.detail)[:500]
    change.finished_at = None if result == Result.RUNNING else timezone.now()
    change.save()


def _write(session: WhatsAppSession, **values: Any) -> None:
    for name, value in values.items():
        setattr(session, name, value)
    session.save(update_fields=list(values))
    live.session_changed(session)


def webhook_address() -> str:
    """The address that Evolution is told to deliver to."""
    return f"{settings.PUBLIC_URL}/api/webhooks/evolution"
