"""wwebjs-api in the conformance suite."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from channels_app.models import Channel
from channels_app.providers.base import Accepted, Provider
from channels_app.providers.sessions import DerivedState
from channels_app.providers.wwebjs import states
from channels_app.providers.wwebjs.client import read_answer
from channels_app.providers.wwebjs.engine import WWEBJS
from channels_app.providers.wwebjs.session import WwebjsSessions
from core import http_client
from simulators.base import Simulator
from simulators.wwebjs.app import WwebjsSettings, WwebjsSimulator
from tests.channels_app.conftest import ORDINARY, SESSION, WWEBJS_KEY, with_wwebjs
from tests.channels_app.providers.conformance.adapter import Adapter, Session

CHAT = "5511988887777@c.us"


class WwebjsSession:
    can_stop = True
    name = "fresh"

    def __init__(self, adapter: WwebjsAdapter) -> None:
        self._adapter = adapter
        self._sessions = WwebjsSessions(
            adapter.channel(wwebjs_session_id=self.name).wwebjs.credentials
        )

    def start(self) -> None:
        self._sessions.start()

    def state(self) -> DerivedState:
        return states.derive(self._sessions.poll())

    def qr(self) -> str:
        return self._sessions.poll().qr

    def scan(self) -> None:
        self._adapter.control(f"sessions/{self.name}", action="scan")

    def stop(self) -> None:
        self._sessions.stop()

    def unlink(self) -> None:
        self._sessions.terminate()

    def provider(self) -> Provider:
        return self._adapter.provider(wwebjs_session_id=self.name)


class WwebjsAdapter(Adapter):
    engine = WWEBJS
    secrets = (WWEBJS_KEY,)
    late_failure = "ack_error"
    rejected = {
        "not_on_whatsapp": "not_on_whatsapp",
        "invalid_wid": "invalid_recipient",
        "ack_error": "ack_error",
    }
    transient = {
        "session_not_found": "session_not_found",
        "session_not_connected": "session_not_connected",
        "browser_tab_closed": "session_closed",
        "get_chat": "session_not_ready",
        "rate_limited_lookup": "rate_overlimit",
    }
    unknown = {
        "hang_lost": "timeout",
        "hang_delivered": "timeout",
        "reset_before": "connection_broken",
        "reset_after": "connection_broken",
        "html_502": "server_error",
        "target_closed_delivered": "server_error",
        "html_200": "unreadable_answer",
        "empty": "unreadable_answer",
        "not_json": "unreadable_answer",
        "queued": "only_queued",
    }
    wrong_key = {"wwebjs_api_key": "other"}, "wrong_key"
    required = ("wwebjs_url", "wwebjs_session_id")
    quotes_anything = False
    address = "wwebjs_url"
    with_id = 200, {"success": True, "message": {"id": {"id": "3EB0C4"}, "ack": 1}}
    without_id = 200, {"success": True}
    look_up = b'{"success":true,"result":{"_serialized":"5511988887777@c.us"}}'

    def create_simulator(self, webhook_url: str) -> Simulator:
        return WwebjsSimulator(
            WwebjsSettings(
                api_key=WWEBJS_KEY,
                ready_sessions=(SESSION,),
                webhook_url=webhook_url,
                start_seconds=0,
                pairing_seconds=0,
                sync_seconds=0,
                send_seconds=0,
                ack_delay=0,
                protocol_timeout=1.5,
                late_delivery_seconds=0,
            )
        )

    def channel(self, **settings: Any) -> Channel:
        timeout = settings.pop("timeout", 3)
        return with_wwebjs(self.app.url, request_timeout_seconds=timeout, **settings)

    def sent_body(self, request: Mapping[str, Any]) -> Any:
        return request["body"] if "/client/sendMessage/" in request["path"] else None

    def quoted_id(self, body: Any) -> str:
        return str(body["options"].get("quotedMessageId", "")).rpartition("_")[2]

    def read_answer(self, answer: http_client.Answer) -> Accepted:
        return read_answer(answer, CHAT)

    def marking(self, ids: list[str], *, typing: bool) -> list[Any]:
        # Both name the chat only.
        chat = {"chatId": f"{ORDINARY.removeprefix('+')}@c.us"}
        return [chat, chat] if typing else [chat]

    def customer_writes(self, text: str) -> str:
        command = {"session": SESSION, "from": ORDINARY, "text": text}
        return str(self.control("inbound", **command)["message"]["id"]["id"])

    def echo(self, text: str) -> str:
        # The session reports what is sent through it as well.
        accepted = self.provider().send(self.message(to=ORDINARY, text=text))
        return str(accepted.provider_message_id)

    def customer_sends_a_picture(self, data: bytes) -> str:
        encoded = base64.b64encode(data).decode()
        command = {"session": SESSION, "from": ORDINARY, "type": "image", "data": encoded}
        return str(self.control("inbound", **command)["message"]["id"]["id"])

    def edit(self, message_id: str, text: str) -> None:
        message = {**self._message(message_id), "body": text}
        self._callback("message_edit", message=message, newBody=text, prevBody="?")

    def revoke(self, message_id: str) -> None:
        message = {**self._message(message_id), "body": "", "type": "revoked"}
        self._callback("message_revoke_everyone", message=message)

    def other_events(self) -> None:
        self.control(f"sessions/{SESSION}", action="conflict")
        # The journal has replaced the file's base64.
        file = {"filename": "foto.png", "data": {"stored": "inbound/1.bin", "size": 1}}
        id_ = self.customer_writes("foto")
        self._callback("media", message=self._message(id_), messageMedia=file)
        person = {"id": {"fromMe": False}, "senderId": CHAT, "timestamp": 1795301018}
        key = self._message(id_)["id"]
        self._callback("message_reaction", reaction={**person, "msgId": key, "reaction": "👍"})
        vote = {"voter": CHAT, "selectedOptions": [{"name": "a"}], "parentMsgKey": key}
        self._callback("vote_update", vote={**vote, "interractedAtTs": 1795301018000})

    def _message(self, id_: str) -> dict[str, Any]:
        key = {"fromMe": False, "remote": CHAT, "id": id_, "_serialized": f"false_{CHAT}_{id_}"}
        return {"id": key, "fromMe": False, "from": CHAT, "type": "chat", "timestamp": 1795301018}

    def _callback(self, kind: str, **data: Any) -> None:
        self.control("callback", session=SESSION, kind=kind, data=data)

    def session(self) -> Session | None:
        return WwebjsSession(self)
