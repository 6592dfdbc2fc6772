"""Events that arrive together are committed together, with secrets that are always current."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from cryptography.fernet import Fernet
from django.db import DataError, OperationalError, connection, transaction
from django.test.utils import CaptureQueriesContext

from channels_app.models import CloudCredentials
from messaging.inbound import authentication, group_commit, handlers, journal, keys
from messaging.inbound.authentication import CloudDelivery, Received
from messaging.inbound.group_commit import GroupCommit
from messaging.models import InboundEvent
from messaging.webhooks import CloudWebhook
from tests.conftest import APP_SECRET, WWEBJS_KEY
from tests.factories import change_channel
from tests.messaging.support import envelope, read_events, sign

if TYPE_CHECKING:
    from channels_app.models import Channel

pytestmark = pytest.mark.django_db(transaction=True)


async def post(body: bytes, secret: str = APP_SECRET) -> tuple[int, str]:
    """Post an event to the web process's application as uvicorn does; return status and code."""
    from config.asgi import application

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "path": "/api/webhooks/cloud",
        "root_path": "", "query_string": b"",
        "headers": [(b"host", b"a"), (b"x-hub-signature-256", sign(body, secret).encode())],
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await application(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"], json.loads(sent[1]["body"])["code"]


def event(name: str, *channels: Channel) -> bytes:
    """Return the body of an event that names these channels' numbers."""
    payload = envelope({"name": name}, channels[0] if channels else None, field="named")
    for channel in channels[1:]:
        payload["entry"] += envelope({"name": name}, channel, field="named")["entry"]
    return json.dumps(payload).encode()


def stored() -> list[tuple[str, str]]:
    """Return the state and the names in each row, in order."""
    return [
        (row.state, "+".join(
            change["value"]["name"]
            for entry in row.payload.get("entry", []) for change in entry["changes"]
        ))
        for row in InboundEvent.objects.order_by("id")
    ]  # fmt: skip


@dataclass
class Inserts:
    """The statements that store events: the first one waits until the others have arrived."""

    sizes: list[int]
    began: threading.Event
    may_go_on: threading.Event
    fail: Callable[[Sequence[Any]], None]

    async def post_during_a_commit(self, *posts: Any, leaving: int = 0) -> list[Any]:
        """Post an event, and these while it is being committed; return all the answers.

        The client of the post with the number `leaving` disconnects meanwhile.
        """
        tasks = [asyncio.create_task(post(event("first")))]
        await asyncio.to_thread(self.began.wait, 10)
        tasks += [asyncio.create_task(one) for one in posts]
        queue = CloudWebhook._events._queues[asyncio.get_running_loop()]
        while len(queue._waiting) < len(posts):  # noqa: ASYNC110 (the queue has no event)
            await asyncio.sleep(0.001)
        if leaving:
            tasks[leaving].cancel()
        self.may_go_on.set()
        return await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def inserts(monkeypatch: pytest.MonkeyPatch) -> Inserts:
    inserts = Inserts([], threading.Event(), threading.Event(), lambda rows: None)
    insert = journal._insert

    def recorded(rows: Sequence[Any]) -> None:
        inserts.sizes.append(len(rows))
        inserts.began.set()
        assert inserts.may_go_on.wait(10)
        inserts.fail(rows)
        insert(rows)

    monkeypatch.setattr(journal, "_insert", recorded)
    return inserts


def test_events_with_good_and_bad_signatures_share_a_commit(
    channel: Channel, inserts: Inserts
) -> None:
    answers = asyncio.run(inserts.post_during_a_commit(
        post(event("a")), post(event("b"), "wrong"), post(event("c")), post(event("a"))
    ))  # fmt: skip
    ok, bad = (200, "stored"), (401, "bad_signature")
    assert answers == [ok, ok, bad, ok, ok]
    assert inserts.sizes == [1, 3]
    assert stored() == [("pending", "first"), ("pending", "a"), ("pending", "c")]


def test_an_event_that_the_database_rejects_leaves_the_others_of_its_group(
    channel: Channel, inserts: Inserts, settings: Any, tmp_path: Any
) -> None:
    settings.MEDIA_ROOT = tmp_path

    def fail(rows: Sequence[Any]) -> None:
        if any("poison" in str(row["payload"]) for row in rows):
            raise DataError("unsupported")

    inserts.fail = fail
    posts = [post(event(name)) for name in ("a", "poison", "b")]
    assert asyncio.run(inserts.post_during_a_commit(*posts)) == [(200, "stored")] * 4
    assert stored() == [
        ("pending", "first"), ("pending", "a"), ("set_aside", ""), ("pending", "b")
    ]  # fmt: skip


def test_an_outage_fails_its_group_and_the_next_one_is_stored(
    channel: Channel, inserts: Inserts
) -> None:
    def fail(rows: Sequence[Any]) -> None:
        if len(inserts.sizes) == 2:
            raise OperationalError("away")

    async def scenario() -> list[Any]:
        answers = await inserts.post_during_a_commit(post(event("a")), post(event("b")))
        return [*answers, await post(event("c"))]

    inserts.fail = fail
    ok, away = (200, "stored"), (503, "unavailable")
    assert asyncio.run(scenario()) == [ok, away, away, ok]
    assert inserts.sizes == [1, 2, 1]
    assert [name for _, name in stored()] == ["first", "c"]


def test_the_event_of_a_client_that_disconnects_is_stored(
    channel: Channel, inserts: Inserts
) -> None:
    posts = [post(event("a")), post(event("b"))]
    first, left, last = asyncio.run(inserts.post_during_a_commit(*posts, leaving=1))
    assert (first, last) == ((200, "stored"), (200, "stored"))
    assert isinstance(left, asyncio.CancelledError)
    assert [name for _, name in stored()] == ["first", "a", "b"]


def test_groups_have_a_limited_number_and_size_and_keep_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_commit, "MAX_EVENTS", 3)
    monkeypatch.setattr(group_commit, "MAX_BYTES", 100)
    groups: list[list[int]] = []
    thread: list[bool] = [False]

    def store(group: Sequence[CloudDelivery]) -> list[str]:
        groups.append([len(one.body) for one in group])
        if any(len(one.body) == 7 for one in group):
            raise ValueError("only this one")
        return [one.signature for one in group]

    def in_thread(function: Any) -> Any:
        if not thread[0]:
            thread[0] = True
            raise RuntimeError("can't start new thread")
        return real(function)

    async def scenario() -> list[Any]:
        commit: GroupCommit[CloudDelivery, str] = GroupCommit(store)
        sizes = [1, 2, 3, 60, 50, 200, 4, 7]
        every = [commit.receive(CloudDelivery(b"x" * size, str(size))) for size in sizes]
        return await asyncio.gather(*every, return_exceptions=True)

    real = group_commit.in_thread
    assert [str(one) for one in asyncio.run(scenario())] == [
        "1", "2", "3", "60", "50", "200", "4", "only this one"
    ]  # fmt: skip
    assert groups == [[1, 2, 3], [60], [50], [200], [4, 7], [4], [7]]


def change_elsewhere(sql: str, *values: Any) -> None:
    """Change the database in another process's connection."""
    with psycopg.connect(**connection.get_connection_params() | {"context": None}) as other:
        other.execute(sql, values)


def test_a_changed_secret_and_a_deleted_channel_are_noticed_at_once(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    other = make_channel(app_secret="of another app")
    body = event("a")

    def status(secret: str) -> int:
        return asyncio.run(post(body, secret))[0]

    def encrypted(secret: str) -> str:
        field = CloudCredentials._meta.get_field("app_secret")
        return str(field.get_prep_value(secret))

    assert [status(APP_SECRET), status("of another app"), status("new")] == [200, 200, 401]
    table = "channels_app_cloudcredentials"
    change_elsewhere(
        f"UPDATE {table} SET app_secret = %s WHERE channel_id = %s", encrypted("new"), channel.pk
    )
    assert [status(APP_SECRET), status("new")] == [401, 200]
    change_elsewhere(f"DELETE FROM {table} WHERE channel_id = %s", other.pk)
    assert [status("of another app"), status("new")] == [401, 200]
    channel.delete()
    assert status("new") == 401


def test_the_attached_session_and_the_verification_token_are_current_too(wired: Channel) -> None:
    def received() -> Received:
        return authentication.receive_wwebjs(wired.pk, b'{"sessionId":"x"}', WWEBJS_KEY)

    assert received() == Received.OTHER_SESSION
    assert authentication.is_verify_token("let-me-in")
    change_elsewhere("UPDATE channels_app_channel SET active = false")
    assert not authentication.is_verify_token("let-me-in")
    change_elsewhere("UPDATE channels_app_wwebjscredentials SET session_id = 'x'")
    assert received() == Received.STORED
    change_elsewhere("DELETE FROM channels_app_fallbackroute")
    assert received() == Received.BAD_KEY


def test_a_secret_that_cannot_be_decrypted_is_an_internal_error(
    channel: Channel, settings: Any
) -> None:
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    assert asyncio.run(post(event("a"))) == (500, "server_error")
    assert not stored()


def test_a_change_that_is_rolled_back_leaves_no_trace(channel: Channel) -> None:
    before = keys.current()
    with transaction.atomic():
        CloudCredentials.objects.update(app_secret="other")
        assert [app.secret for app in keys.current().apps] == [b"other"]
        transaction.set_rollback(True)
    assert keys.current() is not before
    assert [app.secret for app in keys.current().apps] == [APP_SECRET.encode()]


def test_forged_events_cost_one_query_for_a_whole_group(channel: Channel) -> None:
    assert keys.current().apps
    forged = [CloudDelivery(event(str(n)), "sha256=00") for n in range(50)]
    with CaptureQueriesContext(connection) as queries:
        assert set(authentication.receive_cloud_group(forged)) == {Received.BAD_SIGNATURE}
    assert len(queries) == 1


def test_an_event_is_stored_under_each_number_that_it_names(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    second, foreign = make_channel(), make_channel(app_secret="of another app")
    both = event("both", channel, second, channel, foreign)
    for body in (event("a", second), both, both, event("b", second), event("c")):
        assert asyncio.run(post(body)) == (200, "stored")
    rows = InboundEvent.objects.order_by("id").values_list("source_key", flat=True)
    # The app's oldest channel has what belongs to none of the app's numbers.
    first_key, second_key = str(channel.pk), str(second.pk)
    assert list(rows) == [second_key, first_key, second_key, second_key, first_key]
    assert [names for _, names in stored()] == ["a", "both+both+both", "both", "b", "c"]
    read_events()
    skipped = InboundEvent.objects.order_by("id").values_list("skipped", flat=True)
    assert ["unknown_channel" in kinds for kinds in skipped] == [False, True, False, False, False]
    assert all("field:named" in kinds for kinds in skipped)


def test_a_row_of_an_earlier_version_is_read_for_every_number_of_its_app(
    channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    second = make_channel()
    payload = json.loads(event("old", second, channel))
    journal.store(source="cloud", source_key=str(channel.pk), dedupe_key="old", payload=payload)
    read_events()
    row = InboundEvent.objects.get()
    assert (row.state, row.skipped) == ("done", "field:named")
    assert handlers.channels_of("cloud", str(second.pk))[channel.phone_number_id] == channel
    assert change_channel(second, app_secret="of another app")
    assert channel.phone_number_id not in handlers.channels_of("cloud", str(second.pk))
