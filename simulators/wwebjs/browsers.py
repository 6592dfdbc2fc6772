"""The browsers of the simulated wwebjs-api: from QR code to ready, and all the ways down again.

States and transitions: ``contracts/wwebjs-api.md §2``.
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
    """Seconds, texts and switches that shape the simulation.

    ``ready_sessions`` exist, paired and ready, from the start. ``start_failure`` makes every
    start fail: ``network``, ``blank`` (WhatsApp Web does not come up) or ``stuck``.
    ``dollar_ids`` plays a WhatsApp Web build since July 2026 for all numbers. ``echo_url``, the
    ``/_control/echo`` of a simulated Graph API, makes a coexistence number of the two.
    ``null_qr_seconds`` is how long the first code begins with ``null,`` (§7.2). ``never_ready`` so
    many times a session that is linked stays CONNECTED and never becomes ready (§7.3).
    ``auto_start``: at a start of the server the sessions with a folder come up by themselves
    (§7.7). ``nameless_info``: `sessionInfo` comes without the number. ``error_prefix``
    (``Evaluation failed: Error: ``) stands before the text of each 500.
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
    """One browser in the server's map; ``state`` is what WhatsApp Web's socket says."""

    id: str
    state: str = "OPENING"
    ready: bool = False
    qr: str | None = None
    zombie: bool = False
    # The number of `sessionInfo`: "" before the first `ready`, and that of the phone before from a
    # new link in the same browser until the page has loaded.
    info_number: str = ""
    # The renderer is gone, or is there and does nothing: neither answers the browser (§7.1).
    crashed: bool = False
    frozen: bool = False
    # Delayed transitions look whether this still is what it was when they began.
    epoch: int = 0


class Spawn(Protocol):
    """Starts work that goes on after the request (``Simulator.spawn``)."""

    def __call__(
        self, work: Coroutine[Any, Any, None], *, endless: bool = False
    ) -> asyncio.Task[None]: ...


class Announce(Protocol):
    """Posts a callback of a session."""

    def __call__(self, session_id: str, kind: str, data: JsonObject | None = None) -> None: ...


class Browsers:
    """The server's map of sessions, and the logins it keeps on disk (``paired``)."""

    def __init__(self, settings: WwebjsSettings, spawn: Spawn, announce: Announce) -> None:
        self.sessions: dict[str, Session] = {}
        self.starting: set[str] = set()
        self.paired: set[str] = set(settings.ready_sessions)
        # Sessions with a folder on disk: started once and not terminated (§7.7).
        self.folders: set[str] = set(settings.ready_sessions)
        self._settings = settings
        self._spawn = spawn
        self._announce = announce

    async def validate(self, session_id: str) -> tuple[bool, str | None, str]:
        """Whether a session is usable, its state and the server's words for it (§2)."""
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
        """Bring the page up; the map knows the session only when that is done (§2)."""
        self.folders.add(session_id)
        await asyncio.sleep(self._settings.start_seconds)
        if session_id in self.paired:
            if self._stays_unready():
                session = self.sessions[session_id] = Session(session_id, state="CONNECTED")
                self._announce(session_id, "authenticated")
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
        """Reload a session; False where its page answers nothing, after the browser's limit."""
        session = self.sessions[session_id]
        if session.crashed or session.frozen:
            await asyncio.sleep(self._settings.protocol_timeout)
            return False
        self.close(session_id)
        await self.open(session_id)
        return True

    async def restart_server(self) -> None:
        """Lose every browser; those with a folder come up again by themselves (§7.7)."""
        for session_id in tuple(self.sessions):
            self.close(session_id)
        if self._settings.auto_start:
            for session_id in sorted(self.folders):
                await self.open(session_id)

    def make_ready(self, session_id: str) -> None:
        """Make a session paired and able to send, whatever it was."""
        self.paired.add(session_id)
        self.folders.add(session_id)
        session = self.sessions.setdefault(session_id, Session(session_id))
        session.epoch += 1
        session.state, session.ready, session.qr = "CONNECTED", True, None
        session.zombie = session.crashed = session.frozen = False
        self._announce_ready(session)

    def _announce_ready(self, session: Session) -> None:
        session.info_number = self._settings.own_number
        self._announce(session.id, "loading_screen", {"percent": 100, "message": "WhatsApp"})
        self._announce(session.id, "authenticated")
        self._announce(session.id, "ready")

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
        self._announce(session.id, "qr", {"qr": session.qr})

    async def _rotate_qr(self, session: Session, epoch: int) -> None:
        """A new code every few seconds; after the last one the dead code stays on show (§2)."""
        for _ in range(self._settings.qr_count - 1):
            await asyncio.sleep(self._settings.qr_seconds)
            if session.epoch != epoch:
                return
            self._new_qr(session)
        await asyncio.sleep(self._settings.qr_seconds)
        if session.epoch == epoch:
            session.state = "UNPAIRED_IDLE"

    async def _pair(self, session: Session) -> None:
        """From the scanned code to a session that can send (captures 300-315)."""
        session.epoch += 1
        epoch = session.epoch
        session.state = "PAIRING"
        await asyncio.sleep(self._settings.pairing_seconds)
        if session.epoch != epoch:
            return
        session.state = "CONNECTED"
        # Connected is not ready: until the chats are there, even the old code is still served.
        await asyncio.sleep(self._settings.sync_seconds)
        if session.epoch != epoch:
            return
        self.paired.add(session.id)
        if self._stays_unready():
            return
        self._become_ready(session)

    def _become_ready(self, session: Session) -> None:
        session.qr, session.ready = None, True
        self._announce_ready(session)

    def close(self, session_id: str) -> None:
        """Close the browser; the login stays on disk."""
        session = self.sessions.pop(session_id, None)
        if session is not None:
            session.epoch += 1

    def forget(self, session_id: str) -> None:
        """Close the browser and delete its login."""
        self.close(session_id)
        self.paired.discard(session_id)
        self.folders.discard(session_id)

    async def steer(self, session: Session, action: str) -> None:
        """Do one of ``ACTIONS`` to a session; raises ControlError when it does not fit."""
        if action == "scan":
            if session.state != "UNPAIRED" or session.zombie:
                raise ControlError(f"no QR code to scan in state {session.state}")
            self._spawn(self._pair(session))
            # Lets the first step happen, so that the answer shows PAIRING.
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
            self._leave_zombie(session, action)

    def _leave_zombie(self, session: Session, action: str) -> None:
        """The browser goes, its entry in the map stays (captures 622-632)."""
        if action in {"unlink", "conflict"}:
            reason = "UNPAIRED" if action == "unlink" else "CONFLICT"
            self._announce(session.id, "change_state", {"state": reason})
            self._announce(session.id, "disconnected", {"reason": reason})
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
    """A pairing code of the page's form (capture 204)."""
    first = reference or "2@" + base64.b64encode(secrets.token_hex(33).upper().encode()).decode()
    noise = base64.b64encode(b"\x07" * 32).decode()
    identity = base64.b64encode(b"\x09" * 32).decode()
    advertised = base64.b64encode(b"simulated-advertised-secret-key!").decode()
    return f"{first},{noise},{identity},{advertised},1"
