"""Shared work on the pages: who has a conversation, private notes, the panel, labels, presence."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Team
from channels_app.models import Channel
from messaging.inbox import lists, notes, work
from messaging.live import frames
from messaging.models import Conversation, Label, Message, Note
from tests.pages.html import parse

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.django_db

MakeMessage = Callable[..., Message]


def page_of(client: Client, conversation: Conversation) -> str:
    return client.get(f"/conversations/{conversation.pk}/").content.decode()


def test_queries(staff_client, conversation, make_message, staff):
    for n in range(3):
        make_message(conversation)
    with CaptureQueriesContext(connection, ) as q:
        page_of(staff_client, conversation)
    for x in q.captured_queries: print(x["sql"][:200])
    print("N", len(q))
    with CaptureQueriesContext(connection, ) as q:
        print(staff_client.get(f"/conversations/{conversation.pk}/panel/").content.decode())
    print("N panel", len(q))
