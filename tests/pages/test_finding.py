"""Finding: hits with their words marked, the page around a message, a day, the gallery."""

from __future__ import annotations

import datetime as dt
import html
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import Page, expect

from channels_app.models import Channel
from core import search_text
from messaging.models import Conversation, Message
from tests.messaging.support import wait_until
from tests.pages.conftest import NO_CHROMIUM, Sockets

pytestmark = pytest.mark.django_db

WORDS = st.text(alphabet="aàáçéoõnNÃ<>&\"' .", max_size=60)


def write(conversation: Conversation, text: str, *, minutes: int = 0, **fields: Any) -> Message:
    at = timezone.now() - dt.timedelta(minutes=minutes)
    return Message.objects.create(
        **{"direction": Message.Direction.IN, "type": "text", **fields},
        conversation=conversation,
        text=text,
        created_at=at,
    )


@given(text=WORDS, wanted=st.text(alphabet="aaçeonÃ", min_size=1, max_size=4))
def test_the_parts_of_a_marked_text_are_the_text_and_the_marked_ones_match(
    text: str, wanted: str
) -> None:
    word = search_text.fold(wanted)
    parts = search_text.mark(text, lambda folded: folded.startswith(word))
    assert "".join(part.text for part in parts) == text
    marked = [search_text.fold(part.text) for part in parts if part.marked]
    assert marked == [one for one in search_text.words(text) if one.startswith(word)]


def test_a_search_shows_people_then_messages_in_which_the_words_are_marked(
    reader: Client, channel: Channel, make_conversation: Callable[..., Conversation]
) -> None:
    ana = make_conversation(channel, "+5511999990001", "Promoções Ana")
    rui = make_conversation(channel, "+5511999990002", "Rui")
    other = make_conversation(channel, "+5511999990003", "Eva")
    hit = write(rui, "A <b>PROMOÇÃO</b> de hoje")
    write(other, "Outra coisa")
    page = reader.get("/conversations/", {"search": "promo"}).content.decode()
    assert page.index("Promoções Ana") < page.index("row-hit-text")
    assert "A &lt;b&gt;<mark>PROMOÇÃO</mark>&lt;/b&gt; de hoje" in page
    assert f"/conversations/{rui.pk}/?message={hit.pk}" in page
    assert "Outra coisa" not in page
    # A number in any spelling, and filters that combine.
    assert (
        f'href="/conversations/{ana.pk}/"'
        in reader.get("/conversations/", {"search": "(11) 99999-0001"}).content.decode()
    )
    nothing = reader.get("/conversations/", {"search": "promo", "tab": "resolved"})
    assert f"message={hit.pk}" not in nothing.content.decode()


def test_a_link_leads_to_the_page_around_a_message_and_on_to_the_latest(
    reader: Client, conversation: Conversation
) -> None:
    sent = [write(conversation, f"Número {n}", minutes=200 - n) for n in range(120)]
    Conversation.objects.filter(pk=conversation.pk).update(unread_count=3)
    url = f"/conversations/{conversation.pk}/"
    page = reader.get(url, {"message": sent[50].pk, "search": "numero"})
    shown = page.context["messages_page"].messages
    assert [one.pk for one in shown] == [one.pk for one in sent[30:70]]
    body = page.content.decode()
    assert f'data-target="message-{sent[50].pk}" data-marks="Número"' in body
    assert "data-live-list-later" in body
    conversation.refresh_from_db()
    assert conversation.unread_count == 3  # the latest was not shown
    following: list[Message] = []
    last = shown[-1].pk
    while True:
        answer = reader.get(f"{url}newer/", {"after": last})
        following += answer.context["messages_page"].messages
        last = following[-1].pk
        if "data-joins-live" in answer.content.decode():
            break
    assert [one.pk for one in following] == [one.pk for one in sent[70:]]
    foreign = reader.get(url, {"message": "00000000-0000-0000-0000-000000000001"})
    assert [one.pk for one in foreign.context["messages_page"].messages][-1] == sent[-1].pk
    day = timezone.localtime(sent[0].created_at).date().isoformat()
    target = reader.get(f"{url}jump/", {"day": day})
    assert target["Location"].startswith(f"{url}?message=")
    find = reader.get(f"{url}find/", {"search": "numero"}).content.decode()
    assert find.count("<mark>Número</mark>") == 40
    assert "before=" in find


def test_the_gallery_has_pages_of_links(reader: Client, conversation: Conversation) -> None:
    for number in range(61):
        write(conversation, f"veja https://loja.example/{number}.", minutes=number)
    url = f"/conversations/{conversation.pk}/media/"
    first = reader.get(url, {"kind": "links"}).content.decode()
    assert 'href="https://loja.example/59"' in first
    assert "https://loja.example/60" not in first
    assert (
        "https://loja.example/60"
        in reader.get(url, {"kind": "links", "page": "2"}).content.decode()
    )
    assert "https://" not in html.unescape(
        reader.get(url, {"kind": "images"}).content.decode().split("<main")[1]
    )


def test_words_of_messages_are_for_those_who_may_read_them(
    make_user: Callable[..., Any], client_for: Callable[..., Client], conversation: Conversation
) -> None:
    write(conversation, "segredo")
    stranger = client_for(make_user("x", "messaging.view_conversation", "messaging.view_contact"))
    for path in ("find/?search=segredo", "media/", "newer/", "jump/"):
        answer = stranger.get(f"/conversations/{conversation.pk}/{path}")
        assert answer.status_code == 403
        assert "segredo" not in answer.content.decode()
    assert stranger.get(f"/contacts/{conversation.contact_id}/media/").status_code == 403


def test_a_phone_finds_what_makes_the_pages_an_app(client: Client) -> None:
    manifest = client.get("/manifest.webmanifest")
    assert manifest["Content-Type"] == "application/manifest+json"
    assert {icon["sizes"] for icon in manifest.json()["icons"]} == {"192x192", "512x512"}
    worker = client.get("/service-worker.js")
    assert worker["Service-Worker-Allowed"] == "/"
    assert worker["Content-Type"].startswith("text/javascript")
    assert client.get("/offline/").status_code == 200


@NO_CHROMIUM
@pytest.mark.browser
@pytest.mark.django_db(transaction=True)
def test_a_message_in_a_background_tab_is_signaled_and_found_again(
    page: Page, sockets: Sockets, conversation: Conversation
) -> None:
    """The title, the badge, the icon and a notification; then the search leads to its words."""
    page.add_init_script(
        "window.shown = []; window.Notification = class extends EventTarget {"
        " static permission = 'granted';"
        " constructor(title, { body }) { super(); shown.push([title, body]); } };"
        "delete Navigator.prototype.serviceWorker"
    )
    old = write(conversation, "Quero uma PROMOÇÃO", minutes=600)
    for number in range(60):
        write(conversation, f"nº {number}", minutes=300 - number)
    page.goto("/")
    page.evaluate("document.cookie = 'alterna_desktop=1; Path=/'")
    send = sockets.opened[-1].send
    row = [conversation.pk, 1, None]
    send(json.dumps({"kind": "unread", "key": "unread", "data": {"all": []}}))
    expect(page).to_have_title("Dashboard · Alterna")
    data = {"row": row, "message": str(old.pk), "name": "Mariana", "text": "Oi"}
    data["at"] = timezone.now().isoformat()
    send(json.dumps({"kind": "unread", "key": "unread:1", "data": data}))
    expect(page).to_have_title("(1) Dashboard · Alterna")
    expect(page.locator("[data-unread-badge]")).to_have_text("1")
    expect(page.locator("[data-favicon]")).to_have_attribute("href", "/static/favicon-dot.svg")
    wait_until(lambda: page.evaluate("shown.length"))
    assert page.evaluate("shown") == [["Mariana", "Oi"]]

    page.goto("/conversations/?search=promocao")
    page.locator(".row-hit").click()
    found = page.locator(f'[data-message="{old.pk}"]')
    expect(found).to_be_in_viewport()
    expect(found).to_be_focused()
    assert page.evaluate("[...CSS.highlights.get('found')].map(String)") == ["PROMOÇÃO"]
    to_the_end = """() => {
        const thread = document.querySelector("[data-thread]");
        thread.scrollTop = thread.scrollHeight;
        return !thread.querySelector("[data-newer]");
    }"""
    wait_until(lambda: page.evaluate(to_the_end))
    expect(page.locator("[data-live-list~=message]")).to_have_count(1)
