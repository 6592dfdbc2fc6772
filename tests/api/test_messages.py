"""REST: send a message and follow its delivery."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.utils import timezone

from channels_app.models import Channel
from messaging import contacts
from messaging.delivery.statuses import Outcome, Route
from messaging.models import Conversation, DeliveryAttempt, Message
from tests.messaging.support import accept, attempt_of, customer, deliver

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

    from tests.conftest import Provider

pytestmark = pytest.mark.django_db

URL = "/api/messages/"
TO = "+5511988887777"
NO_MESSAGE = "0d7c2a52-5b0e-4f7e-9a39-6f1c3f0a9b11"


@pytest.fixture
def send(api: APIClient, channel: Channel) -> Callable[..., Any]:
    """POST a message, with an optional Idempotency-Key header."""

    def post(key: str | None = None, **body: Any) -> Any:
        headers = {"Idempotency-Key": key} if key is not None else {}
        fields = {"channel": channel.pk, "to": TO, "type": "text", "text": "Olá", **body}
        return api.post(URL, fields, format="json", headers=headers)

    return post


def nothing_is_stored() -> bool:
    stored = (Message.objects, Conversation.objects, DeliveryAttempt.objects)
    return not any(manager.exists() for manager in stored)


# -- sending ---------------------------------------------------------------------------------------


def test_a_message_is_accepted_and_can_be_fetched(
    send: Callable[..., Any], api: APIClient, channel: Channel, staff: User
) -> None:
    response = send(client_reference="order-17")

    assert response.status_code == 202
    body = response.json()
    assert response["Location"] == f"http://testserver{URL}{body['id']}/"
    assert "Idempotent-Replay" not in response
    message = Message.objects.get()
    # Fields may be added, but these must stay.
    assert body == body | {
        "id": str(message.pk),
        "channel": channel.pk,
        "conversation": message.conversation_id,
        "direction": "out",
        "to": TO,
        "type": "text",
        "text": "Olá",
        "content": {},
        "context": None,
        "status": "queued",
        "route": None,
        "icon": "clock",
        "error": None,
        "client_reference": "order-17",
        "sent_outside": False,
        "echo_of": None,
        "decision": "",
        "next_attempt_at": None,
        "created_at": body["created_at"],
        "updated_at": body["updated_at"],
        "attempts": [],
    }
    assert message.created_by == staff
    assert api.get(response["Location"]).json() == body


def test_a_rejected_message_shows_both_attempts_and_metas_error(
    api: APIClient, wired: Channel, wwebjs: Provider
) -> None:
    body = {"channel": wired.pk, "to": customer(graph="47"), "text": "Olá"}
    location = api.post(URL, body, format="json")["Location"]
    deliver(Message.objects.get())

    body = api.get(location).json()

    assert (body["status"], body["route"], body["icon"]) == ("sent", "wwebjs", "globe")
    assert body["error"]["code"] == "131047"
    assert body["error"]["title"]
    assert "24 hours" in body["error"]["detail"]
    first, second = body["attempts"]
    assert (first["number"], first["route"], first["outcome"]) == (1, "official", "rejected")
    assert (first["error_code"], first["provider_message_id"]) == ("131047", "")
    assert first["error_detail"] == body["error"]["detail"]
    assert first["started_at"] <= first["finished_at"]
    assert (second["number"], second["route"], second["outcome"]) == (2, "wwebjs", "accepted")
    assert second["provider_message_id"]


@pytest.mark.parametrize(
    ("type_", "content"),
    [
        ("image", {"link": "https://example.com/a.png", "caption": "Praia"}),
        ("document", {"link": "https://example.com/a.pdf", "filename": "a.pdf"}),
        ("location", {"latitude": -23.5, "longitude": -46.6}),
        ("contacts", [{"name": {"formatted_name": "John"}}]),
        ("reaction", {"message_id": "wamid.1", "emoji": "😀"}),
        ("template", {"name": "hello_world", "language": {"code": "en_US"}}),
        (
            "interactive",
            {
                "type": "location_request_message",
                "body": {"text": "?"},
                "action": {"name": "send_location"},
            },
        ),
    ],
)
def test_other_types_carry_an_object_named_after_them(
    send: Callable[..., Any], type_: str, content: Any
) -> None:
    response = send(type=type_, text="", **{type_: content, "video": {"link": "ignored"}})
    assert response.status_code == 202
    assert (response.json()["type"], response.json()["content"]) == (type_, content)
    assert response.json()[type_] == content
    assert type_ == "video" or "video" not in response.json()
    assert Message.objects.get().content == content


def test_a_message_can_reply_to_another_one_in_its_conversation(send: Callable[..., Any]) -> None:
    first = send().json()["id"]
    response = send(context={"message": first})
    assert response.status_code == 202
    quote = {"message": first, "provider_message_id": "", "text": "Olá"}
    assert response.json()["context"] == quote


def test_a_reaction_can_refer_to_its_message_by_our_id(
    api: APIClient, wired: Channel, graph: Provider
) -> None:
    def send(**fields: Any) -> Any:
        return api.post(URL, {"channel": wired.pk, "to": customer(), **fields}, format="json")

    target = Message.objects.get(pk=send(text="Olá").json()["id"])
    deliver(target)
    [attempt] = target.attempts.all()

    response = send(type="reaction", reaction={"message": str(target.pk), "emoji": "👍"})

    assert response.status_code == 202
    expected = {"emoji": "👍", "message_id": attempt.provider_message_id}
    assert response.json()["reaction"] == {"message": str(target.pk), **expected}
    deliver(Message.objects.get(pk=response.json()["id"]))
    assert graph.sends()[-1]["reaction"] == expected


@pytest.mark.parametrize(
    "reaction",
    [
        {"message": "elsewhere", "emoji": "👍"},
        {"message": "waiting", "emoji": "👍"},
        {"message": "x", "emoji": "👍"},
        {"message": str(uuid.uuid4()), "emoji": "👍"},
        {"message": "", "emoji": "👍"},
        {"message_id": "", "emoji": "👍"},
        {"message_id": 7, "emoji": "👍"},
        {"message": "waiting", "message_id": "wamid.1", "emoji": "👍"},
        {"emoji": "👍"},
    ],
)
def test_a_reaction_to_a_message_that_the_customer_does_not_have_is_400(
    send: Callable[..., Any], wired: Channel, graph: Provider, reaction: dict[str, str]
) -> None:
    waiting = send(channel=wired.pk).json()["id"]
    elsewhere = send(channel=wired.pk, to="+5531987654321").json()["id"]
    deliver(Message.objects.get(pk=elsewhere))
    ids = {"waiting": waiting, "elsewhere": elsewhere}
    reaction = {name: ids.get(value, value) for name, value in reaction.items()}

    response = send(channel=wired.pk, type="reaction", text="", reaction=reaction)

    [field] = response.json()
    assert (response.status_code, field.partition(".")[0]) == (400, "reaction")
    assert Message.objects.count() == 2


@pytest.mark.parametrize(
    ("language", "title", "detail"),
    [
        ("pt-br", "O provedor não respondeu a tempo", "sem resposta completa a tempo"),
        ("en", "The provider did not respond in time", "no complete response in time"),
    ],
)
def test_our_own_error_texts_are_in_the_language_of_the_response(
    api: APIClient, wired: Channel, language: str, title: str, detail: str
) -> None:
    message = accept(wired)
    attempt = attempt_of(message, outcome=Outcome.UNKNOWN, route=Route.OFFICIAL)
    error = {"error_code": "timeout", "error_detail": "no complete response in time"}
    error["error_title"] = "The provider did not respond in time"
    DeliveryAttempt.objects.filter(pk=attempt.pk).update(**error)
    Message.objects.filter(pk=message.pk).update(**error)

    api.credentials(**{**api._credentials, "HTTP_ACCEPT_LANGUAGE": language})
    response = api.get(f"{URL}{message.pk}/")

    assert response.headers["Content-Language"] == language
    body = response.json()
    assert body["error"] == {"code": "timeout", "title": title, "detail": detail}
    [first] = body["attempts"]
    assert (first["error_title"], first["error_detail"]) == (title, detail)


def test_spaces_in_a_text_are_preserved(send: Callable[..., Any]) -> None:
    assert send(text="  a\n b ").json()["text"] == "  a\n b "


def test_a_number_without_the_ninth_digit_is_the_same_customer(send: Callable[..., Any]) -> None:
    first, second = send(to="+5531987654321").json(), send(to="553187654321").json()
    assert first["conversation"] == second["conversation"]


@pytest.mark.parametrize("channel_id", [999, 10**30, "x", True])
def test_an_unknown_channel_is_reported_in_plain_language(
    send: Callable[..., Any], channel_id: object
) -> None:
    response = send(channel=channel_id)
    assert response.status_code == 400
    (error,) = response.json()["channel"]
    assert "pk" not in error.lower()
    assert not Message.objects.exists()


def test_not_found_is_reported_in_the_readers_language(api: APIClient) -> None:
    api.cookies["django_language"] = "pt-br"
    for path in (f"messages/{uuid.uuid4()}", "channels/99", "conversations/99"):
        response = api.get(f"/api/{path}/")
        assert response.status_code == 404
        assert response.json() == {"detail": "Não encontrado.", "code": "not_found"}


# -- the idempotency key ---------------------------------------------------------------------------


def test_the_same_key_and_body_give_the_same_message(send: Callable[..., Any]) -> None:
    first, second = send("k", to="11988887777"), send("k")
    assert (first.status_code, second.status_code) == (202, 200)
    assert second["Idempotent-Replay"] == "true"
    assert second["Location"] == first["Location"]
    assert second.json() == first.json()
    assert Message.objects.count() == 1


@pytest.mark.parametrize(
    "change", [{"text": "other"}, {"to": "+5511977776666"}, {"client_reference": "x"}]
)
def test_the_same_key_with_another_body_is_a_conflict(
    send: Callable[..., Any], change: dict[str, str]
) -> None:
    send("k")
    response = send("k", **change)
    assert response.status_code == 409
    assert response.json()["code"] == "idempotency_conflict"
    assert response.json()["detail"]
    assert Message.objects.count() == 1


def test_a_replay_does_not_depend_on_the_channels_current_state(
    send: Callable[..., Any], channel: Channel
) -> None:
    send("k")
    Channel.objects.update(active=False)
    assert send("k").status_code == 200


def test_a_key_belongs_to_its_user(
    send: Callable[..., Any],
    channel: Channel,
    make_user: Callable[..., User],
    client_of: Callable[..., APIClient],
) -> None:
    send("k")
    other = client_of(make_user("bia", is_superuser=True))
    body = {"channel": channel.pk, "to": TO, "text": "another"}
    response = other.post(URL, body, format="json", headers={"Idempotency-Key": "k"})
    assert response.status_code == 202


def test_without_a_key_the_same_body_creates_another_message(send: Callable[..., Any]) -> None:
    send()
    send("")
    assert send("").status_code == 202
    assert Message.objects.count() == 3


def test_a_key_has_at_most_255_characters(send: Callable[..., Any]) -> None:
    assert send("k" * 255).status_code == 202
    response = send("k" * 256)
    assert response.status_code == 400
    assert list(response.json()) == ["Idempotency-Key"]


@pytest.mark.django_db(transaction=True)
def test_concurrent_requests_with_the_same_key_create_one_message(
    channel: Channel, staff: User, client_of: Callable[..., APIClient]
) -> None:
    clients = [client_of(staff) for _ in range(4)]
    start = threading.Barrier(len(clients))
    responses: list[Any] = []

    def post(client: APIClient) -> None:
        try:
            start.wait(5)
            body = {"channel": channel.pk, "to": TO, "text": "Olá"}
            responses.append(
                client.post(URL, body, format="json", headers={"Idempotency-Key": "k"})
            )
        finally:
            connection.close()

    threads = [threading.Thread(target=post, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(response.status_code for response in responses) == [200, 200, 200, 202]
    assert len({response.json()["id"] for response in responses}) == 1
    assert Message.objects.count() == 1


# -- bad input -------------------------------------------------------------------------------------

LINK = {"link": "https://example.com/a.png"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": ""}, "to"),
        ({"to": None}, "to"),
        ({"to": "123"}, "to"),
        ({"to": "abc"}, "to"),
        ({"to": "+99912345678"}, "to"),
        ({"to": "1" * 41}, "to"),
        ({"to": {}}, "to"),
        ({"to": "\x00"}, "to"),
        ({"channel": None}, "channel"),
        ({"channel": 0}, "channel"),
        ({"channel": 10**30}, "channel"),
        ({"channel": -1}, "channel"),
        ({"channel": "x"}, "channel"),
        ({"channel": True}, "channel"),
        ({"channel": []}, "channel"),
        ({"text": ""}, "text"),
        ({"text": " \n"}, "text"),
        ({"text": "x" * 4097}, "text"),
        ({"text": "a\x00b"}, "text"),
        ({"text": ["a"]}, "text"),
        ({"type": "poll"}, "type"),
        ({"type": ""}, "type"),
        ({"type": "x" * 41}, "type"),
        ({"type": "image"}, "image"),
        ({"type": "image", "image": {"link": "nowhere"}}, "image.link"),
        ({"type": "image", "image": {**LINK, "caption": "x" * 1025}}, "image.caption"),
        ({"type": "image", "image": {**LINK, "a\x00": 1}}, "image.a"),
        ({"type": "location", "location": {"latitude": 99, "longitude": 1}}, "location.latitude"),
        ({"type": "template", "template": {"name": "x"}}, "template.language"),
        ({"preview_url": "x"}, "preview_url"),
        ({"client_reference": "x" * 256}, "client_reference"),
        ({"client_reference": "\x00"}, "client_reference"),
        ({"context": {"message": "x"}}, "context"),
        ({"context": {}}, "context"),
        ({"context": "x"}, "context"),
        ({"context": {"message": str(uuid.uuid4())}}, "context"),
    ],
)
def test_an_invalid_value_is_400_with_its_field(
    send: Callable[..., Any], change: dict[str, Any], field: str
) -> None:
    response = send(**change)
    assert response.status_code == 400, response.content
    assert list(response.json()) == [field]
    assert nothing_is_stored()


def test_a_text_can_have_4096_characters(send: Callable[..., Any]) -> None:
    assert send(text="é" * 4096).status_code == 202


def test_missing_fields_are_reported(api: APIClient, channel: Channel) -> None:
    response = api.post(URL, {}, format="json")
    assert response.status_code == 400
    assert set(response.json()) == {"channel", "to"}


@pytest.mark.parametrize(
    ("body", "code"),
    [("{", 400), ("", 400), ("[]", 400), ('"x"', 400), ("null", 400), ('{"to": "\\ud800"}', 400),
     ('{"channel": 1e999}', 400), ('{"channel": NaN}', 400), ("{" * 100_000, 400),
     ("[" * 100_000, 400)],
)  # fmt: skip
def test_a_body_that_is_not_a_message_is_400(api: APIClient, body: str, code: int) -> None:
    response = api.post(URL, body, content_type="application/json")
    assert response.status_code == code, response.content
    assert nothing_is_stored()


def test_invalid_json_gives_an_error_in_the_usual_format(api: APIClient) -> None:
    response = api.post(URL, "{", content_type="application/json")
    assert set(response.json()) == {"detail", "code"}
    assert response.json()["code"] == "parse_error"


def test_another_content_type_is_415(api: APIClient) -> None:
    response = api.post(URL, "to=1", content_type="application/x-www-form-urlencoded")
    assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")


def test_an_inactive_channel_accepts_no_messages(send: Callable[..., Any]) -> None:
    Channel.objects.update(active=False)
    response = send()
    assert (response.status_code, list(response.json())) == (400, ["channel"])
    assert nothing_is_stored()


def test_a_reply_to_another_conversation_is_400(send: Callable[..., Any]) -> None:
    other = send(to="+5511977776666").json()["id"]
    response = send(context={"message": other})
    assert (response.status_code, list(response.json())) == (400, ["context"])
    assert Message.objects.count() == Conversation.objects.count() == 1


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
@pytest.mark.parametrize("path", [URL, f"{URL}{NO_MESSAGE}/"])
def test_a_message_cannot_be_changed(api: APIClient, method: str, path: str) -> None:
    response = getattr(api, method)(path, {}, format="json")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("id_", [NO_MESSAGE, "x", "0", "%00", "a" * 300])
def test_an_unknown_message_is_404(api: APIClient, id_: str) -> None:
    for response in (api.get(f"{URL}{id_}/"), api.post(f"{URL}{id_}/retry/")):
        assert (response.status_code, response.json()["code"]) == (404, "not_found")
        assert set(response.json()) == {"detail", "code"}


@pytest.mark.parametrize(
    ("scenario", "reason"),
    [("refused_131000", "waiting_retry"), ("refused_131056", "waiting_recipient")],
)
def test_rest_shows_why_and_until_when_a_message_waits(
    api: APIClient, wired: Channel, graph: Provider, scenario: str, reason: str
) -> None:
    graph.plays(scenario)
    id_ = api.post(URL, {"channel": wired.pk, "to": TO, "text": "x"}, format="json").json()["id"]
    until = deliver(Message.objects.get(pk=id_))

    body = api.get(f"{URL}{id_}/").json()

    assert (body["status"], body["icon"], body["decision"]) == ("queued", "clock", reason)
    assert until is not None
    assert dt.datetime.fromisoformat(body["next_attempt_at"]) == until


# -- retrying --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("body", "route"), [({}, "official"), ({"route": "fallback"}, "wwebjs")])
def test_a_rejected_message_can_be_retried(
    api: APIClient, wired: Channel, graph: Provider, body: dict[str, str], route: str
) -> None:
    graph.plays("refused_131049")
    message = Message.objects.get(
        pk=api.post(URL, {"channel": wired.pk, "to": TO, "text": "x"}, format="json").json()["id"]
    )
    deliver(message)

    response = api.post(f"{URL}{message.pk}/retry/", body, format="json")

    assert response.status_code == 202
    assert response.json()["id"] == str(message.pk)
    state = [response.json()[name] for name in ("status", "icon", "route", "decision")]
    assert state == ["queued", "clock", None, ""]
    assert [attempt["outcome"] for attempt in response.json()["attempts"]] == ["rejected"]
    deliver(message)
    assert (message.status, message.route) == ("sent", route)
    again = api.post(f"{URL}{message.pk}/retry/", body, format="json")
    assert (again.status_code, again.json()["code"]) == (409, "not_retryable")
    assert again.json()["detail"]


def test_a_retry_by_an_unknown_route_is_400(api: APIClient, send: Callable[..., Any]) -> None:
    path = f"{URL}{send().json()['id']}/retry/"
    response = api.post(path, {"route": "pigeon"}, format="json")
    assert (response.status_code, list(response.json())) == (400, ["route"])
    assert api.get(path).status_code == 405


# -- filters and pages -----------------------------------------------------------------------------


@pytest.fixture
def messages(make_channel: Callable[..., Channel]) -> list[Message]:
    """Six messages of two channels and two customers, oldest first."""
    one, two = make_channel(), make_channel()
    created = []
    for number, (channel, to, fields) in enumerate(
        [
            (one, TO, {"status": "queued", "client_reference": "r-1"}),
            (one, TO, {"status": "sent", "route": "official"}),
            (one, TO, {"direction": "in"}),
            (one, "+5531987654321", {"status": "read", "route": "wwebjs"}),
            (two, TO, {"status": "rejected", "route": "official"}),
            (two, TO, {"status": "unconfirmed", "client_reference": "r-1"}),
        ]
    ):
        conversation = contacts.conversation_with(channel, phone_number=to)
        defaults = {"direction": "out", "status": "", "text": str(number)}
        created.append(
            Message.objects.create(
                conversation=conversation, created_at=timezone.now(), **{**defaults, **fields}
            )
        )
    return created


def texts(response: Any) -> str:
    assert response.status_code == 200, response.content
    return "".join(message["text"] for message in response.json()["results"])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", "543210"),
        ("channel={one}", "3210"),
        ("channel={two}", "54"),
        ("conversation={conversation}", "210"),
        ("status=sent", "1"),
        ("status=unconfirmed", "5"),
        ("route=official", "41"),
        ("route=wwebjs", "3"),
        ("direction=in", "2"),
        ("direction=out", "54310"),
        ("to=%2B5511988887777", "54210"),
        ("to=11 98888-7777", "54210"),
        ("to=%2B553187654321", "3"),
        ("to=nobody", ""),
        ("client_reference=r-1", "50"),
        ("client_reference=r-2", ""),
        ("channel={one}&direction=out&route=wwebjs", "3"),
    ],
)
def test_messages_are_filtered_and_listed_newest_first(
    api: APIClient, messages: list[Message], query: str, expected: str
) -> None:
    query = query.format(
        one=messages[0].conversation.channel_id,
        two=messages[5].conversation.channel_id,
        conversation=messages[0].conversation_id,
    )
    assert texts(api.get(f"{URL}?{query}")) == expected


@pytest.mark.parametrize(
    "query",
    ["channel=x", "channel=0", "channel=99999999999999999999", "conversation=x", "status=lost",
     "route=pigeon", "direction=sideways", "to=%00", "client_reference=%00"],
)  # fmt: skip
def test_an_invalid_filter_is_400(api: APIClient, messages: list[Message], query: str) -> None:
    response = api.get(f"{URL}?{query}")
    assert response.status_code == 400
    assert list(response.json()) == [query.partition("=")[0]]


def test_cursor_pagination_is_stable_while_new_messages_arrive(
    api: APIClient, messages: list[Message]
) -> None:
    page = api.get(f"{URL}?page_size=4").json()
    assert [message["text"] for message in page["results"]] == list("5432")
    assert page["previous"] is None
    Message.objects.create(
        conversation=messages[0].conversation, direction="in", text="6", created_at=timezone.now()
    )
    second = api.get(page["next"]).json()
    assert [message["text"] for message in second["results"]] == list("10")
    assert second["next"] is None
    assert texts(api.get(second["previous"])) == "5432"


def test_messages_with_the_same_timestamp_are_all_listed(
    api: APIClient, messages: list[Message]
) -> None:
    Message.objects.update(created_at=timezone.now())
    listed, url = "", f"{URL}?page_size=1"
    while url:
        page = api.get(url).json()
        listed += page["results"][0]["text"]
        url = page["next"]
    assert sorted(listed) == list("012345")


@pytest.mark.parametrize("cursor", ["x", "cD0lMDA=", "cD14", "bz05OTk5OTk5OTk5OQ==", "%00", "é"])
def test_an_invalid_cursor_causes_no_server_error(
    api: APIClient, messages: list[Message], cursor: str
) -> None:
    assert api.get(f"{URL}?cursor={cursor}").status_code in (200, 400, 404)


@pytest.mark.parametrize(
    ("size", "expected"), [("2", 2), ("0", 6), ("-1", 6), ("x", 6), ("999", 6)]
)
def test_the_page_size_is_limited(
    api: APIClient, messages: list[Message], size: str, expected: int
) -> None:
    assert len(texts(api.get(f"{URL}?page_size={size}"))) == expected


def test_a_received_message_has_our_number_as_its_recipient(
    api: APIClient, messages: list[Message]
) -> None:
    [received] = api.get(f"{URL}?direction=in").json()["results"]
    assert (received["to"], received["status"], received["icon"]) == ("+5511900000001", "", "")


def test_the_number_of_queries_does_not_depend_on_the_length_of_the_list(
    api: APIClient,
    messages: list[Message],
    django_assert_num_queries: Callable[..., Any],
    django_assert_max_num_queries: Callable[..., Any],
) -> None:
    api.get(URL)  # stores that the key is in use, once a minute
    with django_assert_max_num_queries(6) as few:
        api.get(f"{URL}?page_size=1")
    for message in messages:
        for number in (1, 2):
            attempt_of(message, outcome=Outcome.REJECTED, route=Route.OFFICIAL, number=number)
    with django_assert_num_queries(len(few)):
        api.get(URL)


# -- conversations ---------------------------------------------------------------------------------


def test_conversations_are_listed_latest_first(
    api: APIClient, messages: list[Message], django_assert_max_num_queries: Callable[..., Any]
) -> None:
    latest = messages[3].conversation
    Conversation.objects.filter(pk=latest.pk).update(last_message_at=timezone.now(), unread_count=2)
    with django_assert_max_num_queries(6):
        response = api.get("/api/conversations/")
    results = response.json()["results"]
    assert len(results) == 3
    assert set(response.json()) == {"next", "previous", "results"}
    assert results[0] == {
        "id": latest.pk,
        "channel": latest.channel_id,
        "contact": {
            "id": latest.contact_id,
            "name": "",
            "phone_number": "+5531987654321",
            "user_id": None,
            "username": "",
            "addresses": [{"kind": "phone", "value": "+5531987654321"}],
            "custom_fields": {},
        },
        "unread_count": 2,
        "last_message_at": results[0]["last_message_at"],
        "last_inbound_at": None,
        "assignee": None,
        "team": None,
        "status": "open",
        "snoozed_until": None,
        "labels": [],
        "created_at": results[0]["created_at"],
        "window": {"open": False, "until": None},
        "reachable": {"official": True, "fallback": False, "why": ""},
        "controlled_by": "",
    }
    assert api.get(f"/api/conversations/{latest.pk}/").json() == results[0]


def test_conversations_are_paginated_by_cursor(api: APIClient, messages: list[Message]) -> None:
    listed, url = [], "/api/conversations/?page_size=2"
    while url:
        page = api.get(url).json()
        listed += [conversation["id"] for conversation in page["results"]]
        url = page["next"]
    assert len(listed) == len(set(listed)) == 3


@pytest.mark.parametrize(
    ("query", "count"),
    [("search=31 98765", 1), ("search=9888", 2), ("search=Ana", 0), ("channel={one}", 2)],
)
def test_conversations_are_filtered(
    api: APIClient, messages: list[Message], query: str, count: int
) -> None:
    query = query.format(one=messages[0].conversation.channel_id)
    assert len(api.get(f"/api/conversations/?{query}").json()["results"]) == count


@pytest.mark.parametrize("id_", ["0", "x", "99999999999999999999", "%00"])
def test_an_unknown_conversation_is_404(api: APIClient, id_: str) -> None:
    response = api.get(f"/api/conversations/{id_}/")
    assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_conversations_are_neither_made_nor_deleted(
    api: APIClient, messages: list[Message]
) -> None:
    one = f"/api/conversations/{messages[0].conversation_id}/"
    for method, path in (
        *((method, "/api/conversations/") for method in ("post", "put", "patch", "delete")),
        ("put", one),
        ("delete", one),
    ):
        assert getattr(api, method)(path, {}, format="json").status_code == 405
