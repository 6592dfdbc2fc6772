"""Stored reasons are shown in each reader's language, whatever the language of the writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation

from channels_app.channels import save_channel
from channels_app.connections.connection_tests import test_connection as run_test
from channels_app.incidents.reason_text import encode_reason, render_reason
from channels_app.models import Channel
from channels_app.providers.base import Rejected
from channels_app.providers.error_codes import failure
from instances.connections import evolution as engine
from instances.listener import process, socket_client
from instances.models import WhatsAppSession
from instances.receive_mode import handover
from messaging.delivery import channel_feedback
from messaging.models import Conversation, Message
from tests.factories import change_channel
from tests.pages.html import parse

# Some of the calls must not run in a transaction, so the tests cannot use one.
pytestmark = pytest.mark.django_db(transaction=True)

NOBODY = "http://127.0.0.1:9"
NAME = "oficina"


@pytest.fixture(params=[None, "pt-br", "en"], ids=["a job", "in Portuguese", "in English"])
def writer(request: pytest.FixtureRequest) -> Iterator[None]:
    """The writer uses this language; None is a job, which has no language."""
    with translation.override(request.param, deactivate=True):
        yield


@pytest.fixture
def read(staff: User, client_for: Callable[..., Client]) -> Callable[[str, str], str]:
    def get(path: str, language: str) -> str:
        answer = client_for(staff, language).get(path)
        assert answer.status_code == 200
        return parse(answer.content).text

    return get


Read = Callable[[str, str], str]


@pytest.fixture
def baileys(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        name="Celular", kind="baileys", evolution_url=NOBODY, evolution_api_key="key",
        instance_name=NAME, phone_number="",
    )  # fmt: skip


def session_of(channel: Channel) -> WhatsAppSession:
    return WhatsAppSession.objects.select_related("channel").get(channel=channel)


def test_a_rejected_send(
    writer: None, read: Read, conversation: Conversation, make_message: Callable[..., Message]
) -> None:
    message = make_message(conversation, attempts=[{"outcome": "rejected", "error_code": "190"}])
    channel_feedback.note(message.attempts.get(), failure(Rejected, "190", "Error validating"))

    assert "The access token has expired (190)" in read("/channels/", "en")
    assert "O token de acesso expirou (190)" in read("/channels/", "pt-br")


def test_a_connection_test(writer: None, read: Read, channel: Channel) -> None:
    change_channel(
        channel, graph_url=NOBODY, fallback="wwebjs", wwebjs_url=NOBODY, wwebjs_session_id="S"
    )
    run_test(channel)

    assert ("The server refused the connection · Fallback: wwebjs-api: The server refused") in read(
        "/channels/", "en"
    )
    assert ("O servidor recusou a conexão · Fallback: wwebjs-api: O servidor recusou") in read(
        "/channels/", "pt-br"
    )


def test_a_problem_of_a_baileys_fallback(
    writer: None, read: Read, channel: Channel, baileys: Channel
) -> None:
    channel.fallback, channel.fallback_channel = "baileys", baileys
    save_channel(channel)
    engine.probe(session_of(baileys).pk)

    assert "is unavailable: The server refused the connection" in read("/", "en")
    assert "está indisponível: O servidor recusou a conexão" in read("/", "pt-br")


def test_a_comparison_with_evolution_and_an_undone_switch(
    writer: None, read: Read, baileys: Channel
) -> None:
    with pytest.raises(handover.SwitchRefused):
        handover.inspect_remote(session_of(baileys))
    with pytest.raises(handover.SwitchRefused):
        handover.enable_webhook(session_of(baileys), base64=True, source="api", user=None)

    english, portuguese = (read(f"/instances/{NAME}/", language) for language in ("en", "pt-br"))
    assert "Evolution does not respond: The server refused the connection" in english
    assert "reverted The server refused the connection" in english
    assert "A Evolution não responde: O servidor recusou a conexão" in portuguese
    assert "desfeita O servidor recusou a conexão" in portuguese


def test_the_reason_why_no_listener_runs(writer: None, read: Read, baileys: Channel) -> None:
    WhatsAppSession.objects.update(websocket_enabled=True)
    process.record_join_state(session_of(baileys).pk, joined=False, note=socket_client.NOT_OPEN)

    assert "Not listening: Evolution has not opened" in read("/instances/", "en")
    assert "Sem escuta: A Evolution ainda não abriu" in read("/instances/", "pt-br")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ("", ""),
        (encode_reason("wrong_key", "Unauthorized"), "The provider rejected the key: Unauthorized"),
        (encode_reason("190", "Bad\n token"), "The access token has expired (190): Bad token"),
        (encode_reason("131999", "New"), "Unknown error 131999: New"),
        (encode_reason("http_503"), "The provider responded with HTTP status 503"),
        (encode_reason("ready_as", "+55 11 · Demo"), "Ready to send as +55 11 · Demo"),
        ("fallback_wwebjs|wrong_key", "Fallback: wwebjs-api: The provider rejected the key"),
        ("wrong_key\nready", "The provider rejected the key · Ready to send."),
        # Stored by earlier versions.
        ("O token expirou (190)", "O token expirou (190)"),
        ("refused: wrong key", "refused: wrong key"),
    ],
)  # fmt: skip
def test_a_stored_reason_is_rendered_as_text(stored: str, expected: str) -> None:
    with translation.override("en"):
        assert render_reason(stored) == expected


def test_the_servers_detail_leaves_space_for_a_second_reason() -> None:
    assert len(encode_reason("number_on_cloud_only", "x" * 1000)) < 260
