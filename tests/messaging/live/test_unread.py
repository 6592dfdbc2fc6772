"""What every page knows of unread conversations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from channels_app.models import Channel
from messaging import contacts
from messaging.live import frames as live_frames
from messaging.live import publisher
from messaging.models import Conversation, Message
from tests.messaging.live.support import cookies_of, opened

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("plain_static")]


def test_a_message_is_read_once_for_all_pages_of_people_with_the_same_rights(
    channel: Channel, make_user: Callable[..., User], monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[int] = []
    real = live_frames.frames

    def count(views: Any, changed: Any) -> Any:
        with CaptureQueriesContext(connection) as captured:
            frames = real(views, changed)
        queries.append(len(captured))
        return frames

    monkeypatch.setattr(live_frames, "frames", count)
    ana, bia = (make_user(name, *live_frames.UnreadView.permissions) for name in ("ana", "bia"))
    of_bia = contacts.conversation_with(channel, phone_number="+5511988887777", name="Rui")
    Conversation.objects.filter(pk=of_bia.pk).update(assignee=bia, unread_count=2)
    new = contacts.conversation_with(channel, phone_number="+5511988886666", name="Eva")
    publisher.flush()

    def write() -> None:
        message = Message.objects.create(
            conversation=new,
            direction=Message.Direction.IN,
            type="text",
            text="Bom dia",
            created_at=timezone.now(),
        )
        Conversation.objects.filter(pk=new.pk).update(unread_count=1)
        publisher.message_changed(message)

    async def scenario(cookies: list[bytes]) -> None:
        async with AsyncExitStack() as stack:
            pages = [await stack.enter_async_context(opened(one, unread=1)) for one in cookies]
            await sync_to_async(write)()
            for page in pages:
                frame = await page.next()
                assert frame["data"]["row"] == [new.pk, 1, None]
                assert (frame["data"]["name"], frame["data"]["text"]) == ("Eva", "Bom dia")

    [view] = live_frames.views_for_query({"unread": ["1"]}, user=ana, language="en")
    [first] = view.newest(live_frames.SentFrames())
    assert first["data"] == {"all": [[of_bia.pk, 2, bia.pk]]}
    async_to_sync(scenario)([cookies_of(user) for user in (ana, bia) * 3])
    assert queries == [2]
