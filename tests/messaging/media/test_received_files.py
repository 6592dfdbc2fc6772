"""Received files: bytes that came along in any place, and files that are not what was announced."""

from __future__ import annotations

import base64
import hashlib
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from channels_app.models import Channel
from channels_app.providers import media_types
from channels_app.providers.evolution import events as evolution_events
from messaging import words
from messaging.media import files as media_files
from messaging.models import Media, Message
from simulators.base import run_in_thread
from simulators.wwebjs.app import WwebjsSettings, WwebjsSimulator
from tests import files
from tests.conftest import WWEBJS_KEY, WWEBJS_SESSION
from tests.messaging.field_cases import case, receive_evolution, receive_wwebjs

pytestmark = pytest.mark.django_db

PNG = base64.b64encode(files.PNG).decode()


@pytest.fixture(autouse=True)
def storage(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def baileys(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        kind="baileys",
        phone_number_id="",
        evolution_url="http://127.0.0.1:9",
        evolution_api_key="key",
        instance_name="oficina_demo",
    )


def fetched(message: Message) -> Media:
    assert message.media is not None
    media_files.fetch(str(message.media_id))
    message.media.refresh_from_db()
    return message.media


def test_bytes_that_came_along_are_used(baileys: Channel) -> None:
    receive_evolution(baileys, case("evolution/media-at-hand")["events"])
    messages = list(Message.objects.order_by("created_at"))
    assert [message.text for message in messages] == ["data.base64", "data uri"]
    for message in messages:
        media = fetched(message)
        assert (media.state, media.mime_type) == ("stored", "image/png")
        assert media.file.read().startswith(b"\x89PNG")


def placed(place: str, encoded: str) -> dict[str, Any]:
    image: dict[str, Any] = {"mimetype": "image/png"}
    message: dict[str, Any] = {"imageMessage": image}
    data: dict[str, Any] = {"key": {"id": "3A1"}, "message": message}
    if place == "envelope":
        data["message"] = {"ephemeralMessage": {"message": message}}
    holder = {"message": message, "data": data}.get(place, image)
    holder["base64"] = encoded
    return {"event": "messages.upsert", "data": data}


@pytest.mark.parametrize("place", ["message", "data", "object", "envelope"])
def test_the_file_is_found_in_every_place(place: str) -> None:
    gathered = evolution_events.gather_file(placed(place, PNG))
    assert gathered["data"]["message"]["base64"] == PNG
    assert str(gathered).count(PNG) == 1
    again = evolution_events.gather_file(gathered)
    assert again == gathered
    key = evolution_events.dedupe_key
    assert key(gathered) == key(placed(place, PNG)) == key(placed(place, ""))


@pytest.mark.parametrize("data", [None, [], "x", {"message": None}, {"message": {"base64": 7}}])
def test_an_event_without_a_file_stays_unchanged(data: Any) -> None:
    assert evolution_events.gather_file({"data": data}) == {"data": data}


@pytest.mark.parametrize(
    "encoded", [PNG, f"data:image/png;base64,{PNG}", "\r\n".join(textwrap.wrap(PNG, 76))]
)
def test_every_form_of_base64_is_read(encoded: str) -> None:
    from messaging.media import embedded_files

    extracted = embedded_files.extract({"file": encoded}, ("file",))
    assert extracted["file"]["size"] == len(files.PNG)


SHA = hashlib.sha256(files.PNG)


@pytest.mark.parametrize(
    ("announced", "is_same"),
    [
        ({}, True),
        ({"sha256": SHA.hexdigest()}, True),
        ({"sha256": base64.b64encode(SHA.digest()).decode()}, True),
        ({"sha256": base64.urlsafe_b64encode(SHA.digest()).decode()}, True),
        ({"sha256": "x", "size": "y", "mime_type": 7}, True),
        ({"sha256": "0" * 64}, False),
        ({"sha256": base64.b64encode(b"0" * 32).decode()}, False),
        ({"size": len(files.PNG)}, True),
        ({"size": 1}, False),
        ({"mime_type": "image/jpeg"}, True),
        ({"mime_type": "application/pdf"}, True),
    ],
)
def test_a_file_must_be_what_was_announced(announced: dict[str, Any], is_same: bool) -> None:
    found = media_types.is_announced(
        announced, sniffed="image/png", sha256=SHA.hexdigest(), size=len(files.PNG)
    )
    assert found == is_same


def test_a_page_is_not_the_announced_picture() -> None:
    announced = {"mime_type": "image/jpeg"}
    assert not media_types.is_announced(announced, sniffed="text/plain", sha256="", size=1)


@pytest.mark.parametrize(
    ("sniffed", "announced", "expected"),
    [
        ("image/png", "image/jpeg", "image/png"),
        (media_types.UNKNOWN, "image/heic", "image/heic"),
        (media_types.UNKNOWN, "audio/ogg; codecs=opus", "audio/ogg"),
        ("text/plain", "text/csv", "text/csv"),
        (media_types.UNKNOWN, "text/html", media_types.UNKNOWN),
        (media_types.UNKNOWN, "image/svg+xml", media_types.UNKNOWN),
        (media_types.UNKNOWN, None, media_types.UNKNOWN),
        (media_types.UNKNOWN, "nonsense", media_types.UNKNOWN),
    ],
)
def test_a_type_that_nobody_can_detect_is_the_announced_one(
    sniffed: str, announced: Any, expected: str
) -> None:
    assert media_types.received_type(sniffed, announced) == expected


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("WhatsApp Image 2026-11-30 at 10.00.00.jpeg", ""),
        ("IMG-20261130-WA0001.jpg", ""),
        ("PTT-20261130-WA0001.opus", ""),
        ("image-20261130-120000.jpg", ""),
        ("1b4e28ba-2fa1-11d2-883f-0016d3cca427.jpg", ""),
        ("contrato.pdf", "contrato.pdf"),
        ("image-de-perfil.png", "image-de-perfil.png"),
    ],
)
def test_names_that_nobody_chose_are_hidden(name: str, own: str) -> None:
    assert words.own_name(name) == own


# -- wwebjs ----------------------------------------------------------------------------------------


@pytest.fixture
def session() -> Iterator[Any]:
    simulator = WwebjsSimulator(
        WwebjsSettings(api_key=WWEBJS_KEY, ready_sessions=(WWEBJS_SESSION,))
    )
    with ExitStack() as stack:
        yield stack.enter_context(run_in_thread(simulator.application()))


def picture(server: Any, channel: Channel) -> Message:
    """Let a customer send a picture, and receive the callback without the file."""
    order = {"session": WWEBJS_SESSION, "from": "+5511977776666", "data": PNG, "silent": True}
    answer = requests.post(f"{server.url}/_control/inbound", json=order, timeout=5)
    data = {"message": answer.json()["message"]}
    receive_wwebjs(channel, [{"dataType": "message", "data": data}])
    return Message.objects.get()


def test_a_file_that_a_callback_did_not_bring_is_fetched(
    session: Any, make_channel: Callable[..., Channel]
) -> None:
    channel = attached(session, make_channel)
    message = picture(session, channel)
    assert message.media is not None
    # It may still come by itself.
    assert fetched(message).state == "waiting"
    Media.objects.update(next_try_at=message.created_at)
    assert fetched(message).state == "stored"
    assert message.media.file.read() == files.PNG


def test_a_file_that_comes_by_itself_is_used(
    session: Any, make_channel: Callable[..., Channel]
) -> None:
    channel = attached(session, make_channel)
    message = picture(session, channel)
    key = {"id": message.provider_message_id}
    media = {"data": PNG, "filename": "foto.png", "mimetype": "image/png"}
    data = {"message": {"id": key, "fromMe": False}, "messageMedia": media}
    receive_wwebjs(channel, [{"dataType": "media", "data": data}] * 2)
    assert Media.objects.get().source["stored"].startswith("inbound/")
    assert fetched(message).state == "stored"
    assert fetched(message).filename == "foto.png"


def attached(session: Any, make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        fallback="wwebjs",
        wwebjs_url=session.url,
        wwebjs_api_key=WWEBJS_KEY,
        wwebjs_session_id=WWEBJS_SESSION,
    )
