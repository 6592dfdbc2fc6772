"""The pages of message templates, the picker, and the bubble of a sent template."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect
from pytest_django.fixtures import Settings

from channels_app import message_templates
from channels_app.models import Channel, Incident, MessageTemplate
from messaging.media import files as media
from messaging.models import Conversation, Message
from simulators.graph import demo_templates
from tests import files
from tests.conftest import Provider
from tests.factories import create_channel
from tests.pages.conftest import NO_CHROMIUM
from tests.pages.html import Element, parse

pytestmark = pytest.mark.django_db

WABA = "102290129340398"


@pytest.fixture
def account(make_channel: Callable[..., Channel], graph: Provider) -> Channel:
    """A channel whose account has the demo's templates, synchronized."""
    channel = make_channel(graph_url=graph.url, business_account_id=WABA)
    for row in demo_templates.TEMPLATES:
        graph.simulator.templates.add(WABA, row)  # type: ignore[attr-defined]
    message_templates.synchronize(channel)
    return channel


def stored(name: str) -> MessageTemplate:
    return MessageTemplate.objects.get(name=name, language="pt_BR", deleted_at=None)


def test_the_list_says_the_state_of_each_template_and_what_to_do(
    staff_client: Client, account: Channel
) -> None:
    page = parse(staff_client.get("/templates/").content)

    found = page.all(data_template=None)
    rows = {row.all(class_="template-name")[0].text: row.text for row in found}
    assert len(found) == len(demo_templates.TEMPLATES)
    assert "Paused" in rows["pesquisa_de_satisfacao"]
    assert "customers blocked or reported it" in rows["pesquisa_de_satisfacao"]
    assert "Low quality" in rows["pesquisa_de_satisfacao"]
    assert "Invalid format. Usually a variable at the beginning" in rows["boas_vindas"]
    assert "Utility · Portuguese (Brazil)" in rows["pedido_a_caminho"]
    assert any("English (United States)" in row.text and "In review" in row.text for row in found)
    # One that is in review may be decided at any moment.
    assert page.one(id="results").attributes["hx-trigger"] == "every 20s"
    assert "Synchronized with Meta now" in page.text


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"search": "ORCAMENTO"}, {"orcamento_pronto"}),
        ({"search": "colecao algodao"}, {"nova_colecao"}),
        ({"status": "PAUSED"}, {"pesquisa_de_satisfacao"}),
        ({"category": "MARKETING", "search": "desconto"}, {"oferta_da_semana"}),
        ({"search": "nothing like this"}, set()),
    ],
)
def test_a_search_finds_names_and_texts_whatever_their_accents(
    staff_client: Client, account: Channel, query: dict[str, str], names: set[str]
) -> None:
    page = parse(staff_client.get("/templates/", query).content)

    assert {
        row.all(class_="template-name")[0].text for row in page.all(data_template=None)
    } == names


def test_a_synchronization_that_fails_is_told(
    staff_client: Client, account: Channel, graph: Provider
) -> None:
    assert staff_client.post("/templates/sync/", {"account": WABA}).status_code == 302
    page = parse(staff_client.get("/templates/").content)
    assert "The templates are up to date" in page.text

    account.access_token = "expired"
    account.save()
    account.cloud.access_token = "expired"
    account.cloud.save()
    staff_client.post("/templates/sync/", {"account": WABA})
    page = parse(staff_client.get("/templates/").content)
    assert "The last attempt failed" in page.text


DRAFT = {
    "account": WABA,
    "name": "retirada",
    "language": "pt_BR",
    "category": "UTILITY",
    "header_format": "",
    "header": "",
    "media": "",
    "body": "Olá, {{nome}}! Seu *pedido* está pronto.",
    "footer": "Loja",
    "example-body.nome": "Ana",
    "button_kind": ["URL", "QUICK_REPLY"],
    "button_text": ["Ver", "Ok"],
    "button_value": ["https://loja.example/{{1}}", ""],
    "button_example": ["https://loja.example/7", ""],
}


def errors_of(page: Element) -> dict[str, str]:
    found = {one.attributes["id"]: one.text for one in page.all("p", data_error_text=None)}
    return {id_: text for id_, text in found.items() if text}


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({}, {}),
        # Nothing entered yet: nothing is wrong yet.
        ({"name": "", "body": "", "button_text": ["", ""]}, {}),
        ({"name": "Pedido Enviado"}, {"error-name": "Only lower-case letters"}),
        ({"body": "{{nome}} chegou!"}, {"error-body": "at the beginning or at the end"}),
        ({"body": "a" * 1025}, {"error-body": "At most 1024 characters."}),
        ({"footer": "Oi {{1}}"}, {"error-footer": "Variables are not allowed here."}),
        ({"example-body.nome": ""}, {"error-body": "Enter an example of “nome”."}),
        (
            {"button_text": ["Ver tudo o que há na nossa loja", "Ok"]},
            {"error-button-0": "At most 25 characters."},
        ),
        (
            {"button_kind": ["QUICK_REPLY", "QUICK_REPLY"], "header_format": "IMAGE"},
            {},
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_draft_is_checked_and_previewed_while_typing(
    staff_client: Client, account: Channel, changes: dict[str, Any], errors: dict[str, str]
) -> None:
    answer = staff_client.post("/templates/check/", {**DRAFT, **changes})

    page = parse(answer.content)
    found = errors_of(page)
    assert found.keys() == errors.keys()
    assert all(text in found[id_] for id_, text in errors.items())
    if not changes:
        preview = page.one(id="template-preview")
        assert "Olá, Ana! Seu pedido está pronto." in preview.text
        assert preview.one("strong").text == "pedido"
        assert [one.text for one in preview.all("li")] == ["Ver https://loja.example/{{1}}", "Ok"]
        assert page.one(id="example-body.nome").attributes["value"] == "Ana"


def test_a_template_is_created_followed_through_its_review_edited_and_deleted(
    staff_client: Client, account: Channel, graph: Provider, settings: Settings, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path
    upload = media.store_upload(SimpleUploadedFile("foto.png", files.PNG), user=None)
    draft = {**DRAFT, "header_format": "IMAGE", "media": str(upload.pk)}

    rejected = staff_client.post("/templates/new/", {**draft, "name": "Errado", "media": ""})
    assert rejected.status_code == 400
    assert set(errors_of(parse(rejected.content))) == {"error-name", "error-header"}
    answer = staff_client.post("/templates/new/", draft)
    template = stored("retirada")
    assert answer.headers["Location"] == f"/templates/{template.pk}/"
    page = parse(staff_client.get(answer.headers["Location"]).content)
    assert "In review" in page.text
    assert page.one(id="facts").attributes["hx-trigger"] == "every 10s"

    graph.settle()
    message_templates.synchronize(account)
    page = parse(staff_client.get(answer.headers["Location"]).content)
    assert "Approved" in page.one(id="facts").text
    form = parse(staff_client.get(f"/templates/{template.pk}/edit/").content)
    assert form.one(id="id_body").text == DRAFT["body"]
    assert form.one(id="button-example-0").attributes["value"] == "https://loja.example/7"
    changed = {**draft, "name": "other", "category": "MARKETING", "body": "Olá, {{nome}}, oi!"}
    refused = parse(staff_client.post(f"/templates/{template.pk}/edit/", changed).content)
    assert "cannot be changed" in refused.one(id="error-category").text
    staff_client.post(f"/templates/{template.pk}/edit/", {**changed, "category": "UTILITY"})
    # Until Meta's review ends, it sends the version before.
    graph.settle()
    message_templates.synchronize(account)
    template.refresh_from_db()
    assert template.name == "retirada"
    assert template.components[1]["text"] == "Olá, {{nome}}, oi!"

    copy = parse(staff_client.get(f"/templates/new/?from={template.pk}").content)
    assert copy.one(id="id_name").attributes["value"] == "retirada"
    # Meta refuses the same name in the same language, and its reason is shown.
    again = parse(staff_client.post("/templates/new/", draft).content)
    assert "already content in this language" in again.text
    staff_client.post(f"/templates/{template.pk}/delete/", {"which": "one"})
    assert not MessageTemplate.objects.filter(name="retirada", deleted_at=None).exists()


def test_what_the_form_does_not_show_is_not_edited_with_it(
    staff_client: Client, account: Channel
) -> None:
    for name in ("nova_colecao", "codigo_de_acesso"):
        page = staff_client.get(f"/templates/{stored(name).pk}/")
        assert b"/edit/" not in page.content
        assert staff_client.get(f"/templates/{stored(name).pk}/edit/").status_code == 404
    for row in MessageTemplate.objects.all():
        assert staff_client.get(f"/templates/{row.pk}/").status_code == 200
        assert staff_client.get(f"/templates/new/?from={row.pk}").status_code == 200


@pytest.fixture
def silent(account: Channel, make_conversation: Callable[..., Conversation]) -> Conversation:
    """A customer whose 24-hour window is closed."""
    return make_conversation(account, name="Mariana Alves")


def test_outside_the_window_the_composer_offers_templates(
    staff_client: Client, silent: Conversation, account: Channel
) -> None:
    page = f"/conversations/{silent.pk}/"
    offer = parse(staff_client.get(page).content).one(class_="template-offer").text
    assert "accepts only templates" in offer
    assert "no fallback" in offer

    Conversation.objects.filter(pk=silent.pk).update(last_inbound_at=timezone.now())
    assert not parse(staff_client.get(page).content).all(class_="template-offer")
    # The open page drops the offer when it hears of the customer's message.
    seen = parse(staff_client.post(f"{page}seen/").content)
    assert seen.one(id="template-offer").attributes["hx-swap-oob"] == "true"
    assert not seen.all(class_="template-offer")

    baileys = create_channel(
        name="B", kind="baileys", evolution_url="http://127.0.0.1:9", instance_name="b",
        evolution_api_key="k",
    )  # fmt: skip
    assert (
        "does not need templates"
        in staff_client.get(
            "/conversations/templates/", {"channel": baileys.pk, "to": ""}
        ).content.decode()
    )


def test_a_category_that_changed_is_told_before_sending(
    staff_client: Client, silent: Conversation, account: Channel
) -> None:
    template = stored("lembrete_consulta")
    Incident.objects.create(
        connection=account.primary, kind=Incident.Kind.NOTICE, opened_at=timezone.now(),
        code=f"category:{template.template_id}", reason="template_category_changed",
        detail="lembrete_consulta (pt_BR, UTILITY → MARKETING)", last_drop_at=timezone.now(),
    )  # fmt: skip

    answer = staff_client.get(
        f"/conversations/templates/{template.pk}/", {"conversation": silent.pk}
    )

    assert "UTILITY → MARKETING" in parse(answer.content).one(class_="notice").text


def test_every_kind_of_template_has_its_fields(
    staff_client: Client, silent: Conversation, account: Channel, settings: Settings,
    tmp_path: Path,
) -> None:  # fmt: skip
    settings.MEDIA_ROOT = tmp_path
    upload = media.store_upload(SimpleUploadedFile("a.pdf", files.PDF), user=None)
    whom = {"conversation": silent.pk}
    url = f"/conversations/templates/{stored('orcamento_pronto').pk}/"
    entered = {**whom, "field-body.1": "Ana", "field-body.2": "um\ndois", "key": "a"}

    checked = errors_of(parse(staff_client.post(f"{url}check/", entered).content))
    assert checked.keys() == {"template-body-2-error"}
    rejected = staff_client.post(url, entered)
    assert rejected.status_code == 400
    missing = errors_of(parse(rejected.content))
    assert missing.keys() == {"template-header-error", "template-body-2-error"}
    entered |= {
        "field-header": str(upload.pk), "field-header-filename": "o.pdf", "field-body.2": "hoje",
    }  # fmt: skip
    sent = staff_client.post(url, entered)
    assert sent.status_code == 200, sent.content
    message = Message.objects.get()
    assert message.content["components"][0]["parameters"][0]["document"] == {
        "media": str(upload.pk), "filename": "o.pdf",
    }  # fmt: skip
    # The same click again is the same message; with other values it is not sent.
    assert staff_client.post(url, entered).status_code == 200
    other = staff_client.post(url, {**entered, "field-body.1": "Bia"})
    assert "It was sent already" in other.content.decode()
    assert Message.objects.count() == 1

    for name in ("nova_colecao", "codigo_de_acesso", "pedido_a_caminho"):
        answer = staff_client.get(f"/conversations/templates/{stored(name).pk}/", whom)
        names = {one.attributes["name"] for one in parse(answer.content).all("input", name=None)}
        assert names - {"key", "conversation"} == {
            "nova_colecao": {"field-body.1", "field-card.0.header", "field-card.0.header-filename",
                             "field-card.0.body.1", "field-card.1.header",
                             "field-card.1.header-filename", "field-card.1.body.1"},
            "codigo_de_acesso": {"field-body.1"},
            "pedido_a_caminho": {"field-body.nome", "field-body.pedido", "field-button.0"},
        }[name]  # fmt: skip


def test_a_template_starts_a_new_conversation(staff_client: Client, account: Channel) -> None:
    url = f"/conversations/templates/{stored('lembrete_consulta').pk}/"
    entered = {
        "channel": account.pk, "field-header.1": "sexta", "field-body.1": "Ana",
        "field-body.2": "14h",
    }  # fmt: skip

    wrong = staff_client.post(url, {**entered, "to": "12"}, headers={"HX-Request": "true"})
    assert "not a valid phone number" in errors_of(parse(wrong.content))["template-to-error"]
    answer = staff_client.post(
        url, {**entered, "to": "+5511988887777"}, headers={"HX-Request": "true"}
    )

    message = Message.objects.get()
    assert answer.headers["HX-Redirect"] == f"/conversations/{message.conversation_id}/"
    assert message.content["components"][1]["parameters"][0] == {"type": "text", "text": "Ana"}


@pytest.mark.parametrize(
    ("path", "permissions"),
    [
        ("/templates/", ("channels_app.view_messagetemplate",)),
        ("/templates/new/",
         ("channels_app.view_messagetemplate", "channels_app.add_messagetemplate")),
        ("/templates/{pk}/", ("channels_app.view_messagetemplate",)),
        ("/templates/{pk}/edit/",
         ("channels_app.view_messagetemplate", "channels_app.change_messagetemplate")),
        ("/templates/{pk}/delete/",
         ("channels_app.view_messagetemplate", "channels_app.delete_messagetemplate")),
        ("/conversations/templates/?channel={channel}",
         ("messaging.view_message", "messaging.add_message")),
        ("/conversations/templates/{pk}/?channel={channel}",
         ("messaging.view_message", "messaging.add_message")),
    ],
)  # fmt: skip
def test_a_page_of_templates_needs_its_permissions(
    account: Channel, make_user: Callable[..., User], client_for: Callable[[User], Client],
    path: str, permissions: tuple[str, ...],
) -> None:  # fmt: skip
    path = path.format(pk=stored("pedido_a_caminho").pk, channel=account.pk)
    for missing in permissions:
        others = [one for one in permissions if one != missing]
        assert client_for(make_user(missing, *others)).get(path).status_code == 403
    assert client_for(make_user("all", *permissions)).get(path).status_code == 200


@pytest.mark.browser
@NO_CHROMIUM
@pytest.mark.django_db(transaction=True)
def test_a_silent_customer_gets_a_template_and_a_paused_one_is_told_before_sending(
    page: Page, silent: Conversation, account: Channel
) -> None:
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"/conversations/{silent.pk}/")
    page.get_by_role("button", name="Choose a template").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Search templates")).to_be_focused()

    page.keyboard.type("pesquisa")
    dialog.get_by_role("button", name="pesquisa_de_satisfacao").click()
    expect(dialog.get_by_role("alert").filter(has_text="Meta paused it because")).to_be_visible()
    expect(dialog).to_contain_text("It cannot be sent now.")
    expect(dialog.get_by_role("button", name="Send", exact=True)).to_be_disabled()

    dialog.get_by_role("button", name="Choose another template").click()
    dialog.get_by_role("button", name="pedido_a_caminho").click()
    dialog.get_by_role("button", name="Send", exact=True).click()
    expect(dialog.get_by_label("Text: nome")).to_be_focused()  # the first that is missing
    dialog.get_by_label("Text: nome").fill("Zé")
    preview = dialog.get_by_role("region", name="Preview")
    expect(preview).to_contain_text("Oi Zé! Seu pedido {{pedido}} saiu para entrega.")
    dialog.get_by_label("Text: pedido").fill("*77*")
    dialog.get_by_label("Button “Acompanhar”").fill("77")
    dialog.get_by_role("button", name="Send", exact=True).click()

    expect(dialog).to_be_hidden()
    bubble = page.locator("article[data-message]")
    expect(bubble).to_contain_text("Oi Zé! Seu pedido 77 saiu para entrega.")
    expect(bubble.get_by_role("strong")).to_have_text("77")
    expect(bubble.get_by_role("list", name="Buttons")).to_contain_text("Ligar")
