"""Every page on a phone, with a keyboard only, and in dark mode."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from channels_app.models import Channel
from messaging.models import Conversation, Message
from tests.pages.conftest import NO_CHROMIUM

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), NO_CHROMIUM]

AUDIT = (Path(__file__).parent / "audit.js").read_text()
# The pages of Django and Swagger are not audited.
FOREIGN = ("/admin/", "/api/")
LONG_NAME = "Wolfeschlegelsteinhausenbergerdorff Maria Antônia de Albuquerque"
LONG_CHANNEL = "Atendimento e cobrança da unidade de São José do Rio Preto (plantão 24 horas)"


@pytest.fixture
def crowded(
    channel: Channel,
    make_conversation: Callable[..., Conversation],
    make_message: Callable[..., Message],
) -> Conversation:
    """An installation with much data: long names and words, all icons, lists of several pages."""
    Channel.objects.filter(pk=channel.pk).update(name=LONG_CHANNEL)
    for number in range(55):
        make_conversation(channel, f"+55119{number:08d}", name="" if number % 2 else "Zé")
    conversation = make_conversation(channel, "+5511966660000", name=LONG_NAME)
    make_message(conversation, direction="in", text="palavra" * 60, minutes_ago=60 * 24)
    for status, route in [
        ("queued", None), ("sent", "official"), ("delivered", "official"), ("read", "official"),
        ("sent", "wwebjs"), ("read", "wwebjs"),
    ]:  # fmt: skip
        make_message(conversation, status=status, route=route, text="https://a.br/" + "x" * 80)
    refused = {"error_code": "131050", "outcome": "rejected", "rule": "first"}
    make_message(
        conversation, status="rejected", decision="never_fall_back", error_code="131050",
        attempts=[refused],
    )  # fmt: skip
    silent = {"error_code": "timeout", "outcome": "unknown", "rule": "first", "finished_at": None}
    for _ in range(21):
        make_message(
            conversation, status="unconfirmed", decision="held", error_code="timeout",
            attempts=[silent],
        )  # fmt: skip
    return conversation


def kind_of(path: str) -> str:
    """Return the path without ids: one page of each kind is audited."""
    return re.sub(r"/(\d+|[0-9a-f-]{36})(?=/)", "/#", path)


def walk(page: Page, starts: list[str], look: Callable[[str], None]) -> set[str]:
    """Open every kind of page reachable by links from the first ones; return the kinds."""
    seen, waiting = set(), list(starts)
    while waiting:
        path = waiting.pop(0)
        if kind_of(path) in seen:
            continue
        seen.add(kind_of(path))
        answer = page.goto(path)
        assert answer, path
        assert answer.status == 200, path
        look(path)
        links = page.eval_on_selector_all("a[href]", "links => links.map(link => link.href)")
        for link in links:
            parts = urlsplit(link)
            if page.url.startswith(f"{parts.scheme}://{parts.netloc}/") and not (
                parts.path.startswith(FOREIGN)
            ):
                waiting.append(parts.path)
    return seen


@pytest.mark.parametrize("language", ["en", "pt-br"])
def test_every_page_is_readable_in_every_size_and_color_scheme(
    page: Page, crowded: Conversation, language: str
) -> None:
    [cookie] = [c for c in page.context.cookies() if c["name"] == "django_language"]
    cookie["value"] = language
    page.context.add_cookies([cookie])  # type: ignore[list-item]
    faults: list[str] = []
    views = [(360, "light"), (1280, "dark")]
    if language == "pt-br":  # the language changes the texts, not the colors
        views += [(360, "dark"), (1280, "light")]

    def look(path: str) -> None:
        for width, scheme in views:
            page.set_viewport_size({"width": width, "height": 740})
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            faults.extend(f"{path} {width} {scheme}: {fault}" for fault in page.evaluate(AUDIT))

    seen = walk(page, [f"/conversations/{crowded.pk}/", "/"], look)

    assert "\n".join(map(str, faults)) == ""
    assert seen >= {
        "/", "/conversations/", "/conversations/new/", "/conversations/#/", "/messages/#/",
        "/messages/held/", "/help/errors/", "/channels/", "/channels/new/", "/channels/#/",
        "/channels/#/delete/", "/instances/",
    }  # fmt: skip


@pytest.mark.parametrize("width", [360, 1280])
def test_the_pages_without_the_frame_are_readable(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    for path in ("/nowhere/", "/accounts/login/"):
        page.goto(path)
        if path == "/accounts/login/":
            page.context.clear_cookies()
            page.goto(path)
        assert page.evaluate(AUDIT) == []


def test_an_empty_installation_passes_the_audit(page: Page) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    faults: list[Any] = []
    walk(page, ["/"], lambda path: faults.extend((path, it) for it in page.evaluate(AUDIT)))
    assert "\n".join(map(str, faults)) == ""


FOCUSED = """() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  return {
    name: (element.labels?.[0] ?? element).textContent.trim().replace(/\\s+/g, " "),
    outlined: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    inside: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
}"""


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["dashboard", "conversations", "new", "held"])
def test_the_focus_moves_through_the_page_and_is_always_visible(
    page: Page, crowded: Conversation, name: str, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    page.goto(reverse(f"messaging:{name}"))
    names = []
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break  # past the last one
        focused = page.evaluate(FOCUSED)
        names.append(focused["name"])
        assert focused["outlined"], names
        assert focused["inside"], (names, focused)
    assert names[0] == "Skip to content"
    assert "Channels" in names


def test_the_skip_link_skips_the_menu(page: Page, crowded: Conversation) -> None:
    page.goto("/conversations/")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED)["name"] == "New message"


def test_escape_closes_the_menu_and_restores_the_focus(page: Page) -> None:
    page.goto("/")
    summary = page.locator(".user-menu summary")
    summary.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Log out")).to_be_hidden()
    expect(summary).to_be_focused()


def test_a_rejected_form_focuses_the_invalid_field(page: Page, channel: Channel) -> None:
    page.goto("/conversations/new/")
    page.get_by_label("Phone number").fill("123")
    page.get_by_label("Message").fill("Oi")
    page.get_by_label("Phone number").press("Enter")
    expect(page.get_by_text("not a valid phone number")).to_be_visible()
    expect(page.get_by_label("Phone number")).to_be_focused()
