"""The live socket, with a real Valkey: permissions, frames and their timing."""

from __future__ import annotations

import asyncio
import datetime as dt
import html
import re
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from channels.layers import channel_layers
from django.contrib.sessions.models import Session
from django.db import OperationalError, transaction
from django.test import Client
from django.utils import timezone

from channels_app.incidents import incidents
from channels_app.models import Connection
from messaging.delivery import accept as sending
from messaging.live import audiences, consumer, publisher
from messaging.live import frames as live_frames
from messaging.models import Message
from tests.factories import change_channel
from tests.messaging.live.support import (
    HOST,
    Page,
    communicator,
    cookies_of,
    is_rejected,
    mark_delivered,
    opened,
)
from tests.messaging.support import accept, customer, deliver

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User

    from channels_app.models import Channel
    from tests.conftest import Provider

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("plain_static")]

# -- closing a page --------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", range(40))
def test_a_canceled_reader_ends_at_every_point(steps: int) -> None:
    async def scenario() -> bool:
        layer = channel_layers["default"]
        reader = asyncio.create_task(layer.receive(await layer.new_channel()))
        for _ in range(steps):
            await asyncio.sleep(0)
        reader.cancel()
        ended, _ = await asyncio.wait({reader}, timeout=5)
        if not ended:  # it would keep this test's loop running
            reader.cancel()
        return bool(ended)

    assert asyncio.run(scenario())


# -- permissions -----------------------------------------------------------------------------------


def test_only_staff_with_the_permission_may_watch(
    sent: Message, channel: Channel, make_user: Callable[..., User]
) -> None:
    conversation = f"conversation={sent.conversation_id}"
    nobody, stranger = cookies_of(None), cookies_of(make_user("x", is_staff=False))
    of_messages = cookies_of(make_user("m", "messaging.view_message"))
    of_both = make_user("b", "messaging.view_message", "messaging.view_conversation")
    of_channels = cookies_of(make_user("c", "channels_app.view_channel"))
    of_nothing = cookies_of(make_user("n"))
    both = cookies_of(of_both)
    trail = f"trail={sent.conversation_id}"
    # A row of the list shows text of a message, so it requires the permissions of its page.
    for query in ("inbox", conversation, f"alarms&{conversation}"):
        assert not is_rejected(both, query)
        for cookies in (nobody, stranger, of_nothing, of_messages, of_channels):
            assert is_rejected(cookies, query)
    for query in ("figures", trail):
        assert not is_rejected(of_messages, query)
        for cookies in (nobody, stranger, of_nothing, of_channels):
            assert is_rejected(cookies, query)
    for query in ("channels", f"channel={channel.pk}"):
        assert not is_rejected(of_channels, query)
        for cookies in (nobody, stranger, of_nothing, of_messages, both):
            assert is_rejected(cookies, query)
    for cookies in (of_channels, of_messages):
        assert not is_rejected(cookies, "alarms")
    for cookies in (nobody, stranger, of_nothing):
        assert is_rejected(cookies, "alarms")


@pytest.mark.parametrize(
    ("permissions", "path", "watched"),
    [
        ("view_message", "/", ["alarms=1", "figures=1"]),
        ("view_message view_conversation", "/", ["alarms=1", "figures=1&inbox=1"]),
        ("view_message view_conversation", "/conversations/", ["alarms=1", "inbox=1"]),
        ("view_message", "/messages/held/", ["alarms=1", "figures=1"]),
        ("view_message", "/messages/{message}/", ["alarms=1", "trail={conversation}"]),
        ("view_message", "/help/errors/", ["alarms=1"]),
        ("", "/help/fallback/", []),
    ],
)
def test_a_page_requests_only_what_its_user_may_watch(
    sent: Message,
    make_user: Callable[..., User],
    permissions: str,
    path: str,
    watched: list[str],
) -> None:
    user = make_user("x", *(f"messaging.{name}" for name in permissions.split()))
    client = Client()
    client.force_login(user)
    names = {"message": sent.pk, "conversation": sent.conversation_id}
    answer = client.get(path.format(**names))
    assert answer.status_code == 200
    found = re.findall(r'data-watch="([^"]*)"', answer.content.decode())
    queries = [html.unescape(query) for query in found]
    assert queries == [query.format(**names) for query in watched]
    if queries:
        assert not is_rejected(cookies_of(user), "&".join(queries))


def sign_out(cookies: bytes) -> None:
    client = Client()
    client.cookies.load(cookies.decode())
    assert client.post("/accounts/logout/").status_code == 302


def test_signing_out_closes_the_browsers_sockets_at_once(staff: User, sent: Message) -> None:
    async def scenario(mine: bytes, elsewhere: bytes) -> None:
        async with (
            opened(mine, conversation=sent.conversation_id) as page,
            opened(elsewhere, conversation=sent.conversation_id) as other,
        ):
            await sync_to_async(sign_out)(mine)
            assert await page.closed() == audiences.CLOSE_NOT_ALLOWED
            # The same user's other browser stays connected.
            await sync_to_async(mark_delivered)(sent)
            assert (await other.next())["key"] == f"message:{sent.pk}"

    async_to_sync(scenario)(cookies_of(staff), cookies_of(staff))


def test_the_session_is_deleted_before_its_pages_are_notified(
    staff: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notified page reloads: the reload must not be signed in."""
    cookies = cookies_of(staff)
    left: list[int] = []
    monkeypatch.setattr(publisher, "signed_out", lambda key: left.append(Session.objects.count()))
    sign_out(cookies)
    assert left == [0]


def deactivate(user: User) -> None:
    type(user).objects.filter(pk=user.pk).update(is_active=False)


def take_permission(user: User) -> None:
    user.user_permissions.clear()


def no_longer_staff(user: User) -> None:
    type(user).objects.filter(pk=user.pk).update(is_staff=False)


def end_sessions(user: User) -> None:
    Session.objects.all().delete()


def change_password(user: User) -> None:
    user.set_password("another")
    user.save()


@pytest.mark.parametrize(
    "loss", [deactivate, take_permission, no_longer_staff, end_sessions, change_password]
)
def test_a_socket_is_closed_when_its_user_loses_the_permission(
    sent: Message,
    make_user: Callable[..., User],
    loss: Callable[[User], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(consumer, "PING_SECONDS", 0.02)
    user = make_user("bia", "messaging.view_message", "messaging.view_conversation")

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, conversation=sent.conversation_id) as page:
            await page.until("ping")
            await sync_to_async(loss)(user)
            assert await page.closed() == audiences.CLOSE_NOT_ALLOWED

    async_to_sync(scenario)(cookies_of(user))


def test_the_actions_in_frames_follow_permission_changes(
    sent: Message, make_user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "PING_SECONDS", 0.02)
    Message.objects.update(status="rejected", decision="no_fallback")
    rights = ("view_message", "view_conversation", "change_message")
    user = make_user("bia", *(f"messaging.{name}" for name in rights))

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, conversation=sent.conversation_id) as page:
            await sync_to_async(publisher.message_changed)(sent)
            assert "/retry/" in (await page.until("message"))[-1]["html"]
            lost = user.user_permissions.filter(codename="change_message")
            await sync_to_async(lambda: user.user_permissions.remove(lost.get()))()
            await page.until("ping")
            await page.until("ping")
            await sync_to_async(publisher.message_changed)(sent)
            assert "/retry/" not in (await page.until("message"))[-1]["html"]

    async_to_sync(scenario)(cookies_of(user))


def test_another_origin_may_not_watch(staff: User) -> None:
    assert is_rejected(cookies_of(staff), "inbox", origin="evil.example")


@pytest.mark.parametrize(
    "query",
    [
        "",
        "nothing=1",
        "inbox&conversation=0",
        "trail=x",
        "conversation=0",
        "conversation=x",
        "conversation=99999999999999999999",
        "conversation=",
        "channel=0",
        "channel=x",
        "inbox&since=2026-13-45T00:00:00Z",
        "inbox&since=0001-01-01T00:00:00Z",
        "inbox&since=0001-01-01T00:00:00",
        "%ff=%ff&channel=%ff",
    ],
)
def test_an_invalid_query_is_rejected(staff: User, query: str) -> None:
    assert is_rejected(cookies_of(staff), query)


# -- catching up -----------------------------------------------------------------------------------


def test_a_page_first_receives_the_changes_it_missed(staff: User, sent: Message) -> None:
    since = timezone.now()
    mark_delivered(sent)
    later = accept(sent.conversation.channel, to="+5511988887777", text="depois")

    async def scenario(cookies: bytes) -> None:
        page = Page(communicator(cookies, query))
        await page.communicator.connect(5)
        frames = await page.until("ready")
        assert [frame["key"] for frame in frames[:-1]] == [
            f"message:{sent.pk}",
            f"message:{later.pk}",
        ]
        await sent.arefresh_from_db()
        first = frames[0]
        assert (first["kind"], first["version"]) == ("message", sent.version)
        assert first["sort"] == sent.created_at.isoformat()
        assert 'data-icon="delivered"' in first["html"]
        assert f'data-message="{sent.pk}"' in first["html"]
        assert dt.datetime.fromisoformat(frames[-1]["at"]) <= timezone.now()
        await page.communicator.disconnect()

    query = urlencode({"conversation": sent.conversation_id, "since": since.isoformat()})
    async_to_sync(scenario)(cookies_of(staff))


def test_unchanged_messages_are_not_sent_again(staff: User, sent: Message) -> None:
    views = live_frames.views_for_query(
        {"conversation": [str(sent.conversation_id)]}, user=staff, language="en"
    )
    assert live_frames.catch_up(views, timezone.now()) == []
    [frame] = live_frames.catch_up(views, timezone.now() - dt.timedelta(hours=2))
    assert frame["key"] == f"message:{sent.pk}"


def test_a_change_committed_late_is_not_missed(staff: User, sent: Message) -> None:
    """The change was made before the page, in a transaction that committed after it."""
    Message.objects.update(updated_at=timezone.now() - dt.timedelta(seconds=20))
    views = live_frames.views_for_query(
        {"conversation": [str(sent.conversation_id)]}, user=staff, language="en"
    )
    assert len(live_frames.catch_up(views, timezone.now())) == 1


def test_a_page_that_missed_too_many_changes_is_reloaded(
    staff: User, sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_frames, "MAX_CHANGES", 2)
    for number in range(3):
        accept(sent.conversation.channel, to="+5511988887777", text=str(number))
    views = live_frames.views_for_query(
        {"conversation": [str(sent.conversation_id)]}, user=staff, language="en"
    )
    assert live_frames.catch_up(views, timezone.now()) == [{"kind": "reload"}]


def test_a_page_without_a_time_receives_the_newest_messages(
    staff: User, channel: Channel, sent: Message
) -> None:
    messages = [accept(channel, to="+5511988887777", text=str(number)) for number in range(45)]
    Message.objects.update(updated_at=timezone.now() - dt.timedelta(days=1))
    publisher.flush()

    async def scenario(cookies: bytes) -> None:
        page = Page(communicator(cookies, f"conversation={sent.conversation_id}"))
        await page.communicator.connect(5)
        *frames, ready = await page.until("ready")
        # As many as the page shows.
        assert [frame["key"] for frame in frames] == [
            f"message:{message.pk}" for message in messages[-40:]
        ]
        assert {frame["kind"] for frame in frames} == {"message"}
        assert ready["at"]
        await page.communicator.disconnect()

    async_to_sync(scenario)(cookies_of(staff))


def test_a_change_whose_push_was_lost_is_sent_with_the_next_ping(
    staff: User, sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "PING_SECONDS", 0.02)

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, conversation=sent.conversation_id) as page:
            with monkeypatch.context() as patch:
                patch.setattr(publisher, "publish", lambda group, **changed: None)
                await sync_to_async(mark_delivered)(sent)
            await sent.arefresh_from_db()
            assert (await page.until("message"))[-1]["version"] == sent.version
            [ping] = await page.until("ping")
            assert dt.datetime.fromisoformat(ping["at"]) >= sent.updated_at
            # It was sent: the next polls repeat nothing.
            assert [(await page.next())["kind"] for _ in range(4)] == ["ping"] * 4

    async_to_sync(scenario)(cookies_of(staff))


@pytest.mark.parametrize("parameter", ["conversation", "inbox", "channels", "alarms"])
def test_sent_frames_are_not_repeated_and_missed_ones_are_sent(
    staff: User, sent: Message, channel: Channel, parameter: str
) -> None:
    views = live_frames.views_for_query(
        {parameter: [str(sent.conversation_id)]}, user=staff, language="en"
    )
    sent_frames, started_at = live_frames.SentFrames(), timezone.now()
    live_frames.catch_up(views, started_at, sent_frames)
    assert live_frames.catch_up(views, started_at, sent_frames) == []

    def change() -> None:
        mark_delivered(sent)
        type(channel).objects.update(name="Outro nome")
        incidents.open_or_update(
            Connection.objects.stored(channel, "wwebjs"),
            reason="unlinked_on_phone",
            detail="",
            at=timezone.now(),
        )

    change()
    [found] = live_frames.catch_up(views, started_at, sent_frames)
    assert found["kind"] == {"conversation": "message", "inbox": "conversation"}.get(
        parameter, found["kind"]
    )
    assert live_frames.catch_up(views, started_at, sent_frames) == []
    sent_frames = live_frames.SentFrames()
    rows = {
        "messages": [sent.pk],
        "conversations": [sent.conversation_id],
        "channels": [channel.pk],
        "alarms": [channel.pk],
    }
    sent_frames.record(live_frames.frames(views, rows))
    assert live_frames.catch_up(views, started_at, sent_frames) == []


def test_figures_are_refreshed_once_for_a_lost_push(
    staff: User, sent: Message, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    views = live_frames.views_for_query({"figures": ["1"]}, user=staff, language="en")
    sent_frames = live_frames.SentFrames()

    def poll() -> list[Any]:
        return live_frames.catch_up(views, timezone.now(), sent_frames)

    Message.objects.update(updated_at=timezone.now() - dt.timedelta(days=1))
    assert poll() == []
    mark_delivered(sent)
    assert poll() == [{"kind": "refresh"}]
    assert poll() == []
    Connection.objects.update(health="failing")
    assert poll() == [{"kind": "refresh"}]
    assert poll() == []


def test_a_burst_that_was_sent_does_not_reload_the_page(
    staff: User, sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_frames, "MAX_CHANGES", 2)
    views = live_frames.views_for_query(
        {"conversation": [str(sent.conversation_id)]}, user=staff, language="en"
    )
    sent_frames = live_frames.SentFrames()
    for number in range(3):
        message = accept(sent.conversation.channel, to="+5511988887777", text=str(number))
        sent_frames.record(live_frames.frames(views, {"messages": [message.pk]}))
    assert live_frames.catch_up(views, timezone.now(), sent_frames) == []


def test_a_poll_without_changes_costs_one_query_per_table(
    staff: User, sent: Message, django_assert_num_queries: Any
) -> None:
    query = {"conversation": [str(sent.conversation_id)]}
    views = live_frames.views_for_query(query, user=staff, language="en")
    sent_frames = live_frames.SentFrames()
    assert len(live_frames.catch_up(views, sent.updated_at, sent_frames)) == 1
    with django_assert_num_queries(3):  # messages, calls, and the conversation with its notes
        assert live_frames.catch_up(views, sent.updated_at, sent_frames) == []


# -- changes ---------------------------------------------------------------------------------------


def test_a_change_is_sent_with_the_current_data(staff: User, sent: Message) -> None:
    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, conversation=sent.conversation_id) as page:
            await sync_to_async(mark_delivered)(sent)
            [frame] = await page.until("message")
            await sent.arefresh_from_db()
            assert frame["version"] == sent.version
            assert 'data-icon="delivered"' in frame["html"]
            # Another push may have been lost: only `ready` and `ping` confirm the page's state.
            assert "at" not in frame
            # Repeating the receipt changes nothing, so nothing is sent.
            await sync_to_async(mark_delivered)(sent)
            assert await page.nothing()

    async_to_sync(scenario)(cookies_of(staff))


def test_nothing_is_sent_before_the_commit_or_after_a_rollback(staff: User, sent: Message) -> None:
    def change(*, roll_back: bool) -> None:
        with transaction.atomic():
            publisher.message_changed(sent)
            publisher.flush()
            transaction.set_rollback(roll_back)

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, conversation=sent.conversation_id) as page:
            await sync_to_async(change)(roll_back=True)
            assert await page.nothing()
            await sync_to_async(change)(roll_back=False)
            assert (await page.next())["key"] == f"message:{sent.pk}"

    async_to_sync(scenario)(cookies_of(staff))


def test_many_changes_at_once_are_read_together(
    staff: User, sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    real = live_frames.frames

    def count(view: Any, changes: Any) -> Any:
        reads.append(changes)
        return real(view, changes)

    monkeypatch.setattr(live_frames, "frames", count)

    def change() -> None:
        with transaction.atomic():
            for _ in range(50):
                publisher.message_changed(sent)

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, conversation=sent.conversation_id) as page:
            await sync_to_async(change)()
            await page.next()
            await sync_to_async(mark_delivered)(sent)
            while (await page.next())["version"] == sent.version:
                pass
        assert len(reads) < 10

    async_to_sync(scenario)(cookies_of(staff))


def test_the_page_shows_each_icon_of_a_rejected_message(
    staff: User, wired: Channel, wwebjs: Provider
) -> None:
    message = accept(wired, customer(graph="47"))
    publisher.flush()

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, conversation=message.conversation_id) as page:
            await sync_to_async(deliver)(message)
            versions, shown = [], ""
            while 'data-icon="globe"' not in shown:
                frame = await page.next()
                versions.append(frame["version"])
                shown = frame["html"]
            assert versions == sorted(set(versions))

    async_to_sync(scenario)(cookies_of(staff))
    assert message.icon == "globe"


def test_two_users_receive_the_same_frames_and_others_receive_none(
    staff: User, sent: Message, make_user: Callable[..., User], channel: Channel
) -> None:
    elsewhere = accept(channel, to="+5511977776666")
    publisher.flush()
    other = make_user("bia", "messaging.view_message", "messaging.view_conversation")

    async def scenario(mine: bytes, theirs: bytes) -> None:
        async with (
            opened(mine, conversation=sent.conversation_id) as one,
            opened(theirs, conversation=sent.conversation_id) as two,
            opened(mine, conversation=elsewhere.conversation_id) as three,
        ):
            await sync_to_async(mark_delivered)(sent)
            assert (await one.next())["version"] == (await two.next())["version"]
            assert await three.nothing()

    async_to_sync(scenario)(cookies_of(staff), cookies_of(other))


def test_the_actions_in_a_frame_depend_on_the_permission(
    staff: User, sent: Message, make_user: Callable[..., User]
) -> None:
    Message.objects.update(status="rejected", decision="no_fallback")
    reader = make_user("bia", "messaging.view_message")
    query = {"conversation": [str(sent.conversation_id)]}
    pages = []
    for user in (staff, reader):
        views = live_frames.views_for_query(query, user=user, language="en")
        [frame] = live_frames.frames(views, {"messages": [sent.pk]})
        pages.append("/retry/" in frame["html"])
    assert pages == [True, False]


def test_the_list_of_conversations_is_updated(staff: User, sent: Message, channel: Channel) -> None:
    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, inbox=1) as page:
            await sync_to_async(accept)(channel, to="+5511988887777", text="mais uma")
            frame = await page.next()
            assert (frame["kind"], frame["key"]) == (
                "conversation",
                f"conversation:{sent.conversation_id}",
            )
            assert "mais uma" in frame["html"]

    async_to_sync(scenario)(cookies_of(staff))


def test_one_socket_watches_everything_its_page_requests(
    staff: User, sent: Message, channel: Channel
) -> None:
    async def scenario(cookies: bytes) -> None:
        both = {"inbox": 1, "conversation": sent.conversation_id}
        async with opened(cookies, alarms=1, **both) as page:
            await sync_to_async(mark_delivered)(sent)
            frames = [await page.next(), await page.next()]
            assert {frame["key"] for frame in frames} == {
                f"conversation:{sent.conversation_id}",
                f"message:{sent.pk}",
            }

    async_to_sync(scenario)(cookies_of(staff))


def test_figures_and_histories_receive_a_refresh_without_content(
    staff: User, sent: Message, channel: Channel
) -> None:
    async def scenario(cookies: bytes) -> None:
        async with (
            opened(cookies, figures=1) as figures,
            opened(cookies, trail=sent.conversation_id) as trail,
        ):
            await sync_to_async(mark_delivered)(sent)
            for page in (figures, trail):
                assert await page.next() == {"kind": "refresh"}
            await sync_to_async(publisher.channel_changed)(channel)
            assert (await figures.next())["kind"] == "refresh"
            assert await trail.nothing()

    async_to_sync(scenario)(cookies_of(staff))


def test_an_alert_reaches_every_page_and_disappears_when_it_ends(
    make_user: Callable[..., User], channel: Channel
) -> None:
    def drop() -> None:
        incidents.open_or_update(
            Connection.objects.stored(channel, "wwebjs"),
            reason="unlinked_on_phone",
            detail="",
            at=timezone.now(),
        )

    def recover() -> None:
        incidents.mark_recovered(Connection.objects.stored(channel, "wwebjs"), at=timezone.now())

    def switch_off() -> None:
        change_channel(channel, active=False)

    async def scenario(cookies: bytes, without_link: bytes) -> None:
        async def alarms() -> list[Any]:
            found: list[Any] = (await page.next())["alarms"]
            return found

        async with opened(cookies, alarms=1) as page:
            await sync_to_async(drop)()
            [alarm] = await alarms()
            assert alarm["text"] == "Oficial · wwebjs: The session was unlinked on the phone"
            assert "unlinked on the phone" in alarm["html"]
            assert f'href="/channels/{channel.pk}/"' in alarm["html"]
            await sync_to_async(recover)()
            assert await alarms() == []
            # The recovery did not last: the same incident continues, under the same id.
            await sync_to_async(drop)()
            [again] = await alarms()
            assert again["id"] == alarm["id"]
            # A page that connects or reconnects receives the open alerts.
            later = Page(communicator(without_link, "alarms=1"))
            await later.communicator.connect(5)
            [known] = (await later.until("ready"))[0]["alarms"]
            assert known["text"] == alarm["text"]
            assert "/channels/" not in known["html"]
            await later.communicator.disconnect()
            await sync_to_async(switch_off)()
            assert await alarms() == []

    reader = make_user("c", "channels_app.view_channel")
    other = make_user("m", "messaging.view_message")
    async_to_sync(scenario)(
        cookies_of(reader, django_language="en"), cookies_of(other, django_language="en")
    )


def test_the_channel_cards_are_updated(
    staff: User, channel: Channel, make_channel: Callable[..., Channel]
) -> None:
    other = make_channel()

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, channels="1") as all_, opened(cookies, channel=other.pk) as one:
            await sync_to_async(publisher.channel_changed)(channel)
            frame = await all_.next()
            assert (frame["kind"], frame["key"]) == ("channel", f"channel:{channel.pk}")
            assert f'data-channel="{channel.pk}"' in frame["html"]
            assert await one.nothing()
            await sync_to_async(publisher.channel_changed)(other)
            assert (await one.next())["key"] == f"channel:{other.pk}"

    async_to_sync(scenario)(cookies_of(staff))


def test_frames_are_in_the_language_of_the_page(staff: User, sent: Message) -> None:
    async def scenario(cookies: bytes) -> str:
        since = (timezone.now() - dt.timedelta(hours=2)).isoformat()
        page = Page(
            communicator(cookies, urlencode({"conversation": sent.conversation_id, "since": since}))
        )
        await page.communicator.connect(5)
        found: str = (await page.next())["html"]
        await page.communicator.disconnect()
        return found

    english = async_to_sync(scenario)(cookies_of(staff, django_language="en"))
    portuguese = async_to_sync(scenario)(cookies_of(staff, django_language="xx"))
    assert ">Sent<" in english
    assert ">Enviada<" in portuguese


# -- failures --------------------------------------------------------------------------------------


@pytest.fixture
def no_valkey(settings: Any) -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    config = {"hosts": [{"address": f"redis://{HOST}:{port}/0", "socket_connect_timeout": 1}]}
    settings.CHANNEL_LAYERS = {
        "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": config}
    }


@pytest.mark.usefixtures("no_valkey")
def test_messages_are_sent_without_valkey(wired: Channel, graph: Provider) -> None:
    message = accept(wired)
    assert deliver(message) is None
    assert message.status == "sent"
    publisher.flush()


@pytest.mark.usefixtures("no_valkey")
def test_without_valkey_a_page_is_asked_to_reconnect(staff: User) -> None:
    async def scenario(cookies: bytes) -> None:
        page = Page(communicator(cookies, "inbox"))
        assert (await page.communicator.connect(5))[0]
        assert await page.closed() == audiences.CLOSE_NO_LAYER
        await page.communicator.wait(5)

    async_to_sync(scenario)(cookies_of(staff))


def test_a_page_is_asked_to_reconnect_when_valkey_is_lost(
    staff: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from channels_redis.core import RedisChannelLayer
    from redis.exceptions import ConnectionError as Lost

    gone = asyncio.Event()
    real = RedisChannelLayer.receive

    async def receive(self: Any, channel: str) -> Any:
        waiting = asyncio.ensure_future(real(self, channel))
        await asyncio.wait(
            [waiting, asyncio.ensure_future(gone.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        if not gone.is_set():
            return await waiting
        waiting.cancel()
        raise Lost("gone")

    monkeypatch.setattr(RedisChannelLayer, "receive", receive)

    async def scenario(cookies: bytes) -> None:
        page = Page(communicator(cookies, "inbox"))
        await page.communicator.connect(5)
        await page.until("ready")
        gone.set()
        assert await page.closed() == audiences.CLOSE_NO_LAYER
        await page.communicator.wait(5)

    async_to_sync(scenario)(cookies_of(staff))


def test_a_page_is_asked_to_reconnect_when_the_database_fails(
    staff: User, sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(view: Any, changes: Any) -> Any:
        raise OperationalError("gone")

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, conversation=sent.conversation_id) as page:
            monkeypatch.setattr(live_frames, "frames", away)
            await sync_to_async(mark_delivered)(sent)
            assert await page.closed() == audiences.CLOSE_RECONNECT

    async_to_sync(scenario)(cookies_of(staff))


def test_a_page_is_pinged_and_asked_to_reconnect_after_some_hours(
    staff: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "PING_SECONDS", 0.01)
    monkeypatch.setattr(consumer, "LIFETIME_SECONDS", 0.05)

    async def scenario(cookies: bytes) -> None:
        page = Page(communicator(cookies, "inbox"))
        await page.communicator.connect(5)
        frames = await page.until("ping")
        assert dt.datetime.fromisoformat(frames[-1]["at"]) <= timezone.now()
        assert await page.closed() == audiences.CLOSE_RECONNECT
        await page.communicator.disconnect()

    async_to_sync(scenario)(cookies_of(staff))


def test_a_retry_is_pushed_at_once(staff: User, sent: Message) -> None:
    Message.objects.update(status="rejected", decision="no_fallback")

    async def scenario(cookies: bytes) -> None:
        async with opened(cookies, conversation=sent.conversation_id) as page:
            await sync_to_async(sending.retry_message)(sent, route="official", user=None)
            assert (await page.next())["version"] == sent.version + 1

    async_to_sync(scenario)(cookies_of(staff))
