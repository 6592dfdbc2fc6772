"""Outgoing files: the request to each provider, and the outcome of each failure."""

from __future__ import annotations

import base64
import io
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web

from channels_app.channels import save_channel
from channels_app.connections.registry import unguarded
from channels_app.models import EvolutionCredentials
from channels_app.providers import files as outbound
from channels_app.providers.base import (
    Accepted,
    OutboundFile,
    OutboundMessage,
    Rejected,
    SendError,
    Transient,
)
from channels_app.providers.cloud.client import (
    read_media_url,
    read_upload,
    request_body,
)
from channels_app.providers.evolution.client import file_request
from channels_app.providers.evolution.receive_mode import EvolutionFailed, EvolutionInstance
from channels_app.providers.wwebjs.client import file_body
from core import http_client
from simulators.base import RunningApp, run_in_thread
from simulators.evolution.app import create_app
from simulators.evolution.model import EvolutionSettings, InstanceSpec
from tests import FIXTURES_DIR, files
from tests.channels_app.conftest import (
    EVOLUTION_KEY,
    INSTANCE,
    ORDINARY,
    RawServer,
    Script,
    baileys,
    official,
    respond,
    text_message,
    with_wwebjs,
)
from tests.conftest import Provider
from tests.factories import cloud_provider, evolution_provider

Start = Callable[[Script], RawServer]
FOLDER = FIXTURES_DIR


def file_out(data: bytes = files.PNG, mime: str = "image/png", **fields: Any) -> OutboundFile:
    return OutboundFile(
        **{
            "mime_type": mime,
            "filename": "foto.png",
            "size": len(data),
            "open": lambda: io.BytesIO(data),
            **fields,
        }
    )


def with_file(type_: str = "image", file: OutboundFile | None = None, **content: Any) -> Any:
    return text_message(type=type_, text="", content=content, file=file or file_out())


def ending(act: Callable[[], Any]) -> SendError:
    with pytest.raises(SendError) as caught:
        act()
    return caught.value


# -- the official API -----------------------------------------------------------------------------


def test_graph_receives_the_bytes_once_and_the_message_refers_to_them(graph: Provider) -> None:
    remembered: list[str] = []
    file = file_out(remember=remembered.append)
    provider = cloud_provider(official(graph.url, access_token="EAAtest-token"))

    accepted = provider.send(with_file(file=file, caption="Olha", media="our-id"))

    assert isinstance(accepted, Accepted)
    [media_id] = remembered
    [uploaded] = graph.simulator._media.values()  # type: ignore[attr-defined]
    assert (uploaded.id, uploaded.data, uploaded.mime_type, uploaded.filename) == (
        media_id, files.PNG, "image/png", "foto.png",
    )  # fmt: skip
    [sent] = graph.sends()
    assert sent["image"] == {"caption": "Olha", "id": media_id}

    again = file_out(uploaded_as=media_id, open=lambda: pytest.fail("read again"))  # type: ignore[arg-type]
    provider.send(with_file(file=again))
    assert len(graph.simulator._media) == 1  # type: ignore[attr-defined]
    assert graph.sends()[-1]["image"] == {"id": media_id}


def test_an_id_that_meta_may_have_deleted_is_cleared(graph: Provider) -> None:
    provider = cloud_provider(official(graph.url, access_token="EAAtest-token"))
    upload_ids: list[str] = []
    file = file_out(uploaded_as="123", remember=upload_ids.append)

    graph.plays("refused_131053", "refused_131053")
    error = ending(lambda: provider.send(with_file(file=file)))
    new = graph.sends()[-1]["image"]["id"]
    assert (type(error), error.code, upload_ids) == (Rejected, "131053", ["", new])

    graph.plays("refused_131051")
    error = ending(lambda: provider.send(with_file(file=file)))
    assert (error.code, upload_ids[2:]) == ("131051", [""])


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (500, b"", Transient, "upload_failed"),
        (200, b"<html>", Transient, "upload_failed"),
        (200, b"{}", Transient, "upload_failed"),
        (429, b"{}", Transient, "http_429"),
        (413, b"{}", Rejected, "http_413"),
        (401, b'{"error": {"code": 190, "message": "bad"}}', Rejected, "190"),
        (400, b'{"error": {"code": 100, "message": "bad type"}}', Rejected, "100"),
        (500, b'{"error": {"code": 131000, "message": "x"}}', Transient, "131000"),
    ],
)
def test_a_failed_upload_has_sent_nothing(
    raw_server: Start, status: int, body: bytes, kind: type[SendError], code: str
) -> None:
    server = raw_server(lambda conn, n: respond(conn, body, status=f"{status} x"))
    error = ending(lambda: cloud_provider(official(server.url)).send(with_file()))
    assert (type(error), error.code) == (kind, code)
    assert len(server.requests) == 1, "the message itself must not be sent"


def test_an_upload_without_a_response_has_sent_nothing(raw_server: Start, dead_url: str) -> None:
    server = raw_server(lambda conn, n: "close")
    error = ending(lambda: cloud_provider(official(server.url)).send(with_file()))
    assert (type(error), error.code) == (Transient, "connection_broken")
    error = ending(lambda: cloud_provider(official(dead_url)).send(with_file()))
    assert (type(error), error.code) == (Transient, "connection_refused")


def test_a_missing_file_is_rejected_and_an_unreadable_one_is_retried() -> None:
    def gone() -> Any:
        raise FileNotFoundError

    def away() -> Any:
        raise OSError

    error = ending(lambda: outbound.read(file_out(open=gone)))
    assert (type(error), error.code) == (Rejected, "file_missing")
    error = ending(lambda: outbound.read(file_out(open=away)))
    assert (type(error), error.code) == (Transient, "file_unreadable")


def test_only_a_document_has_a_file_name_at_meta() -> None:
    assert request_body(with_file("document", caption="x"))["document"] == {
        "caption": "x",
        "filename": "foto.png",
    }
    assert request_body(with_file("video", filename="a.mp4"))["video"] == {}
    link = {"link": "https://example.com/a.pdf", "filename": "a.pdf"}
    message = text_message(type="document", text="", content=link)
    assert request_body(message)["document"] == link


def test_the_token_is_not_sent_without_tls() -> None:
    lookup = http_client.Answer(200, {}, b'{"url": "http://example.com/x"}')
    assert read_media_url(lookup, secure=False) == "http://example.com/x"
    error = ending(lambda: read_media_url(lookup, secure=True))
    assert (type(error), error.code) == (Rejected, "wrong_address")


def test_an_upload_is_identified_by_its_id() -> None:
    assert read_upload(http_client.Answer(200, {}, b'{"id": "77"}')) == "77"


# -- the fallbacks --------------------------------------------------------------------------------


@pytest.mark.django_db
def test_wwebjs_receives_a_message_media(wwebjs: Provider) -> None:
    channel = with_wwebjs(
        wwebjs_url=wwebjs.url, wwebjs_api_key="test-wwebjs-key", wwebjs_session_id="TESTE"
    )
    save_channel(channel)
    unguarded(channel.wwebjs).send(with_file(caption="Olha"))

    [sent] = wwebjs.sends()
    assert sent["contentType"] == "MessageMedia"
    assert sent["content"] == {
        "mimetype": "image/png",
        "data": base64.b64encode(files.PNG).decode(),
        "filename": "foto.png",
        "filesize": len(files.PNG),
    }
    assert sent["options"] == {"sendSeen": False, "linkPreview": False, "caption": "Olha"}


def test_our_document_body_equals_the_recorded_one() -> None:
    text = (FOLDER / "wwebjs" / "341_media.txt").read_text()
    body = next(line[2:] for line in text.splitlines() if line.startswith('> {"'))
    recorded = json.loads(body)
    file = file_out(files.PDF, "application/pdf", filename="boleto.pdf")

    made = file_body(
        with_file("document", file, caption="Segue o boleto"), file, recorded["content"]["data"]
    )

    assert made["contentType"] == recorded["contentType"]
    assert recorded["content"].items() <= made["content"].items()
    assert recorded["options"].items() <= made["options"].items()


@pytest.mark.parametrize(
    ("type_", "content", "option"),
    [
        ("document", {}, "sendMediaAsDocument"),
        ("sticker", {}, "sendMediaAsSticker"),
        ("audio", {"voice": True}, "sendAudioAsVoice"),
    ],
)
def test_wwebjs_receives_the_type_of_the_file(
    type_: str, content: dict[str, Any], option: str
) -> None:
    assert file_body(with_file(type_, **content), file_out(), "")["options"][option] is True


@pytest.fixture
def evolution() -> Iterator[RunningApp]:
    settings = EvolutionSettings(api_key=EVOLUTION_KEY, instances=(InstanceSpec(INSTANCE),))
    app = create_app(settings)
    with run_in_thread(app) as running:
        yield running


@pytest.mark.parametrize(
    ("type_", "data", "mime"),
    [
        ("image", files.PNG, "image/png"),
        ("video", files.MP4, "video/mp4"),
        ("audio", files.OPUS, "audio/ogg"),
        ("document", files.PDF, "application/pdf"),
        ("sticker", files.WEBP, "image/webp"),
    ],
    ids=["image", "video", "audio", "document", "sticker"],
)
def test_evolution_accepts_and_returns_every_type(
    evolution: RunningApp, type_: str, data: bytes, mime: str
) -> None:
    channel = baileys(evolution.url)
    caption = {"caption": "Olha"} if type_ in ("image", "video", "document") else {}

    accepted = evolution_provider(channel).send(
        with_file(type_, file_out(data, mime, filename="a.bin"), **caption)
    )

    assert accepted.provider_message_id
    message = {"key": {"id": accepted.provider_message_id}}
    instance = EvolutionInstance(channel.credentials(EvolutionCredentials))
    assert instance.media(message, most_bytes=10_000) == data


def test_evolution_receives_bare_base64_with_type_name_and_caption() -> None:
    message = with_file("document", caption="Olha")
    assert file_request(message, "5511", file_out(), "QUJD") == (
        "/message/sendMedia/{instance}",
        {
            "number": "5511",
            "mediatype": "document",
            "mimetype": "image/png",
            "media": "QUJD",
            "fileName": "foto.png",
            "caption": "Olha",
        },
    )
    path, body = file_request(with_file("audio", voice=True), "5511", file_out(), "QUJD")
    assert (path, body) == (
        "/message/sendWhatsAppAudio/{instance}",
        {"number": "5511", "audio": "QUJD"},
    )


def test_a_file_of_evolution_that_is_too_large_or_unreadable_is_refused(
    raw_server: Start,
) -> None:
    def large(conn: Any, n: int) -> Any:
        return respond(conn, json.dumps({"base64": "A" * 200_000}).encode())

    def broken(conn: Any, n: int) -> Any:
        return respond(conn, b'{"base64": "not base64"}')

    for script, code in ((large, "too_large"), (broken, "unreadable_answer")):
        instance = EvolutionInstance(
            baileys(raw_server(script).url).credentials(EvolutionCredentials)
        )
        with pytest.raises(EvolutionFailed) as caught:
            instance.media({"key": {"id": "1"}}, most_bytes=1000)
        assert caught.value.code == code


# -- links ----------------------------------------------------------------------------------------


@pytest.fixture
def internal() -> Iterator[socket.socket]:
    """Start a server with a non-public address."""
    with socket.create_server(("127.0.0.2", 0)) as server:
        server.settimeout(5)
        yield server


def url_of(server: socket.socket) -> str:
    host, port = server.getsockname()
    return f"http://{host}:{port}/x.png"


def received_by(server: socket.socket) -> bytes:
    """Return the requests that a server received."""
    connection, _ = server.accept()
    with connection:
        return connection.recv(1024)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, internal: socket.socket) -> Iterator[str]:
    """Start a web site that counts as public."""
    app = web.Application()

    async def serve(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name == "moved":
            return web.Response(status=302, headers={"Location": "/foto.png"})
        if name == "round":
            return web.Response(status=302, headers={"Location": "/round"})
        if name == "inside":
            return web.Response(status=302, headers={"Location": url_of(internal)})
        if name == "nowhere":
            return web.Response(status=302, headers={"Location": "http://[bad/x"})
        if name.isdigit():
            return web.Response(status=int(name))
        pages = {"foto.png": files.PNG, "page": b"<html></html>", "big.png": files.PNG * 10}
        return web.Response(body=pages[name], content_type="text/html")

    app.router.add_get("/{name}", serve)
    monkeypatch.setattr(http_client, "is_public", lambda address: address == "127.0.0.1")
    with run_in_thread(app) as running:
        yield running.url


@pytest.mark.parametrize("name", ["foto.png", "moved"])
def test_a_link_is_fetched_for_the_fallbacks(site: str, name: str) -> None:
    message = text_message(type="image", text="", content={"link": f"{site}/{name}"})
    file = outbound.file_of(message)
    assert outbound.read(file) == files.PNG
    assert (file.mime_type, file.size) == ("image/png", len(files.PNG))
    assert file.filename in ("foto.png", "moved.png")


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("page", Rejected, "link_refused"),
        ("404", Rejected, "link_refused"),
        ("round", Rejected, "link_refused"),
        ("inside", Rejected, "link_refused"),
        ("nowhere", Rejected, "link_refused"),
        ("500", Transient, "link_failed"),
        ("429", Transient, "link_failed"),
    ],
)
def test_a_link_to_an_unsuitable_file_is_never_sent(
    site: str, name: str, kind: type[SendError], code: str
) -> None:
    error = ending(lambda: outbound.fetch_link(f"{site}/{name}", type_="image"))
    assert (type(error), error.code) == (kind, code)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "::1",
        "fe80::1%eth0", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_non_public_addresses_are_detected(address: str) -> None:
    assert not http_client.is_public(address)


def test_internet_addresses_are_public() -> None:
    assert http_client.is_public("8.8.8.8")
    assert http_client.is_public("2001:4860:4860::8888")
    assert http_client.is_public("64:ff9b::808:808")


def test_a_link_never_reaches_our_own_network_in_any_spelling(
    internal: socket.socket,
) -> None:
    host, port = internal.getsockname()
    for link in (url_of(internal), f"http://{host}:{port}\\@example.com/x.png"):
        error = ending(lambda link=link: outbound.fetch_link(link, type_="image"))  # type: ignore[misc]
        assert (type(error), error.code) == (Rejected, "link_refused")
        assert received_by(internal) == b""


def test_a_pooled_provider_connection_does_not_open_our_network_to_a_link(
    wwebjs: Provider,
) -> None:
    assert http_client.request("GET", wwebjs.url, "/ping", timeout=5).status == 200
    error = ending(lambda: outbound.fetch_link(f"{wwebjs.url}/ping", type_="image"))
    assert (type(error), error.code) == (Rejected, "link_refused")


def test_a_recipient_without_digits_is_refused_before_the_file_is_read() -> None:
    message = OutboundMessage(
        reference="m.1",
        to="",
        type="image",
        file=file_out(open=lambda: pytest.fail("read")),  # type: ignore[arg-type]
    )
    assert ending(lambda: evolution_provider(baileys(ORDINARY)).send(message)).code == (
        "invalid_recipient"
    )
