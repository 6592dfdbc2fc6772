"""Meta's webhook: authentication and responses."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.db import OperationalError
from django.test import AsyncClient
from django.test.client import FakePayload
from psycopg_pool import PoolTimeout

from core.fields import UndecryptableError
from messaging import webhooks
from messaging.delivery.statuses import Outcome, Route
from messaging.inbound import authentication, group_commit, journal, keys, raw_files
from messaging.models import InboundEvent, Message
from tests.messaging.support import accept, attempt_of, envelope, read_events, sign, status

if TYPE_CHECKING:
    from collections.abc import Callable

    from channels_app.models import Channel

pytestmark = pytest.mark.django_db

URL = "/api/webhooks/cloud"
EMPTY = b'{"object":"whatsapp_business_account","entry":[]}'


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and write in the test's own transaction."""
    if not request.node.get_closest_marker("django_db").kwargs.get("transaction"):
        monkeypatch.setattr(group_commit, "in_thread", sync_to_async)


def get(**query: str) -> Any:
    params = {name.replace("_", ".", 1): value for name, value in query.items()}
    return async_to_sync(AsyncClient().get)(URL, params)


def post(body: bytes, *, signature: str | None = None, path: str = URL) -> Any:
    headers = {"X-Hub-Signature-256": sign(body) if signature is None else signature}
    return async_to_sync(AsyncClient().post)(
        path, body, content_type="application/json", headers=headers
    )


def error_of(answer: Any) -> tuple[int, str]:
    """Return the status and code of an error, which must also have a detail."""
    assert set(answer.json()) == {"detail", "code"}
    assert answer.json()["detail"]
    return answer.status_code, answer.json()["code"]


# -- verification ----------------------------------------------------------------------------------


def test_a_valid_token_returns_the_challenge(channel: Channel) -> None:
    answer = get(hub_mode="subscribe", hub_challenge="1158201444", hub_verify_token="let-me-in")
    assert (answer.status_code, answer.content) == (200, b"1158201444")
    assert answer["Content-Type"] == "text/plain"


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"hub_mode": "subscribe", "hub_challenge": "1"},
        {"hub_mode": "subscribe", "hub_challenge": "1", "hub_verify_token": ""},
        {"hub_mode": "subscribe", "hub_challenge": "1", "hub_verify_token": "let-me-out"},
        {"hub_mode": "subscribe", "hub_challenge": "1", "hub_verify_token": "olá"},
        {"hub_mode": "unsubscribe", "hub_challenge": "1", "hub_verify_token": "let-me-in"},
        {"hub_challenge": "1", "hub_verify_token": "let-me-in"},
    ],
)
def test_an_invalid_verification_is_rejected(channel: Channel, query: dict[str, str]) -> None:
    assert get(**query).status_code == 403


def test_a_channel_without_a_token_verifies_nothing(make_channel: Callable[..., Channel]) -> None:
    make_channel(verify_token="")
    assert get(hub_mode="subscribe", hub_verify_token="").status_code == 403


def test_the_token_of_an_inactive_channel_is_rejected(
    make_channel: Callable[..., Channel],
) -> None:
    make_channel(active=False)
    assert get(hub_mode="subscribe", hub_verify_token="let-me-in").status_code == 403


def test_each_of_several_channels_can_be_verified(make_channel: Callable[..., Channel]) -> None:
    for token in ("one", "two", "three"):
        make_channel(verify_token=token)
    assert get(hub_mode="subscribe", hub_verify_token="three").status_code == 200


# -- signatures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("secret", "body", "signature"),
    [
        (
            "test_app_secret",
            EMPTY,
            "dec6a680679a968e7e0319355b23599cbfc54502c0784668e9618baa0c633756",
        ),
        (
            "test_app_secret",
            b'{"object": "whatsapp_business_account", "entry": []}',
            "56cbbaf4961c6cfdae48b7f116c047e5eb513d2c931baae63a2bc1afd26f803a",
        ),
        (
            "otro_secreto",
            EMPTY,
            "769b03d8c2ae6498f2d1e1f7299c0ba55448c69d741e7b0bb243d852d8a8d8c7",
        ),
    ],
)
def test_the_documented_signatures_are_accepted(
    make_channel: Callable[..., Channel], secret: str, body: bytes, signature: str
) -> None:
    make_channel(app_secret=secret)
    answer = post(body, signature=f"sha256={signature}")
    assert (answer.status_code, answer.json()) == (200, {"code": "stored"})
    assert InboundEvent.objects.get().payload["object"] == "whatsapp_business_account"


@pytest.mark.parametrize(
    "signature",
    ["", "sha256=", "sha256=00", "sha1=" + sign(EMPTY)[7:], sign(EMPTY, "wrong"), "sha256=é"],
)
def test_a_wrong_signature_returns_401_and_stores_nothing(channel: Channel, signature: str) -> None:
    answer = post(EMPTY, signature=signature)
    assert error_of(answer) == (401, "bad_signature")
    assert not InboundEvent.objects.exists()


def test_the_signature_of_another_body_returns_401(channel: Channel) -> None:
    assert post(EMPTY + b" ", signature=sign(EMPTY)).status_code == 401


def test_a_channel_without_a_secret_rejects_all(
    make_channel: Callable[..., Channel],
) -> None:
    make_channel(app_secret="")
    assert post(EMPTY, signature=sign(EMPTY, "")).status_code == 401


def test_an_inactive_channel_still_receives_events(make_channel: Callable[..., Channel]) -> None:
    make_channel(active=False)
    assert post(EMPTY).status_code == 200


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"{", b"\xff\xfe", b'{"a":' * 100_000, b"9" * 5000, b"null", b"[]", b'"a"'],
)
def test_a_body_that_is_not_a_json_object_is_stored_as_a_stub_if_it_is_signed(
    channel: Channel, body: bytes, settings: Any, tmp_path: Any
) -> None:
    settings.MEDIA_ROOT = tmp_path
    assert post(body, signature="sha256=00").status_code == 401
    assert not InboundEvent.objects.exists()
    assert post(body).status_code == post(body).status_code == 200
    stub = InboundEvent.objects.get()
    assert stub.state == "set_aside"
    assert stub.error
    assert raw_files.read(stub.raw_file) == body


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"a":"\\u0000","b":"\\ud800","c":1e999,"d":NaN,"\\u0000":1}',
        b'{"a":' * 200 + b"1" + b"}" * 200,
        b'{"a":' + b"9" * 5000 + b"}",
    ],
)
def test_any_json_object_is_stored(channel: Channel, body: bytes) -> None:
    assert post(body).status_code == 200
    read_events()
    assert InboundEvent.objects.get().state == "done"


def test_a_body_that_is_nested_too_deeply_is_stored_as_a_stub(
    channel: Channel, settings: Any, tmp_path: Any
) -> None:
    settings.MEDIA_ROOT = tmp_path
    body = b'{"a":' * 300 + b"1" + b"}" * 300
    assert post(body).status_code == 200
    read_events()
    stub = InboundEvent.objects.get()
    assert (stub.state, stub.error) == ("set_aside", "too_deep")
    assert raw_files.read(stub.raw_file) == body


def test_the_url_may_end_with_a_slash(channel: Channel) -> None:
    assert post(EMPTY, path=URL + "/").status_code == 200


def test_a_body_of_three_megabytes_is_accepted_and_a_larger_one_rejected(channel: Channel) -> None:
    largest = b'{"a":"' + b"x" * (webhooks.MAX_BYTES - 8) + b'"}'
    assert len(largest) == webhooks.MAX_BYTES
    assert post(largest).status_code == 200
    answer = post(largest + b" ")
    assert error_of(answer) == (413, "too_large")


def test_a_large_body_without_a_content_length_is_rejected(channel: Channel) -> None:
    body = b" " * (webhooks.MAX_BYTES + 1)
    answer = async_to_sync(AsyncClient().request)(
        method="POST",
        path=URL,
        server=("127.0.0.1", "80"),
        scheme="http",
        headers=[(b"host", b"127.0.0.1"), (b"x-hub-signature-256", sign(body).encode())],
        _body_file=FakePayload(body),
    )
    assert answer.status_code == 413


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_other_methods_return_405(channel: Channel, method: str) -> None:
    answer = async_to_sync(getattr(AsyncClient(), method))(URL)
    assert error_of(answer) == (405, "method_not_allowed")
    assert answer["Allow"] == "GET, POST, HEAD, OPTIONS"


def test_an_event_for_a_number_without_a_channel_returns_200(channel: Channel) -> None:
    channel.phone_number_id = "999"
    payload = envelope({"messages": [{"id": "wamid.1"}]}, channel)
    assert post(json.dumps(payload).encode()).status_code == 200


def test_a_thousand_statuses_in_one_post_are_applied(
    channel: Channel, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    message = accept(channel)
    attempt_of(message, outcome=Outcome.ACCEPTED, route=Route.OFFICIAL)
    statuses = [
        status(message, receipt, channel=channel, id="wamid.1")["entry"][0]["changes"][0]["value"][
            "statuses"
        ][0]
        for receipt in ("sent", "delivered", "read", "sent") * 250
    ]
    body = json.dumps(envelope({"statuses": statuses}, channel)).encode()
    assert keys.current().apps  # read once per process
    with django_assert_max_num_queries(6):  # Meta waits for the response: reading comes later
        assert post(body).status_code == 200
    read_events()
    message.refresh_from_db()
    assert message.status == "read"
    assert InboundEvent.objects.get().state == "done"


# -- failures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OperationalError("gone"), PoolTimeout("no connection")])
def test_an_event_that_cannot_be_stored_returns_503(
    channel: Channel, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def away(*_: Any) -> None:
        raise error

    monkeypatch.setattr(journal, "receive", away)
    answer = post(EMPTY)
    assert error_of(answer) == (503, "unavailable")


def test_a_verification_during_a_database_outage_returns_503(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(token: str) -> bool:
        raise OperationalError("gone")

    monkeypatch.setattr(authentication, "is_verify_token", away)
    answer = get(hub_mode="subscribe", hub_verify_token="let-me-in")
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


def test_an_incomplete_body_returns_400(channel: Channel) -> None:
    class Broken(FakePayload):
        def read(self, size: int | None = None) -> bytes:
            raise OSError("gone")

    answer = async_to_sync(AsyncClient().request)(
        method="POST",
        path=URL,
        server=("127.0.0.1", "80"),
        scheme="http",
        headers=[(b"host", b"127.0.0.1")],
        _body_file=Broken(b"x"),
    )
    assert answer.status_code == 400


def test_a_secret_that_cannot_be_decrypted_accepts_no_event(
    channel: Channel, settings: Any, client: Any
) -> None:
    from cryptography.fernet import Fernet

    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(UndecryptableError):
        post(EMPTY)
    assert not InboundEvent.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_events_are_received_concurrently(channel: Channel) -> None:
    """Each in its own thread, with its own connection."""
    bodies = [json.dumps(envelope({"n": n}, channel)).encode() for n in range(20)]

    async def post_all() -> set[int]:
        client = AsyncClient()
        posts = [
            client.post(
                URL,
                body,
                content_type="application/json",
                headers={"X-Hub-Signature-256": sign(body)},
            )
            for body in [*bodies, *bodies]
        ]
        return {answer.status_code for answer in await asyncio.gather(*posts)}

    assert async_to_sync(post_all)() == {200}
    assert InboundEvent.objects.count() == 20
    read_events()
    assert not Message.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_the_webhook_of_the_web_process_requires_no_session_and_no_allowed_host(
    channel: Channel,
) -> None:
    """As uvicorn calls it, body in pieces and without a length."""
    from config.asgi import application

    async def call(signature: str) -> tuple[int, Any]:
        make: Any = ApplicationCommunicator  # it has no types
        communicator = make(
            application,
            {
                "type": "http",
                "http_version": "1.1",
                "method": "POST",
                "path": URL,
                "query_string": b"",
                "headers": [(b"host", b"127.0.0.1"), (b"x-hub-signature-256", signature.encode())],
            },
        )
        for more, piece in ((True, EMPTY[:9]), (False, EMPTY[9:])):
            await communicator.send_input(
                {"type": "http.request", "body": piece, "more_body": more}
            )
        start = await communicator.receive_output(5)
        answer = await communicator.receive_output(5)
        await communicator.wait()
        return start["status"], json.loads(answer["body"])

    assert async_to_sync(call)(sign(EMPTY)) == (200, {"code": "stored"})
    code, refusal = async_to_sync(call)("sha256=00")
    assert (code, refusal["code"], set(refusal)) == (401, "bad_signature", {"detail", "code"})
    assert InboundEvent.objects.count() == 1
