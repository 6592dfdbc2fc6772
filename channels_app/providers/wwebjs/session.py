"""The session routes of wwebjs-api (contracts/wwebjs-api.md §2): asking, starting, ending, QR.

Every call is bounded in time. What an answer means is read by pure functions, tested on recorded
answers; what follows from it is in `session_states.py`.
"""

from __future__ import annotations

import enum
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from channels_app.connections.states import Observation
from channels_app.models import Channel
from channels_app.providers.link_codes import read_code
from core import http_client

# Seconds. All questions about one session together take no longer than ASK_SECONDS.
ASK_SECONDS = 5.0
STATUS_SECONDS = 3.0
# A start blocks until the page is up, for 30 s where WhatsApp does not let it in and up to 180 s
# where its socket hangs. What comes later than this is found out by asking for the state.
START_SECONDS = 60.0
END_SECONDS = 15.0
PAIRING_SECONDS = 15.0


class SessionError(Exception):
    """The server did not do what was asked. `code` is a code from `error_codes`."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code = code
        self.detail = detail


class StartOutcome(enum.Enum):
    """How a start ended. FAILED leaves a browser behind that nothing can reach (§2)."""

    UP = "up"
    # There already: perhaps without its browser.
    EXISTS = "exists"
    # Somebody else's start is under way.
    BUSY = "busy"
    FAILED = "failed"
    # It may still come up.
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, slots=True)
class StartResult:
    end: StartOutcome
    detail: str = ""


class WwebjsSessions:
    """One session of one server. Holds no connection; may be used by several threads."""

    def __init__(self, channel: Channel) -> None:
        self._base = channel.wwebjs_url
        self._key = channel.wwebjs_api_key
        self._session = channel.wwebjs_session_id

    def ask(self) -> Observation:
        """Ask for the state, and with it for the number or the QR code. Never raises."""
        deadline = time.monotonic() + ASK_SECONDS
        try:
            told = read_status(self._get("/session/status/{session}", STATUS_SECONDS), self._key)
        except SessionError as trouble:
            if trouble.code == "timeout" and self._lives(deadline):
                # The server is well; the page behind the session does not answer (§2: 181 s).
                return Observation(message="timed out")
            return Observation(trouble=trouble.code, detail=trouble.detail)
        try:
            if told.connected:
                answer = self._get("/client/getClassInfo/{session}", _left(deadline))
                return read_class_info(answer, told, self._key)
            if told.socket == "UNPAIRED":
                return replace(
                    told, qr=read_qr(self._get("/session/qr/{session}", _left(deadline)))
                )
        except SessionError as trouble:
            if told.connected:
                return Observation(message=trouble.detail or "timed out")
        return told

    def start(self) -> StartResult:
        """Start the session; returns when it is up. Raises SessionError where nothing began."""
        try:
            answer = self._get("/session/start/{session}", START_SECONDS)
            return read_start(answer, self._key)
        except SessionError as trouble:
            if trouble.code in ("timeout", "connection_broken"):
                return StartResult(StartOutcome.NO_ANSWER, trouble.detail)
            raise

    def reopen(self) -> StartResult:
        """Close the session's browser and open another; the login stays. See `start`.

        Not by /session/restart: that blocks for minutes while the page is crashed or frozen, and
        stop and start do not (§7.1).
        """
        try:
            self.stop()
        except SessionError as trouble:
            # The browser may be closed all the same; the start shows whether it is.
            if trouble.code not in ("timeout", "connection_broken"):
                raise
        return self.start()

    def stop(self) -> None:
        """Close the session's browser; the login stays. Raises SessionError."""
        read_end(self._get("/session/stop/{session}", END_SECONDS), self._key)

    def terminate(self) -> bool:
        """Unlink the phone and forget the login. Returns False where no session was running.

        Raises SessionError.
        """
        return read_end(self._get("/session/terminate/{session}", END_SECONDS), self._key)

    def pairing_code(self, digits: str) -> str:
        """Have WhatsApp show a request on that phone; returns the code to enter there.

        Raises SessionError: "session_not_found", "invalid_recipient", or what went wrong.
        """
        body = {"phoneNumber": digits, "showNotification": True}
        answer = self._call(
            "POST", "/session/requestPairingCode/{session}", PAIRING_SECONDS, json=body
        )
        return read_pairing_code(answer, self._key)

    def _lives(self, deadline: float) -> bool:
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
    """Read an answer of /session/status. Raises SessionError for one that tells no state."""
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


def read_class_info(answer: http_client.Answer, told: Observation, key: str = "") -> Observation:
    """Add what /client/getClassInfo says to a connected session.

    Sends fail until `sessionInfo` is there (§2). Raises SessionError.
    """
    body = answer.json_object()
    if answer.status == 404 and body is not None:
        return Observation(message=_first_line(body.get("error"), key))
    info = _json_of(answer, key).get("sessionInfo")
    if not isinstance(info, Mapping):
        return told
    wid = info.get("wid")
    number = wid.get("user") if isinstance(wid, Mapping) else None
    return replace(
        told,
        ready=True,
        own_number=re.sub(r"\D", "", number)[:20] if isinstance(number, str) else "",
        name=http_client.safe_text(info.get("pushname"), limit=100),
    )


def read_qr(answer: http_client.Answer) -> str:
    """Return the text of the code, "" while there is none."""
    body = answer.json_object() or {}
    shown = answer.status == 200 and body.get("success") is True
    return read_code(body.get("qr")) if shown else ""


def read_start(answer: http_client.Answer, key: str = "") -> StartResult:
    """Read an answer of /session/start.

    Raises SessionError where the request did not come as far as a start.
    """
    found = answer.json_object()
    if answer.status in (422, 500) and found is not None and found.get("success") is False:
        error = _first_line(found.get("error"), key)
        if error.startswith("Session already exists"):
            return StartResult(StartOutcome.EXISTS)
        if error.startswith("Session should be alphanumerical"):
            raise SessionError("invalid_session")
        if error.startswith("The browser is already running"):
            return StartResult(StartOutcome.BUSY)
        return StartResult(StartOutcome.FAILED, error)
    if answer.status in (502, 504):
        # Said by a proxy in front, which waits less than a start takes.
        return StartResult(StartOutcome.NO_ANSWER, f"HTTP {answer.status}")
    body = _json_of(answer, key)
    if body.get("success") is True:
        return StartResult(StartOutcome.UP)
    return StartResult(
        StartOutcome.FAILED, _first_line(body.get("message") or body.get("error"), key)
    )


def read_end(answer: http_client.Answer, key: str = "") -> bool:
    """Read an answer of /session/stop or /session/terminate; False: there was nothing to end.

    Raises SessionError.
    """
    body = _json_of(answer, key)
    if body.get("success") is True:
        return True
    if body.get("message") == "session_not_found":
        return False
    raise SessionError("session_check_failed", _first_line(body.get("message"), key))


def read_pairing_code(answer: http_client.Answer, key: str = "") -> str:
    """Read an answer of /session/requestPairingCode. Raises SessionError."""
    found = answer.json_object()
    if answer.status == 500 and found is not None:
        error = _first_line(found.get("error"), key)
        raise SessionError(
            "invalid_recipient" if "phone number" in error else "session_check_failed", error
        )
    body = _json_of(answer, key)
    code = http_client.safe_id(body.get("result"))
    if body.get("success") is True and code:
        return code[:20]
    if body.get("message") == "session_not_found":
        raise SessionError("session_not_found")
    raise SessionError("session_check_failed", _first_line(body.get("message"), key))


def _json_of(answer: http_client.Answer, key: str) -> Mapping[str, Any]:
    """The JSON of a successful answer; raises SessionError with the word for any other."""
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
    """Page stack lines may follow the first (§3)."""
    line = text.split("\n", 1)[0] if isinstance(text, str) else ""
    return http_client.safe_text(line, secrets=(key,), limit=300)


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.5)
