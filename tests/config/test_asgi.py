"""The web process rejects a body that is too large before storing it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator

MIB = 1024 * 1024


@pytest.mark.parametrize("path", ["/api/media/", "/accounts/login/"])
@pytest.mark.parametrize("with_length", [True, False], ids=["with its length", "without an end"])
def test_a_body_that_is_too_large_is_rejected_before_authentication(
    path: str, monkeypatch: pytest.MonkeyPatch, *, with_length: bool
) -> None:
    from config import asgi

    monkeypatch.setattr(asgi, "MAX_PAGE_BYTES", 1000)

    async def call() -> tuple[int, Any]:
        make: Any = ApplicationCommunicator  # it has no type hints
        headers = [(b"host", b"127.0.0.1")] + [(b"content-length", b"1001")] * with_length
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": headers,
        }
        communicator = make(asgi.application, scope)
        for _piece in range(3):
            await communicator.send_input(
                {"type": "http.request", "body": b"x" * 400, "more_body": True}
            )
        start = await communicator.receive_output(5)
        response = await communicator.receive_output(5)
        await communicator.wait()
        return start["status"], json.loads(response["body"])

    status, response = async_to_sync(call)()

    assert (status, response["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/api/webhooks/cloud", 3 * MIB),
        ("/api/webhooks/cloud/", 3 * MIB),
        ("/api/webhooks/wwebjs/1", 16 * MIB),
    ],
)
def test_an_unauthenticated_event_is_stored_only_up_to_its_receivers_limit(
    path: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender is not authenticated yet, so other receivers' larger limits must not apply."""
    from config import asgi

    stored_sizes: list[int] = []
    read_body = asgi.WebhookHandler.read_body

    async def read_and_measure(self: Any, receive: Any) -> Any:
        body = await read_body(self, receive)
        stored_sizes.append(body.seek(0, 2))
        body.seek(0)
        return body

    monkeypatch.setattr(asgi.WebhookHandler, "read_body", read_and_measure)

    async def call() -> tuple[int, Any]:
        make: Any = ApplicationCommunicator
        scope = {
            "type": "http", "http_version": "1.1", "method": "POST", "path": path,
            "query_string": b"", "headers": [(b"host", b"127.0.0.1")],
        }  # fmt: skip
        communicator = make(asgi.application, scope)
        pieces = most // MIB + 2
        for number in range(pieces):
            more = number < pieces - 1
            await communicator.send_input(
                {"type": "http.request", "body": b"x" * MIB, "more_body": more}
            )
        start = await communicator.receive_output(10)
        response = await communicator.receive_output(10)
        await communicator.wait()
        return start["status"], json.loads(response["body"])

    status, response = async_to_sync(call)()

    assert (status, response["code"]) == (413, "too_large")
    assert stored_sizes == [most + 1]
