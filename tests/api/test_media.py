"""REST: upload a file, send it, fetch what was received."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from messaging.api import parsers
from messaging.models import Media, Message
from tests import files

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

    from channels_app.models import Channel

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def storage(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


def upload(api: APIClient, data: bytes = files.PNG, name: str = "foto.png") -> Any:
    return api.post(
        "/api/media/", {"file": SimpleUploadedFile(name, data, "x/y")}, format="multipart"
    )


def test_an_upload_is_answered_with_what_it_is(api: APIClient) -> None:
    answer = upload(api)

    assert answer.status_code == 201
    told = answer.json()
    assert told["mime_type"] == "image/png"
    assert (told["size"], told["filename"], told["type"]) == (len(files.PNG), "foto.png", "image")
    assert answer["Location"].endswith(f"/api/media/{told['id']}/")
    assert api.get(f"/api/media/{told['id']}/").json() == told


@pytest.mark.parametrize(
    ("data", "words"), [(b"", "empty"), (files.PROGRAM, "does not take")], ids=["empty", "program"]
)
def test_a_refused_upload_says_why_beside_its_field(
    api: APIClient, storage: Path, data: bytes, words: str
) -> None:
    answer = upload(api, data)
    assert answer.status_code == 400
    assert words in answer.json()["file"][0]
    assert not list(storage.iterdir())


def test_an_upload_is_a_form_with_a_file(api: APIClient) -> None:
    answer = api.post("/api/media/", {"file": "text"}, format="multipart")
    assert (answer.status_code, list(answer.json())) == (400, ["file"])
    answer = api.post("/api/media/", {}, format="multipart")
    assert (answer.status_code, list(answer.json())) == (400, ["file"])
    answer = api.post("/api/media/", {"file": "x"}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_what_no_message_takes_is_not_even_taken_apart(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsers.media_types, "MOST_BYTES", 0)
    monkeypatch.setattr(parsers, "ROOM", 10)
    answer = upload(api)
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert not Media.objects.exists()


def test_a_message_names_its_upload(api: APIClient, channel: Channel) -> None:
    media = upload(api).json()
    body = {
        "channel": channel.pk,
        "to": "+5511988887777",
        "type": "image",
        "image": {"media": media["id"], "caption": "Olha"},
    }

    answer = api.post("/api/messages/", body, format="json")

    assert answer.status_code == 202
    told = answer.json()
    assert told["content"] == told["image"] == {"media": media["id"], "caption": "Olha"}
    assert told["media"] == media
    assert api.get(f"/api/messages/{told['id']}/").json()["media"] == media


def test_a_message_with_an_upload_that_does_not_suit_it_is_refused(
    api: APIClient, channel: Channel
) -> None:
    media = upload(api, files.PDF, "a.pdf").json()
    body = {"channel": channel.pk, "to": "+5511988887777", "type": "image"}
    answer = api.post("/api/messages/", {**body, "image": {"media": media["id"]}}, format="json")
    assert (answer.status_code, list(answer.json())) == (400, ["image"])
    assert not Message.objects.exists()


def test_the_content_is_downloaded_whole_or_in_part(api: APIClient) -> None:
    media = upload(api, files.PDF, "a.pdf").json()
    path = f"/api/media/{media['id']}/content/"
    answer = api.get(path)
    assert b"".join(answer.streaming_content) == files.PDF  # type: ignore[attr-defined]
    assert answer["Content-Disposition"] == 'attachment; filename="a.pdf"'
    part = api.get(path, headers={"Range": "bytes=1-3"})
    assert (part.status_code, b"".join(part.streaming_content)) == (206, b"PDF")  # type: ignore[attr-defined]


def test_a_file_that_is_still_being_fetched_is_not_there(api: APIClient) -> None:
    waiting = Media.objects.create(state="waiting")
    assert api.get(f"/api/media/{waiting.pk}/").json()["state"] == "waiting"
    assert api.get(f"/api/media/{waiting.pk}/content/").status_code == 404


def test_files_are_for_those_who_may_see_messages(
    api: APIClient, make_user: Callable[..., User], client_of: Callable[[User], APIClient]
) -> None:
    media = upload(api).json()
    path = f"/api/media/{media['id']}/"
    reader = client_of(make_user("leo", "messaging.view_message"))
    assert reader.get(path).status_code == 200
    assert upload(reader).status_code == 403
    writer = client_of(make_user("bia", "messaging.add_message"))
    assert upload(writer).status_code == 201
    assert writer.get(path).status_code == 403
    api.credentials()
    assert api.get(f"{path}content/").status_code == 401
