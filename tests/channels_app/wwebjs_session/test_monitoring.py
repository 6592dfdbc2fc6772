"""Probes, recovery, incidents and alerts of the fallback session."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from aiohttp import web
from django.core import mail
from django.db import connection
from django.utils import timezone

from channels_app import tasks
from channels_app.connections import circuit_breaker, monitor, records, rounds, wwebjs_commands
from channels_app.incidents import incidents
from channels_app.models import Channel, Connection, Incident, WwebjsCredentials
from channels_app.providers.wwebjs.states import Observation
from channels_app.signals import session_changed
from simulators.base import run_in_thread
from tests.channels_app.wwebjs_session.conftest import Server, jobs, run_starts, session_of, until
from tests.conftest import WWEBJS_KEY

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("inline")]
Later = Callable[[float], None]


@pytest.fixture
def pushes() -> Iterator[list[int]]:
    """Collect the channels that open pages are notified of."""
    notified: list[int] = []

    def receive(channel: Channel, **kwargs: Any) -> None:
        notified.append(channel.pk)

    session_changed.connect(receive)
    yield notified
    session_changed.disconnect(receive)


def due_in(channel: Channel) -> float:
    due = session_of(channel).next_poll_at
    assert due is not None
    return (due - timezone.now()).total_seconds()


def incident(channel: Channel) -> Incident:
    return channel.wwebjs.incidents.get()


# -- probes ---------------------------------------------------------------------------------------


def test_a_ready_session_is_polled_once_a_minute(ready: Channel, server: Server) -> None:
    rounds.probe_due("wwebjs")
    assert server.paths() == []
    assert 45 < due_in(ready) < 75


def test_a_due_session_is_polled_once(ready: Channel, server: Server, later: Later) -> None:
    later(80)
    rounds.probe_due("wwebjs")
    rounds.probe_due("wwebjs")
    assert server.paths() == ["/session/status", "/client/getClassInfo"]
    ready.refresh_from_db()
    assert ready.wwebjs.checked_at is not None
    assert ready.wwebjs.checked_at > timezone.now() - dt.timedelta(seconds=5)


def test_a_key_corrected_on_the_server_closes_the_breaker(
    ready: Channel, server: Server, later: Later
) -> None:
    server.settings.api_key = "another"
    circuit_breaker.trip(ready.wwebjs, code="wrong_key")
    assert monitor.state(ready.wwebjs).code == "wrong_key"
    later(5)
    server.settings.api_key = WWEBJS_KEY
    assert monitor.state(ready.wwebjs).state == "ready"
    assert not circuit_breaker.is_open(session_of(ready))
    # Only a message can verify reasons other than key, address or name.
    circuit_breaker.trip(ready.wwebjs, code="424242")
    later(5)
    server.steer("unready")
    assert monitor.state(ready.wwebjs).state == "connected"
    later(5)
    server.steer("make_ready")
    assert monitor.state(ready.wwebjs).state == "ready"
    assert circuit_breaker.is_open(session_of(ready))


def test_a_session_showing_a_code_is_polled_fast(attached: Channel, server: Server) -> None:
    monitor.connect(attached.wwebjs)
    run_starts()
    assert monitor.state(attached.wwebjs).state == "qr"
    assert due_in(attached) < 2


def test_the_page_is_notified_of_a_scan_and_of_a_new_code(
    attached: Channel, server: Server, pushes: list[int], later: Later
) -> None:
    monitor.connect(attached.wwebjs)
    run_starts()
    pushes.clear()
    later(2)
    rounds.probe_due("wwebjs")
    assert pushes == []
    server.steer("rotate_qr")
    later(2)
    rounds.probe_due("wwebjs")
    assert pushes == [attached.pk]
    server.steer("scan")
    until(attached, "ready")
    attached.refresh_from_db()
    assert attached.wwebjs.state == "ready"
    assert len(pushes) > 1


def test_an_unchanged_state_is_neither_written_nor_pushed(
    ready: Channel, pushes: list[int]
) -> None:
    changes = ("connections__state_changed_at", "updated_at")
    own = Channel.objects.filter(connections__provider="wwebjs")
    before = own.values(*changes).get(pk=ready.pk)
    monitor.state(ready.wwebjs)
    assert pushes == []
    after = own.values(*changes).get(pk=ready.pk)
    assert before == after


def test_messaging_pushes_the_card(
    attached: Channel, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    notified: list[int] = []
    monkeypatch.setattr(
        "messaging.live.publisher.channel_changed", lambda channel: notified.append(channel.pk)
    )
    server.steer("make_ready")
    monitor.state(attached.wwebjs)
    assert attached.pk in notified


def test_a_fallback_set_without_signals_is_detected(channel: Channel, server: Server) -> None:
    channel.fallback = "wwebjs"
    channel.wwebjs_url = server.url
    channel.wwebjs_api_key = WWEBJS_KEY
    channel.wwebjs_session_id = "TESTE"
    channel.save()
    rounds.probe_due("wwebjs")
    channel.refresh_from_db()
    assert channel.wwebjs.state_code == "not_started"


# -- recovery --------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["kill_browser", "conflict"])
def test_a_session_without_its_browser_recovers_automatically(
    ready: Channel, server: Server, later: Later, action: str
) -> None:
    server.steer(action)
    later(80)
    rounds.probe_due("wwebjs")
    ready.refresh_from_db()
    assert ready.wwebjs.state == "starting"
    assert run_starts() == 1
    ready.refresh_from_db()
    assert ready.wwebjs.state == "ready"


def test_an_unlinked_phone_shows_a_new_code_and_the_reason(ready: Channel, server: Server) -> None:
    server.steer("unlink")
    records.request_poll("wwebjs", ready, callback_reason="UNPAIRED")
    monitor.state(ready.wwebjs)
    run_starts()
    session_state = monitor.state(ready.wwebjs)
    assert session_state.state == "qr"
    assert session_state.last_drop_at is not None
    assert session_state.last_drop_reason == "The session was unlinked on the phone."


def test_unlinking_by_a_reload_needs_no_restart(ready: Channel, server: Server) -> None:
    server.steer("unlink_by_reload")
    until(ready, "qr")
    assert not jobs("begin_session")
    assert incident(ready).first_reason in ("opening", "unlinked_scan_qr")
    assert incident(ready).reason == "unlinked_scan_qr"


def test_a_page_that_hangs_twice_is_restarted(
    ready: Channel, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.settings.protocol_timeout = 60
    server.steer("crash_page")
    with monkeypatch.context() as impatient:
        impatient.setattr("channels_app.providers.wwebjs.session.STATUS_SECONDS", 0.1)
        assert monitor.state(ready.wwebjs).code == "session_check_failed"
        assert not jobs("begin_session")
        assert monitor.state(ready.wwebjs).state == "starting"
    run_starts()
    assert monitor.state(ready.wwebjs).state == "ready"


def test_a_session_lost_by_the_server_is_started_after_a_delay(
    ready: Channel, server: Server, later: Later
) -> None:
    server.simulator.browsers.close("TESTE")
    assert monitor.state(ready.wwebjs).code == "not_started"
    assert not jobs("begin_session")
    later(61)
    assert monitor.state(ready.wwebjs).state == "starting"
    run_starts()
    assert monitor.state(ready.wwebjs).state == "ready"


def test_failing_starts_are_few_and_far_between(
    ready: Channel, server: Server, later: Later
) -> None:
    server.settings.start_failure = "network"
    server.simulator.browsers.close("TESTE")
    starts = 0
    for _ in range(48):  # a day, polled every half hour
        later(1800)
        monitor.state(ready.wwebjs)
        starts += run_starts()
    assert starts == server.paths().count("/session/start") == 4


def test_a_session_ended_by_a_person_is_not_restarted(
    ready: Channel, server: Server, later: Later
) -> None:
    wwebjs_commands.disconnect(ready.wwebjs, unlink=False)
    for _ in range(3):
        later(120)
        monitor.state(ready.wwebjs)
    assert not jobs("begin_session")


def test_a_session_never_connected_is_not_started(
    attached: Channel, server: Server, later: Later
) -> None:
    for _ in range(3):
        later(120)
        monitor.state(attached.wwebjs)
    assert not jobs("begin_session")
    assert not attached.wwebjs.incidents.exists()


# -- incidents and alerts -------------------------------------------------------------------------


@pytest.fixture
def alerts(settings: Any, servers: ExitStack) -> list[dict[str, Any]]:
    """Collect the webhook's requests; emails are in Django's outbox."""
    got: list[dict[str, Any]] = []

    async def receive(request: web.Request) -> web.Response:
        got.append(await request.json())
        return web.Response()

    app = web.Application()
    app.router.add_post("/alerts", receive)
    settings.ALERT_WEBHOOK_URL = servers.enter_context(run_in_thread(app)).url + "/alerts"
    settings.ALERT_EMAILS = ["staff@example.com"]
    return got


def run_alerts() -> None:
    """Process the due incidents and run the alert jobs."""
    incidents.process_due()
    for order in jobs("send_alert"):
        incidents.send_alert(order["incident_id"], what=order["what"], by=order["by"])
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM procrastinate_jobs WHERE task_name = 'channels_app.send_alert'")


def test_a_drop_and_its_end_are_alerted_once_each(
    ready: Channel, server: Server, alerts: list[dict[str, Any]], later: Later
) -> None:
    server.steer("lose_link")
    monitor.state(ready.wwebjs)
    assert list(incidents.current()) == [incident(ready)]
    run_alerts()
    assert (mail.outbox, alerts) == ([], [])  # it may recover automatically
    later(31)
    for _ in range(3):
        monitor.state(ready.wwebjs)
        run_alerts()
    assert [message.subject for message in mail.outbox] == [
        "Alterna: the fallback of “Oficial” does not work"
    ]
    assert "no connection to WhatsApp" in mail.outbox[0].body
    assert f"/channels/{ready.pk}/" in mail.outbox[0].body
    assert [alert["event"] for alert in alerts] == ["fallback.down"]
    assert alerts[0]["channel"] == {"id": ready.pk, "name": "Oficial"}

    server.steer("regain_link")
    monitor.state(ready.wwebjs)
    run_alerts()
    assert len(alerts) == 1
    later(61)
    for _ in range(3):
        monitor.state(ready.wwebjs)
        run_alerts()
    assert [alert["event"] for alert in alerts] == ["fallback.down", "fallback.recovered"]
    assert len(mail.outbox) == 2
    assert not incidents.current().exists()
    assert WWEBJS_KEY not in json.dumps(alerts) + "".join(str(m.body) for m in mail.outbox)


def test_a_drop_that_recovers_at_once_is_recorded_without_an_alert(
    ready: Channel, server: Server, alerts: list[dict[str, Any]], later: Later
) -> None:
    server.steer("lose_link")
    monitor.state(ready.wwebjs)
    server.steer("regain_link")
    monitor.state(ready.wwebjs)
    later(61)
    run_alerts()
    assert (mail.outbox, alerts) == ([], [])
    assert incident(ready).closed_at is not None
    ready.refresh_from_db()
    assert (ready.wwebjs.last_drop_at is not None, ready.wwebjs.last_drop_reason) == (
        True,
        "opening",
    )


def test_a_flapping_connection_is_one_incident(
    ready: Channel, server: Server, alerts: list[dict[str, Any]], later: Later
) -> None:
    for _ in range(4):
        server.steer("lose_link")
        monitor.state(ready.wwebjs)
        later(31)
        run_alerts()
        server.steer("regain_link")
        monitor.state(ready.wwebjs)
        run_alerts()
    assert incident(ready).drops == 4
    assert [alert["event"] for alert in alerts] == ["fallback.down"]


def test_a_person_who_disconnects_causes_no_alert(
    ready: Channel, server: Server, alerts: list[dict[str, Any]], later: Later
) -> None:
    server.steer("lose_link")
    monitor.state(ready.wwebjs)
    wwebjs_commands.disconnect(ready.wwebjs)
    later(120)
    monitor.state(ready.wwebjs)
    run_alerts()
    assert (mail.outbox, alerts) == ([], [])
    assert not incidents.current().exists()


def test_an_inactive_channel_causes_no_alert(
    ready: Channel, server: Server, alerts: list[dict[str, Any]], later: Later
) -> None:
    Channel.objects.filter(pk=ready.pk).update(active=False)
    server.steer("lose_link")
    monitor.state(ready.wwebjs)
    later(31)
    run_alerts()
    assert (mail.outbox, alerts) == ([], [])


def test_without_recipients_nothing_is_sent(ready: Channel, server: Server, later: Later) -> None:
    server.steer("lose_link")
    monitor.state(ready.wwebjs)
    later(31)
    incidents.process_due()
    assert not jobs("send_alert")


@pytest.mark.parametrize("status", [302, 500])
def test_an_alert_rejected_by_its_recipient_is_retried(
    ready: Channel, server: Server, settings: Any, servers: ExitStack, status: int
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_post("/", refuse)
    settings.ALERT_WEBHOOK_URL = servers.enter_context(run_in_thread(app)).url
    server.steer("lose_link")
    monitor.state(ready.wwebjs)
    with pytest.raises(incidents.AlertFailed):
        incidents.send_alert(incident(ready).pk, what="down", by="webhook")
    strategy = tasks.send_alert.retry_strategy
    assert strategy is not None


def test_a_connection_has_only_one_open_incident(ready: Channel) -> None:
    from django.db import IntegrityError, transaction

    now = timezone.now()
    values = {
        "connection": ready.wwebjs, "reason": "x", "opened_at": now, "last_drop_at": now,
    }  # fmt: skip
    Incident.objects.create(**values)
    with pytest.raises(IntegrityError), transaction.atomic():
        Incident.objects.create(**values)


def test_deleting_the_channel_deletes_its_session_data(ready: Channel, server: Server) -> None:
    server.steer("lose_link")
    monitor.state(ready.wwebjs)
    ready.delete()
    assert not Connection.objects.exists()
    assert not Incident.objects.exists()
    rounds.probe_due("wwebjs")
    wwebjs_commands.probe(12345)
    wwebjs_commands.begin(12345, restart=False)
    incidents.send_alert(12345, what="down", by="email")


# -- the reason follows the current state ----------------------------------------------------------


def test_an_incident_shows_the_current_reason_and_stores_the_first(
    ready: Channel, server: Server, alerts: list[dict[str, Any]], later: Later
) -> None:
    address = ready.wwebjs_url
    WwebjsCredentials.objects.filter(pk=ready.pk).update(url="http://127.0.0.1:9")
    ready.refresh_from_db()
    assert monitor.state(ready.wwebjs).code == "connection_refused"
    later(31)
    run_alerts()
    assert [alert["event"] for alert in alerts] == ["fallback.down"]
    assert "refused the connection" in alerts[0]["text"]

    # The server is back and waits for a phone, which requires a person.
    WwebjsCredentials.objects.filter(pk=ready.pk).update(url=address)
    ready.refresh_from_db()
    server.steer("unlink_by_reload")
    until(ready, "qr")
    session_state = monitor.state(ready.wwebjs)
    assert (session_state.code, session_state.detail) == (
        "unlinked_scan_qr",
        "The phone was unlinked. Scan the QR code.",
    )
    now = incident(ready)
    assert (now.reason, now.first_reason) == ("unlinked_scan_qr", "connection_refused")
    assert "Scan the QR code" in incidents.headline(now)
    assert session_state.last_drop_reason == "The server refused the connection"

    # One further alert once the new reason has lasted, never more.
    run_alerts()
    assert len(alerts) == 1
    for _ in range(5):
        later(31)
        monitor.state(ready.wwebjs)
        run_alerts()
    assert [alert["event"] for alert in alerts] == ["fallback.down", "fallback.changed"]
    assert (alerts[1]["reason"], alerts[1]["first_reason"]) == (
        "unlinked_scan_qr",
        "connection_refused",
    )
    assert "Scan the QR code" in alerts[1]["text"]
    assert "First reason: The server refused the connection" in alerts[1]["text"]
    WwebjsCredentials.objects.filter(pk=ready.pk).update(url="http://127.0.0.1:9")
    ready.refresh_from_db()
    monitor.state(ready.wwebjs)
    later(61)
    run_alerts()
    assert incident(ready).reason == "connection_refused"
    assert len(alerts) == 2


def test_only_a_code_after_a_drop_means_an_unlinked_phone(
    attached: Channel, server: Server
) -> None:
    monitor.connect(attached.wwebjs)
    run_starts()
    assert monitor.state(attached.wwebjs).code == "waiting_for_scan"


@pytest.mark.parametrize(
    ("away", "code"),
    [("restart", "ready_after_restart"), ("unreachable", "ready_after_outage")],
)
def test_a_session_that_recovers_automatically_says_so(
    ready: Channel, server: Server, later: Later, away: str, code: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if away == "restart":
        # The server has lost its state; its session folder restores the session.
        session = server.simulator.browsers.sessions.pop("TESTE")
        assert monitor.state(ready.wwebjs).code == "not_started"
        server.simulator.browsers.sessions["TESTE"] = session
    else:
        with monkeypatch.context() as broken:
            timeout = Observation(error_code="connect_timeout")
            broken.setattr(
                "channels_app.connections.wwebjs_commands.WwebjsSessions.poll",
                lambda _self: timeout,
            )
            assert monitor.state(ready.wwebjs).code == "connect_timeout"
    session_state = monitor.state(ready.wwebjs)
    assert (session_state.state, session_state.code) == ("ready", code)
    assert "reconnected automatically" in session_state.detail
    later(3600)
    incidents.process_due()
    assert monitor.state(ready.wwebjs).code == code  # until it drops again

    server.steer("lose_link")
    monitor.state(ready.wwebjs)
    server.steer("regain_link")
    assert monitor.state(ready.wwebjs).code == "ready"


def test_a_session_restarted_by_us_did_not_recover_automatically(
    ready: Channel, server: Server, later: Later
) -> None:
    server.simulator.browsers.close("TESTE")
    monitor.state(ready.wwebjs)
    later(61)
    monitor.state(ready.wwebjs)
    run_starts()
    assert (monitor.state(ready.wwebjs).state, monitor.state(ready.wwebjs).code) == (
        "ready",
        "ready",
    )
