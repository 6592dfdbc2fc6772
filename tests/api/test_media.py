"""REST: upload a file, send it, download received files."""

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


def test_an_upload_returns_its_metadata(api: APIClient) -> None:
    response = upload(api)

    assert response.status_code == 201
    result = response.json()
    assert result["mime_type"] == "image/png"
    assert (result["size"], result["filename"], result["type"]) == (
        len(files.PNG),
        "foto.png",
        "image",
    )
    assert response["Location"].endswith(f"/api/media/{result['id']}/")
    assert api.get(f"/api/media/{result['id']}/").json() == result


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (files.PROGRAM, "does not accept")],
    ids=["empty", "program"],
)
def test_a_rejected_upload_returns_the_reason_for_its_field(
    api: APIClient, storage: Path, data: bytes, reason: str
) -> None:
    response = upload(api, data)
    assert response.status_code == 400
    assert reason in response.json()["file"][0]
    assert not list(storage.iterdir())


def test_an_upload_must_be_a_form_with_a_file(api: APIClient) -> None:
    response = api.post("/api/media/", {"file": "text"}, format="multipart")
    assert (response.status_code, list(response.json())) == (400, ["file"])
    response = api.post("/api/media/", {}, format="multipart")
    assert (response.status_code, list(response.json())) == (400, ["file"])
    response = api.post("/api/media/", {"file": "x"}, format="json")
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


def test_a_body_above_the_size_limit_is_not_parsed(
    api: APIClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parsers.media_types, "MAX_BYTES", 0)
    monkeypatch.setattr(parsers, "FORM_OVERHEAD_BYTES", 10)
    response = upload(api)
    assert (response.status_code, response.json()["code"]) == (413, "too_large")
    assert not Media.objects.exists()


def test_a_message_refers_to_its_upload(api: APIClient, channel: Channel) -> None:
    media = upload(api).json()
    body = {
        "channel": channel.pk,
        "to": "+5511988887777",
        "type": "image",
        "image": {"media": media["id"], "caption": "Olha"},
    }

    response = api.post("/api/messages/", body, format="json")

    assert response.status_code == 202
    result = response.json()
    assert result["content"] == result["image"] == {"media": media["id"], "caption": "Olha"}
    assert result["media"] == media
    assert api.get(f"/api/messages/{result['id']}/").json()["media"] == media


def test_a_message_with_an_upload_of_another_type_is_rejected(
    api: APIClient, channel: Channel
) -> None:
    media = upload(api, files.PDF, "a.pdf").json()
    body = {"channel": channel.pk, "to": "+5511988887777", "type": "image"}
    response = api.post("/api/messages/", {**body, "image": {"media": media["id"]}}, format="json")
    assert (response.status_code, list(response.json())) == (400, ["image"])
    assert not Message.objects.exists()


def test_the_content_can_be_downloaded_in_full_or_by_range(api: APIClient) -> None:
    media = upload(api, files.PDF, "a.pdf").json()
    path = f"/api/media/{media['id']}/content/"
    response = api.get(path)
    assert b"".join(response.streaming_content) == files.PDF  # type: ignore[attr-defined]
    assert response["Content-Disposition"] == 'attachment; filename="a.pdf"'
    part = api.get(path, headers={"Range": "bytes=1-3"})
    assert (part.status_code, b"".join(part.streaming_content)) == (206, b"PDF")  # type: ignore[attr-defined]


def test_a_file_that_is_still_being_fetched_has_no_content(api: APIClient) -> None:
    waiting = Media.objects.create(state="waiting")
    assert api.get(f"/api/media/{waiting.pk}/").json()["state"] == "waiting"
    assert api.get(f"/api/media/{waiting.pk}/content/").status_code == 404


def test_files_require_the_message_permissions(
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
