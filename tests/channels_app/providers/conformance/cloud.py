"""The official Cloud API in the conformance suite."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from channels_app.models import Channel
from channels_app.providers.base import Accepted, Quote
from channels_app.providers.cloud.client import read_answer
from channels_app.providers.cloud.engine import CLOUD
from core import http_client
from simulators.base import Simulator
from simulators.graph.app import GraphNumber, GraphSettings, GraphSimulator
from tests.channels_app.conftest import NUMBER_ID, ORDINARY, TOKEN, official
from tests.channels_app.providers.conformance.adapter import Adapter


class CloudAdapter(Adapter):
    engine = CLOUD
    secrets = (TOKEN,)
    late_failure = "late_131047"
    rejected = {"refused_131047": "131047", "refused_131026": "131026", "refused_10": "10"}
    transient = {"refused_131000": "131000", "refused_130429": "130429", "refused_131016": "131016"}
    unknown = {
        "hang_before": "timeout",
        "hang_after": "timeout",
        "reset_before": "connection_broken",
        "reset_after": "connection_broken",
        "html_502": "server_error",
        "error_500": "server_error",
        "html_200": "unreadable_answer",
        "empty": "unreadable_answer",
        "not_json": "unreadable_answer",
    }
    wrong_key = {"access_token": "other"}, "190"
    required = ("phone_number_id", "access_token")
    address = "graph_url"
    with_id = 200, {"messaging_product": "whatsapp", "messages": [{"id": "wamid.AA=="}]}
    without_id = 200, {"messaging_product": "whatsapp", "messages": [{}]}
    quote = Quote("wamid.HBgNNTUxMTk4ODg4Nzc3NxUCABIYFDNFQjBDNDMxQzI2QTE5MTZFMDdFAA==", False)

    def create_simulator(self, webhook_url: str) -> Simulator:
        number = GraphNumber(NUMBER_ID, token=TOKEN)
        return GraphSimulator(
            GraphSettings(
                numbers={NUMBER_ID: number},
                webhook_url=webhook_url,
                status_delay=0,
                late_failure_delay=0,
                slow_seconds=0.1,
            )
        )

    def channel(self, **settings: Any) -> Channel:
        timeout = settings.pop("timeout", 3)
        return official(self.app.url, request_timeout_seconds=timeout, **settings)

    def sent_body(self, request: Mapping[str, Any]) -> Any:
        return request["body"] if request["path"].endswith("/messages") else None

    def quoted_id(self, body: Any) -> str:
        return str(body.get("context", {}).get("message_id", ""))

    def read_answer(self, answer: http_client.Answer) -> Accepted:
        return read_answer(answer)

    def marking(self, ids: list[str], *, typing: bool) -> list[Any]:
        body = {"messaging_product": "whatsapp", "status": "read", "message_id": ids[-1]}
        return [{**body, "typing_indicator": {"type": "text"}} if typing else body]

    def customer_writes(self, text: str) -> str:
        answer = self.control("inbound", **{"from": ORDINARY, "text": text})
        return str(answer["message"]["id"])

    def customer_sends_a_picture(self, data: bytes) -> str:
        command = {"from": ORDINARY, "type": "image", "data": base64.b64encode(data).decode()}
        return str(self.control("inbound", **command)["message"]["id"])

    def edit(self, message_id: str, text: str) -> None:
        message = {"type": "text", "text": {"body": text}}
        self._changes("edit", {"original_message_id": message_id, "message": message})

    def revoke(self, message_id: str) -> None:
        self._changes("revoke", {"original_message_id": message_id})

    def other_events(self) -> None:
        self._changes("reaction", {"message_id": self.customer_writes("oi"), "emoji": "👍"})
        update = {"user_id": {"previous": "BR.1", "current": "BR.2"}}
        self.control("webhook", field="user_id_update", value={"user_id_update": [update]})

    def _changes(self, kind: str, content: Mapping[str, Any]) -> None:
        self.control("inbound", **{"from": ORDINARY, "type": kind, "content": content})

    def echo(self, text: str) -> str:
        return str(self.control("echo", to=ORDINARY, text=text)["message"]["id"])
