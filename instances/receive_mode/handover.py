"""Webhook or WebSocket: the handover between them.

Make before break: the new mode is set up and verified before the old one is disabled. The journal
stores events once that arrive by both modes in between. Each phase is recorded before it runs and
can run again, so `resume` completes or undoes the handover of a dead process. A PostgreSQL lock,
which ends with its process, prevents two processes from running the same handover.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from channels_app.incidents import incidents
from channels_app.incidents.reason_text import describe, describe_failure, encode_failure
from channels_app.models import Incident
from channels_app.providers.evolution.receive_mode import (
    EvolutionFailed,
    EvolutionInstance,
    WebhookConfig,
    WebsocketConfig,
    has_own_namespace,
)
from instances import live
from instances.connections.probe_requests import request_probe
from instances.listener import locks, registry
from instances.models import Difference, Mode, ReceiveModeChange, WhatsAppSession
from instances.receive_mode import backfill

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

Phase = WhatsAppSession.Phase
Source = ReceiveModeChange.Source
Result = ReceiveModeChange.Result

# The events Alterna processes. REMOVE_INSTANCE is omitted on purpose: Evolution delays the deletion
# of an instance until that event is delivered (docs/providers/evolution.md §1).
EVENTS = (
    "MESSAGES_UPSERT",
    # The history after linking. 2.4's MESSAGING_HISTORY_SET is omitted: 2.3 rejects the whole list
    # if it contains an unknown name (§3, §8).
    "MESSAGES_SET",
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

# Seconds to wait for the socket to open before the result is "pending".
JOIN_PATIENCE = 3.0
LOCK_PATIENCE = 1.0
_POLL = 0.02


class SwitchRefused(Exception):
    """The switch did not start or was undone: the old mode is unchanged. `str()` is the reason.

    `status` is the HTTP status of the REST contract: 409 while another switch runs, 502 if
    Evolution failed, 503 without a running listener. `failure` is Evolution's error in
    `inspect_remote`; `differs` lists the differences from the agreed settings.
    """

    def __init__(
        self,
        status: int,
        text: str,
        *,
        failure: EvolutionFailed | None = None,
        differs: tuple[Difference, ...] = (),
    ) -> None:
        super().__init__(text)
        self.status = status
        self.failure = failure
        self.differs = differs


@dataclass(frozen=True, slots=True)
class SwitchResult:
    """`pending`: the handover waits for the socket and then finishes; the webhook stays on."""

    mode: Mode
    previous: Mode | None
    pending: bool = False


def enable_webhook(
    session: WhatsAppSession, *, base64: bool, source: str, user: User | None, detail: str = ""
) -> SwitchResult:
    """Switch to webhook mode. Raises SwitchRefused.

    `detail`: the reason, as a code for the history.
    """
    with locked(session) as lock:
        return _enable_webhook(
            session, lock, base64=base64, source=source, user=user, detail=detail
        )


def _enable_webhook(
    session: WhatsAppSession,
    lock: locks.Lock,
    *,
    base64: bool,
    source: str,
    user: User | None,
    detail: str = "",
) -> SwitchResult:
    session, is_new = _claim(
        session, Mode.WEBHOOK, source=source, user=user, base64=base64, detail=detail
    )
    return _advance(session, lock, patience=0, is_new=is_new)


def enable_websocket(
    session: WhatsAppSession, *, source: str, user: User | None, detail: str = ""
) -> SwitchResult:
    """Switch to WebSocket mode; pending until the socket opens.

    `detail`: the reason, as a code for the history. Raises SwitchRefused.
    """
    if not registry.is_running():
        raise SwitchRefused(
            503, _("No listener is running, so WebSocket events would not be received.")
        )
    if not (session.global_events or has_own_namespace(session.name)):
        raise SwitchRefused(409, describe("socket_unjoinable"))
    with locked(session) as lock:
        session, is_new = _claim(session, Mode.WEBSOCKET, source=source, user=user, detail=detail)
        # Listeners join while we configure Evolution.
        registry.wake()
        return _advance(session, lock, patience=JOIN_PATIENCE, is_new=is_new)


def configure_default(session_id: int, *, user: User | None = None) -> None:
    """Set webhook mode for a session without a mode. Raises SwitchRefused.

    A mode that was chosen in the meantime is left unchanged.
    """
    session = WhatsAppSession.objects.loaded(pk=session_id)
    if session is None:
        return
    with locked(session) as lock:
        session.refresh_from_db()
        if session.mode is None:
            _enable_webhook(
                session, lock, base64=session.wants_base64, source=Source.COMMAND, user=user
            )


def cancel(session: WhatsAppSession, *, user: User | None) -> None:
    """Cancel a pending handover, restore the old mode. Raises SwitchRefused if none is pending."""
    with locked(session) as lock:
        session.refresh_from_db()
        if session.switching_phase != Phase.JOINING:
            raise SwitchRefused(409, _("No switch is pending."))
        if session.switching_change is not None:
            session.switching_change.cancelled_by = user
            session.switching_change.save(update_fields=["cancelled_by"])
        failure = _undo(session, lock, result=Result.CANCELED, reason="cancelled_by_person")
        if failure is not None:
            raise SwitchRefused(502, describe_failure(failure))


def forget(session: WhatsAppSession) -> None:
    """Clear the agreed mode after the instance and its settings were deleted.

    The caller holds the handover lock (`locked`).
    """
    ReceiveModeChange.objects.filter(session=session, finished_at=None).update(
        result=Result.CANCELED, detail="instance_deleted", finished_at=timezone.now()
    )
    WhatsAppSession.objects.filter(pk=session.pk).update(
        webhook_enabled=False,
        websocket_enabled=False,
        webhook_url=None,
        webhook_base64=None,
        found_webhook=None,
        found_websocket=None,
        found_at=None,
        found_error="",
        in_sync=None,
        found_differs="",
        listener_connected=False,
        gap_since=None,
        gap_fetch_at=None,
        gap_reason="",
        gap_error="",
        **_NO_SWITCH,
    )
    incidents.close_silently(session.connection, kind=Incident.Kind.RECEIVE_MODE)
    registry.wake()


def resume(session_id: int) -> None:
    """Continue a handover that is waiting or whose process died.

    Does nothing if another process is running it, or if none is in progress.
    """
    session = WhatsAppSession.objects.loaded(pk=session_id)
    if session is None or not session.switching_to:
        return
    with contextlib.suppress(SwitchRefused), locked(session, patience=0) as lock:
        session.refresh_from_db()
        if session.switching_to:
            _advance(session, lock, patience=0, is_new=False)


def repair(
    session: WhatsAppSession, *, keep: str, user: User | None, detail: str = ""
) -> SwitchResult:
    """Bring database and Evolution into agreement; `keep` names the side that is right.

    `user` is None for automatic repairs; `detail` is a code for the history.

    Raises SwitchRefused, also if Evolution has both modes on, none, or the agreed one: then there
    is nothing to keep.
    """
    wanted, base64 = session.mode or Mode.WEBHOOK, session.wants_base64
    if keep == "evolution":
        remote = inspect_remote(session)
        if remote.webhook.enabled == remote.websocket.enabled:
            raise SwitchRefused(
                409,
                _(
                    "Evolution has both modes enabled, or neither. "
                    "Apply Alterna's settings instead."
                ),
            )
        if remote.differs is not None and Difference.MODE not in remote.differs:
            text = _(
                "Evolution already has the configured mode. For other settings, only Alterna's "
                "can be applied."
            )
            raise SwitchRefused(409, text)
        wanted = Mode.WEBHOOK if remote.webhook.enabled else Mode.WEBSOCKET
        base64 = remote.webhook.base64
    if wanted == Mode.WEBHOOK:
        return enable_webhook(
            session, base64=base64, source=Source.REPAIR, user=user, detail=detail
        )
    return enable_websocket(session, source=Source.REPAIR, user=user, detail=detail)


# --- the actual state of Evolution ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RemoteState:
    """Evolution's settings for both modes and their differences from the agreed settings.

    `differs` is None during a switch, when they cannot be compared.
    """

    webhook: WebhookConfig
    websocket: WebsocketConfig
    differs: tuple[Difference, ...] | None

    @property
    def in_sync(self) -> bool | None:
        return None if self.differs is None else not self.differs


def inspect_remote(session: WhatsAppSession, *, timeout: float = 4.0) -> RemoteState:
    """Request Evolution's settings for both modes and store them. Raises SwitchRefused (502).

    A missing instance counts as a difference. `session` is refreshed if a handover changed it in
    the meantime.
    """
    for _attempt in range(3):
        before = _mode_snapshot(session)
        instance = EvolutionInstance(session.credentials, timeout=timeout)
        try:
            webhook, websocket = instance.webhook(), instance.websocket()
        except EvolutionFailed as error:
            values: dict[str, Any] = {"found_error": encode_failure(error)}
            differs: tuple[Difference, ...] = ()
            if error.code == "instance_missing" and session.mode is not None:
                differs = (Difference.INSTANCE,)
                values |= {"found_webhook": None, "found_websocket": None, "in_sync": False}
                values |= {"found_differs": ",".join(differs)}
            _store_remote_state(session, before, **values)
            if not error.answered:
                request_probe(session.pk)
            raise SwitchRefused(
                502, describe_failure(error), failure=error, differs=differs
            ) from None
        remote = RemoteState(webhook, websocket, _differences(session, webhook, websocket))
        if _store_remote_state(
            session,
            before,
            found_webhook=webhook.enabled,
            found_websocket=websocket.enabled,
            found_error="",
            in_sync=remote.in_sync,
            found_differs=",".join(remote.differs or ()),
        ):
            break
        session.refresh_from_db()
    return remote


def _mode_snapshot(session: WhatsAppSession) -> tuple[Any, ...]:
    """Return a snapshot of the values that every step of a handover changes."""
    newest = session.mode_changes.order_by("-pk").values_list("pk", flat=True).first()
    return (
        *(session.webhook_enabled, session.websocket_enabled, session.webhook_url),
        *(session.webhook_base64, session.switching_to, session.switching_phase, newest),
    )


def _differences(
    session: WhatsAppSession, webhook: WebhookConfig, websocket: WebsocketConfig
) -> tuple[Difference, ...] | None:
    joining = session.switching_phase == Phase.JOINING
    if session.switching_to and not joining:
        return None
    # While waiting for the socket, both are on. A webhook that was not agreed is ignored then.
    by_webhook, by_websocket = session.webhook_enabled, session.websocket_enabled or joining
    theirs = webhook.enabled if session.mode is not None or not joining else by_webhook
    differences = []
    if (theirs, websocket.enabled) != (by_webhook, by_websocket):
        differences.append(Difference.MODE)
    if by_webhook and webhook.enabled:
        differences += _webhook_differences(session, webhook, base64=bool(session.webhook_base64))
    if by_websocket and websocket.enabled and not websocket.events >= set(EVENTS):
        differences.append(Difference.SOCKET_EVENTS)
    return tuple(differences)


def _webhook_differences(
    session: WhatsAppSession, webhook: WebhookConfig, *, base64: bool
) -> list[Difference]:
    """Return why events may not reach us; our own address may have changed, too."""
    differs = {
        Difference.ADDRESS: webhook.url != webhook_address(),
        Difference.SECRET: not webhook.sends(session.secret_header),
        Difference.EVENTS: not webhook.events >= set(EVENTS),
        Difference.BY_EVENTS: webhook.by_events,
        Difference.BASE64: webhook.base64 != base64,
    }
    return [difference for difference, differs_now in differs.items() if differs_now]


def _store_remote_state(session: WhatsAppSession, before: tuple[Any, ...], **values: Any) -> bool:
    """Store the remote settings, unless a handover progressed and made them outdated."""
    values["found_at"] = timezone.now()
    with transaction.atomic():
        stored = WhatsAppSession.objects.lock(pk=session.pk)
        if stored is None or _mode_snapshot(stored) != before:
            return False
        WhatsAppSession.objects.filter(pk=session.pk).update(**values)
        _process_findings(stored, values)
    for name, value in values.items():
        setattr(session, name, value)
    displayed = ("in_sync", "found_error", "found_differs")
    if any(getattr(session, name) != getattr(stored, name) for name in displayed):
        if session.in_sync is False and stored.in_sync is not False:
            log.warning(
                "receive mode drifted",
                instance=session.name,
                mode=session.mode,
                webhook=session.found_webhook,
                websocket=session.found_websocket,
                differs=session.found_differs,
            )
        live.session_changed(session)
    return True


_DRIFT_CODES: dict[Difference, str] = {
    Difference.INSTANCE: "instance_gone",
    Difference.MODE: "drift_mode",
    Difference.BASE64: "drift_base64",
    Difference.SOCKET_EVENTS: "drift_websocket",
}


def drift_code(differs: Sequence[Difference]) -> str:
    """Return the incident reason for a drift: a key of `states.SENTENCES`."""
    return _DRIFT_CODES.get(differs[0], "drift_webhook") if differs else ""


def _process_findings(before: WhatsAppSession, values: dict[str, Any]) -> None:
    """Open or close the drift incident, and request a backfill if messages may be missing.

    It runs in the transaction that stores the settings; `before` is the row before that.
    """
    now, kind = timezone.now(), Incident.Kind.RECEIVE_MODE
    if before.found_error and values.get("found_error") == "":
        backfill.request(before.pk, reason=backfill.Reason.UNREACHABLE)
    if values.get("in_sync") is False:
        if not incidents.current(before.connection).filter(kind=kind).exists():
            differs = [Difference(code) for code in values["found_differs"].split(",")]
            incidents.open_or_update(
                before.connection, kind=kind, reason=drift_code(differs), detail="", at=now
            )
        if before.in_sync is not False:
            backfill.request(before.pk, reason=backfill.Reason.DRIFT)
    elif values.get("in_sync") is True:
        incidents.mark_recovered(before.connection, kind=kind, at=now)
        if before.in_sync is False:
            # Somebody else repaired it: what came until then may have been lost.
            backfill.request(before.pk, reason=backfill.Reason.DRIFT)


# --- the handover ---------------------------------------------------------------------------------


@contextlib.contextmanager
def locked(session: WhatsAppSession, *, patience: float = LOCK_PATIENCE) -> Iterator[locks.Lock]:
    """Hold the handover lock of this session. Raises SwitchRefused (409) if another process does.

    `patience`: seconds to wait for a process that only checks, as the periodic jobs often do.
    """
    deadline = time.monotonic() + patience
    with contextlib.ExitStack() as stack:
        while True:
            try:
                lock = stack.enter_context(locks.held(locks.HANDOVER, session.pk))
                break
            except locks.LockUnavailable:
                if time.monotonic() > deadline or _is_switching(session):
                    text = _("A switch is already in progress for this session.")
                    raise SwitchRefused(409, text) from None
                time.sleep(_POLL)
        yield lock


def _is_switching(session: WhatsAppSession) -> bool:
    """Return whether the process that holds the lock is switching, not only checking."""
    running = WhatsAppSession.objects.filter(pk=session.pk).exclude(switching_to="")
    return running.exclude(switching_phase=Phase.JOINING).exists()


def _claim(
    session: WhatsAppSession,
    to: Mode,
    *,
    source: str,
    user: User | None,
    base64: bool | None = None,
    detail: str = "",
) -> tuple[WhatsAppSession, bool]:
    """Record the start of a handover. Raises SwitchRefused (409) while another one runs.

    An unfinished undo does not block it: the new handover sets everything that the undo would set.
    Also returns whether there was no such undo, so that Evolution has nothing to undo.
    """
    with transaction.atomic():
        session = (
            WhatsAppSession.objects.select_for_update(of=("self",))
            .select_related("channel__evolution")
            .get(pk=session.pk)
        )
        if session.switching_to and session.switching_phase != Phase.UNDOING:
            raise SwitchRefused(409, _("A switch is already in progress for this session."))
        is_new = not session.switching_to
        _end_change(session)
        change = ReceiveModeChange.objects.create(
            session=session,
            from_mode=session.mode or "",
            to_mode=to,
            source=source,
            user=user,
            detail=detail,
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
        if session.caught_up_at is None:
            # From now on everything must be stored.
            values["caught_up_at"] = values["proven_at"] = timezone.now()
        _write(session, **values)
    return session, is_new


def _advance(
    session: WhatsAppSession, lock: locks.Lock, *, patience: float, is_new: bool
) -> SwitchResult:
    """Run the phases from the current one on. Raises SwitchRefused after an undo.

    `patience`: seconds to wait for the socket. `is_new`: no step has run yet.
    """
    previous = session.mode
    to = Mode(session.switching_to)
    if session.switching_phase == Phase.UNDOING:
        _undo(session, lock)
        raise SwitchRefused(502, _("The switch failed and was reverted."))
    try:
        if session.switching_phase == Phase.PREPARING:
            try:
                _PREPARE[to](session)
            except EvolutionFailed as error:
                if is_new and error.changed_nothing:
                    _begin_undo(session, Result.UNDONE, encode_failure(error))
                    _end_undo(session, untouched=True)
                    raise SwitchRefused(502, describe_failure(error)) from None
                raise
            _write(
                session,
                switching_phase=Phase.JOINING if to == Mode.WEBSOCKET else Phase.DISABLING_OLD,
            )
        if to == Mode.WEBSOCKET and not _wait_for_join(session, patience):
            if session.switching_phase == Phase.JOINING:
                return SwitchResult(to, previous, pending=True)
            # The process died while disabling the webhook, and no listener is joined now.
            raise EvolutionFailed("not_joined")
        if session.switching_phase == Phase.JOINING:
            _write(session, switching_phase=Phase.DISABLING_OLD)
        lock.check()
        _DISABLE_OLD[to](session)
        lock.check()
    except EvolutionFailed as error:
        _undo(session, lock, result=Result.UNDONE, reason=encode_failure(error))
        raise SwitchRefused(502, describe_failure(error)) from None
    _finish(session, to)
    return SwitchResult(to, previous)


def _prepare_webhook(session: WhatsAppSession) -> None:
    EvolutionInstance(session.credentials).set_webhook(
        url=webhook_address(),
        secret_header=session.secret_header,
        base64=session.wants_base64,
        events=EVENTS,
    )


def _prepare_websocket(session: WhatsAppSession) -> None:
    EvolutionInstance(session.credentials).set_websocket(enabled=True, events=EVENTS)


def _wait_for_join(session: WhatsAppSession, patience: float) -> bool:
    """Wait until the listener reports that it joined the namespace."""
    deadline = time.monotonic() + patience
    while True:
        session.refresh_from_db(fields=["listener_connected", "listener_seen_at"])
        if session.listener_connected and registry.is_fresh(session.listener_seen_at):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL)


def _disable_webhook(session: WhatsAppSession) -> None:
    """Check that the WebSocket is on, disable the webhook, and verify the result."""
    instance = EvolutionInstance(session.credentials)
    websocket = instance.websocket()
    if not websocket.enabled or not websocket.events >= set(EVENTS):
        raise EvolutionFailed("refused", reason="websocket_not_kept")
    instance.disable_webhook()
    if instance.webhook().enabled:
        raise EvolutionFailed("refused", reason="webhook_still_on")


def _disable_websocket(session: WhatsAppSession) -> None:
    """Check that the webhook is on, disable the WebSocket, and verify the result."""
    instance = EvolutionInstance(session.credentials)
    webhook = instance.webhook()
    if not webhook.enabled or _webhook_differences(session, webhook, base64=session.wants_base64):
        raise EvolutionFailed("refused", reason="webhook_not_kept")
    instance.set_websocket(enabled=False)
    if instance.websocket().enabled:
        raise EvolutionFailed("refused", reason="websocket_still_on")


_PREPARE: dict[Mode, Callable[[WhatsAppSession], None]] = {
    Mode.WEBHOOK: _prepare_webhook,
    Mode.WEBSOCKET: _prepare_websocket,
}
_DISABLE_OLD: dict[Mode, Callable[[WhatsAppSession], None]] = {
    Mode.WEBHOOK: _disable_websocket,
    Mode.WEBSOCKET: _disable_webhook,
}


def _finish(session: WhatsAppSession, mode: Mode) -> None:
    by_webhook = mode == Mode.WEBHOOK
    with transaction.atomic():
        _end_change(session, Result.DONE)
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
            found_differs="",
            **_NO_SWITCH,
        )
        incidents.mark_recovered(
            session.connection, kind=Incident.Kind.RECEIVE_MODE, at=timezone.now()
        )
        # Fetch events sent while one mode was off and the other not on yet.
        backfill.request(session.pk, reason=backfill.Reason.SWITCH)
    log.info("receive mode switched", instance=session.name, mode=mode.value)
    registry.wake()


def _undo(
    session: WhatsAppSession, lock: locks.Lock, *, result: str = "", reason: str = ""
) -> EvolutionFailed | None:
    """Restore the agreed mode on Evolution.

    A failed undo is retried later: then the reason is returned.
    """
    if session.switching_phase != Phase.UNDOING:
        _begin_undo(session, result, reason)
    instance = EvolutionInstance(session.credentials)
    try:
        lock.check()
        if session.mode == Mode.WEBHOOK:
            instance.set_webhook(
                url=webhook_address(),
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
        webhook, websocket = instance.webhook(), instance.websocket()
        on = (webhook.enabled, websocket.enabled)
        if on != (session.webhook_enabled, session.websocket_enabled):
            raise EvolutionFailed("refused", reason="mode_not_undone")
    except EvolutionFailed as error:
        if error.code != "instance_missing":
            log.warning("switch not undone yet", instance=session.name, error=encode_failure(error))
            return error
        # The settings were deleted with the instance: there is nothing to undo.
        _end_undo(session, untouched=True)
        return None
    url = webhook_address() if session.webhook_enabled else None
    _end_undo(session, webhook_url=url, in_sync=None, found_differs="")
    return None


def _begin_undo(session: WhatsAppSession, result: str, reason: str) -> None:
    with transaction.atomic():
        if session.switching_change is not None:
            session.switching_change.result = result
            session.switching_change.detail = reason[:500]
            session.switching_change.save(update_fields=["result", "detail"])
        _write(session, switching_phase=Phase.UNDOING)


def _end_undo(session: WhatsAppSession, *, untouched: bool = False, **values: Any) -> None:
    """Finish the undo. `untouched`: nothing was changed on Evolution."""
    change = session.switching_change
    with transaction.atomic():
        _end_change(session)
        _write(session, **values, **_NO_SWITCH)
        if not untouched:
            # The agreed mode may have been off for a moment.
            backfill.request(session.pk, reason=backfill.Reason.SWITCH)
    log.info("switch undone", instance=session.name, reason=change.detail if change else "")
    registry.wake()


_NO_SWITCH: dict[str, Any] = {
    "switching_to": "",
    "switching_phase": "",
    "switching_since": None,
    "switching_change": None,
}


def _end_change(session: WhatsAppSession, result: str = "") -> None:
    """Close the session's open change record, if any."""
    change = session.switching_change
    if change is not None:
        change.result = result or change.result
        change.finished_at = timezone.now()
        change.save(update_fields=["result", "finished_at"])


def _write(session: WhatsAppSession, **values: Any) -> None:
    for name, value in values.items():
        setattr(session, name, value)
    session.save(update_fields=list(values))
    live.session_changed(session)


def webhook_address() -> str:
    """The address that Evolution delivers to."""
    return f"{settings.PUBLIC_URL}/api/webhooks/evolution"
