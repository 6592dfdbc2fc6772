"""Files of messages: storing uploads, sending them by every route, fetching received ones."""

from __future__ import annotations

import base64
import datetime as dt
import errno
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.utils import timezone, translation

from channels_app.models import Channel, CloudCredentials
from channels_app.providers import media_types
from channels_app.providers.base import Accepted, OutboundFile
from channels_app.providers.evolution.engine import EVOLUTION
from messaging import retention
from messaging.delivery import accept as sending
from messaging.delivery import attempts, reconcile, sweeper
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import authentication
from messaging.media import embedded_files as aside
from messaging.media import files as media
from messaging.models import DeliveryAttempt, Media, MediaUpload, Message
from simulators.base import run_in_thread
from simulators.evolution.app import SIMULATOR, InstanceSpec, create_app
from simulators.evolution.model import EvolutionSettings
from tests import FIXTURES_DIR, files
from tests.conftest import WWEBJS_KEY, WWEBJS_SESSION, Provider, Webhooks
from tests.messaging.support import (
    accept,
    attempt_of,
    customer,
    deliver,
    jobs,
    post,
    read_events,
    receive,
    status,
    trail,
)

if TYPE_CHECKING:
    import time_machine

pytestmark = pytest.mark.django_db

FIXTURES = FIXTURES_DIR
KEY, INSTANCE = "evolution-key", "oficina"


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    with translation.override("en"):
        yield


@pytest.fixture(autouse=True)
def storage(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = tmp_path
    return tmp_path


def stored_files(storage: Path) -> list[Path]:
    return [path for path in storage.rglob("*") if path.is_file()]


def upload(data: bytes = files.PNG, name: str = "foto.png", declared: str = "x/y") -> Media:
    return media.store_upload(SimpleUploadedFile(name, data, declared), user=None)


def send(channel: Channel, file: Media, to: str, type: str = "image", **content: Any) -> Message:
    return accept(channel, to, type=type, text="", content={"media": str(file.pk), **content})


@pytest.fixture
def evolution() -> Iterator[Provider]:
    settings = EvolutionSettings(api_key=KEY, instances=(InstanceSpec(INSTANCE),))
    app = create_app(settings)
    with run_in_thread(app) as running:
        yield Provider(running.url, app[SIMULATOR])


@pytest.fixture
def baileys(evolution: Provider, make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        name="Oficina",
        kind="baileys",
        phone_number_id="",
        evolution_url=evolution.url,
        evolution_api_key=KEY,
        instance_name=INSTANCE,
    )


# -- two requests in one attempt -------------------------------------------------------------------


def receive_failed_status(message: Message, id: str, code: int = 131053) -> None:
    """Receive Meta's status webhook for a rejected request.

    Meta reports a rejection at once, by webhook, or both (docs/providers/cloud.md §2.1).
    """
    channel = message.conversation.channel
    post(status(message, "failed", channel=channel, id=id, errors=[{"code": code}]))
    read_events()


@pytest.mark.parametrize(
    ("about", "outcome"), [("wamid.refused", "accepted"), ("wamid.taken", "rejected")]
)
@pytest.mark.parametrize("first", ["answer", "status"])
def test_a_rejection_before_the_new_upload_does_not_reject_the_message(
    channel: Channel, first: str, about: str, outcome: str
) -> None:
    message = send(channel, upload(), customer())
    attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
    if first == "status":
        receive_failed_status(message, about)
        attempt.refresh_from_db()
        assert attempt.outcome == Outcome.STARTED
    attempts.record_result(attempt, Accepted("wamid.taken"))
    if first == "answer":
        receive_failed_status(message, about)
    attempt.refresh_from_db()
    assert attempt.outcome == outcome


def test_a_failed_status_before_the_response_needs_no_matching_id(channel: Channel) -> None:
    for message, code in ((accept(channel), 131053), (send(channel, upload(), customer()), 131047)):
        attempt = attempt_of(message, outcome=Outcome.STARTED, route=Route.OFFICIAL)
        receive_failed_status(message, f"wamid.{code}", code)
        attempt.refresh_from_db()
        assert (attempt.outcome, attempt.error_code) == (Outcome.REJECTED, str(code))


# -- uploads --------------------------------------------------------------------------------------


def test_an_upload_is_stored_under_a_random_name(storage: Path) -> None:
    file = upload(name="../pc gamer.png", declared="text/html")

    assert (file.mime_type, file.size, file.filename) == (
        "image/png", len(files.PNG), "pc gamer.png",
    )  # fmt: skip
    [path] = stored_files(storage)
    assert path.read_bytes() == files.PNG
    assert path.suffix == ".bin"
    assert "gamer" not in path.name
    assert media.suggested_type(file) == "image"


@pytest.mark.parametrize(
    ("data", "name", "words"),
    [
        (b"", "foto.png", "empty"),
        (files.PROGRAM, "foto.png", "does not accept"),
        (files.ZIP, "carta.docx", "does not accept"),
        (files.GIF, "a.gif", "does not accept"),
    ],
    ids=["empty", "program", "zip", "gif"],
)
def test_a_file_that_whatsapp_does_not_accept_is_not_stored(
    storage: Path, data: bytes, name: str, words: str
) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        upload(data, name, "image/png")
    assert set(caught.value.message_dict) == {"file"}
    assert not stored_files(storage)
    assert not Media.objects.exists()


def test_a_file_that_is_too_large_is_not_stored(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_types, "MAX_BYTES", 10)
    with pytest.raises(ValidationError, match="at most"):
        upload()
    assert not stored_files(storage)


@pytest.mark.parametrize(
    ("type_", "content", "words"),
    [
        ("video", {}, "cannot be sent as this"),
        ("audio", {}, "cannot be sent as this"),
        ("image", {"media": "8e7b4a8a-0f4e-4b5c-9d0e-000000000000"}, "no such upload"),
        ("image", {"media": "7"}, "not the ID"),
        ("image", {"media": 7}, "not the ID"),
        ("image", {"link": "https://example.com/a.png"}, '"link", or with "media"'),
        ("image", {"caption": "x" * 1025}, "1024"),
        ("image", {"filename": 7}, "Give a text"),
    ],
)
def test_a_message_accepts_only_a_suitable_file(
    channel: Channel, type_: str, content: dict[str, Any], words: str
) -> None:
    file = upload()
    with pytest.raises(ValidationError, match=words) as caught:
        send(channel, file, "+5511988887777", type_, **content)
    [field] = caught.value.message_dict
    assert field.partition(".")[0] == type_
    assert not Message.objects.exists()


def test_an_image_that_is_too_large_is_sent_as_a_document(channel: Channel) -> None:
    file = upload(files.PNG + b"\x00" * media_types.LIMITS["image"].most_bytes)
    with pytest.raises(ValidationError, match="at most"):
        send(channel, file, "+5511988887777")
    assert media.suggested_type(file) == "document"
    assert send(channel, file, "+5511988887777", "document").media == file


def test_audio_cannot_have_a_caption(channel: Channel) -> None:
    with pytest.raises(ValidationError, match="cannot have a caption"):
        send(channel, upload(files.OPUS, "a.ogg"), "+5511988887777", "audio", caption="x")


def test_one_upload_is_reused_for_other_messages_and_retries(
    wired: Channel, graph: Provider
) -> None:
    file = upload()
    graph.plays("unavailable_131016")  # the send fails and may be retried
    first = send(wired, file, customer())
    deliver(first)
    second = send(wired, file, customer())
    deliver(second)

    uploads = [r for r in graph.simulator.requests if r["path"].endswith("/media")]
    assert len(uploads) == 1
    known = MediaUpload.objects.get()
    assert known.expires_at > timezone.now() + dt.timedelta(days=28)
    assert {body["image"]["id"] for body in graph.sends()} == {known.provider_media_id}


def test_an_upload_unknown_to_meta_is_repeated_within_the_attempt(
    wired: Channel, graph: Provider
) -> None:
    file = upload()
    deliver(send(wired, file, customer()))
    old = MediaUpload.objects.get().provider_media_id
    graph.plays("refused_131053")
    message = send(wired, file, customer())
    deliver(message)
    assert trail(message) == [("official", "accepted", "")]
    new = MediaUpload.objects.get().provider_media_id
    assert [body["image"]["id"] for body in graph.sends()] == [old, old, new]


# -- the three routes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "data", "name"),
    [
        ("image", files.PNG, "foto.png"),
        ("video", files.MP4, "filme.mp4"),
        ("audio", files.OPUS, "voz.ogg"),
        ("document", files.PDF, "boleto.pdf"),
    ],
    ids=["image", "video", "audio", "document"],
)
def test_after_a_rejection_the_same_file_is_sent_by_wwebjs(
    wired: Channel, graph: Provider, wwebjs: Provider, type_: str, data: bytes, name: str
) -> None:
    message = send(wired, upload(data, name), customer(graph="47"), type_)
    deliver(message)

    assert trail(message) == [
        ("official", "rejected", "131047"),
        ("wwebjs", "accepted", ""),
    ]
    assert message.icon == "globe"
    [official], [fallback] = graph.sends(), wwebjs.sends()
    [at_meta] = graph.simulator._media.values()  # type: ignore[attr-defined]
    assert official[type_]["id"] == at_meta.id
    assert at_meta.data == data
    assert base64.b64decode(fallback["content"]["data"]) == data
    assert fallback["content"]["filename"] == name


def test_after_a_rejection_the_same_file_is_sent_by_baileys(
    make_channel: Callable[..., Channel], graph: Provider, evolution: Provider, baileys: Channel
) -> None:
    official = make_channel(graph_url=graph.url, fallback="baileys", fallback_channel=baileys)
    message = send(official, upload(), customer(graph="47"), caption="Olha")
    deliver(message)

    assert [step[:2] for step in trail(message)] == [
        ("official", "rejected"),
        ("baileys", "accepted"),
    ]
    [sent] = [r["body"] for r in evolution.simulator.requests if "sendMedia" in r["path"]]
    assert base64.b64decode(sent["media"]) == files.PNG
    assert (sent["mediatype"], sent["caption"], sent["fileName"]) == ("image", "Olha", "foto.png")


def test_a_baileys_channel_sends_files_by_its_primary_route(baileys: Channel) -> None:
    message = send(baileys, upload(files.PDF, "boleto.pdf"), customer(), "document")
    deliver(message)
    assert [step[:2] for step in trail(message)] == [("baileys", "accepted")]


def test_a_public_link_is_passed_to_meta_unchanged(wired: Channel, graph: Provider) -> None:
    link = {"link": "https://example.com/a.png", "caption": "Olha"}
    message = accept(wired, customer(), type="image", text="", content=link)
    deliver(message)
    assert graph.sends()[0]["image"] == link
    assert message.media is None


def test_a_missing_file_rejects_the_message(
    wired: Channel, graph: Provider, wwebjs: Provider
) -> None:
    message = send(wired, upload(), customer())
    default_storage.delete(str(message.media.file.name))  # type: ignore[union-attr]
    deliver(message)
    assert trail(message) == [("official", "rejected", "file_missing")]
    assert message.decision == "never_fall_back"
    assert not graph.sends()
    assert not wwebjs.sends()


# -- received files -------------------------------------------------------------------------------


def customer_sends(graph: Provider, **fields: Any) -> None:
    order = {"from": "5511988887777", "type": "image", **fields}
    answer = requests.post(f"{graph.url}/_control/inbound", json=order, timeout=5)
    assert answer.ok, answer.text
    graph.settle()


def fetch_due() -> None:
    for file in Media.objects.filter(state="waiting"):
        media.fetch(str(file.pk))


@pytest.mark.parametrize(
    ("type_", "data", "mime"),
    [
        ("image", files.JPEG, "image/jpeg"),
        ("video", files.MP4, "video/mp4"),
        ("audio", files.OPUS, "audio/ogg"),
        ("document", files.PDF, "application/pdf"),
    ],
    ids=["image", "video", "audio", "document"],
)
def test_a_job_fetches_a_received_file_from_meta(
    wired: Channel, graph: Provider, webhooks: Webhooks, type_: str, data: bytes, mime: str
) -> None:
    customer_sends(graph, type=type_, data=base64.b64encode(data).decode(), caption="Olha")
    receive(webhooks)
    message = Message.objects.get()
    assert message.media is not None
    assert message.media.state == "waiting"
    [job] = jobs(queue_name="media")
    assert job.args == {"media_id": str(message.media.pk)}

    media.fetch(str(message.media.pk))

    before = message.version
    message.refresh_from_db()
    file = message.media
    assert (file.state, file.mime_type, file.size) == ("stored", mime, len(data))
    assert file.file.read() == data
    assert file.filename
    assert message.version == before + 1


def test_a_failed_fetch_is_retried_and_then_left_to_a_person(
    make_channel: Callable[..., Channel],
    graph: Provider,
    webhooks: Webhooks,
    time_machine: time_machine.TimeMachineFixture,
) -> None:
    channel = make_channel(graph_url=graph.url)
    customer_sends(graph)
    receive(webhooks)
    CloudCredentials.objects.update(graph_url="http://127.0.0.1:9")
    file = Media.objects.get()
    delays = []
    while file.state == "waiting":
        at = file.next_try_at
        assert at is not None
        time_machine.move_to(at, tick=False)
        media.fetch(str(file.pk))
        file.refresh_from_db()
        if file.next_try_at:
            delays.append((file.next_try_at - timezone.now()).seconds)
            # Too early: no request is made.
            media.fetch(str(file.pk))
    assert delays == list(media.RETRY_DELAYS)
    assert (file.state, file.error_code, file.tries) == ("failed", "connection_refused", 5)

    CloudCredentials.objects.filter(pk=channel.pk).update(graph_url=graph.url)
    message = media.fetch_again(Message.objects.get())
    media.fetch(str(file.pk))
    file.refresh_from_db()
    assert (file.state, file.error_code) == ("stored", "")
    with pytest.raises(media.NotFetchable):
        media.fetch_again(message)


def test_a_full_disk_leaves_no_partial_file_and_counts_as_an_attempt(
    wired: Channel, graph: Provider, webhooks: Webhooks, storage: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fill_up(name: str, content: Any) -> str:
        (storage / name).parent.mkdir(parents=True, exist_ok=True)
        (storage / name).write_bytes(b"a piece")
        raise OSError(errno.ENOSPC, "No space left on device")

    customer_sends(graph)
    receive(webhooks)
    with monkeypatch.context() as patch:
        patch.setattr(default_storage, "save", fill_up)
        fetch_due()
    file = Media.objects.get()
    assert (file.state, file.error_code, file.tries) == ("waiting", "file_unreadable", 1)
    assert file.next_try_at > timezone.now()
    assert stored_files(storage) == []


def test_a_worker_limits_concurrent_fetches_and_reschedules_the_others(
    wired: Channel, graph: Provider, webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer_sends(graph)
    receive(webhooks)
    [first] = jobs(queue_name="media")
    slots = threading.BoundedSemaphore(1)
    monkeypatch.setattr(media, "_fetches", slots)
    with connection.cursor() as cursor:  # as if the job were running
        cursor.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = %s", [first.id])

    with slots:
        fetch_due()

    assert Media.objects.get().state == "waiting"
    [again] = jobs(queue_name="media", status="todo")
    assert again.scheduled_at > timezone.now()

    fetch_due()

    assert Media.objects.get().state == "stored"


def test_concurrent_sends_of_large_files_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    slots = threading.BoundedSemaphore(1)
    monkeypatch.setattr(media, "_large_sends", slots)

    def send(size: int) -> None:
        file = OutboundFile("application/pdf", "a.pdf", size, open=lambda: io.BytesIO())
        with media.limit_large_sends(file):
            sent.append("large" if size >= media.LARGE_BYTES else "small")

    large = threading.Thread(target=send, args=[media.LARGE_BYTES])
    with slots:
        large.start()
        send(1)
        with media.limit_large_sends(None):
            assert sent == ["small"]
    large.join(10)
    assert sent == ["small", "large"]


def test_a_file_that_meta_does_not_have_is_not_requested_again(
    wired: Channel, graph: Provider, webhooks: Webhooks
) -> None:
    customer_sends(graph)
    receive(webhooks)
    graph.simulator._media.clear()  # type: ignore[attr-defined]
    fetch_due()
    file = Media.objects.get()
    assert (file.state, file.error_code) == ("failed", "100")


def test_a_lost_fetch_job_is_enqueued_again(
    wired: Channel,
    graph: Provider,
    webhooks: Webhooks,
    time_machine: time_machine.TimeMachineFixture,
) -> None:
    customer_sends(graph)
    receive(webhooks)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs WHERE queue_name = 'media'")
    assert not jobs(queue_name="media")
    time_machine.move_to(timezone.now() + dt.timedelta(minutes=2))
    sweeper.sweep()
    assert len(jobs(queue_name="media")) == 1


def upsert(evolution: Provider, **order: Any) -> dict[str, Any]:
    """Return the event that the server emits for a customer's message."""
    answer = requests.post(
        f"{evolution.url}/_control/inbound", json={"instance": INSTANCE, **order}, timeout=5
    )
    assert answer.ok, answer.text
    events = requests.get(
        f"{evolution.url}/_control/events",
        params={"event": "messages.upsert", "payload": "1"},
        timeout=5,
    ).json()
    return {"event": "messages.upsert", "instance": INSTANCE, "data": events[-1]["data"]}


def receive_event(channel: Channel, payload: dict[str, Any]) -> Message:
    from messaging.inbound import journal

    journal.store(
        source="evolution",
        source_key=str(channel.pk),
        dedupe_key=json.dumps(payload)[:150],
        payload=aside.extract(payload, EVOLUTION.events.file_path),
    )
    read_events()
    return Message.objects.latest("created_at")


def test_a_file_that_is_not_in_the_event_is_fetched_from_evolution(
    baileys: Channel, evolution: Provider
) -> None:
    order = {"kind": "image", "from": "5511988887777", "id": "3A01"}
    payload = upsert(evolution, **order, base64=base64.b64encode(files.JPEG).decode())
    message = receive_event(baileys, payload)
    assert message.media is not None
    assert message.media.state == "waiting"

    fetch_due()

    message.media.refresh_from_db()
    assert (message.media.state, message.media.mime_type) == ("stored", "image/jpeg")
    assert message.media.file.read() == files.JPEG


def test_a_file_in_the_event_as_base64_is_used_from_the_storage(
    baileys: Channel, storage: Path
) -> None:
    samples = json.loads((FIXTURES / "evolution" / "event_samples.json").read_text())
    sample = samples["baileys/messages.upsert:imageMessage/webhook"]["payload"]
    encoded = base64.b64encode(files.JPEG).decode()
    data = {**sample["data"], "message": {**sample["data"]["message"], "base64": encoded}}
    payload = {"event": "messages.upsert", "instance": INSTANCE, "data": data}

    message = receive_event(baileys, payload)
    fetch_due()

    assert message.media is not None
    message.media.refresh_from_db()
    assert (message.media.state, message.media.mime_type) == ("stored", "image/jpeg")
    assert [path.read_bytes() for path in stored_files(storage)] == [files.JPEG]


@pytest.mark.parametrize("forged", [{"stored": "inbound/known.bin"}, {"stored": "../../x"}, [1], 7])
def test_an_event_cannot_name_a_stored_file(
    baileys: Channel, evolution: Provider, forged: Any
) -> None:
    default_storage.save("inbound/known.bin", ContentFile(files.PDF))
    payload = upsert(evolution, kind="image", **{"from": "5511988887777", "id": "3A01"})
    payload["data"]["message"]["base64"] = forged

    message = receive_event(baileys, payload)

    assert message.media is not None
    assert "stored" not in message.media.source


def test_a_business_instance_receives_the_complete_recorded_message(baileys: Channel) -> None:
    samples = json.loads((FIXTURES / "evolution" / "event_samples.json").read_text())
    sample = samples["business/messages.upsert:imageMessage/webhook"]["payload"]
    message = receive_event(baileys, {**sample, "instance": INSTANCE})
    assert message.media is not None
    asked = message.media.source["evolution"]
    inner = sample["data"]["message"]["imageMessage"]
    assert asked["messageType"] == "imageMessage"
    assert asked["message"] == {
        "imageMessage": {"id": inner["id"], "mime_type": inner["mime_type"]}
    }
    assert asked["key"]["id"] == sample["data"]["key"]["id"]


def test_a_file_from_a_wwebjs_callback_is_attached_to_its_message(wired: Channel) -> None:
    lines = (FIXTURES / "wwebjs" / "webhook_events.jsonl").read_text().splitlines()
    recorded = [json.loads(line) for line in lines]
    bodies = [item.get("body", item) for item in recorded]
    sample = next(body for body in bodies if body["dataType"] == "message")
    message = {**sample["data"]["message"], "type": "image", "hasMedia": True}

    def callback(kind: str, **data: Any) -> authentication.Received:
        body = {"dataType": kind, "sessionId": WWEBJS_SESSION, "data": {"message": message, **data}}
        return authentication.receive_wwebjs(wired.pk, json.dumps(body).encode(), WWEBJS_KEY)

    picture = {"mimetype": "image/jpeg", "data": base64.b64encode(files.JPEG).decode()}
    callback("message")
    for _twice in range(2):
        assert callback("media", messageMedia=picture) == authentication.Received.STORED
    read_events()
    fetch_due()

    stored = Message.objects.get().media
    assert stored is not None
    assert stored.file.read() == files.JPEG


# -- cleanup --------------------------------------------------------------------------------------


def test_an_unused_upload_is_deleted_the_next_day(
    channel: Channel, storage: Path, time_machine: time_machine.TimeMachineFixture
) -> None:
    used, orphan = upload(), upload(files.PDF, "a.pdf")
    send(channel, used, "+5511988887777")
    time_machine.move_to(timezone.now() + dt.timedelta(hours=23))
    assert media.delete_orphans() == 0
    time_machine.shift(dt.timedelta(hours=2))
    young = upload(files.OPUS, "a.ogg")

    retention.delete_expired()

    assert set(Media.objects.all()) == {used, young}
    assert orphan.pk
    assert sorted(path.read_bytes() for path in stored_files(storage)) == sorted(
        [files.PNG, files.OPUS]
    )


def test_a_file_that_was_just_deleted_is_not_sent(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = upload()
    real = media.of_content

    def find_then_delete(*arguments: Any) -> Media | None:
        result = real(*arguments)
        Media.objects.filter(pk=file.pk).delete()
        return result

    monkeypatch.setattr(sending.files, "of_content", find_then_delete)
    with pytest.raises(ValidationError, match="no such upload") as caught:
        send(channel, file, "+5511988887777")
    assert set(caught.value.message_dict) == {"image"}
    assert not Message.objects.exists()


def test_an_extracted_file_is_deleted_with_the_last_event_that_refers_to_it(
    baileys: Channel, storage: Path, settings: Any, time_machine: time_machine.TimeMachineFixture
) -> None:
    samples = json.loads((FIXTURES / "evolution" / "event_samples.json").read_text())
    sample = samples["baileys/messages.upsert:imageMessage/webhook"]["payload"]

    def store_event(data: bytes, id_: str, *, ours: bool) -> None:
        message = {**sample["data"]["message"], "base64": base64.b64encode(data).decode()}
        key = {**sample["data"]["key"], "id": id_, "fromMe": ours}
        body = {**sample["data"], "key": key, "message": message}
        from messaging.inbound import journal

        journal.store(
            source="evolution",
            source_key=str(baileys.pk),
            dedupe_key=id_,
            payload=aside.extract(
                {"event": "messages.upsert", "instance": INSTANCE, "data": body},
                EVOLUTION.events.file_path,
            ),
        )

    # Echoes are ignored here, so only the event refers to their files.
    Channel.objects.update(ignore_messages_sent_outside=True)
    store_event(files.JPEG, "IN", ours=False)
    store_event(files.PDF, "OUT", ours=True)
    read_events()
    fetch_due()
    assert len(stored_files(storage)) == 2

    time_machine.move_to(timezone.now() + dt.timedelta(days=settings.INBOUND_RETENTION_DAYS + 1))
    retention.delete_expired()

    assert [path.read_bytes() for path in stored_files(storage)] == [files.JPEG]


def emit_echo(graph: Provider, type_: str, content: dict[str, str]) -> None:
    """Let Meta emit the echo of a file sent by the number's companion device."""
    echo = {
        "to": customer(graph="47"),
        "type": type_,
        "content": content,
        "key_id": "3EB0ABCDEF0123456789",
    }
    requests.post(f"{graph.url}/_control/echo", json=echo, timeout=5).raise_for_status()
    graph.settle()


def test_the_echo_of_a_file_without_an_id_is_matched_by_its_caption(
    wired: Channel, graph: Provider, wwebjs: Provider, webhooks: Webhooks
) -> None:
    wwebjs.plays("bare_delivered")
    message = send(wired, upload(), customer(graph="47"), caption="Olha")
    deliver(message)
    [_refused, attempt] = message.attempts.order_by("number")
    assert (attempt.outcome, attempt.provider_message_id) == ("accepted", "")
    emit_echo(graph, "image", {"id": "1", "mime_type": "image/png", "caption": "Olha"})
    receive(webhooks)

    attempt.refresh_from_db()
    assert attempt.provider_message_id == "3EB0ABCDEF0123456789"


@pytest.mark.parametrize("caption", [{}, {"caption": ""}])
@pytest.mark.parametrize(("script", "named"), [("bare_delivered", True), ("reset_before", False)])
def test_the_echo_of_a_file_without_a_caption_matches_only_an_accepted_attempt(
    wired: Channel, graph: Provider, wwebjs: Provider, webhooks: Webhooks, script: str,
    caption: dict[str, str], *, named: bool,
) -> None:  # fmt: skip
    wwebjs.plays(script)
    message = send(wired, upload(), customer(graph="47"), **caption)
    deliver(message)
    attempt = message.attempts.get(number=2)
    assert (attempt.outcome, attempt.provider_message_id) == (
        "accepted" if named else "unknown", "",
    )  # fmt: skip

    emit_echo(graph, "image", {"id": "1", "mime_type": "image/png"})
    receive(webhooks)

    attempt.refresh_from_db()
    assert bool(attempt.provider_message_id) == named
    assert attempt.outcome == ("accepted" if named else "unknown")


@pytest.mark.parametrize(("filename", "proved"), [("boleto.pdf", True), ("outro.pdf", False)])
def test_the_echo_of_a_document_is_matched_by_its_file_name(
    wired: Channel, graph: Provider, wwebjs: Provider, webhooks: Webhooks, filename: str,
    *, proved: bool,
) -> None:  # fmt: skip
    wwebjs.plays("reset_before")
    message = send(wired, upload(files.PDF, "boleto.pdf"), customer(graph="47"), "document")
    deliver(message)
    attempt = message.attempts.get(number=2)
    assert attempt.outcome == "unknown"

    emit_echo(graph, "document", {"id": "1", "mime_type": "application/pdf", "filename": filename})
    receive(webhooks)

    attempt.refresh_from_db()
    assert (attempt.outcome == "accepted") == proved


# -- look-ups of unknown sends ---------------------------------------------------------------------


KNOWN_FILES = [
    ("image", "foto.png", files.PNG, {"caption": "Segue a foto"}, True),
    ("document", "nota.pdf", files.PDF, {}, True),
    ("image", "foto.png", files.PNG, {}, False),
]


def look_up(message: Message) -> None:
    unknown = DeliveryAttempt.objects.filter(message=message, outcome=Outcome.UNKNOWN)
    unknown.update(started_at=timezone.now() - dt.timedelta(seconds=6))
    reconcile.look_up_unknown()
    message.refresh_from_db()


@pytest.mark.parametrize(("type_", "name", "data", "content", "found"), KNOWN_FILES)
def test_a_file_of_unknown_outcome_is_looked_up_at_wwebjs_by_caption_or_name(
    wired: Channel, wwebjs: Provider, type_: str, name: str, data: bytes,
    content: dict[str, str], found: bool,
) -> None:  # fmt: skip
    to = customer(graph="47", fallback="24")
    message = send(wired, upload(data, name), to, type_, **content)
    deliver(message)
    assert message.decision == "fallback_unconfirmed"
    wwebjs.settle()
    look_up(message)
    assert (message.icon == "globe") is found


@pytest.mark.parametrize(("type_", "name", "data", "content", "found"), KNOWN_FILES)
def test_a_file_of_unknown_outcome_is_looked_up_at_evolution_by_caption_or_name(
    baileys: Channel, evolution: Provider, type_: str, name: str, data: bytes,
    content: dict[str, str], found: bool,
) -> None:  # fmt: skip
    baileys.confirm_seconds = 0
    baileys.save()
    evolution.plays("reset_after")
    message = send(baileys, upload(data, name), customer(), type_, **content)
    deliver(message)
    assert message.icon == "unconfirmed"
    evolution.settle()
    look_up(message)
    assert (message.icon == "globe") is found


def test_another_file_of_the_same_kind_proves_nothing(wired: Channel, wwebjs: Provider) -> None:
    to = customer(graph="47")
    wwebjs.plays("reset_before", "ok")
    lost = send(wired, upload(), to, caption="A primeira")
    other = send(wired, upload(), to, caption="A segunda")
    deliver(lost)
    deliver(other)
    assert other.icon == "globe"
    wwebjs.settle()
    look_up(lost)
    assert lost.decision == "fallback_unconfirmed"
