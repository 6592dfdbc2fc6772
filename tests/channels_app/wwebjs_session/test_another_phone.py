"""A phone with an unexpected number is linked to the session."""

from __future__ import annotations

from typing import Any

import pytest
from rest_framework.test import APIClient

from channels_app.connections import readiness, wwebjs_session
from channels_app.models import Channel
from channels_app.providers import provider_for
from channels_app.providers.base import OutboundMessage, Transient
from tests.channels_app.wwebjs_session.conftest import Server, session_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("inline")]

STRANGER = "5521977776666"
MESSAGE = OutboundMessage(reference="r", to="+5511988887777", text="Oi")


def fresh(channel: Channel) -> Channel:
    return Channel.objects.get(pk=channel.pk)


def test_a_person_confirms_a_fallback_with_its_own_number_once(
    ready: Channel, server: Server, api: APIClient
) -> None:
    server.settings.own_number = STRANGER
    state = wwebjs_session.state(ready)
    assert (state.state, state.code) == ("error", "number_unconfirmed")
    assert state.unconfirmed_number == STRANGER
    incident = ready.incidents.get()
    assert (incident.route, incident.reason, incident.detail) == (
        "wwebjs",
        "another_phone",
        f"+{STRANGER}",
    )
    assert STRANGER in readiness.fallback_trouble(fresh(ready))
    server.forget()
    with pytest.raises(Transient) as refused:
        provider_for(fresh(ready), route="wwebjs").send(MESSAGE)
    assert refused.value.code == "number_unconfirmed"
    assert server.paths() == []
    # It is connected: no start or scan is needed.
    assert wwebjs_session.connect(fresh(ready)).code == "number_unconfirmed"

    base = f"/api/channels/{ready.pk}/wwebjs/confirm-number/"
    refusal = api.post(base, {"number": "+5511900000001"}, format="json")
    assert (refusal.status_code, refusal.json()["code"]) == (409, "nothing_to_confirm")
    answer = api.post(base, {"number": STRANGER}, format="json")
    assert (answer.status_code, answer.json()["state"]) == (200, "ready")
    # The official number belongs to the Cloud API and stays unchanged.
    assert fresh(ready).phone_number == ready.phone_number
    assert provider_for(fresh(ready), route="wwebjs").send(MESSAGE)
    incident.refresh_from_db()
    assert incident.recovered_at is not None
    # It stays confirmed after relinking; the channel's own number needs no confirmation.
    server.settings.own_number = "5511900000001"
    assert wwebjs_session.state(ready).state == "ready"
    server.settings.own_number = "552177776666"  # the same without its ninth digit
    assert wwebjs_session.state(ready).state == "ready"


def test_confirming_requires_the_permission_to_change_the_channel(
    ready: Channel, server: Server, django_user_model: Any
) -> None:
    viewer = APIClient()
    viewer.force_authenticate(django_user_model.objects.create_user("v", is_staff=True))
    server.settings.own_number = STRANGER
    wwebjs_session.state(ready)
    base = f"/api/channels/{ready.pk}/wwebjs/confirm-number/"
    assert viewer.post(base, {"number": STRANGER}, format="json").status_code == 403


def test_a_channel_without_a_number_accepts_only_the_first_phone(
    attached: Channel, server: Server
) -> None:
    Channel.objects.update(phone_number="")
    server.steer("make_ready")
    assert wwebjs_session.state(fresh(attached)).state == "ready"
    assert fresh(attached).confirmed_number == "5511900000001"
    server.settings.own_number = STRANGER
    assert wwebjs_session.state(fresh(attached)).code == "number_unconfirmed"
    assert session_of(attached).wanted
