"""A conversation with every kind of message, read on a phone and on a desktop."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page

from channels_app.models import Channel
from messaging.inbound import journal
from messaging.inbound.arrivals import Arrival
from messaging.media import files
from messaging.models import Conversation, Media
from tests.messaging import every_kind
from tests.messaging.support import read_events
from tests.pages.conftest import NO_CHROMIUM

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), NO_CHROMIUM]

AUDIT = (Path(__file__).parent / "audit.js").read_text()
# To renew the pictures of docs/message-kinds.md: PICTURES=docs/images
PICTURES = os.environ.get("PICTURES")


@pytest.fixture
def conversations(
    channel: Channel, make_channel: Callable[..., Channel], settings: Any, tmp_path: Path
) -> list[Conversation]:
    settings.MEDIA_ROOT = tmp_path
    baileys = make_channel(
        kind="baileys",
        name="Oficina",
        phone_number_id="",
        phone_number="+5511900000002",
        evolution_url="http://127.0.0.1:9",
        evolution_api_key="key",
        instance_name="oficina_demo",
    )
    now = int(timezone.now().timestamp()) - 3600
    for payload in every_kind.cloud_payloads(channel.phone_number_id, now=now):
        receive("cloud", channel, payload)
    for event in every_kind.evolution_events("oficina_demo", now=now):
        receive("evolution", baileys, event)
    read_events()
    for media in Media.objects.filter(state="waiting"):
        files.fetch(str(media.pk))
    return list(Conversation.objects.order_by("pk"))


def receive(source: str, channel: Channel, payload: Any) -> None:
    body = json.dumps(payload).encode()
    journal.receive(source, [Arrival.from_body(str(channel.pk), body)])


@pytest.mark.parametrize("language", ["pt-br", "en"])
def test_every_kind_is_readable_on_every_screen(
    page: Page, conversations: list[Conversation], language: str
) -> None:
    [cookie] = [c for c in page.context.cookies() if c["name"] == "django_language"]
    cookie["value"] = language
    page.context.add_cookies([cookie])  # type: ignore[list-item]
    faults: list[str] = []
    text = ""
    for conversation in conversations:
        for width, scheme in ((360, "dark"), (1280, "light")):
            page.set_viewport_size({"width": width, "height": 740})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            page.goto(f"/conversations/{conversation.pk}/")
            page.locator("details.versions, details.votes").evaluate_all(
                "all => all.forEach(one => { one.open = true })"
            )
            faults += [f"{width} {scheme}: {fault}" for fault in page.evaluate(AUDIT)]
            if PICTURES and language == "en":
                # The window shows the whole thread, which otherwise scrolls in it.
                thread = page.locator("[data-live-list~=message]")
                height = thread.evaluate("list => list.scrollHeight")
                page.set_viewport_size({"width": width, "height": height + 400})
                thread.screenshot(path=f"{PICTURES}/kinds-{conversation.pk}-{width}.png")
        text += page.locator("[data-live-list~=message]").inner_text()
    assert "\n".join(map(str, faults)) == ""
    assert [raw for raw in every_kind.RAW if raw in text] == []
    if language == "pt-br":
        words = " ".join(text.split())
        assert [one for one in every_kind.WORDS if one not in words] == []
