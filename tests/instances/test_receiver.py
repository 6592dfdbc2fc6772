"""The webhook receiver, on a real port."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.core.files.storage import default_storage
from django.db import OperationalError, connection

from channels_app.models import Channel
from instances.models import WhatsAppSession
from instances.receiving import Delivery, Received
from instances.webhooks import EvolutionWebhook
from messaging.inbound import journal, raw_files
from messaging.inbound.group_commit import GroupCommit
from messaging.media import embedded_files
from messaging.models import InboundEvent, Message
from tests.factories import create_channel
from tests.instances.support import (
    CUSTOMER,
    NAME,
    OTHER,
    Evolution,
    no_database,
    read,
    switch,
    texts,
    wait_until,
)

if TYPE_CHECKING:
    from rest_framework.test import APIClient


def event(id_: str = "3A01", text: str = "oi", **changes: Any) -> dict[str, Any]:
    data = {
        "key": {"remoteJid": f"{CUSTOMER}@s.whatsapp.net", "fromMe": False, "id": id_},
        "pushName": "Ana",
        "message": {"conversation": text},
        "messageType": "conversation",
        "messageTimestamp": 1795300000,
    }
    return {
        "event": "messages.upsert",
        "instance": NAME,
        "data": data,
        "destination": "http://here",
        "date_time": "2026-11-21T22:51:19.223Z",
        "server_url": "http://127.0.0.1:8080",
        "apikey": None,
        **changes,
    }


@pytest.fixture
def post(web: str, session: WhatsAppSession) -> Any:
    """Post to the receiver like Evolution."""

    def send(
        body: Any, *, secret: str | None = session.webhook_secret, path: str = ""
    ) -> requests.Response:
        headers = {"Content-Type": "application/json"}
        if secret is not None:
            headers["Authorization"] = f"Bearer {secret}"
        raw = json.dumps(body).encode() if isinstance(body, dict) else body
        address = f"{web}/api/webhooks/evolution{path}"
        return requests.post(address, data=raw, headers=headers, timeout=60)

    return send


def test_it_stores_the_event_without_the_token_and_then_answers_200(post: Any) -> None:
    assert post(event(apikey="EAAG-of-the-business")).status_code == 200
    stored = InboundEvent.objects.get()
    assert stored.payload == event(apikey="withheld")
    assert stored.source == "evolution"
    assert texts() == ["oi"]


def test_it_requires_the_secret_of_the_session(post: Any, session: WhatsAppSession) -> None:
    for secret in (None, "", "wrong", session.webhook_secret[:-1], session.webhook_secret_digest):
        answer = post(event(), secret=secret)
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_secret")
    assert not InboundEvent.objects.exists()


def test_one_session_cannot_send_events_for_another(post: Any, session: WhatsAppSession) -> None:
    create_channel(name="Filial", kind="baileys", instance_name=OTHER)
    answer = post(event(instance=OTHER))
    assert (answer.status_code, answer.json()["code"]) == (401, "wrong_instance")
    assert not InboundEvent.objects.exists()


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"[" * 100_000])
def test_a_non_event_is_stored_with_its_bytes(post: Any, body: bytes) -> None:
    # Evolution never retries after a 400.
    assert post(body).status_code == post(body).status_code == 200
    assert post(body, secret="wrong").status_code == 401
    stub = InboundEvent.objects.get()
    assert stub.state == "set_aside"
    assert raw_files.read(stub.raw_file) == body


def test_only_post_is_accepted(web: str) -> None:
    assert requests.get(f"{web}/api/webhooks/evolution", timeout=5).status_code == 405


def test_it_answers_with_slash_and_by_event_addresses(post: Any) -> None:
    for n, path in enumerate(["/", "/messages-upsert", "/messages-upsert/"]):
        assert post(event(f"3A{n}"), path=path).status_code == 200
    assert InboundEvent.objects.count() == 3


def test_it_answers_503_when_it_cannot_store(post: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "store_all", fail)
        assert post(event()).status_code == 503
    with monkeypatch.context() as patch:
        patch.setattr(
            embedded_files,
            "extract",
            lambda *_: (_ for _ in ()).throw(OSError("disk full")),
        )
        assert post(event()).status_code == 503
    assert post(event()).status_code == 200


def test_each_delivery_that_waits_gets_the_error_of_its_batch_and_the_next_is_stored(
    post: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = threading.Event()
    failed: list[int] = []

    def fail(deliveries: Sequence[Delivery]) -> list[Received]:
        failed.append(len(deliveries))
        waiting.wait(20)
        raise OperationalError("away")

    commit = GroupCommit(fail)
    with monkeypatch.context() as patch, ThreadPoolExecutor(4) as pool:
        patch.setattr(EvolutionWebhook, "_events", commit)
        first = pool.submit(post, event())
        wait_until(lambda: failed == [1])
        others = [pool.submit(post, event(f"3A{n}")) for n in range(3)]
        wait_until(lambda: [len(q._waiting) for q in commit._queues.values()] == [3])
        waiting.set()
        assert [one.result(20).status_code for one in (first, *others)] == [503] * 4
        assert failed == [1, 3]
    assert post(event()).status_code == 200
    assert texts() == ["oi"]


def test_it_answers_503_while_postgresql_is_down(post: Any) -> None:
    with no_database():
        assert post(event()).status_code == 503
    wait_until(lambda: post(event()).status_code == 200)
    assert texts() == ["oi"]


def test_evolution_retries_events_that_could_not_be_stored(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_all, failures = journal.store_all, [2]

    def flaky(source: str, events: Any) -> None:
        if failures[0]:
            failures[0] -= 1
            raise OperationalError("away")
        store_all(source, events)

    monkeypatch.setattr(journal, "store_all", flaky)
    evolution.writes("repetida")
    wait_until(lambda: texts() == ["repetida"])


def test_a_repeated_event_is_stored_once(post: Any) -> None:
    for _ in range(3):
        assert post(event()).status_code == 200
    # A retry may differ in everything except the message.
    assert post(event(date_time="2026-11-21T22:59:59.000Z")).status_code == 200
    assert InboundEvent.objects.count() == 1


@pytest.mark.usefixtures("listener")
def test_an_event_delivered_by_both_modes_is_stored_once(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    from instances.receive_mode.handover import EVENTS

    evolution.open_namespace()
    assert switch(api, "websocket").status_code == 200
    row = {"enabled": True, "url": by_webhook.webhook_url, "events": list(EVENTS)}
    headers = {"Authorization": by_webhook.secret_header}
    evolution.post(f"/webhook/set/{NAME}", {"webhook": {**row, "headers": headers}})
    id_ = evolution.writes("duas vezes")
    evolution.control("ack", instance=NAME, id=id_, status="READ")
    evolution.control("event", instance=NAME, event="connection.update", data={"state": "open"})

    def both() -> bool:
        entries = evolution.ledger("events")
        return len(entries) >= 4 and all(
            set(entry["reached"]) == {"socket", "webhook"}
            for entry in entries
            if entry["event"] in ("messages.upsert", "messages.update", "connection.update")
        )

    wait_until(both)
    wait_until(lambda: texts() == ["duas vezes"])
    kinds = [payload["event"] for payload in InboundEvent.objects.values_list("payload", flat=True)]
    for kind in ("messages.upsert", "messages.update", "connection.update"):
        assert kinds.count(kind) == 1


def picture(size: int) -> tuple[bytes, dict[str, Any]]:
    content = hashlib.sha256(b"x").digest() * (size // 32)
    body = event("3APIC")
    body["data"]["message"] = {
        "imageMessage": {"mimetype": "image/jpeg", "caption": "foto"},
        "base64": base64.b64encode(content).decode(),
    }
    body["data"]["messageType"] = "imageMessage"
    return content, body


def test_large_media_are_stored_as_a_file_and_not_in_the_row(post: Any) -> None:
    content, body = picture(4 * 1024 * 1024)
    assert post(body).status_code == 200
    stored = InboundEvent.objects.get()
    media = stored.payload["data"]["message"]["base64"]
    assert media["size"] == len(content)
    with default_storage.open(media["stored"]) as file:
        assert file.read() == content
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_column_size(payload) FROM messaging_inboundevent")
        assert cursor.fetchone()[0] < 4096
    assert texts() == ["foto"]
    # A retry creates no second file.
    assert post(body).status_code == 200
    assert len(list(Path(default_storage.path(media["stored"])).parent.iterdir())) == 1


def test_media_by_socket_are_stored_as_a_file_too(
    by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    content, body = picture(320_000)
    evolution.control(
        "event", instance=NAME, event="messages.upsert", data=body["data"], socket_only=True
    )
    wait_until(lambda: texts() == ["foto"])
    media = InboundEvent.objects.get().payload["data"]["message"]["base64"]
    assert media["size"] == len(content)


def test_media_up_to_64_mb_are_accepted_and_larger_bodies_get_413(post: Any) -> None:
    _, body = picture(47 * 1024 * 1024)
    raw = json.dumps(body).encode()
    assert 62 * 1024 * 1024 < len(raw) < 64 * 1024 * 1024
    raw += b" " * (64 * 1024 * 1024 - len(raw))
    assert post(raw).status_code == 200
    assert texts() == ["foto"]
    answer = post(raw + b" ")
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")


def test_an_endless_body_is_read_only_up_to_the_limit(
    post: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from config import asgi

    sizes: list[int] = []
    read_body = asgi.WebhookHandler.read_body

    async def recorded(self: Any, receive: Any) -> Any:
        body = await read_body(self, receive)
        sizes.append(body.seek(0, 2))
        body.seek(0)
        return body

    monkeypatch.setattr(asgi.WebhookHandler, "read_body", recorded)
    piece = b"x" * (1024 * 1024)
    assert post(piece for _ in range(80)).status_code == 413
    assert sizes == [64 * 1024 * 1024 + 1]
    # A declared length over the limit or a wrong secret stops the reading earlier.
    sizes.clear()
    assert post(piece * 80).status_code == 413
    assert post((piece for _ in range(80)), secret="wrong").status_code == 401
    assert post(piece * 60, secret=None).status_code == 401
    assert max(sizes) <= 1024 * 1024, sizes
    assert post(event()).status_code == 200


def test_an_inactive_channel_still_receives_events(post: Any) -> None:
    Channel.objects.update(active=False)
    assert post(event()).status_code == 200
    assert texts() == ["oi"]


def test_an_event_of_a_deleted_channel_is_rejected_without_retries(
    by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    id_ = evolution.writes("antes")
    wait_until(InboundEvent.objects.exists)
    by_webhook.channel.delete()
    # Retries would stall the whole instance at the first edit.
    evolution.control("inbound", instance=NAME, kind="edit", target=id_, text="mudado")
    last = evolution.writes("depois")

    def is_delivered() -> bool:
        entries = evolution.ledger("events")
        return any(entry["message_id"] == last for entry in entries)

    wait_until(is_delivered, "the instance continues")
    assert not InboundEvent.objects.filter(payload__data__key__id=last).exists()


@pytest.mark.parametrize(
    "raw",
    [r'"\u0000"', r'"\ud83d"', "NaN", "1e400", '{"a":' * 150 + "1" + "}" * 150],
)
def test_characters_that_postgresql_cannot_store_do_not_lose_the_event(post: Any, raw: str) -> None:
    body = json.dumps(event()).replace('"pushName": "Ana"', f'"pushName": {raw}')
    assert post(body.encode()).status_code == 200
    assert texts() == ["oi"]


def test_no_log_contains_the_secret(
    post: Any, session: WhatsAppSession, capfd: pytest.CaptureFixture[str]
) -> None:
    post(event())
    post(event(instance=OTHER))
    read()
    output = "".join(capfd.readouterr())
    assert session.webhook_secret not in output
    assert Message.objects.count() == 1
