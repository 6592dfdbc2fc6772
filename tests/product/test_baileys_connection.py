"""Staff make a Baileys channel from nothing, link a phone, fall back to it, and take it down."""

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

INSTANCE = "loja_nova"
LONG = 30_000


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """A product of its own: its fallback is another one afterwards."""
    with running() as product:
        yield product


@pytest.fixture(scope="module")
def api(product: Product) -> Api:
    return Api(product, {"Authorization": f"Token {product.token()}"})


def section(page: Page, name: str = "Loja") -> Locator:
    card = page.get_by_role("article", name=name, exact=True)
    return card.locator("section[data-baileys-state]")


def button(page: Page, name: str) -> Locator:
    return section(page).get_by_role("button", name=name, exact=True)


def expect_state(page: Page, state: str, name: str = "Loja") -> None:
    expect(section(page, name)).to_have_attribute("data-baileys-state", state, timeout=LONG)


def control(product: Product, door: str, **order: object) -> None:
    url = f"{product.evolution}/_control/{door}"
    requests.post(url, json=order, timeout=10).raise_for_status()


@pytest.mark.browser
def test_staff_create_link_fall_back_to_log_out_and_delete_an_instance(
    new_window: Callable[..., Page], api: Api, product: Product
) -> None:
    page, other = new_window(), new_window()

    # A new Baileys channel: what is typed is an address, a key and a name that is not there yet.
    page.goto("/channels/")
    page.get_by_role("link", name="Novo canal").first.click()
    page.get_by_role("link", name=re.compile("Baileys")).click()
    page.get_by_label("Nome", exact=True).fill("Loja")
    page.get_by_label("URL da Evolution API").fill(product.evolution)
    page.get_by_label("Chave da Evolution API").fill(demo_settings.EVOLUTION_API_KEY)
    page.get_by_label("Nome da instância").fill(INSTANCE)
    page.get_by_role("button", name="Criar canal").click()
    expect_state(page, "disconnected")
    expect(page.get_by_text("Não use o fallback para envio em massa (spam)")).to_be_visible()

    # It is created and shows its code, which renews itself.
    button(page, "Criar instância e conectar").click()
    dialog = page.get_by_role("dialog")
    code = dialog.locator("svg.qr")
    expect(code).to_be_visible(timeout=LONG)
    expect(dialog.get_by_text(re.compile(r"Este código apareceu há \d+ segundo"))).to_be_visible()
    expect(page.locator(f'[data-session="{INSTANCE}"] [data-mode="webhook"]')).to_have_attribute(
        "data-active", "true", timeout=LONG
    )
    other.goto("/channels/")
    expect_state(other, "qr")
    first = code.inner_html()
    dialog.get_by_text("Conectar com o número de telefone").click()
    dialog.get_by_label("Número com código do país").fill("+55 11 95555-0000")
    dialog.get_by_role("button", name="Gerar código").click()
    expect(dialog.locator(".pairing-code")).to_be_visible(timeout=LONG)
    wait_until(lambda: code.inner_html() != first, bool, 15)

    control(product, "scan", instance=INSTANCE, number="5511955550000", name="Loja Centro")
    expect(dialog).to_be_hidden(timeout=LONG)
    expect(page.get_by_text("WhatsApp conectado.")).to_be_visible()
    for window in (page, other):
        expect_state(window, "ready")
        expect(section(window).get_by_text("+55 11 95555-0000")).to_be_visible()
        expect(section(window).get_by_text("Loja Centro")).to_be_visible()

    # Chosen as the fallback of the official channel, whose page says which number that is.
    page.goto(f"/channels/{api.channel}/")
    page.get_by_label("Habilitar API não oficial WWebJS").uncheck()
    page.get_by_label(re.compile("Conexão Baileys")).select_option(label="Loja")
    page.get_by_role("button", name="Salvar").click()
    official = str(api.get(f"/api/channels/{api.channel}/")["name"])
    fallback = section(page, official)
    expect(fallback).to_have_attribute("data-fallback-works", "true")
    expect(fallback.get_by_text("Outro número, não o do canal oficial")).to_be_visible()

    # Refused by the official API: the X, then the globe, sent by that instance.
    sent = api.send("+5511999990047", "Pelo Baileys")
    other.goto(f"/conversations/{sent['conversation']}/")
    bubble = other.locator("article[data-message]", has_text="Pelo Baileys")
    expect(bubble.locator('[data-icon="globe"]')).to_be_visible(timeout=LONG)
    told = api.wait_for(sent, lambda message: message["route"] == "baileys")
    assert [attempt["outcome"] for attempt in told["attempts"]][-1] == "accepted"

    # Logging out asks first, names whose fallback it is, and is seen on the official card.
    loja = next(row for row in api.get("/api/channels/") if row["name"] == "Loja")
    other.goto(f"/channels/{api.channel}/")
    page.goto(f"/channels/{loja['id']}/")
    button(page, "Desconectar").click()
    expect(dialog.get_by_text(official)).to_be_visible()
    dialog.get_by_role("button", name="Cancelar").click()
    expect_state(page, "ready")
    button(page, "Desconectar").click()
    dialog.get_by_role("button", name="Desconectar e desvincular o celular").click()
    expect_state(page, "disconnected")
    expect(dialog).to_be_hidden()
    expect(section(other, official)).to_have_attribute("data-fallback-works", "false", timeout=LONG)
    expect(other.get_by_text("O fallback não funcionaria agora:")).to_be_visible()

    # Deleting wants the name; another one deletes nothing.
    button(page, "Excluir instância").click()
    dialog.get_by_label(re.compile("para confirmar")).fill(INSTANCE)
    dialog.get_by_role("button", name="Excluir instância").click()
    expect(button(page, "Criar instância e conectar")).to_be_visible(timeout=LONG)
    gone = requests.get(
        f"{product.evolution}/instance/connectionState/{INSTANCE}",
        headers={"apikey": demo_settings.EVOLUTION_API_KEY},
        timeout=10,
    )
    assert gone.status_code == 404


@pytest.mark.browser
def test_a_drop_is_seen_on_the_cards_and_the_dashboard_and_heals(
    new_window: Callable[..., Page], product: Product
) -> None:
    page, dashboard = new_window(), new_window()
    # A page that is about something else.
    dashboard.goto("/help/fallback/")
    alarm = dashboard.get_by_role("region", name="Alarmes").locator("article")
    expect(alarm).to_have_count(0)
    page.goto("/instances/" + demo_settings.INSTANCE + "/")
    own = page.locator("section[data-baileys-state]")
    expect(own).to_have_attribute("data-baileys-state", "ready", timeout=LONG)

    control(product, "drop", instance=demo_settings.INSTANCE, code=401)

    expect(own).to_have_attribute("data-baileys-state", "disconnected", timeout=LONG)
    expect(own.get_by_text("Última queda")).to_be_visible()
    expect(alarm).to_contain_text("Baileys", timeout=LONG)
    dashboard.goto("/")
    expect(dashboard.locator('[data-alarm="baileys"]')).to_be_visible(timeout=LONG)
    dashboard.goto("/help/fallback/")
    expect(alarm).to_have_count(1)
    own.get_by_role("button", name="Conectar", exact=True).click()
    expect(page.locator("svg.qr")).to_be_visible(timeout=LONG)
    control(product, "scan", instance=demo_settings.INSTANCE)
    expect(own).to_have_attribute("data-baileys-state", "ready", timeout=LONG)
    expect(alarm).to_have_count(0, timeout=LONG)
