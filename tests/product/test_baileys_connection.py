"""Staff create a Baileys channel, link a phone, use it as a fallback, and delete it."""

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

INSTANCE = "loja_nova"
LONG = 30_000


@pytest.fixture(scope="module")
def product() -> Iterator[Product]:
    """A separate product, because the tests change its fallback."""
    with running(prepared_data()) as product:
        quick = {"create_wait_seconds": 0.5, "connect_wait_seconds": 0.5, "qr_seconds": 4.0}
        product.set(product.evolution, **quick)
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


def control(product: Product, endpoint: str, **options: object) -> None:
    url = f"{product.evolution}/_control/{endpoint}"
    requests.post(url, json=options, timeout=10).raise_for_status()


@pytest.mark.browser
def test_staff_create_link_use_log_out_and_delete_an_instance(
    new_window: Callable[..., Page], api: Api, product: Product
) -> None:
    page, other = new_window(), new_window()

    # A new Baileys channel: an address, a key, and the name of an instance that does not exist.
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

    # The instance is created and shows its code, which is renewed automatically.
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

    # Choose it as the fallback of the official channel, whose page shows the fallback's number.
    page.goto(f"/channels/{api.channel}/")
    page.get_by_label("Habilitar API não oficial WWebJS").uncheck()
    page.get_by_label(re.compile("Conexão Baileys")).select_option(label="Loja")
    page.locator("select[name=previous_session]").first.select_option("keep")
    page.get_by_role("button", name="Salvar").click()
    official = str(api.get(f"/api/channels/{api.channel}/")["name"])
    fallback = section(page, official)
    expect(fallback).to_have_attribute("data-fallback-works", "true")
    expect(fallback.get_by_text("Número diferente do canal oficial")).to_be_visible()

    # The official API rejects a message: first the X, then the globe, sent by that instance.
    sent = api.send("+5511999990047", "Pelo Baileys")
    other.goto(f"/conversations/{sent['conversation']}/")
    bubble = other.locator("article[data-message]", has_text="Pelo Baileys")
    expect(bubble.locator('[data-icon="globe"]')).to_be_visible(timeout=LONG)
    message = api.wait_for(sent, lambda message: message["route"] == "baileys")
    assert [attempt["outcome"] for attempt in message["attempts"]][-1] == "accepted"

    # Logging out asks for confirmation, names the dependent channel, and shows on its card.
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
    expect(other.get_by_text("O fallback está indisponível:")).to_be_visible()

    # Deleting requires the instance's name.
    button(page, "Excluir instância").click()
    dialog.get_by_label(re.compile("para confirmar")).fill(INSTANCE)
    dialog.get_by_role("button", name="Excluir instância").click()
    expect(button(page, "Criar instância e conectar")).to_be_visible(timeout=LONG)
    deleted = requests.get(
        f"{product.evolution}/instance/connectionState/{INSTANCE}",
        headers={"apikey": demo_settings.EVOLUTION_API_KEY},
        timeout=10,
    )
    assert deleted.status_code == 404


@pytest.mark.browser
def test_an_incident_shows_on_the_cards_and_the_dashboard_and_is_resolved(
    new_window: Callable[..., Page], product: Product
) -> None:
    page, dashboard = new_window(), new_window()
    # An unrelated page.
    dashboard.goto("/help/fallback/")
    alert = dashboard.get_by_role("region", name="Alertas").locator("article")
    expect(alert).to_have_count(0)
    page.goto("/instances/" + demo_settings.INSTANCE + "/")
    own = page.locator("section[data-baileys-state]")
    expect(own).to_have_attribute("data-baileys-state", "ready", timeout=LONG)

    control(product, "drop", instance=demo_settings.INSTANCE, code=401)

    expect(own).to_have_attribute("data-baileys-state", "disconnected", timeout=LONG)
    expect(own.get_by_text("Última queda")).to_be_visible()
    expect(alert).to_contain_text("Baileys", timeout=LONG)
    dashboard.goto("/")
    expect(dashboard.locator('[data-alarm="baileys"]')).to_be_visible(timeout=LONG)
    dashboard.goto("/help/fallback/")
    expect(alert).to_have_count(1)
    own.get_by_role("button", name="Conectar", exact=True).click()
    expect(page.locator("svg.qr")).to_be_visible(timeout=LONG)
    control(product, "scan", instance=demo_settings.INSTANCE)
    expect(own).to_have_attribute("data-baileys-state", "ready", timeout=LONG)
    expect(alert).to_have_count(0, timeout=LONG)
