"""Groups of a Baileys channel are conversations of their own, whose authors are named."""

from __future__ import annotations

from typing import Any

import pytest
from django.template.loader import render_to_string

from channels_app.models import Channel
from channels_app.providers.base import OutboundMessage
from channels_app.providers.evolution.client import object_request
from messaging import selectors
from messaging.delivery import runner
from messaging.delivery.accept import accept_message
from messaging.models import Contact, Conversation, DeliveryAttempt, InboundEvent, Message
from messaging.templatetags.conversations import contact_name, preview
from tests.factories import change_channel
from tests.messaging.field_cases import receive_evolution

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("plain_static")]

GROUP = "120363025246125486@g.us"


def written(
    text: str, id_: str, *, chat: str = GROUP, author: str = "5511988887777", **key: Any
) -> dict[str, Any]:
    participant = {"participant": f"{author}@s.whatsapp.net"} if chat == GROUP else {}
    data = {
        "key": {"remoteJid": chat, "fromMe": False, "id": id_, **participant, **key},
        "pushName": f"Pessoa {author[-2:]}",
        "message": {"conversation": text},
        "messageTimestamp": "NOW",
    }
    return {"event": "messages.upsert", "data": data}


def test_a_group_is_a_conversation_whose_authors_are_named(baileys: Channel) -> None:
    receive_evolution(
        baileys,
        [
            written("oi a todos", "3A1"),
            written("bom dia", "3A2", author="5511988887766"),
            written("só para vocês", "3A3", chat="5511988887777@s.whatsapp.net"),
            written("pelo LID", "3A4", participant="123@lid", participantAlt="5511988887755@c.us"),
        ],
    )
    private = Conversation.objects.get(contact__phone_number="+5511988887777")
    group = Conversation.objects.get(contact__user_id=GROUP)
    assert [message.text for message in private.messages.all()] == ["só para vocês"]
    page = selectors.message_page(group).messages
    assert [message.text for message in page] == ["oi a todos", "bom dia", "pelo LID"]
    authors = [message.context["author"] for message in page]
    assert [author["id"] for author in authors] == [
        "+5511988887777", "+5511988887766", "+5511988887755",
    ]  # fmt: skip
    assert "Pessoa 66" in render_to_string("messaging/_message.html", {"message": page[1]})
    assert preview(page[0]) == "Pessoa 77: oi a todos"
    assert group.unread_count == 3
    # People of a group who never wrote to us are no contacts.
    assert Contact.objects.count() == 2


def test_a_group_has_its_name_and_reactions_of_several_people(baileys: Channel) -> None:
    names = {"event": "groups.upsert", "data": [{"id": GROUP, "subject": "Clientes VIP"}]}
    reaction = {"reactionMessage": {"text": "👍", "key": {"id": "3A1"}}}
    first, second = written("", "3A5"), written("", "3A6", author="5511988887766")
    for event in (first, second):
        event["data"]["message"] = reaction
    receive_evolution(baileys, [written("oi", "3A1"), names, first, second])
    [message] = Message.objects.all()
    assert contact_name(message.conversation.contact) == "Clientes VIP"
    people = {one["by"]: one["emoji"] for one in message.reactions}
    assert people == {"+5511988887777": "👍", "+5511988887766": "👍"}


def test_a_reaction_to_a_message_of_a_group_names_its_author(baileys: Channel) -> None:
    """The group knows a message by the address that it reported, a hidden one in newer groups."""
    receive_evolution(
        baileys,
        [
            written("oi", "3A1"),
            written("olá", "3A2", participant="123@lid", participantAlt="5511988887755@c.us"),
        ],
    )
    keys = []
    for target in Message.objects.order_by("provider_message_id"):
        content = {"message": str(target.pk), "emoji": "👍"}
        reaction = accept_message(
            conversation=target.conversation, user=None, type="reaction", content=content
        ).message
        attempt = DeliveryAttempt(message=reaction, number=1, connection=baileys.primary)
        outbound = runner.outbound(reaction, attempt)
        assert isinstance(outbound, OutboundMessage)
        path, body = object_request(outbound)
        assert path.startswith("/message/sendReaction/")
        keys.append(body["key"])
    assert keys == [
        {"id": "3A1", "remoteJid": GROUP, "fromMe": False,
         "participant": "5511988887777@s.whatsapp.net"},
        {"id": "3A2", "remoteJid": GROUP, "fromMe": False, "participant": "123@lid"},
    ]  # fmt: skip


def test_a_group_without_a_known_name_has_one_for_people(baileys: Channel) -> None:
    receive_evolution(baileys, [written("oi", "3A1")])
    assert contact_name(Contact.objects.get()) == "Grupo 125486"


def test_groups_are_counted_and_not_shown_if_the_channel_ignores_them(baileys: Channel) -> None:
    change_channel(baileys, ignore_groups=True)
    receive_evolution(baileys, [written("oi", "3A1")])
    assert not Conversation.objects.exists()
    assert InboundEvent.objects.get().skipped == "group"


def change(type_: str, id_: str, by: str) -> dict[str, Any]:
    """Return the edit or deletion of a message, which names its sender as any message does."""
    event = written("", f"P{id_}{by}{type_}", author=by)
    body = {"key": {"id": id_, "remoteJid": GROUP}, "type": type_}
    body |= {"editedMessage": {"conversation": f"de {by}"}} if type_ == "MESSAGE_EDIT" else {}
    event["data"]["message"] = {"protocolMessage": body}
    return event


def test_only_its_author_edits_a_message_of_a_group(baileys: Channel) -> None:
    ana, beto = "5511988887777", "5511988887766"
    edits = [change("MESSAGE_EDIT", "3A1", by) for by in (beto, ana)]
    # The edit that comes first waits, and is no one else's, either.
    early = change("MESSAGE_EDIT", "3A2", beto)
    receive_evolution(baileys, [early, written("oi", "3A1"), *edits, written("olá", "3A2")])
    refused = InboundEvent.objects.filter(skipped="change:not_the_author").order_by("pk")
    assert [event.payload["data"]["key"]["id"] for event in refused] == [
        early["data"]["key"]["id"], edits[0]["data"]["key"]["id"],
    ]  # fmt: skip
    assert list(Message.objects.order_by("created_at").values_list("text", flat=True)) == [
        f"de {ana}", "olá",
    ]  # fmt: skip
    # An administrator may delete it, and WhatsApp checks who is one.
    receive_evolution(baileys, [change("REVOKE", "3A1", beto)])
    assert Message.objects.get(provider_message_id="3A1").revoked_at is not None


def test_nobody_changes_what_the_other_side_wrote(baileys: Channel) -> None:
    chat = "5511988887777@s.whatsapp.net"
    theirs = written("oi", "3A1", chat=chat)
    attacks = []
    for type_ in ("MESSAGE_EDIT", "REVOKE"):
        event = change(type_, "3A1", "1")
        event["data"]["key"] = {"remoteJid": chat, "fromMe": True, "id": f"P{type_}"}
        attacks.append(event)
    receive_evolution(baileys, [theirs, *attacks])
    [message] = Message.objects.all()
    assert (message.text, message.revoked_at) == ("oi", None)


@pytest.mark.parametrize(
    ("chat", "name"), [("120363@newsletter", "newsletter"), ("status@broadcast", "status")]
)
def test_newsletters_and_status_posts_are_counted(baileys: Channel, chat: str, name: str) -> None:
    receive_evolution(baileys, [written("oi", "3A1", chat=chat)])
    assert not Conversation.objects.exists()
    assert InboundEvent.objects.get().skipped == name
