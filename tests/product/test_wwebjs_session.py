"""Staff connect the wwebjs fallback from the channel page by scanning a QR code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from bench.product import Product, running
from messaging import demo_settings
from tests.product.conftest import Api, wait_until
from tests.product.prepared import prepared_data

pytestmark = [pytest.mark.product]


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """A separate product, because its fallback is down most of the time."""
    with running(prepared_data()) as product:
        yield product


@pytest.fixture(scope="module")
def api(product: Product) -> Api:
    return Api(product, {"Authorization": f"Token {product.token()}"})


def card(page: Page, channel: str = "Oficial") -> Locator:
    return page.get_by_role("article", name=channel)


def button(page: Page, name: str, channel: str = "Oficial") -> Locator:
    return card(page, channel).get_by_role("button", name=name, exact=True)


def control(product: Product, action: str, session: str = demo_settings.WWEBJS_SESSION) -> None:
    url = f"{product.wwebjs}/_control/sessions/{session}"
    requests.post(url, json={"action": action}, timeout=10).raise_for_status()


def expect_state(page: Page, state: str, channel: str = "Oficial") -> None:
    expect(card(page, channel)).to_have_attribute("data-wwebjs-state", state, timeout=30_000)


@pytest.mark.browser
@pytest.mark.usefixtures("slow_fallback")
def test_a_channel_saved_from_scratch_is_connected_and_its_rejection_becomes_a_globe(
    new_window: Callable[..., Page], product: Product
) -> None:
    name, session = "Clínica nova", "clinica-nova"
    number = {"phone_number_id": "209988776655443", "token": "nova-token", "app_secret": "s3"}
    url = f"{product.graph}/_control/numbers"
    requests.post(url, json=number, timeout=10).raise_for_status()
    page = new_window()

    page.goto("/channels/")
    page.get_by_role("link", name="Novo canal").click()
    page.get_by_label("Nome", exact=True).fill(name)
    page.fill("[name=phone_number_id]", number["phone_number_id"])
    page.fill("[name=access_token]", number["token"])
    page.fill("[name=app_secret]", number["app_secret"])
    page.fill("[name=graph_url]", product.graph)
    page.get_by_label("Habilitar API não oficial WWebJS").check()
    page.get_by_label("URL da API WWebJS").fill(product.wwebjs)
    page.get_by_label("API_KEY da API WWebJS").fill("not-the-key")
    page.fill("[name=wwebjs_session_id]", session)
    page.get_by_role("button", name="Criar canal").click()
    page.wait_for_url(re.compile(r"/channels/\d+/$"))

    # A wrong key is reported at its field and can be corrected there.
    expect_state(page, "error", name)
    expect(card(page, name).locator(".wwebjs-problem")).to_contain_text("API_KEY da API WWebJS")
    key_field = page.locator(".field", has=page.locator("#id_wwebjs_api_key"))
    expect(key_field.locator(".field-problem")).to_have_count(1)
    expect(button(page, "Conectar", name)).to_have_count(0)
    expect(card(page, name).get_by_text("Indisponível")).to_be_visible(timeout=30_000)
    page.get_by_label("API_KEY da API WWebJS").fill(demo_settings.WWEBJS_API_KEY)
    page.get_by_role("button", name="Salvar").click()
    expect(page.get_by_text("Canal salvo.")).to_be_visible(timeout=30_000)

    # From here on the page is not reloaded: all changes appear automatically.
    page.evaluate("window.untouched = true")
    expect(button(page, "Conectar", name)).to_be_visible(timeout=30_000)
    expect(page.locator(".field-problem")).to_have_count(0)
    button(page, "Conectar", name).click()
    button(page, "Exibir QR", name).click(timeout=30_000)
    dialog = page.get_by_role("dialog")
    expect(dialog.locator("svg.qr")).to_be_visible(timeout=30_000)
    control(product, "scan", session)
    expect(dialog).to_be_hidden(timeout=30_000)
    # The phone's number differs from the channel's, so a person must confirm it.
    expect_state(page, "error", name)
    expect(card(page, name).get_by_text("Indisponível")).to_be_visible(timeout=30_000)
    button(page, "+55 11 90000-0002 está correto", name).click(timeout=30_000)
    expect_state(page, "ready", name)
    expect(button(page, "Desconectar wwebjs", name)).to_be_visible()
    expect(card(page, name).get_by_text("Indisponível")).to_have_count(0)
    assert page.evaluate("window.untouched") is True

    chat = new_window()
    # The page of a new conversation opens while its message is already being sent.
    fallback = f"{product.wwebjs}/_control/settings"
    requests.post(fallback, json={"send_seconds": 5.0}, timeout=10).raise_for_status()
    chat.goto("/conversations/new/")
    chat.get_by_label("Canal").select_option(name)
    chat.get_by_label("Número de telefone").fill("+55 11 99999-0047")
    chat.get_by_label("Mensagem", exact=True).fill("Da clínica nova")
    chat.get_by_role("button", name="Enviar", exact=True).click()
    bubble = chat.locator("article[data-message]", has_text="Da clínica nova")
    expect(bubble.locator('[data-icon="rejected"]')).to_be_visible(timeout=30_000)
    expect(bubble.locator('[data-icon="globe"]')).to_be_visible(timeout=30_000)

    # A second rejection after the phone unlinked the session: the message waits or fails and shows
    # the reason. Every open page shows the alert.
    control(product, "unlink", session)
    chat.get_by_label("Mensagem", exact=True).fill("Sem sessão")
    chat.get_by_role("button", name="Enviar", exact=True).click()
    second = chat.locator("article[data-message]", has_text="Sem sessão")
    expect(second.locator(".message-reason").first).to_be_visible(timeout=30_000)
    alert = chat.get_by_role("region", name="Alertas").locator("article")
    expect(alert.filter(has_text=f"{name} · wwebjs")).to_be_visible(timeout=30_000)
    expect(card(page, name).get_by_text("Última queda")).to_be_visible(timeout=30_000)
    button(page, "Desconectar wwebjs", name).click()
    dialog.get_by_role("button", name="Desconectar e desvincular o celular").click()
    expect_state(page, "disconnected", name)
    expect(button(page, "Conectar", name)).to_be_visible(timeout=30_000)
    assert page.evaluate("window.untouched") is True


@pytest.mark.browser
def test_staff_disconnect_connect_scan_and_the_fallback_works(
    new_window: Callable[..., Page], api: Api, product: Product
) -> None:
    page, other = new_window(), new_window()
    page.goto(f"/channels/{api.channel}/")
    other.goto("/channels/")
    expect_state(page, "ready")

    # Disconnecting asks for confirmation; canceling changes nothing.
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

    # The code is renewed automatically, without changing the typed text.
    dialog.get_by_text("Conectar com o número de telefone").click()
    dialog.get_by_label("Número com código do país").fill("+5511")
    first = code.inner_html()
    control(product, "rotate_qr")
    wait_until(lambda: code.inner_html() != first, bool, 15)
    expect(dialog.get_by_label("Número com código do país")).to_have_value("+5511")

    control(product, "scan")
    expect(dialog).to_be_hidden(timeout=30_000)
    expect(page.get_by_text("WhatsApp conectado: o fallback está pronto.")).to_be_visible()
    for window in (page, other):
        expect_state(window, "ready")
        expect(button(window, "Desconectar wwebjs")).to_be_visible()

    sent = api.send("+5511999990047", "Depois de escanear")
    other.goto(f"/conversations/{sent['conversation']}/")
    bubble = other.locator("article[data-message]", has_text="Depois de escanear")
    expect(bubble.locator('[data-icon="globe"]')).to_be_visible(timeout=30_000)

    # If the session is only stopped, the phone stays linked and connecting needs no code.
    button(page, "Desconectar wwebjs").click()
    dialog.get_by_role("button", name="Só parar, manter vinculado").click()
    expect_state(page, "disconnected")
    button(page, "Conectar").click()
    expect_state(page, "ready")
