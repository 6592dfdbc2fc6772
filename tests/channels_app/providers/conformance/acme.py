"""The test engine in the conformance suite."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, cast

from channels_app.models import Channel
from channels_app.providers.base import Accepted, Provider
from channels_app.providers.sessions import DerivedState
from core import http_client
from simulators.base import Simulator
from tests.acme import credentials, session
from tests.acme.client import read_answer
from tests.acme.credentials import AcmeCredentials
from tests.acme.engine import ACME
from tests.acme.simulator import AcmeSettings, AcmeSimulator
from tests.channels_app.conftest import ORDINARY
from tests.channels_app.providers.conformance.adapter import Adapter, Session

KEY = "acme-secret-key"


class AcmeLine:
    can_stop = True

    def __init__(self, adapter: AcmeAdapter) -> None:
        self._adapter = adapter
        simulator = cast("AcmeSimulator", adapter.simulator)
        simulator.state, simulator.number = "off", ""
        self._session = session.AcmeSession(AcmeCredentials(adapter.app.url, key=KEY))

    def start(self) -> None:
        self._session.start()

    def state(self) -> DerivedState:
        return session.derive(self._session.poll())

    def qr(self) -> str:
        return self._session.poll().qr

    def scan(self) -> None:
        self._adapter.control("scan", number="5511900000777")

    def stop(self) -> None:
        self._session.stop()

    def unlink(self) -> None:
        self._session.unlink()

    def provider(self) -> Provider:
        return self._adapter.provider()


class AcmeAdapter(Adapter):
    engine = ACME
    secrets = (KEY,)
    late_failure = "fails_late"
    rejected = {"no_account": "not_on_whatsapp", "bad_content": "refused_request"}
    transient = {"slow_down": "http_429"}
    unknown = {
        "hang_lost": "timeout",
        "hang_delivered": "timeout",
        "reset_before": "connection_broken",
        "reset_after": "connection_broken",
        "html_502": "server_error",
        "html_200": "unreadable_answer",
        "empty": "unreadable_answer",
        "not_json": "unreadable_answer",
    }
    wrong_key = {"key": "other"}, "wrong_key"
    required = ("url", "key")
    address = "url"
    with_id = 202, {"id": "ACME1"}
    without_id = 202, {"id": ""}

    def create_simulator(self, webhook_url: str) -> Simulator:
        return AcmeSimulator(AcmeSettings(key=KEY, webhook_url=webhook_url))

    def channel(self, **settings: Any) -> Channel:
        channel = Channel(name="Acme", kind=ACME.name)
        own = AcmeCredentials(self.app.url, key=KEY)
        credentials.store(channel, dataclasses.replace(own, **settings))
        return channel

    def sent_body(self, request: Mapping[str, Any]) -> Any:
        is_send = request["method"] == "POST" and request["path"].endswith("/messages")
        return request["body"] if is_send else None

    def quoted_id(self, body: Any) -> str:
        return str(body.get("quote", ""))

    def read_answer(self, answer: http_client.Answer) -> Accepted:
        return read_answer(answer)

    def customer_writes(self, text: str) -> str:
        return str(self.control("inbound", **{"from": ORDINARY, "text": text})["id"])

    def echo(self, text: str) -> str:
        return str(self.control("inbound", outgoing=True, **{"from": ORDINARY, "text": text})["id"])

    def edit(self, message_id: str, text: str) -> None:
        self.control("change", id=message_id, event="edited", text=text)

    def revoke(self, message_id: str) -> None:
        self.control("change", id=message_id, event="deleted")

    def session(self) -> Session | None:
        return AcmeLine(self)
