"""The status icon of a message, with a text for users who cannot see it or its color."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.utils import translation

from channels_app.providers.events import Receipt
from messaging import selectors
from messaging.delivery import statuses
from messaging.models import Conversation, Message
from messaging.templatetags.statuses import receipt_label
from tests.pages.html import Element, parse

pytestmark = pytest.mark.django_db
SPRITE = Path(__file__).parents[2] / "static" / "icons.svg"

REFUSED = {
    "outcome": "rejected",
    "error_code": "131047",
    "error_title": "More than 24 hours since the customer's last message",
}


@pytest.fixture
def bubble(
    conversation: Conversation, make_message: Callable[..., Message]
) -> Callable[..., Element]:
    """Render a message as the page and the socket do."""

    def render(may_retry: bool = True, **fields: Any) -> Element:
        message = make_message(conversation, **fields)
        with translation.override("en"):
            html = render_to_string(
                "messaging/_message.html",
                {"message": selectors.messages().get(pk=message.pk), "may_retry": may_retry},
            )
        return parse(html).one("article")

    return render


@pytest.mark.parametrize("icon", statuses.Icon)
def test_the_sprite_contains_every_icon(icon: str) -> None:
    assert f'<symbol id="{icon}"' in SPRITE.read_text()


@pytest.mark.parametrize(
    ("status", "route", "icon", "label"),
    [
        ("queued", None, "clock", "Waiting to be sent"),
        ("sending", "official", "clock", "Sending"),
        ("held", "official", "held", "Held by Meta"),
        ("sent", "official", "sent", "Sent"),
        ("delivered", "official", "delivered", "Delivered"),
        ("read", "official", "read", "Read"),
        ("rejected", "official", "rejected", "Rejected"),
        ("unconfirmed", "official", "unconfirmed", "Not confirmed: it may have been sent"),
        ("sent", "wwebjs", "globe", "Sent through wwebjs"),
        ("delivered", "wwebjs", "globe", "Sent through wwebjs, delivered"),
        ("read", "baileys", "globe", "Sent through Baileys, read"),
    ],
)
def test_each_status_has_one_icon_with_a_text(
    bubble: Callable[..., Element], status: str, route: str | None, icon: str, label: str
) -> None:
    drawn = bubble(status=status, route=route).one(data_icon=None)

    assert drawn.attributes["data-icon"] == icon
    assert drawn.attributes["title"].startswith(label)
    assert drawn.one(class_="visually-hidden").text == label


@pytest.mark.parametrize(("status", "ticks"), [("sent", []), ("delivered", ["delivered"]),
                                               ("read", ["read"])])  # fmt: skip
def test_the_globe_has_small_ticks_after_a_receipt(
    bubble: Callable[..., Element], status: str, ticks: list[str]
) -> None:
    globe = bubble(status=status, route="wwebjs").one(data_icon="globe")

    assert [tick.attributes["data-ticks"] for tick in globe.all(data_ticks=None)] == ticks


def test_a_received_message_has_no_icon(bubble: Callable[..., Element]) -> None:
    assert not bubble(direction="in", route=None).all(data_icon=None)


def test_the_tooltip_lists_the_errors_of_all_attempts_and_the_decision(
    bubble: Callable[..., Element],
) -> None:
    article = bubble(
        status="rejected",
        decision="fallback_refused",
        attempts=[
            REFUSED,
            {"route": "wwebjs", "outcome": "rejected", "error_code": "not_on_whatsapp"},
        ],
    )

    assert article.one(data_icon="rejected").attributes["title"].split("\n") == [
        "Rejected",
        "official API: More than 24 hours since the customer's last message (131047)",
        "wwebjs: The number is not on WhatsApp (not_on_whatsapp)",
        "The fallback also rejected it.",
    ]


def test_the_globe_tooltip_shows_the_rejection_of_the_official_api(
    bubble: Callable[..., Element],
) -> None:
    article = bubble(route="wwebjs", attempts=[REFUSED, {"route": "wwebjs", "outcome": "accepted"}])

    lines = article.one(data_icon="globe").attributes["title"].split("\n")
    assert lines[0] == "Sent through wwebjs"
    assert "131047" in lines[1]


def test_an_unknown_error_is_shown_in_the_providers_text(
    bubble: Callable[..., Element],
) -> None:
    article = bubble(
        status="rejected",
        decision="no_fallback",
        error_code="999999",
        error_title="Something very new",
    )

    assert "Something very new (999999)" in article.one(data_icon=None).attributes["title"]


def test_the_attempt_history_has_no_second_icon(
    bubble: Callable[..., Element],
) -> None:
    article = bubble(
        status="delivered",
        route="wwebjs",
        attempts=[
            {**REFUSED, "rule": "first", "error_detail": "Message failed to send because…"},
            {"route": "wwebjs", "outcome": "accepted", "rule": "refused",
             "provider_message_id": "true_55@c.us_3EB0"},
        ],
    )  # fmt: skip

    trail = article.one("details")
    said = trail.one("summary").text
    assert "Official API refused (" in said
    assert "sent by wwebjs in 0.0 s" in said
    first, second, more = trail.all("li")
    assert more.one("a").attributes["href"].startswith("/messages/")
    assert "Message failed to send because…" in first.text
    assert "The official API rejected it permanently." in second.text
    assert "true_55@c.us_3EB0" in second.text
    article.one(data_icon=None)


def _offered(article: Element) -> list[str]:
    buttons = article.all("button")
    return [one.text for one in buttons if "message-more" not in one.attributes["class"]]


def test_retry_is_offered_once_nothing_more_happens_automatically(
    bubble: Callable[..., Element], conversation: Conversation
) -> None:
    def offers(**fields: Any) -> list[str]:
        return _offered(bubble(**fields))

    conversation.channel.fallback = "wwebjs"
    conversation.channel.save()

    both = ["Try again", "Send through the fallback"]
    assert offers(status="rejected", decision="fallback_refused") == both
    held = ["Confirm delivery", "Send again", "Send through the fallback"]
    assert offers(status="unconfirmed", decision="held") == held
    assert offers(status="rejected", decision="") == []
    assert offers(status="sent") == []
    assert offers(status="rejected", decision="fallback_refused", may_retry=False) == []


def test_a_channel_without_fallback_does_not_offer_the_fallback(
    bubble: Callable[..., Element],
) -> None:
    article = bubble(status="rejected", decision="no_fallback")

    assert _offered(article) == ["Try again"]


@pytest.mark.parametrize(
    ("type_", "content", "shown"),
    [
        ("image", {"filename": "carro.png", "caption": "Pronto!"}, "Image carro.png Pronto!"),
        ("document", {"link": "https://example.com/a/nota.pdf?x=1"}, "Document nota.pdf"),
        ("template", {"name": "lembrete", "language": {"code": "pt_BR"}}, "Template lembrete"),
        ("contacts", [{"name": {"formatted_name": "Ana"}}], "Contact"),
        ("reaction", {"emoji": "👍"}, "Reaction 👍"),
        ("hologram", {}, "Message that only the phone shows"),
    ],
)
def test_other_types_have_a_label(
    bubble: Callable[..., Element], type_: str, content: Any, shown: str
) -> None:
    article = bubble(type=type_, content=content, text="", direction="in", route=None)

    assert shown in article.one(class_="bubble").text


def test_text_is_escaped_and_preserves_line_breaks(bubble: Callable[..., Element]) -> None:
    article = bubble(text="<script>alert(1)</script>\nsegunda")

    body = article.one(class_="bubble-text")
    assert body.text == "<script>alert(1)</script> segunda"
    assert body.all("br")
    assert not article.all("script")


@pytest.mark.parametrize("receipt", [it for it in Receipt if it])
def test_every_receipt_has_a_translated_label(
    receipt: Receipt,
) -> None:
    with translation.override("pt-br"):
        assert receipt_label(receipt) in {"enviada", "entregue", "lida", "falhou"}
