"""Staff connect the wwebjs fallback from the channel page, with a phone that scans the code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from bench.product import Product, running
from messaging import demo_settings
from tests.product.conftest import Api, wait_until

pytestmark = [pytest.mark.product]


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """A product of its own: its fallback is down for most of the time."""
    with running() as product:
        yield product


@pytest.fixture(scope="module")
def api(product: Product) -> Api:
    return Api(product, {"Authorization": f"Token {product.token()}"})


def card(page: Page) -> Locator:
    return page.get_by_role("article", name="Oficial")


def button(page: Page, name: str) -> Locator:
    return card(page).get_by_role("button", name=name, exact=True)


def steer(product: Product, action: str) -> None:
    url = f"{product.wwebjs}/_control/sessions/{demo_settings.WWEBJS_SESSION}"
    requests.post(url, json={"action": action}, timeout=10).raise_for_status()


def expect_state(page: Page, state: str) -> None:
    expect(card(page)).to_have_attribute("data-wwebjs-state", state, timeout=30_000)


@pytest.mark.browser
def test_staff_disconnect_connect_scan_and_the_fallback_works(
    new_window: Callable[..., Page], api: Api, product: Product
) -> None:
    page, other = new_window(), new_window()
    page.goto(f"/channels/{api.channel}/")
    other.goto("/channels/")
    expect_state(page, "ready")

    # Disconnecting asks first; nothing happens on second thoughts.
    button(page, "Desconectar wwebjs").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("O celular será desvinculado")).to_be_visible()
    expect(dialog.get_by_role("button", name="Só parar, manter vinculado")).to_be_visible()
    dialog.get_by_role("button", name="Cancelar").click()
    expect(dialog).to_be_hidden()
    expect_state(page, "ready")
    button(page, "Desconectar wwebjs").click()
    dialog.get_by_role("button", name="Desconectar e desvincular o celular").click()
    for window in (page, other):
        expect_state(window, "disconnected")
        expect(button(window, "Conectar")).to_be_visible()

    button(page, "Conectar").click()
    for window in (page, other):
        expect(button(window, "Exibir QR")).to_be_visible(timeout=30_000)
    button(page, "Exibir QR").click()
    code = dialog.locator("svg.qr")
    expect(code).to_be_visible(timeout=30_000)
    expect(dialog.get_by_text(re.compile(r"Este código apareceu há \d+ segundo"))).to_be_visible()

    # It renews itself, and what is typed beside it stays.
    dialog.get_by_text("Conectar com o número de telefone").click()
    dialog.get_by_label("Número com código do país").fill("+5511")
    first = code.inner_html()
    steer(product, "rotate_qr")
    wait_until(lambda: code.inner_html() != first, bool, 15)
    expect(dialog.get_by_label("Número com código do país")).to_have_value("+5511")

    steer(product, "scan")
    expect(dialog).to_be_hidden(timeout=30_000)
    expect(page.get_by_text("WhatsApp conectado: o fallback está pronto.")).to_be_visible()
    for window in (page, other):
        expect_state(window, "ready")
        expect(button(window, "Desconectar wwebjs")).to_be_visible()

    sent = api.send("+5511999990047", "Depois de escanear")
    other.goto(f"/conversations/{sent['conversation']}/")
    bubble = other.locator("article[data-message]", has_text="Depois de escanear")
    expect(bubble.locator('[data-icon="globe"]')).to_be_visible(timeout=30_000)

    # Stopped only, the phone stays linked: connecting takes no code.
    button(page, "Desconectar wwebjs").click()
    dialog.get_by_role("button", name="Só parar, manter vinculado").click()
    expect_state(page, "disconnected")
    button(page, "Conectar").click()
    expect_state(page, "ready")
