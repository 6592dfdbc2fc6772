"""One hub for all sockets of a web process: what it reads, and for whom."""

from __future__ import annotations

import asyncio
import datetime as dt
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.layers import channel_layers
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.sessions import signed_in_users
from messaging.live import audiences, consumer, publisher
from messaging.live import frames as live_frames
from messaging.models import Message
from tests.messaging.live.support import communicator, cookies_of, mark_delivered, opened
from tests.messaging.support import accept

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User

    from channels_app.models import Channel

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("plain_static")]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of queries of each read of a change."""
    counts: list[int] = []
    real = live_frames.frames

    def count(views: Any, changed: Any) -> Any:
        with CaptureQueriesContext(connection) as queries:
            frames = real(views, changed)
        counts.append(len(queries))
        return frames

    monkeypatch.setattr(live_frames, "frames", count)
    return counts


@pytest.fixture
def lost_pushes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "publish", lambda group, **changed: None)


# -- what is read ----------------------------------------------------------------------------------


def test_many_sockets_of_a_view_cost_the_queries_of_one(
    staff: User, sent: Message, reads: list[int]
) -> None:
    async def scenario(cookies: bytes, count: int) -> None:
        async with AsyncExitStack() as stack:
            pages = [
                await stack.enter_async_context(opened(cookies, conversation=sent.conversation_id))
                for _ in range(count)
            ]
            await sync_to_async(publisher.message_changed)(sent)
            texts = {await page.communicator.receive_from(5) for page in pages}
            assert len(texts) == 1

    cookies = cookies_of(staff)
    async_to_sync(scenario)(cookies, 1)
    [of_one] = reads
    async_to_sync(scenario)(cookies, 8)
    assert reads == [of_one] * 2


def test_pages_differ_by_language_and_permissions_only(
    staff: User, sent: Message, make_user: Callable[..., User], reads: list[int]
) -> None:
    Message.objects.update(status="rejected", decision="no_fallback")
    rights = ("messaging.view_message", "messaging.view_conversation")
    bia, eva = (make_user(name, *rights) for name in ("bia", "eva"))
    users = [(staff, "en"), (staff, "pt-br"), (bia, "pt-br"), (eva, "pt-br")]

    async def scenario(cookies: list[bytes]) -> None:
        async with AsyncExitStack() as stack:
            pages = [
                await stack.enter_async_context(opened(each, conversation=sent.conversation_id))
                for each in cookies
            ]
            await sync_to_async(publisher.message_changed)(sent)
            english, portuguese, bias, evas = [(await page.next())["html"] for page in pages]
        assert ">Rejected<" in english
        assert ">Rejeitada<" in portuguese
        assert "/retry/" in portuguese
        assert "/retry/" not in bias
        assert evas == bias

    async_to_sync(scenario)([cookies_of(user, django_language=lang) for user, lang in users])
    assert len(reads) == 3


def test_pages_that_reconnect_together_are_caught_up_by_one_read(
    staff: User, sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    real = live_frames.catch_up

    def count(views: Any, *start: Any) -> Any:
        reads.append(views)
        return real(views, *start)

    monkeypatch.setattr(live_frames, "catch_up", count)
    since = (timezone.now() - dt.timedelta(hours=2)).isoformat()
    query = urlencode({"conversation": sent.conversation_id, "since": since})

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, alarms=1):  # its hub runs already
            reads.clear()
            pages = [communicator(cookies, query) for _ in range(8)]
            await asyncio.gather(*(page.connect(5) for page in pages))
            for page in pages:
                assert str(sent.pk) in await page.receive_from(5)
                assert '"ready"' in await page.receive_from(5)
            assert len(reads) < 8
            for page in pages:
                await page.disconnect()

    async_to_sync(scenario)(cookies_of(staff))


@pytest.mark.usefixtures("lost_pushes")
def test_a_lost_push_is_found_by_one_poll_for_all(
    staff: User, sent: Message, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "PING_SECONDS", 0.05)
    found: list[Any] = []
    real = live_frames.catch_up

    def record(views: Any, *start: Any) -> Any:
        frames = real(views, *start)
        found.extend(frame for frame in frames if frame["kind"] == "message")
        return frames

    async def scenario(cookies: bytes) -> None:
        watched = {"conversation": sent.conversation_id, "alarms": 1}
        async with AsyncExitStack() as stack:
            pages = [await stack.enter_async_context(opened(cookies, **watched)) for _ in range(4)]
            monkeypatch.setattr(live_frames, "catch_up", record)
            await sync_to_async(mark_delivered)(sent)
            for page in pages:
                assert (await page.until("message"))[-1]["key"] == f"message:{sent.pk}"
            for page in pages:
                frames = [await page.next() for _ in range(3)]
                assert {frame["kind"] for frame in frames} == {"ping"}
        assert len(found) == 1

    async_to_sync(scenario)(cookies_of(staff))


def test_the_poll_of_idle_conversations_does_not_depend_on_their_number(
    staff: User, channel: Channel, sent: Message, django_assert_num_queries: Any
) -> None:
    others = [accept(channel, to=f"+551198888777{number}") for number in range(5)]
    ids = [message.conversation_id for message in (sent, *others)]
    views = [
        view
        for pk in ids
        for view in live_frames.views_for_query(
            {"conversation": [str(pk)], "trail": [str(pk)]}, user=staff, language="en"
        )
    ]
    Message.objects.exclude(pk=others[0].pk).update(
        updated_at=timezone.now() - dt.timedelta(days=1)
    )
    with django_assert_num_queries(5):  # messages and calls, for each kind of view; notes
        may_have_changed = live_frames.may_have_changed(views, timezone.now())
    assert may_have_changed == [int(view.value) == others[0].conversation_id for view in views]


def test_a_hub_returns_to_its_group_after_valkey_was_emptied(
    staff: User, sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "PING_SECONDS", 0.05)

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, conversation=sent.conversation_id) as page:
            monkeypatch.setattr(live_frames, "catch_up", lambda *_: [])  # no poll finds anything
            layer = channel_layers["default"]
            group = layer._group_key(publisher.CHANNEL_GROUP)
            valkey = layer.connection(layer.consistent_hash(publisher.CHANNEL_GROUP))
            assert await valkey.delete(group) == 1
            while not await valkey.exists(group):
                await page.until("ping")
            await sync_to_async(publisher.message_changed)(sent)
            await page.until("message")

    async_to_sync(scenario)(cookies_of(staff))


def test_a_slow_socket_is_closed_and_delays_no_other(
    staff: User, sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    from config.asgi import application

    monkeypatch.setattr(audiences, "MAX_WAITING", 3)
    monkeypatch.setattr(publisher, "GATHER_SECONDS", 0)

    def change() -> None:
        sent.version += 1
        sent.save()
        publisher.message_changed(sent)

    async def scenario(cookies: bytes) -> None:
        query = f"conversation={sent.conversation_id}"
        accepted, closed, never = asyncio.Event(), asyncio.Event(), asyncio.Event()
        codes = []

        async def receive() -> Any:
            if not accepted.is_set():
                return {"type": "websocket.connect"}
            return await never.wait()

        async def send(event: Any) -> None:
            accepted.set()
            if event["type"] == "websocket.close":
                codes.append(event["code"])
                closed.set()
            if event["type"] == "websocket.send" and '"ready"' not in event["text"]:
                await never.wait()  # its buffer is full

        scope = {**communicator(cookies, query).scope}
        slow = asyncio.create_task(application(scope, receive, send))
        await asyncio.wait_for(accepted.wait(), 5)
        async with opened(cookies, conversation=sent.conversation_id) as page:
            while not closed.is_set():
                await sync_to_async(change)()
                await page.until("message")
            await asyncio.wait_for(slow, 5)
            await sync_to_async(change)()
            await page.until("message")
        assert codes == [audiences.CLOSE_RECONNECT]

    async_to_sync(scenario)(cookies_of(staff))


def test_an_error_in_one_view_closes_only_its_pages(
    staff: User, sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, changed: Any) -> Any:
        raise ZeroDivisionError

    async def scenario(cookies: bytes) -> None:
        async with (
            opened(cookies, inbox=1) as inbox,
            opened(cookies, conversation=sent.conversation_id) as page,
        ):
            monkeypatch.setattr(live_frames.InboxView, "frames", fail)
            await sync_to_async(mark_delivered)(sent)
            assert await inbox.closed() == audiences.CLOSE_RECONNECT
            await page.until("message")

    async_to_sync(scenario)(cookies_of(staff))


# -- whose session it is ---------------------------------------------------------------------------


def test_the_users_of_all_sessions_are_read_together(
    make_user: Callable[..., User], staff: User, django_assert_num_queries: Any
) -> None:
    from django.contrib.auth.models import Group, Permission

    group = Group.objects.create(name="agents")
    group.permissions.add(Permission.objects.get(codename="view_channel"))
    rui, bia, eva, ivo, leo = (
        make_user(name, "messaging.view_message") for name in ("rui", "bia", "eva", "ivo", "leo")
    )
    bia.groups.add(group)

    def sign_in(user: User) -> str:
        return cookies_of(user).decode().split("sessionid=")[1].split(";")[0]

    users = (staff, rui, bia, bia, eva, ivo, leo)
    keys = [sign_in(user) for user in users]
    eva.set_password("another")
    eva.save()
    type(ivo).objects.filter(pk=ivo.pk).update(is_active=False)
    Session.objects.filter(pk=keys[6]).update(expire_date=timezone.now())
    with django_assert_num_queries(4):
        found = signed_in_users([*keys, "unknown"])
        granted = {
            key: user.is_superuser or user.get_all_permissions() for key, user in found.items()
        }
    assert found == dict(zip(keys[:4], users[:4], strict=True))
    for key, user in found.items():
        fresh = type(user).objects.get(pk=user.pk)
        assert granted[key] == (fresh.is_superuser or fresh.get_all_permissions())
    assert "channels_app.view_channel" in granted[keys[2]]


# -- what is published -----------------------------------------------------------------------------


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> list[publisher.Changes]:
    batches: list[publisher.Changes] = []

    async def send(changes: publisher.Changes) -> None:
        batches.append(changes)

    monkeypatch.setattr(publisher, "_send", send)
    return batches


def test_a_transaction_is_one_hook_and_one_push(
    sent: Message, pushed: list[publisher.Changes]
) -> None:
    message = Message(conversation_id=sent.conversation_id)
    with transaction.atomic():
        for number in range(500):
            message.pk = number
            publisher.message_changed(message)
        assert len(connection.run_on_commit) == 1
    publisher.flush()
    [changes] = pushed
    assert changes == {
        publisher.conversation_group(sent.conversation_id): {"messages": set(map(str, range(500)))},
        publisher.INBOX: {"conversations": {sent.conversation_id}},
    }


def test_what_a_savepoint_rolled_back_is_not_published(pushed: list[publisher.Changes]) -> None:
    with transaction.atomic():
        publisher.publish("a", rows=1)
        for number, fails in ((2, True), (3, False)):
            with transaction.atomic():
                publisher.publish("a", rows=number)
                transaction.set_rollback(fails)
        publisher.publish("a", rows=4)
    publisher.flush()
    assert set().union(*(changes["a"]["rows"] for changes in pushed)) == {1, 3, 4}
    assert len(pushed) <= 2


# -- who has received what -------------------------------------------------------------------------


def test_a_member_that_joined_after_the_poll_receives_what_it_does_not_have() -> None:
    def alarms(text: str) -> live_frames.Frame:
        return {"kind": "alarms", "alarms": [text]}

    at = timezone.now()
    view = live_frames.AlertsView(user=None, language="en", value="")  # type: ignore[arg-type]
    audience = audiences.Audience(view, at, live_frames.SentFrames())
    members = []
    for caught_up in ("x", "x", "y"):
        sent = live_frames.SentFrames()
        sent.record([alarms(caught_up)])
        members.append(
            audiences.Subscriber([], rights=(), session_key="", session_group="", since=None)
        )
        audience.add(members[-1], sent)
    # The audience was last sent something else, so a poll sends `x`: to those who have it not.
    received = dict(audience.polled([alarms("x")], at))
    assert [bool(received[member]) for member in members] == [False, False, True]
    # From now on they are like all others.
    assert all(texts for _, texts in audience.polled([alarms("x")], at))

    sent = live_frames.SentFrames()
    sent.record([alarms("x")])
    audience.add(members[0], sent)
    assert all(texts for _, texts in audience.changed([alarms("y")]))
    # It had `x`, then `y`: `x` is news.
    assert all(texts for _, texts in audience.polled([alarms("x")], at))


def test_a_row_that_was_read_twice_is_sent_once() -> None:
    at = timezone.now()
    view = live_frames.AlertsView(user=None, language="en", value="")  # type: ignore[arg-type]
    audience = audiences.Audience(view, at, live_frames.SentFrames())

    def join() -> None:
        member = audiences.Subscriber([], rights=(), session_key="", session_group="", since=None)
        audience.add(member, live_frames.SentFrames())

    def sent(version: int, html: str = "") -> int:
        frame = {"kind": "message", "key": "message:1", "version": version, "html": html}
        return sum(len(texts) for _, texts in audience.changed([frame]))

    join()
    assert [sent(1), sent(1), sent(2), sent(2, "other actions")] == [1, 0, 1, 1]
    join()
    assert sent(2, "other actions") == 2  # the new member may not have it
