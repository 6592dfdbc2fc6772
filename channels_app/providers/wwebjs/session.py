"""The session routes of wwebjs-api (docs/providers/wwebjs.md §2): status, start, stop, QR.

Every call has a timeout. Pure functions parse the responses and are tested on recorded ones;
`wwebjs/states.py` decides what follows.
"""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from channels_app.providers.link_codes import read_code
from channels_app.providers.wwebjs.states import Observation
from core import http_client
from core.text import safe_id

if TYPE_CHECKING:
    from channels_app.providers.wwebjs.settings import WwebjsSettings

# Seconds. All requests of one poll together take no longer than POLL_SECONDS.
POLL_SECONDS = 5.0
STATUS_SECONDS = 3.0
# A start blocks until the page is up: for 30 s if WhatsApp refuses it and up to 180 s if its socket
# hangs. The outcome of a longer start is determined by polling the state.
START_SECONDS = 60.0
END_SECONDS = 15.0
PAIRING_SECONDS = 15.0


class SessionError(Exception):
    """The server did not carry out the request. `code` is a code from `error_codes`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class StartOutcome(enum.Enum):
    """The outcome of a start. FAILED leaves behind a browser that cannot be controlled (§2)."""

    UP = "up"
    # It exists already, perhaps without its browser.
    EXISTS = "exists"
    # Another start is in progress.
    BUSY = "busy"
    FAILED = "failed"
    # It may still come up.
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class StartResult:
    outcome: StartOutcome
    detail: str = ""


class WwebjsSessions:
    """One session of one server. Holds no connection; may be used by several threads."""

    def __init__(self, settings: WwebjsSettings) -> None:
        self._base = settings.url
        self._key = settings.api_key
        self._session = settings.session_id

    def poll(self) -> Observation:
        """Poll the state, and the number or the QR code that belongs to it. Never raises."""
        deadline = time.monotonic() + POLL_SECONDS
        try:
            observed = read_status(
                self._get("/session/status/{session}", STATUS_SECONDS), self._key
            )
        except SessionError as error:
            if error.code == "timeout" and self._server_responds(deadline):
                # The server is healthy; the session's page does not respond (§2: 181 s).
                return Observation(message="timed out")
            return Observation(error_code=error.code, detail=error.detail)
        try:
            if observed.connected:
                answer = self._get("/client/getClassInfo/{session}", _left(deadline))
                return read_class_info(answer, observed, self._key)
            if observed.socket == "UNPAIRED":
                qr = read_qr(self._get("/session/qr/{session}", _left(deadline)))
                return replace(observed, qr=qr)
        except SessionError as error:
            if observed.connected:
                return Observation(message=error.detail or "timed out")
        return observed

    def start(self) -> StartResult:
        """Start the session and wait until it is up. Raises SessionError if no start began."""
        try:
            answer = self._get("/session/start/{session}", START_SECONDS)
            return read_start(answer, self._key)
        except SessionError as error:
            if error.code in ("timeout", "connection_broken"):
                return StartResult(StartOutcome.NO_ANSWER, error.detail)
            raise

    def reopen(self) -> StartResult:
        """Close the session's browser and open a new one; the login is preserved. See `start`.

        This does not use /session/restart, which blocks for minutes while the page is crashed or
        frozen; stop and start do not (§7.1).
        """
        try:
            self.stop()
        except SessionError as error:
            # The browser may still have been closed; the start shows whether it was.
            if error.code not in ("timeout", "connection_broken"):
                raise
        return self.start()

    def stop(self) -> None:
        """Close the session's browser; the login is preserved. Raises SessionError."""
        read_end(self._get("/session/stop/{session}", END_SECONDS), self._key)

    def terminate(self) -> bool:
        """Unlink the phone and delete the login. Returns False if no session was running.

        Raises SessionError.
        """
        return read_end(self._get("/session/terminate/{session}", END_SECONDS), self._key)

    def pairing_code(self, digits: str) -> str:
        """Make WhatsApp show a request on that phone; return the code to enter there.

        Raises SessionError: "session_not_found", "invalid_recipient", or another error code.
        """
        body = {"phoneNumber": digits, "showNotification": True}
        answer = self._call(
            "POST", "/session/requestPairingCode/{session}", PAIRING_SECONDS, json=body
        )
        return read_pairing_code(answer, self._key)

    def _server_responds(self, deadline: float) -> bool:
        try:
            answer = self._get("/session/getSessions", _left(deadline))
        except SessionError:
            return False
        return answer.status == 200 and answer.json_object() is not None

    def _get(self, path: str, seconds: float) -> http_client.Answer:
        return self._call("GET", path, seconds)

    def _call(self, method: str, path: str, seconds: float, **options: Any) -> http_client.Answer:
        try:
            return http_client.request(
                method,
                self._base,
                path,
                params={"session": self._session},
                headers={"x-api-key": self._key} if self._key else None,
                timeout=seconds,
                connect_timeout=STATUS_SECONDS,
                **options,
            )
        except http_client.RequestFailed as error:
            raise SessionError(error.reason, error.detail) from None


def read_status(answer: http_client.Answer, key: str = "") -> Observation:
    """Parse a response of /session/status. Raises SessionError if it contains no state."""
    body = _json_of(answer, key)
    success, message = body.get("success"), body.get("message")
    if not isinstance(success, bool) or not isinstance(message, str):
        raise SessionError("wrong_address")
    socket = body.get("state")
    return Observation(
        connected=success,
        socket=http_client.safe_text(socket, limit=40),
        message=_first_line(message, key),
    )


def read_class_info(answer: http_client.Answer, status: Observation, key: str = "") -> Observation:
    """Add the response of /client/getClassInfo to the status of a connected session.

    Sends fail until `sessionInfo` is present (§2). Raises SessionError.
    """
    body = answer.json_object()
    if answer.status == 404 and body is not None:
        return Observation(message=_first_line(body.get("error"), key))
    info = _json_of(answer, key).get("sessionInfo")
    if not isinstance(info, Mapping):
        return status
    wid = info.get("wid")
    number = wid.get("user") if isinstance(wid, Mapping) else None
    return replace(
        status,
        ready=True,
        own_number=re.sub(r"\D", "", number)[:20] if isinstance(number, str) else "",
        name=http_client.safe_text(info.get("pushname"), limit=100),
    )


def read_qr(answer: http_client.Answer) -> str:
    """Return the text of the code, or "" while there is none."""
    body = answer.json_object() or {}
    has_code = answer.status == 200 and body.get("success") is True
    return read_code(body.get("qr")) if has_code else ""


def read_start(answer: http_client.Answer, key: str = "") -> StartResult:
    """Parse a response of /session/start.

    Raises SessionError if the request did not lead to a start.
    """
    parsed = answer.json_object()
    if answer.status in (422, 500) and parsed is not None and parsed.get("success") is False:
        error = _first_line(parsed.get("error"), key)
        if error.startswith("Session already exists"):
            return StartResult(StartOutcome.EXISTS)
        if error.startswith("Session should be alphanumerical"):
            raise SessionError("invalid_session")
        if error.startswith("The browser is already running"):
            return StartResult(StartOutcome.BUSY)
        return StartResult(StartOutcome.FAILED, error)
    if answer.status in (502, 504):
        # Sent by a reverse proxy whose timeout is shorter than a start.
        return StartResult(StartOutcome.NO_ANSWER, f"HTTP {answer.status}")
    body = _json_of(answer, key)
    if body.get("success") is True:
        return StartResult(StartOutcome.UP)
    return StartResult(
        StartOutcome.FAILED, _first_line(body.get("message") or body.get("error"), key)
    )


def read_end(answer: http_client.Answer, key: str = "") -> bool:
    """Parse a response of /session/stop or /session/terminate; False: there was no session.

    Raises SessionError.
    """
    body = _json_of(answer, key)
    if body.get("success") is True:
        return True
    if body.get("message") == "session_not_found":
        return False
    raise SessionError("session_check_failed", _first_line(body.get("message"), key))


def read_pairing_code(answer: http_client.Answer, key: str = "") -> str:
    """Parse a response of /session/requestPairingCode. Raises SessionError."""
    parsed = answer.json_object()
    if answer.status == 500 and parsed is not None:
        error = _first_line(parsed.get("error"), key)
        raise SessionError(
            "invalid_recipient" if "phone number" in error else "session_check_failed", error
        )
    body = _json_of(answer, key)
    code = safe_id(body.get("result"))
    if body.get("success") is True and code:
        return code[:20]
    if body.get("message") == "session_not_found":
        raise SessionError("session_not_found")
    raise SessionError("session_check_failed", _first_line(body.get("message"), key))


def _json_of(answer: http_client.Answer, key: str) -> Mapping[str, Any]:
    """Return the JSON of a successful response; raise SessionError for any other."""
    body = answer.json_object()
    if answer.status == 403 and body is not None:
        raise SessionError("wrong_key")
    if answer.status == 422 and body is not None:
        raise SessionError("invalid_session", _first_line(body.get("error"), key))
    if answer.status >= 400 and answer.status != 404:
        detail = _first_line(body.get("error"), key) if body is not None else ""
        raise SessionError(f"http_{answer.status}", detail)
    if body is None or answer.status != 200:
        raise SessionError("wrong_address")
    return body


def _first_line(text: object, key: str) -> str:
    """Return the first line; stack lines of the page may follow it (§3)."""
    line = text.split("\n", 1)[0] if isinstance(text, str) else ""
    return http_client.safe_text(line, secrets=(key,), limit=300)


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.5)
