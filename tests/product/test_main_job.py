"""A message that the official API rejects still arrives, and every open page shows it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Page, expect

from bench.product import ROOT, Product, processes
from tests.product.conftest import Api

pytestmark = [pytest.mark.product]

# Records every icon that the bubble with this text shows, from its first rendering.
RECORD_ICONS = """
text => {
  window.seen = [];
  const look = () => {
    for (const bubble of document.querySelectorAll('article[data-message]')) {
      if (!bubble.textContent.includes(text)) continue;
      const icon = bubble.querySelector('[data-icon]')?.dataset.icon;
      if (icon && window.seen.at(-1) !== icon) window.seen.push(icon);
    }
  };
  new MutationObserver(look).observe(document.body,
    {childList: true, subtree: true, attributes: true});
  look();
}
"""


def open_conversation(page: Page, api: Api, number: str) -> None:
    """Open the conversation with a customer, like a click on its row."""
    conversation = api.send(number, "Bom dia!")["conversation"]
    page.goto(f"/conversations/{conversation}/")
    expect(page.locator("article[data-message]").last).to_contain_text("Bom dia!")


@contextlib.contextmanager
def paused_worker(product: Product) -> Iterator[None]:
    """Suspend the worker, so that a slow machine has time to render the clock."""
    [worker] = [process for name, process in processes(product) if name == "manage.py worker"]
    worker.suspend()
    try:
        yield
    finally:
        worker.resume()


@pytest.mark.browser
def test_one_click_on_send_shows_clock_then_x_then_globe_in_every_open_window(
    new_window: Callable[..., Page], api: Api, product: Product, slow_fallback: None
) -> None:
    subprocess.run(
        [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username", "colega",
         "--email", "colega@example.com"],
        cwd=ROOT, env={**product.environment, "DJANGO_SUPERUSER_PASSWORD": "uma-senha-longa"},
        check=True, capture_output=True,
    )  # fmt: skip
    mine, colleagues = new_window(), new_window("colega", "uma-senha-longa")
    open_conversation(mine, api, "+5511999990047")
    colleagues.goto(mine.url)
    text = f"Seu pedido saiu para entrega {os.getpid()}"
    for page in (mine, colleagues):
        page.evaluate(RECORD_ICONS, text)

    with paused_worker(product):
        mine.get_by_role("textbox").fill(text)
        mine.get_by_role("button", name="Enviar", exact=True).click()
        for page in (mine, colleagues):
            bubble = page.locator("article[data-message]", has_text=text)
            expect(bubble.locator('[data-icon="clock"]')).to_be_visible(timeout=20_000)

    for page in (mine, colleagues):
        bubble = page.locator("article[data-message]", has_text=text)
        expect(bubble.locator('[data-icon="globe"]')).to_be_visible(timeout=20_000)
        expect(bubble.locator("[data-icon]")).to_have_count(1)
        assert page.evaluate("window.seen") == ["clock", "rejected", "globe"]


def test_rest_reports_both_attempts_with_metas_code_and_text(api: Api) -> None:
    sent = api.send("+5511999990047", "Pelo REST", client_reference="pedido-17")
    assert (sent["status"], sent["icon"], sent["route"]) == ("queued", "clock", None)

    message = api.wait_for(sent, lambda message: message["icon"] == "globe")

    assert message["client_reference"] == "pedido-17"
    assert message["route"] == "wwebjs"
    assert message["error"]["code"] == "131047"
    first, second = message["attempts"]
    assert (first["route"], first["outcome"], first["error_code"]) == (
        "official", "rejected", "131047",
    )  # fmt: skip
    assert "24 hours" in first["error_detail"]
    assert (second["route"], second["outcome"]) == ("wwebjs", "accepted")


def test_a_normal_message_gets_its_ticks_by_webhook(api: Api) -> None:
    sent = api.send("+5511999990000", "Com recibos")
    message = api.wait_for(sent, lambda message: message["status"] == "read")
    assert (message["icon"], message["route"]) == ("read", "official")


def test_a_late_failure_triggers_the_fallback_once(api: Api) -> None:
    sent = api.send("+5511999990067", "Falha tarde")
    message = api.wait_for(sent, lambda message: message["icon"] == "globe")
    assert [attempt["route"] for attempt in message["attempts"]] == ["official", "wwebjs"]


def test_an_opt_out_is_never_retried_on_the_fallback(api: Api) -> None:
    sent = api.send("+5511999990050", "Promoção")
    message = api.wait_for(sent, lambda message: message["decision"] == "never_fall_back")
    assert message["icon"] == "rejected"
    assert len(message["attempts"]) == 1


@pytest.mark.browser
def test_a_page_that_lost_its_connection_shows_it_and_catches_up(
    new_window: Callable[..., Page], api: Api
) -> None:
    page = new_window()
    open_conversation(page, api, "+5511988887777")
    number = "+5511988887777"
    page.context.set_offline(True)
    page.evaluate("window.dispatchEvent(new Event('offline'))")
    expect(page.get_by_text("Reconectando")).to_be_visible(timeout=20_000)
    api.send(number, "Enquanto a rede caiu")

    page.context.set_offline(False)

    missed = page.locator("article[data-message]", has_text="Enquanto a rede caiu")
    expect(missed).to_be_visible(timeout=20_000)
    expect(page.get_by_text("Reconectando")).to_be_hidden()


@pytest.mark.browser
def test_an_incoming_message_appears_without_a_reload(
    new_window: Callable[..., Page], api: Api, product: Product
) -> None:
    import requests

    page = new_window()
    open_conversation(page, api, "+5511977776666")
    requests.post(
        f"{product.graph}/_control/inbound",
        json={"from": "5511977776666", "text": "Olá, ainda tem vaga?", "name": "Cliente novo"},
        timeout=10,
    ).raise_for_status()
    expect(page.locator("article[data-message]", has_text="Olá, ainda tem vaga?")).to_be_visible(
        timeout=20_000
    )


@pytest.mark.browser
def test_two_people_see_each_other_and_what_the_other_one_does(
    new_window: Callable[..., Page], api: Api, product: Product
) -> None:
    product.manage(
        "shell", "-c",
        "from django.contrib.auth.models import User;"
        "User.objects.create_superuser('rita', password='uma-senha-longa', first_name='Rita')",
    )  # fmt: skip
    mine, hers = new_window(), new_window("rita", "uma-senha-longa")
    open_conversation(mine, api, "+5511999990048")
    hers.goto(mine.url)
    presence = mine.locator("[data-presence]")
    expect(presence).to_contain_text("Rita")
    hers.locator("[data-composer] textarea").fill("Vou ver")
    expect(presence).to_have_class("presence is-typing")

    mine.locator(".assign > summary").click()
    mine.locator("[data-people] [data-name=Rita]").click()
    for page in (mine, hers):
        expect(page.locator("summary.assign-button")).to_contain_text("Rita")

    mine.locator(".more > summary").click()
    mine.locator(".more-menu [data-note-toggle]").click()
    note = mine.locator("[data-note-form] textarea")
    expect(mine.locator("[data-composer]")).to_be_hidden()
    note.press_sequentially("Dê 5 %, @ri")
    expect(mine.locator("[data-note-people] [aria-selected=true]")).to_contain_text("Rita")
    note.press("Enter")
    note.press("Enter")
    for page in (mine, hers):
        expect(page.locator("article.note")).to_contain_text("Dê 5 %, @Rita")
        expect(page.locator(".panel-note")).to_contain_text("Dê 5 %, @Rita")
    # An answer of hers is shown to me, who is about to write one.
    mine.locator("[data-composer] textarea").fill("Claro, 5 %")
    hers.locator("[data-composer] textarea").press("Enter")
    expect(mine.locator("[data-answered]")).to_contain_text("Rita")

    hers.close()
    expect(presence).to_be_hidden()
    texts = [one["text"] for one in api.get("/api/messages/", page_size=100)["results"]]
    assert "Vou ver" in texts
    assert not [text for text in texts if "Dê 5 %" in text]
