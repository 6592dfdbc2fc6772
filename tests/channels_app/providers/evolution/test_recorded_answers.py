"""Every recorded response on a route that our clients use, parsed by them: one line each.

`write()`, called in `manage.py shell`, rewrites `evolution_recorded.json`: review the diff.
Responses that differ only in IDs and times have one line, under the first name.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from channels_app.providers.base import SendError
from channels_app.providers.evolution.client import read_answer
from channels_app.providers.evolution.instance import EvolutionLifecycle
from channels_app.providers.evolution.receive_mode import (
    EvolutionFailed,
    WebhookConfig,
    WebsocketConfig,
)
from core import http_client
from tests import FIXTURES_DIR

FOLDER = FIXTURES_DIR / "evolution"
EXPECTED = Path(__file__).with_name("evolution_recorded.json")
PASSING = re.compile(
    r'"(id|instanceId|createdAt|updatedAt|messageTimestamp|mediaUrl)": [^,}\]]*|/s/\d{3}/'
)
Exchange = dict[str, Any]


def _disabled(client: EvolutionLifecycle, asked: Any) -> WebhookConfig:
    return client.disable_webhook()


def _socket(client: EvolutionLifecycle, asked: Any) -> WebsocketConfig:
    wanted = asked.get("websocket") if isinstance(asked, dict) else None
    return client.set_websocket(enabled=isinstance(wanted, dict) and wanted.get("enabled") is True)


CLIENT: dict[tuple[str, str], Callable[[EvolutionLifecycle, Any], Any]] = {
    ("GET", "/webhook/find"): lambda client, asked: client.webhook(),
    ("POST", "/webhook/set"): _disabled,
    ("GET", "/websocket/find"): lambda client, asked: client.websocket(),
    ("POST", "/websocket/set"): _socket,
    ("POST", "/chat/findMessages"): lambda client, asked: client.messages(page=1, size=50),
    ("POST", "/chat/getBase64FromMediaMessage"): lambda client, asked: client.media(
        {}, most_bytes=10**6
    ),
    ("GET", "/instance/connectionState"): lambda client, asked: client.state(),
    ("POST", "/instance/create"): lambda client, asked: client.create(),
    ("GET", "/instance/fetchInstances"): lambda client, asked: client.row(),
    ("GET", "/instance/connect"): lambda client, asked: client.connect(),
    ("POST", "/instance/restart"): lambda client, asked: client.restart(),
    ("DELETE", "/instance/logout"): lambda client, asked: client.log_out(),
    ("DELETE", "/instance/delete"): lambda client, asked: client.delete(),
}
SENDS = ("sendText", "sendMedia", "sendWhatsAppAudio", "sendSticker")


def recorded() -> dict[str, Exchange]:
    """Return the exchanges by name, only the first of those without a relevant difference."""
    exchanges_by_name: dict[str, Exchange] = {}
    known = set()
    for file in sorted([*FOLDER.glob("[0-9]*.json"), *FOLDER.glob("v2.3.6/*.json")]):
        version = "2.3.6 " if file.parent.name == "v2.3.6" else ""
        for item in json.loads(file.read_text()):
            if "request" not in item or "response" not in item:
                continue
            method, path = item["request"]["method"], item["request"]["path"].partition("?")[0]
            route = "/".join(path.split("/")[:3])
            is_send = method == "POST" and route.removeprefix("/message/") in SENDS
            if not is_send and (method, route) not in CLIENT:
                continue
            if (
                route == "/instance/fetchInstances"
                and "instanceName=" not in item["request"]["path"]
            ):
                continue  # our client requests one instance by name
            answer = item["response"]
            signature = (
                method,
                route,
                answer["status"],
                PASSING.sub("", json.dumps(answer["body"])),
            )
            if signature in known:
                continue
            known.add(signature)
            name = f"{version}{file.name[:2]} {item['label']} ({method} {route})"
            while name in exchanges_by_name:
                name += "'"
            exchanges_by_name[name] = {**item, "route": (method, route)}
    return exchanges_by_name


def outcome(exchange: Exchange) -> str:
    """Return our client's result for the response."""
    body = exchange["response"]["body"]
    raw = b"" if body == "" else json.dumps(body).encode()
    answer = http_client.Answer(exchange["response"]["status"], {}, raw)
    try:
        if exchange["route"] not in CLIENT:
            accepted = read_answer(answer)
            return f"accepted as {accepted.provider_message_id} for {accepted.recipient_id}"
        with _answering(answer):
            client = EvolutionLifecycle(_instance(exchange["request"]["path"]))
            return _told(CLIENT[exchange["route"]](client, exchange["request"].get("body")))
    except SendError as error:
        return f"{type(error).__name__} {error.code}: {error.detail}"
    except EvolutionFailed as error:
        nothing = ", nothing changed" if error.changed_nothing else ""
        return f"failed, {error.reason}{nothing}: {error.error_text}"


@contextlib.contextmanager
def _answering(answer: http_client.Answer) -> Iterator[None]:
    with mock.patch.object(http_client, "request", return_value=answer):
        yield


def _instance(path: str) -> Any:
    from channels_app.models import EvolutionCredentials

    name = re.search(r"instanceName=(\w+)|^/\w+/\w+/(\w+)", path)
    return EvolutionCredentials(
        url="http://evolution",
        api_key="never-told",
        instance_name=(name.group(1) or name.group(2)) if name else "",
    )


def _told(result: Any) -> str:
    if isinstance(result, WebhookConfig):
        flags = [word for word in ("base64", "by_events") if getattr(result, word)]
        headers = sorted(result.headers)
        return (
            f"webhook {'on' if result.enabled else 'off'} to {result.url!r},"
            f" {len(result.events)} events {flags} {headers}"
        )
    if isinstance(result, WebsocketConfig):
        return f"socket {'on' if result.enabled else 'off'}, {len(result.events)} events"
    if isinstance(result, list):
        return f"{len(result)} messages"
    return f"{len(result)} bytes" if isinstance(result, bytes) else repr(result)


@functools.cache
def _expected() -> dict[str, str]:
    return dict(json.loads(EXPECTED.read_text()))


RECORDED = recorded()


@pytest.mark.parametrize("name", RECORDED)
def test_each_recorded_response_is_parsed_as_expected(name: str) -> None:
    assert outcome(RECORDED[name]) == _expected()[name]


def test_every_expectation_belongs_to_a_recorded_response() -> None:
    assert list(_expected()) == list(RECORDED)


def write() -> None:
    """Overwrite the expectations with the client's current results."""
    current = {name: outcome(exchange) for name, exchange in RECORDED.items()}
    EXPECTED.write_text(json.dumps(current, indent=0, ensure_ascii=False) + "\n")
