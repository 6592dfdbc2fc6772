"""The web process refuses what is too large before it keeps it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator

MIB = 1024 * 1024


@pytest.mark.parametrize("path", ["/api/media/", "/accounts/login/"])
@pytest.mark.parametrize("told", [True, False], ids=["with its length", "without an end"])
def test_a_body_that_nothing_takes_is_refused_before_anybody_looks_who_sent_it(
    path: str, monkeypatch: pytest.MonkeyPatch, *, told: bool
) -> None:
    from config import asgi

    monkeypatch.setattr(asgi, "MOST_PAGE_BYTES", 1000)

    async def call() -> tuple[int, Any]:
        make: Any = ApplicationCommunicator  # it has no types
        headers = [(b"host", b"127.0.0.1")] + [(b"content-length", b"1001")] * told
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
        answer = await communicator.receive_output(5)
        await communicator.wait()
        return start["status"], json.loads(answer["body"])

    status, answer = async_to_sync(call)()

    assert (status, answer["code"]) == (413, "too_large")


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/api/webhooks/cloud", 3 * MIB),
        ("/api/webhooks/cloud/", 3 * MIB),
        ("/api/webhooks/wwebjs/1", 16 * MIB),
    ],
)
def test_of_a_strangers_event_no_more_is_kept_than_its_receiver_takes(
    path: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is authenticated while the body is read: the largest event elsewhere is no measure."""
    from config import asgi

    kept: list[int] = []
    read_body = asgi.WebhookHandler.read_body

    async def looked_at(self: Any, receive: Any) -> Any:
        body = await read_body(self, receive)
        kept.append(body.seek(0, 2))
        body.seek(0)
        return body

    monkeypatch.setattr(asgi.WebhookHandler, "read_body", looked_at)

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
        answer = await communicator.receive_output(10)
        await communicator.wait()
        return start["status"], json.loads(answer["body"])

    status, answer = async_to_sync(call)()

    assert (status, answer["code"]) == (413, "too_large")
    assert kept == [most + 1]
