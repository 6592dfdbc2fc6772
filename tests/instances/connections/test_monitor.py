"""The life cycle of an instance on the simulated Evolution: each state and each problem."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import mail
from django.db import connection as database
from django.utils import timezone, translation
from rest_framework.test import APIClient
from time_machine import TimeMachineFixture

from channels_app.channels import save_channel
from channels_app.connections import monitor, records, remote_sessions, rounds, session_engines
from channels_app.connections.session_engines import SessionRefused, SessionState, engine_for
from channels_app.incidents import incidents
from channels_app.models import Channel, Connection, EvolutionCredentials, Incident
from channels_app.providers.evolution.instance import EvolutionLifecycle
from channels_app.providers.sessions import DerivedState, State
from core import http_client
from instances import queue
from instances.connections import evolution as engine
from instances.connections import lifecycle, pictures
from instances.listener import locks
from instances.models import ProfilePicture, WhatsAppSession
from instances.receive_mode import handover
from tests.factories import change_channel
from tests.instances.support import KEY, NAME, Evolution, read, switch, wait_until
from tests.messaging.support import accept
from tests.simulators.evolution.support import receiver

NEW = "loja_nova"


@pytest.fixture(autouse=True)
def in_english() -> Iterator[None]:
    with translation.override("en"):
        yield


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not fetch pictures from WhatsApp."""
    monkeypatch.setattr(pictures, "HOSTS", ())


@pytest.fixture
def later(time_machine: TimeMachineFixture) -> Callable[[float], None]:
    """Advance the clock by a number of seconds; it keeps ticking."""

    def travel(seconds: float) -> None:
        time_machine.move_to(timezone.now() + dt.timedelta(seconds=seconds), tick=True)

    return travel


@pytest.fixture
def new(channel: Channel) -> WhatsAppSession:
    """A channel whose instance does not exist yet."""
    return fresh(change_channel(channel, instance_name=NEW))


@pytest.fixture
def ready(session: WhatsAppSession) -> WhatsAppSession:
    """An instance that a probe opened open."""
    assert probe(session).state == "ready"
    return session


def fresh(channel: Channel) -> WhatsAppSession:
    return WhatsAppSession.objects.select_related("channel").get(channel=channel)


def probe(session: WhatsAppSession) -> SessionState:
    engine.probe(session.pk)
    return stored_state(session)


def stored_state(session: WhatsAppSession) -> SessionState:
    session.refresh_from_db()
    return monitor.stored_state(session.connection)


def state_and_code(state: SessionState) -> tuple[str, str]:
    return state.state, state.code


def becomes(session: WhatsAppSession, code: str) -> SessionState:
    wait_until(lambda: probe(session).code == code, code)
    return stored_state(session)


def incident(session: WhatsAppSession) -> Incident | None:
    return Incident.objects.filter(connection__channel=session.channel, closed_at=None).first()


def reads_base64(evolution: Evolution, name: str) -> bool:
    return bool(evolution._simulator.engine.instances[name].base64_active)


# -- created, scanned, open ------------------------------------------------------------------------


def test_a_missing_instance_is_created_with_its_webhook_and_linked_by_a_scan(
    new: WhatsAppSession, evolution: Evolution
) -> None:
    assert state_and_code(probe(new)) == ("disconnected", "no_instance")
    assert stored_state(new).own_number == ""

    assert state_and_code(monitor.connect(new.connection)) == ("qr", "waiting_for_scan")

    assert evolution.enabled_modes(NEW) == (True, False)
    new.refresh_from_db()
    assert (new.webhook_enabled, new.webhook_base64) == (True, True)
    # Evolution reads it when it connects, so the webhook must be set first.
    assert reads_base64(evolution, NEW)
    code = monitor.qr(new.connection)
    assert code.text.startswith("2@")
    assert code.svg.startswith("<svg")
    assert "data:" not in code.svg
    assert code.age_seconds < 10
    # The code is not stored, and another click does not connect again.
    assert code.text not in str(Connection.objects.values().get())
    monitor.connect(new.connection)
    assert monitor.qr(new.connection).text == code.text

    evolution.control("scan", instance=NEW, number="5511955550000", name="Loja")

    state = becomes(new, "ready")
    assert (state.own_number, state.profile_name) == ("5511955550000", "Loja")
    assert state.since is not None
    assert state.checked_at is not None
    channel = Channel.objects.get()
    assert (channel.phone_number, channel.primary.health) == ("+5511955550000", "ok")
    with pytest.raises(SessionRefused) as refused:
        monitor.qr(new.connection)
    assert refused.value.code == "qr_not_ready"


def test_an_open_instance_is_taken_over_by_name_and_not_reconnected(
    session: WhatsAppSession, evolution: Evolution
) -> None:
    before = len(evolution.ledger("events", event="connection.update"))
    assert state_and_code(monitor.connect(session.connection)) == ("ready", "ready")
    assert len(evolution.ledger("events", event="connection.update")) == before
    # No other webhook was set, so ours is.
    assert evolution.enabled_modes() == (True, False)
    assert probe(session).own_number == "5511900000777"


def test_the_webhook_of_another_program_is_left_to_staff(
    session: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.set_webhook(NAME, "http://127.0.0.1:9/other", ["MESSAGES_UPSERT"])
    monitor.connect(session.connection)
    assert evolution.get(f"/webhook/find/{NAME}")["url"] == "http://127.0.0.1:9/other"
    session.refresh_from_db()
    assert session.mode is None


def test_an_instance_of_another_integration_is_not_taken_over(
    channel: Channel, evolution: Evolution
) -> None:
    evolution.create("evo", "EVOLUTION", number="5511900000009")
    channel.instance_name = "evo"
    save_channel(channel)
    session = fresh(channel)
    state = probe(session)
    assert (state.code, state.field) == ("other_integration", "instance_name")


def test_the_code_is_renewed_and_pages_are_notified(
    new: WhatsAppSession, evolution: Evolution
) -> None:
    monitor.connect(new.connection)
    first = monitor.qr(new.connection)
    evolution.control("settings", qr_seconds=0.05)
    evolution.call("DELETE", f"/instance/logout/{NEW}")
    monitor.connect(new.connection)
    codes = set()
    wait_until(lambda: codes.add(monitor.qr(new.connection).text) or len(codes) > 2)
    assert first.text not in codes
    assert monitor.qr(new.connection).age_seconds < first.age_seconds + 10


def test_unscanned_codes_reach_their_limit(new: WhatsAppSession, evolution: Evolution) -> None:
    evolution.control("settings", qr_seconds=0.05, qr_limit=2)
    monitor.connect(new.connection)
    state = becomes(new, "qr_limit")
    assert state.state == "disconnected"
    assert incident(new) is None
    # A user can request new ones.
    evolution.control("settings", qr_seconds=45)
    assert monitor.connect(new.connection).state == "qr"


def test_a_number_gets_a_pairing_code_while_a_qr_code_is_displayed(
    new: WhatsAppSession,
) -> None:
    monitor.connect(new.connection)
    typed = monitor.pairing_code(new.connection, "+55 (11) 90000-0777")
    assert len(typed) == 8
    assert monitor.qr(new.connection).pairing_code == typed
    with pytest.raises(SessionRefused) as refused:
        monitor.pairing_code(new.connection, "123")
    assert (refused.value.status, refused.value.field) == (400, "phone_number")


def test_a_linked_phone_gets_no_pairing_code(ready: WhatsAppSession, evolution: Evolution) -> None:
    with pytest.raises(SessionRefused) as refused:
        monitor.pairing_code(ready.connection, "+5511900000777")
    assert refused.value.code == "qr_not_ready"
    assert probe(ready).state == "ready"


# -- disconnections --------------------------------------------------------------------------------


def test_an_unlinked_phone_is_an_incident_with_its_reason_and_does_not_reconnect(
    ready: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    evolution.control("drop", instance=NAME, code=401)
    state = probe(ready)
    assert state_and_code(state) == ("disconnected", "unlinked_on_phone")
    assert state.last_drop_at is not None
    assert "unlinked on the phone" in state.last_drop_reason
    opened = incident(ready)
    assert opened is not None
    assert (opened.subject, opened.reason) == ("baileys", "unlinked_on_phone")
    assert Connection.objects.get().health == "failing"
    later(3600)
    probe(ready)
    assert evolution.get(f"/instance/connectionState/{NAME}")["instance"]["state"] == "close"
    # Relinking ends the incident.
    monitor.connect(ready.connection)
    evolution.control("scan", instance=NAME)
    becomes(ready, "ready")
    opened.refresh_from_db()
    assert opened.recovered_at is not None


def test_a_number_rejected_by_whatsapp_is_reported(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("drop", instance=NAME, code=403)
    assert state_and_code(probe(ready)) == ("error", "refused_by_whatsapp")


def test_a_connection_restored_by_evolution_recovers_without_staff(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("settings", redial_seconds=0.3)
    evolution.control("drop", instance=NAME, code=428)
    assert state_and_code(probe(ready)) == ("starting", "dialling")
    opened = incident(ready)
    assert opened is not None
    assert opened.reason == "connection_lost"
    becomes(ready, "ready")
    opened.refresh_from_db()
    assert opened.recovered_at is not None
    assert opened.alerted_at is None


def test_a_stuck_connection_attempt_is_an_error_and_is_restarted(
    ready: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    evolution.control("settings", redial_seconds=600)
    evolution.control("drop", instance=NAME, code=428)
    assert probe(ready).code == "dialling"
    later(121)
    assert state_and_code(probe(ready)) == ("error", "dialling_long")
    assert ready.connection.recovery_attempts == 1
    assert [
        request["path"]
        for request in evolution._simulator.requests
        if "/restart/" in request["path"]
    ] == [f"/instance/restart/{NAME}"]
    # It is reported while it lasts.
    assert probe(ready).code == "dialling_long"


def test_restarts_are_counted_until_the_instance_has_stayed_open(
    ready: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    evolution.control("settings", redial_seconds=600)
    evolution.control("drop", instance=NAME, code=428)
    probe(ready)
    later(121)
    assert probe(ready).code == "dialling_long"
    evolution.control("settings", redial_seconds=0)
    evolution.control("drop", instance=NAME, code=428)
    becomes(ready, "ready")
    assert fresh(ready.channel).connection.recovery_attempts == 1
    later(601)
    assert probe(ready).state == "ready"
    assert ready.connection.recovery_attempts == 0


def test_a_connection_attempt_without_a_code_is_an_incident_and_is_restarted(
    new: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    evolution.control("settings", stuck_dialing=True)
    assert state_and_code(monitor.connect(new.connection)) == ("starting", "dialling")
    assert incident(new) is None
    later(121)
    assert state_and_code(probe(new)) == ("error", "dialling_long")
    opened = incident(new)
    assert opened is not None
    assert (opened.reason, new.connection.recovery_attempts) == ("dialling_long", 1)
    # A few times, with growing delays.
    for seconds, tries in ((200, 1), (101, 2), (1700, 2), (101, 3), (7300, 4), (9000, 4)):
        later(seconds)
        probe(new)
        assert stored_state(new).code == "dialling_long"
        assert new.connection.recovery_attempts == tries
    # A user always can; once it displays a code, the incident is over.
    evolution.control("settings", stuck_dialing=False)
    lifecycle.reconnect(new.connection)
    becomes(new, "waiting_for_scan")
    opened.refresh_from_db()
    assert opened.recovered_at is not None


def test_an_instance_that_was_never_linked_and_is_closed_again_is_no_incident(
    new: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    evolution.control("settings", stuck_dialing=True)
    monitor.connect(new.connection)
    later(121)
    assert probe(new).code == "dialling_long"
    found = incident(new)
    assert found is not None
    # Somebody gives it up in Evolution's own manager.
    assert evolution.call("DELETE", f"/instance/logout/{NEW}").ok
    assert probe(new).state == "disconnected"
    found.refresh_from_db()
    assert found.recovered_at is not None


def test_a_code_that_is_not_renewed_expires(
    new: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    monitor.connect(new.connection)
    assert probe(new).state == "qr"
    later(121)  # the server's clock stands still: it keeps reporting its last code
    assert state_and_code(probe(new)) == ("error", "dialling_long")
    becomes(new, "waiting_for_scan")


def test_a_server_without_a_license_is_an_incident(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("settings", version="2.4.0", licensed=False)
    state = probe(ready)
    assert state_and_code(state) == ("error", "license_required")
    assert "license" in state.detail
    opened = incident(ready)
    assert opened is not None
    assert opened.reason == "license_required"


def test_a_connection_that_2_4_leaves_closed_is_reconnected_immediately(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("settings", version="2.4.0")
    evolution.control("drop", instance=NAME, code=408)
    assert state_and_code(probe(ready)) == ("disconnected", "connection_lost")
    becomes(ready, "ready")
    assert lifecycle.log_out(ready.connection).code == "unlinked"
    assert lifecycle.log_out(ready.connection).code == "not_running"


def test_an_instance_closed_after_a_server_restart_is_reconnected(
    ready: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    evolution.restart()
    assert probe(ready).code == "connection_lost"
    assert incident(ready) is not None
    later(61)
    probe(ready)
    becomes(ready, "ready")


def test_a_send_over_a_dead_connection_restarts_it(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("drop", instance=NAME, zombie=True)
    assert probe(ready).state == "ready"  # the server has not noticed

    session_engines.send_failed(ready.connection, "instance_not_connected")

    assert state_and_code(probe(ready)) == ("error", "dead_socket")
    opened = incident(ready)
    assert opened is not None
    assert opened.reason == "dead_socket"
    becomes(ready, "ready")
    assert not evolution._simulator.engine.instances[NAME].dead


def test_a_rejected_send_triggers_an_immediate_probe(
    ready: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    from channels_app.providers.base import Transient
    from messaging.delivery import channel_feedback
    from messaging.models import DeliveryAttempt

    enqueued: list[int] = []
    monkeypatch.setattr(queue, "enqueue_probe", enqueued.append)
    attempt = DeliveryAttempt(connection=ready.connection, message=accept(ready.channel))
    channel_feedback.note(attempt, Transient("instance_not_connected", "x"))
    assert enqueued == [ready.pk]
    assert stored_state(ready)
    assert ready.connection.dead_since is not None


def test_staff_are_alerted_to_a_disconnection_and_its_dependents(
    ready: WhatsAppSession, evolution: Evolution, make_channel: Callable[..., Channel],
    settings: Any,
) -> None:  # fmt: skip
    settings.ALERT_EMAILS = ["staff@example.com"]
    make_channel(name="Loja oficial", fallback="baileys", fallback_channel=ready.channel)
    evolution.control("drop", instance=NAME, code=401)
    probe(ready)
    opened = incident(ready)
    assert opened is not None
    for what, words in (("down", "does not work"), ("recovered", "works again")):
        incidents.send_alert(opened.pk, what=what, by="email")
        sent = mail.outbox[-1]
        assert sent.subject == f"Alterna: the Baileys channel “Oficina” {words}"
        assert "unlinked on the phone" in sent.body
        assert "It is the fallback of: Loja oficial" in sent.body


def test_an_incident_shows_the_current_reason_and_keeps_the_first(
    ready: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    address = ready.channel.evolution_url
    EvolutionCredentials.objects.filter(pk=ready.channel_id).update(url="http://127.0.0.1:9")
    assert probe(ready).code == "connection_refused"
    EvolutionCredentials.objects.filter(pk=ready.channel_id).update(url=address)
    evolution.control("drop", instance=NAME, code=401)
    assert probe(ready).code == "unlinked_on_phone"
    opened = incident(ready)
    assert opened is not None
    assert (opened.reason, opened.first_reason) == ("unlinked_on_phone", "connection_refused")
    # The phone was linked before: the displayed code says so.
    state = monitor.connect(ready.connection)
    assert state_and_code(state) == ("qr", "unlinked_scan_qr")
    assert state.last_drop_reason == "The server refused the connection"
    opened.refresh_from_db()
    assert "Scan the QR code" in incidents.headline(opened)
    evolution.control("scan", instance=NAME)
    # A user reconnected it.
    assert becomes(ready, "ready").code == "ready"


def test_an_automatic_recovery_is_reported(
    ready: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    address = ready.channel.evolution_url
    EvolutionCredentials.objects.filter(pk=ready.channel_id).update(url="http://127.0.0.1:9")
    assert probe(ready).code == "connection_refused"
    EvolutionCredentials.objects.filter(pk=ready.channel_id).update(url=address)
    assert state_and_code(probe(ready)) == ("ready", "ready_after_restart")
    later(600)
    assert state_and_code(probe(ready)) == ("ready", "ready_after_restart")


# -- commands --------------------------------------------------------------------------------------


def test_logging_out_unlinks_without_an_incident(
    ready: WhatsAppSession, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    assert state_and_code(lifecycle.log_out(ready.connection)) == ("disconnected", "unlinked")
    assert not evolution._simulator.engine.instances[NAME].paired
    wait_until(lambda: (read(), stored_state(ready), ready.connection.server_state == "close")[2])
    assert state_and_code(probe(ready)) == ("disconnected", "unlinked")
    assert incident(ready) is None
    assert stored_state(ready).last_drop_at is None
    # The second time there is nothing to unlink, which 2.4 does not call an error.
    assert lifecycle.log_out(ready.connection).code == "not_running"
    evolution.control("settings", version="2.4.0")
    assert lifecycle.log_out(ready.connection).code == "not_running"


def test_reconnecting_opens_no_incident(ready: WhatsAppSession, evolution: Evolution) -> None:
    assert state_and_code(lifecycle.reconnect(ready.connection)) == ("starting", "reconnecting")
    becomes(ready, "ready")
    assert incident(ready) is None
    assert stored_state(ready).last_drop_at is None


def test_reconnecting_a_closed_instance_connects_it(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("drop", instance=NAME, code=401)
    assert lifecycle.reconnect(ready.connection).state == "qr"


def test_a_reconnection_that_never_completes_is_an_incident(
    ready: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    evolution.control("settings", redial_seconds=600)
    lifecycle.reconnect(ready.connection)
    probe(ready)
    assert incident(ready) is None
    later(61)
    probe(ready)
    assert incident(ready) is not None


def test_deleting_does_not_wait_for_a_failing_receiver(
    by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    probe(by_webhook)
    with receiver() as hook:
        hook.status = 500
        evolution.set_webhook(NAME, hook.url, [])  # all events, REMOVE_INSTANCE among them
        state = lifecycle.delete(by_webhook.connection)
    assert state_and_code(state) == ("disconnected", "instance_deleted")
    assert evolution.call("GET", f"/instance/connectionState/{NAME}").status_code == 404
    by_webhook.refresh_from_db()
    assert by_webhook.mode is None
    assert incident(by_webhook) is None
    assert state_and_code(probe(by_webhook)) == ("disconnected", "instance_deleted")
    # The channel still exists and creates the instance again.
    assert monitor.connect(by_webhook.connection).state == "qr"
    by_webhook.refresh_from_db()
    assert by_webhook.webhook_enabled


def test_a_new_instance_with_an_old_name_requests_no_codes_automatically(
    by_webhook: WhatsAppSession, evolution: Evolution, later: Callable[[float], None]
) -> None:
    probe(by_webhook)  # it was linked once
    lifecycle.delete(by_webhook.connection)
    evolution.control("settings", qr_seconds=0.05, qr_limit=1)
    monitor.connect(by_webhook.connection)
    becomes(by_webhook, "qr_limit")
    evolution.control("settings", qr_seconds=45)
    for _minutes in range(5):
        later(120)
        assert probe(by_webhook).state == "disconnected"
    assert evolution.get(f"/instance/connectionState/{NAME}")["instance"]["state"] == "close"


def test_a_failed_deletion_keeps_the_agreed_event_delivery(
    by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    probe(by_webhook)
    evolution.fault("/instance/delete", method="DELETE", mode="status", status=500, body={
        "status": 500, "error": "Internal Server Error", "response": {"message": "x"},
    })  # fmt: skip
    with pytest.raises(SessionRefused):
        lifecycle.delete(by_webhook.connection)
    by_webhook.refresh_from_db()
    assert by_webhook.webhook_enabled
    assert evolution.enabled_modes(NAME) == (True, False)


def test_a_wrong_key_is_reported_even_if_the_instance_is_missing(
    new: WhatsAppSession,
) -> None:
    EvolutionCredentials.objects.update(api_key="another")
    new.refresh_from_db()
    state = probe(new)
    assert (state.code, state.field) == ("key_cannot_create", "evolution_api_key")
    with pytest.raises(SessionRefused, match="key"):
        monitor.connect(new.connection)


@pytest.mark.usefixtures("listener")
def test_no_switch_runs_while_the_instance_is_being_deleted(
    api: APIClient, by_webhook: WhatsAppSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "JOIN_PATIENCE", 0.3)
    assert switch(api, "websocket").status_code == 202  # waits for its namespace
    delete, answers = EvolutionLifecycle.delete, []

    def delete_during_click(client: EvolutionLifecycle) -> None:
        answers.append(switch(api, "webhook").status_code)
        delete(client)

    monkeypatch.setattr(EvolutionLifecycle, "delete", delete_during_click)
    assert lifecycle.delete(by_webhook.connection).code == "instance_deleted"
    assert answers == [409]
    by_webhook.refresh_from_db()
    assert (by_webhook.mode, by_webhook.switching_to) == (None, "")
    change = by_webhook.mode_changes.latest("pk")
    assert (change.result, change.detail) == ("cancelled", "instance_deleted")
    assert change.finished_at is not None


def test_an_instance_is_not_deleted_during_a_switch(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    with locks.held(locks.HANDOVER, ready.pk), pytest.raises(SessionRefused) as refused:
        lifecycle.delete(ready.connection)
    assert (refused.value.status, refused.value.code) == (409, "conflict")
    assert evolution.call("GET", f"/instance/connectionState/{NAME}").status_code == 200
    ready.refresh_from_db()
    assert ready.connection.keep_connected


def test_concurrent_clicks_on_create_share_the_instance(
    new: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = EvolutionLifecycle.create

    def second(client: EvolutionLifecycle) -> None:
        create(client)  # the other click is first
        create(client)

    monkeypatch.setattr(EvolutionLifecycle, "create", second)
    assert state_and_code(monitor.connect(new.connection)) == ("qr", "waiting_for_scan")


def test_a_slow_deletion_is_reported_and_completed_later(
    ready: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "PATIENCE", 0.0)
    evolution.fault("/webhook/set", method="POST", mode="status", status=404, body={
        "status": 404, "error": "Not Found", "response": {"message": ["Cannot POST x"]},
    })  # fmt: skip
    with pytest.raises(SessionRefused):
        lifecycle.delete(ready.connection)  # only after its webhook is disabled
    assert evolution.call("GET", f"/instance/connectionState/{NAME}").status_code == 200
    monkeypatch.setattr(lifecycle, "_is_gone", lambda client: False)
    assert lifecycle.delete(ready.connection).code == "deleting"
    assert becomes(ready, "instance_deleted").state == "disconnected"


def test_an_instance_deleted_by_others_is_an_incident(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.call("DELETE", f"/instance/delete/{NAME}")
    wait_until(lambda: probe(ready).code == "instance_gone")
    assert incident(ready) is not None


# -- problems --------------------------------------------------------------------------------------


def test_a_wrong_key_is_shown_beside_its_field(channel: Channel) -> None:
    channel.evolution_api_key = "wrong"
    save_channel(channel)
    session = fresh(channel)
    state = probe(session)
    assert (state.state, state.code, state.field) == ("error", "wrong_key", "evolution_api_key")
    with pytest.raises(SessionRefused) as refused:
        monitor.connect(session.connection)
    assert (refused.value.status, refused.value.field) == (502, "evolution_api_key")


def test_the_key_of_another_instance_cannot_create_one(
    new: WhatsAppSession, evolution: Evolution
) -> None:
    token = evolution.ledger("instances")["instances"][NAME]["token"]
    EvolutionCredentials.objects.filter(pk=new.channel_id).update(api_key=token)
    session = fresh(new.channel)
    assert token != KEY
    with pytest.raises(SessionRefused) as refused:
        monitor.connect(session.connection)
    assert (refused.value.code, refused.value.field) == ("key_cannot_create", "evolution_api_key")
    assert "AUTHENTICATION_API_KEY" in str(refused.value)


@pytest.mark.parametrize(
    ("mode", "code", "field"),
    [
        ("html", "wrong_address", "evolution_url"),
        ("reset", "connection_broken", "evolution_url"),
        ("garbage", "unreadable_answer", ""),
    ],
)
def test_an_unexpected_answer_has_its_own_message(
    session: WhatsAppSession, evolution: Evolution, mode: str, code: str, field: str
) -> None:
    status = {"status": 404} if mode == "html" else {}
    evolution.fault("/instance/connectionState", mode, times=1, **status)
    state = probe(session)
    assert (state.state, state.code, state.field) == ("error", code, field)
    assert becomes(session, "ready")


def test_an_unreachable_server_is_shown_beside_its_address(channel: Channel) -> None:
    channel.evolution_url = "http://127.0.0.1:9"
    save_channel(channel)
    state = probe(fresh(channel))
    assert (state.code, state.field) == ("connection_refused", "evolution_url")


def test_a_hanging_server_takes_no_longer_than_the_timeout(
    session: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ASK_SECONDS", 0.2)
    evolution.fault("/instance/connectionState", "hang", seconds=5)
    assert probe(session).code == "timeout"


def test_an_answer_from_before_a_command_is_ignored(
    ready: WhatsAppSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll = engine_for("baileys").poll

    def slow(connection: Connection, **options: Any) -> Any:
        observation = poll(connection, **options)
        records.command(connection, keep_connected=False)
        unlinked = DerivedState(State.DISCONNECTED, "unlinked")
        records.store_command_state(connection, unlinked)
        return observation

    monkeypatch.setattr(engine_for("baileys"), "poll", slow)
    assert probe(ready).code == "unlinked"


def test_a_new_address_clears_the_stored_state(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    channel = ready.channel
    channel.instance_name = NEW
    save_channel(channel)
    state = stored_state(ready)
    assert (state.code, state.own_number) == ("unchecked", "")
    assert state_and_code(probe(fresh(channel))) == ("disconnected", "no_instance")
    assert incident(ready) is None


def test_an_inactive_channel_is_not_probed_and_has_no_incident(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("drop", instance=NAME, code=401)
    probe(ready)
    channel = ready.channel
    channel.active = False
    save_channel(channel)
    assert incident(ready) is None
    Connection.objects.update(next_poll_at=None)
    assert rounds.claim(engine_for("baileys")) == []


def test_due_sessions_are_claimed_once_and_probed(session: WhatsAppSession) -> None:
    Connection.objects.update(next_poll_at=None)
    assert rounds.claim(engine_for("baileys")) == [session.connection.pk]
    assert rounds.claim(engine_for("baileys")) == []
    Connection.objects.update(next_poll_at=None)
    rounds.probe_due("baileys")
    assert stored_state(session).state == "ready"
    assert session.connection.server_state == "open"
    assert session.connection.next_poll_at is not None
    delay = (session.connection.next_poll_at - timezone.now()).total_seconds()
    assert 45 < delay <= 72


def test_an_event_triggers_an_immediate_probe(
    by_webhook: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueued: list[int] = []
    monkeypatch.setattr(queue, "enqueue_probe", enqueued.append)
    evolution.control("drop", instance=NAME, code=401)
    wait_until(lambda: (read(), enqueued)[1])
    assert set(enqueued) == {by_webhook.pk}


# -- the picture -----------------------------------------------------------------------------------


def test_the_picture_is_fetched_once_and_stored(
    session: WhatsAppSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def request(method: str, base: str, *rest: Any, **options: Any) -> http_client.Answer:
        fetched.append(base)
        return http_client.Answer(200, {}, b"\x89PNG\r\n\x1a\nrest")

    monkeypatch.setattr(pictures, "HOSTS", (".whatsapp.net",))
    monkeypatch.setattr(http_client, "request", request)
    for _ in range(2):
        pictures.store(session, "https://pps.whatsapp.net/a.png")
    assert fetched == ["https://pps.whatsapp.net/a.png"]
    assert ProfilePicture.objects.get().content_type == "image/png"
    assert pictures.exists(session.connection)
    # An account without a picture.
    pictures.store(session, "")
    assert not pictures.exists(session.connection)
    assert not ProfilePicture.objects.exists()
    # No other host is allowed.
    pictures.store(session, "https://127.0.0.1/a.png")
    assert len(fetched) == 1
    assert not pictures.exists(session.connection)


def test_a_failed_picture_download_is_retried_after_a_delay(
    session: WhatsAppSession, monkeypatch: pytest.MonkeyPatch, later: Callable[[float], None]
) -> None:
    answers = [
        http_client.Answer(503, {}, b""),
        http_client.Answer(200, {}, b"\x89PNG\r\n\x1a\nrest"),
    ]
    monkeypatch.setattr(pictures, "HOSTS", (".whatsapp.net",))
    monkeypatch.setattr(http_client, "request", lambda *args, **options: answers.pop(0))
    address = "https://pps.whatsapp.net/a.png"
    for minutes, left in ((0, 1), (50, 1), (20, 0), (120, 0)):
        later(60 * minutes)
        pictures.store(session, address)
        assert len(answers) == left
    assert pictures.exists(session.connection)


# -- concurrent probes -----------------------------------------------------------------------------


def test_a_late_answer_to_an_earlier_request_is_ignored(
    ready: WhatsAppSession, evolution: Evolution, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, release = threading.Event(), threading.Event()
    answers: list[http_client.Answer] = []
    request = http_client.request

    def slow(*args: Any, **kwargs: Any) -> http_client.Answer:
        """Delay the first answer until the test releases it."""
        answer = request(*args, **kwargs)
        answers.append(answer)
        if len(answers) == 1:
            answered.set()
            assert release.wait(10)
        return answer

    def ask() -> None:
        engine.probe(ready.pk)
        database.close()

    monkeypatch.setattr(http_client, "request", slow)
    earlier = threading.Thread(target=ask)
    earlier.start()
    try:
        assert answered.wait(5)
        # It reported "open"; now the phone unlinks it.
        evolution.control("drop", instance=NAME, code=401)
        wait_until(lambda: probe(ready).state == "disconnected")
        newest = fresh(ready.channel).connection.checked_at
    finally:
        release.set()
        earlier.join(10)
    after = fresh(ready.channel).connection
    assert (after.state, after.serving, after.checked_at) == ("disconnected", False, newest)
    assert Incident.objects.get().recovered_at is None


def test_an_opening_stored_by_an_event_during_a_probe_is_preserved(
    ready: WhatsAppSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_at = timezone.now()
    derive, writers = engine.derive, list[threading.Thread]()

    def write() -> None:
        WhatsAppSession.objects.filter(pk=ready.pk).update(opened_at=opened_at)
        database.close()

    def is_waiting() -> bool:
        with database.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            return cursor.fetchone() is not None

    def meanwhile(*args: Any, **kwargs: Any) -> DerivedState:
        """An event is read while the answer of the probe is being stored."""
        writer = threading.Thread(target=write)
        writers.append(writer)
        writer.start()
        wait_until(lambda: not writer.is_alive() or is_waiting())
        return derive(*args, **kwargs)

    monkeypatch.setattr(engine, "derive", meanwhile)
    engine.probe(ready.pk)
    [writer] = writers
    writer.join(10)
    ready.refresh_from_db()
    assert ready.opened_at == opened_at


# -- leaving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "there", "linked"),
    [("keep", True, True), ("log_out", True, False), ("delete", False, False)],
)
@pytest.mark.parametrize("renamed", [False, True])
def test_an_abandoned_instance_ends_as_chosen(
    ready: WhatsAppSession, evolution: Evolution, api: APIClient, choice: str, there: bool,
    linked: bool, renamed: bool,
) -> None:  # fmt: skip
    remote = remote_sessions.session_of(ready.channel)
    assert remote is not None
    assert [code for code, _label in remote.choices] == ["keep", "log_out", "delete"]
    url = f"/api/channels/{ready.channel_id}/"
    assert api.delete(f"{url}?previous_session=stop").status_code == 400
    if renamed:
        body = {"instance_name": "another", "previous_session": choice}
        assert api.patch(url, body, format="json").status_code == 200
    else:
        assert api.delete(f"{url}?previous_session={choice}").status_code == 204
    answer = evolution.call("GET", f"/instance/connectionState/{NAME}")
    assert (answer.status_code == 200) is there
    if there:
        assert (answer.json()["instance"]["state"] == "open") is linked


@pytest.mark.parametrize("choice", ["log_out", "delete"])
def test_an_end_refused_by_the_server_does_not_change_keep_connected(
    ready: WhatsAppSession, evolution: Evolution, api: APIClient, choice: str
) -> None:
    evolution.fault("/instance/logout" if choice == "log_out" else "/instance/delete", status=500)
    url = f"/api/channels/{ready.channel_id}/"
    assert api.delete(f"{url}?previous_session={choice}").status_code == 502
    after = fresh(ready.channel).connection
    assert (after.keep_connected, after.serving, after.linking_since) == (True, True, None)
    evolution.clear_faults()
    assert probe(ready).state == "ready"
    # An end requested by a person counts even if the server refuses it.
    evolution.fault("/instance/logout", status=500)
    with pytest.raises(SessionRefused):
        lifecycle.log_out(fresh(ready.channel).connection)
    assert not fresh(ready.channel).connection.keep_connected


def test_an_incident_stays_open_if_the_end_was_refused(
    ready: WhatsAppSession, evolution: Evolution, api: APIClient
) -> None:
    evolution.control("drop", instance=NAME, code=401)
    assert probe(ready).state == "disconnected"
    incident = Incident.objects.get(closed_at=None)
    evolution.fault("/instance/logout", status=500)
    url = f"/api/channels/{ready.channel_id}/"
    assert api.delete(f"{url}?previous_session=log_out").status_code == 502
    incident.refresh_from_db()
    assert incident.closed_at is None
