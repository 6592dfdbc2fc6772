"""The command that installs the server, as specified in the requirements."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from channels_app.connections.wwebjs_install import KEY_PLACEHOLDER, docker_command
from channels_app.models import Channel
from tests.factories import update_connection

# requirements, "Como instalar a wwebjs-api"
MISSION = """docker run -d \\
  --name wwebjs_api \\
  -p 3500:3000 \\
  --restart=always \\
  -e ENABLE_LOCAL_CALLBACK_EXAMPLE=FALSE \\
  -e MAX_ATTACHMENT_SIZE=10000000 \\
  -e SET_MESSAGES_AS_SEEN=FALSE \\
  -e "DISABLED_CALLBACKS=auth_failure|authenticated|call|change_state|disconnected|group_join|\
group_leave|group_update|loading_screen|media_uploaded|message|message_ack|message_create|\
message_reaction|message_revoke_everyone|qr|ready|contact_changed" \\
  -e ENABLE_SWAGGER_ENDPOINT=FALSE \\
  -e PUPPETEER_SKIP_CHROMIUM_DOWNLOAD=TRUE \\
  -e NODE_ENV=production \\
  -e API_KEY=suaapikey \\
  -e ENABLE_WEBHOOK=FALSE \\
  -e PORT=3000 \\
  avoylenko/wwebjs-api"""

pytestmark = pytest.mark.django_db


def channel(**fields: Any) -> Channel:
    return Channel(
        **{
            "pk": 7,
            "fallback": "wwebjs",
            "phone_number": "+55 11 90000-0001",
            "wwebjs_url": "http://127.0.0.1:3500",
            "wwebjs_api_key": "suaapikey",
            "wwebjs_session_id": "TESTE",
            **fields,
        }
    )


def variables(command: str) -> dict[str, str]:
    """Return the environment that the container would have."""
    arguments = shlex.split(command.replace("\\\n", " "))
    given = [arguments[index + 1] for index, argument in enumerate(arguments) if argument == "-e"]
    return dict(variable.split("=", 1) for variable in given)


def test_without_callbacks_it_is_the_documented_command() -> None:
    assert docker_command(channel(), callbacks=False, reveal=True) == MISSION


def test_the_key_is_shown_only_on_request() -> None:
    for callbacks in (False, True):
        hidden = docker_command(channel(), callbacks=callbacks)
        assert "suaapikey" not in hidden
        assert variables(hidden)["API_KEY"] == KEY_PLACEHOLDER


def test_with_callbacks_only_the_required_ones_are_enabled(settings: Any) -> None:
    settings.PUBLIC_URL = "https://alterna.example.com"
    given = variables(docker_command(channel(), callbacks=True, reveal=True))
    assert given["BASE_WEBHOOK_URL"] == "https://alterna.example.com/api/webhooks/wwebjs/7"
    assert "ENABLE_WEBHOOK" not in given
    off = set(given["DISABLED_CALLBACKS"].split("|"))
    assert off.isdisjoint(
        {"message_ack", "ready", "disconnected", "qr", "change_state", "auth_failure"}
    )
    assert {"message", "message_create", "media", "unread_count", "loading_screen"} <= off


def test_messages_typed_on_the_phone_are_reported_only_if_shown() -> None:
    given = variables(docker_command(channel(ignore_messages_sent_outside=False), callbacks=True))
    assert not {"message_create", "media"} & set(given["DISABLED_CALLBACKS"].split("|"))


@pytest.mark.parametrize(
    ("own", "reported"),
    [("", False), ("5511900000001", False), ("551100000001", False), ("5511977770000", True)],
)
def test_customers_messages_are_reported_only_for_another_number(own: str, reported: bool) -> None:
    linked = channel()
    linked.save()
    update_connection(linked, "wwebjs", own_number=own)
    given = variables(docker_command(linked, callbacks=True))
    assert ("message" not in given["DISABLED_CALLBACKS"].split("|")) is reported


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://127.0.0.1:3500", 3500),
        ("http://10.0.0.5:4000/", 4000),
        ("https://wa.example.com", 3500),
        ("http://x:99999", 3500),
    ],
)
def test_the_port_is_that_of_the_address(url: str, port: int) -> None:
    assert f"-p {port}:3000" in docker_command(channel(wwebjs_url=url), callbacks=False)


@pytest.mark.parametrize("key", ["with space", "a'b", 'a"b', "$HOME", "a`id`b", "a;b|c", "é\\"])
def test_no_key_breaks_out_of_the_command(key: str) -> None:
    command = docker_command(channel(wwebjs_api_key=key), callbacks=False, reveal=True)
    assert variables(command)["API_KEY"] == key
    assert re.search(r"avoylenko/wwebjs-api\Z", command)
