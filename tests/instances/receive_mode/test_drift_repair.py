"""A drift is an incident and is repaired automatically if a setting says which side is right."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from django.core import mail
from django.utils import translation

from channels_app.incidents import incidents
from channels_app.models import Incident
from instances.models import ReceiveModeChange, WhatsAppSession
from instances.receive_mode import backfill, drift_rules, monitor, presentation
from instances.receive_mode.drift_rules import CONTESTED_FOR, Change, Decision
from tests.instances.receive_mode.test_backfill import close_gap, fetch
from tests.instances.receive_mode.test_drift import EVENTS, OFF, drift_to_websocket
from tests.instances.support import (
    NAME,
    Evolution,
    agreed,
    joined,
    state,
    texts,
    wait_until,
)

if TYPE_CHECKING:
    from rest_framework.test import APIClient

NOW = dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)


def incident() -> Incident:
    return Incident.objects.get(kind=Incident.Kind.RECEIVE_MODE, closed_at=None)


def test_an_emptied_webhook_is_restored_and_missed_messages_are_fetched(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    close_gap(by_webhook)
    evolution.control("restart", empty_webhooks=True, redial=False)
    evolution.writes("enquanto estava vazio")
    assert evolution.undelivered()
    monitor.check_receive_modes()
    assert agreed(api, evolution) == "webhook"
    change = ReceiveModeChange.objects.latest("pk")
    assert (change.source, change.user, change.result) == ("repair", None, "done")
    assert change.detail == "drift_emptied"
    with translation.override("en"):
        shown = presentation.history(by_webhook)["html"]
    assert "automatic" in shown
    assert "webhook configuration is empty" in shown
    by_webhook.refresh_from_db()
    assert by_webhook.gap_reason == "drift"
    fetch(by_webhook)
    assert texts() == ["enquanto estava vazio"]
    evolution.writes("pelo webhook")
    wait_until(lambda: texts() == ["enquanto estava vazio", "pelo webhook"])
    # It was over before an alert was due.
    assert incident().recovered_at is not None
    assert not incidents.current().exists()
    # However often Evolution empties it, the repair is not contested.
    for _ in range(4):
        evolution.control("restart", empty_webhooks=True, redial=False)
        monitor.check_receive_modes()
        assert agreed(api, evolution) == "webhook"


def test_a_drift_from_websocket_is_repaired_automatically(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    wait_until(joined(by_websocket))
    evolution.set_websocket(NAME, [], enabled=False)
    evolution.writes("não foi emitida")
    monitor.check_receive_modes()
    assert agreed(api, evolution) == "websocket"
    fetch(by_websocket)
    wait_until(lambda: texts() == ["não foi emitida"])
    assert ReceiveModeChange.objects.latest("pk").detail == "drift_mode"


def test_repeated_external_changes_stop_the_repair_and_alert_staff(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution, settings: Any
) -> None:
    settings.ALERT_EMAILS = ["staff@example.com"]
    settings.ALERT_AFTER_SECONDS = 0
    for _ in range(drift_rules.MAX_REPAIRS):
        evolution.set_webhook(NAME, "http://another/system", EVENTS)
        monitor.check_receive_modes()
        assert agreed(api, evolution) == "webhook"
    evolution.set_webhook(NAME, "http://another/system", EVENTS)
    monitor.check_receive_modes()
    monitor.check_receive_modes()
    assert state(api)["inSync"] is False
    assert evolution.get(f"/webhook/find/{NAME}")["url"] == "http://another/system"
    assert incident().reason == "drift_contested"
    with translation.override("en"):
        assert "Another system keeps changing" in incidents.headline(incident())
    incidents.process_due()
    incidents.send_alert(incident().pk, what="down", by="email")
    assert by_webhook.channel.name in mail.outbox[0].subject
    # A user repairs it, and a new count starts.
    assert api.post(f"/api/instance-management/repair/{NAME}").status_code == 200
    assert not incidents.current().exists()
    evolution.set_webhook(NAME, "http://another/system", EVENTS)
    monitor.check_receive_modes()
    assert agreed(api, evolution) == "webhook"


def test_the_setting_decides_which_side_is_right(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution, settings: Any
) -> None:
    settings.EVOLUTION_DRIFT_REPAIR = "ask"
    evolution.post(f"/webhook/set/{NAME}", OFF)
    evolution.writes("desligado")
    monitor.check_receive_modes()
    assert state(api)["inSync"] is False
    assert (incident().reason, incident().recovered_at) == ("drift_mode", None)
    monitor.check_receive_modes()
    assert incident().drops == 1, "one drift is one incident"
    # Delayed, but nothing is lost.
    by_webhook.refresh_from_db()
    assert by_webhook.gap_since is not None
    fetch(by_webhook)
    assert texts() == ["desligado"]

    settings.EVOLUTION_DRIFT_REPAIR = "evolution"
    monitor.check_receive_modes()
    assert state(api)["inSync"] is False, "it has no mode to keep"
    settings.EVOLUTION_DRIFT_REPAIR = "database"
    monitor.check_receive_modes()
    assert agreed(api, evolution) == "webhook"


def test_the_mode_of_evolution_is_kept_if_the_setting_says_so(
    api: APIClient,
    by_webhook: WhatsAppSession,
    evolution: Evolution,
    settings: Any,
    listener: Any,
) -> None:
    settings.EVOLUTION_DRIFT_REPAIR = "evolution"
    evolution.open_namespace()
    drift_to_websocket(evolution)
    monitor.check_receive_modes()
    wait_until(joined(by_webhook))
    monitor.resume_handovers()
    assert agreed(api, evolution) == "websocket"
    assert backfill.recovered_lately(by_webhook) == 0


def changes(*kinds: str, each: dt.timedelta = dt.timedelta(minutes=5)) -> list[Change]:
    """Return changes, newest first, `each` apart; the newest is `each` old."""
    return [
        Change(
            at=NOW - each * n,
            automatic=kind != "person",
            done=kind != "failed",
            emptied=kind == "emptied",
        )
        for n, kind in enumerate(kinds, 1)
    ]


@pytest.mark.parametrize(
    ("before", "decision"),
    [
        ((), Decision.REPAIR),
        (("done",) * 2, Decision.REPAIR),
        (("done",) * 3, Decision.LEAVE),
        (("done", "emptied", "done", "emptied", "done"), Decision.LEAVE),
        (("emptied",) * 9, Decision.REPAIR),
        (("done", "person", "done", "done"), Decision.REPAIR),
        (("failed", "done"), Decision.REPAIR),
        (("failed",) * 9, Decision.WAIT),
    ],
)
def test_the_rules_of_a_repair(before: tuple[str, ...], decision: Decision) -> None:
    assert drift_rules.decide(changes(*before), emptied=False, now=NOW) is decision


def test_infrequent_repairs_and_emptied_webhooks_are_not_contested() -> None:
    infrequent = changes(*["done"] * 5, each=dt.timedelta(minutes=40))
    assert drift_rules.decide(infrequent, emptied=False, now=NOW) is Decision.REPAIR
    assert drift_rules.decide(changes(*["done"] * 5), emptied=True, now=NOW) is Decision.REPAIR
    long_over = [replace(change, at=change.at - CONTESTED_FOR) for change in changes(*["done"] * 3)]
    assert drift_rules.decide(long_over, emptied=False, now=NOW) is Decision.REPAIR
    just_failed = changes("failed", each=dt.timedelta(seconds=30))
    assert drift_rules.decide(just_failed, emptied=True, now=NOW) is Decision.WAIT
