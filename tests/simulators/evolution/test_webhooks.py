"""Delivery to webhooks: retries, statuses without retry, blocked queues, base64, restarts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from .support import Receiver, Server, receiver, running, wait_until


def inject(server: Server, text: str, *, number: str = "5511900000101") -> None:
    """Inject a customer's text into the EVOLUTION channel, with the text as its id."""
    server.post(
        "/webhook/evolution",
        {
            "numberId": number,
            "key": {"id": text, "remoteJid": "5511988887777@s.whatsapp.net", "fromMe": False},
            "pushName": "Ana",
            "message": {"conversation": text},
            "messageType": "conversation",
        },
    )


def subscribe(server: Server, url: str, **more: Any) -> None:
    server.create("wh1", number="5511900000101")
    server.set_webhook("wh1", url, ["MESSAGES_UPSERT"], **more)


def delivery(server: Server, message_id: str) -> Any:
    """Return the webhook delivery of a message once it has ended."""

    def ended() -> Any:
        [event] = server.ledger("events", message_id=message_id, event="messages.upsert")
        [only] = event["webhooks"]
        return only if only["state"] not in ("pending", "retrying") else None

    return wait_until(ended)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_some_statuses_are_never_retried(server: Server, hook: Receiver, status: int) -> None:
    hook.status = status
    subscribe(server, hook.url)
    inject(server, "lost")
    ended = delivery(server, "lost")
    assert ended["state"] == "gone"
    assert [attempt["status"] for attempt in ended["attempts"]] == [status]


@pytest.mark.parametrize("status", [301, 405, 408, 409, 410, 429, 500, 503])
def test_all_other_failures_are_retried_with_the_same_body(
    server: Server, hook: Receiver, status: int
) -> None:
    hook.answers = [status, status]
    subscribe(server, hook.url)
    inject(server, "late")
    ended = delivery(server, "late")
    assert ended["state"] == "delivered"
    assert len(ended["attempts"]) == 3
    assert len({json.dumps(body) for body in hook.bodies()}) == 1


def test_the_retry_delays_double_and_never_fall_below_the_first(hook: Receiver) -> None:
    hook.status = 500
    with running(webhook_initial_seconds=0.1, webhook_jitter=0.2) as server:
        subscribe(server, hook.url)
        inject(server, "gone")
        ended = delivery(server, "gone")
    first, second, third = (attempt["pause"] for attempt in ended["attempts"][:-1])
    assert 0.1 <= first <= 0.12
    assert 0.16 <= second <= 0.24
    assert 0.32 <= third <= 0.48
    for attempt, later in itertools.pairwise(ended["attempts"]):
        assert later["at"] - attempt["at"] > 0.99 * attempt["pause"]


def test_an_unreachable_receiver_is_retried_until_the_last_attempt(server: Server) -> None:
    subscribe(server, "http://127.0.0.1:9/nobody")
    inject(server, "nobody")
    ended = delivery(server, "nobody")
    assert ended["state"] == "gone"
    assert [attempt["status"] for attempt in ended["attempts"]] == [None] * 4


def test_a_slow_receiver_receives_the_event_again() -> None:
    # The receiver is another simulator with a fault that never answers.
    with (
        running(webhook_timeout_seconds=0.5, webhook_max_attempts=2) as server,
        running(hang_seconds=2.0) as silent,
    ):
        silent.control("faults", path="/hook", mode="hang", times=5)
        subscribe(server, f"{silent.url}/hook")
        inject(server, "slow")
        ended = delivery(server, "slow")
        bodies = [request["body"] for request in silent.ledger("requests")]
    assert [attempt["error"] for attempt in ended["attempts"]] == ["TimeoutError"] * 2
    assert bodies[0] == bodies[1]


def test_pending_retries_use_the_old_url_when_the_webhook_is_changed_or_disabled(
    hook: Receiver,
) -> None:
    with running(webhook_initial_seconds=0.1) as server:
        hook.answers = [500, 500]
        subscribe(server, f"{hook.url}/old")
        inject(server, "retried")
        wait_until(lambda: hook.received)
        server.post("/webhook/set/wh1", {"webhook": {"enabled": False, "url": "", "events": []}})
        inject(server, "missed")
        assert delivery(server, "retried")["state"] == "delivered"
    assert [entry["path"] for entry in hook.received] == ["/old"] * 3
    assert hook.ids() == ["retried"] * 3


def test_a_later_event_overtakes_a_pending_retry(hook: Receiver) -> None:
    with running(webhook_initial_seconds=0.1) as server:
        hook.status = 503
        subscribe(server, hook.url)
        inject(server, "first")
        wait_until(lambda: hook.received)
        inject(server, "second")
        wait_until(lambda: "second" in hook.ids())
        hook.status = 200
        assert delivery(server, "first")["state"] == "delivered"
    after = hook.ids()[hook.ids().index("second") :]
    assert "first" in after


def test_a_restart_drops_the_retries(hook: Receiver) -> None:
    with running(webhook_initial_seconds=5.0) as server:
        hook.status = 503
        subscribe(server, hook.url)
        inject(server, "dropped")
        wait_until(lambda: hook.received)
        server.control("restart")
        assert delivery(server, "dropped")["state"] == "dropped"
        [event] = server.ledger("events", message_id="dropped", lost="1")
        assert event["reached"] == []


def test_a_restart_may_clear_the_webhooks_which_stay_enabled(hook: Receiver) -> None:
    """Issue 2694: url and headers are lost, and events reach no client meanwhile."""
    with running(webhook_emptied_every=2) as server:
        subscribe(server, hook.url, headers={"Authorization": "Bearer x"})

        def after_restart(**command: Any) -> tuple[Any, ...]:
            server.control("restart", **command)
            row = server.get("/webhook/find/wh1")
            return row["url"], row["headers"], row["enabled"], row["events"]

        whole = (hook.url, {"Authorization": "Bearer x"}, True, ["MESSAGES_UPSERT"])
        emptied = ("", None, True, ["MESSAGES_UPSERT"])
        assert after_restart() == whole
        assert after_restart() == emptied
        inject(server, "missed")
        lost = server.ledger("events", lost="1", event="messages.upsert")
        assert [entry["message_id"] for entry in lost] == ["missed"]
        server.set_webhook("wh1", hook.url, ["MESSAGES_UPSERT"])
        assert after_restart()[0] == hook.url
        assert after_restart(empty_webhooks=True) == emptied


def test_whatsapp_queues_messages_to_a_closed_instance(hook: Receiver) -> None:
    with running(hold_offline=True, redial_seconds=0.3) as server:
        server.open_baileys()
        server.set_webhook("b1", hook.url, ["MESSAGES_UPSERT"])
        server.control("restart", downtime_seconds=0.3)
        command = {"instance": "b1", "from": "5511988887777"}
        ids = [server.control("inbound", text=text, **command)["id"] for text in ("a", "b")]
        assert server.ledger("ledger", instance="b1") == []
        hook.wait_for(2)
        assert sorted(hook.ids()) == sorted(ids)
        ledger = server.ledger("ledger", instance="b1")
        assert [(entry["id"], entry["text"]) for entry in ledger] == [*zip(ids, "ab", strict=True)]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_file_is_posted_with_the_event(hook: Receiver, *, chunked: bool) -> None:
    with running(webhook_chunked=chunked) as server:
        server.open_baileys()
        server.set_webhook("b1", hook.url, ["MESSAGES_UPSERT"], base64=True)
        server.control("drop", instance="b1", code=428)
        wait_until(lambda: server.ledger("instances")["instances"]["b1"]["state"] == "open")
        server.control("inbound", instance="b1", kind="video", size=300_000)
        hook.wait_for(1)
        [entry] = hook.received
        assert ("content-length" in entry["headers"]) is not chunked
        assert len(base64.b64decode(entry["body"]["data"]["message"]["base64"])) == 300_000


def test_webhook_headers_override_defaults_and_jwt_key_becomes_a_signed_token(
    server: Server, hook: Receiver
) -> None:
    headers = {"User-Agent": "mine", "X-Secret": "s", "jwt_key": "signing-secret"}
    hook.answers = [500]
    subscribe(server, hook.url, headers=headers)
    inject(server, "signed")
    wait_until(lambda: len(hook.received) == 2)
    first, retry = hook.received
    assert first["headers"]["user-agent"] == "mine"
    assert "jwt_key" not in first["headers"]
    assert first["headers"]["authorization"] == retry["headers"]["authorization"]
    head, claims, signature = first["headers"]["authorization"].removeprefix("Bearer ").split(".")
    expected = hmac.digest(b"signing-secret", f"{head}.{claims}".encode(), hashlib.sha256)
    assert base64.urlsafe_b64decode(signature + "=") == expected
    decoded = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert decoded["exp"] - decoded["iat"] == 600
    assert decoded["action"] == "webhook"


@pytest.mark.parametrize(
    ("suffix", "path"),
    [
        ("/hook", "/hook/messages-upsert"),
        ("/hook/", "/hook//messages-upsert"),
        ("/hook?t=1", "/hook?t=1/messages-upsert"),
    ],
)
def test_by_events_appends_to_the_url_without_parsing_it(
    server: Server, hook: Receiver, suffix: str, path: str
) -> None:
    subscribe(server, hook.url + suffix, byEvents=True)
    inject(server, "one")
    [got] = wait_until(lambda: hook.received)
    assert got["path"] == path
    assert got["body"]["destination"] == hook.url + suffix


def test_user_and_password_of_the_url_become_basic_auth(server: Server, hook: Receiver) -> None:
    subscribe(server, hook.url.replace("http://", "http://u:p@"))
    inject(server, "one")
    [got] = wait_until(lambda: hook.received)
    assert got["headers"]["authorization"] == "Basic dTpw"


def test_an_invalid_url_is_stored_and_nothing_is_delivered(server: Server) -> None:
    subscribe(server, "not-a-url")
    inject(server, "nowhere")
    [event] = server.ledger("events", message_id="nowhere", event="messages.upsert")
    assert event["webhooks"] == []


def test_date_time_is_local_time_with_a_false_z(hook: Receiver) -> None:
    with running(timezone="America/Sao_Paulo") as server:
        subscribe(server, hook.url)
        inject(server, "when")
        [body] = wait_until(hook.bodies)
    sent_at = datetime.fromisoformat(body["date_time"])
    difference = datetime.now(UTC) - sent_at
    assert timedelta(hours=2, minutes=59) < difference < timedelta(hours=3, minutes=1)
    assert abs(body["data"]["messageTimestamp"] - time.time()) < 10


def test_the_token_is_hidden_when_it_is_not_exposed(hook: Receiver) -> None:
    with running(expose_token=False) as server:
        subscribe(server, hook.url)
        inject(server, "secret")
        [body] = wait_until(hook.bodies)
    assert body["apikey"] is None


def test_sender_is_included_only_after_the_phone_was_open(server: Server, hook: Receiver) -> None:
    webhook = {"url": hook.url, "events": ["CONNECTION_UPDATE"]}
    server.create("b1", "WHATSAPP-BAILEYS", webhook=webhook)
    server.get("/instance/connect/b1")
    server.control("scan", instance="b1", number="5511900000777")
    wait_until(lambda: len(hook.received) == 2)
    connecting, opened = sorted(hook.bodies(), key=lambda body: body["date_time"])
    assert "sender" not in connecting
    assert opened["sender"] == "5511900000777@s.whatsapp.net"


def test_the_global_webhook_also_receives_events_of_a_disabled_instance(
    hook: Receiver,
) -> None:
    settings = {
        "webhook_global_url": f"{hook.url}/global",
        "webhook_global_by_events": True,
        "webhook_global_events": ("MESSAGES_UPSERT",),
    }
    with running(**settings) as server:
        subscribe(server, f"{hook.url}/own")
        inject(server, "both")
        wait_until(lambda: len(hook.received) == 2)
        server.post("/webhook/set/wh1", {"webhook": {"enabled": False, "url": "", "events": []}})
        inject(server, "global only")
        wait_until(lambda: len(hook.received) == 3)
    paths = ["/own", "/global/messages-upsert", "/global/messages-upsert"]
    assert [entry["path"] for entry in hook.received] == paths
    assert hook.received[1]["body"]["destination"] == f"{hook.url}/own"


def test_an_edit_blocks_a_baileys_instance_while_its_webhook_fails() -> None:
    with running(webhook_initial_seconds=30.0) as server, receiver() as hook:
        server.open_baileys("b1")
        server.set_webhook("b1", hook.url, ["MESSAGES_UPSERT", "MESSAGES_EDITED"])
        server.control("inbound", instance="b1", id="S1", text="one")
        wait_until(lambda: hook.ids() == ["S1"])
        hook.status = 500
        server.control("inbound", instance="b1", kind="edit", target="S1", text="changed")
        wait_until(lambda: hook.bodies("messages.edited"))
        hook.status = 200
        for number in range(5):
            server.control("inbound", instance="b1", id=f"S{number + 2}")
        instances = server.ledger("instances")["instances"]
        assert instances["b1"]["queued"] == 5
        assert hook.ids().count("S2") == 0
        # Restoring the webhook does not help; sending still works.
        server.set_webhook("b1", hook.url, ["MESSAGES_UPSERT", "MESSAGES_EDITED"])
        sent = server.post("/message/sendText/b1", {"number": "5511988887777", "text": "x"})
        assert sent["status"] == "PENDING"
        assert server.ledger("instances")["instances"]["b1"]["queued"] >= 5


def test_an_answered_edit_does_not_block(server: Server, hook: Receiver) -> None:
    server.open_baileys("b1")
    server.set_webhook("b1", hook.url, ["MESSAGES_UPSERT", "MESSAGES_EDITED"])
    hook.status = 404
    server.control("inbound", instance="b1", kind="revoke", target="S1")
    server.control("inbound", instance="b1", id="S2")
    wait_until(lambda: "S2" in hook.ids())


def test_base64_is_included_only_after_the_next_dial(server: Server, hook: Receiver) -> None:
    server.open_baileys("b1")
    server.set_webhook("b1", hook.url, ["MESSAGES_UPSERT"], base64=True)
    picture = base64.b64encode(b"a picture").decode()
    command = {"instance": "b1", "kind": "image", "base64": picture}
    server.control("inbound", id="I1", **command)
    server.post("/instance/restart/b1")
    wait_until(lambda: server.get("/instance/connectionState/b1")["instance"]["state"] == "open")
    server.control("inbound", id="I2", **command)
    wait_until(lambda: len(hook.received) == 2)
    first, second = hook.bodies()
    assert "base64" not in first["data"]["message"]
    assert second["data"]["message"]["base64"] == picture
    assert isinstance(second["data"]["message"]["imageMessage"]["mediaKey"], dict)


def test_2_3_6_drops_a_repeated_id_and_2_3_7_does_not(hook: Receiver) -> None:
    for version, expected in (("2.3.6", 1), ("2.3.7", 2)):
        hook.received.clear()
        with running(version=version) as server:
            server.open_baileys("b1")
            server.set_webhook("b1", hook.url, ["MESSAGES_UPSERT"])
            for message_id in ("SAME", "SAME", "END"):
                server.control("inbound", instance="b1", id=message_id)
            wait_until(lambda: "END" in hook.ids())
        assert hook.ids().count("SAME") == expected
