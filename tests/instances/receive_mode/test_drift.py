"""The database is compared with Evolution, and differences are repaired on either side."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing
from django.db import connection
from django.utils import translation

from channels_app.models import EvolutionCredentials
from instances.models import Difference, ReceiveModeChange, WhatsAppSession
from instances.receive_mode import handover, monitor, presentation
from tests.instances.support import (
    NAME,
    Evolution,
    agreed,
    joined,
    shown,
    state,
    switch,
    wait_until,
)

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

EVENTS = list(handover.EVENTS)


@pytest.fixture(autouse=True)
def manual_repair(settings: Any) -> None:
    """Automatic repair is tested in test_drift_repair.py."""
    settings.EVOLUTION_DRIFT_REPAIR = "ask"


OFF = {"webhook": {"enabled": False, "url": "", "events": []}}


def drift_to_websocket(evolution: Evolution) -> None:
    """Switch the mode as in Evolution's own manager."""
    evolution.post(f"/webhook/set/{NAME}", OFF)
    evolution.set_websocket(NAME, EVENTS)


DRIFTS: dict[str, Any] = {
    "mode: both are on": lambda e: e.set_websocket(NAME, EVENTS),
    "mode: none is on": lambda e: e.post(f"/webhook/set/{NAME}", OFF),
    "mode: the other is on": drift_to_websocket,
    "webhook_url: another address": lambda e: e.set_webhook(NAME, "http://elsewhere/hook", EVENTS),
    "webhook_events: fewer": lambda e: e.set_webhook(
        NAME, e.get(f"/webhook/find/{NAME}")["url"], ["CALL"]
    ),
    "webhook_secret: none": lambda e: e.set_webhook(
        NAME, e.get(f"/webhook/find/{NAME}")["url"], EVENTS, headers={}
    ),
    "webhook_by_events: an address for each": lambda e: e.set_webhook(
        NAME, e.get(f"/webhook/find/{NAME}")["url"], EVENTS, byEvents=True
    ),
    "webhook_base64: without media": lambda e: e.set_webhook(
        NAME, e.get(f"/webhook/find/{NAME}")["url"], EVENTS, base64=False
    ),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_drift_from_webhook_is_detected_logged_stored_and_repaired(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution, drift: str
) -> None:
    monitor.check_receive_modes()
    by_webhook.refresh_from_db()
    assert (by_webhook.in_sync, by_webhook.found_error) == (True, "")
    DRIFTS[drift](evolution)
    with structlog.testing.capture_logs() as logs:
        monitor.check_receive_modes()
        monitor.check_receive_modes()
    by_webhook.refresh_from_db()
    assert by_webhook.in_sync is False
    assert (by_webhook.found_webhook, by_webhook.found_websocket) == evolution.enabled_modes()
    logged = [line for line in logs if line["event"] == "receive mode drifted"]
    assert [line["instance"] for line in logged] == [NAME], "once, not with every check"
    assert state(api)["inSync"] is False
    differs = drift.partition(":")[0]
    assert state(api)["evolution"]["differs"] == [differs]
    assert by_webhook.found_differs == differs
    card = shown()
    if differs == "mode":
        on = {True: "on", False: "off"}
        webhook, websocket = (on[is_on] for is_on in evolution.enabled_modes())
        assert f"webhook {webhook}, WebSocket {websocket}." in card.notices
    else:
        with translation.override("en"):
            assert str(Difference(differs).label) in card.notices
        assert "WebSocket off" not in card.notices
    can_be_kept = drift == "mode: the other is on"
    assert ("Keep Evolution's settings" in card.notices) == can_be_kept
    if not can_be_kept:
        before = evolution.get(f"/webhook/find/{NAME}")
        answer = api.post(f"/api/instance-management/repair/{NAME}", {"keep": "evolution"}, "json")
        assert answer.status_code == 409
        assert answer.json()["message"]
        assert evolution.get(f"/webhook/find/{NAME}") == before

    answer = api.post(f"/api/instance-management/repair/{NAME}", {"keep": "database"}, "json")
    assert answer.status_code == 200, answer.data
    assert agreed(api, evolution) == "webhook"
    assert ReceiveModeChange.objects.latest("pk").source == "repair"


def test_a_drift_from_websocket_is_detected_and_repaired(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.set_websocket(NAME, ["CALL"])
    assert state(api)["inSync"] is False
    assert state(api)["evolution"]["differs"] == ["websocket_events"]
    evolution.set_websocket(NAME, [], enabled=False)
    monitor.check_receive_modes()
    by_websocket.refresh_from_db()
    assert by_websocket.in_sync is False
    assert api.post(f"/api/instance-management/repair/{NAME}").status_code == 200
    assert agreed(api, evolution) == "websocket"


@pytest.mark.usefixtures("listener")
def test_a_mode_chosen_in_evolution_can_be_kept(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.open_namespace()
    drift_to_websocket(evolution)
    address = f"/api/instance-management/repair/{NAME}"
    assert api.post(address, {"keep": "evolution"}, "json").status_code == 200
    assert agreed(api, evolution) == "websocket"
    evolution.set_websocket(NAME, [], enabled=False)
    assert api.post(address, {"keep": "evolution"}, "json").status_code == 409
    assert api.post(address, {"keep": "neither"}, "json").status_code == 400
    change = ReceiveModeChange.objects.latest("pk")
    assert (change.from_mode, change.to_mode, change.source) == ("webhook", "websocket", "repair")
    assert change.result == "done"


@pytest.mark.parametrize("mode", ["webhook", "websocket"])
def test_a_reinstalled_evolution_is_a_drift(
    api: APIClient,
    by_websocket: WhatsAppSession,
    evolution: Evolution,
    mode: str,
    staff: User,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handover, "JOIN_PATIENCE", 0.3)
    if mode == "webhook":
        assert switch(api, "webhook").status_code == 200
    evolution.call("DELETE", f"/instance/delete/{NAME}")
    wait_until(lambda: evolution.call("GET", f"/webhook/find/{NAME}").status_code == 404)
    with structlog.testing.capture_logs() as logs:
        monitor.check_receive_modes()
    by_websocket.refresh_from_db()
    assert by_websocket.in_sync is False
    [line] = [line for line in logs if line["event"] == "receive mode drifted"]
    assert line["differs"] == "instance"
    current = state(api)
    assert current["evolution"]["reachable"] is True
    assert current["evolution"]["differs"] == ["instance"]
    assert current["evolution"]["error"]
    assert current["inSync"] is False
    card = shown()
    assert "Evolution does not have this instance" in card.notices
    assert "Create the instance" in card.notices
    assert "does not answer" not in card.notices
    assert api.post(f"/api/instance-management/repair/{NAME}").status_code in (200, 502)
    # Like the button of the connection card.
    assert api.post(f"/api/instances/{NAME}/connect").status_code == 200
    if mode == "websocket":
        evolution.open_namespace()
        wait_until(joined(by_websocket))
        monitor.resume_handovers()
    assert agreed(api, evolution) == mode
    change = ReceiveModeChange.objects.latest("pk")
    assert (change.source, change.user) == ("repair", staff)


@pytest.mark.usefixtures("by_webhook")
def test_an_evolution_that_rejects_the_key_counts_as_reachable(api: APIClient) -> None:
    EvolutionCredentials.objects.update(api_key="wrong")
    current = state(api)
    assert (current["evolution"]["reachable"], current["inSync"]) == (True, None)
    assert current["evolution"]["error"]
    assert "Evolution does not accept the key" in shown().notices
    EvolutionCredentials.objects.update(url="http://127.0.0.1:9")
    assert state(api)["evolution"]["reachable"] is False
    assert "Evolution does not respond" in shown().notices


def test_a_drift_during_a_pending_switch_is_detected_and_repaired_when_it_ends(
    api: APIClient,
    by_webhook: WhatsAppSession,
    evolution: Evolution,
    listener: Any,
    impatient: None,
) -> None:
    assert switch(api, "websocket").status_code == 202
    assert state(api)["inSync"] is True
    evolution.set_webhook(NAME, "http://elsewhere/hook", EVENTS, headers={})
    assert state(api)["evolution"]["differs"] == ["webhook_url", "webhook_secret"]
    card = shown()
    assert "cancel the switch" in card.notices
    assert card.can_cancel
    evolution.set_websocket(NAME, [], enabled=False)
    assert state(api)["evolution"]["differs"][0] == "mode"
    assert api.post(f"/api/instance-management/cancel/{NAME}").status_code == 200
    assert shown().notices == ""
    assert agreed(api, evolution) == "webhook"


def test_drift_messages_are_portuguese_by_default(
    by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    drift_to_websocket(evolution)
    monitor.check_receive_modes()
    by_webhook.refresh_from_db()
    card = presentation.card(by_webhook, may_change=True)
    assert "webhook desligado, WebSocket ligado" in card


def test_a_changed_public_url_is_a_drift(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://new.ngrok.dev"
    assert state(api)["inSync"] is False
    assert api.post(f"/api/instance-management/repair/{NAME}").status_code == 200
    current = state(api)
    assert current["webhookConfig"]["url"] == "https://new.ngrok.dev/api/webhooks/evolution"
    assert current["inSync"] is True


def test_an_unreachable_evolution_is_recorded_and_keeps_the_agreed_mode(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    EvolutionCredentials.objects.update(url="http://127.0.0.1:9")
    monitor.check_receive_modes()
    by_webhook.refresh_from_db()
    assert by_webhook.found_error
    assert by_webhook.webhook_enabled is True
    current = state(api)
    assert (current["webhookEnabled"], current["evolution"]["reachable"]) == (True, False)
    EvolutionCredentials.objects.update(url=evolution.url)
    monitor.check_receive_modes()
    by_webhook.refresh_from_db()
    assert (by_webhook.found_error, by_webhook.in_sync) == ("", True)


def test_a_check_during_a_switch_reports_no_drift(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    assert switch(api, "webhook").status_code == 200
    by_websocket.refresh_from_db()
    # The check has loaded the session and waits for Evolution during the switch.
    evolution.fault("/webhook/find", mode="slow", seconds=0.4)
    results: list[Any] = []

    def check() -> None:
        try:
            results.append(handover.inspect_remote(by_websocket))
        finally:
            connection.close()

    checking = threading.Thread(target=check)
    checking.start()
    wait_until(lambda: evolution.ledger("faults")[0]["times"] == 0)
    assert switch(api, "websocket").status_code == 200
    checking.join()
    assert results[0].in_sync is not False
    by_websocket.refresh_from_db()
    assert by_websocket.in_sync is True
    assert agreed(api, evolution) == "websocket"
