"""A gap is recorded at every sign, and missing messages are fetched in either mode."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.db import OperationalError, connection
from django.utils import timezone, translation

from channels_app.models import Channel
from instances import receiving
from instances.models import Backfill, WhatsAppSession
from instances.receive_mode import backfill, gap_signs, monitor, presentation
from messaging.inbound import journal
from messaging.media import files
from messaging.models import InboundEvent, Media, Message
from tests.instances.support import NAME, Evolution, joined, state, texts, wait_until
from tests.instances.test_receiver import event

if TYPE_CHECKING:
    from rest_framework.test import APIClient

MB = 1024 * 1024


def wait_for_gap(session: WhatsAppSession, reason: str) -> None:
    """Wait until a gap with this reason is recorded."""

    def is_recorded() -> bool:
        session.refresh_from_db()
        return session.gap_reason == reason and session.gap_since is not None

    wait_until(is_recorded, f"gap: {reason}")


def fetch(session: WhatsAppSession) -> None:
    """Run the due job."""
    WhatsAppSession.objects.filter(pk=session.pk).update(gap_fetch_at=timezone.now())
    backfill.run(session.pk)
    session.refresh_from_db()


def close_gap(session: WhatsAppSession) -> None:
    """Close the gap that the setup opened."""
    fetch(session)
    assert session.gap_since is None
    Backfill.objects.all().delete()


def recovered() -> list[tuple[str, int]]:
    return list(Backfill.objects.order_by("pk").values_list("reason", "messages"))


def jobs() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM procrastinate_jobs"
            " WHERE task_name = 'instances.backfill' AND status = 'todo'"
        )
        [count] = cursor.fetchone()
    return int(count)


def test_messages_undelivered_before_a_restart_are_fetched(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_gap(by_webhook)

    def fail(*_: Any) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(receiving, "_receive_all", fail)
    ids = [evolution.writes(f"perdida {n}") for n in range(3)]
    wait_until(lambda: [
        entry["message_id"] for entry in evolution.books("events", event="messages.upsert")
        if entry["webhooks"][0]["attempts"][:1] and
        entry["webhooks"][0]["attempts"][0]["status"] == 503
    ] == ids)  # fmt: skip
    evolution.restart()
    assert evolution.undelivered() == ids
    wait_for_gap(by_webhook, "not_stored")
    fetch(by_webhook)
    assert texts() == ["perdida 0", "perdida 1", "perdida 2"]
    assert recovered() == [("not_stored", 3)]

    def is_closed() -> bool:
        # Interrupted deliveries are signs, too.
        fetch(by_webhook)
        return by_webhook.gap_since is None

    wait_until(is_closed)


@pytest.mark.parametrize("mode", ["webhook", "websocket"])
def test_checking_the_newest_messages_finds_undelivered_ones(
    request: pytest.FixtureRequest, api: APIClient, evolution: Evolution, mode: str
) -> None:
    session: WhatsAppSession = request.getfixturevalue(f"by_{mode}")
    if mode == "websocket":
        wait_until(joined(session))
    close_gap(session)
    evolution.writes("chegou")
    wait_until(lambda: texts() == ["chegou"])
    earlier = timezone.now() - dt.timedelta(minutes=2)
    WhatsAppSession.objects.update(proven_at=earlier)
    backfill.check_newest(session.pk)
    session.refresh_from_db()
    assert session.gap_since is None
    assert session.proven_at is not None
    assert session.proven_at > earlier, "the check has proven it"

    evolution.writes("nunca emitida", emit=False)
    before = timezone.now()
    backfill.check_newest(session.pk)
    wait_for_gap(session, "look")
    assert session.gap_fetch_at is not None
    assert session.gap_fetch_at >= before + backfill.IN_FLIGHT, "it may still be in delivery"
    fetch(session)
    wait_until(lambda: texts() == ["chegou", "nunca emitida"])
    assert recovered() == [("look", 1)]
    current = state(api)["backfill"]
    assert (current["recovered24h"], current["pendingSince"], current["error"]) == (1, None, None)
    assert current["completeUntil"]
    with translation.override("en"):
        card = presentation.card(session, may_change=True)
    assert "1 message recovered in the last 24 hours" in card
    backfill.check_newest(session.pk)
    session.refresh_from_db()
    assert session.gap_since is None


def test_a_silent_socket_proves_nothing(
    by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    """Evolution stops sending, but its clients stay connected (docs/providers/evolution.md §2)."""
    wait_until(joined(by_websocket))
    close_gap(by_websocket)
    an_hour_ago = timezone.now() - dt.timedelta(hours=1)
    WhatsAppSession.objects.update(proven_at=an_hour_ago)
    for n in range(60):
        at = int(an_hour_ago.timestamp()) + 60 * n
        evolution.writes(f"{n:02d}", emit=n >= 30, timestamp=at)
    expected = [f"{n:02d}" for n in range(60)]
    wait_until(lambda: texts() == expected[30:])
    backfill.check_newest(by_websocket.pk)
    wait_for_gap(by_websocket, "look")
    fetch(by_websocket)
    assert sorted(texts()) == expected
    assert recovered() == [("look", 30)]


def test_a_message_in_delivery_is_neither_duplicated_nor_counted(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_gap(by_webhook)
    store_all, blocked = journal.store_all, [True]

    def slow(source: str, events: Any) -> None:
        wait_until(lambda: not blocked[0])
        store_all(source, events)

    monkeypatch.setattr(journal, "store_all", slow)
    evolution.writes("a caminho")
    wait_until(lambda: evolution.books("events", event="messages.upsert"))
    backfill.check_newest(by_webhook.pk)
    wait_for_gap(by_webhook, "look")
    blocked[0] = False
    wait_until(lambda: texts() == ["a caminho"])
    fetch(by_webhook)
    assert recovered() == []
    assert Message.objects.count() == 1


def test_checks_are_spread_and_skip_unreachable_instances(
    by_webhook: WhatsAppSession, settings: Any
) -> None:
    assert backfill.claim_due_checks() == [], "the first is at a random time in the interval"
    by_webhook.refresh_from_db()
    assert by_webhook.look_at is not None
    assert by_webhook.look_at <= timezone.now() + dt.timedelta(seconds=300)
    long_ago = timezone.now() - dt.timedelta(hours=1)

    def due(**values: Any) -> list[int]:
        usual = {"look_at": long_ago, "connection": "open", "found_error": "", "switching_to": ""}
        WhatsAppSession.objects.update(**{**usual, **values})
        return backfill.claim_due_checks()

    assert due() == [by_webhook.pk]
    assert backfill.claim_due_checks() == [], "it is already claimed"
    assert due(connection="close") == []
    assert due(found_error="connection_refused") == []
    assert due(webhook_enabled=False) == []
    settings.EVOLUTION_BACKFILL_SECONDS = 0
    assert due(webhook_enabled=True) == []


def test_a_delivery_without_the_secret_is_a_sign_at_most_once_a_minute(
    by_webhook: WhatsAppSession, evolution: Evolution, web: str
) -> None:
    close_gap(by_webhook)
    address = f"{web}/api/webhooks/evolution"
    evolution.set_webhook(NAME, address, ["MESSAGES_UPSERT"], headers={})
    evolution.writes("sem o segredo")
    wait_for_gap(by_webhook, "unauthorized")
    fetch(by_webhook)
    assert texts() == ["sem o segredo"]
    assert recovered() == [("unauthorized", 1)]

    # Other deliveries with the name do not query the server more often.
    backfill.request_by_name(NAME)
    by_webhook.refresh_from_db()
    assert by_webhook.gap_fetch_at is not None
    assert by_webhook.gap_fetch_at > timezone.now() + dt.timedelta(seconds=50)
    backfill.run(by_webhook.pk)
    by_webhook.refresh_from_db()
    assert by_webhook.gap_since is not None, "it is not due yet"
    backfill.request_by_name("nobody")
    for body in (b"", b"{", b"[]", b'{"instance": 7}', b'{"instance": "\\ud8"}', b"x" * MB):
        answer = requests.post(address, data=body, timeout=20)
        assert answer.status_code == 401


def test_the_instance_name_is_parsed_as_evolution_writes_it() -> None:
    body = json.dumps(event(instance='Loja "São João"/#1'), ensure_ascii=False)
    assert gap_signs.name_in(body.encode()) == 'Loja "São João"/#1'
    assert gap_signs.name_in(b"\xff" * 5000 + body.encode()) == ""
    # The database refuses such a name for ever: it must not stop the signs behind it.
    assert gap_signs.name_in(b'{"instance":"\\u0000"}') == ""


@pytest.mark.usefixtures("session")
@pytest.mark.parametrize("chunked", [False, True], ids=["with its length", "chunked"])
def test_the_file_of_a_too_large_event_is_fetched_separately(
    by_webhook: WhatsAppSession,
    evolution: Evolution,
    monkeypatch: pytest.MonkeyPatch,
    *,
    chunked: bool,
) -> None:
    from config import asgi

    size = 55 * 1000 * 1000
    if chunked:
        size = 2 * MB
        monkeypatch.setattr(receiving, "MOST_BYTES", 2 * MB)
        monkeypatch.setattr(asgi, "MOST_BYTES", 2 * MB)
        evolution.control("settings", webhook_chunked=True)
    close_gap(by_webhook)
    # Evolution reads the base64 setting when it connects.
    evolution.control("drop", instance=NAME, code=428)
    wait_until(lambda: evolution.books("instances")["instances"][NAME]["state"] == "open")
    id_ = evolution.writes("", kind="video", size=size, caption="o vídeo inteiro")

    def refused() -> bool:
        [entry] = evolution.books("events", message_id=id_) or [None]
        return entry is not None and any(
            attempt["status"] == 413 for attempt in entry["webhooks"][0]["attempts"]
        )

    wait_until(refused)
    wait_until(lambda: WhatsAppSession.objects.filter(gap_since__isnull=False).exists())
    fetch(by_webhook)
    assert texts() == ["o vídeo inteiro"]
    message = Message.objects.get()
    assert message.media is not None
    assert message.media.state == Media.State.WAITING, "staff see that it is waiting"
    files.fetch(str(message.media.pk))
    stored = Media.objects.get()
    assert (stored.state, stored.error_code) == (Media.State.STORED, "")
    assert (stored.size, stored.mime_type) == (size, "video/mp4")


def test_a_file_over_the_limit_fails_and_its_message_is_stored(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    from channels_app.providers import media_types

    monkeypatch.setattr(media_types, "MOST_BYTES", MB)
    close_gap(by_webhook)
    evolution.writes("", kind="video", size=2 * MB, caption="grande demais", emit=False)
    backfill.check_newest(by_webhook.pk)
    fetch(by_webhook)
    assert texts() == ["grande demais"]
    files.fetch(str(Media.objects.get().pk))
    failed = Media.objects.get()
    assert (failed.state, failed.error_code) == (Media.State.FAILED, "too_large")


def test_a_gap_stays_due_while_evolution_is_down_and_after_its_job_is_lost(
    by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    close_gap(by_webhook)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE procrastinate_jobs CASCADE")
    evolution.writes("quando ela voltar", emit=False)
    Channel.objects.update(evolution_url="http://127.0.0.1:9")
    backfill.request(by_webhook.pk, reason=Backfill.Reason.STARTED)
    assert jobs() == 1
    since = WhatsAppSession.objects.get().gap_since
    for tries in (1, 2):
        fetch(by_webhook)
        assert (by_webhook.gap_since, by_webhook.gap_tries) == (since, tries)
        assert by_webhook.gap_error == "connection_refused"
        assert by_webhook.gap_fetch_at is not None
        assert by_webhook.gap_fetch_at > timezone.now()
    monitor.run_due()
    assert jobs() == 1, "only one"
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE procrastinate_jobs CASCADE")
    WhatsAppSession.objects.update(gap_fetch_at=timezone.now())
    monitor.run_due()
    assert jobs() == 1, "the row replaces a lost job"

    monitor.check_receive_modes()
    Channel.objects.update(evolution_url=evolution.url)
    monitor.check_receive_modes()
    by_webhook.refresh_from_db()
    assert by_webhook.gap_tries == 0, "it answers again: fetch immediately"
    backfill.run(by_webhook.pk)
    assert texts() == ["quando ela voltar"]
    by_webhook.refresh_from_db()
    assert by_webhook.gap_since is None


def test_a_sign_during_a_fetch_leaves_the_gap_open(
    by_webhook: WhatsAppSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_gap(by_webhook)
    backfill.request(by_webhook.pk, reason=Backfill.Reason.STARTED)
    real = backfill.fetch_and_store

    def interrupted(session: WhatsAppSession, *, since: dt.datetime) -> int:
        stored = real(session, since=since)
        backfill.request(session.pk, reason=Backfill.Reason.TOO_LARGE)
        return stored

    monkeypatch.setattr(backfill, "fetch_and_store", interrupted)
    backfill.run(by_webhook.pk)
    by_webhook.refresh_from_db()
    assert by_webhook.gap_since is not None
    monkeypatch.setattr(backfill, "fetch_and_store", real)
    fetch(by_webhook)
    assert by_webhook.gap_since is None


def test_a_long_gap_is_stored_oldest_first_in_batches_of_pages(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_gap(by_webhook)
    monkeypatch.setattr(backfill, "PAGE_SIZE", 5)
    monkeypatch.setattr(backfill, "PAGES_AT_A_TIME", 2)
    missing = [f"{n:02d}" for n in range(37)]
    now = int(timezone.now().timestamp())
    for n, text in enumerate(missing):
        evolution.writes(text, emit=False, timestamp=now - 60 + n)
    backfill.request(by_webhook.pk, reason=Backfill.Reason.LOOK)
    fetch(by_webhook)
    assert texts() == missing
    assert recovered() == [("look", 37)]


def test_our_own_start_and_a_reconnected_instance_are_signs(
    by_webhook: WhatsAppSession, evolution: Evolution, web: str
) -> None:
    from config import asgi

    close_gap(by_webhook)
    asgi._started.clear()
    assert requests.get(f"{web}/healthz", timeout=20).status_code == 200
    wait_for_gap(by_webhook, "started")
    close_gap(by_webhook)
    evolution.control("restart", redial=True)

    def opened() -> bool:
        journal.read_pending(InboundEvent.Source.EVOLUTION, str(by_webhook.channel_id))
        by_webhook.refresh_from_db()
        return by_webhook.gap_reason == "reconnected"

    wait_until(opened)


def test_staff_are_warned_if_evolution_stores_no_messages(
    by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    close_gap(by_webhook)
    evolution.control("settings", save_new_messages=False)
    evolution.writes("só por webhook")
    wait_until(lambda: texts() == ["só por webhook"])
    InboundEvent.objects.update(received_at=timezone.now() - dt.timedelta(minutes=2))

    def warned() -> bool:
        backfill.check_newest(by_webhook.pk)
        by_webhook.refresh_from_db()
        with translation.override("en"):
            return "DATABASE_SAVE_DATA_NEW_MESSAGE" in presentation.card(
                by_webhook, may_change=True
            )

    assert warned()
    evolution.control("settings", save_new_messages=True)
    assert not warned()


def test_history_is_not_counted_as_recovered(
    by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    close_gap(by_webhook)
    yesterday = int((timezone.now() - dt.timedelta(days=1)).timestamp())
    evolution.writes("de ontem", emit=False, timestamp=yesterday)
    evolution.writes("de agora", emit=False)
    backfill.request(by_webhook.pk, reason=Backfill.Reason.LOOK)
    fetch(by_webhook)
    assert texts() == ["de ontem", "de agora"]
    assert recovered() == [("look", 1)]
