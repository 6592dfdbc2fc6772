from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import requests

from simulators.graph.app import sign
from tests.simulators.conftest import NUMBER_ID, ORDINARY, SECRET, Graph, Receiver

PREFIX = "+5511999990"


def value_of(webhook: Any) -> Any:
    return webhook.json["entry"][0]["changes"][0]["value"]


def statuses(receiver: Receiver) -> list[Any]:
    return [
        status
        for webhook in receiver.all()
        for entry in webhook.json["entry"]
        for change in entry["changes"]
        for status in change["value"]["statuses"]
    ]


@pytest.mark.parametrize(
    ("secret", "body", "hexadecimal"),
    [
        (
            "test_app_secret",
            b'{"object":"whatsapp_business_account","entry":[]}',
            "dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756",
        ),
        (
            "test_app_secret",
            b'{"object": "whatsapp_business_account", "entry": []}',
            "56cbbaf4961c6cfdae48b7f116c047e5eb513d2c931baae63a2bc1afd26f803a",
        ),
        (
            "otro_secreto",
            b'{"object":"whatsapp_business_account","entry":[]}',
            "769b03d8c2ae6498f2d1e1f7299c0ba55448c69d741e7b0bb243d852d8a8d8c7",
        ),
    ],
)
def test_signatures_match_the_vectors_of_the_contract(
    secret: str, body: bytes, hexadecimal: str
) -> None:
    assert sign(secret, body) == f"sha256={hexadecimal}"


def test_sent_delivered_and_read_follow_an_accepted_message(
    meta: Graph, receiver: Receiver
) -> None:
    wamid = meta.send(biz_opaque_callback_data="our-id").json()["messages"][0]["id"]
    meta.settle()
    received = statuses(receiver)

    assert [status["status"] for status in received] == ["sent", "delivered", "read"]
    for status in received:
        assert status["id"] == wamid
        assert status["recipient_id"] == "5511988887777"
        assert status["biz_opaque_callback_data"] == "our-id"
        assert status["timestamp"].isdigit()


def test_a_status_has_the_envelope_of_the_contract(meta: Graph, receiver: Receiver) -> None:
    meta.send()
    webhook = receiver.next()
    value = value_of(webhook)

    assert webhook.headers["X-Hub-Signature-256"] == sign(SECRET, webhook.raw)
    assert webhook.json["object"] == "whatsapp_business_account"
    assert webhook.json["entry"][0]["changes"][0]["field"] == "messages"
    assert value["metadata"] == {
        "display_phone_number": "5511900000001",
        "phone_number_id": NUMBER_ID,
    }
    assert value["contacts"][0]["wa_id"] == "5511988887777"
    assert value["statuses"][0]["pricing"]["pricing_model"] == "PMP"


@pytest.mark.parametrize(
    ("digits", "expected", "code"),
    [
        ("067", ["failed"], 131047),
        ("066", ["failed"], 131026),
        ("060", ["sent", "failed"], 131000),
        ("065", ["sent", "delivered", "failed"], 131026),
    ],
)
def test_an_accepted_message_can_fail_later(
    meta: Graph, receiver: Receiver, digits: str, expected: list[str], code: int
) -> None:
    assert meta.send(PREFIX + digits).status_code == 200
    meta.settle()
    last = receiver.all()
    failed = value_of(last[-1])

    assert [value_of(webhook)["statuses"][0]["status"] for webhook in last] == expected
    assert "contacts" not in failed
    assert failed["statuses"][0]["errors"][0]["code"] == code
    assert failed["statuses"][0]["errors"][0]["error_data"]["details"]
    assert "recipient_user_id" not in failed["statuses"][0]


def test_an_error_can_arrive_immediately_and_by_webhook(meta: Graph, receiver: Receiver) -> None:
    answer = meta.send(PREFIX + "068", biz_opaque_callback_data="our-id")
    meta.settle()
    (failed,) = statuses(receiver)

    assert answer.json()["error"]["code"] == 131047
    assert failed["errors"][0]["code"] == 131047
    assert failed["biz_opaque_callback_data"] == "our-id"


@pytest.mark.parametrize(
    ("digits", "expected"),
    [
        ("091", ["read", "read", "delivered", "delivered", "sent", "sent"]),
        ("093", []),
        ("094", ["sent"]),
        ("095", ["sent", "read"]),
        ("096", ["sent", "delivered"]),
    ],
)
def test_statuses_can_be_missing_repeated_and_reversed(
    meta: Graph, receiver: Receiver, digits: str, expected: list[str]
) -> None:
    meta.send(PREFIX + digits)
    meta.settle()

    assert [status["status"] for status in statuses(receiver)] == expected


def test_the_statuses_can_arrive_before_the_answer(meta: Graph, receiver: Receiver) -> None:
    meta.send(PREFIX + "092")

    assert receiver.count() == 3


def test_the_statuses_arrive_even_without_an_answer(meta: Graph, receiver: Receiver) -> None:
    with pytest.raises(requests.ReadTimeout):
        meta.send(PREFIX + "081", timeout=0.5)
    meta.settle()

    assert [status["status"] for status in statuses(receiver)] == ["sent", "delivered", "read"]


def test_a_webhook_is_retried_until_the_receiver_answers_200(
    meta: Graph, receiver: Receiver
) -> None:
    receiver.answers = [500, 403]
    meta.send(PREFIX + "094")
    meta.settle()
    first, second, third = receiver.all()

    assert first.raw == second.raw == third.raw
    (record,) = meta.control_get("webhooks")
    assert (record["attempts"], record["status"]) == (3, 200)


def test_delivery_to_an_unreachable_receiver_stops_after_the_last_attempt(
    start_graph: Callable[..., Graph],
) -> None:
    meta = start_graph(webhook_url="http://127.0.0.1:9/", webhook_attempts=2)
    meta.send(PREFIX + "094")
    meta.settle()

    assert [record["attempts"] for record in meta.control_get("webhooks")] == [2]


def test_updates_within_a_window_arrive_in_one_batch(
    start_graph: Callable[..., Graph], receiver: Receiver
) -> None:
    meta = start_graph(batch_window=2.0)
    for _ in range(3):
        meta.send(PREFIX + "094")
    meta.settle()
    (webhook,) = receiver.all()

    assert len(webhook.json["entry"][0]["changes"]) == 3
    assert webhook.headers["X-Hub-Signature-256"] == sign(SECRET, webhook.raw)


def test_the_webhook_url_may_contain_the_phone_number_id(
    start_graph: Callable[..., Graph], receiver: Receiver
) -> None:
    meta = start_graph(webhook_url=receiver.url + "/{phone_number_id}")
    meta.send(PREFIX + "094")
    meta.settle()

    assert meta.control_get("webhooks")[0]["url"].endswith(f"/hook/{NUMBER_ID}")


def test_a_customer_can_send_a_text(meta: Graph, receiver: Receiver) -> None:
    meta.control("inbound", {"from": ORDINARY, "text": "Olá", "name": "Ana"})
    value = value_of(receiver.next())
    (message,) = value["messages"]

    assert value["contacts"][0]["profile"] == {"name": "Ana"}
    assert message["from"] == "5511988887777"
    assert message["text"] == {"body": "Olá"}
    assert base64.b64decode(message["id"].removeprefix("wamid."))[17:20] == b"\x02\x00\x12"


def test_a_picture_from_a_customer_can_be_downloaded(meta: Graph, receiver: Receiver) -> None:
    meta.control("inbound", {"from": ORDINARY, "type": "image", "caption": "Veja"})
    image = value_of(receiver.next())["messages"][0]["image"]
    described = meta.get(f"/v25.0/{image['id']}").json()

    assert image["caption"] == "Veja"
    assert described["sha256"] == image["sha256"]
    assert requests.get(described["url"], headers=meta.headers, timeout=5).content[:4] == b"\x89PNG"


def test_a_customer_can_send_other_types_with_their_content(
    meta: Graph, receiver: Receiver
) -> None:
    location = {"latitude": -23.5, "longitude": -46.6}
    meta.control("inbound", {"from": ORDINARY, "type": "location", "content": location})

    assert value_of(receiver.next())["messages"][0]["location"] == location


def test_an_echo_carries_the_key_of_the_companion(meta: Graph, receiver: Receiver) -> None:
    meta.control("echo", {"to": ORDINARY, "text": "Oi", "key_id": "3EB0AABBCCDDEEFF001122"})
    webhook = receiver.next()
    (echo,) = value_of(webhook)["message_echoes"]

    assert webhook.json["entry"][0]["changes"][0]["field"] == "smb_message_echoes"
    assert (echo["from"], echo["to"]) == ("5511900000001", "5511988887777")
    assert b"3EB0AABBCCDDEEFF001122" in base64.b64decode(echo["id"].removeprefix("wamid."))


def test_any_other_field_can_be_sent(meta: Graph, receiver: Receiver) -> None:
    meta.control("webhook", {"field": "account_update", "value": {"event": "PARTNER_REMOVED"}})

    assert value_of(receiver.next())["event"] == "PARTNER_REMOVED"


def test_message_history_returns_the_statuses(meta: Graph) -> None:
    wamid = meta.send(PREFIX + "094").json()["messages"][0]["id"]
    meta.settle()
    history = meta.get(f"/v25.0/{NUMBER_ID}/message_history", params={"message_id": wamid}).json()

    assert history["data"][0]["events"]["data"][0]["delivery_status"] == "SENT"


def test_media_can_be_uploaded_described_downloaded_and_deleted(meta: Graph) -> None:
    upload = requests.post(
        f"{meta.url}/v25.0/{NUMBER_ID}/media",
        headers=meta.headers,
        data={"messaging_product": "whatsapp"},
        files={"file": ("boleto.pdf", b"%PDF-1.4", "application/pdf")},
        timeout=5,
    )
    media_id = upload.json()["id"]
    described = meta.get(f"/v25.0/{media_id}").json()
    downloaded = requests.get(described["url"], headers=meta.headers, timeout=5)

    assert (described["mime_type"], described["file_size"]) == ("application/pdf", 8)
    assert downloaded.content == b"%PDF-1.4"
    assert requests.get(described["url"], timeout=5).status_code == 401
    deleted = requests.delete(f"{meta.url}/v25.0/{media_id}", headers=meta.headers, timeout=5)
    assert deleted.json() == {"success": True}
    assert meta.get(f"/v25.0/{media_id}").status_code == 400


def test_a_media_url_expires(start_graph: Callable[..., Graph]) -> None:
    meta = start_graph(media_url_seconds=0.0)
    upload = requests.post(
        f"{meta.url}/v25.0/{NUMBER_ID}/media",
        headers=meta.headers,
        data={"messaging_product": "whatsapp"},
        files={"file": ("a.png", b"x", "image/png")},
        timeout=5,
    )
    url = meta.get(f"/v25.0/{upload.json()['id']}").json()["url"]

    assert requests.get(url, headers=meta.headers, timeout=5).status_code == 404


@pytest.mark.parametrize("data", [{}, {"messaging_product": "whatsapp"}])
def test_an_upload_without_file_or_product_is_rejected(meta: Graph, data: dict[str, str]) -> None:
    answer = requests.post(
        f"{meta.url}/v25.0/{NUMBER_ID}/media",
        headers=meta.headers,
        data=data,
        files={"other": ("a", b"x")},
        timeout=5,
    )

    assert answer.json()["error"]["code"] == 100


def test_the_phone_number_can_be_read(meta: Graph) -> None:
    fields = "is_on_biz_app,platform_type,quality_rating,verified_name,display_phone_number"

    assert meta.get(f"/v25.0/{NUMBER_ID}", params={"fields": fields}).json() == {
        "is_on_biz_app": True,
        "platform_type": "CLOUD_API",
        "quality_rating": "GREEN",
        "verified_name": "Clínica Demo",
        "display_phone_number": "+55 11 90000-0001",
        "id": NUMBER_ID,
    }


def test_an_unknown_field_is_error_100(meta: Graph) -> None:
    answer = meta.get(f"/v25.0/{NUMBER_ID}", params={"fields": "shoe_size"})

    assert answer.json()["error"]["code"] == 100
