"""After any failure, one mode is on, and database, Evolution and API agree on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.utils import translation

from channels_app.incidents.reason_text import render_reason
from channels_app.models import EvolutionCredentials
from channels_app.providers.evolution.receive_mode import EvolutionInstance
from instances.listener import locks, registry
from instances.models import ReceiveModeChange, WhatsAppSession
from instances.receive_mode import backfill, handover, monitor
from messaging.models import Message
from tests.instances.crash_helpers import killer
from tests.instances.support import (
    CUSTOMER,
    NAME,
    OTHER,
    Evolution,
    agreed,
    assert_pending,
    joined,
    listening,
    read,
    shown,
    state,
    switch,
    texts,
    wait_until,
)
from tests.pages.html import parse

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test import Client
    from rest_framework.test import APIClient

OFF = {"webhook": {"enabled": False, "url": "", "events": []}}
# The requests of a switch to Evolution, in order: path prefix, method.
STEPS = {
    "websocket": [
        ("/websocket/set", "POST"),
        ("/websocket/find", "GET"),
        ("/webhook/set", "POST"),
        ("/webhook/find", "GET"),
    ],
    "webhook": [
        ("/webhook/set", "POST"),
        ("/webhook/find", "GET"),
        ("/websocket/set", "POST"),
        ("/websocket/find", "GET"),
    ],
}
FAULTS: dict[str, dict[str, Any]] = {
    "401": {"mode": "status", "status": 401},
    "404": {"mode": "status", "status": 404},
    "500": {"mode": "status", "status": 500},
    "500 after doing it": {"mode": "status", "status": 500, "after": True},
    "a reset": {"mode": "reset"},
    "no answer": {"mode": "hang"},
    "half a JSON": {"mode": "garbage"},
    "half a JSON after doing it": {"mode": "garbage", "after": True},
}


def other(mode: str) -> str:
    return "webhook" if mode == "websocket" else "websocket"


def assert_receives(evolution: Evolution, text: str) -> None:
    """Assert that a new message is stored once."""
    evolution.writes(text)

    def stored() -> int:
        read()
        return Message.objects.filter(text=text).count()

    wait_until(stored, f"{text} is stored")
    assert stored() == 1


@pytest.fixture
def shorten_timeout(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Shorten the timeout of the next request of a kind, which is never answered."""
    call = EvolutionInstance._call
    shortened: list[tuple[str, str]] = []

    def called(self: Any, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
        timeout = self._timeout
        for kind in list(shortened):
            if method == kind[0] and path.startswith(kind[1]):
                shortened.remove(kind)
                self._timeout = 0.3
        try:
            return call(self, method, path, *args, **kwargs)
        finally:
            self._timeout = timeout

    monkeypatch.setattr(EvolutionInstance, "_call", called)
    return lambda method, path: shortened.append((method, path))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_step_leaves_the_old_mode_working(
    api: APIClient,
    by_websocket: WhatsAppSession,
    evolution: Evolution,
    fault: str,
    shorten_timeout: Callable[[str, str], None],
) -> None:
    for to in ("webhook", "websocket"):
        for path, method in STEPS[to]:
            if FAULTS[fault]["mode"] == "hang":
                shorten_timeout(method, path)
            evolution.fault(path, method=method, **FAULTS[fault])
            answer = switch(api, to)
            assert answer.status_code == 502, (to, path, answer.data)
            assert answer.json()["success"] is False
            assert answer.json()["message"]
            evolution.clear_faults()
            monitor.resume_handovers()
            assert agreed(api, evolution) == other(to), (to, path)
            change = ReceiveModeChange.objects.first()
            assert change is not None
            assert change.result == "undone"
            with translation.override("en"):
                assert render_reason(change.detail) == answer.json()["message"]
            assert change.finished_at is not None
        assert_receives(evolution, f"{fault} on the way to {to}")
        assert switch(api, to).status_code == 200


@pytest.mark.parametrize("to", ["webhook", "websocket"])
def test_a_failed_undo_is_retried_until_it_succeeds(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution, to: str
) -> None:
    if to == "websocket":
        assert switch(api, "webhook").status_code == 200
    # The first step succeeds, then Evolution is down.
    path, method = STEPS[to][0]
    evolution.fault(path, mode="reset", method=method, after=True)
    evolution.fault("/w", mode="reset", times=1000)
    assert switch(api, to).status_code == 502
    for _ in range(2):
        monitor.resume_handovers()
        current = state(api)
        assert current["switching"]["phase"] == "undoing"
        assert current["evolution"]["reachable"] is False
        assert current["inSync"] is None
        assert current[f"{other(to)}Enabled"] is True
        card = shown()
        assert (card.active, card.can_switch) == ([other(to)], False)
        assert card.badges == {other(to): "Active", to: "returning to the previous receive mode"}
        assert "The switch failed." in card.notices
        assert "Evolution does not respond" in card.notices
    evolution.clear_faults()
    assert_receives(evolution, "na espera")
    monitor.resume_handovers()
    assert agreed(api, evolution) == other(to)
    assert ReceiveModeChange.objects.latest("pk").result == "undone"


def test_a_new_switch_does_not_wait_for_an_undo(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.fault("/websocket/set", mode="status", times=3)
    assert switch(api, "webhook").status_code == 502
    assert state(api)["switching"]["phase"] == "undoing"
    evolution.clear_faults()
    assert switch(api, "webhook").status_code == 200
    assert agreed(api, evolution) == "webhook"
    results = list(ReceiveModeChange.objects.values_list("result", flat=True))[:2]
    assert results == ["done", "undone"]


def test_a_switch_waits_for_a_slow_evolution(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    for to in ("webhook", "websocket"):
        for path, method in STEPS[to]:
            evolution.fault(path, mode="slow", method=method, seconds=0.15)
        assert switch(api, to).status_code == 200
        assert agreed(api, evolution) == to


def test_an_unreachable_evolution_leaves_the_old_mode(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution, listener: Any
) -> None:
    EvolutionCredentials.objects.update(url="http://127.0.0.1:9")
    for to in ("websocket", "webhook"):
        answer = switch(api, to)
        assert answer.status_code == 502
        assert answer.json()["success"] is False
        current = state(api)
        # Nothing was changed there, so there is nothing to undo.
        assert (current["webhookEnabled"], current["switching"]) == (True, None)
    EvolutionCredentials.objects.update(url=evolution.url)
    assert agreed(api, evolution) == "webhook"
    assert_receives(evolution, "de volta")


def test_a_wrong_key_or_missing_instance_leaves_no_mode_and_nothing_to_undo(
    api: APIClient, session: WhatsAppSession, evolution: Evolution
) -> None:
    EvolutionCredentials.objects.update(api_key="wrong")
    assert switch(api, "webhook").status_code == 502
    EvolutionCredentials.objects.update(api_key="evolution-api-key", instance_name="ghost")
    assert switch(api, "webhook", "ghost").status_code == 502
    current = state(api, "ghost")
    assert (current["webhookEnabled"], current["websocketEnabled"]) == (False, False)
    assert current["switching"] is None
    assert evolution.enabled_modes() == (False, False)
    card = shown("ghost")
    assert (card.active, card.badges, card.can_switch) == ([], {}, True)
    assert "No mode is active" in card.notices


@pytest.mark.usefixtures("listener")
def test_an_empty_answer_reveals_a_server_without_websocket(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("settings", websocket_enabled=False)
    answer = switch(api, "websocket")
    assert answer.status_code == 502
    assert "WEBSOCKET_ENABLED" in answer.json()["message"]
    assert agreed(api, evolution) == "webhook"
    assert_receives(evolution, "ainda")


def test_a_session_can_leave_websocket_after_the_server_disabled_it(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.control("settings", websocket_enabled=False)
    assert state(api)["inSync"] is False
    assert switch(api, "webhook").status_code == 200
    assert agreed(api, evolution) == "webhook"
    assert_receives(evolution, "por aqui")


def test_a_switch_verifies_the_settings_that_evolution_confirmed(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    # 201, but nothing is done.
    row = {"id": "x", "enabled": True, "events": [], "url": "http://elsewhere"}
    evolution.fault("/webhook/set", method="POST", mode="status", status=201, body=row)
    assert switch(api, "webhook").status_code == 502
    assert agreed(api, evolution) == "websocket"
    evolution.fault("/websocket/set", method="POST", mode="status", status=201, body=row)
    assert switch(api, "webhook").status_code == 502
    assert agreed(api, evolution) == "websocket"


# -- the namespace does not exist yet -------------------------------------------------------------


@pytest.fixture
def pending(
    api: APIClient, by_webhook: WhatsAppSession, listener: Any, impatient: None
) -> WhatsAppSession:
    """A handover to WebSocket that waits for its namespace."""
    answer = switch(api, "websocket")
    assert answer.status_code == 202, answer.data
    assert answer.json()["success"] is True
    assert answer.json()["pending"] is True
    assert "webhook stays active" in answer.json()["message"]
    return by_webhook


def test_a_missing_namespace_leaves_the_handover_pending_with_the_webhook_on(
    api: APIClient, pending: WhatsAppSession, evolution: Evolution
) -> None:
    monitor.resume_handovers()
    assert_pending(api, evolution)
    opening = "Evolution has not opened the instance's socket yet."
    wait_until(lambda: state(api)["listener"]["note"] == opening)
    assert switch(api, "websocket").status_code == 409
    assert switch(api, "webhook").status_code == 409


def test_a_pending_first_mode_does_not_mention_the_webhook(
    api: APIClient, session: WhatsAppSession, evolution: Evolution, listener: Any, impatient: None
) -> None:
    answer = switch(api, "websocket")
    assert answer.status_code == 202
    assert answer.json()["message"] == "WebSocket is waiting for its socket to open."
    card = shown()
    assert "Waiting for Evolution to open the socket" in card.notices
    assert "Messages that arrive in the meantime are fetched afterwards" in card.notices
    assert "webhook" not in card.notices
    assert "No mode is active" not in card.notices
    # This message creates the namespace and reaches no receiver.
    evolution.writes("a primeira")
    wait_until(joined(session))
    monitor.resume_handovers()
    assert agreed(api, evolution) == "websocket"
    wait_until(lambda: texts() == ["a primeira"])


def test_a_pending_handover_finishes_after_the_first_event(
    api: APIClient, pending: WhatsAppSession, evolution: Evolution
) -> None:
    # This message creates the namespace: only the webhook assert_receives it.
    evolution.writes("a primeira")
    wait_until(joined(pending), "the listener joins")
    monitor.resume_handovers()
    assert agreed(api, evolution) == "websocket"
    evolution.writes("a segunda")
    wait_until(lambda: texts() == ["a primeira", "a segunda"])
    assert ReceiveModeChange.objects.latest("pk").result == "done"


def test_our_own_message_also_counts_as_the_first_event(
    api: APIClient, pending: WhatsAppSession, evolution: Evolution
) -> None:
    body = {"number": CUSTOMER, "text": "oi"}
    assert evolution.call("POST", f"/message/sendText/{NAME}", body).status_code == 201
    wait_until(joined(pending), "the listener joins")
    monitor.resume_handovers()
    assert agreed(api, evolution) == "websocket"


def test_a_pending_handover_survives_a_restart_of_evolution(
    api: APIClient, pending: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.restart(0.2)
    wait_until(evolution.is_up)
    monitor.resume_handovers()
    assert_pending(api, evolution)
    evolution.writes("depois do reinício")
    wait_until(joined(pending), "the listener joins")
    monitor.resume_handovers()
    assert agreed(api, evolution) == "websocket"
    wait_until(lambda: texts() == ["depois do reinício"])


def test_a_restart_of_evolution_during_a_switch_leaves_one_mode(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    # It hangs at the second step and restarts before the third.
    evolution.fault("/webhook/find", method="GET", mode="hang")

    def restart() -> None:
        wait_until(lambda: evolution.ledger("faults")[0]["times"] == 0)
        evolution.restart(0.5)

    restarting = threading.Thread(target=restart)
    restarting.start()
    assert switch(api, "webhook").status_code == 502
    restarting.join()

    def is_undone() -> bool:
        monitor.resume_handovers()
        return state(api)["switching"] is None

    wait_until(evolution.is_up)
    wait_until(is_undone)
    assert agreed(api, evolution) == "websocket"
    evolution.writes("abre o socket de novo")
    wait_until(lambda: texts() == ["abre o socket de novo"])


def test_the_card_mentions_global_mode_and_enabling_it_shortens_the_wait(
    api: APIClient,
    pending: WhatsAppSession,
    evolution: Evolution,
    admin_client: Client,
    plain_static: None,
) -> None:
    page = parse(admin_client.get(f"/instances/{NAME}/").content)
    [link] = [a for a in page.all("a") if "/admin/instances/" in a.attributes["href"]]
    assert "WEBSOCKET_GLOBAL_EVENTS" in shown().notices
    evolution.control("settings", websocket_global_events=True)
    admin_client.post(link.attributes["href"], {"global_events": "on"})
    wait_until(lambda: evolution.ledger("instances")["root_clients"] == 1)
    monitor.resume_handovers()
    assert state(api)["switching"]["phase"] == "joining", "the root exists in any mode"
    evolution.writes("a de outra instância", OTHER)
    wait_until(joined(pending), "the first event arrived at the root")
    monitor.resume_handovers()
    assert agreed(api, evolution) == "websocket"
    evolution.writes("pela raiz")
    wait_until(lambda: texts() == ["pela raiz"])


def test_joining_enqueues_the_end_of_a_pending_handover(
    api: APIClient, pending: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.open_namespace()

    def is_enqueued() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT 1 FROM procrastinate_jobs WHERE task_name = 'instances.resume_handover'"
                " AND status = 'todo' AND (args->>'session_id')::int = %s",
                [pending.pk],
            )
            return cursor.fetchone() is not None

    wait_until(is_enqueued, "a job to resume")


def test_a_pending_handover_can_be_canceled(
    api: APIClient,
    pending: WhatsAppSession,
    evolution: Evolution,
    staff: User,
    make_user: Callable[..., User],
    admin_client: Client,
    plain_static: None,
) -> None:
    ReceiveModeChange.objects.update(user=make_user("began"))
    address = f"/api/instance-management/cancel/{NAME}"
    assert api.post(address).json()["success"] is True
    assert agreed(api, evolution) == "webhook"
    change = ReceiveModeChange.objects.latest("pk")
    assert (change.result, change.finished_at is not None) == ("cancelled", True)
    assert change.user is not None
    assert (change.user.username, change.cancelled_by) == ("began", staff)
    [cell, *_] = parse(admin_client.get(f"/instances/{NAME}/").content).all(
        "td", data_label="Resultado"
    )
    assert staff.username in cell.text
    assert api.post(address).status_code == 409
    assert_receives(evolution, "ainda aqui")


def test_a_cancel_that_fails_on_evolution_is_completed_later(
    api: APIClient, pending: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.fault("/w", mode="reset", times=1000)
    assert api.post(f"/api/instance-management/cancel/{NAME}").status_code == 502
    evolution.clear_faults()
    monitor.resume_handovers()
    assert agreed(api, evolution) == "webhook"
    assert ReceiveModeChange.objects.latest("pk").result == "cancelled"


@pytest.mark.usefixtures("impatient")
def test_disabling_a_pending_websocket_does_not_disable_the_webhook(
    api: APIClient, pending: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.open_namespace()
    evolution.set_websocket(NAME, [], enabled=False)
    wait_until(joined(pending), "the listener joins")
    monitor.resume_handovers()
    assert agreed(api, evolution) == "webhook"
    posts = [
        request["body"]["webhook"]["enabled"]
        for request in evolution.ledger("requests")
        if request["path"].startswith("/webhook/set")
    ]
    assert False not in posts, "the webhook was off for a moment"


# -- concurrent switches and killed processes ------------------------------------------------------


def test_only_one_of_several_concurrent_switches_succeeds(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.fault("/webhook/set", mode="slow", seconds=0.5, times=1)
    codes: list[int] = []

    def click() -> None:
        try:
            codes.append(switch(api, "webhook").status_code)
        finally:
            connection.close()

    clicks = [threading.Thread(target=click) for _ in range(4)]
    for thread in clicks:
        thread.start()
    for thread in clicks:
        thread.join()
    assert sorted(codes) == [200, 409, 409, 409]
    assert agreed(api, evolution) == "webhook"
    assert list(ReceiveModeChange.objects.values_list("result", flat=True)) == ["done", "done"]


def test_concurrent_switches_to_opposite_modes_end_in_one_mode(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.fault("/webhook/set", mode="slow", seconds=0.3, times=1)
    codes: dict[str, int] = {}

    def click(to: str) -> None:
        try:
            codes[to] = switch(api, to).status_code
        finally:
            connection.close()

    first = threading.Thread(target=click, args=["webhook"])
    first.start()
    wait_until(lambda: WhatsAppSession.objects.filter(switching_to="webhook").exists())
    click("websocket")
    first.join()
    assert codes == {"webhook": 200, "websocket": 409}
    assert agreed(api, evolution) == "webhook"


# A process can die before or after each phase write and request, and before the final write.
MOMENTS = [
    *(("before-write", n) for n in (1, 2, 3)),
    *(("after-write", n) for n in (1, 2, 3)),
    *(("before-request", n) for n in (1, 2, 3, 4)),
    *(("after-request", n) for n in (1, 2, 3, 4)),
    ("before-end", 1),
]


@pytest.fixture(scope="module")
def kill(web: str, django_db_setup: None) -> Iterator[Callable[[int, str, str, int], str]]:
    """Run a switch in a process that is killed with SIGKILL."""
    with killer(web) as function:
        yield function


def resume(session: WhatsAppSession) -> None:
    """Do what the periodic job does after the next start: resume handovers."""
    wait_until(
        lambda: locks.holders(locks.HANDOVER) == set(), "the lock of the dead process is free"
    )
    monitor.resume_handovers()
    session.refresh_from_db()
    if session.switching_phase == "joining":
        wait_until(joined(session))
        monitor.resume_handovers()


@pytest.mark.parametrize("to", ["webhook", "websocket"])
def test_a_switch_killed_between_any_two_steps_is_completed_later(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution, kill: Any, to: str
) -> None:
    session = by_websocket
    if to == "websocket":
        assert switch(api, "webhook").status_code == 200
    for moment, number in MOMENTS:
        label = f"{to}, killed {moment} {number}"
        outcome = kill(session.pk, to, moment, number)
        # A switch to webhook writes three times; the third ends it.
        assert outcome == "killed", label
        assert any(evolution.enabled_modes()), f"{label}: no mode is on"
        assert_receives(evolution, label)
        resume(session)
        mode = agreed(api, evolution)
        assert_receives(evolution, f"{label}, then went on")
        change = ReceiveModeChange.objects.latest("pk")
        assert change.finished_at is not None, label
        if mode == to:
            assert switch(api, other(to)).status_code == 200
    assert switch(api, to).status_code == 200


@pytest.mark.parametrize("to", ["webhook", "websocket"])
def test_an_undo_killed_at_any_step_is_completed_later(
    api: APIClient, by_websocket: WhatsAppSession, evolution: Evolution, kill: Any, to: str
) -> None:
    if to == "websocket":
        assert switch(api, "webhook").status_code == 200
    path, method = STEPS[to][-1]
    undo_moments = [(f"{when}-request", n) for n in (5, 6, 7, 8) for when in ("before", "after")]
    for moment, number in undo_moments:
        # The last step of the switch fails, so it is undone.
        evolution.fault(path, method=method, times=1)
        label = f"back from {to}, killed {moment} {number}"
        assert kill(by_websocket.pk, to, moment, number) == "killed", label
        assert any(evolution.enabled_modes()), f"{label}: no mode is on"
        assert_receives(evolution, label)
        resume(by_websocket)
        assert agreed(api, evolution) == other(to), label
        assert ReceiveModeChange.objects.latest("pk").result == "undone", label


def test_a_killed_first_configuration_is_completed(
    api: APIClient, session: WhatsAppSession, evolution: Evolution, kill: Any
) -> None:
    for moment, number in [("before-request", 1), ("after-request", 1), ("after-write", 2)]:
        assert kill(session.pk, "first", moment, number) == "killed"
        resume(session)
        assert agreed(api, evolution) == "webhook", (moment, number)
        evolution.post(f"/webhook/set/{NAME}", OFF)
        WhatsAppSession.objects.update(webhook_enabled=False, webhook_url=None)
    # A session with a mode keeps it.
    WhatsAppSession.objects.update(websocket_enabled=True)
    assert kill(session.pk, "first", "before-request", 1) == "done"
    assert evolution.enabled_modes() == (False, False)


def test_a_handover_is_undone_after_its_listener_and_process_died(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution, kill: Any
) -> None:
    evolution.open_namespace()
    with listening():
        # The webhook is off, but not verified.
        assert kill(by_webhook.pk, "websocket", "before-request", 4) == "killed"
    assert evolution.enabled_modes() == (False, True)
    WhatsAppSession.objects.update(listener_connected=False)
    evolution.writes("por nenhum dos dois")
    monitor.resume_handovers()
    assert agreed(api, evolution) == "webhook"
    fetch_missed(by_webhook)
    assert texts() == ["por nenhum dos dois"]
    assert_receives(evolution, "pelo webhook")


def test_the_lock_is_released_after_any_failure(
    api: APIClient, by_webhook: WhatsAppSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(handover, "_advance", fail)
        with pytest.raises(RuntimeError):
            handover.enable_webhook(by_webhook, base64=True, source="api", user=None)
    assert locks.holders(locks.HANDOVER) == set()
    monitor.resume_handovers()
    assert switch(api, "webhook").status_code == 200


@pytest.mark.usefixtures("by_websocket")
def test_a_stopped_listener_stops_counting_immediately(listener: Any) -> None:
    assert registry.is_running()
    listener.stop()
    wait_until(lambda: not registry.is_running())


def test_messages_missed_by_the_listener_are_fetched_after_a_switch_to_webhook(
    api: APIClient, by_webhook: WhatsAppSession, evolution: Evolution
) -> None:
    evolution.open_namespace()
    with listening():
        assert switch(api, "websocket").status_code == 200
    # The socket was just closed.
    evolution.writes("ninguém ouviu")
    assert switch(api, "webhook").status_code == 200
    assert texts() == []
    fetch_missed(by_webhook)
    assert texts() == ["ninguém ouviu"]


def fetch_missed(session: WhatsAppSession) -> None:
    """Run the enqueued backfill job."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'instances.backfill'"
            " AND (args->>'session_id')::int = %s AND status = 'todo'",
            [session.pk],
        )
        assert cursor.fetchone() == (1,)
    backfill.run(session.pk)
