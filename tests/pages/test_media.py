"""Files in the pages: the bubble, the composer's form, and the file responses."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from messaging import demo, demo_picture
from messaging.media import files as media
from messaging.models import Conversation, Media, Message
from tests import files
from tests.pages.html import parse

pytestmark = pytest.mark.django_db
MakeMessage = Callable[..., Message]
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def storage(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


def upload(data: bytes = files.PNG, name: str = "pc-gamer.png") -> Media:
    return media.store_upload(SimpleUploadedFile(name, data), user=None)


def page_of(client: Client, conversation: Conversation) -> Any:
    return parse(client.get(f"/conversations/{conversation.pk}/").content)


def bytes_of(answer: Any) -> bytes:
    return b"".join(answer.streaming_content)


def test_an_image_has_its_name_and_a_download_button(
    staff_client: Client, conversation: Conversation, make_message: MakeMessage
) -> None:
    file = upload()
    message = make_message(
        conversation, type="image", text="", content={"media": str(file.pk), "caption": "Olha"},
        media=file, status="sent", route="wwebjs",
    )  # fmt: skip

    bubble = page_of(staff_client, conversation).one(data_message=str(message.pk))

    bubble.one(data_icon="globe")
    assert "pc-gamer.png" in bubble.text
    assert "Olha" in bubble.text
    assert bubble.all("img", src=f"/media/{file.pk}/")
    bubble.one("a", href=f"/media/{file.pk}/?download", download="pc-gamer.png")


@pytest.mark.parametrize(
    ("type_", "data", "name", "tag"),
    [
        ("video", files.MP4, "a.mp4", "video"),
        ("audio", files.OPUS, "a.ogg", "audio"),
    ],
    ids=["video", "audio"],
)
def test_video_and_audio_have_a_player(
    staff_client: Client,
    conversation: Conversation,
    make_message: MakeMessage,
    type_: str,
    data: bytes,
    name: str,
    tag: str,
) -> None:
    make_message(conversation, type=type_, text="", media=upload(data, name), direction="in")
    page_of(staff_client, conversation).one(tag)


def test_an_image_sent_as_a_document_is_not_displayed(
    staff_client: Client, conversation: Conversation, make_message: MakeMessage
) -> None:
    make_message(conversation, type="document", text="", media=upload())
    html = staff_client.get(f"/conversations/{conversation.pk}/").content.decode()
    assert "<img src=" not in html
    assert "pc-gamer.png" in html


def test_a_file_that_failed_shows_the_error_and_can_be_fetched_again(
    staff_client: Client, reader: Client, conversation: Conversation, make_message: MakeMessage
) -> None:
    file = Media.objects.create(state="failed", error_code="connection_refused")
    message = make_message(conversation, type="image", text="", direction="in", media=file)
    again = f"/messages/{message.pk}/fetch/"
    html = staff_client.get(f"/conversations/{conversation.pk}/").content.decode()
    assert "could not be downloaded" in html
    assert "The server refused the connection" in html
    assert again in html
    assert again not in reader.get(f"/conversations/{conversation.pk}/").content.decode()

    bubble = staff_client.post(again, headers=HTMX)

    assert "downloading" in bubble.content.decode()
    file.refresh_from_db()
    assert file.state == "waiting"
    refused = staff_client.post(again, headers=HTMX)
    assert "toast" in refused["HX-Trigger"]


def test_the_composer_sends_an_upload_with_its_caption(
    staff_client: Client, conversation: Conversation
) -> None:
    file = upload()
    answer = staff_client.post(
        f"/conversations/{conversation.pk}/",
        {"text": "Olha\r\nsó", "media": str(file.pk), "type": "image", "key": "k1"},
        headers=HTMX,
    )
    message = Message.objects.get()
    assert str(message.pk) in answer.content.decode()
    assert (message.type, message.media) == ("image", file)
    assert message.content == {"media": str(file.pk), "caption": "Olha\nsó"}


@pytest.mark.parametrize("fields", [{"type": "video"}, {"type": "x"}, {"media": "7"}])
def test_the_composer_shows_why_a_file_cannot_be_sent(
    staff_client: Client, conversation: Conversation, fields: dict[str, str]
) -> None:
    body = {"text": "", "media": str(upload().pk), "type": "image", **fields}
    answer = staff_client.post(f"/conversations/{conversation.pk}/", body, headers=HTMX)
    assert answer.status_code == 400
    assert answer.content
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("data", "name", "mime_type", "shown"),
    [
        (files.PNG, "a.png", "image/png", True),
        (files.MP4, "a.mp4", "video/mp4", True),
        (files.OPUS, "a.ogg", "audio/ogg", True),
        (files.PDF, "a.pdf", "application/pdf", False),
        (b"<script>alert(1)</script>", "a.html", "text/plain", False),
    ],
    ids=["png", "mp4", "ogg", "pdf", "html"],
)
def test_only_safe_types_are_shown_inline(
    staff_client: Client, data: bytes, name: str, mime_type: str, shown: bool
) -> None:
    file = upload(data, name)
    answer = staff_client.get(f"/media/{file.pk}/")
    assert bytes_of(answer) == data
    assert answer["Content-Type"] == mime_type
    kind = "inline" if shown else "attachment"
    assert answer["Content-Disposition"] == f'{kind}; filename="{name}"'
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer["Content-Security-Policy"]
    assert "private" in answer["Cache-Control"]
    saved = staff_client.get(f"/media/{file.pk}/?download")
    assert saved["Content-Disposition"].startswith("attachment")


def test_a_file_name_cannot_inject_headers(staff_client: Client) -> None:
    file = upload(name='evil"\r\nX-Evil: 1; á.png')
    answer = staff_client.get(f"/media/{file.pk}/?download")
    assert "X-Evil" not in answer
    assert "\n" not in answer["Content-Disposition"]


@pytest.mark.parametrize(
    ("header", "status", "part", "content_range"),
    [
        ("bytes=0-3", 206, files.MP4[:4], "bytes 0-3/{size}"),
        ("bytes=4-", 206, files.MP4[4:], "bytes 4-{last}/{size}"),
        ("bytes=-5", 206, files.MP4[-5:], "bytes {tail}-{last}/{size}"),
        ("bytes=0-99999", 206, files.MP4, "bytes 0-{last}/{size}"),
        ("bytes=99999-", 416, None, "bytes */{size}"),
        ("bytes=-0", 416, None, "bytes */{size}"),
        ("bytes=5-2", 416, None, "bytes */{size}"),
        ("bytes=0-1,3-4", 200, files.MP4, None),
        ("lines=1-2", 200, files.MP4, None),
        ("bytes=-", 200, files.MP4, None),
    ],
    ids=range(10),
)
def test_a_range_request_returns_a_part(
    staff_client: Client, header: str, status: int, part: bytes | None, content_range: str | None
) -> None:
    file = upload(files.MP4, "a.mp4")
    answer = staff_client.get(f"/media/{file.pk}/", headers={"Range": header})
    assert answer.status_code == status
    size = len(files.MP4)
    if content_range:
        assert answer["Content-Range"] == content_range.format(
            size=size, last=size - 1, tail=size - 5
        )
    if part is not None:
        assert bytes_of(answer) == part
        assert int(answer["Content-Length"]) == len(part)


def test_anonymous_users_and_staff_without_permission_get_no_file(
    client: Client, make_user: Callable[..., User], client_for: Callable[[User], Client]
) -> None:
    path = f"/media/{upload().pk}/"
    assert client.get(path).status_code == 302
    assert client_for(make_user("caio")).get(path).status_code == 403
    stranger = make_user("rui", "messaging.view_message", is_staff=False)
    assert client_for(stranger).get(path).status_code == 403


def test_a_missing_file_returns_404(staff_client: Client, storage: Path) -> None:
    assert staff_client.get(f"/media/{uuid.uuid4()}/").status_code == 404
    waiting = Media.objects.create(state="waiting")
    assert staff_client.get(f"/media/{waiting.pk}/").status_code == 404
    file = upload()
    (storage / str(file.file.name)).unlink()
    assert staff_client.get(f"/media/{file.pk}/").status_code == 404


def test_the_demo_shows_an_image_sent_by_the_fallback(staff_client: Client) -> None:
    for _ in range(2):  # running it twice creates one demo
        demo.make(graph_url="http://127.0.0.1:9", wwebjs_url="http://127.0.0.1:9")
    message = Message.objects.get(type="image")

    bubble = page_of(staff_client, message.conversation).one(data_message=str(message.pk))

    bubble.one(data_icon="globe")
    for expected in ("pc-gamer-completo.png", "Sai por R$ 4.990", "demo"):
        assert expected in bubble.text
    picture = bytes_of(staff_client.get(f"/media/{message.media_id}/"))
    assert picture == demo_picture.png()
    assert len(picture) < 3000
