"""The lifecycle of one Evolution instance: create, link to a phone, delete.

Wire facts: docs/providers/evolution.md §0, §4.

Every call is one request with a timeout. Pure functions parse the responses and are tested on
recorded ones; `instances/connections/evolution.py` decides what follows.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from channels_app.providers.evolution.errors import error_message
from channels_app.providers.evolution.receive_mode import EvolutionFailed, EvolutionInstance
from channels_app.providers.link_codes import read_code
from core import http_client
from core.text import safe_id

BAILEYS = "WHATSAPP-BAILEYS"
ASK_SECONDS = 5.0
# Connecting waits two seconds for the code; with a number, for WhatsApp's response (§4).
DIAL_SECONDS = 15.0
END_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Link:
    """The response of `connect`. `is_open`: the phone is linked and no scan is needed.

    `qr` is the text of the code and `pairing_code` the code to type instead; both are "" while
    Evolution has none yet.
    """

    is_open: bool = False
    qr: str = ""
    pairing_code: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """An instance as stored in the server's database. `own_number` is digits only.

    Number, name, picture and the reason of the last disconnection survive a log-out (§4).
    """

    name: str
    integration: str = ""
    own_number: str = ""
    profile_name: str = ""
    picture_url: str = ""
    ended_with: int | None = None
    ended_at: dt.datetime | None = None

    @property
    def is_baileys(self) -> bool:
        return self.integration == BAILEYS


class EvolutionLifecycle(EvolutionInstance):
    """The lifecycle of a channel's instance. Every method may raise EvolutionFailed."""

    def create(self) -> None:
        """Create the instance without connecting it: set its webhook first (§3, base64).

        Requires the server's own key; an instance key is rejected with `wrong_key` (§0). The
        failure `name_taken`: the instance exists already or is still being deleted.
        """
        body = {"instanceName": self._name, "integration": BAILEYS, "qrcode": False}
        try:
            self._call("POST", "/instance/create", body, timeout=END_SECONDS)
        except EvolutionFailed as error:
            if error.status == 403:
                raise EvolutionFailed("refused", reason="name_taken") from None
            if error.code == "wrong_key":
                raise EvolutionFailed(
                    "wrong_key", reason="key_cannot_create", error_text=error.error_text
                ) from None
            raise

    def row(self) -> Row:
        """Return the server's database record of the instance."""
        query = {"instanceName": self._name}
        answer = self._call("GET", "/instance/fetchInstances", query=query, may_be_list=True)
        return read_row(answer, self._name)

    def connect(self, *, number: str = "") -> Link:
        """Connect the instance if it is closed, else return the current code.

        A `number` (digits) requests a pairing code, which only a new connection attempt gives (§4).
        """
        query = {"number": number} if number else None
        answer = self._call(
            "GET", "/instance/connect/{instance}", query=query, timeout=DIAL_SECONDS
        )
        return read_link(answer)

    def restart(self) -> bool:
        """Reconnect with the existing login; False if the instance was closed.

        The server reports a closed instance by a 200 that contains an error (§4).
        """
        answer = self._call("POST", "/instance/restart/{instance}", timeout=DIAL_SECONDS)
        return not (isinstance(answer, dict) and answer.get("error"))

    def log_out(self) -> bool:
        """Unlink the phone; False if the instance was closed and nothing was unlinked.

        Since 2.4 that is not an error, and only the response text reports it (§10).
        """
        try:
            answer = self._call("DELETE", "/instance/logout/{instance}", timeout=END_SECONDS)
        except EvolutionFailed as error:
            if error.status == 400 and error.error_text.endswith("is not connected"):
                return False
            raise
        return "already disconnected" not in error_message(answer)

    def delete(self) -> None:
        """Request deletion, which completes later; a webhook must not be enabled (§1, §4)."""
        self._call("DELETE", "/instance/delete/{instance}", timeout=END_SECONDS)


def read_link(answer: Any) -> Link:
    """Parse a response of /instance/connect. Pure."""
    if not isinstance(answer, Mapping):
        return Link()
    instance = answer.get("instance")
    if isinstance(instance, Mapping):
        return Link(is_open=instance.get("state") == "open")
    pairing = safe_id(answer.get("pairingCode"))
    return Link(qr=read_code(answer.get("code")), pairing_code=(pairing or "")[:20])


def read_row(answer: Any, name: str) -> Row:
    """Parse a response of /instance/fetchInstances. Pure. Raises EvolutionFailed.

    Two instances may share a key; the response then contains both (§0).
    """
    rows = answer if isinstance(answer, list) else [answer]
    for row in rows:
        if isinstance(row, Mapping) and row.get("name") == name:
            owner = row.get("ownerJid")
            code = row.get("disconnectionReasonCode")
            picture = row.get("profilePicUrl")
            return Row(
                name=name,
                integration=http_client.safe_text(row.get("integration"), limit=40),
                own_number=digits_of(owner) if isinstance(owner, str) else "",
                profile_name=http_client.safe_text(row.get("profileName"), limit=100),
                picture_url=picture_address(picture),
                ended_with=code if isinstance(code, int) and not isinstance(code, bool) else None,
                ended_at=_aware_time(row.get("disconnectionAt")),
            )
    raise EvolutionFailed("instance_missing")


def _aware_time(value: object) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo is not None else None


def digits_of(jid: str) -> str:
    """Return the number in a JID; in `5511…:12@s.whatsapp.net` the device follows the colon."""
    return re.sub(r"\D", "", re.split(r"[:@]", jid, maxsplit=1)[0])[:20]


def picture_address(value: object) -> str:
    """Return the address if it is HTTPS and short enough to store, else ""."""
    fits = isinstance(value, str) and re.fullmatch(r"https://[^\s\"'<>]{1,480}", value)
    return str(value) if fits else ""
