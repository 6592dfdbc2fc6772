"""Evolution API with Baileys in the conformance suite."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from django.utils import timezone

from channels_app.models import Channel
from channels_app.providers.base import Accepted, Provider
from channels_app.providers.evolution.client import TYPING_MS, read_answer
from channels_app.providers.evolution.engine import EVOLUTION
from channels_app.providers.evolution.instance import EvolutionLifecycle
from channels_app.providers.evolution.receive_mode import EvolutionFailed
from channels_app.providers.sessions import DerivedState
from core import http_client
from instances.connections import states
from simulators.base import Simulator
from simulators.evolution.app import EvolutionSimulator
from simulators.evolution.model import EVENTS, EvolutionSettings, InstanceSpec
from tests.channels_app.conftest import EVOLUTION_KEY, INSTANCE, ORDINARY, baileys
from tests.channels_app.providers.conformance.adapter import Adapter, Session


class EvolutionSession:
    # An instance is disconnected by unlinking its phone (docs/providers/evolution.md §4).
    can_stop = False
    name = "fresh"

    def __init__(self, adapter: EvolutionAdapter) -> None:
        self._adapter = adapter
        self._instance = EvolutionLifecycle(
            adapter.channel(instance_name=self.name).primary.credentials
        )

    def start(self) -> None:
        if self.state().code == "no_instance":
            self._instance.create()
        self._instance.connect()

    def state(self) -> DerivedState:
        try:
            connection = self._instance.state()
            qr = self._instance.connect().qr if connection == "connecting" else ""
            observation = states.Observation(connection=connection, qr=qr)
        except EvolutionFailed as error:
            observation = states.Observation(error_code=error.reason)
        return states.derive(observation, states.Known(), now=timezone.now())

    def qr(self) -> str:
        return self._instance.connect().qr

    def scan(self) -> None:
        self._adapter.control("scan", instance=self.name)

    def stop(self) -> None:
        raise NotImplementedError

    def unlink(self) -> None:
        self._instance.log_out()

    def provider(self) -> Provider:
        return self._adapter.provider(instance_name=self.name)


class EvolutionAdapter(Adapter):
    engine = EVOLUTION
    secrets = (EVOLUTION_KEY,)
    late_failure = "ack_error"
    rejected = {"not_on_whatsapp": "not_on_whatsapp"}
    transient = {"closed": "instance_not_connected", "closed_cached": "instance_not_connected"}
    unknown = {
        "hang_lost": "timeout",
        "hang_delivered": "timeout",
        "reset_before": "connection_broken",
        "reset_after": "connection_broken",
        "html_502": "server_error",
        "error_delivered": "server_error",
        "error_lost": "server_error",
        "html_200": "unreadable_answer",
        "empty": "unreadable_answer",
        "not_json": "unreadable_answer",
    }
    wrong_key = {"evolution_api_key": "other"}, "wrong_key"
    required = ("evolution_url", "evolution_api_key", "instance_name")
    address = "evolution_url"
    with_id = 201, {"key": {"id": "3EB0C4", "remoteJid": "5511988887777@s.whatsapp.net"}}
    without_id = 201, {"key": {"remoteJid": "5511988887777@s.whatsapp.net"}}

    def create_simulator(self, webhook_url: str) -> Simulator:
        webhook = {"enabled": True, "url": webhook_url, "events": list(EVENTS)}
        return EvolutionSimulator(
            EvolutionSettings(
                api_key=EVOLUTION_KEY,
                # 2.3 ignores the IDs that we choose.
                version="2.4.0",
                instances=(
                    InstanceSpec(INSTANCE, webhook=webhook),
                    InstanceSpec("other", webhook=webhook, open=False),
                ),
                ack_delays=(0, 0, 0),
                connect_wait_seconds=0,
                create_wait_seconds=0,
                slow_seconds=0.1,
            )
        )

    def channel(self, **settings: Any) -> Channel:
        timeout = settings.pop("timeout", 3)
        return baileys(self.app.url, request_timeout_seconds=timeout, **settings)

    def sent_body(self, request: Mapping[str, Any]) -> Any:
        return request["body"] if request["path"].startswith("/message/send") else None

    def quoted_id(self, body: Any) -> str:
        return str(body.get("quoted", {}).get("key", {}).get("id", ""))

    def read_answer(self, answer: http_client.Answer) -> Accepted:
        return read_answer(answer)

    def marking(self, ids: list[str], *, typing: bool) -> list[Any]:
        number = ORDINARY.removeprefix("+")
        key = {"remoteJid": f"{number}@s.whatsapp.net", "fromMe": False}
        typed = {"number": number, "presence": "composing", "delay": TYPING_MS}
        marked = {"readMessages": [{**key, "id": id_} for id_ in ids]}
        return [marked, typed] if typing else [marked]

    def customer_writes(self, text: str) -> str:
        sender = ORDINARY.removeprefix("+")
        command = {"instance": INSTANCE, "from": sender, "text": text}
        return str(self.control("inbound", **command)["id"])

    def customer_sends_a_picture(self, data: bytes) -> str:
        encoded = base64.b64encode(data).decode()
        command = {"instance": INSTANCE, "kind": "image", "base64": encoded}
        return str(self.control("inbound", **command)["id"])

    def echo(self, text: str) -> str:
        command = {"instance": INSTANCE, "from": ORDINARY.removeprefix("+"), "text": text}
        return str(self.control("inbound", from_me=True, **command)["id"])

    def edit(self, message_id: str, text: str) -> None:
        self.control("inbound", instance=INSTANCE, kind="edit", target=message_id, text=text)

    def revoke(self, message_id: str) -> None:
        self.control("inbound", instance=INSTANCE, kind="revoke", target=message_id)

    def other_events(self) -> None:
        self.control("inbound", instance=INSTANCE, kind="call")
        contact = {
            "remoteJid": "5511988887777@s.whatsapp.net",
            "lid": "123456789@lid",
            "pushName": "Ana",
        }
        self.control("event", instance=INSTANCE, event="contacts.update", data=contact)
        chat = {"remoteJid": "5511988887777@s.whatsapp.net", "fromMe": False}
        reaction = {"text": "👍", "key": {"id": "3EB0C4"}}
        data = {"key": {**chat, "id": "3A01"}, "message": {"reactionMessage": reaction}}
        data |= {"messageType": "reactionMessage", "messageTimestamp": 1795301018}
        self.control("event", instance=INSTANCE, event="messages.upsert", data=data)
        group = [{"id": "120363025246125486@g.us", "subject": "Clientes"}]
        self.control("event", instance=INSTANCE, event="groups.upsert", data=group)
        results = [{"name": "a", "voters": [chat["remoteJid"]]}]
        vote = {**chat, "keyId": "3EB0C5", "status": "SERVER_ACK", "pollUpdates": results}
        self.control("event", instance=INSTANCE, event="messages.update", data=vote)
        EvolutionLifecycle(self.channel(instance_name="other").primary.credentials).connect()

    def session(self) -> Session | None:
        return EvolutionSession(self)
