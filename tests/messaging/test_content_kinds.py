"""Every kind of message is read in page, preview and REST, in the reader's language.

docs/message-kinds.md refers to these tests.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.html import strip_tags

from channels_app.models import Channel
from messaging.inbound import handlers
from messaging.models import CallAttempt, Conversation, InboundEvent, Media, Message, PendingEvent
from tests.messaging import field_cases
from tests.messaging.field_cases import case, receive_cloud, receive_evolution, receive_wwebjs
from tests.messaging.support import accept, envelope, post, read_events

if TYPE_CHECKING:
    from rest_framework.test import APIClient

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static")]

PHONE_ONLY = "Mensagem que só o celular mostra"


@pytest.fixture
def attached(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        fallback="wwebjs",
        wwebjs_url="http://127.0.0.1:9",
        wwebjs_api_key="key",
        wwebjs_session_id="demo",
    )


def shown(message: Message, language: str = "pt-br") -> str:
    """Return the words of a message's bubble."""
    with translation.override(language):
        html = render_to_string("messaging/_message.html", {"message": message})
    return re.sub(r"\s+", " ", strip_tags(html)).strip()


def messages() -> list[Message]:
    return list(Message.objects.order_by("created_at"))


def window() -> Any:
    return Conversation.objects.get().last_inbound_at


# -- everything that a person would read -----------------------------------------------------------

FIXTURES: dict[str, tuple[str, str]] = {
    # What stands in the bubble, and in REST's `text` and `summary`.
    "05-referred-product": ("Is this one still in stock?", "di9ozbzfi4"),
    "07-call-permission-reply": ("Permissão para ligar", "O cliente recusou ligações"),
    "08-button-kind-raw": ("Resposta de botão", "Unsubscribe"),
    "08c-voice-not-a-file": ("Mensagem de voz", ""),
    "10-type-absent": ("San Francisco", "Market Street"),
    "11-location-without-name": ("12.25089, 43.90539", ""),
    "13-evo-vcard-without-waid": ("John Doe", "+5511999999999"),
    "14-evo-product": ("Product XYZ", "BOB 50.00"),
    "15-evo-poll": ("Favorite Color", "Blue"),
}


@pytest.mark.parametrize("name", FIXTURES)
def test_what_a_person_would_read_is_shown(
    channel: Channel, baileys: Channel, api: APIClient, name: str
) -> None:
    body = case(f"fixtures/{name}")
    if "entry" in body:
        receive_cloud([body])
    else:
        receive_evolution(baileys, [body])
    [message] = messages()
    api.credentials(**{**api._credentials, "HTTP_ACCEPT_LANGUAGE": "pt-br"})  # type: ignore[attr-defined]
    rest = api.get(f"/api/messages/{message.pk}/").json()
    for words in FIXTURES[name]:
        assert words in shown(message)
    read = f"{rest['text']} {rest['summary']} {rest['context']} {rest['referral']}"
    for words in FIXTURES[name][:1] if name.startswith("05") else FIXTURES[name]:
        assert words in read
    assert message.conversation.unread_count == 1
    for raw in ("call_permission_reply", "productMessage", "[button]", "[unknown]"):
        assert raw not in shown(message) + rest["summary"]
    assert (message.media is not None) == (name == "08c-voice-not-a-file")


LOST = {
    "botForwardedMessage": ("text", ["texto encaminhado da IA"]),
    "pollCreationMessageV5": ("poll", ["Qual dia?", "seg", "ter"]),
    "pix": ("payment", ["Padaria Exemplo", "+5511900000099", "Número de telefone"]),
    "cta_url template": (
        "interactive",
        ["Fatura", "Vence amanha", "Seguros", "https://exemplo.invalid/f/1"],
    ),
    "image in interactive header": ("interactive", ["Oferta"]),
    "orderMessage": ("order", ["quero estes dois", "2 itens", "BRL 45.90"]),
    "sendPaymentMessage": ("payment", ["paguei"]),
    "contact without waid": ("contacts", ["Joao", "+55 11 90000-0077"]),
}


@pytest.mark.parametrize("what", LOST)
def test_no_content_of_a_baileys_channel_is_lost(baileys: Channel, what: str) -> None:
    [entry] = [one for one in cases_of("evolution/content-lost") if one["what"] == what]
    receive_evolution(baileys, [entry["event"]])
    [message] = messages()
    type_, words = LOST[what]
    assert message.type == type_
    for part in words:
        assert part in shown(message)
    if what == "image in interactive header":
        media = Media.objects.get(messages=message)
        assert media.source["stored"].startswith("inbound/")


def cases_of(name: str) -> list[Any]:
    return next(value for value in case(name).values() if isinstance(value, list))


def test_a_message_without_readable_content_is_one_that_only_the_phone_shows(
    baileys: Channel,
) -> None:
    receive_evolution(baileys, case("evolution/no-readable-content")["events"])
    assert len(messages()) == 3
    assert all(PHONE_ONLY in shown(message) for message in messages())
    assert Conversation.objects.filter(unread_count__gt=0).exists()


def test_a_message_that_comes_again_with_its_content_is_filled(baileys: Channel) -> None:
    waiting = case("evolution/no-readable-content")["events"][2]
    complete = {
        **waiting,
        "data": {
            **waiting["data"],
            "message": {"conversation": "agora sim"},
            "messageType": "conversation",
            "messageStubType": None,
        },
    }
    receive_evolution(baileys, [waiting, complete, waiting])
    [message] = messages()
    assert (message.type, message.text) == ("text", "agora sim")
    assert message.conversation.unread_count == 1


def test_types_of_wwebjs_are_shown_as_those_of_evolution(attached: Channel) -> None:
    receive_wwebjs(attached, case("wwebjs/types-lost")["callbacks"])
    by_type = {message.content["message_type"]: message for message in messages()}
    for callback in case("wwebjs/types-lost")["callbacks"]:
        sent = callback["data"]["message"]
        words = ("Maria", "+55 11 90000-0055") if sent["type"] == "vcard" else (sent["body"],)
        assert all(part in shown(by_type[sent["type"]]) for part in words)
    assert by_type["oversized"].type == "unknown"
    assert PHONE_ONLY in shown(by_type["oversized"])
    assert len(by_type) == 9


@pytest.mark.parametrize("language", ["pt-br", "en"])
def test_what_stands_beside_the_content_is_kept_and_shown(
    channel: Channel, api: APIClient, language: str
) -> None:
    receive_cloud(case("official/reason-and-ad-and-order-dropped")["steps"])
    unsupported, image, ad, forwarded = messages()
    phone_only = "Message that only the phone shows" if language == "en" else PHONE_ONLY
    assert phone_only in shown(unsupported, language)
    assert "Ask the customer to send it again" in shown(unsupported, language)
    assert ("unsupported" in shown(unsupported, language)) is False
    rest = {one["id"]: one for one in api.get("/api/messages/").json()["results"]}
    assert rest[str(unsupported.pk)]["error"]["code"] == "131060"
    assert rest[str(image.pk)]["error"]["code"] == "131052"
    assert image.media is None
    assert rest[str(ad.pk)]["referral"]["ctwa_clid"] == "abc"
    assert "Promo" in shown(ad, language)
    assert rest[str(forwarded.pk)]["forwarded"] == "often"
    mark = "Forwarded many times" if language == "en" else "Encaminhada muitas vezes"
    assert mark in shown(forwarded, language)


def test_flow_answers_and_orders_have_words(channel: Channel) -> None:
    common = {"from": field_cases.CUSTOMER, "timestamp": "1749416383"}
    answers = '{"flow_token": "x", "nome_completo": "Ana", "dias": ["seg", "ter"]}'
    item = {"product_retailer_id": "pao", "quantity": 2, "item_price": 30.5, "currency": "BRL"}
    sent = [
        {
            "type": "interactive",
            "interactive": {
                "type": "nfm_reply",
                "nfm_reply": {"name": "flow", "body": "Sent", "response_json": answers},
            },
        },
        {"type": "order", "order": {"catalog_id": "1", "text": "oi", "product_items": [item]}},
        {"type": "a_type_to_come", "a_type_to_come": {"inner": {"title": "palavras"}}},
        {"type": "request_welcome"},
    ]
    listed = [{**common, "id": f"wamid.{n}", **one} for n, one in enumerate(sent)]
    post(envelope({"messages": listed}, channel))
    read_events()
    flow, order, unknown, welcome = messages()
    assert "nome completo: Ana" in shown(flow)
    assert "dias: seg, ter" in shown(flow)
    assert "flow_token" not in shown(flow) + flow.text
    assert "oi 2 x pao · BRL 30.50 2 itens Total: BRL 61.00" in shown(order)
    assert f"{PHONE_ONLY} palavras" in shown(unknown)
    assert "O cliente abriu a conversa" in shown(welcome)


# -- changes of another message --------------------------------------------------------------------


@pytest.mark.parametrize("order", ["in order", "changes first"])
def test_edits_and_deletions_of_the_official_api_change_the_message(
    channel: Channel, order: str
) -> None:
    steps = case("official/edit-and-revoke")["steps"]
    if order == "changes first":
        steps = [steps[1], steps[3], steps[0], steps[2]]
    receive_cloud(steps)
    edited, deleted = messages()
    assert edited.text == "preço 100"
    assert [version["text"] for version in edited.earlier_texts] == ["preço 10"]
    assert "Editada" in shown(edited)
    assert "preço 10 " in shown(edited)
    assert deleted.revoked_at is not None
    assert "O cliente apagou esta mensagem" in shown(deleted)
    assert Conversation.objects.get().unread_count == 2
    assert window() == deleted.created_at
    assert not PendingEvent.objects.exists()


def test_an_edit_alone_makes_no_bubble_and_opens_no_window(channel: Channel) -> None:
    steps = case("official/edit-and-revoke")["steps"]
    receive_cloud([steps[1], steps[3]])
    assert not Message.objects.exists()
    assert not Conversation.objects.exists()
    assert PendingEvent.objects.count() == 2


def test_edits_and_deletions_of_wwebjs_change_the_message(attached: Channel) -> None:
    receive_wwebjs(attached, case("wwebjs/edit-and-revoke")["callbacks"])
    edited, deleted = messages()
    assert (edited.text, edited.earlier_texts[0]["text"]) == ("depois", "antes")
    assert edited.edited_at is not None
    assert deleted.revoked_at is not None
    [conversation] = Conversation.objects.all()
    assert conversation.unread_count == 2


def reactions(message: Message) -> list[tuple[str, str]]:
    message.refresh_from_db()
    return [(one["by"], one["emoji"]) for one in message.reactions if one["emoji"]]


def test_a_person_has_one_reaction_which_can_be_taken_back(channel: Channel) -> None:
    receive_cloud(case("official/same-second-order")["steps"][:1])
    [message] = messages()

    def react(emoji: str | None, seconds: int, id_: str) -> None:
        reaction = {"message_id": message.provider_message_id}
        reaction |= {} if emoji is None else {"emoji": emoji}
        event = {
            "from": field_cases.CUSTOMER,
            "id": id_,
            "timestamp": str(1749416383 + seconds),
            "type": "reaction",
            "reaction": reaction,
        }
        post(envelope({"messages": [event]}, channel))
        read_events()

    by = f"+{field_cases.CUSTOMER}"
    before = window()
    react("👍", 1, "wamid.1")
    assert reactions(message) == [(by, "👍")]
    assert 'data-reaction="👍"' in render_to_string(
        "messaging/_message.html", {"message": messages()[0]}
    )
    react("❤️", 3, "wamid.2")
    react("😀", 2, "wamid.3")  # it comes late
    assert reactions(message) == [(by, "❤️")]
    react(None, 4, "wamid.4")
    assert reactions(message) == []
    assert len(messages()) == 1
    conversation = Conversation.objects.get()
    assert (conversation.unread_count, conversation.last_inbound_at) == (1, before)


@pytest.mark.parametrize("outside", [False, True])
def test_only_a_reaction_to_a_message_of_ours_opens_the_window(
    channel: Channel, outside: bool
) -> None:
    message = accept(channel, f"+{field_cases.CUSTOMER}")
    Message.objects.update(
        provider_message_id="wamid.OUT", message_key="wamid.OUT", sent_outside=outside
    )
    reaction = {
        "from": field_cases.CUSTOMER,
        "id": "wamid.R",
        "timestamp": "1749416383",
        "type": "reaction",
        "reaction": {"message_id": "wamid.OUT", "emoji": "👍"},
    }
    post(envelope({"messages": [reaction]}, channel))
    read_events()
    assert reactions(message) == [(f"+{field_cases.CUSTOMER}", "👍")]
    assert (window() is not None) == (not outside)
    assert Conversation.objects.get().unread_count == 0


def test_votes_are_counted_one_a_person_even_before_their_poll(baileys: Channel) -> None:
    group = "120363040468224422@g.us"
    poll = case("fixtures/15-evo-poll")
    author = poll["data"]["key"]["remoteJid"]
    poll["data"]["key"] |= {"remoteJid": group, "participant": author}

    def vote(*options: str, voter: str = "5511900093943", second: int = 0) -> dict[str, Any]:
        body = {
            "pollCreationMessageKey": {"id": poll["data"]["key"]["id"]},
            "vote": {"selectedOptions": list(options)},
        }
        key = {"remoteJid": group, "id": f"V{voter}{second}", "fromMe": False}
        key["participant"] = f"{voter}@s.whatsapp.net"
        data = {"key": key, "message": {"pollUpdateMessage": body}}
        data["messageTimestamp"] = 1796000909 + second
        return {"event": "messages.upsert", "data": data}

    receive_evolution(
        baileys,
        [vote("Red"), poll, vote("Blue", second=1), vote("Blue", voter="5511900093944")],
    )
    [message] = messages()
    assert "Red (0 voto)" in shown(message)
    assert "Blue (2 votos)" in shown(message)
    assert "+55 11 90009-3944: Blue" in shown(message)
    receive_evolution(baileys, [vote(second=2)])
    message.refresh_from_db()
    assert "Blue (1 voto)" in shown(message)
    assert not PendingEvent.objects.exists()


def test_a_status_may_be_a_number(baileys: Channel) -> None:
    events = cases_of("evolution/status-numeric")
    events = [
        {**event, "data": eval_id(event["data"], f"3EB0{number}")}
        for number, event in enumerate(events)
    ]
    receive_evolution(baileys, events)
    kinds = PendingEvent.objects.values_list("provider_message_id", "kind")
    assert sorted(kinds) == [("3EB00", "read"), ("3EB01", "read")]


def eval_id(data: Any, id_: str) -> Any:
    if isinstance(data, dict):
        return {name: eval_id(value, id_) for name, value in data.items()}
    if isinstance(data, list):
        return [eval_id(value, id_) for value in data]
    return id_ if data == "<id>" else data


# -- not in a private conversation -----------------------------------------------------------------


def test_a_group_of_the_official_api_never_enters_a_private_conversation(channel: Channel) -> None:
    private, group = case("official/group-in-private-conversation")["steps"]
    receive_cloud([group])
    assert not Message.objects.exists()
    assert not Conversation.objects.exists()
    receive_cloud([private])
    assert [message.text for message in messages()] == ["só para vocês"]
    assert InboundEvent.objects.filter(skipped="group").count() == 1


def test_an_echo_beside_another_list_is_read(channel: Channel) -> None:
    channel.ignore_messages_sent_outside = False
    channel.save()
    receive_cloud([case("fixtures/25-sibling-in-value")])
    [message] = messages()
    assert (message.text, message.direction) == ("typed on the phone", "out")
    assert CallAttempt.objects.get().call_id == "c1"


@pytest.mark.parametrize("type_", ["message", "message_create"])
@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("status@broadcast", "status"),
        ("1203630@g.us", "group"),
        ("1203630@newsletter", "newsletter"),
        ("1@broadcast", "broadcast"),
    ],
)
def test_other_chats_of_a_session_are_counted_by_name(
    attached: Channel, type_: str, address: str, name: str
) -> None:
    message = {"id": {"id": "3A1"}, "type": "chat", "body": "oi", "timestamp": 1796000909}
    message |= {"from": address, "to": address, "fromMe": type_ == "message_create"}
    receive_wwebjs(attached, [{"sessionId": "", "dataType": type_, "data": {"message": message}}])
    assert InboundEvent.objects.get().skipped == name
    assert not Message.objects.exists()
    assert handlers.skipped({"group": 1}) == "group"
