"""A gap is recorded at every sign, and missing messages are fetched in either mode."""

from __future__ import annotations

import datetime as dt
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.db import DataError, OperationalError, connection, transaction
from django.http import HttpRequest
from django.http.request import UnreadablePostError
from django.utils import timezone, translation

from channels_app.models import Channel, Connection, EvolutionCredentials
from channels_app.providers.events import ConnectionEvent
from channels_app.providers.evolution import receive_mode as evolution_receive_mode
from channels_app.providers.evolution.receive_mode import EvolutionInstance
from instances import receiving, sessions
from instances.listener.process import BatchWriter, SessionSpec, SessionWorker
from instances.listener.socket_client import Address
from instances.models import Backfill, ReceiveModeChange, WhatsAppSession
from instances.receive_mode import backfill, gap_signs, handover, monitor, presentation
from instances.webhooks import EvolutionWebhook
from messaging.inbound import journal, neutral, reader, replay
from messaging.inbound.group_commit import SMALL_BYTES, GroupCommit
from messaging.media import files
from messaging.models import InboundEvent, Media, Message
from tests.instances.support import NAME, Evolution, joined, read, state, texts, wait_until
from tests.instances.test_receiver import event

if TYPE_CHECKING:
    from rest_framework.test import APIClient

MB = 1024 * 1024


@pytest.fixture(autouse=True)
def _short_delivery_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that Evolution has just stored do not count as in delivery."""
    monkeypatch.setattr(backfill, "IN_FLIGHT", dt.timedelta(seconds=0.3))


def check_newest(session: WhatsAppSession) -> None:
    """Check the newest messages once none of them counts as in delivery."""
    until = timezone.now() + backfill.IN_FLIGHT
    wait_until(lambda: timezone.now() > until)
    backfill.check_newest(session.pk)
    session.refresh_from_db()


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

    def fail(*_: Any) -> Any:
        raise OperationalError("away")

    monkeypatch.setattr(EvolutionWebhook, "_events", GroupCommit(fail))
    ids = [evolution.writes(f"perdida {n}") for n in range(3)]
    wait_until(lambda: [
        entry["message_id"] for entry in evolution.ledger("events", event="messages.upsert")
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
    check_newest(session)
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
    monkeypatch.setattr(backfill, "IN_FLIGHT", dt.timedelta(seconds=10))
    close_gap(by_webhook)
    blocked = [True]

    def slow(deliveries: Any) -> Any:
        wait_until(lambda: not blocked[0])
        return receiving.receive_all(deliveries)

    monkeypatch.setattr(EvolutionWebhook, "_events", GroupCommit(slow))
    evolution.writes("a caminho")
    wait_until(lambda: evolution.ledger("events", event="messages.upsert"))
    backfill.check_newest(by_webhook.pk)
    by_webhook.refresh_from_db()
    assert by_webhook.gap_since is None, "it may come still"
    backfill.request(by_webhook.pk, reason=Backfill.Reason.LOOK)
    fetch(by_webhook)
    assert texts() == ["a caminho"]
    blocked[0] = False
    wait_until(lambda: evolution.ledger("events", event="messages.upsert")[0]["webhooks"][0][
        "attempts"
    ])  # fmt: skip
    assert recovered() == []
    assert Message.objects.count() == 1


def test_an_event_delivered_in_another_form_is_not_a_gap(
    by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    close_gap(by_webhook)
    id_ = evolution.writes("primeiro")
    wait_until(lambda: texts() == ["primeiro"])
    evolution.control("inbound", instance=NAME, kind="edit", target=id_, text="segundo")
    wait_until(lambda: texts() == ["segundo"])
    check_newest(by_webhook)
    assert by_webhook.gap_since is None
    # The journal forgets its events after some time; the messages stay.
    InboundEvent.objects.all().delete()
    check_newest(by_webhook)
    assert by_webhook.gap_since is None
    backfill.request(by_webhook.pk, reason=Backfill.Reason.NOT_STORED)
    fetch(by_webhook)
    assert recovered() == []


def test_an_interrupted_backlog_is_fetched_even_after_a_complete_check(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages are old and arrive after newer ones."""
    close_gap(by_webhook)
    now = timezone.now()
    for minutes in (40, 39, 38, 37):
        at = int((now - dt.timedelta(minutes=minutes)).timestamp())
        evolution.writes(f"{minutes}", timestamp=at)
    wait_until(lambda: len(texts()) == 4)
    offline_since = now - dt.timedelta(hours=6)
    Connection.objects.update(last_ready_at=offline_since, server_state="close")
    event = {"event": "connection.update", "instance": NAME, "data": {"state": "open"}}
    journal.receive(receiving.SOURCE, [journal.Arrival(str(by_webhook.channel_id), event)])
    texts()
    wait_for_gap(by_webhook, "reconnected")
    assert by_webhook.gap_since == offline_since
    fetch(by_webhook)
    assert by_webhook.gap_since is None
    assert by_webhook.proven_at is not None
    assert by_webhook.proven_at > now - dt.timedelta(minutes=1)

    monkeypatch.setattr(backfill, "CHECK_PAGE_SIZE", 2)
    monkeypatch.setattr(backfill, "PAGE_SIZE", 2)
    late = int((now - dt.timedelta(hours=4)).timestamp())
    evolution.writes("de madrugada", emit=False, timestamp=late)
    Connection.objects.update(last_ready_at=timezone.now())
    check_newest(by_webhook)
    wait_for_gap(by_webhook, "look")
    fetch(by_webhook)
    assert texts()[-1] == "de madrugada"
    assert recovered() == [("look", 1)]


def test_a_short_opening_does_not_shorten_the_backlog_of_the_next_one(
    channel: Channel,
) -> None:
    session, start = WhatsAppSession(channel=channel), timezone.now()
    connection = session.connection

    def opens(minutes: int, *, open_until: int) -> int:
        """Return since when the backlog of this opening was waiting, in minutes."""
        session.note_opening(start + dt.timedelta(minutes=minutes))
        connection.last_ready_at = start + dt.timedelta(minutes=open_until)
        assert session.backlog_since is not None
        return int((session.backlog_since - start).total_seconds() // 60)

    connection.last_ready_at = start
    assert opens(100, open_until=101) == 0
    assert opens(150, open_until=190) == 0, "it was open for a minute only"
    assert opens(300, open_until=301) == 190


def test_an_opening_is_stored_as_a_gap_sign_together_with_its_event(
    by_webhook: WhatsAppSession,
) -> None:
    close_gap(by_webhook)
    with transaction.atomic():
        sessions.apply_connection(by_webhook.channel, ConnectionEvent(NAME, "open"))
        by_webhook.refresh_from_db()
        assert by_webhook.gap_reason == "reconnected"


def test_a_sign_with_a_delay_postpones_the_fetch(
    by_webhook: WhatsAppSession,
) -> None:
    close_gap(by_webhook)
    five, now = dt.timedelta(seconds=5), timezone.now()

    def due() -> dt.datetime:
        by_webhook.refresh_from_db()
        assert by_webhook.gap_fetch_at is not None
        return by_webhook.gap_fetch_at

    backfill.request(by_webhook.pk, reason=Backfill.Reason.STARTED)
    backfill.request(by_webhook.pk, reason=Backfill.Reason.RECONNECTED, delay=five)
    assert due() >= now + five
    # A failed fetch is retried immediately when a sign shows that it may succeed now.
    WhatsAppSession.objects.update(gap_tries=3, gap_fetch_at=now + dt.timedelta(minutes=5))
    backfill.request(by_webhook.pk, reason=Backfill.Reason.UNREACHABLE)
    assert due() < now + dt.timedelta(minutes=1)


def test_one_record_rejected_by_the_database_does_not_block_the_others(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_gap(by_webhook)
    insert = journal._insert

    def refuse(rows: Any) -> None:
        if any("recusada" in str(row["payload"]) for row in rows):
            raise DataError("unsupported Unicode escape sequence")
        insert(rows)

    monkeypatch.setattr(journal, "_insert", refuse)
    for text in ("antes", "recusada", "depois"):
        evolution.writes(text, emit=False)
    backfill.request(by_webhook.pk, reason=Backfill.Reason.NOT_STORED)
    fetch(by_webhook)
    read()
    assert set(Message.objects.values_list("text", flat=True)) == {"antes", "depois"}
    assert by_webhook.gap_since is None
    assert InboundEvent.objects.get(state="set_aside").error == "DataError"


def test_oversized_pages_are_read_in_smaller_ones(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_gap(by_webhook)
    monkeypatch.setattr(evolution_receive_mode, "MAX_PAGE_BYTES", 12_000)
    sent = [f"{n:02d}" * 1000 for n in range(12)]
    for n, text in enumerate(sent):
        if n == 6:
            evolution.writes("maior que uma página" * 1000, emit=False)
        evolution.writes(text, emit=False)
    backfill.request(by_webhook.pk, reason=Backfill.Reason.NOT_STORED)
    fetch(by_webhook)
    assert (by_webhook.gap_since, by_webhook.gap_error) == (None, "")
    read()
    assert sorted(Message.objects.values_list("text", flat=True)) == sent
    assert InboundEvent.objects.get(state="set_aside").error.startswith("too_large: 3A")


def test_a_record_too_large_for_the_journal_is_known_once_it_is_a_stub(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_gap(by_webhook)
    monkeypatch.setattr(neutral, "MAX_CHARACTERS", 20_000)
    evolution.writes("longa " * 5000, emit=False)
    check_newest(by_webhook)
    wait_for_gap(by_webhook, "look")
    fetch(by_webhook)
    assert InboundEvent.objects.get(state="set_aside").error.startswith("too_large")
    check_newest(by_webhook)
    assert by_webhook.gap_since is None


def test_a_message_that_is_too_large_to_be_fetched_is_a_stub_that_can_be_replayed(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its beginning can be read, which names it; its file is fetched by that name."""
    close_gap(by_webhook)
    monkeypatch.setattr(evolution_receive_mode, "MAX_PAGE_BYTES", 40_000)
    monkeypatch.setattr(evolution_receive_mode, "BEGINNING_BYTES", 2_000)
    evolution.writes("antes", emit=False)
    video = evolution.writes("x" * 50_000, kind="video", emit=False)
    text = evolution.writes("y" * 50_000, emit=False)
    evolution.writes("depois", emit=False)

    def received() -> list[str]:
        read()
        return list(Message.objects.order_by("created_at").values_list("text", flat=True))

    check_newest(by_webhook)
    wait_for_gap(by_webhook, "look")
    fetch(by_webhook)
    assert received() == ["antes", "depois"]
    assert recovered() == [("look", 4)]
    stubs = InboundEvent.objects.filter(state="set_aside")
    assert sorted(stubs.values_list("error", flat=True)) == sorted(
        [f"too_large: {video}", f"too_large: {text}"]
    )
    # It is known now, and hides none of its neighbors from the next check.
    check_newest(by_webhook)
    assert by_webhook.gap_since is None
    evolution.writes("nunca emitida", emit=False)
    check_newest(by_webhook)
    wait_for_gap(by_webhook, "look")
    fetch(by_webhook)
    assert received() == ["antes", "depois", "nunca emitida"]
    assert stubs.count() == 2

    replay.replay()
    message = Message.objects.get(provider_message_id=video)
    assert (message.type, message.conversation.contact.name) == ("video", "Ana")
    assert message.media is not None
    media = message.media
    files.fetch(str(media.pk))
    media.refresh_from_db()
    assert media.state == "stored"
    backfill.request(by_webhook.pk, reason=Backfill.Reason.NOT_STORED)
    fetch(by_webhook)
    assert Message.objects.count() == 4
    assert stubs.get().error.startswith("not_json"), "the content of the text is not known"


def test_checks_are_spread_and_skip_unreachable_instances(
    by_webhook: WhatsAppSession, settings: Any
) -> None:
    assert backfill.claim_due_checks() == [], "the first is at a random time in the interval"
    by_webhook.refresh_from_db()
    assert by_webhook.look_at is not None
    assert by_webhook.look_at <= timezone.now() + dt.timedelta(seconds=300)
    long_ago = timezone.now() - dt.timedelta(hours=1)

    def due(**values: Any) -> list[int]:
        state = values.pop("server_state", "open")
        Connection.objects.update(server_state=state)
        usual = {"look_at": long_ago, "found_error": "", "switching_to": ""}
        WhatsAppSession.objects.update(**{**usual, **values})
        return backfill.claim_due_checks()

    assert due() == [by_webhook.pk]
    assert backfill.claim_due_checks() == [], "it is already claimed"
    assert due(server_state="close") == []
    assert due(found_error="connection_refused") == []
    assert due(switching_to="websocket", switching_phase="cutting") == []
    waits = {"switching_to": "websocket", "switching_phase": "joining"}
    assert due(**waits) == [by_webhook.pk], "it may wait for hours"
    WhatsAppSession.objects.update(switching_to="", switching_phase="")
    assert due(webhook_enabled=False) == []
    settings.EVOLUTION_BACKFILL_SECONDS = 0
    assert due(webhook_enabled=True) == []


def test_a_delivery_without_the_secret_is_a_gap_sign_at_most_once_a_minute(
    by_webhook: WhatsAppSession,
    evolution: Evolution,
    web: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The test server is shared: another test may have sent one within this minute.
    monkeypatch.setattr(gap_signs, "UNTRUSTED_SECONDS", 0.0)
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
    # The database always rejects such a name: it must not block later signs.
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
        monkeypatch.setattr(EvolutionWebhook, "max_bytes", 2 * MB)
        monkeypatch.setattr(asgi, "MAX_BYTES", 2 * MB)
        evolution.control("settings", webhook_chunked=True)
    close_gap(by_webhook)
    # Evolution reads the base64 setting when it connects.
    evolution.control("drop", instance=NAME, code=428)
    wait_until(lambda: evolution.ledger("instances")["instances"][NAME]["state"] == "open")
    id_ = evolution.writes("", kind="video", size=size, caption="o vídeo inteiro")

    def refused() -> bool:
        [entry] = evolution.ledger("events", message_id=id_) or [None]
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

    monkeypatch.setattr(media_types, "MAX_BYTES", MB)
    close_gap(by_webhook)
    evolution.writes("", kind="video", size=2 * MB, caption="grande demais", emit=False)
    check_newest(by_webhook)
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
    EvolutionCredentials.objects.update(url="http://127.0.0.1:9")
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
    EvolutionCredentials.objects.update(url=evolution.url)
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
    asked: list[int] = []
    messages = EvolutionInstance.messages

    def counted(instance: EvolutionInstance, *, page: int, size: int) -> Any:
        asked.append(page)
        return messages(instance, page=page, size=size)

    monkeypatch.setattr(EvolutionInstance, "messages", counted)
    backfill.request(by_webhook.pk, reason=Backfill.Reason.NOT_STORED)
    fetch(by_webhook)
    assert texts() == missing
    assert recovered() == [("not_stored", 37)]
    assert len(asked) <= 20, "the newest pages are not read again for each part"


def test_a_start_of_alterna_and_a_reconnected_instance_are_gap_signs(
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
        reader.read_pending(InboundEvent.Source.EVOLUTION, str(by_webhook.channel_id))
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

    assert not warned(), "it came before the instance was configured, or created again"
    ReceiveModeChange.objects.update(started_at=timezone.now() - dt.timedelta(hours=1))
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
    backfill.request(by_webhook.pk, reason=Backfill.Reason.NOT_STORED)
    fetch(by_webhook)
    assert texts() == ["de ontem", "de agora"]
    assert recovered() == [("not_stored", 1)]


def test_a_fetch_reads_no_further_back_than_the_journal_remembers(
    by_webhook: WhatsAppSession, evolution: Evolution, settings: Any
) -> None:
    close_gap(by_webhook)
    settings.INBOUND_RETENTION_DAYS = 30
    ago = timezone.now() - dt.timedelta(days=40)
    evolution.writes("de outra época", emit=False, timestamp=int(ago.timestamp()))
    evolution.writes("de agora", emit=False)
    backfill.fetch_and_store(by_webhook, since=timezone.now() - dt.timedelta(days=60))
    assert texts() == ["de agora"]


def test_a_drift_that_ends_without_a_repair_is_a_gap_sign(
    by_webhook: WhatsAppSession, evolution: Evolution, settings: Any
) -> None:
    settings.EVOLUTION_DRIFT_REPAIR = "ask"
    close_gap(by_webhook)
    evolution.set_websocket(NAME, list(handover.EVENTS))
    monitor.check_receive_modes()
    wait_for_gap(by_webhook, "drift")
    close_gap(by_webhook)
    evolution.set_websocket(NAME, [], enabled=False)
    monitor.check_receive_modes()
    wait_for_gap(by_webhook, "drift")


@pytest.mark.parametrize("error", [OperationalError("away"), ValueError("a fault of ours")])
def test_a_delivery_that_could_not_be_stored_is_a_gap_sign(
    by_webhook: WhatsAppSession, web: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    close_gap(by_webhook)

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(journal, "receive", fail)
        # A small body has been read before its receiver is called.
        assert deliver(web, by_webhook, padding="x" * SMALL_BYTES) == 503
    wait_for_gap(by_webhook, "not_stored")


def test_an_unreadable_delivery_is_a_gap_sign(
    by_webhook: WhatsAppSession, web: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_gap(by_webhook)

    def fail(*_: Any) -> bytes:
        raise UnreadablePostError

    with monkeypatch.context() as patch:
        patch.setattr(HttpRequest, "read", fail)
        # A small body has been read before its receiver is called.
        assert deliver(web, by_webhook, padding="x" * SMALL_BYTES) == 503
    wait_for_gap(by_webhook, "not_stored")


def deliver(web: str, session: WhatsAppSession, **more: Any) -> int:
    """Post an event like Evolution; return the status of the answer."""
    secret = {"Authorization": f"Bearer {session.webhook_secret}"}
    address = f"{web}/api/webhooks/evolution"
    return requests.post(address, json=event(**more), headers=secret, timeout=60).status_code


def test_the_listener_counts_what_it_fetched_only_after_it_is_stored(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    close_gap(by_webhook)
    evolution.writes("perdida", emit=False)
    until = timezone.now() + backfill.IN_FLIGHT
    wait_until(lambda: timezone.now() > until)
    channel = by_webhook.channel
    spec = SessionSpec(
        session_id=by_webhook.pk,
        channel_id=channel.pk,
        address=Address(channel.evolution_url, channel.evolution_api_key, NAME, shared=False),
    )

    def fail(*_: Any) -> None:
        raise OperationalError("away")

    with ThreadPoolExecutor(1) as pool:
        worker = SessionWorker(spec, BatchWriter(), recorders=pool, fetchers=pool)
        with monkeypatch.context() as patch:
            patch.setattr(backfill, "store", fail)
            with pytest.raises(OperationalError):
                worker._fetch_missed()
        assert recovered() == []
        assert worker._fetch_missed()
    assert recovered() == [("listener", 1)]
