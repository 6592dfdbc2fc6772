"""A phone with an unexpected number is linked to the session."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from channels_app.connections import monitor, readiness
from channels_app.connections.registry import provider_for
from channels_app.models import Channel
from channels_app.providers.base import OutboundMessage, Transient
from tests.channels_app.wwebjs_session.conftest import Server, session_of, until
from tests.factories import change_channel, update_connection
from tests.messaging.support import accept, deliver, trail

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("inline")]

STRANGER = "5521977776666"
MESSAGE = OutboundMessage(reference="r", to="+5511988887777", text="Oi")


def fresh(channel: Channel) -> Channel:
    return Channel.objects.get(pk=channel.pk)


def test_a_person_confirms_a_fallback_with_its_own_number_once(
    ready: Channel, server: Server, api: APIClient
) -> None:
    server.settings.own_number = STRANGER
    state = monitor.state(ready.wwebjs)
    assert (state.state, state.code) == ("error", "number_unconfirmed")
    assert state.unconfirmed_number == STRANGER
    incident = ready.wwebjs.incidents.get()
    assert (incident.subject, incident.reason, incident.detail) == (
        "wwebjs",
        "another_phone",
        f"+{STRANGER}",
    )
    assert STRANGER in readiness.ranked_fallbacks(fresh(ready))[0].problem
    server.forget()
    with pytest.raises(Transient) as refused:
        provider_for(fresh(ready).wwebjs).send(MESSAGE)
    assert refused.value.code == "number_unconfirmed"
    assert server.paths() == []
    # It is connected: no start or scan is needed.
    assert monitor.connect(fresh(ready).wwebjs).code == "number_unconfirmed"

    base = f"/api/channels/{ready.pk}/wwebjs/confirm-number/"
    refusal = api.post(base, {"number": "+5511900000001"}, format="json")
    assert (refusal.status_code, refusal.json()["code"]) == (409, "nothing_to_confirm")
    answer = api.post(base, {"number": STRANGER}, format="json")
    assert (answer.status_code, answer.json()["state"]) == (200, "ready")
    # The official number belongs to the Cloud API and stays unchanged.
    assert fresh(ready).phone_number == ready.phone_number
    assert provider_for(fresh(ready).wwebjs).send(MESSAGE)
    incident.refresh_from_db()
    assert incident.recovered_at is not None
    # It stays confirmed after relinking; the channel's own number needs no confirmation.
    server.settings.own_number = "5511900000001"
    assert monitor.state(ready.wwebjs).state == "ready"
    server.settings.own_number = "552177776666"  # the same without its ninth digit
    assert monitor.state(ready.wwebjs).state == "ready"


def test_confirming_requires_the_permission_to_change_the_channel(
    ready: Channel, server: Server, django_user_model: Any
) -> None:
    viewer = APIClient()
    viewer.force_authenticate(django_user_model.objects.create_user("v", is_staff=True))
    server.settings.own_number = STRANGER
    monitor.state(ready.wwebjs)
    base = f"/api/channels/{ready.pk}/wwebjs/confirm-number/"
    assert viewer.post(base, {"number": STRANGER}, format="json").status_code == 403


def test_a_channel_without_a_number_accepts_only_the_first_phone(
    attached: Channel, server: Server
) -> None:
    Channel.objects.update(phone_number="")
    server.steer("make_ready")
    assert monitor.state(fresh(attached).wwebjs).state == "ready"
    assert fresh(attached).wwebjs.confirmed_number == "5511900000001"
    server.settings.own_number = STRANGER
    assert monitor.state(fresh(attached).wwebjs).code == "number_unconfirmed"
    assert session_of(attached).keep_connected


def relink(channel: Channel, server: Server, number: str) -> None:
    """Another phone reads the code that the same browser shows after an unlink."""
    server.steer("unlink_by_reload")
    until(channel, "qr")
    server.settings.own_number = number
    server.settings.sync_seconds = 3600
    server.steer("scan")


def refused_code(channel: Channel) -> str:
    with pytest.raises(Transient) as refused:
        provider_for(fresh(channel).wwebjs).send(MESSAGE)
    return str(refused.value.code)


def test_nothing_is_sent_between_a_new_link_and_the_probe_of_its_number(
    ready: Channel, server: Server
) -> None:
    server.steer("unlink_by_reload")
    until(ready, "qr")
    server.settings.own_number = STRANGER
    server.steer("make_ready")
    server.forget()
    assert refused_code(ready) == "number_unknown"
    assert provider_for(fresh(ready).wwebjs).check().code == "number_unknown"
    assert "/client/sendMessage" not in server.paths()
    assert monitor.state(ready.wwebjs).code == "number_unconfirmed"


def test_a_new_session_sends_nothing_before_the_first_probe_that_sees_its_number(
    attached: Channel, server: Server, django_capture_on_commit_callbacks: Any
) -> None:
    change_channel(attached, official_retries=0)
    update_connection(attached, "wwebjs", next_poll_at=timezone.now() + dt.timedelta(minutes=1))
    server.settings.own_number = STRANGER
    server.steer("make_ready")
    message = accept(attached)
    with django_capture_on_commit_callbacks(execute=True):
        assert deliver(message) is not None, "it is tried again"
    assert trail(message)[1:] == [("wwebjs", "transient", "number_unknown")]
    assert "/client/sendMessage" not in server.paths()
    assert session_of(attached).next_poll_at is None, "it is probed at once"
    assert monitor.state(fresh(attached).wwebjs).code == "number_unconfirmed"
    server.settings.own_number = "5511900000001"
    assert monitor.state(fresh(attached).wwebjs).state == "ready"
    assert provider_for(fresh(attached).wwebjs).send(MESSAGE)


def test_an_old_number_still_reported_after_a_new_link_does_not_count(
    ready: Channel, server: Server, later: Callable[[float], None]
) -> None:
    relink(ready, server, STRANGER)
    state = until(ready, "connected")
    assert (state.code, refused_code(ready)) == ("number_unknown", "number_unknown")
    assert fresh(ready).wwebjs.linked_number == ""
    # It is polled fast, and the page has loaded before the old number would count.
    later(5)
    assert monitor.state(ready.wwebjs).code == "number_unknown"
    server.steer("sync")
    assert monitor.state(ready.wwebjs).code == "number_unconfirmed"
    assert refused_code(ready) == "number_unconfirmed"


def test_the_same_phone_in_the_same_browser_counts_after_a_moment_and_is_watched(
    ready: Channel, server: Server, later: Callable[[float], None]
) -> None:
    relink(ready, server, server.settings.own_number)
    assert until(ready, "connected").code == "number_unknown"
    later(11)
    assert monitor.state(ready.wwebjs).state == "ready"
    due = session_of(ready).next_poll_at
    assert due is not None
    assert (due - timezone.now()).total_seconds() < 2
    later(120)
    assert monitor.state(ready.wwebjs).state == "ready"
    due = session_of(ready).next_poll_at
    assert due is not None
    assert (due - timezone.now()).total_seconds() > 40


def test_a_session_without_its_expected_number_is_not_ready(
    attached: Channel, server: Server
) -> None:
    server.settings.nameless_info = True
    server.steer("make_ready")
    state = monitor.state(attached.wwebjs)
    assert (state.state, state.code) == ("connected", "number_unknown")
    assert "has not reported which phone" in readiness.ranked_fallbacks(fresh(attached))[0].problem
    assert refused_code(attached) == "number_unknown"
    server.settings.nameless_info = False
    assert monitor.state(attached.wwebjs).state == "ready"
    # A single response without it does not change the linked phone.
    server.settings.nameless_info = True
    assert monitor.state(attached.wwebjs).state == "ready"
