"""The instance is linked to a phone whose number is unconfirmed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone, translation
from structlog.testing import capture_logs
from time_machine import TimeMachineFixture

from channels_app.connections import monitor, readiness, records
from channels_app.connections.registry import provider_for
from channels_app.models import Channel, Connection, Incident
from channels_app.providers.base import OutboundMessage, Transient
from instances.connections import evolution as engine
from instances.connections import history, lifecycle, pictures
from instances.models import WhatsAppSession
from messaging.delivery.statuses import Outcome
from tests.factories import change_channel, update_connection
from tests.instances.support import NAME, OTHER, Evolution, read, wait_until
from tests.messaging.support import accept, deliver

if TYPE_CHECKING:
    from rest_framework.test import APIClient

OWN, STRANGER = "5511900000777", "5521977776666"
CONFIRM = f"/api/instances/{NAME}/confirm-number/"


@pytest.fixture(autouse=True)
def in_english(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(pictures, "HOSTS", ())
    with translation.override("en"):
        yield


@pytest.fixture
def ready(session: WhatsAppSession) -> WhatsAppSession:
    assert probe(session) == ("ready", "ready")
    return session


def probe(session: WhatsAppSession) -> tuple[str, str]:
    engine.probe(session.pk)
    session.refresh_from_db()
    session.channel.refresh_from_db()
    return session.connection.state, session.connection.state_code


def another_phone(session: WhatsAppSession, evolution: Evolution) -> None:
    """Link an unknown phone on the server; the next probe detects it."""
    evolution.control("relink", instance=NAME, number=STRANGER)
    records.request_poll("baileys", session.channel)
    assert probe(session) == ("error", "number_unconfirmed")


def test_an_unknown_phone_is_an_incident_and_sends_nothing_until_confirmed(
    ready: WhatsAppSession, evolution: Evolution, api: APIClient
) -> None:
    another_phone(ready, evolution)

    [incident] = Incident.objects.filter(closed_at=None)
    assert (incident.subject, incident.reason, incident.detail) == (
        "baileys",
        "another_phone",
        f"+{STRANGER}",
    )
    stored = monitor.stored_state(ready.connection)
    assert f"+{STRANGER}" in stored.detail
    assert stored.unconfirmed_number == STRANGER
    assert STRANGER in readiness.channel_problem(ready.channel)
    # The channel keeps its number.
    assert ready.channel.phone_number == f"+{OWN}"
    Channel.objects.update(official_retries=0)
    message = accept(ready.channel)
    deliver(message)
    [attempt] = message.attempts.all()
    assert (attempt.outcome, attempt.error_code) == (Outcome.TRANSIENT, "number_unconfirmed")
    assert evolution.ledger("sent") == []
    report = provider_for(ready.connection).check()
    assert (report.ok, report.code) == (False, "number_unconfirmed")

    # The user must confirm this exact number.
    refused = api.post(CONFIRM, {"number": OWN}, format="json")
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_confirm")
    assert api.post(CONFIRM, {}, format="json").status_code == 400
    with capture_logs() as logs:
        answer = api.post(CONFIRM, {"number": "+55 21 97777-6666"}, format="json")
    assert (answer.status_code, answer.json()["state"]) == (200, "ready")
    [entry] = [line for line in logs if line["event"] == "linked number confirmed"]
    assert (entry["number"], entry["user"]) == ("…6666", answer.wsgi_request.user.pk)
    channel = Channel.objects.get()
    assert (channel.phone_number, channel.primary.unconfirmed_number) == (f"+{STRANGER}", "")
    incident.refresh_from_db()
    assert incident.recovered_at is not None
    # Relinking the first phone also needs confirmation.
    evolution.control("relink", instance=NAME, number=OWN)
    records.request_poll("baileys", channel)
    assert probe(ready)[1] == "number_unconfirmed"


def test_a_first_phone_with_a_different_number_must_be_confirmed(
    session: WhatsAppSession, evolution: Evolution
) -> None:
    channel = session.channel
    change_channel(channel, phone_number="(21) 97777-6666")
    assert probe(session) == ("error", "number_unconfirmed")
    assert Incident.objects.get().reason == "another_phone"
    # Unlinking closes the incident; the right phone needs no confirmation.
    lifecycle.log_out(session.connection)
    assert not Incident.objects.filter(closed_at=None).exists()
    assert Channel.objects.get().primary.linked_number == ""
    monitor.connect(session.connection)
    evolution.control("scan", instance=NAME, number="552177776666")  # as WhatsApp writes it
    wait_until(lambda: probe(session) == ("ready", "ready"))


def test_a_new_instance_sends_nothing_before_the_first_probe_that_sees_its_number(
    session: WhatsAppSession, evolution: Evolution
) -> None:
    """It may have been linked to any phone before the channel was created."""
    change_channel(session.channel, phone_number="(21) 97777-6666")
    update_connection(session.channel, next_poll_at=timezone.now() + dt.timedelta(minutes=1))
    message = accept(session.channel)
    assert deliver(message) is not None, "it is tried again"
    [attempt] = message.attempts.all()
    assert (attempt.outcome, attempt.error_code) == (Outcome.TRANSIENT, "number_unknown")
    assert evolution.ledger("sent") == []
    assert Connection.objects.get().next_poll_at is None, "it is probed at once"
    assert probe(session) == ("error", "number_unconfirmed")


def test_an_incident_reopens_with_its_reactivated_channel(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    another_phone(ready, evolution)
    for active in (False, True):
        change_channel(ready.channel, active=active)
        assert not Incident.objects.filter(closed_at=None).exists()
    assert probe(ready) == ("error", "number_unconfirmed")
    assert Incident.objects.get(closed_at=None).reason == "another_phone"
    # The next poll finds the same drop.
    probe(ready)
    assert Incident.objects.get(closed_at=None).drops == 1


def test_the_previous_phone_s_number_does_not_count_for_a_new_link(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    """Evolution stores the number of a new link after the instance is open."""
    lifecycle.log_out(ready.connection)
    assert probe(ready)[0] == "disconnected"
    evolution.control("settings", late_owner=True)
    # Its row has no number, like that of an instance that was never linked.
    evolution.instance(NAME).stored_owner_jid = None
    monitor.connect(ready.connection)
    evolution.control("scan", instance=NAME, number=STRANGER)
    assert probe(ready) == ("connected", "number_unknown")
    assert ready.channel.primary.linked_number == ""
    with pytest.raises(Transient, match="number_unknown"):
        provider_for(ready.connection).send(
            OutboundMessage(reference="r", to="+5511988887777", text="Oi")
        )
    assert evolution.ledger("sent") == []
    evolution.control("settings", late_owner=False)
    assert probe(ready) == ("error", "number_unconfirmed")


def test_messages_synced_by_a_link_are_history_even_before_its_number_is_confirmed(
    ready: WhatsAppSession, evolution: Evolution, api: APIClient
) -> None:
    lifecycle.log_out(ready.connection)
    assert probe(ready)[0] == "disconnected"
    monitor.connect(ready.connection)
    began = timezone.now()
    evolution.control("scan", instance=NAME, number=STRANGER)
    assert probe(ready) == ("error", "number_unconfirmed")
    linked_at = history.end_of_history(ready.channel)
    assert linked_at is not None
    assert linked_at >= began - history.LINK_MARGIN
    # The time of the link, not that of the event about it.
    assert api.post(CONFIRM, {"number": STRANGER}, format="json").status_code == 200
    assert probe(ready) == ("ready", "ready")
    assert history.end_of_history(ready.channel) == linked_at


def test_the_number_of_a_new_link_is_requested_again(
    ready: WhatsAppSession, evolution: Evolution
) -> None:
    """The row may still contain the previous number for a moment."""
    lifecycle.log_out(ready.connection)
    assert probe(ready)[0] == "disconnected"
    evolution.control("settings", late_owner=True)
    monitor.connect(ready.connection)
    evolution.control("scan", instance=NAME, number=STRANGER)
    assert probe(ready) == ("ready", "ready")
    assert ready.connection.next_poll_at is not None
    assert (ready.connection.next_poll_at - timezone.now()).total_seconds() < 6
    evolution.control("settings", late_owner=False)
    assert probe(ready) == ("error", "number_unconfirmed")


def test_another_phone_is_detected_within_minutes_without_an_event(
    ready: WhatsAppSession, evolution: Evolution, time_machine: TimeMachineFixture
) -> None:
    evolution.control("relink", instance=NAME, number=STRANGER)
    assert probe(ready) == ("ready", "ready")
    time_machine.move_to(timezone.now() + dt.timedelta(minutes=5, seconds=1), tick=True)
    assert probe(ready)[1] == "number_unconfirmed"


def test_the_link_event_detects_another_phone_immediately(
    by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    probe(by_webhook)
    evolution.control("relink", instance=NAME, number=STRANGER)

    def detected() -> bool:
        read()
        return probe(by_webhook)[1] == "number_unconfirmed"

    wait_until(detected)


def test_the_card_shows_that_another_channel_has_the_same_phone(
    ready: WhatsAppSession, evolution: Evolution, make_channel: Callable[..., Channel]
) -> None:
    from channels_app import extensions
    from instances.connections import cards as connection_cards

    other = make_channel(
        name="Filial", kind="baileys", phone_number="", evolution_url=evolution.url,
        evolution_api_key=ready.channel.evolution_api_key, instance_name=OTHER,
    )  # fmt: skip
    evolution.control("relink", instance=OTHER, number=OWN)
    engine.probe(other.session.pk)
    for channel, name in ((ready.channel, "Filial"), (other, "Oficina")):
        annotated = extensions.channels().get(pk=channel.pk)
        for one in (annotated, Channel.objects.get(pk=channel.pk)):
            html = connection_cards.section(one, True)
            assert f"The same phone is also linked to another channel: “{name}”" in html
    lifecycle.log_out(ready.connection)
    assert "Another channel" not in connection_cards.section(Channel.objects.get(pk=other.pk), True)


def test_an_official_channel_does_not_fall_back_to_an_unconfirmed_phone(
    ready: WhatsAppSession, evolution: Evolution, make_channel: Callable[..., Channel]
) -> None:
    another_phone(ready, evolution)
    official = make_channel(fallback="baileys", fallback_channel=ready.channel)
    assert official.fallback_connection is not None
    provider: Any = provider_for(official.fallback_connection)
    assert provider.check().code == "number_unconfirmed"
    assert STRANGER in readiness.ranked_fallbacks(official)[0].problem
    assert monitor.stored_state(official.wwebjs).state == "not_configured"
