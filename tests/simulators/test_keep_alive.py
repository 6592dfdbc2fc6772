from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from simulators.keep_alive import KeepAliveClient, Response

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each request with the next of some raw responses; None closes the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0)
                if answer is None:
                    break
                for start in range(0, len(answer), 7):  # in pieces, as a network may deliver them
                    writer.write(answer[start : start + 7])
                    await asyncio.sleep(0)
                if b"Connection: close" in answer:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def connected(*answers: bytes | None) -> AsyncIterator[tuple[Server, KeepAliveClient]]:
    server = Server(*answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    client = KeepAliveClient("127.0.0.1", listening.sockets[0].getsockname()[1], timeout=5)
    yield server, client
    client.close()
    listening.close()


@pytest.mark.parametrize(
    ("answer", "response"),
    [
        (OK, Response(200, b"ok")),
        (b"HTTP/1.1 204 No Content\r\n\r\n", Response(204, b"")),
        (
            b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
            Response(401, b"2\r\nno\r\n0\r\n\r\n"),
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end", Response(200, b"to the end")),
    ],
    ids=["length", "no content", "chunks", "until it closes"],
)
async def test_each_kind_of_response_is_read(answer: bytes, response: Response) -> None:
    async with connected(answer) as (server, client):
        assert await client.request("POST", "/a?b=c", b"{}", b"X-Key: 1\r\n") == response

    [request] = server.requests
    assert request.startswith(b"POST /a?b=c HTTP/1.1\r\nHost: 127.0.0.1:")
    assert request.endswith(b"\r\nContent-Length: 2\r\nX-Key: 1\r\n\r\n{}")


async def test_a_connection_is_used_again_unless_the_server_closed_it() -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with connected(OK, closing, OK) as (server, client):
        for connections in (1, 1, 2):
            assert (await client.request("POST", "/")).status == 200
            assert server.connections == connections


async def test_a_connection_that_ends_without_a_response_is_an_error() -> None:
    async with connected(None, OK) as (_, client):
        with pytest.raises(ConnectionError):
            await client.request("POST", "/")
        assert (await client.request("POST", "/")).body == b"ok"
