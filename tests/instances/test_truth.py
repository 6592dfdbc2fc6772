"""What the database believes is compared with what Evolution does, and mended either way."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing
from django.db import connection

from channels_app.models import Channel
from instances import care, receive_mode
from instances.models import ReceiveModeChange, WhatsAppSession
from tests.instances.support import NAME, Evolution, agreed, state, switch, wait_until

if TYPE_CHECKING:
    from rest_framework.test import APIClient

EVENTS = list(receive_mode.EVENTS)
OFF = {"webhook": {"enabled": False, "url": "", "events": []}}


def drift_to_websocket(evolution: Evolution) -> None:
    """Somebody switches in Evolution's own manager."""
    evolution.post(f"/webhook/set/{NAME}", OFF)
    evolution.set_websocket(NAME, EVENTS)


DRIFTS: dict[str, Any] = {
    "both are on": lambda e: e.set_websocket(NAME, EVENTS),
    "none is on": lambda e: e.post(f"/webhook/set/{NAME}", OFF),
    "the other is on": drift_to_websocket,
    "another address": lambda e: e.set_webhook(NAME, "http://elsewhere/hook", EVENTS),
    "fewer events": lambda e: e.set_webhook(NAME, e.get(f"/webhook/find/{NAME}")["url"], ["CALL"]),
    "no secret": lambda e: e.set_webhook(
        NAME, e.get(f"/webhook/find/{NAME}")["url"], EVENTS, headers={}
    ),
    "an address for each event": lambda e: e.set_webhook(
        NAME, e.get(f"/webhook/find/{NAME}")["url"], EVENTS, byEvents=True
    ),
    "without media": lambda e: e.set_webhook(
        NAME, e.get(f"/webhook/find/{NAME}")["url"], EVENTS, base64=False
    ),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_a_drift_from_webhook_is_found_logged_stored_and_repaired(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution, drift: str
) -> None:
    care.check_receive_modes()
    by_webhook.refresh_from_db()
    assert (by_webhook.in_sync, by_webhook.found_error) == (True, "")
    DRIFTS[drift](evolution)
    with structlog.testing.capture_logs() as logs:
        care.check_receive_modes()
        care.check_receive_modes()
    by_webhook.refresh_from_db()
    assert by_webhook.in_sync is False
    assert (by_webhook.found_webhook, by_webhook.found_websocket) == evolution.found()
    told = [line for line in logs if line["event"] == "receive mode drifted"]
    assert [line["instance"] for line in told] == [NAME], "once, not with every check"
    assert state(api)["inSync"] is False

    answer = api.post(f"/api/instance-management/repair/{NAME}", {"keep": "database"}, "json")
    assert answer.status_code == 200, answer.data
    assert agreed(api, evolution) == "webhook"
    assert ReceiveModeChange.objects.latest("pk").source == "repair"


def test_a_drift_from_websocket_is_found_and_repaired(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.set_websocket(NAME, ["CALL"])
    assert state(api)["inSync"] is False
    evolution.set_websocket(NAME, [], enabled=False)
    care.check_receive_modes()
    by_websocket.refresh_from_db()
    assert by_websocket.in_sync is False
    assert api.post(f"/api/instance-management/repair/{NAME}").status_code == 200
    assert agreed(api, evolution) == "websocket"


@pytest.mark.usefixtures("listener")
def test_what_somebody_chose_in_evolution_may_be_kept(
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


def test_an_evolution_that_was_installed_anew_is_a_drift(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.call("DELETE", f"/instance/delete/{NAME}")
    wait_until(lambda: evolution.call("GET", f"/webhook/find/{NAME}").status_code == 404)
    told = state(api)
    assert told["evolution"]["reachable"] is False
    assert told["evolution"]["error"]
    assert told["inSync"] is None
    evolution.create(NAME, "WHATSAPP-BAILEYS")
    assert state(api)["inSync"] is False
    assert api.post(f"/api/instance-management/repair/{NAME}").status_code == 200
    assert agreed(api, evolution) == "webhook"


def test_a_new_address_of_ours_is_a_drift(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://new.ngrok.dev"
    assert state(api)["inSync"] is False
    assert api.post(f"/api/instance-management/repair/{NAME}").status_code == 200
    told = state(api)
    assert told["webhookConfig"]["url"] == "https://new.ngrok.dev/api/webhooks/evolution"
    assert told["inSync"] is True


def test_an_evolution_that_does_not_answer_is_noted_and_forgets_nothing(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    Channel.objects.update(evolution_url="http://127.0.0.1:9")
    care.check_receive_modes()
    by_webhook.refresh_from_db()
    assert by_webhook.found_error
    assert by_webhook.webhook_enabled is True
    told = state(api)
    assert (told["webhookEnabled"], told["evolution"]["reachable"]) == (True, False)
    Channel.objects.update(evolution_url=evolution.url)
    care.check_receive_modes()
    by_webhook.refresh_from_db()
    assert (by_webhook.found_error, by_webhook.in_sync) == ("", True)


def test_a_check_that_meets_a_switch_raises_no_false_alarm(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    assert switch(api, "webhook").status_code == 200
    by_websocket.refresh_from_db()
    # The check has read the session, and waits for Evolution while the switch goes through.
    evolution.fault("/webhook/find", mode="slow", seconds=0.4)
    results: list[Any] = []

    def check() -> None:
        try:
            results.append(receive_mode.find(by_websocket))
        finally:
            connection.close()

    checking = threading.Thread(target=check)
    checking.start()
    wait_until(lambda: evolution.books("faults")[0]["times"] == 0)
    assert switch(api, "websocket").status_code == 200
    checking.join()
    assert results[0].in_sync is True
    by_websocket.refresh_from_db()
    assert by_websocket.in_sync is True
    assert agreed(api, evolution) == "websocket"
