"""The life of one Evolution instance: made, linked to a phone, ended.

Wire facts: contracts/evolution-api.md §0, §4.

Every call is bounded in time and is one request. What its answer means is read by pure functions,
tested on recorded answers; what follows from it is decided in `instances/connections/monitor.py`.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from channels_app.providers.evolution.client import error_message
from channels_app.providers.evolution.receive_mode import EvolutionFailed, EvolutionInstance
from channels_app.providers.link_codes import read_code
from core import http_client

BAILEYS = "WHATSAPP-BAILEYS"
ASK_SECONDS = 5.0
# Dialling waits two seconds for the code, and with a number for WhatsApp's answer (§4).
DIAL_SECONDS = 15.0
END_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Link:
    """What `connect` answers. `is_open`: the phone is linked and nothing is to be scanned.

    `qr` is the text of the code and `pairing_code` what can be typed instead; both are "" while
    Evolution has none yet.
    """

    is_open: bool = False
    qr: str = ""
    pairing_code: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """An instance as the server's database knows it. `own_number` is digits only.

    Number, name, picture and the reason of the last end stay after a log-out (§4).
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
    """The lifecycle of the instance that a channel names. Raises EvolutionFailed throughout."""

    def create(self) -> None:
        """Make the instance, without dialling: its webhook is to be set before (§3, base64).

        Needs the server's own key; an instance's is refused with `wrong_key` (§0). The failure
        `name_taken` says that there is one already, perhaps one whose deletion goes on.
        """
        body = {"instanceName": self._name, "integration": BAILEYS, "qrcode": False}
        try:
            self._call("POST", "/instance/create", body, timeout=END_SECONDS)
        except EvolutionFailed as error:
            if error.status == 403:
                raise EvolutionFailed("refused", reason="name_taken") from None
            if error.code == "wrong_key":
                raise EvolutionFailed(
                    "wrong_key", reason="key_cannot_create", told=error.told
                ) from None
            raise

    def row(self) -> Row:
        """Read what the server has stored of the instance."""
        query = {"instanceName": self._name}
        answer = self._call("GET", "/instance/fetchInstances", query=query, may_be_list=True)
        return read_row(answer, self._name)

    def connect(self, *, number: str = "") -> Link:
        """Dial, where the instance is closed; else tell the code that is on show.

        A `number` (digits) asks for a code to type, which only a new dialling gives (§4).
        """
        query = {"number": number} if number else None
        answer = self._call(
            "GET", "/instance/connect/{instance}", query=query, timeout=DIAL_SECONDS
        )
        return read_link(answer)

    def restart(self) -> bool:
        """Dial anew with the login that is there; False where the instance was closed.

        Closed is told by a 200 with an error in it (§4).
        """
        answer = self._call("POST", "/instance/restart/{instance}", timeout=DIAL_SECONDS)
        return not (isinstance(answer, dict) and answer.get("error"))

    def log_out(self) -> bool:
        """Unlink the phone; False where the instance was closed, so that nothing was unlinked.

        Since 2.4 that is no error any more, and only its sentence tells it (§10).
        """
        try:
            answer = self._call("DELETE", "/instance/logout/{instance}", timeout=END_SECONDS)
        except EvolutionFailed as error:
            if error.status == 400 and error.told.endswith("is not connected"):
                return False
            raise
        return "already disconnected" not in error_message(answer)

    def delete(self) -> None:
        """Have the instance deleted. The end comes later; a webhook must not be on (§1, §4)."""
        self._call("DELETE", "/instance/delete/{instance}", timeout=END_SECONDS)


def read_link(answer: Any) -> Link:
    """Read an answer of /instance/connect. Pure."""
    if not isinstance(answer, Mapping):
        return Link()
    instance = answer.get("instance")
    if isinstance(instance, Mapping):
        return Link(is_open=instance.get("state") == "open")
    pairing = http_client.safe_id(answer.get("pairingCode"))
    return Link(qr=read_code(answer.get("code")), pairing_code=(pairing or "")[:20])


def read_row(answer: Any, name: str) -> Row:
    """Read an answer of /instance/fetchInstances. Pure. Raises EvolutionFailed.

    An instance's key may be shared by two, and both are told then (§0).
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
                ended_at=_moment(row.get("disconnectionAt")),
            )
    raise EvolutionFailed("instance_missing")


def _moment(value: object) -> dt.datetime | None:
    try:
        moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def digits_of(jid: str) -> str:
    """The number in a jid: `5511…:12@s.whatsapp.net` has a device behind the colon."""
    return re.sub(r"\D", "", re.split(r"[:@]", jid, maxsplit=1)[0])[:20]


def picture_address(value: object) -> str:
    """Only an https address is shown in a page, and none that would not fit."""
    fits = isinstance(value, str) and re.fullmatch(r"https://[^\s\"'<>]{1,480}", value)
    return str(value) if fits else ""
