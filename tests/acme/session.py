"""The session of an Acme line: a phone is linked to it by QR code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from channels_app.providers.link_codes import read_code
from channels_app.providers.sessions import DerivedState, State
from core import http_client
from core.text import safe_id
from tests.acme.credentials import AcmeCredentials

SECONDS = 5.0


class SessionFailed(Exception):
    """The server did not carry out the request. `code` is a code from `error_codes`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Observation:
    """What the server reported; `problem` is a code if it did not answer."""

    problem: str = ""
    state: str = ""
    number: str = ""
    qr: str = ""


class AcmeSession:
    """Every call is one request with a timeout."""

    def __init__(self, credentials: AcmeCredentials) -> None:
        self._credentials = credentials

    def poll(self) -> Observation:
        """Return what the server reports. Never raises."""
        try:
            body = self._call("GET", "/session")
        except SessionFailed as error:
            return Observation(problem=error.code)
        number, state = safe_id(body.get("number")) or "", str(body.get("state"))
        return Observation(state=state, number=number, qr=read_code(body.get("qr")))

    def start(self) -> None:
        """Start the session; it shows a code if no phone is linked. Raises SessionFailed."""
        self._call("POST", "/session")

    def stop(self) -> None:
        """Stop the session; the phone stays linked. Raises SessionFailed."""
        self._call("DELETE", "/session")

    def unlink(self) -> None:
        """Stop the session and forget the phone. Raises SessionFailed."""
        self._call("DELETE", "/session", query={"unlink": "1"})

    def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            answer = http_client.request(
                method,
                self._credentials.url,
                "/{line}" + path,
                params={"line": self._credentials.line},
                headers={"X-Acme-Key": self._credentials.key},
                timeout=SECONDS,
                **options,
            )
        except http_client.RequestFailed as error:
            raise SessionFailed(error.reason) from None
        body = answer.json_object()
        if answer.status == 401:
            raise SessionFailed("wrong_key")
        if answer.status != 200 or body is None:
            raise SessionFailed("wrong_address")
        return body


def derive(observation: Observation) -> DerivedState:
    """Return the state and the reason for it. Pure."""
    if observation.problem:
        return DerivedState(State.ERROR, observation.problem)
    if observation.state == "linked":
        return DerivedState(State.READY, "ready")
    if observation.state == "waiting":
        return DerivedState(State.QR, "waiting_for_scan")
    return DerivedState(State.DISCONNECTED, "not_started")
