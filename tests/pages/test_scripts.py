"""The pages' scripts in a real Chromium; the test simulates the socket."""

from __future__ import annotations

import base64
import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from django.contrib.sessions.models import Session
from django.template.loader import render_to_string
from django.utils import timezone, translation
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from channels_app.models import Channel, Connection, Incident
from messaging import selectors
from messaging.models import CallAttempt, Conversation, Media, Message
from messaging.templatetags.times import relative
from simulators.base import run_in_thread
from tests import files
from tests.pages.conftest import NO_CHROMIUM, Sockets

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    NO_CHROMIUM,
]
MakeMessage = Callable[..., Message]


@pytest.fixture
def opened(page: Page, conversation: Conversation, make_message: MakeMessage) -> Page:
    """The page of a conversation with some messages."""
    for number in range(30, 0, -1):
        make_message(conversation, minutes_ago=number, text=f"nº {number}")
    page.goto(f"/conversations/{conversation.pk}/")
    expect(page.get_by_text("nº 1", exact=True)).to_be_in_viewport()
    return page


def icon(page: Page, message: Message) -> Any:
    return page.locator(f'[data-message="{message.pk}"] [data-icon]')


def test_a_newer_version_replaces_the_bubble_and_an_older_one_does_not(
    opened: Page, sockets: Sockets, conversation: Conversation
) -> None:
    message = Message.objects.get(text="nº 1")
    Message.objects.filter(pk=message.pk).update(status="read", version=5)
    sockets.show(message, 5)
    expect(icon(opened, message)).to_have_attribute("data-icon", "read")

    Message.objects.filter(pk=message.pk).update(status="delivered", version=4)
    sockets.show(message, 4)
    Message.objects.filter(text="nº 2").update(status="read", version=2)
    sockets.show(Message.objects.get(text="nº 2"), 2)

    expect(icon(opened, Message.objects.get(text="nº 2"))).to_have_attribute("data-icon", "read")
    expect(icon(opened, message)).to_have_attribute("data-icon", "read")


def test_a_new_message_is_inserted_in_order_and_announced(
    opened: Page, sockets: Sockets, conversation: Conversation, make_message: MakeMessage
) -> None:
    late = make_message(conversation, minutes_ago=4.5, text="atrasada", direction="in", route=None)
    new = make_message(conversation, text="chegou agora", direction="in", route=None)
    sockets.show(late, 1)
    sockets.show(new, 1)

    expect(opened.locator("article .bubble-text").last).to_have_text("chegou agora")
    expect(opened.locator("article").last).to_be_in_viewport()
    before = opened.locator(f"#message-{late.pk} + article .bubble-text")
    expect(before).to_have_text("nº 4")
    expect(opened.locator("[data-announcer]")).to_have_text("New message: chegou agora")


def test_a_user_who_scrolled_up_is_notified_without_scrolling_down(
    opened: Page, sockets: Sockets, conversation: Conversation, make_message: MakeMessage
) -> None:
    opened.locator("[data-thread]").evaluate("thread => thread.scrollTop = 0")
    expect(opened.get_by_text("nº 30", exact=True)).to_be_in_viewport()

    sockets.show(make_message(conversation, text="nova", direction="in", route=None), 1)

    hint = opened.get_by_role("button", name="New messages")
    expect(hint).to_be_visible()
    expect(opened.get_by_text("nº 30", exact=True)).to_be_in_viewport()
    hint.click()
    expect(opened.locator("article").last).to_be_in_viewport()
    expect(hint).to_be_hidden()


def test_the_first_message_of_a_day_gets_a_separator(
    opened: Page, sockets: Sockets, conversation: Conversation, make_message: MakeMessage
) -> None:
    count = opened.locator(".day").count()

    two_days_ago = make_message(conversation, minutes_ago=2 * 24 * 60, text="anteontem")
    sockets.show(two_days_ago, 1)

    expect(opened.locator(".day")).to_have_count(count + 1)
    expect(opened.locator("[data-live-list~=message] > *").first).to_have_class("day")


NIGHT = dt.datetime(2026, 11, 26, 4, 0, tzinfo=dt.UTC)  # one o'clock in São Paulo


EXPECTED = {
    dt.timedelta(seconds=59): "now",
    dt.timedelta(minutes=59): "59 min ago",
    dt.timedelta(hours=2): "2 h ago",
    dt.timedelta(hours=11, minutes=59): "11 h ago",
    dt.timedelta(hours=12): "yesterday",
    dt.timedelta(hours=24): "yesterday",
    dt.timedelta(hours=26): "11/24/2026",
}


def test_the_script_formats_times_like_the_server(
    chromium: Browser, page: Page, live_server: LiveServer
) -> None:
    with translation.override("en"):
        assert [relative(NIGHT - ago, NIGHT) for ago in EXPECTED] == list(EXPECTED.values())
    context = chromium.new_context(base_url=live_server.url)
    context.add_cookies(page.context.cookies())  # type: ignore[arg-type]
    context.clock.set_fixed_time(NIGHT)
    night = context.new_page()
    night.goto("/conversations/")
    shown = night.evaluate(
        """moments => moments.map((moment) => {
            const time = document.createElement("time");
            time.dateTime = moment;
            time.dataset.relative = "";
            document.body.append(time);
            document.dispatchEvent(new Event("alterna:times"));
            return time.textContent;
        })""",
        [(NIGHT - ago).isoformat() for ago in EXPECTED],
    )
    context.close()
    assert shown == list(EXPECTED.values())


def test_a_lost_connection_is_shown_and_the_reconnect_sends_the_last_time(
    opened: Page, sockets: Sockets
) -> None:
    at = "2026-05-05T05:05:05+00:00"
    sockets.send({"kind": "ping", "at": at})
    # A change does not advance the time, because an earlier push may have been lost.
    sockets.send({"kind": "message", "at": "2026-06-06T06:06:06+00:00"})
    opened.wait_for_timeout(100)
    sockets.accepts = False
    [socket] = sockets.opened
    assert {"alarms=1", "inbox=1"} < set(re.split("[?&]", socket.url))
    socket.close(code=1011)
    hint = opened.get_by_text("Reconnecting…")
    expect(hint).to_be_visible()

    sockets.accepts = True
    expect(hint).to_be_hidden(timeout=15_000)
    last = next(s for s in reversed(sockets.opened) if "conversation=" in s.url)
    assert "since=2026-05-05T05%3A05%3A05%2B00%3A00" in last.url


def test_a_signed_out_user_is_redirected_to_the_login_page(opened: Page, sockets: Sockets) -> None:
    Session.objects.all().delete()
    [socket] = sockets.opened
    socket.close(code=4003)
    opened.wait_for_url(re.compile(r"/accounts/login/\?next=/conversations/"))


def test_older_messages_are_inserted_above_without_moving_the_view(
    page: Page, conversation: Conversation, make_message: MakeMessage
) -> None:
    for number in range(100, 0, -1):
        make_message(conversation, minutes_ago=number * 30, text=f"nº {number}")
    page.goto(f"/conversations/{conversation.pk}/")
    page.locator("[data-thread]").evaluate("thread => thread.scrollTop = 0")
    first = page.get_by_text("nº 40", exact=True)
    top = first.bounding_box()

    page.get_by_role("button", name="Older messages").click()

    expect(page.locator("article")).to_have_count(80)
    expect(first).to_be_in_viewport()
    now = first.bounding_box()
    assert top
    assert now
    assert abs(now["y"] - top["y"]) < 60
    labels = page.locator(".day").all_inner_texts()
    assert len(labels) == len(set(labels))


def test_enter_sends_and_shift_enter_inserts_a_line_break(opened: Page) -> None:
    box = opened.get_by_role("textbox", name="Message")
    box.press_sequentially("uma")
    box.press("Shift+Enter")
    box.press_sequentially("duas")
    box.press("Enter")

    expect(opened.locator("article .bubble-text").last).to_contain_text("uma")
    expect(box).to_have_value("")
    expect(box).to_be_focused()
    assert Message.objects.get(text__startswith="uma").text == "uma\nduas"


SENDS = re.compile(r"/conversations/\d+/$")


def press_enter_and_lose_the_response(page: Page, text: str) -> None:
    """Send a message that the server stores, but lose the response."""

    def lose_the_response(route: Any) -> None:
        route.fetch()
        route.abort()

    page.route(SENDS, lose_the_response, times=1)
    box = page.get_by_role("textbox", name="Message")
    box.fill(text)
    box.press("Enter")
    expect(page.get_by_text("The server is unavailable.")).to_be_visible()
    expect(box).to_have_value(text)


def test_a_send_without_a_response_keeps_the_text_and_is_not_repeated(opened: Page) -> None:
    press_enter_and_lose_the_response(opened, "Seu pedido saiu")

    box = opened.get_by_role("textbox", name="Message")
    box.press("Enter")
    expect(box).to_have_value("")
    assert Message.objects.filter(text="Seu pedido saiu").count() == 1


@pytest.fixture
def uploads(opened: Page, settings: Any, tmp_path: Path) -> list[str]:
    """The list of the page's uploads, filled as they happen."""
    settings.MEDIA_ROOT = tmp_path
    asked: list[str] = []
    opened.on("request", lambda r: asked.append(r.url) if r.url.endswith("/api/media/") else None)
    return asked


def choose(page: Page, name: str, data: bytes) -> None:
    file: Any = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
    page.locator("[data-file-input]").set_input_files(file)
    expect(page.locator("[data-files] li").last).to_contain_text(name)


def sent_by_composer() -> list[tuple[str, str]]:
    sent = Message.objects.exclude(text__startswith="nº").order_by("created_at")
    return [(m.type, m.text or m.content.get("caption", "")) for m in sent]


def test_a_file_whose_send_had_no_response_is_not_uploaded_or_sent_twice(
    opened: Page, uploads: list[str]
) -> None:
    choose(opened, "a.png", files.PNG)
    press_enter_and_lose_the_response(opened, "Olha")
    assert sent_by_composer() == [("image", "Olha")]

    choose(opened, "b.png", files.PNG)
    opened.get_by_role("textbox", name="Message").press("Enter")

    expect(opened.locator("[data-files] li")).to_have_count(0)
    assert sent_by_composer() == [("image", "Olha"), ("image", "")]
    assert len(uploads) == 2


def test_a_text_that_is_not_a_caption_may_change_before_the_file_is_retried(
    opened: Page, uploads: list[str]
) -> None:
    choose(opened, "a.ogg", files.OPUS)
    press_enter_and_lose_the_response(opened, "Ouve")
    assert sent_by_composer() == [("audio", "")]

    box = opened.get_by_role("textbox", name="Message")
    box.press_sequentially(" só")
    box.press("Enter")

    expect(opened.locator("article .bubble-text").last).to_have_text("Ouve só")
    expect(box).to_have_value("")
    assert sent_by_composer() == [("audio", ""), ("text", "Ouve só")]
    assert len(uploads) == 1


def test_a_text_without_its_removed_file_is_another_message(
    opened: Page, uploads: list[str]
) -> None:
    choose(opened, "a.png", files.PNG)
    press_enter_and_lose_the_response(opened, "Olha")

    opened.get_by_role("button", name="Remove a.png").click()
    box = opened.get_by_role("textbox", name="Message")
    box.press("Enter")

    expect(box).to_have_value("")
    assert sent_by_composer() == [("image", "Olha"), ("text", "Olha")]


def test_a_file_added_to_a_text_without_a_response_is_another_message(
    opened: Page, uploads: list[str]
) -> None:
    press_enter_and_lose_the_response(opened, "Olha")

    choose(opened, "a.png", files.PNG)
    opened.get_by_role("textbox", name="Message").press("Enter")

    expect(opened.locator("[data-files] li")).to_have_count(0)
    assert sent_by_composer() == [("text", "Olha"), ("image", "Olha")]


def test_a_file_that_is_too_large_does_not_affect_a_text_without_a_response(
    opened: Page, uploads: list[str]
) -> None:
    press_enter_and_lose_the_response(opened, "Olha")
    opened.get_by_role("textbox", name="Message").evaluate(
        """field => {
          const file = new File([], "filme.mp4");
          Object.defineProperty(file, "size", {value: 101 * 1024 * 1024});
          const event = new ClipboardEvent("paste", {cancelable: true});
          Object.defineProperty(event, "clipboardData", {value: {files: [file]}});
          field.dispatchEvent(event);
        }"""
    )
    expect(opened.locator("#composer-error")).to_contain_text("filme.mp4")
    box = opened.get_by_role("textbox", name="Message")
    box.press("Enter")

    expect(box).to_have_value("")
    assert sent_by_composer() == [("text", "Olha")]


def test_a_rejected_file_is_uploaded_again(opened: Page, uploads: list[str]) -> None:
    Channel.objects.update(active=False)
    choose(opened, "a.png", files.PNG)
    box = opened.get_by_role("textbox", name="Message")
    box.press("Enter")
    expect(opened.get_by_text("This channel is not active.")).to_be_visible()

    Media.objects.all().delete()  # deleted as an orphan
    Channel.objects.update(active=True)
    box.press("Enter")

    expect(opened.locator("[data-files] li")).to_have_count(0)
    assert sent_by_composer() == [("image", "")]
    assert len(uploads) == 2


def drag(page: Page, kind: str, name: str = "", size: int = 0) -> None:
    """Drag a file over the thread, and drop it or leave."""
    page.locator("[data-thread]").evaluate(
        """(thread, [kind, name, data, size]) => {
          const dataTransfer = new DataTransfer();
          const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
          const file = new File([bytes, new Uint8Array(size)], name, {type: "image/png"});
          dataTransfer.items.add(file);
          const options = {bubbles: true, cancelable: true, dataTransfer};
          thread.dispatchEvent(new DragEvent(kind, options));
        }""",
        [kind, name, base64.b64encode(files.PNG).decode(), size],
    )


def test_a_dropped_file_shows_its_upload_progress_and_is_sent(
    opened: Page, uploads: list[str]
) -> None:
    chat = opened.locator("main")
    drag(opened, "dragover")
    expect(chat).to_have_class(re.compile("is-dropping"))
    drag(opened, "dragleave")
    expect(chat).not_to_have_class(re.compile("is-dropping"))
    drag(opened, "dragover")
    drag(opened, "drop", "vitrine.png", 300_000)
    expect(chat).not_to_have_class(re.compile("is-dropping"))
    expect(opened.locator("[data-files] li")).to_contain_text("vitrine.png")
    bar = opened.locator("[data-files] progress")
    expect(bar).to_be_hidden()
    assert not uploads

    line = opened.context.new_cdp_session(opened)
    line.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 50_000},
    )
    opened.get_by_role("textbox", name="Message").press("Enter")
    expect(bar).to_be_visible()
    expect(bar).to_have_attribute("value", re.compile(r"^[1-9]\d?$"))
    expect(bar).to_have_accessible_name(re.compile(r"vitrine\.png.*\d"))
    expect(opened.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    line.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    expect(opened.locator("[data-files] li")).to_have_count(0)
    expect(opened.locator("article .file-name").last).to_contain_text("vitrine.png")
    assert sent_by_composer() == [("image", "")]


def test_an_error_is_shown_beside_the_text_which_is_preserved(opened: Page) -> None:
    Channel.objects.update(active=False)
    box = opened.get_by_role("textbox", name="Message")
    box.fill("Oi")
    opened.get_by_role("button", name="Send", exact=True).click()

    expect(opened.get_by_role("alert").get_by_text("This channel is not active.")).to_be_visible()
    expect(box).to_have_value("Oi")
    expect(box).to_be_focused()


def test_a_text_that_is_too_long_shows_its_length_and_is_not_sent(opened: Page) -> None:
    box = opened.get_by_role("textbox", name="Message")
    box.fill("x" * 3000)
    expect(opened.locator("[data-count]")).to_be_hidden()
    box.fill("x" * 4097)
    expect(opened.locator("[data-count]")).to_have_text("4097 / 4096")
    box.press("Enter")

    expect(opened.get_by_role("alert").get_by_text("At most 4096 characters.")).to_be_visible()
    expect(box).to_have_value("x" * 4097)
    assert not Message.objects.filter(text__startswith="x").exists()


def test_a_draft_survives_a_reload(opened: Page) -> None:
    opened.get_by_role("textbox", name="Message").fill("quase pronto")
    opened.reload()

    expect(opened.get_by_role("textbox", name="Message")).to_have_value("quase pronto")


def test_a_retry_needs_one_click_and_updates_the_bubble(
    page: Page, conversation: Conversation, make_message: MakeMessage
) -> None:
    make_message(conversation, status="rejected", decision="no_fallback")
    page.goto(f"/conversations/{conversation.pk}/")

    page.get_by_role("button", name="Try again").click()

    expect(page.get_by_role("button", name="Try again")).to_have_count(0)
    assert Message.objects.get().round == 2


def test_the_list_is_filtered_while_typing(
    page: Page, conversation: Conversation, make_conversation: Callable[..., Conversation]
) -> None:
    make_conversation(conversation.channel, "+5511999990001", "Bruno")
    page.goto("/conversations/")
    expect(page.locator("#list .row")).to_have_count(2)

    page.get_by_placeholder("Search people and messages").press_sequentially("brun", delay=20)

    expect(page.locator("#list .row")).to_have_count(1)
    expect(page.get_by_placeholder("Search people and messages")).to_be_focused()
    expect(page).to_have_url(re.compile("search=brun"))


def test_a_row_with_new_activity_moves_up(
    page: Page,
    sockets: Sockets,
    conversation: Conversation,
    make_conversation: Callable[..., Conversation],
) -> None:
    Conversation.objects.update(last_message_at=timezone.now() - dt.timedelta(hours=1))
    make_conversation(conversation.channel, "+5511999990001", "Bruno")
    page.goto("/conversations/")
    expect(page.locator(".row-title").first).to_have_text("Bruno")

    Conversation.objects.filter(pk=conversation.pk).update(
        last_message_at=timezone.now() + dt.timedelta(seconds=5), unread_count=1
    )
    [row] = selectors.with_latest(list(selectors.conversation_list(search="Mariana")))
    html = render_to_string("messaging/_conversation_row.html", {"conversation": row})
    frame = {"kind": "conversation", "version": 1, "html": html}
    sockets.opened[-1].send(json.dumps(frame))

    expect(page.locator(".row-title").first).to_have_text("Mariana Alves")
    expect(page.locator(".row")).to_have_count(2)


@pytest.mark.parametrize("path", ["/admin/", "/api/docs/"])
def test_third_party_pages_violate_no_policy(page: Page, path: str) -> None:
    """Browser errors fail every test with a page; test_usable covers our own pages."""
    answer = page.goto(path, wait_until="networkidle")
    assert answer
    assert answer.status == 200


class Wavoip:
    """A fake Wavoip page on another origin that records its requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []

    def application(self) -> web.Application:
        async def answer(request: web.Request) -> web.Response:
            if request.path == "/call":
                self.requests.append((str(request.rel_url), dict(request.headers)))
            return web.Response(text="<title>Wavoip</title>", content_type="text/html")

        app = web.Application()
        app.router.add_get("/{tail:.*}", answer)
        return app


@pytest.fixture
def wavoip(monkeypatch: pytest.MonkeyPatch, conversation: Conversation) -> Iterator[Wavoip]:
    """The fake Wavoip page, with a key for the conversation's channel."""
    Channel.objects.update(calls_api_key="wavoip-token")
    wavoip = Wavoip()
    with run_in_thread(wavoip.application()) as running:
        monkeypatch.setattr(
            "channels_app.wavoip.ORIGIN", running.url.replace("127.0.0.1", "localhost")
        )
        yield wavoip


def test_a_call_opens_in_its_own_small_window(
    page: Page, sockets: Sockets, conversation: Conversation, wavoip: Wavoip
) -> None:
    page.goto(f"/conversations/{conversation.pk}/")
    with page.expect_popup() as popup:
        page.get_by_role("button", name="Call through Wavoip").click()
    expect(popup.value).to_have_title("Wavoip")

    [(url, headers)] = wavoip.requests
    assert url.startswith("/call?token=wavoip-token&phone=5511")
    assert "Referer" not in headers
    assert popup.value.evaluate("window.opener") is None
    assert popup.value.evaluate("window.outerWidth") <= 600
    call = CallAttempt.objects.get()
    with translation.override("en"):
        html = render_to_string("messaging/_call.html", {"call": call})
    frame = {"kind": "call", "key": f"call:{call.pk}", "version": 1, "html": html}
    for _ in range(2):
        sockets.send(frame)
    expect(page.locator(".call-note")).to_have_count(1)
    expect(page.locator(".call-note")).to_be_in_viewport()
    expect(page.locator("[data-empty]")).to_have_count(0)


def test_an_incoming_call_is_announced_and_shown_and_its_note_is_updated(
    opened: Page, sockets: Sockets, conversation: Conversation
) -> None:
    Conversation.objects.update(unread_count=1)
    call = CallAttempt.objects.create(
        conversation=conversation,
        channel=conversation.channel,
        phone_number="+5511999990000",
        incoming=True,
        call_id="C1",
        status="ringing",
    )

    def frame(status: str, version: int) -> dict[str, Any]:
        call.status, call.version = status, version
        with translation.override("en"):
            html = render_to_string("messaging/_call.html", {"call": call})
        return {"kind": "call", "key": f"call:{call.pk}", "version": version, "html": html}

    with opened.expect_response(lambda answer: "/seen/" in answer.url):
        sockets.send(frame("ringing", 1))
    conversation.refresh_from_db()
    assert conversation.unread_count == 0
    note, announced = opened.locator(".call-note"), opened.locator("[data-announcer]")
    expect(announced).to_have_text("Call from Mariana Alves")
    expect(note).to_be_in_viewport()
    sockets.send(frame("missed", 2))
    expect(note).to_contain_text("Missed call from Mariana Alves")
    expect(announced).to_have_text("Missed call from Mariana Alves")
    sockets.send(frame("ringing", 1))
    sockets.send(frame("missed", 2))
    expect(note).to_have_count(1)
    expect(note).to_contain_text("Missed call from Mariana Alves")


def test_without_scripts_a_call_opens_in_a_new_tab(
    chromium: Browser,
    page: Page,
    live_server: LiveServer,
    conversation: Conversation,
    wavoip: Wavoip,
) -> None:
    context = chromium.new_context(base_url=live_server.url, java_script_enabled=False)
    context.add_cookies(page.context.cookies())  # type: ignore[arg-type]
    plain = context.new_page()
    plain.goto(f"/conversations/{conversation.pk}/")
    with context.expect_page() as tab:
        plain.get_by_role("button", name="Call through Wavoip").click()
    expect(tab.value).to_have_title("Wavoip")
    [(_, headers)] = wavoip.requests
    assert "Referer" not in headers
    assert CallAttempt.objects.count() == 1
    context.close()


def alerts_frame(*incidents: Incident) -> str:
    def listed(incident: Incident) -> dict[str, Any]:
        context = {"incident": incident, "headline": incident.reason, "may_open": True}
        html = render_to_string("messaging/_alarm.html", context)
        group = f"{incident.kind}:{incident.reason}"
        text = f"Oficial: {incident.reason}"
        return {"id": incident.pk, "text": text, "html": html, "group": group, "headline": text}

    with translation.override("en"):
        return json.dumps({"kind": "alarms", "alarms": list(map(listed, incidents))})


@pytest.mark.parametrize("path", ["/help/fallback/", "/instances/", "/admin/"])
def test_an_alert_is_shown_on_every_page_announced_once_and_removed_when_it_ends(
    page: Page, sockets: Sockets, channel: Channel, path: str
) -> None:
    now = timezone.now()
    first, second = (
        Incident.objects.create(
            connection=Connection.objects.stored(channel, provider),
            reason=reason,
            opened_at=now,
            last_drop_at=now,
        )
        for provider, reason in (("wwebjs", "unlinked <b>"), ("official", "refused"))
    )
    alarms = page.get_by_role("region", name="Alerts").locator("article")
    announced = page.get_by_role("alert").filter(has_text="Oficial: ")

    page.goto(path)
    expect(alarms).to_have_count(0)
    [socket] = sockets.opened
    socket.send(alerts_frame(first))
    expect(alarms).to_have_count(1)
    expect(alarms).to_contain_text("unlinked <b>")
    expect(announced).to_have_text("Oficial: unlinked <b>")

    # An alert raised while the connection is down is announced after the reconnect.
    sockets.greeting = [alerts_frame(first, second)]
    socket.close(code=1011)
    expect(alarms).to_have_count(2)
    expect(announced).to_have_text("Oficial: refused")

    page.get_by_role("button", name="Dismiss the alert for Oficial").first.click()
    expect(alarms).to_have_count(1)
    expect(page.get_by_role("button", name="Dismiss the alert for Oficial")).to_be_focused()

    # The next page shows the alert that was not dismissed without announcing it again.
    page.goto("/channels/")
    expect(alarms).to_have_count(1)
    expect(alarms).to_contain_text("refused")
    expect(announced).to_have_count(0)
    sockets.opened[-1].send(alerts_frame(first))
    expect(alarms).to_have_count(0)
