"""Channels of all kinds, and a server that treats a connection as the test specifies."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.utils import translation

from channels_app.incidents import reason_text
from channels_app.models import Channel
from channels_app.providers.base import ConnectionReport, OutboundMessage

TOKEN = "EAAsecretToken"
WWEBJS_KEY = "suaapikey"
EVOLUTION_KEY = "evolution-api-key"
SESSION = "TESTE"
INSTANCE = "oficina"
NUMBER_ID = "106540352242922"
ORDINARY = "+5511988887777"
# The timeout of a request that is never answered. A stored channel has whole seconds.
IMPATIENT = 0.4


@dataclass
class Request:
    """One received request."""

    line: str
    headers: dict[str, str]
    body: bytes


Script = Callable[[socket.socket, int], Any]


@dataclass
class RawServer:
    """Reads whole requests and responds by a script, which may return "close".

    `requests` is what arrived, `connections` how many were opened, `idle` is set when a
    connection has been closed by us after a script.
    """

    url: str
    port: int
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    closed: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def raw_server() -> Iterator[Callable[[Script], RawServer]]:
    """Start a server with a script; all servers are stopped at the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(script: Script) -> RawServer:
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            server = RawServer(f"http://127.0.0.1:{port}", port)
            open_sockets: list[socket.socket] = []
            threads: list[threading.Thread] = []

            def serve(conn: socket.socket) -> None:
                with contextlib.suppress(OSError):
                    while (request := read_request(conn)) is not None:
                        server.requests.append(request)
                        if script(conn, len(server.requests)) == "close":
                            break
                with contextlib.suppress(OSError):
                    conn.close()
                server.closed.set()

            def accept() -> None:
                while True:
                    try:
                        conn, _ = listener.accept()
                    except OSError:
                        return
                    server.connections += 1
                    open_sockets.append(conn)
                    thread = threading.Thread(target=serve, args=(conn,), daemon=True)
                    threads.append(thread)
                    thread.start()

            def stop() -> None:
                # Closing alone does not wake a thread that is blocked in accept().
                with contextlib.suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
                listener.close()
                for conn in open_sockets:
                    with contextlib.suppress(OSError):
                        conn.shutdown(socket.SHUT_RDWR)
                    conn.close()
                for thread in threads:
                    thread.join(5)

            threads.append(threading.Thread(target=accept, daemon=True))
            threads[0].start()
            stack.callback(stop)
            return server

        yield start


def read_request(conn: socket.socket) -> Request | None:
    """Return one request with its body, or None if the client has closed the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = conn.recv(65536)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in rest)}
    while len(body) < int(headers.get("content-length", "0")):
        body += conn.recv(65536)
    return Request(line, headers, body)


def respond(
    conn: socket.socket, body: bytes = b"{}", *, status: str = "200 OK", headers: str = ""
) -> None:
    """Send an ordinary response."""
    conn.sendall(
        f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body
    )


def reset(conn: socket.socket) -> None:
    """Close the connection with RST instead of FIN."""
    conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    conn.close()


@pytest.fixture
def dead_url() -> str:
    """The URL of a port without a listener."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


def official(graph_url: str = "", /, **fields: Any) -> Channel:
    return Channel(
        **{
            "name": "Clínica",
            "kind": "official",
            "graph_url": graph_url,
            "phone_number_id": NUMBER_ID,
            "access_token": TOKEN,
            "request_timeout_seconds": 3,
            **fields,
        }
    )


def with_wwebjs(wwebjs_url: str = "", /, **fields: Any) -> Channel:
    return official(
        **{
            "fallback": "wwebjs",
            "wwebjs_url": wwebjs_url,
            "wwebjs_api_key": WWEBJS_KEY,
            "wwebjs_session_id": SESSION,
            **fields,
        }
    )


def baileys(evolution_url: str = "", /, **fields: Any) -> Channel:
    return Channel(
        **{
            "name": "Oficina",
            "kind": "baileys",
            "evolution_url": evolution_url,
            "evolution_api_key": EVOLUTION_KEY,
            "instance_name": INSTANCE,
            "request_timeout_seconds": 3,
            **fields,
        }
    )


def text_message(to: str = ORDINARY, **fields: Any) -> OutboundMessage:
    return OutboundMessage(**{"reference": "m1.1", "to": to, "text": "Olá", **fields})


def in_english(report: ConnectionReport) -> str:
    """Return the result of a connection test in English."""
    with translation.override("en"):
        return reason_text.summary(report)
