"""The help page about the fallback covers the specification in both languages."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.auth.models import User
from django.test import Client

from channels_app.models import Channel
from tests.channels_app.wwebjs_session.test_docker_command import MISSION
from tests.pages.html import Element, parse

pytestmark = pytest.mark.django_db

PAGE = "/help/fallback/"
# The key phrases of each line of the specification.
PORTUGUESE = {
    "how": [
        "Se a mensagem falhar na API oficial",
        "A Alterna tenta o envio pela API oficial",
        "o ícone muda para um “X”, que indica a rejeição da mensagem",
        "a Alterna tenta o reenvio por ele",
        "o ícone é atualizado para um globo, que indica o envio via wwebjs ou Baileys",
        "Ignorar mensagens enviadas fora do aplicativo desativada",
        "aparece novamente",
    ],
    "install": [
        "Execute o comando abaixo",
        "container Docker",
        "na porta 3500 com a chave de acesso suaapikey",
        "Altere conforme necessário",
        "Puxe a versão mais recente e remova o container antigo",
        "recrie-o",
        "navegador em segundo plano, então o consumo de recursos da VPS é maior",
        "considere rodá-la em uma VPS separada",
        "BASE_WEBHOOK_URL",
    ],
    "wwebjs": [
        "Vá até Canais e clique no ícone de edição",
        "No mesmo servidor, use http://127.0.0.1:",
        "servidor externo, use http://ip:",
        "a porta precisa estar aberta no firewall",
        "Insira a mesma API_KEY configurada na API",
        "o botão Conectar aparece sozinho",
        "sem F5",
        "Clique em Conectar para iniciar a conexão",
        "aparece o botão Exibir QR",
        "“QR Code não está pronto ou já foi escaneado”, clique em Atualizar QR",
        "Conectar ao WhatsApp Web",
        "o botão muda para Desconectar wwebjs",
    ],
    "baileys": [
        "Conexão Baileys para enviar mensagem em modo fallback",
        "selecione o canal pelo qual a mensagem deve sair",
        "usado para enviar mensagens e também para chamadas pelo Wavoip",
    ],
    "numbers": ["mesmo número", "outro número", "Aguardando mensagem"],
    "warning": [
        "Não utilize essa funcionalidade para envio em massa (spam)",
        "Seu número pode ser banido permanentemente pelo WhatsApp",
    ],
}
ENGLISH = {
    "how": [
        "If a message fails on the official API",
        "Alterna tries to send the message through the official API",
        "the icon changes to an “X”, which means that the message was rejected",
        "Alterna tries to send the message again through it",
        "the icon changes to a globe, which means that it was sent through wwebjs or Baileys",
        "Ignore messages sent outside the app off",
        "appears once more",
    ],
    "install": [
        "Run the command below",
        "Docker container",
        "on port 3500 with the access key yourapikey",
        "Change them as needed",
        "Pull the latest version and remove the old container",
        "create it again",
        "runs a browser in the background, so it uses more of the server's resources",
        "run it on a separate server",
        "BASE_WEBHOOK_URL",
    ],
    "wwebjs": [
        "Go to Channels and click the channel's edit icon",
        "on the same server, use http://127.0.0.1:",
        "external server, use http://ip:",
        "the port must be open in the firewall",
        "Enter the same API_KEY that is configured in the API",
        "the Connect button appears on the card automatically",
        "without F5",
        "Click Connect to start the connection",
        "The Show QR button then appears",
        "“The QR code is not ready or has been scanned already”, click Refresh QR",
        "connect to WhatsApp Web",
        "the button changes to Disconnect wwebjs",
    ],
    "baileys": [
        "Baileys connection that sends messages in fallback mode",
        "select the channel that should send the message",
        "used to send messages, and for calls through Wavoip",
    ],
    "numbers": ["same number", "another number", "Waiting for this message"],
    "warning": ["Do not use this feature for mass messages (spam)", "WhatsApp may ban your number"],
}


@pytest.fixture
def help_in(
    make_user: Callable[..., User], client_for: Callable[..., Client]
) -> Callable[[str], Element]:
    """Open the help page as a staff user without permissions."""

    def open_help(language: str) -> Element:
        user = make_user(f"nina-{language}")
        answer = client_for(user, language).get(PAGE)
        assert answer.status_code == 200
        return parse(answer.content)

    return open_help


@pytest.mark.parametrize(
    ("language", "lines"), [("pt-br", PORTUGUESE), ("en", ENGLISH)], ids=["pt-br", "en"]
)
def test_the_help_contains_each_line_of_the_specification(
    help_in: Callable[[str], Element], language: str, lines: dict[str, list[str]]
) -> None:
    page = help_in(language)
    sections = [s.attributes.get("aria-labelledby") for s in page.all("section")]
    assert sections == list(lines)
    for name, phrases in lines.items():
        text = page.one("section", aria_labelledby=name).text.casefold()
        for phrase in phrases:
            assert phrase.casefold() in text, phrase


@pytest.mark.parametrize(("language", "key"), [("pt-br", "suaapikey"), ("en", "yourapikey")])
def test_the_commands_match_the_specification_and_can_be_copied(
    help_in: Callable[[str], Element], language: str, key: str
) -> None:
    page = help_in(language)
    assert page.one("textarea", id="help-run").text == " ".join(
        MISSION.replace("suaapikey", key).split()
    )
    update = page.one("textarea", id="help-update").text
    assert update == "docker pull avoylenko/wwebjs-api docker rm -f wwebjs_api"
    copied = {button.attributes["data-copy"] for button in page.all("button", data_copy=None)}
    assert copied == {"#help-run", "#help-update"}


@pytest.mark.parametrize("language", ["pt-br", "en"])
def test_the_icons_are_those_of_a_conversation(
    help_in: Callable[[str], Element], language: str
) -> None:
    section = help_in(language).one("section", aria_labelledby="how")
    drawn = {icon.attributes["data-icon"] for icon in section.all("span", data_icon=None)}
    assert drawn == {"clock", "sent", "delivered", "read", "rejected", "globe", "unconfirmed"}
    ticks = {icon.attributes["data-ticks"] for icon in section.all("span", data_ticks=None)}
    assert ticks == {"delivered", "read"}
    first = section.all("ol")[0]
    order = [icon.attributes["data-icon"] for icon in first.all("span", data_icon=None)]
    assert order[:3] == ["clock", "rejected", "globe"]


def test_the_help_is_linked_from_the_navigation_and_the_form(
    staff_client: Client, channel: Channel
) -> None:
    for path in ("/", f"/channels/{channel.pk}/", "/channels/new/"):
        main = parse(staff_client.get(path).content)
        assert main.all("nav", class_="nav nav-second")[0].all("a", href=PAGE)
        assert bool(main.one("main").all("a", href=PAGE)) is (path != "/")


def test_the_help_requires_staff_status(client: Client, make_user: Callable[..., User]) -> None:
    assert client.get(PAGE).status_code == 302
    client.force_login(make_user("vera", is_staff=False))
    assert client.get(PAGE).status_code == 403
