"""Whether a request was sent, for each kind of network error."""

from __future__ import annotations

import datetime as dt
import logging
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.utils import translation
from structlog.testing import capture_logs
from structlog.typing import EventDict

from channels_app.providers.error_codes import title_for
from core import http_client
from core.text import safe_id
from tests.channels_app.conftest import RawServer, Script, reset, respond

Start = Callable[[Script], RawServer]


@pytest.fixture(autouse=True)
def _fresh_pool() -> Iterator[None]:
    http_client._adapter.cache_clear()
    yield
    http_client._adapter().close()
    http_client._adapter.cache_clear()


def get(base: str, path: str = "/x", **options: Any) -> http_client.Answer:
    return http_client.request("GET", base, path, **{"timeout": 3, **options})


def test_an_answer_of_any_status_is_returned_with_its_headers(raw_server: Start) -> None:
    server = raw_server(
        lambda conn, n: respond(conn, b'{"a":1}', status="418 T", headers="X-A: b\r\n")
    )
    answer = get(server.url)
    assert (answer.status, answer.json(), answer.headers["x-a"]) == (418, {"a": 1}, "b")


def test_the_path_is_filled_with_escaped_values(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: respond(conn))
    get(server.url + "/wa/", "/s/{name}", params={"name": "a/b ?c"}, query={"q": "ü"})
    assert server.requests[0].line == "GET /wa/s/a%2Fb%20%3Fc?q=%C3%BC HTTP/1.1"


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_value_that_would_change_the_path_is_not_sent(raw_server: Start, value: str) -> None:
    server = raw_server(lambda conn, n: respond(conn))
    with pytest.raises(http_client.RequestNotSent, match="invalid_address"):
        get(server.url, "/s/{name}", params={"name": value})
    assert server.connections == 0


def test_json_and_files_arrive_whole(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: respond(conn))
    http_client.request("POST", server.url, "/j", json={"a": "é"}, timeout=3)
    http_client.request(
        "POST",
        server.url,
        "/f",
        data={"k": "v"},
        files={"file": ("a.bin", b"x" * 300_000)},
        timeout=3,
    )
    assert server.requests[0].body == b'{"a": "\\u00e9"}'
    assert server.requests[1].body.count(b"x") >= 300_000


def test_connections_are_reused(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: respond(conn))
    for _ in range(3):
        get(server.url)
    assert server.connections == 1


def test_an_idle_connection_is_closed_before_the_server_may_close_it(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = raw_server(lambda conn, n: respond(conn))
    get(server.url)
    monkeypatch.setattr(http_client, "IDLE_SECONDS", 0.0)
    get(server.url)
    assert server.connections == 2


def test_a_pooled_connection_closed_by_the_server_is_not_reused(raw_server: Start) -> None:
    def script(conn: socket.socket, number: int) -> str:
        respond(conn)
        return "close"

    server = raw_server(script)
    get(server.url)
    assert server.closed.wait(5)
    assert get(server.url).status == 200
    assert server.connections == 2


def test_a_pooled_connection_closed_during_a_request_is_a_lost_response_without_a_retry(
    raw_server: Start,
) -> None:
    def script(conn: socket.socket, number: int) -> str | None:
        if number == 1:
            respond(conn)
            return None
        return "close"

    server = raw_server(script)
    get(server.url)
    with pytest.raises(http_client.ResponseLost) as caught:
        http_client.request("POST", server.url, "/x", json={}, timeout=3)
    assert caught.value.reason == "connection_broken"
    assert (server.connections, len(server.requests)) == (1, 2)


def test_redirects_are_not_followed(raw_server: Start) -> None:
    server = raw_server(
        lambda conn, n: respond(conn, status="302 Found", headers="Location: /elsewhere\r\n")
    )
    assert get(server.url).status == 302
    assert len(server.requests) == 1


def test_cookies_are_not_stored(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: respond(conn, headers="Set-Cookie: a=b; Path=/\r\n"))
    get(server.url)
    get(server.url)
    assert "cookie" not in server.requests[1].headers


def test_netrc_proxy_variables_and_the_address_do_not_change_our_request(
    raw_server: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = raw_server(lambda conn, n: respond(conn))
    base = server.url.replace("http://", "http://user:word@")
    get(base, headers={"Authorization": "Bearer ours"})
    assert server.requests[0].headers["authorization"] == "Bearer ours"


# -- certainly not sent ----------------------------------------------------------------------------


def not_sent(base: str, **options: Any) -> str:
    with pytest.raises(http_client.RequestNotSent) as caught:
        get(base, **options)
    return caught.value.reason


def test_a_refused_connection_is_not_sent(dead_url: str) -> None:
    assert not_sent(dead_url) == "connection_refused"


def test_an_unknown_host_name_is_not_sent() -> None:
    assert not_sent("http://nobody.invalid") == "dns_failed"


@pytest.mark.parametrize(
    "base", ["", "ftp://x", "http://", "http://[::1", "no-scheme", "http://x:99999", "http://a..b"]
)
def test_an_invalid_address_is_not_sent(base: str) -> None:
    assert not_sent(base) in {"invalid_address", "dns_failed"}


@pytest.mark.parametrize("value", ["a\nb", "a\r\nX: y", "日本"])
def test_an_invalid_header_is_not_sent_and_not_reported(raw_server: Start, value: str) -> None:
    server = raw_server(lambda conn, n: respond(conn))
    with pytest.raises(http_client.RequestNotSent) as caught:
        get(server.url, headers={"Authorization": f"Bearer {value}"})
    assert caught.value.reason == "invalid_address"
    assert value not in str(caught.value)
    assert server.requests == []


def test_an_unreachable_network_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_route(*args: Any, **kwargs: Any) -> None:
        raise OSError(113, "No route to host")

    monkeypatch.setattr("urllib3.util.connection.create_connection", no_route)
    with pytest.raises(http_client.RequestNotSent) as caught:
        get("http://127.0.0.1:9")
    assert (caught.value.reason, caught.value.detail) == ("unreachable", "No route to host")


def test_a_server_that_accepts_no_connections_is_not_sent() -> None:
    # A full backlog: the kernel drops further SYNs, as a packet filter does.
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    fillers = []
    try:
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        reason = not_sent(f"http://127.0.0.1:{listener.getsockname()[1]}", connect_timeout=0.3)
        assert reason == "connect_timeout"
    finally:
        for sock in (*fillers, listener):
            sock.close()


def test_a_deadline_that_expires_while_connecting_is_not_sent(
    raw_server: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = raw_server(lambda conn, n: respond(conn))
    real = http_client._HTTPConnection.connect

    def slow(self: http_client._HTTPConnection) -> None:
        real(self)
        http_client._current.exchange.deadline = 0

    monkeypatch.setattr(http_client._HTTPConnection, "connect", slow)
    assert not_sent(server.url) == "connect_timeout"
    assert server.requests == []


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a self-signed certificate for localhost with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls_port(certificate: Path) -> Iterator[int]:
    """Start a TLS server that responds once per connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(plain, server_side=True) as conn:
                    conn.recv(65536)
                    respond(conn, b'"over TLS"', headers="Connection: close\r\n")
            except OSError:
                plain.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


def test_an_untrusted_certificate_is_not_sent(tls_port: int) -> None:
    with pytest.raises(http_client.RequestNotSent) as caught:
        get(f"https://localhost:{tls_port}")
    assert caught.value.reason == "certificate_refused"
    assert "self-signed" in caught.value.detail


def test_a_valid_certificate_is_accepted_but_not_for_another_name(
    tls_port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate))
    assert get(f"https://localhost:{tls_port}").json() == "over TLS"
    assert not_sent(f"https://127.0.0.1:{tls_port}") == "certificate_refused"


def test_a_server_without_tls_behind_https_is_not_sent(raw_server: Start) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        conn, _ = listener.accept()
        conn.recv(65536)
        conn.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        conn.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert not_sent(f"https://127.0.0.1:{listener.getsockname()[1]}") == "not_tls"
    thread.join(5)
    listener.close()


@pytest.mark.parametrize("linger", [None, 0])
def test_an_aborted_handshake_does_not_blame_the_certificate(linger: int | None) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        conn, _ = listener.accept()
        conn.recv(65536)
        if linger is not None:  # closed with a reset
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, linger))
        conn.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert not_sent(f"https://127.0.0.1:{listener.getsockname()[1]}") == "tls_failed"
    thread.join(5)
    listener.close()


def test_each_handshake_failure_has_its_own_reason() -> None:
    with translation.override("en"):
        titles = {str(title_for(code)) for code in ("certificate_refused", "not_tls", "tls_failed")}
    assert len(titles) == 3
    assert sum("certificate" in text for text in titles) == 1


# -- may have been sent ----------------------------------------------------------------------------


def no_answer(base: str, **options: Any) -> http_client.ResponseLost:
    with pytest.raises(http_client.ResponseLost) as caught:
        http_client.request("POST", base, "/x", json={}, **{"timeout": 3, **options})
    return caught.value


def test_no_response_within_the_deadline_is_a_lost_response(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: conn.recv(1))
    started = time.monotonic()
    assert no_answer(server.url, timeout=0.4).reason == "timeout"
    assert time.monotonic() - started >= 0.4
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: ",
        b"HTTP/1.1 100 Continue\r\nX-Long: ",
        b"",
    ],
)
def test_a_trickling_server_does_not_delay_us_beyond_the_deadline(
    raw_server: Start, head: bytes
) -> None:
    gone = threading.Event()

    def script(conn: socket.socket, number: int) -> str:
        conn.sendall(head)
        while not gone.wait(0.05):
            conn.sendall(b"H")
        return "close"

    server = raw_server(script)
    try:
        assert no_answer(server.url, timeout=0.6).reason == "timeout"
    finally:
        gone.set()


def test_a_server_that_does_not_read_does_not_delay_us_beyond_the_deadline() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    try:
        with pytest.raises(http_client.ResponseLost) as caught:
            http_client.request(
                "POST",
                f"http://127.0.0.1:{listener.getsockname()[1]}",
                "/x",
                data=b"x" * 30_000_000,
                timeout=0.6,
            )
    finally:
        listener.close()
    assert caught.value.reason == "timeout"


def test_a_large_body_may_take_longer_than_connecting_may(raw_server: Start) -> None:
    def script(conn: socket.socket, number: int) -> None:
        time.sleep(0.4)  # longer than the connect timeout below
        respond(conn, b'"slow"')

    server = raw_server(script)
    assert get(server.url, connect_timeout=0.2).json() == "slow"


def test_a_connection_closed_before_the_response_is_a_lost_response(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: "close")
    assert no_answer(server.url).reason == "connection_broken"


def test_a_reset_before_the_response_is_a_lost_response(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: reset(conn))
    assert no_answer(server.url).reason == "connection_broken"


@pytest.mark.parametrize(
    "part",
    [
        b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"messages',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
@pytest.mark.parametrize("end", ["close", "reset"])
def test_an_incomplete_response_is_a_lost_response(
    raw_server: Start, part: bytes, end: str
) -> None:
    def script(conn: socket.socket, number: int) -> str:
        conn.sendall(part)
        if end == "reset":
            reset(conn)
        return "close"

    assert no_answer(raw_server(script).url).reason == "connection_broken"


def test_a_response_that_is_not_http_is_a_lost_response(raw_server: Start) -> None:
    def script(conn: socket.socket, number: int) -> str:
        conn.sendall(b"SSH-2.0-OpenSSH_9\r\n")
        return "close"

    assert no_answer(raw_server(script).url).reason == "not_http"


def test_endless_headers_are_a_lost_response(raw_server: Start) -> None:
    def script(conn: socket.socket, number: int) -> str:
        conn.sendall(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n")
        return "close"

    assert no_answer(raw_server(script).url).reason == "connection_broken"


# -- the body -------------------------------------------------------------------------------------


def test_a_long_body_is_truncated_and_not_parsed_as_json(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: respond(conn, b"[" + b"1," * 500_000 + b"1]"))
    answer = get(server.url, max_bytes=1000)
    assert (answer.truncated, len(answer.body), answer.json()) == (True, 1000, http_client.NO_JSON)
    assert get(server.url).truncated is False


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{", b"\xff\xfe\x00", b"[" * 200_000, b"1" * 5000, b"{'a': 1}"],
)
def test_json_never_raises(body: bytes) -> None:
    answer = http_client.Answer(200, {}, body)
    assert not answer.json()
    assert answer.json() is http_client.NO_JSON
    assert answer.json_object() is None
    assert repr(answer.json()) == "NO_JSON"


def test_only_a_json_object_is_returned_as_an_object() -> None:
    assert http_client.Answer(200, {}, b"[1]").json_object() is None
    assert http_client.Answer(200, {}, b'{"a":1}').json_object() == {"a": 1}


# -- logging and secrets ---------------------------------------------------------------------------

SECRETS = ("query-secret", "header-secret", "body-secret", "answer-secret", "path-secret", "word")


def log_lines_about(base: str, lines: list[EventDict]) -> list[EventDict]:
    """Return the log lines about this server; other threads also write to the log."""
    return [line for line in lines if line.get("host") == base.removeprefix("http://")]


def noisy(base: str) -> None:
    http_client.request(
        "POST",
        base.replace("http://", "http://user:word@"),
        "/v/{name}",
        params={"name": "path-secret"},
        query={"token": "query-secret"},
        headers={"Authorization": "Bearer header-secret"},
        json={"text": "body-secret"},
        timeout=0.5,
    )


def test_a_request_logs_one_line_without_secrets(
    raw_server: Start, caplog: pytest.LogCaptureFixture
) -> None:
    server = raw_server(
        lambda conn, n: respond(conn, b"answer-secret", status="401 No", headers="bad header\r\n")
    )
    with capture_logs() as lines, caplog.at_level(logging.WARNING):
        noisy(server.url)
    (line,) = log_lines_about(server.url, lines)
    assert line.pop("ms") >= 0
    assert line == {
        "event": "http_request",
        "log_level": "info",
        "method": "POST",
        "host": f"127.0.0.1:{server.port}",
        "path": "/v/{name}",
        "status": 401,
    }
    assert not any(secret in caplog.text for secret in SECRETS)


@pytest.mark.parametrize("failure", ["refused", "silent", "reset", "not_http"])
def test_a_failure_reveals_no_secret_in_its_text_context_or_log(
    raw_server: Start, dead_url: str, caplog: pytest.LogCaptureFixture, failure: str
) -> None:
    def script(conn: socket.socket, number: int) -> str | None:
        if failure == "silent":
            conn.recv(1)
        elif failure == "reset":
            reset(conn)
        else:
            conn.sendall(b"answer-secret\r\n")
        return "close"

    base = dead_url if failure == "refused" else raw_server(script).url
    with (
        capture_logs() as lines,
        caplog.at_level(logging.WARNING),
        pytest.raises(http_client.RequestFailed) as caught,
    ):
        noisy(base)
    revealed = f"{caught.value!r} {caught.value} {caught.value.detail} {lines} {caplog.text}"
    assert not any(secret in revealed for secret in SECRETS)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    (line,) = log_lines_about(base, lines)
    assert (line["status"], line["failure"]) == (None, caught.value.reason)
    assert line["sent"] is (failure != "refused")


def test_an_answer_does_not_show_its_content() -> None:
    shown = repr(http_client.Answer(200, {"X": "header-secret"}, b"answer-secret"))
    assert "secret" not in shown


def test_safe_text_is_one_printable_line_without_secrets() -> None:
    text = http_client.safe_text(
        "Malformed access token EAAx\x00\n\ud800  end", secrets=("EAAx", "")
    )
    assert text == "Malformed access token *** end"
    assert http_client.safe_text("a" * 600) == "a" * 499 + "…"
    assert http_client.safe_text(None) == http_client.safe_text({"a": 1}) == ""


@pytest.mark.parametrize("value", [None, 5, "", "a b", "a\x00", "a" * 256, "\ud800"])
def test_safe_id_rejects_values_that_cannot_be_stored(value: object) -> None:
    assert safe_id(value) is None


def test_safe_id_returns_a_valid_id_unchanged() -> None:
    assert safe_id("wamid.HBg=") == "wamid.HBg="


def test_many_threads_share_the_pool_and_keep_their_own_deadlines(raw_server: Start) -> None:
    def script(conn: socket.socket, number: int) -> None:
        time.sleep(0.1)
        respond(conn, b'"ok"')

    server = raw_server(script)
    results: list[object] = []

    def ask(timeout: float) -> None:
        try:
            results.append(get(server.url, timeout=timeout).json())
        except http_client.RequestFailed as error:
            results.append(error.reason)

    threads = [threading.Thread(target=ask, args=(t,)) for t in (0.05, 3, 3, 0.05, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(results, key=str) == ["ok", "ok", "ok", "timeout", "timeout"]


def test_a_forked_child_opens_its_own_connections(raw_server: Start) -> None:
    server = raw_server(lambda conn, n: respond(conn))
    get(server.url)
    child = os.fork()
    if child == 0:
        os._exit(0 if http_client._adapter.cache_info().currsize == 0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
