"""REST: what would happen to a message, batches, scheduled messages, and costs."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from channels_app.models import Channel
from messaging import contacts
from messaging.delivery import accept as sending
from messaging.models import Conversation, Message, Rate
from tests.factories import change_channel, update_connection
from tests.messaging.support import attempt_of

if TYPE_CHECKING:
    from django.test import Client
    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

TO, STRANGER = "+5511988887777", "+5511977776666"
TEMPLATE = {"type": "template", "template": {"name": "aviso", "language": {"code": "pt_BR"}}}


@pytest.fixture
def conversation(channel: Channel) -> Conversation:
    """A customer who wrote an hour ago."""
    found = contacts.conversation_with(channel, phone_number=TO)
    found.last_inbound_at = timezone.now() - dt.timedelta(hours=1)
    found.save()
    return found


def test_the_verdict_has_the_shape_of_the_contract(
    api: APIClient, channel: Channel, conversation: Conversation
) -> None:
    body = {"channel": channel.pk, "to": TO, "text": "Olá"}

    answer = api.post("/api/messages/preview/", body, format="json")

    assert answer.status_code == 200
    assert answer.json() == answer.json() | {
        "would": "send",
        "route": "official",
        "reason": {"code": "first", "text": "The official API is tried first."},
        "until": None,
        "charge": {"category": "service", "free": True},
        "changes": [],
        "refusals": [],
    }
    assert answer.json()["then"] == answer.json()["then"] | {"would": "reject", "route": None}
    stranger = api.post("/api/messages/preview/", body | {"to": STRANGER}, format="json").json()
    assert (stranger["would"], stranger["reason"]["code"]) == ("reject", "131047")
    assert stranger["rule"] == {
        "code": "no_fallback", "text": "The channel has no working fallback.",
    }  # fmt: skip
    assert api.post("/api/messages/preview/", {"to": TO}, format="json").status_code == 400
    assert not Message.objects.exists()


def test_a_scheduled_message_can_be_canceled(api: APIClient, channel: Channel) -> None:
    body = {"channel": channel.pk, "to": TO, "text": "Olá"}
    naive = api.post("/api/messages/", body | {"send_at": "2030-01-01T09:00:00"}, format="json")
    assert (naive.status_code, list(naive.json())) == (400, ["send_at"])
    past = api.post("/api/messages/", body | {"send_at": "2020-01-01T09:00:00Z"}, format="json")
    assert (past.status_code, list(past.json())) == (400, ["send_at"])

    at = timezone.now() + dt.timedelta(hours=3)
    created = api.post("/api/messages/", body | {"send_at": at.isoformat()}, format="json")
    assert created.status_code == 202
    assert created.json()["decision"] == "waiting_schedule"
    url = f"/api/messages/{created.json()['id']}/cancel/"
    for _ in range(2):
        canceled = api.post(url).json()
        assert (canceled["status"], canceled["decision"]) == ("rejected", "canceled")

    sent = api.post("/api/messages/", body, format="json").json()["id"]
    Message.objects.filter(pk=sent).update(status="sent")
    refused = api.post(f"/api/messages/{sent}/cancel/")
    assert (refused.status_code, refused.json()["code"]) == (409, "not_cancelable")


# -- batches ---------------------------------------------------------------------------------------


def batch(api: APIClient, *messages: Any, key: str = "", **changes: Any) -> Any:
    headers = {"Idempotency-Key": key} if key else {}
    body = {"messages": list(messages)}
    return api.post("/api/messages/batch/", body | changes, format="json", headers=headers)


def test_a_batch_has_a_result_for_each_message(
    api: APIClient, channel: Channel, conversation: Conversation
) -> None:
    given = {"channel": channel.pk, "to": TO, "text": "Olá"}

    answer = batch(
        api,
        given,
        given | {"to": STRANGER},
        given | {"to": STRANGER, "text": "", **TEMPLATE},
        given | {"to": "123"},
        {"to": TO},
        given | {"send_at": "tomorrow"},
        given | {"context": {"message": "0d7c2a52-5b0e-4f7e-9a39-6f1c3f0a9b11"}},
        # The window is that of the time at which it is sent.
        given | {"send_at": (timezone.now() + dt.timedelta(hours=22)).isoformat()},
        given | {"send_at": (timezone.now() + dt.timedelta(hours=24)).isoformat()},
    )

    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [one["status"] for one in results] == [202, 400, 202, 400, 400, 400, 400, 202, 400]
    fields = [list(one.get("errors", {})) for one in results]
    assert fields == [[], ["type"], [], ["to"], ["channel"], ["send_at"], ["context"], [], ["type"]]
    stored = {str(message.pk) for message in Message.objects.all()}
    assert stored == {results[number]["message"]["id"] for number in (0, 2, 7)}
    assert batch(api).status_code == 400
    assert batch(api, *[given] * 101).status_code == 400


def test_a_repeated_batch_sends_nothing_twice(
    api: APIClient, channel: Channel, conversation: Conversation
) -> None:
    good = {"channel": channel.pk, "to": TO, "text": "Olá"}
    wrong, own = good | {"to": "123"}, good | {"text": "Oi", "idempotency_key": "order-17"}
    first = batch(api, good, wrong, own, key="k" * 255).json()["results"]

    again = batch(api, good, wrong, own, key="k" * 255).json()["results"]

    assert [one["status"] for one in first] == [202, 400, 202]
    assert [one["status"] for one in again] == [200, 400, 200]
    assert [one["message"]["id"] for one in first[::2]] == [
        one["message"]["id"] for one in again[::2]
    ]
    for changed in ([good | {"text": "Outro"}, wrong, own], [good], [wrong, good, own, good]):
        conflict = batch(api, *changed, key="k" * 255)
        assert (conflict.status_code, conflict.json()["code"]) == (409, "idempotency_conflict")
    single = batch(api, own | {"text": "Outro"}).json()["results"]
    assert [one["status"] for one in single] == [409]
    assert Message.objects.count() == 2
    # A single send may have a key like that of an item.
    for key in ("k#0", "k#1"):
        alone = api.post("/api/messages/", good, format="json", headers={"Idempotency-Key": key})
        assert alone.status_code == 202
    assert [one["status"] for one in batch(api, good, good, key="k").json()["results"]] == [202] * 2
    # What has become invalid since is as it was stored; the window has closed meanwhile, too.
    stranger = good | {"to": STRANGER, "text": "", **TEMPLATE}
    assert batch(api, good, stranger, key="v").json()["results"][1]["status"] == 202
    Conversation.objects.update(last_inbound_at=None)
    change_channel(channel, active=False)
    again = batch(api, good, stranger, key="v")
    assert [one["status"] for one in again.json()["results"]] == [200, 200]


def test_an_internal_error_of_one_message_hides_the_result_of_none(
    api: APIClient,
    channel: Channel,
    conversation: Conversation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {"channel": channel.pk, "to": TO}
    texts = [given | {"text": str(number)} for number in range(7)]
    real, fails = sending.accept_message, {"1", "3", "4", "6"}

    def accept(**arguments: Any) -> Any:
        if arguments["text"] in fails:
            raise OperationalError("deadlock detected")
        return real(**arguments)

    monkeypatch.setattr(sending, "accept_message", accept)
    first = batch(api, *texts, key="k").json()["results"]
    assert [one["status"] for one in first] == [202, 500, 202, 500, 500, 500, 500]
    assert first[1]["errors"]["code"] == "internal_error"
    fails.clear()
    again = batch(api, *texts, key="k").json()["results"]
    assert [one["status"] for one in again] == [200, 202, 200, 202, 202, 202, 202]
    assert Message.objects.count() == 7


def test_a_batch_that_the_fallback_may_not_carry_is_refused_as_a_whole(
    api: APIClient, wired: Channel
) -> None:
    change_channel(wired, fallback_per_minute=3, fallback_new_chats_per_day=2)
    given = {"channel": wired.pk, "text": "", **TEMPLATE}
    later = timezone.now() + dt.timedelta(minutes=5)
    to = [f"+551198888000{n}" for n in range(4)]

    def send(number: int, prefix: str = "", **changes: Any) -> Any:
        keys = [f"{prefix}{index}" if prefix else "" for index in range(number)]
        items = [
            given | {"to": one, "idempotency_key": key} | changes
            for one, key in zip(to[:number], keys, strict=True)
        ]
        return batch(api, *items)

    opened = {"breaker_opened_at": timezone.now(), "breaker_probe_at": later}
    update_connection(wired, **opened)
    for number in (4, 3):
        refused = send(number)
        assert (refused.status_code, refused.json()["code"]) == (409, "fallback_quota")
    assert not Message.objects.exists()
    # By then the official API may send again.
    assert [one["status"] for one in send(4, send_at=later.isoformat()).json()["results"]] == (
        [202] * 4
    )
    Message.objects.all().delete()
    # New chats are counted by customer; what is repeated is not counted again.
    assert [one["status"] for one in send(3, "own", to=to[0]).json()["results"]] == [202] * 3
    again = send(3, "own", to=to[0])
    assert [one["status"] for one in again.json()["results"]] == [200] * 3
    assert send(1).status_code == 409
    Message.objects.all().delete()
    assert [one["status"] for one in send(2).json()["results"]] == [202, 202]
    assert send(2).status_code == 409
    # The official API has no such quota.
    update_connection(wired, breaker_opened_at=None, breaker_probe_at=None)
    assert [one["status"] for one in send(4).json()["results"]] == [202] * 4


# -- costs -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain_static")
def test_costs_are_counted_by_day_channel_template_and_category(
    api: APIClient, client: Client, staff: Any, channel: Channel
) -> None:
    noon = timezone.localtime().replace(hour=12, minute=0, second=0, microsecond=0)
    today, yesterday = noon, noon - dt.timedelta(days=1)
    content = {"name": "=aviso", "language": {"code": "pt_BR"}}

    def sent(at: dt.datetime, pricing: str, to: str = TO, receipt: str = "read", **of: Any) -> None:
        message = sending.accept_message(
            channel=channel, to=to, user=None, **{"text": "Olá"} | of
        ).message
        attempt_of(
            message, outcome="accepted", route="official", started_at=at, pricing=pricing,
            receipt=receipt,
        )  # type: ignore[arg-type]  # fmt: skip

    template: dict[str, Any] = {"type": "template", "text": "", "content": content}
    sent(today, "service:free_customer_service")
    sent(today, "utility:regular", **template)
    sent(today, "utility:regular", "+14155550123", **template)
    sent(today, "utility:regular", receipt="sent", **template)
    sent(yesterday, "utility:regular", **template)
    sent(today, "")
    for prefix, price, currency, since in (
        ("", "0.5", "USD", today - dt.timedelta(days=90)),
        ("+55", "0.04", "BRL", today - dt.timedelta(days=90)),
        ("+55", "0.05", "BRL", today),
    ):
        Rate.objects.create(
            category="utility", prefix=prefix, price=Decimal(price), currency=currency,
            valid_from=since.date(),
        )  # fmt: skip
    days = {"since": str(yesterday.date()), "until": str(today.date())}

    answer = api.get("/api/costs/", days).json()

    found = [
        (
            r["day"],
            r["category"],
            r["template"],
            r["messages"],
            r["delivered"],
            r["price"],
            r["currency"],
        )
        for r in answer["results"]
    ]
    name, now = "=aviso", str(today.date())
    assert sorted(found, key=str) == sorted(
        [
            (now, "service", "", 1, 1, None, ""),
            (now, "utility", name, 2, 1, "0.050000", "BRL"),
            (now, "utility", name, 1, 1, "0.500000", "USD"),
            (str(yesterday.date()), "utility", name, 1, 1, "0.040000", "BRL"),
        ],
        key=str,
    )
    sums = {(t["category"], t["currency"]): (t["delivered"], t["price"]) for t in answer["totals"]}
    assert sums[("utility", "BRL")] == (2, "0.090000")
    assert api.get("/api/costs/", {"since": "2026-02-01", "until": "2026-01-01"}).status_code == 400
    assert api.get("/api/costs/", {"channel": 0}).status_code == 400

    client.force_login(staff)
    client.cookies["django_language"] = "en"
    page = client.get("/costs/", days)
    assert "0.09 BRL" in page.content.decode()
    assert client.get("/costs/", {"since": "x"}).status_code == 200
    lines = client.get("/costs/", days | {"format": "csv"}).content.decode().splitlines()
    assert len(lines) == 5
    # No spreadsheet takes a name for a formula.
    assert any(",'=aviso,utility,regular,2,1,0.05" in line for line in lines)


@pytest.mark.usefixtures("plain_static")
def test_the_composer_says_what_would_happen(
    client: Client, staff: Any, channel: Channel, conversation: Conversation
) -> None:
    client.force_login(staff)
    client.cookies["django_language"] = "en"
    url = f"/conversations/{conversation.pk}/"
    assert "data-verdict" in client.get(url).content.decode()

    def line(**form: str) -> str:
        return client.post(f"{url}verdict/", form).content.decode()

    assert "Goes through the official API" in line()
    assert "free of charge in the window" in line(text="Olá")
    later = timezone.localtime() + dt.timedelta(days=1)
    form = {"text": "Amanhã", "send_at": later.strftime("%Y-%m-%dT%H:%M"), "key": "a"}
    assert "Scheduled" in line(**form)
    client.post(url, form)
    message = Message.objects.get()
    assert message.send_at is not None
    assert message.send_at.date() == later.astimezone(dt.UTC).date()
    page = client.get(url).content.decode()
    assert "data-scheduled" in page
    assert "Amanhã" in client.post(f"/messages/{message.pk}/cancel/").content.decode()
    message.refresh_from_db()
    assert message.decision == "canceled"
    Conversation.objects.update(last_inbound_at=None)
    assert 'data-would="reject"' in line(text="Olá")
    assert client.post(url, {"text": "Olá", "send_at": "soon"}).status_code == 400
