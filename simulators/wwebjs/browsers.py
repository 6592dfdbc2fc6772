"""The browsers of the simulated wwebjs-api: from QR code to ready, and their failures.

States and transitions: ``docs/providers/wwebjs.md §2``.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import secrets
from collections.abc import Coroutine
from typing import Any, Protocol

from simulators.base import ControlError, JsonObject
from simulators.wwebjs.tables import PROTOCOL_TIMEOUT

ACTIONS = (
    "make_ready",
    "scan",
    "rotate_qr",
    "expire_qr",
    "unlink",
    "unlink_by_reload",
    "conflict",
    "kill_browser",
    "crash_page",
    "freeze_page",
    "lose_link",
    "regain_link",
    "unready",
    "sync",
)


@dataclasses.dataclass(slots=True)
class WwebjsSettings:
    """Durations, texts and switches that configure the simulation.

    ``ready_sessions`` exist, paired and ready, from the start. ``start_failure`` makes every
    start fail: ``network``, ``blank`` (WhatsApp Web does not load) or ``stuck``.
    ``dollar_ids`` simulates a WhatsApp Web build since July 2026 for all numbers. ``echo_url``, the
    ``/_control/echo`` of a simulated Graph API, creates a coexistence number of the two.
    For ``null_qr_seconds`` the first code starts with ``null,`` (§7.2). ``never_ready`` is how many
    times a linked session stays CONNECTED without becoming ready (§7.3). With ``auto_start``,
    sessions with a folder start automatically with the server (§7.7). ``nameless_info``:
    `sessionInfo` has no number. ``error_prefix`` (``Evaluation failed: Error: ``) precedes the text
    of each 500.
    """

    api_key: str = "demo-wwebjs-key"
    base_path: str = ""
    own_number: str = "5511900000001"
    pushname: str = "Clínica Demo"
    ready_sessions: tuple[str, ...] = ()
    webhook_url: str = ""
    disabled_callbacks: tuple[str, ...] = ()
    max_attachment_size: int = 10_000_000
    start_seconds: float = 1.0
    start_failure: str = ""
    blank_seconds: float = 30.0
    pairing_seconds: float = 0.5
    sync_seconds: float = 1.0
    qr_seconds: float = 20.0
    qr_count: int = 6
    send_seconds: float = 0.05
    ack_delay: float = 0.3
    protocol_timeout: float = 180.0
    late_delivery_seconds: float = 20.0
    dollar_ids: bool = False
    recover_sessions: bool = False
    echo_url: str = ""
    error_prefix: str = ""
    null_qr_seconds: float = 0.0
    never_ready: int = 0
    auto_start: bool = True
    nameless_info: bool = False


@dataclasses.dataclass(slots=True)
class Session:
    """One browser in the server's map; ``state`` is that of WhatsApp Web's socket."""

    id: str
    state: str = "OPENING"
    ready: bool = False
    qr: str | None = None
    zombie: bool = False
    # The number of `sessionInfo`: "" before the first `ready`; after a new link in the same
    # browser, the previous number until the page has loaded.
    info_number: str = ""
    # The renderer has crashed or hangs; either way it does not answer the browser (§7.1).
    crashed: bool = False
    frozen: bool = False
    # Delayed transitions stop if this has changed since they began.
    epoch: int = 0


class Spawn(Protocol):
    """Starts work in the background (``Simulator.spawn``)."""

    def __call__(
        self, work: Coroutine[Any, Any, None], *, endless: bool = False
    ) -> asyncio.Task[None]: ...


class PostCallback(Protocol):
    """Posts a callback of a session."""

    def __call__(self, session_id: str, kind: str, data: JsonObject | None = None) -> None: ...


class Browsers:
    """The server's map of sessions, and the logins stored on disk (``paired``)."""

    def __init__(self, settings: WwebjsSettings, spawn: Spawn, post_callback: PostCallback) -> None:
        self.sessions: dict[str, Session] = {}
        self.starting: set[str] = set()
        self.paired: set[str] = set(settings.ready_sessions)
        # Sessions with a folder on disk: started once and not terminated (§7.7).
        self.folders: set[str] = set(settings.ready_sessions)
        self._settings = settings
        self._spawn = spawn
        self._post_callback = post_callback

    async def validate(self, session_id: str) -> tuple[bool, str | None, str]:
        """Return whether a session is usable, its state and the server's message (§2)."""
        session = self.sessions.get(session_id)
        if session is None:
            return False, None, "session_not_found"
        if session.zombie:
            return False, None, "browser tab closed"
        if session.crashed or session.frozen:
            await asyncio.sleep(self._settings.protocol_timeout)
            return False, None, PROTOCOL_TIMEOUT
        if session.state != "CONNECTED":
            return False, session.state, "session_not_connected"
        return True, session.state, "session_connected"

    async def open(self, session_id: str) -> None:
        """Load the page; the session enters the map only afterwards (§2)."""
        self.folders.add(session_id)
        await asyncio.sleep(self._settings.start_seconds)
        if session_id in self.paired:
            if self._stays_unready():
                session = self.sessions[session_id] = Session(session_id, state="CONNECTED")
                self._post_callback(session_id, "authenticated")
                return
            self.make_ready(session_id)
        else:
            session = self.sessions[session_id] = Session(session_id)
            self._show_qr(session)

    def _stays_unready(self) -> bool:
        stays = self._settings.never_ready > 0
        self._settings.never_ready -= stays
        return stays

    async def restart(self, session_id: str) -> bool:
        """Reload a session; False, after the browser's timeout, if its page does not answer."""
        session = self.sessions[session_id]
        if session.crashed or session.frozen:
            await asyncio.sleep(self._settings.protocol_timeout)
            return False
        self.close(session_id)
        await self.open(session_id)
        return True

    async def restart_server(self) -> None:
        """Stop every browser; sessions with a folder start again automatically (§7.7)."""
        for session_id in tuple(self.sessions):
            self.close(session_id)
        if self._settings.auto_start:
            for session_id in sorted(self.folders):
                await self.open(session_id)

    def make_ready(self, session_id: str) -> None:
        """Make a session paired and ready to send, whatever its state."""
        self.paired.add(session_id)
        self.folders.add(session_id)
        session = self.sessions.setdefault(session_id, Session(session_id))
        session.epoch += 1
        session.state, session.ready, session.qr = "CONNECTED", True, None
        session.zombie = session.crashed = session.frozen = False
        self._post_ready_callbacks(session)

    def _post_ready_callbacks(self, session: Session) -> None:
        session.info_number = self._settings.own_number
        self._post_callback(session.id, "loading_screen", {"percent": 100, "message": "WhatsApp"})
        self._post_callback(session.id, "authenticated")
        self._post_callback(session.id, "ready")

    def _show_qr(self, session: Session) -> None:
        session.epoch += 1
        session.state, session.ready = "UNPAIRED", False
        if self._settings.null_qr_seconds:
            session.qr = _qr_text(reference="null")
            self._spawn(self._first_qr(session, session.epoch))
        else:
            self._new_qr(session)
        self._spawn(self._rotate_qr(session, session.epoch), endless=True)

    async def _first_qr(self, session: Session, epoch: int) -> None:
        await asyncio.sleep(self._settings.null_qr_seconds)
        if session.epoch == epoch:
            self._new_qr(session)

    def _new_qr(self, session: Session) -> None:
        session.qr = _qr_text()
        self._post_callback(session.id, "qr", {"qr": session.qr})

    async def _rotate_qr(self, session: Session, epoch: int) -> None:
        """Renew the code every few seconds; the last one stays visible after it expires (§2)."""
        for _ in range(self._settings.qr_count - 1):
            await asyncio.sleep(self._settings.qr_seconds)
            if session.epoch != epoch:
                return
            self._new_qr(session)
        await asyncio.sleep(self._settings.qr_seconds)
        if session.epoch == epoch:
            session.state = "UNPAIRED_IDLE"

    async def _pair(self, session: Session) -> None:
        """Go from the scanned code to a session that can send (captures 300-315)."""
        session.epoch += 1
        epoch = session.epoch
        session.state = "PAIRING"
        await asyncio.sleep(self._settings.pairing_seconds)
        if session.epoch != epoch:
            return
        session.state = "CONNECTED"
        # Connected is not ready: until the chats are loaded, even the old code is served.
        await asyncio.sleep(self._settings.sync_seconds)
        if session.epoch != epoch:
            return
        self.paired.add(session.id)
        if self._stays_unready():
            return
        self._become_ready(session)

    def _become_ready(self, session: Session) -> None:
        session.qr, session.ready = None, True
        self._post_ready_callbacks(session)

    def close(self, session_id: str) -> None:
        """Close the browser; the login stays on disk."""
        session = self.sessions.pop(session_id, None)
        if session is not None:
            session.epoch += 1

    def delete_session(self, session_id: str) -> None:
        """Close the browser and delete its login."""
        self.close(session_id)
        self.paired.discard(session_id)
        self.folders.discard(session_id)

    async def apply_action(self, session: Session, action: str) -> None:
        """Apply one of ``ACTIONS`` to a session; raises ControlError if its state forbids it."""
        if action == "scan":
            if session.state != "UNPAIRED" or session.zombie:
                raise ControlError(f"no QR code to scan in state {session.state}")
            self._spawn(self._pair(session))
            # Runs the first step, so that the response shows PAIRING.
            await asyncio.sleep(0)
            return
        if action == "rotate_qr":
            self._new_qr(session)
            return
        session.epoch += 1
        if action == "expire_qr":
            session.state = "UNPAIRED_IDLE"
        elif action == "crash_page":
            session.crashed = True
        elif action == "freeze_page":
            session.frozen = True
        elif action == "lose_link":
            session.state = "TIMEOUT"
        elif action == "regain_link":
            session.state = "CONNECTED"
        elif action == "unready":
            session.ready, session.info_number = False, ""
        elif action == "sync":
            self._become_ready(session)
        elif action == "unlink_by_reload":
            self.paired.discard(session.id)
            session.state, session.ready = "OPENING", False
            self._spawn(self._reload(session, session.epoch))
        else:
            self._become_zombie(session, action)

    def _become_zombie(self, session: Session, action: str) -> None:
        """Stop the browser but keep its entry in the map (captures 622-632)."""
        if action in {"unlink", "conflict"}:
            reason = "UNPAIRED" if action == "unlink" else "CONFLICT"
            self._post_callback(session.id, "change_state", {"state": reason})
            self._post_callback(session.id, "disconnected", {"reason": reason})
        if action == "unlink":
            self.paired.discard(session.id)
        session.zombie = True
        if self._settings.recover_sessions:
            self.close(session.id)
            self._spawn(self.open(session.id))

    async def _reload(self, session: Session, epoch: int) -> None:
        await asyncio.sleep(self._settings.pairing_seconds)
        if session.epoch == epoch:
            self._show_qr(session)


def _qr_text(reference: str = "") -> str:
    """Return a pairing code in the format of the page (capture 204)."""
    first = reference or "2@" + base64.b64encode(secrets.token_hex(33).upper().encode()).decode()
    noise = base64.b64encode(b"\x07" * 32).decode()
    identity = base64.b64encode(b"\x09" * 32).decode()
    advertised = base64.b64encode(b"simulated-advertised-secret-key!").decode()
    return f"{first},{noise},{identity},{advertised},1"
