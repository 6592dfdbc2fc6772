"""Staff switch an instance between webhook and WebSocket with one click."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
import requests
from playwright.sync_api import Locator, Page, expect

from bench.product import Product
from messaging import demo_settings
from tests.product.conftest import Api, wait_until

pytestmark = [pytest.mark.product]

NAME = demo_settings.INSTANCE


def card(page: Page, name: str = NAME) -> Locator:
    return page.locator(f'[data-session="{name}"]')


def button(page: Page, mode: str, name: str = NAME) -> Locator:
    return card(page, name).locator(f'[data-mode="{mode}"] button')


def last_switch(page: Page) -> Locator:
    """The newest row of the switch history on the instance's page."""
    return page.locator('[data-live^="history:"] tbody tr').first


def expect_active(page: Page, mode: str) -> None:
    for name in ("webhook", "websocket"):
        row = card(page).locator(f'[data-mode="{name}"]')
        expect(row).to_have_attribute("data-active", str(name == mode).lower(), timeout=30_000)
        expect(row.get_by_text("Ativo", exact=True)).to_have_count(int(name == mode))
        expect(row.locator("button")).to_have_count(1)
        expect(row.locator("button")).to_have_text("Desativar" if name == mode else "Ativar")


def write(product: Product, text: str) -> None:
    """Send a customer's message to the simulated instance."""
    body = {
        "instance": NAME,
        "kind": "text",
        "from": "5511944440001",
        "text": text,
        "id": uuid.uuid4().hex[:20].upper(),
    }
    requests.post(f"{product.evolution}/_control/inbound", json=body, timeout=10).raise_for_status()


def received(api: Api, text: str) -> int:
    messages = api.get("/api/messages/", direction="in", page_size=200)["results"]
    return sum(message["text"] == text for message in messages)


@pytest.mark.browser
def test_one_click_switches_live_in_every_window_without_lost_or_duplicate_messages(
    new_window: Callable[..., Page], api: Api, product: Product
) -> None:
    mine, other = new_window(), new_window()
    mine.goto("/instances/")
    other.goto(f"/instances/{NAME}/")
    for page in (mine, other):
        expect_active(page, "webhook")

    # Evolution opens a namespace with the instance's first event; the switch is pending until then.
    button(mine, "websocket").click()
    for page in (mine, other):
        expect(card(page).get_by_text("Aguardando a Evolution abrir o socket")).to_be_visible(
            timeout=30_000
        )
        expect(button(page, "websocket")).to_be_disabled()
    expect(last_switch(other)).to_contain_text("Webhook → WebSocket")
    expect(last_switch(other)).to_contain_text("em andamento")
    expect_active(mine, "webhook")
    write(product, "abre o socket")
    for page in (mine, other):
        expect_active(page, "websocket")
    expect(last_switch(other)).to_contain_text("concluída")
    write(product, "pelo socket")
    wait_until(lambda: received(api, "pelo socket"), bool)

    # Disabling one mode enables the other, after a confirmation.
    mine.once("dialog", lambda dialog: dialog.dismiss())
    button(mine, "websocket").click()
    expect_active(mine, "websocket")
    other.once("dialog", lambda dialog: dialog.accept())
    button(other, "websocket").click()
    for page in (mine, other):
        expect_active(page, "webhook")
    done = other.get_by_text("Webhook ativado com sucesso. WebSocket foi desativado.")
    expect(done).to_be_visible()
    write(product, "pelo webhook")
    wait_until(lambda: received(api, "pelo webhook"), bool)

    state = api.get(f"/api/instance-management/connection-state/{NAME}")
    assert state["inSync"] is True
    assert (state["webhookEnabled"], state["websocketEnabled"]) == (True, False)
    for text in ("abre o socket", "pelo socket", "pelo webhook"):
        assert received(api, text) == 1


@pytest.mark.browser
def test_a_change_in_evolutions_manager_is_shown_and_one_click_reverts_it(
    new_window: Callable[..., Page], product: Product
) -> None:
    page = new_window()
    page.goto(f"/instances/{NAME}/")
    expect_active(page, "webhook")
    requests.post(
        f"{product.evolution}/webhook/set/{NAME}",
        json={"webhook": {"enabled": False, "url": "", "events": []}},
        headers={"apikey": demo_settings.EVOLUTION_API_KEY},
        timeout=10,
    ).raise_for_status()

    card(page).get_by_role("button", name="Conferir agora").click()
    expect(card(page).get_by_text("Fora de sincronia")).to_be_visible()
    card(page).get_by_role("button", name="Aplicar esta configuração na Evolution").click()

    expect(card(page).get_by_text("Fora de sincronia")).to_have_count(0, timeout=30_000)
    expect_active(page, "webhook")


@pytest.mark.browser
def test_an_instance_without_a_mode_warns_until_its_first_configuration(
    new_window: Callable[..., Page], api: Api, product: Product
) -> None:
    name = f"nova_{uuid.uuid4().hex[:8]}"
    key = {"apikey": demo_settings.EVOLUTION_API_KEY}
    body = {"instanceName": name, "integration": "WHATSAPP-BAILEYS"}
    create_url = f"{product.evolution}/instance/create"
    requests.post(create_url, json=body, headers=key, timeout=10).raise_for_status()
    fields = {
        "name": name,
        "kind": "baileys",
        "evolution_url": product.evolution,
        "evolution_api_key": demo_settings.EVOLUTION_API_KEY,
        "instance_name": name,
    }
    address = f"{product.url}/api/channels/"
    requests.post(address, json=fields, headers=api.headers, timeout=20).raise_for_status()
    page, other = new_window(), new_window()
    page.goto("/instances/")
    other.goto(f"/instances/{name}/")
    for window in (page, other):
        expect(
            card(window, name).get_by_text("Nenhum modo ativo - mensagens não serão recebidas!")
        ).to_be_visible()
        expect(card(window, name).get_by_text("Ativo", exact=True)).to_have_count(0)

    # The click also submits the checkbox.
    card(page, name).get_by_label("Receber mídias em Base64").uncheck()
    button(page, "webhook", name).click()

    for window in (page, other):
        row = card(window, name).locator('[data-mode="webhook"]')
        expect(row).to_have_attribute("data-active", "true", timeout=30_000)
        expect(row.get_by_text("Ativo", exact=True)).to_be_visible()
        expect(card(window, name).get_by_text("Nenhum modo ativo")).to_have_count(0)
        expect(card(window, name).get_by_label("Receber mídias em Base64")).not_to_be_checked()
    find_url = f"{product.evolution}/webhook/find/{name}"
    webhook = requests.get(find_url, headers=key, timeout=10).json()
    assert (webhook["enabled"], webhook["webhookBase64"]) == (True, False)
    state = api.get(f"/api/instance-management/connection-state/{name}")
    assert (state["webhookEnabled"], state["inSync"]) == (True, True)
    assert state["webhookConfig"]["webhook_base64"] is False
