from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import time_machine
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from channels_app.models import Channel
from messaging.inbox import work
from messaging.models import Conversation, Message
from tests.pages.html import parse

pytestmark = pytest.mark.django_db
MakeMessage = Callable[..., Message]
MakeConversation = Callable[..., Conversation]
HTMX = {"HX-Request": "true"}
NO_MESSAGE = "0d7c2a52-5b0e-4f7e-9a39-6f1c3f0a9b11"


def url(conversation: Conversation) -> str:
    return f"/conversations/{conversation.pk}/"


# --- the list -----------------------------------------------------------------------------------


def test_a_row_shows_contact_text_and_time(
    staff_client: Client, conversation: Conversation, make_message: MakeMessage
) -> None:
    make_message(conversation, minutes_ago=5, text="Até amanhã!", status="read")
    Conversation.objects.update(unread_count=3)

    row = parse(staff_client.get("/conversations/").content).one(
        data_live=f"conversation:{conversation.pk}"
    )

    assert row.attributes["href"] == url(conversation)
    for expected in ("Mariana Alves", "Até amanhã!", "3 unread"):
        assert expected in row.text
    row.one(data_icon="read")


def test_a_contact_without_a_name_is_shown_by_the_formatted_number(
    staff_client: Client, channel: Channel, make_conversation: MakeConversation
) -> None:
    make_conversation(channel, "+5511999990042")

    assert "+55 11 99999-0042" in parse(staff_client.get("/conversations/").content).text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", {"Ana", "Bia"}),
        ("search=bia", {"Bia"}),
        ("search=99999-0001", {"Ana"}),
        ("search=nobody", set()),
        ("tab=problem", {"Bia"}),
        ("tab=mine", {"Ana"}),
        ("tab=unassigned&search=bia", {"Bia"}),
        ("tab=nonsense", {"Ana", "Bia"}),
        ("label=VIP", {"Bia"}),
        ("channel={other}", {"Bia"}),
        ("channel=999999", {"Ana", "Bia"}),
        ("channel=x&page=-7", {"Ana", "Bia"}),
    ],
)
def test_the_list_can_be_searched_and_filtered(
    staff_client: Client,
    staff: User,
    make_channel: Callable[..., Channel],
    make_conversation: MakeConversation,
    make_message: MakeMessage,
    query: str,
    found: set[str],
) -> None:
    other = make_channel(name="Vendas")
    ana = make_conversation(make_channel(), "+5511999990001", "Ana")
    make_message(ana)
    work.change(ana, assignee=staff)
    bia = make_conversation(other, "+5511999990002", "Bia")
    work.change(bia, labels=["VIP"])
    make_message(bia, status="rejected", decision="no_fallback")

    page = parse(staff_client.get("/conversations/?" + query.format(other=other.pk)).content)

    assert {row.text for row in page.all(class_="row-title")} == found


def test_a_search_for_a_null_byte_returns_nothing(staff_client: Client) -> None:
    assert staff_client.get("/conversations/", {"search": "a\x00b"}).status_code == 200


def test_only_the_unfiltered_list_is_live(staff_client: Client, conversation: Conversation) -> None:
    assert parse(staff_client.get("/conversations/").content).all(data_watch="inbox=1")
    assert not parse(staff_client.get("/conversations/?search=ma").content).all(
        data_watch="inbox=1"
    )


def test_more_rows_keep_the_filters(
    staff_client: Client, channel: Channel, make_conversation: MakeConversation
) -> None:
    for number in range(41):
        make_conversation(channel, f"+55119999900{number:02}", "Zé")

    page = parse(staff_client.get("/conversations/?search=z").content)
    more = page.one("button", data_more=None).attributes["hx-get"]
    rest = parse(staff_client.get(more, headers=HTMX).content)

    assert len(page.all(class_="row")) == 40
    assert "search=z" in more
    assert len(rest.all(class_="row")) == 1
    assert not rest.all("button", data_more=None)


def test_rows_that_go_between_two_pages_hide_no_other(
    staff_client: Client, channel: Channel, make_conversation: MakeConversation, staff: User
) -> None:
    made = [make_conversation(channel, f"+55119999900{number:02}") for number in range(45)]
    # Nobody has the latest ones, which are first; one has no message yet.
    for one in made[:20]:
        work.change(one, assignee=staff)
    Conversation.objects.filter(pk=made[0].pk).update(last_message_at=None)

    page = parse(staff_client.get("/conversations/").content)
    shown = [row.attributes["data-live"] for row in page.all(class_="row")]
    for row in shown[:10]:
        work.change(Conversation.objects.get(pk=row.partition(":")[2]), status="resolved")
    more = page.one("button", data_more=None).attributes["hx-get"]
    rest = parse(staff_client.get(more, headers=HTMX).content).all(class_="row")

    all_rows = [*shown, *(row.attributes["data-live"] for row in rest)]
    assert sorted(all_rows) == sorted(f"conversation:{one.pk}" for one in made)
    assert all_rows[-1] == f"conversation:{made[0].pk}"
    for nonsense in ("x", "1|2026-01-01|5", "0||", "|a|9", "0|9999-99-99T00:00:00+00:00|1"):
        answer = staff_client.get("/conversations/", {"after": nonsense}, headers=HTMX)
        assert b'class="row' not in answer.content


def test_whoever_only_reads_leaves_a_conversation_unread_for_the_team(
    reader: Client, staff_client: Client, conversation: Conversation
) -> None:
    Conversation.objects.update(unread_count=2)
    for client, left in ((reader, 2), (staff_client, 0)):
        client.get(url(conversation))
        client.post(f"{url(conversation)}seen/", headers=HTMX)
        assert Conversation.objects.get().unread_count == left


def test_the_chips_count_up_to_their_limit_what_the_list_shows(
    staff_client: Client, channel: Channel, make_conversation: MakeConversation, staff: User
) -> None:
    for number in range(102):
        made = make_conversation(channel, f"+5511999990{number:03}")
        if number < 2:
            work.change(made, assignee=staff)

    page = parse(staff_client.get("/conversations/").content)

    counts = {chip: page.one(id=f"count-{chip}").text for chip in ("mine", "unassigned", "unread")}
    assert counts == {"mine": "2", "unassigned": "99+", "unread": ""}


def test_an_empty_list_explains_how_to_start(staff_client: Client) -> None:
    assert "No conversation yet" in parse(staff_client.get("/conversations/").content).text


# --- one conversation ---------------------------------------------------------------------------


def test_messages_are_in_order_with_a_separator_for_each_day(
    staff_client: Client, conversation: Conversation, make_message: MakeMessage
) -> None:
    with time_machine.travel(dt.datetime(2026, 3, 10, 15, 0, tzinfo=dt.UTC), tick=False):
        make_message(conversation, minutes_ago=3 * 24 * 60, text="um")
        make_message(conversation, minutes_ago=24 * 60, text="dois")
        make_message(conversation, minutes_ago=24 * 60 - 1, text="três", direction="in")
        make_message(conversation, minutes_ago=1, text="quatro")

        page = parse(staff_client.get(url(conversation)).content)

    texts = [element.text for element in page.all(class_="bubble-text")]
    assert texts == ["um", "dois", "três", "quatro"]
    days = [element.text for element in page.all(class_="day")]
    assert days == ["March 7, 2026", "Yesterday", "Today"]


def test_days_use_the_time_zone_of_the_installation(
    staff_client: Client, conversation: Conversation, make_message: MakeMessage
) -> None:
    # Half past ten in the evening of the 9th in São Paulo.
    with time_machine.travel(dt.datetime(2026, 3, 10, 1, 30, tzinfo=dt.UTC), tick=False):
        message = make_message(conversation)
        page = parse(staff_client.get(url(conversation)).content)

    article = page.one("article", data_message=str(message.pk))
    assert article.attributes["data-day"] == "2026-03-09"
    assert "22:30" in article.text


def test_the_sender_is_shown_above_the_text(
    staff_client: Client, conversation: Conversation, make_message: MakeMessage, staff: User
) -> None:
    User.objects.update(first_name="Cleiton", last_name="Meurer")
    make_message(conversation, created_by=staff)
    make_message(conversation, sent_outside=True)
    make_message(conversation)

    page = parse(staff_client.get(url(conversation)).content)

    authors = [element.text for element in page.all(class_="bubble-author")]
    assert authors == ["Cleiton Meurer", "Sent outside Alterna", "API client"]


def test_older_messages_are_loaded_on_demand(
    staff_client: Client, conversation: Conversation, make_message: MakeMessage
) -> None:
    for number in range(90, 0, -1):
        make_message(conversation, minutes_ago=number, text=f"nº {number}")

    page = parse(staff_client.get(url(conversation)).content)
    seen = [element.text for element in page.all(class_="bubble-text")]
    while older := page.all(data_older=None):
        page = parse(staff_client.get(older[0].attributes["hx-get"], headers=HTMX).content)
        assert not page.all("html")
        seen = [element.text for element in page.all(class_="bubble-text")] + seen

    assert seen == [f"nº {number}" for number in range(90, 0, -1)]


@pytest.mark.parametrize(("before", "status"), [("x", 400), ("", 400), (NO_MESSAGE, 200)])
def test_an_invalid_older_request_returns_no_messages(
    staff_client: Client, conversation: Conversation, before: str, status: int
) -> None:
    answer = staff_client.get(f"{url(conversation)}older/?before={before}")

    assert answer.status_code == status
    assert b"<article" not in answer.content


def test_viewing_a_conversation_marks_it_as_read(
    staff_client: Client, conversation: Conversation
) -> None:
    Conversation.objects.update(unread_count=2)
    staff_client.get(url(conversation))
    assert Conversation.objects.get().unread_count == 0

    Conversation.objects.update(unread_count=1)
    staff_client.post(f"{url(conversation)}seen/", headers=HTMX)
    assert Conversation.objects.get().unread_count == 0


@pytest.mark.parametrize(
    ("hours_ago", "expected"),
    [
        (None, "Has not written yet"),
        (23, "Open until"),
        (25, "Window closed"),
    ],
)
def test_the_state_of_the_24_hour_window_is_shown(
    staff_client: Client, conversation: Conversation, hours_ago: int | None, expected: str
) -> None:
    if hours_ago is not None:
        Conversation.objects.update(last_inbound_at=timezone.now() - dt.timedelta(hours=hours_ago))

    page = parse(staff_client.get(url(conversation)).content)

    assert expected in page.one(data_window=None).text


def test_the_row_of_the_open_conversation_is_highlighted(
    staff_client: Client, conversation: Conversation, make_conversation: MakeConversation
) -> None:
    make_conversation(conversation.channel, "+5511999990001")

    pane = parse(staff_client.get(url(conversation)).content).one("aside", class_="pane")

    assert len(pane.all("a", class_="row")) == 2
    assert pane.one("a", aria_current="page").attributes["href"] == url(conversation)


# --- sending ------------------------------------------------------------------------------------


def test_the_composer_stores_the_message_and_returns_its_bubble(
    staff_client: Client, conversation: Conversation, staff: User
) -> None:
    answer = staff_client.post(
        url(conversation), {"text": "  Olá!\r\nTudo bem? ", "key": "k1"}, headers=HTMX
    )

    message = Message.objects.get()
    assert (message.text, message.created_by) == ("Olá!\nTudo bem?", staff)
    article = parse(answer.content).one("article", data_message=str(message.pk))
    assert article.one(data_icon=None).attributes["data-icon"] == "clock"


def test_the_same_key_does_not_send_twice(staff_client: Client, conversation: Conversation) -> None:
    for _ in range(2):
        answer = staff_client.post(url(conversation), {"text": "Olá", "key": "k1"}, headers=HTMX)
        assert answer.status_code == 200

    assert Message.objects.count() == 1


def test_the_same_key_with_another_text_is_an_error(
    staff_client: Client, conversation: Conversation
) -> None:
    staff_client.post(url(conversation), {"text": "Olá", "key": "k1"}, headers=HTMX)

    answer = staff_client.post(url(conversation), {"text": "Oi", "key": "k1"}, headers=HTMX)

    assert answer.status_code == 400
    assert Message.objects.count() == 1


def test_the_form_works_without_scripts(staff_client: Client, conversation: Conversation) -> None:
    answer = staff_client.post(url(conversation), {"text": "Olá"})

    assert (answer.status_code, answer["Location"]) == (302, url(conversation))
    assert Message.objects.count() == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", "Enter a text."), ("   ", "Enter a text."), ("x" * 4097, "the limit is 4096"),
     ("a\x00b", "cannot be sent")],
)  # fmt: skip
def test_an_invalid_text_stays_in_the_form_with_its_error(
    staff_client: Client, conversation: Conversation, text: str, expected: str
) -> None:
    for headers in (HTMX, {}):
        answer = staff_client.post(url(conversation), {"text": text}, headers=headers)
        assert answer.status_code == 400
        assert expected in answer.content.decode()
    assert parse(answer.content).one("textarea", name="text").text == text.strip()
    assert not Message.objects.exists()


def test_no_message_can_be_sent_through_an_inactive_channel(
    staff_client: Client, conversation: Conversation
) -> None:
    Channel.objects.update(active=False)

    assert (
        "disabled"
        in parse(staff_client.get(url(conversation)).content)
        .one("textarea", name="text")
        .attributes
    )
    answer = staff_client.post(url(conversation), {"text": "Olá"}, headers=HTMX)
    assert answer.status_code == 400
    assert "not active" in answer.content.decode()


def test_a_message_to_a_new_number_opens_its_conversation(
    staff_client: Client, channel: Channel
) -> None:
    answer = staff_client.post(
        "/conversations/new/", {"channel": channel.pk, "to": "(11) 99999-0047", "text": "Oi"}
    )

    conversation = Conversation.objects.get()
    assert conversation.contact.phone_number == "+5511999990047"
    assert answer["Location"] == url(conversation)


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"to": "123"}, "to", "This is not a valid phone number."),
        ({"to": ""}, "to", "This field is required."),
        ({"text": ""}, "text", "This field is required."),
        ({"text": "x" * 4097}, "text", "4096"),
        ({"channel": "999"}, "channel", "Select a valid choice"),
    ],
)
def test_errors_of_a_new_message_are_shown_at_their_field(
    staff_client: Client, channel: Channel, change: dict[str, Any], field: str, expected: str
) -> None:
    data = {"channel": channel.pk, "to": "+5511999990000", "text": "Oi", **change}

    answer = staff_client.post("/conversations/new/", data)

    assert answer.status_code == 400
    assert expected in parse(answer.content).error_of(field)
    assert not Conversation.objects.exists()


def test_without_an_active_channel_there_is_no_form(staff_client: Client, channel: Channel) -> None:
    Channel.objects.update(active=False)

    page = parse(staff_client.get("/conversations/new/").content)

    assert "There is no active channel" in page.text
    assert not page.all("textarea")


# --- retry --------------------------------------------------------------------------------------


def test_a_retry_returns_the_current_bubble(
    staff_client: Client, conversation: Conversation, make_message: MakeMessage
) -> None:
    message = make_message(conversation, status="rejected", decision="no_fallback")

    answer = staff_client.post(
        f"/messages/{message.pk}/retry/", {"route": "official"}, headers=HTMX
    )

    article = parse(answer.content).one("article", data_message=str(message.pk))
    assert int(article.attributes["data-version"]) > message.version
    assert not [one for one in article.all("button") if "data-message-menu" not in one.attributes]


def test_an_impossible_retry_shows_the_reason(
    staff_client: Client, conversation: Conversation, make_message: MakeMessage
) -> None:
    message = make_message(conversation, status="delivered")

    answer = staff_client.post(
        f"/messages/{message.pk}/retry/", {"route": "official"}, headers=HTMX
    )

    assert "Only a rejected or unconfirmed message" in answer["HX-Trigger"]


@pytest.mark.parametrize("route", ["", "pigeon"])
def test_a_retry_by_an_unknown_route_is_rejected(
    staff_client: Client, conversation: Conversation, make_message: MakeMessage, route: str
) -> None:
    message = make_message(conversation, status="rejected", decision="no_fallback")

    answer = staff_client.post(f"/messages/{message.pk}/retry/", {"route": route})

    assert answer.status_code == 400
    message.refresh_from_db()
    assert message.round == 1


# --- the number of queries ----------------------------------------------------------------------


@pytest.mark.parametrize(("page", "most"), [("/", 21), ("/conversations/", 12), ("{}", 26)])
def test_the_number_of_queries_does_not_depend_on_the_number_of_rows(
    staff_client: Client,
    channel: Channel,
    make_conversation: MakeConversation,
    make_message: MakeMessage,
    staff: User,
    django_assert_max_num_queries: Any,
    page: str,
    most: int,
) -> None:
    first = make_conversation(channel)
    staff_client.get(url(first))  # stores how far it was read
    counts = []
    for start in (0, 10):
        for number in range(start, start + 10):
            conversation = make_conversation(channel, f"+55119999901{number:02}")
            for at in (conversation, first):
                make_message(
                    at,
                    status="rejected",
                    decision="no_fallback",
                    created_by=staff,
                    attempts=[{"outcome": "rejected", "error_code": "131047"}],
                )
        with django_assert_max_num_queries(most) as queries:
            assert staff_client.get(page.format(url(first))).status_code == 200
        counts.append(len(queries))

    assert counts[0] == counts[1]


def test_a_new_message_uses_an_official_channel_by_default(
    staff_client: Client, make_channel: Callable[..., Channel]
) -> None:
    make_channel(name="A Baileys", kind="baileys", phone_number_id="")
    make_channel(name="Z Oficial")
    page = parse(staff_client.get("/conversations/new/").content)
    options = page.one("select", name="channel").all("option")
    assert [option.text for option in options] == ["Z Oficial", "A Baileys"]
