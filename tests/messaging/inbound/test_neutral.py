"""One normalized JSON form for all transports, and a stub for everything else: nothing is lost."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.core.management import call_command
from django.db import DataError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels_app.models import Channel
from core.text import is_storable
from messaging import retention
from messaging.inbound import arrivals, journal, neutral, raw_files
from messaging.inbound.arrivals import Arrival, Raw, Stub
from messaging.inbound.neutral import Unstorable
from messaging.inbound.replay import replay
from messaging.media import embedded_files
from messaging.models import InboundEvent, Message
from tests.factories import create_channel
from tests.messaging.support import read_events

CUSTOMER = "5511988887777@s.whatsapp.net"


def as_numbered_object(value: Any) -> Any:
    """Return the value in the form that a webhook or a stored record has."""
    if isinstance(value, bytes):
        return {str(index): byte for index, byte in enumerate(value)}
    if isinstance(value, dict):
        return {key: as_numbered_object(item) for key, item in value.items()}
    return [as_numbered_object(item) for item in value] if isinstance(value, list) else value


def as_a_buffer(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"type": "Buffer", "data": list(value)}
    if isinstance(value, dict):
        return {key: as_a_buffer(item) for key, item in value.items()}
    return [as_a_buffer(item) for item in value] if isinstance(value, list) else value


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**38, max_value=10**400)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]), max_size=8)
    | st.binary(max_size=8)
)
# Hostile keys: NUL and surrogates, numbers, and parts of what looks like a buffer.
KEYS = st.sampled_from(["0", "1", "2", "a", "a\x00", "\ud800", "?", "type", "data", "_placeholder"])
WORDS = st.sampled_from(["Buffer", "QQ==", "x"])
PAYLOADS = st.recursive(
    LEAVES | WORDS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4)
        | st.fixed_dictionaries({"type": st.just("Buffer"), "data": inner})
    ),
    max_leaves=12,
)


def deep(levels: int) -> Any:
    value: Any = b"\x01"
    for _ in range(levels):
        value = {"a": [value]}
    return value


HOSTILE_LIST = (
    {1, 2},
    object,
    deep(5000),
    deep(101),
    {3: 1},
    {"a\x00": 1, "a": 2},
    [1 << 50_000],
)
# Selected by index, because some of them cannot be printed.
HOSTILE = st.integers(0, len(HOSTILE_LIST) - 1).map(HOSTILE_LIST.__getitem__)


def normalized_or_none(payload: Any) -> list[Any] | None:
    """Return the normalized form in a list, or None if two keys would collide."""
    with contextlib.suppress(Unstorable):
        return [neutral.normalize(payload)]
    with pytest.raises(Unstorable, match="same_keys"):
        neutral.normalize(payload)
    return None


ENCODED = [
    b'{"\\u0030":1}',
    b'{"0":1}',
    b'{"type":"\\u0042uffer","data":[1]}',
    b'{"type":"Buffer","data":[1]}',
    b'{"a":"\\u0000"}',
    b'{"a":"\\uD83D"}',
    b'{"a":"\xed\xa0\xbd"}',
    '{"0":1}'.encode("utf-16-le"),
    '{"0":1}'.encode("utf-16"),
    '\ufeff{"0":1}'.encode(),
    b'{"a":' * 250 + b"1" + b"}" * 250,
    b"[1.0,1e39,1e41,-1e400,NaN,-Infinity,0.5," + b"9" * 50 + b"]",
]


@given(
    st.sampled_from(ENCODED)
    | st.builds(
        lambda payload, plain: json.dumps(payload, ensure_ascii=plain).encode(
            errors="surrogatepass"
        ),
        PAYLOADS.map(as_a_buffer) | PAYLOADS.map(as_numbered_object),
        st.booleans(),
    )
)
def test_what_is_stored_without_being_normalized_is_normal(raw: bytes) -> None:
    payload = neutral.decode(raw)
    if neutral.is_normal(raw, payload):
        assert json.dumps(neutral.normalize(payload)) == json.dumps(payload)


def test_a_usual_event_need_not_be_normalized() -> None:
    event = {"entry": [{"changes": [{"value": {"at": [1, 0.5, "ol\u00e1", None]}}]}] * 300}
    for raw in (json.dumps(event).encode(), json.dumps(event, ensure_ascii=False).encode()):
        assert neutral.is_normal(raw, neutral.decode(raw))


@given(PAYLOADS)
def test_the_normalized_form_does_not_depend_on_the_transport(payload: Any) -> None:
    found = normalized_or_none(payload)
    if found is None:
        return
    [found] = found
    assert is_storable(found)
    assert neutral.normalize(found) == found
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert neutral.normalize(as_numbered_object(payload)) == found
    assert neutral.normalize(as_a_buffer(payload)) == found
    assert neutral.normalize(neutral.decode(neutral.encode(payload))) == found


@given(PAYLOADS | HOSTILE)
def test_any_value_can_be_encoded(payload: Any) -> None:
    raw = neutral.encode(payload)
    try:
        found = neutral.normalize(neutral.decode(raw))
    except Unstorable:
        return
    assert is_storable(found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"\x0c\xfa", "DPo="),
        ({"0": 12, "1": 250}, "DPo="),
        ({"type": "Buffer", "data": [12, 250]}, "DPo="),
        ({"type": "Buffer", "data": "DPo="}, "DPo="),
        ({"0": 12, "2": 250}, {"0": 12, "2": 250}),
        ({"0": 12, "1": 256}, {"0": 12, "1": 256}),
        ({"0": True}, {"0": True}),
        ({"type": "Buffer", "data": "no base64"}, {"type": "Buffer", "data": "no base64"}),
        (b"", {}),
        (math.nan, "nan"),
        (10**50, str(10**50)),
        ([1.0, 1.5, 1e300], [1, 1.5, "1e+300"]),
        ("a\x00b\ud800", "ab?"),
    ],
)
def test_a_value_is_normalized(value: Any, expected: Any) -> None:
    assert neutral.normalize({"a": [value]}) == {"a": [expected]}


# -- the journal -----------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _files(settings: Any, tmp_path: Any) -> None:
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def baileys(db: None) -> Channel:
    return create_channel(name="Oficina", kind="baileys", instance_name="shop")


def upsert(**message: Any) -> dict[str, Any]:
    return {
        "event": "messages.upsert",
        "instance": "shop",
        "apikey": "secret-token",
        "data": {
            "key": {"remoteJid": CUSTOMER, "fromMe": False, "id": "3A1"},
            "pushName": "Ana",
            "message": {"conversation": "oi", **message},
            "messageType": "conversation",
            "messageTimestamp": 1795300000,
        },
    }


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(payload=PAYLOADS | HOSTILE, as_event=st.booleans())
def test_every_payload_is_stored_as_an_equal_value_or_as_a_stub(
    baileys: Channel, payload: Any, *, as_event: bool
) -> None:
    InboundEvent.objects.all().delete()
    arrived = {"event": "x", "instance": "shop", "data": payload} if as_event else payload
    arrival = Arrival(str(baileys.pk), arrived)
    journal.receive("evolution", [arrival])
    row = InboundEvent.objects.get()
    if row.raw_file:
        assert row.state == "set_aside"
        assert row.error
        assert raw_files.read(row.raw_file) == arrival.body
    else:
        assert row.payload == neutral.normalize(arrived)


@pytest.mark.django_db
@pytest.mark.parametrize("source", ["cloud", "evolution", "wwebjs"])
def test_no_source_raises_for_any_body(source: str) -> None:
    bodies = [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000, b"null", b'{"a\\u0000":1,"a":2}']
    journal.receive(source, [Arrival.from_body("1", body) for body in bodies])
    stubs = InboundEvent.objects.order_by("pk")
    assert [raw_files.read(name) for name in stubs.values_list("raw_file", flat=True)] == bodies
    assert set(stubs.values_list("state", flat=True)) == {"set_aside"}


def test_socket_webhook_and_record_have_the_same_dedupe_key(baileys: Channel) -> None:
    by_socket = upsert(messageContextInfo={"messageSecret": b"\x01\x02"}, x=b"\xff" * 500)
    by_webhook = json.loads(json.dumps(as_numbered_object(by_socket)))
    votes = {
        "event": "messages.update",
        "instance": "shop",
        "data": {"keyId": "3A1", "status": "SERVER_ACK", "pollUpdates": [{"vote": b"\x07"}]},
    }
    row = {"event": "messages.delete", "instance": "shop", "date_time": "x", "data": by_socket}
    for event in (by_socket, votes, row):
        both = {arrivals.dedupe_key("evolution", "1", event)}
        both.add(arrivals.dedupe_key("evolution", "1", as_numbered_object(event)))
        assert len(both) == 1
    for event in (by_socket, by_webhook):
        journal.receive("evolution", [Arrival(str(baileys.pk), event)])
    stored = InboundEvent.objects.get()
    assert stored.payload["data"]["message"]["messageContextInfo"] == {"messageSecret": "AQI="}
    read_events()
    assert Message.objects.get().text == "oi"


def test_a_row_in_an_earlier_format_is_still_read(baileys: Channel) -> None:
    InboundEvent.objects.create(
        source="evolution",
        source_key=str(baileys.pk),
        dedupe_key="old",
        payload=as_numbered_object(upsert(messageContextInfo={"messageSecret": b"\x01\x02"})),
    )
    read_events()
    assert Message.objects.get().text == "oi"


def test_a_payload_too_large_for_a_row_becomes_a_stub_without_a_file(
    baileys: Channel,
) -> None:
    big = upsert(x="y" * (neutral.MAX_CHARACTERS + 1), base64=base64.b64encode(b"v").decode())
    entry = arrivals.prepare("evolution", Arrival(str(baileys.pk), big))
    assert isinstance(entry, Stub)
    assert entry.error.startswith("too_large")
    assert not default_storage.exists("inbound") or default_storage.listdir("inbound")[1] == []
    video = base64.b64encode(b"v" * neutral.MAX_CHARACTERS).decode()
    entry = arrivals.prepare("evolution", Arrival(str(baileys.pk), upsert(base64=video)))
    assert isinstance(entry, Raw)
    assert entry.payload["data"]["message"]["base64"]["size"] == neutral.MAX_CHARACTERS


def history(texts: list[str], **more: Any) -> dict[str, Any]:
    """A part of the history that a link brings, as Evolution sends it: one list."""
    records = []
    for number, text in enumerate(texts):
        key = {"remoteJid": CUSTOMER, "fromMe": False, "id": f"H{number}"}
        message = {"conversation": text, "seal": b"\x01\x02"}
        records.append({"key": key, "message": message, "messageTimestamp": 1795300000 + number})
    head = {"event": "messages.set", "instance": "shop", "date_time": "2026-11-22T00:00:00.000Z"}
    return {**head, "data": records, **more}


def test_a_list_too_large_for_one_row_is_stored_in_several_rows_and_read_completely(
    baileys: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "MAX_ITEMS", 4)
    texts = [f"{n}" * 2_000_000 if n < 5 else f"{n}" for n in range(10)]
    event = history([*texts, "x" * (neutral.MAX_CHARACTERS + 1)])
    for transport in (event, as_numbered_object(event)):
        journal.receive("evolution", [Arrival(str(baileys.pk), transport)])
    rows = InboundEvent.objects.order_by("pk")
    # Only an item that is too large on its own cannot be read.
    expected = [("pending", ""), ("pending", ""), ("pending", ""), ("pending", "")]
    assert [(row.state, row.error.partition(":")[0]) for row in rows] == [
        *expected,
        ("set_aside", "too_large"),
    ]
    read_events()
    assert list(Message.objects.order_by("created_at").values_list("text", flat=True)) == texts


def test_a_stub_that_holds_a_list_is_divided_when_it_is_read_again(
    baileys: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(arrivals, "split", lambda source, arrival: [arrival])
        journal.receive("evolution", [Arrival(str(baileys.pk), history(["y" * 5_000_000] * 3))])
    assert InboundEvent.objects.get().error.startswith("too_large")
    assert replay() == (1, 0)
    read_events()
    assert set(InboundEvent.objects.values_list("state", flat=True)) == {"done"}
    assert Message.objects.count() == 3


def test_an_event_rejected_by_the_database_becomes_a_stub_and_the_others_are_stored(
    baileys: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = journal._insert

    def refuse(rows: Any) -> None:
        if any(row["payload"].get("date_time") == "refused" for row in rows):
            raise DataError("unsupported Unicode escape sequence")
        insert(rows)

    monkeypatch.setattr(journal, "_insert", refuse)
    events = [{"event": "x", "instance": "shop", "date_time": t} for t in ("a", "refused", "b")]
    journal.receive("evolution", [Arrival(str(baileys.pk), event) for event in events])
    stored = InboundEvent.objects.order_by("pk")
    assert [(row.state, row.error) for row in stored] == [
        ("pending", ""),
        ("set_aside", "DataError"),
        ("pending", ""),
    ]


def test_a_stub_stores_no_secret_in_plain_text(baileys: Channel, tmp_path: Any) -> None:
    journal.receive("evolution", [Arrival.from_body(str(baileys.pk), b'{"apikey":"secret-token"')])
    row = InboundEvent.objects.get()
    assert "secret" not in str(row.payload) + row.error
    assert b"secret-token" not in (tmp_path / row.raw_file).read_bytes()
    assert b"secret-token" in raw_files.read(row.raw_file)


def test_a_stub_is_replayed_with_the_current_code(
    baileys: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(neutral, "MAX_DEPTH", 1)
        journal.receive("evolution", [Arrival(str(baileys.pk), upsert(x=b"\x01"))])
    stub = InboundEvent.objects.get()
    assert (stub.state, stub.error) == ("set_aside", "too_deep")
    with monkeypatch.context() as patch:
        patch.setattr(neutral, "MAX_DEPTH", 1)
        assert replay() == (0, 1)
    assert replay() == (1, 0)
    stub.refresh_from_db()
    assert (stub.state, stub.error) == ("done", "")
    assert stub.payload["apikey"] == "withheld"
    assert stub.payload["data"]["message"]["x"] == "AQ=="
    assert Message.objects.get().text == "oi"
    # The event arrives again by the other transport and is recognized.
    journal.receive("evolution", [Arrival(str(baileys.pk), as_numbered_object(upsert(x=b"\x01")))])
    assert InboundEvent.objects.count() == 1
    # The raw bytes are deleted with their row.
    assert default_storage.exists(stub.raw_file)
    InboundEvent.objects.update(received_at="2020-01-01T00:00Z")
    call_command("rotate_encryption")
    stub.refresh_from_db()
    assert b"secret-token" in raw_files.read(stub.raw_file)

    retention.delete_expired()
    assert not InboundEvent.objects.exists()
    assert not default_storage.exists(stub.raw_file)


def test_a_stub_is_done_if_the_complete_event_arrived_later(
    baileys: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(neutral, "MAX_DEPTH", 1)
        journal.receive("evolution", [Arrival(str(baileys.pk), upsert())])
    journal.receive("evolution", [Arrival(str(baileys.pk), upsert())])
    read_events()
    assert replay() == (1, 0)
    assert set(InboundEvent.objects.values_list("state", flat=True)) == {"done"}
    assert Message.objects.count() == 1


def test_the_cleanup_deletes_files_of_deleted_stubs_only(baileys: Channel) -> None:
    journal.receive("evolution", [Arrival.from_body(str(baileys.pk), b"{")])
    name = InboundEvent.objects.get().raw_file
    assert embedded_files.delete_unused([name]) == 0
    assert default_storage.exists(name)
    InboundEvent.objects.all().delete()
    assert embedded_files.delete_unused([name]) == 1
    assert not default_storage.exists(name)
