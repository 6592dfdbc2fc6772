"""Every type on its way through a route: changed where it must be, and shown afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from channels_app.models import Channel, MessageTemplate
from messaging.delivery import attempts
from messaging.media import files as media
from messaging.models import Message
from simulators.graph.app import make_wamid
from tests import files
from tests.conftest import Provider
from tests.factories import change_channel, update_connection
from tests.messaging.delivery.test_downgrade import BUTTONS, LIST, template
from tests.messaging.delivery.test_quotes import KEY, OWN, REFUSED, shows
from tests.messaging.support import (
    accept,
    deliver,
    deliver_due,
    envelope,
    post,
    read_events,
    run_jobs,
    stored_attempts,
    trail,
)

if TYPE_CHECKING:
    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db


def writes(
    channel: Channel, text: str, *, to: Message | None = None, sender: str = REFUSED, key: str = ""
) -> Message:
    """Let the customer write by the official API; return the message."""
    key = key or f"3A{Message.objects.count():018d}"
    message = {"id": make_wamid(sender[1:], key, from_me=False), "from": sender[1:],
               "type": "text", "text": {"body": text}}  # fmt: skip
    if to is not None:
        message["context"] = {"id": to.attempts.latest("number").provider_message_id}
    post(envelope({"messages": [message]}, channel))
    read_events()
    return Message.objects.get(provider_message_id=message["id"])


def test_a_template_goes_by_the_fallback_as_its_text_and_the_history_says_so(
    wired: Channel, wwebjs: Provider, api: APIClient, staff: Any, client: Client, plain_static: None
) -> None:
    message = accept(wired, REFUSED, type="template", text="Oi *Ana*", content=template())
    deliver_due()
    deliver(message)
    assert message.route == "wwebjs"
    assert wwebjs.sends()[-1]["content"] == "Oi *Ana*"
    first, second = stored_attempts(message)
    assert (first.changes, first.sent_type, first.sent_text) == ([], "", "")
    assert (second.changes, second.sent_type) == (["template_as_text"], "text")
    # An ack without an id is matched by what was sent.
    second.provider_message_id = ""
    second.save()
    found = attempts.find_unnamed(
        channel_id=wired.pk, phone_number=REFUSED, text="Oi *Ana*", at=second.started_at
    )
    assert found == second

    [before, after] = api.get(f"/api/messages/{message.pk}/").json()["attempts"]
    assert (before["changes"], before["sent_as"]) == ([], None)
    assert after["sent_as"] == {"type": "text", "text": "Oi *Ana*"}
    [change] = after["changes"]
    assert change["code"] == "template_as_text"
    client.force_login(staff)
    client.cookies["django_language"] = "en"
    page = client.get(reverse("messaging:message", args=[message.pk])).content.decode()
    assert change["text"] in page
    assert "Oi <strong>Ana</strong>" in page


def test_what_the_fallback_cannot_carry_is_refused_with_a_reason_and_no_request(
    wired: Channel, wwebjs: Provider
) -> None:
    flow = {"type": "flow", "body": {"text": "?"}, "action": {
        "name": "flow", "parameters": {"flow_id": "1", "flow_cta": "Ir"}}}  # fmt: skip
    message = accept(wired, REFUSED, type="interactive", text="", content=flow)
    deliver(message)
    assert trail(message)[1:] == [("wwebjs", "rejected", "official_only")]
    assert (message.status, message.decision) == ("rejected", "fallback_refused")
    assert wwebjs.sends() == []


def test_the_answer_to_numbered_options_is_understood(
    wired: Channel, api: APIClient, staff: Any, client: Client, plain_static: None
) -> None:
    asked = accept(wired, REFUSED, type="interactive", text="", content=BUTTONS)
    deliver(asked)
    assert stored_attempts(asked)[-1].changes == ["buttons_numbered"]

    answer = writes(wired, "2")
    chosen = {"message": str(asked.pk), "id": "n", "title": "Não"}
    assert answer.context["chosen"] == chosen
    assert api.get(f"/api/messages/{answer.pk}/").json()["chosen"] == chosen
    client.force_login(staff)
    client.cookies["django_language"] = "en"
    url = reverse("messaging:conversation", args=[answer.conversation_id])
    assert "chose: Não" in client.get(url).content.decode()
    # The latest numbered message counts, unless the customer quotes another one.
    later = accept(wired, REFUSED, type="interactive", text="", content=LIST)
    deliver(later)
    assert writes(wired, "2").context["chosen"]["title"] == "14h"
    assert writes(wired, "14H").context["chosen"]["title"] == "14h"
    # A number chooses once; and not after something else that we wrote, unless it quotes.
    assert "chosen" not in writes(wired, "1").context
    again = accept(wired, REFUSED, type="interactive", text="", content=BUTTONS)
    deliver(again)
    deliver(accept(wired, REFUSED, text="Quantas unidades?"))
    assert "chosen" not in writes(wired, "2").context
    assert writes(wired, "Não").context["chosen"]["message"] == str(again.pk)
    assert writes(wired, "1", to=again).context["chosen"]["title"] == "Sim"
    assert "chosen" not in writes(wired, "bom dia").context
    assert "chosen" not in writes(wired, "2", sender="+5511977776666").context


def test_the_answer_to_the_quick_replies_of_a_template_is_understood(wired: Channel) -> None:
    """A fallback sends the template as its text; the customer answers in words."""
    parts = [
        {"type": "BODY", "text": "Confirma?"},
        {"type": "BUTTONS", "buttons": [
            {"type": "QUICK_REPLY", "text": text} for text in ("Sim, confirmo", "Não")
        ]},
    ]  # fmt: skip
    change_channel(wired, business_account_id="7")
    for name, components in (("pergunta", parts), ("aviso", parts[:1])):
        MessageTemplate.objects.create(
            business_account_id="7", template_id=name, name=name, language="pt_BR",
            category="UTILITY", status="APPROVED", components=components,
            synced_at=timezone.now(), updated_at=timezone.now(),
        )  # fmt: skip
    payload = {"type": "button", "sub_type": "quick_reply", "index": "1",
               "parameters": [{"type": "payload", "payload": "no-7"}]}  # fmt: skip
    language = {"code": "pt_BR"}
    asked, _ = (
        accept(wired, REFUSED, type="template", text="", content=content)
        for content in (
            {"name": "pergunta", "language": language, "components": [payload]},
            {"name": "aviso", "language": language},
        )
    )
    deliver(asked)
    deliver(_)
    for words, id_, title in (
        ("sim confirmo!", "Sim, confirmo", "Sim, confirmo"), ("NAO", "no-7", "Não"),
    ):  # fmt: skip
        chosen = {"message": str(asked.pk), "id": id_, "title": title}
        assert writes(wired, words).context["chosen"] == chosen
    # They have no numbers.
    assert "chosen" not in writes(wired, "1").context


def test_buttons_that_were_shown_as_buttons_have_no_numbers(wired: Channel) -> None:
    asked = accept(wired, "+5511988887777", type="interactive", text="", content=BUTTONS)
    deliver_due()
    assert stored_attempts(asked)[0].changes == []
    assert "chosen" not in writes(wired, "2", sender="+5511988887777").context


@pytest.mark.parametrize("number", ["+5511988887777", REFUSED])
def test_our_reaction_is_shown_with_its_message_and_taken_back(
    wired: Channel, wwebjs: Provider, graph: Provider, api: APIClient, number: str
) -> None:
    change_channel(wired, phone_number=f"+{OWN}")
    update_connection(wired, "wwebjs", own_number=OWN)
    asked = writes(wired, "Olá", sender=number, key=KEY)
    shows(wwebjs, number)

    def react(emoji: str) -> list[dict[str, Any]]:
        content = {"message": str(asked.pk), "emoji": emoji}
        reaction = accept(wired, number, type="reaction", text="", content=content)
        deliver_due()
        deliver(reaction)
        assert reaction.status in ("sent", "delivered"), trail(reaction)
        assert reaction.route == ("official" if number != REFUSED else "wwebjs")
        shown: list[dict[str, Any]] = api.get(f"/api/messages/{asked.pk}/").json()["reactions"]
        return shown

    [reaction] = react("👍")
    assert (reaction["emoji"], reaction["by"]) == ("👍", "us")
    assert react("") == []


def test_a_reaction_that_fails_later_is_not_shown(wired: Channel) -> None:
    asked = writes(wired, "Olá", sender="+5511988887777")
    content = {"message": str(asked.pk), "emoji": "👍"}
    reaction = accept(wired, "+5511988887777", type="reaction", text="", content=content)
    deliver(reaction)
    asked.refresh_from_db()
    assert [one["emoji"] for one in asked.reactions] == ["👍"]
    late = envelope({"statuses": [{
        "id": stored_attempts(reaction)[0].provider_message_id, "status": "failed",
        "timestamp": "1751142888", "recipient_id": "5511988887777",
        "errors": [{"code": 131009, "title": "Not valid"}]}]}, wired)  # fmt: skip
    post(late)
    read_events()
    asked.refresh_from_db()
    assert [one["emoji"] for one in asked.reactions] == [""]


def test_a_reply_that_cannot_quote_says_so_in_the_history(wired: Channel, wwebjs: Provider) -> None:
    asked = writes(wired, "Olá")
    # It is not certain that the session has the number's own messages.
    reply = accept(wired, REFUSED, reply_to=str(asked.pk))
    deliver(reply)
    assert stored_attempts(reply)[-1].changes == ["quote_left_out"]
    change_channel(wired, phone_number=f"+{OWN}")
    update_connection(wired, "wwebjs", own_number=OWN)
    # Its page does not have the message: the server was asked not to ignore that.
    reply = accept(wired, REFUSED, reply_to=str(asked.pk))
    deliver(reply)
    assert stored_attempts(reply)[-1].changes == ["quote_left_out"]
    assert [body["options"].get("ignoreQuoteErrors") for body in wwebjs.sends()[1:]] == [
        False,
        None,
    ]


def test_a_header_s_upload_is_sent_by_every_route(
    wired: Channel, wwebjs: Provider, graph: Provider, settings: Any, tmp_path: Path
) -> None:
    settings.MEDIA_ROOT = tmp_path
    photo = media.store_upload(SimpleUploadedFile("foto.png", files.PNG, "x/y"), user=None)
    content = {**BUTTONS, "header": {"type": "image", "image": {"media": str(photo.pk)}}}
    message = accept(wired, REFUSED, type="interactive", text="", content=content)
    deliver(message)
    [asked] = [body for body in graph.sends() if body.get("type") == "interactive"]
    assert asked["interactive"]["header"]["image"].keys() == {"id"}
    sent = wwebjs.sends()[-1]
    assert (sent["contentType"], sent["content"]["mimetype"]) == ("MessageMedia", "image/png")
    assert sent["options"]["caption"].startswith("Confirma?\n\n1. Sim")


@pytest.mark.django_db(transaction=True)
def test_reading_marks_the_messages_at_their_provider_in_a_job(
    wired: Channel, graph: Provider, api: APIClient
) -> None:
    writes(wired, "Olá", sender="+5511988887777")
    last = writes(wired, "Oi", sender="+5511988887777")
    url = f"/api/conversations/{last.conversation_id}/read/"
    answer = api.post(url, {"typing": True}, format="json")
    assert (answer.status_code, answer.json()["unread_count"]) == (200, 0)
    assert graph.sends() == []
    run_jobs("care")
    assert graph.sends()[-1] == {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": last.provider_message_id,
        "typing_indicator": {"type": "text"},
    }
    assert api.post(url, {"typing": "x"}, format="json").status_code == 400
