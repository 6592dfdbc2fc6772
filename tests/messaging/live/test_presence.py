"""Who looks at a conversation and who types: the rules, and real sockets over a real Valkey."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from messaging.live import audiences, hub, presence
from messaging.live.presence import Board, Person
from tests.messaging.live.support import Page, cookies_of, opened

if TYPE_CHECKING:
    from messaging.models import Message

MARIA, JOAO = Person(1, "Maria", "MS", 7), Person(2, "João", "JP", 4)
READ = ("messaging.view_conversation", "messaging.view_message")


def people(board: Board, now: float, conversation: int = 7) -> dict[str, bool]:
    frame = board.frame(conversation, now)
    return {person["name"]: person["typing"] for person in frame["people"]}


def test_people_are_shown_until_they_leave_or_fall_silent() -> None:
    board = Board()
    board.say(7, "a", MARIA, "viewing", True, 0)
    board.say(7, "b", JOAO, "typing", True, 1)
    assert people(board, 2) == {"João": True, "Maria": False}
    assert people(board, 1 + presence.TYPING_SECONDS) == {"João": False, "Maria": False}
    assert people(board, presence.VIEWING_SECONDS) == {"João": False}
    board.say(7, "c", JOAO, "viewing", True, 3)
    board.say(7, "b", JOAO, "viewing", False, 3)
    assert people(board, 4) == {"João": False, "Maria": False}  # in another window
    assert board.leave(7, "c")
    assert not board.leave(7, "c")
    assert people(board, 4) == {"Maria": False}
    assert people(board, 4, conversation=8) == {}
    board.tidy(200)
    assert board.conversations() == set()


def test_another_process_is_believed_until_it_ends_or_falls_silent() -> None:
    here, there = Board(), Board()
    there.say(7, "a", MARIA, "typing", True, 0)
    here.hear("there", 7, there.shared(7, 0), 100)
    here.say(7, "b", MARIA, "viewing", True, 100)
    assert people(here, 101) == {"Maria": True}  # once
    here.hear("there", 7, there.shared(7, presence.TYPING_SECONDS), 110)
    assert people(here, 111) == {"Maria": False}
    here.leave(7, "b")
    assert people(here, 110 + presence.SHARED_SECONDS - 0.1) == {"Maria": False}
    assert people(here, 110 + presence.SHARED_SECONDS) == {}
    assert here.forget("there") == {7}
    assert people(here, 111) == {}


@given(st.one_of(st.text(), st.binary().map(repr), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
).map(json.dumps)))  # fmt: skip
def test_only_the_two_frames_of_a_page_are_read(text: str) -> None:
    try:
        what, value = presence.read_frame(text)
    except (ValueError, RecursionError):
        return
    assert json.loads(text) == {what: value}
    assert what in ("viewing", "typing")


def test_a_page_that_sends_too_much_is_not_read() -> None:
    rate = presence.Rate(0)
    assert [rate.allows(0) for _ in range(presence.BURST + 1)] == [True] * presence.BURST + [False]
    assert all(rate.allows(float(second)) for second in range(1, 100))


# -- over sockets ----------------------------------------------------------------------------------


async def say(page: Page, **frame: Any) -> None:
    await page.communicator.send_to(text_data=json.dumps(frame))


async def sees(page: Page) -> dict[str, bool]:
    frame = (await page.until("presence"))[-1]
    return {person["name"]: person["typing"] for person in frame["people"]}


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("plain_static")
def test_pages_of_a_conversation_see_who_else_is_there(
    staff: User, make_user: Callable[..., User], sent: Message, monkeypatch: pytest.MonkeyPatch
) -> None:
    maria, number = make_user("maria", *READ, first_name="Maria"), sent.conversation_id
    monkeypatch.setattr(presence, "TYPING_SECONDS", 0.3)
    monkeypatch.setattr(hub, "PRESENCE_SECONDS", 0.1)

    async def scenario(mine: bytes, hers: bytes) -> None:
        async with opened(mine, conversation=number) as ana:
            await say(ana, viewing=True)
            assert await sees(ana) == {"ana": False}
            async with opened(hers, conversation=number) as page:
                assert await sees(page) == {"ana": False}  # whoever comes later sees it
                await say(page, typing=True)
                assert await sees(ana) == {"Maria": True, "ana": False}
                # She stops without a word.
                assert await sees(ana) == {"Maria": False, "ana": False}
            assert await sees(ana) == {"ana": False}
        # A page that shows no conversation is nowhere; one that talks is closed.
        async with opened(mine, inbox=1) as page:
            await say(page, viewing=True)
            await page.communicator.send_to(text_data='{"viewing": 1}')
            assert await page.closed() == audiences.CLOSE_INVALID

    async_to_sync(scenario)(cookies_of(staff), cookies_of(maria))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("plain_static")
def test_web_processes_tell_each_other_who_is_there(staff: User, sent: Message) -> None:
    """Another process is a member of the channel layer's group, as here."""
    number = str(sent.conversation_id)

    async def scenario(cookies: bytes) -> None:
        from channels.layers import get_channel_layer

        from messaging.live import publisher

        layer = get_channel_layer()
        other = await layer.new_channel()
        await layer.group_add(publisher.CHANNEL_GROUP, other)

        async def receive() -> Any:
            while True:
                message = await asyncio.wait_for(layer.receive(other), 5)
                if message["type"] == "live.presence":
                    return message

        async with opened(cookies, conversation=number) as page:
            assert (await receive())["people"] == {}  # it asks
            joao = {"id": 9, "name": "João", "initials": "J", "hue": 3, "typing": True}
            await publisher.share_presence("other", {int(number): [joao]})
            assert await sees(page) == {"João": True}
            await say(page, viewing=True)
            assert [one["name"] for one in (await received_about(receive, number))] == ["ana"]
            await publisher.share_presence("new", {})
            assert [one["name"] for one in (await received_about(receive, number))] == ["ana"]
            await page.until("presence")
            await publisher.end_presence("other")
            assert await sees(page) == {"ana": False}
        while (await receive())["people"] is not None:
            pass

    async_to_sync(scenario)(cookies_of(staff))


async def received_about(receive: Callable[[], Any], number: str) -> Any:
    while True:
        message = await receive()
        if message["people"] and message["process"] not in ("other", "new"):
            return message["people"][number]
