"""Data of the Evolution simulator: settings, scenarios, stored rows and ledgers.

Wire facts come from `docs/providers/evolution.md`; section numbers refer to that page.
Nothing here opens a connection or depends on HTTP.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import secrets
import string
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

import segno

from simulators.base import JsonObject, Scenario, only_digits
from simulators.base import whatsapp_id as whatsapp_number

BAILEYS = "WHATSAPP-BAILEYS"
BUSINESS = "WHATSAPP-BUSINESS"
EVOLUTION = "EVOLUTION"

EVENTS: tuple[str, ...] = (
    "APPLICATION_STARTUP",
    "QRCODE_UPDATED",
    "MESSAGES_SET",
    "MESSAGES_UPSERT",
    "MESSAGES_EDITED",
    "MESSAGES_UPDATE",
    "MESSAGES_DELETE",
    "SEND_MESSAGE",
    "SEND_MESSAGE_UPDATE",
    "CONTACTS_SET",
    "CONTACTS_UPSERT",
    "CONTACTS_UPDATE",
    "PRESENCE_UPDATE",
    "CHATS_SET",
    "CHATS_UPSERT",
    "CHATS_UPDATE",
    "CHATS_DELETE",
    "GROUPS_UPSERT",
    "GROUP_UPDATE",
    "GROUP_PARTICIPANTS_UPDATE",
    "CONNECTION_UPDATE",
    "LABELS_EDIT",
    "LABELS_ASSOCIATION",
    "CALL",
    "TYPEBOT_START",
    "TYPEBOT_CHANGE_STATUS",
    "REMOVE_INSTANCE",
    "LOGOUT_INSTANCE",
    "INSTANCE_CREATE",
    "INSTANCE_DELETE",
    "STATUS_INSTANCE",
)
"""The 31 names that `/webhook/set` and `/websocket/set` accept (§3)."""

ACK_STATUSES = ("SERVER_ACK", "DELIVERY_ACK", "READ")

PROFILE_PICTURE = "https://pps.whatsapp.net/v/t61.24694-24/fake.jpg"

Answer = Literal[
    "ok",
    "not_on_whatsapp",
    "closed_500",
    "closed_400",
    "error_500",
    "hang",
    "reset",
    "html_502",
    "html_200",
    "empty",
    "not_json",
    "slow",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolutionScenario(Scenario):
    """The outcome of a send to a recipient with this scenario's two digits.

    `answer` is the response of `/message/*`; `accepted` is whether Evolution passed the message to
    WhatsApp (it is stored, `send.message` and the acks follow) and `delivered` whether it reached
    the phone. The three are deliberately independent: a client has to handle every combination.
    The digits match those of `simulators.wwebjs.tables` where both have the scenario.
    """

    answer: Answer = "ok"
    accepted: bool = True
    delivered: bool = True
    acks: tuple[str, ...] = ACK_STATUSES
    without_ninth_digit: bool = False


def _rejected(
    name: str, digits: str, answer: Answer, english: str, portuguese: str
) -> EvolutionScenario:
    return EvolutionScenario(
        name=name,
        digits=digits,
        english=english,
        portuguese=portuguese,
        answer=answer,
        accepted=False,
        delivered=False,
        acks=(),
    )


SCENARIOS: dict[str, EvolutionScenario] = {
    scenario.name: scenario
    for scenario in (
        EvolutionScenario(
            name="ok",
            digits="00",
            english="201 PENDING, then delivered and read",
            portuguese="201 PENDING, depois entregue e lida",
        ),
        EvolutionScenario(
            name="pending_lost",
            digits="02",
            english="201 PENDING without any ack, not delivered",
            portuguese="201 PENDING e nenhum ack, não entregue",
            delivered=False,
            acks=(),
        ),
        EvolutionScenario(
            name="ack_error",
            digits="03",
            english="201 PENDING, then ERROR: WhatsApp rejected it",
            portuguese="201 PENDING, depois ERROR: o WhatsApp recusou",
            delivered=False,
            acks=("ERROR",),
        ),
        _rejected(
            "not_on_whatsapp",
            "06",
            "not_on_whatsapp",
            "400 with exists: false: certainly not sent",
            "400 com exists: false: com certeza não enviada",
        ),
        EvolutionScenario(
            name="ack_one_only",
            digits="07",
            english="only SERVER_ACK: the phone stays off",
            portuguese="SERVER_ACK e nada mais: o celular segue desligado",
            delivered=False,
            acks=("SERVER_ACK",),
        ),
        EvolutionScenario(
            name="ninth_digit",
            digits="09",
            english="201; key.remoteJid has no ninth digit",
            portuguese="201; key.remoteJid vem sem o nono dígito",
            without_ninth_digit=True,
        ),
        EvolutionScenario(
            name="error_delivered",
            digits="10",
            english="500 with a JavaScript error, but delivered",
            portuguese="500 com erro de JavaScript, mas entregue",
            answer="error_500",
        ),
        _rejected(
            "error_lost",
            "13",
            "error_500",
            "500 with a JavaScript error, not sent",
            "500 com erro de JavaScript, não enviada",
        ),
        _rejected(
            "hang_lost", "20", "hang", "no answer, nothing sent", "sem resposta, nada enviado"
        ),
        EvolutionScenario(
            name="hang_delivered",
            digits="21",
            english="no answer, but delivered",
            portuguese="sem resposta, mas entregue",
            answer="hang",
        ),
        _rejected(
            "reset_before",
            "23",
            "reset",
            "connection reset, not sent",
            "conexão derrubada, não enviada",
        ),
        EvolutionScenario(
            name="reset_after",
            digits="24",
            english="connection reset, but delivered",
            portuguese="conexão derrubada, mas entregue",
            answer="reset",
        ),
        _rejected(
            "html_502",
            "25",
            "html_502",
            "502 with an HTML page, not sent",
            "502 com página HTML, não enviada",
        ),
        _rejected(
            "html_200",
            "26",
            "html_200",
            "200 with an HTML page, not sent",
            "200 com página HTML, não enviada",
        ),
        EvolutionScenario(
            name="empty",
            digits="27",
            english="201 with an empty body, delivered",
            portuguese="201 com corpo vazio, entregue",
            answer="empty",
        ),
        EvolutionScenario(
            name="not_json",
            digits="28",
            english="201 with broken JSON, delivered",
            portuguese="201 com JSON quebrado, entregue",
            answer="not_json",
        ),
        EvolutionScenario(
            name="slow",
            digits="29",
            english="201 after some seconds; the acks arrive before the response",
            portuguese="201 depois de alguns segundos; os acks chegam antes",
            answer="slow",
        ),
        _rejected(
            "closed",
            "30",
            "closed_500",
            "500 Connection Closed: certainly not sent",
            "500 Connection Closed: com certeza não enviada",
        ),
        _rejected(
            "closed_cached",
            "31",
            "closed_400",
            "400 Error: Connection Closed, not sent",
            "400 Error: Connection Closed, não enviada",
        ),
    )
}
"""Scenarios by name; `digits` are the two before the last two of a number like …9999FF00.

`simulators.base` explains the numbering. Numbers without a scenario succeed.
"""


@dataclass(frozen=True)
class InstanceSpec:
    """An instance that exists when the simulator starts.

    `open` pairs a Baileys instance immediately, with `number` as its WhatsApp number; the other
    integrations are open from their creation (§4). `webhook` and `websocket` are the inner
    objects of `/webhook/set` and `/websocket/set`.
    """

    name: str
    integration: str = BAILEYS
    token: str | None = None
    number: str = "5511900000777"
    profile_name: str = "Alterna Demo"
    open: bool = True
    webhook: Mapping[str, Any] | None = None
    websocket: Mapping[str, Any] | None = None


@dataclass
class EvolutionSettings:
    """Configuration of the simulated server; the defaults are those of Evolution 2.3.7.

    Durations are in seconds. All but `instances` can be changed at run time through
    `POST /_control/settings`; ping settings take effect at the next simulated restart.
    """

    api_key: str = "evolution-api-key"
    version: Literal["2.3.6", "2.3.7", "2.4.0"] = "2.3.7"
    licensed: bool = True
    """Without an activated license 2.4 answers every route except `/` with 503 (§8)."""
    server_url: str = "http://127.0.0.1:8080"
    timezone: str = "UTC"
    expose_token: bool = True
    """AUTHENTICATION_EXPOSE_IN_FETCH_INSTANCES: webhooks carry the instance token (§1)."""
    instances: tuple[InstanceSpec, ...] = ()

    websocket_enabled: bool = True
    websocket_global_events: bool = False
    websocket_allowed_hosts: str = "127.0.0.1,::1,::ffff:127.0.0.1"
    ping_interval: float = 25.0
    ping_timeout: float = 20.0

    webhook_timeout_seconds: float = 30.0
    webhook_max_attempts: int = 10
    webhook_initial_seconds: float = 5.0
    webhook_max_seconds: float = 300.0
    webhook_jitter: float = 0.2
    webhook_not_retried: tuple[int, ...] = (400, 401, 403, 404, 422)
    webhook_chunked: bool = False
    """Post bodies without Content-Length, as an intermediate proxy may do."""
    webhook_global_url: str = ""
    webhook_global_by_events: bool = False
    webhook_global_events: tuple[str, ...] = ()

    ack_delays: tuple[float, ...] = (0.15, 0.4, 2.0)
    """Delays from the send to the first, second and third ack of the scenario; () = no acks."""
    connect_wait_seconds: float = 2.0
    create_wait_seconds: float = 5.0
    qr_seconds: float = 45.0
    qr_limit: int = 30
    auto_scan_seconds: float = 0.0
    """A phone scans each QR automatically after this time, for demos; 0 = never."""
    redial_seconds: float = 0.3
    stuck_dialing: bool = False
    """Instances dialed from now on stay `connecting`: they show no code and never open."""
    late_owner: bool = False
    """The row of an instance that opens gets its number only after this is disabled again."""
    delete_seconds: float = 0.3
    """Delay from the REMOVE_INSTANCE webhook's response to the removal (§4)."""
    hang_seconds: float = 120.0
    slow_seconds: float = 3.0
    picture_url: str | None = PROFILE_PICTURE
    """The picture of every account and contact; None = no picture."""

    history_messages: int = 0
    """Number of old messages synced after linking, from the previous two days (§10.4)."""
    message_secrets: bool = True
    """Received messages have `messageContextInfo.messageSecret`, like those of WhatsApp clients."""

    not_on_whatsapp: tuple[str, ...] = ()
    """Numbers (exact digits) without WhatsApp, besides the scenario of that name."""
    on_whatsapp_cache: tuple[str, ...] = ()
    """Digits that Evolution has looked up before, which changes its errors (§5)."""
    business_errors: dict[str, JsonObject] = field(default_factory=dict)
    """Graph error objects by exact digits, answered with 201 by BUSINESS instances (§5)."""
    book_size: int = 200_000
    webhook_emptied_every: int = 0
    """Every n-th restart clears url and headers of each webhook (§10.2, issue 2694); 0 = none."""
    save_new_messages: bool = True
    """DATABASE_SAVE_DATA_NEW_MESSAGE: if off, `/chat/findMessages` returns nothing (§1)."""
    hold_offline: bool = False
    """WhatsApp queues inbound messages while an instance is not open and delivers them later."""


@dataclass
class WebhookRow:
    """A row of the table Webhook, as `/webhook/find` returns it (§1)."""

    id: str
    instance_id: str
    url: str
    headers: JsonObject | None
    enabled: bool
    events: list[str]
    by_events: bool
    base64: bool
    created_at: datetime
    updated_at: datetime

    def as_json(self) -> JsonObject:
        """Return the row; byEvents/base64 are read as webhookByEvents/webhookBase64 (§1)."""
        return {
            "id": self.id,
            "url": self.url,
            "headers": self.headers,
            "enabled": self.enabled,
            "events": self.events,
            "webhookByEvents": self.by_events,
            "webhookBase64": self.base64,
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
            "instanceId": self.instance_id,
        }


@dataclass
class WebsocketRow:
    """A row of the table Websocket (§2)."""

    id: str
    instance_id: str
    enabled: bool
    events: list[str]
    created_at: datetime
    updated_at: datetime

    def as_json(self) -> JsonObject:
        """Return the row as `/websocket/find` does."""
        return {
            "id": self.id,
            "enabled": self.enabled,
            "events": self.events,
            "createdAt": iso(self.created_at),
            "updatedAt": iso(self.updated_at),
            "instanceId": self.instance_id,
        }


@dataclass
class StoredMessage:
    """A row of the table Message with its status updates and the bytes of media."""

    id: str
    key: JsonObject
    push_name: str | None
    message_type: str | None
    message: JsonObject
    timestamp: int
    instance_id: str
    source: str
    context_info: JsonObject | None = None
    status: str | None = None
    updates: list[JsonObject] = field(default_factory=list)
    media: bytes | None = None

    def as_record(self) -> JsonObject:
        """Return one of `messages.records` of `/chat/findMessages` (§5)."""
        return {
            "id": self.id,
            "key": self.key,
            "pushName": self.push_name,
            "messageType": self.message_type,
            "message": self.message,
            "messageTimestamp": self.timestamp,
            "instanceId": self.instance_id,
            "source": self.source,
            "contextInfo": self.context_info,
            "MessageUpdate": [{"status": update["status"]} for update in self.updates],
        }


@dataclass
class QrCode:
    """The QR of a connecting Baileys instance."""

    count: int = 0
    code: str | None = None
    base64: str | None = None
    pairing_code: str | None = None

    def as_json(self) -> JsonObject:
        """Return it as `/instance/connect` does; a missing code is omitted."""
        if self.code is None:
            return {"count": self.count}
        return {
            "pairingCode": self.pairing_code,
            "code": self.code,
            "base64": self.base64,
            "count": self.count,
        }


@dataclass
class Instance:
    """One instance: its database row and its state in Evolution's memory."""

    name: str
    id: str
    integration: str
    token: str
    number: str | None
    business_id: str | None
    settings: JsonObject
    created_at: datetime
    updated_at: datetime
    setting_id: str
    state: str = "close"
    db_status: str = "close"
    owner_jid: str | None = None
    stored_owner_jid: str | None = None
    profile_name: str | None = None
    profile_picture: str | None = None
    disconnection_code: int | None = None
    disconnection_object: str | None = None
    disconnection_at: datetime | None = None
    webhook: WebhookRow | None = None
    websocket: WebsocketRow | None = None
    dialed: bool = False
    paired: bool = False
    dead: bool = False
    """The state is open but the socket is gone: sends fail (§4, issues 1398 and 2403)."""
    sender: str | None = None
    base64_active: bool = False
    dial_number: str | None = None
    qr: QrCode = field(default_factory=QrCode)
    phone_number: str = "5511900000777"
    phone_name: str = "Alterna Demo"
    messages: dict[str, StoredMessage] = field(default_factory=dict)
    contacts: dict[str, JsonObject] = field(default_factory=dict)
    chats: dict[str, JsonObject] = field(default_factory=dict)
    received_ids: dict[str, float] = field(default_factory=dict)
    queue: asyncio.Queue[Any] | None = None
    offline: list[Any] = field(default_factory=list)
    """Messages that WhatsApp queues for it, oldest first (`hold_offline`)."""

    @property
    def is_baileys(self) -> bool:
        """Whether this instance is linked to a (simulated) phone."""
        return self.integration == BAILEYS

    def touch(self) -> None:
        """Update the time of the last change."""
        self.updated_at = utc_now()


@dataclass
class Delivery:
    """The delivery of one event to one webhook URL."""

    url: str
    state: str = "pending"
    attempts: list[JsonObject] = field(default_factory=list)

    def as_json(self) -> JsonObject:
        """Return it for the control endpoint."""
        return {"url": self.url, "state": self.state, "attempts": self.attempts}


@dataclass
class EmittedEvent:
    """A ledger entry of an emitted event and its recipients."""

    id: int
    at: float
    instance: str
    event: str
    message_id: str | None
    data: Any
    sockets: list[JsonObject] = field(default_factory=list)
    webhooks: list[Delivery] = field(default_factory=list)

    @property
    def reached(self) -> list[str]:
        """The routes ("socket", "webhook") that reached a client; empty if the event was lost."""
        routes = []
        if any(entry["clients"] for entry in self.sockets):
            routes.append("socket")
        if any(delivery.state == "delivered" for delivery in self.webhooks):
            routes.append("webhook")
        return routes

    def as_json(self, *, payload: bool) -> JsonObject:
        """Return it for the control endpoint; `payload` adds the event's data."""
        entry: JsonObject = {
            "id": self.id,
            "at": self.at,
            "instance": self.instance,
            "event": self.event,
            "message_id": self.message_id,
            "reached": self.reached,
            "sockets": self.sockets,
            "webhooks": [delivery.as_json() for delivery in self.webhooks],
        }
        if payload:
            entry["data"] = self.data
        return entry


@dataclass
class SentMessage:
    """A ledger entry of a message that a client sent through the API."""

    id: int
    at: float
    instance: str
    route: str
    number: str
    scenario: str
    delivered: bool
    body: JsonObject
    message_id: str | None = None
    remote_jid: str | None = None
    acks: list[str] = field(default_factory=list)

    def as_json(self) -> JsonObject:
        """Return it for the control endpoint."""
        return dict(self.__dict__)


@dataclass
class Fault:
    """A fault injected into the next `times` matching requests.

    `mode`: `status` (answer `status` with `body`, or with Evolution's envelope), `garbage`
    (truncated JSON), `html` (a page), `empty` (all three with `status`), `hang`, `reset`, `slow`
    (wait `seconds`, then answer normally). With `after` the request is processed before the fault;
    `skip` is the number of matching requests to let through first.
    """

    path: str
    mode: str
    times: int = 1
    method: str | None = None
    instance: str | None = None
    status: int = 500
    body: Any = None
    seconds: float | None = None
    after: bool = False
    skip: int = 0

    def matches(self, method: str, path: str) -> bool:
        """Return whether a request matches (path by prefix, case-insensitive)."""
        if self.times <= 0 or (self.method and self.method.upper() != method):
            return False
        if not path.lower().startswith(self.path.lower()):
            return False
        return self.instance is None or path.rstrip("/").endswith(f"/{self.instance}")

    def as_json(self) -> JsonObject:
        """Return it for the control endpoint."""
        return dict(self.__dict__)


class Ledger:
    """Emitted events and sent messages, recorded for inspection up to a maximum length."""

    def __init__(self, size: int) -> None:
        self.events: deque[EmittedEvent] = deque(maxlen=size)
        self.sent: deque[SentMessage] = deque(maxlen=size)
        self._ids = itertools.count(1)

    def next_id(self) -> int:
        """Return the next number, which increases across all entries."""
        return next(self._ids)


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def epoch() -> int:
    """Return the current time in whole seconds, like `messageTimestamp`."""
    return int(time.time())


def iso(moment: datetime) -> str:
    """Format like JavaScript's toISOString: milliseconds and Z."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def false_iso(moment: datetime, timezone: str) -> str:
    """Return `date_time` of webhooks: the server's local time with a false Z (§1)."""
    local = moment.astimezone(ZoneInfo(timezone))
    return f"{local:%Y-%m-%dT%H:%M:%S}.{local.microsecond // 1000:03d}Z"


def cuid() -> str:
    """Return a database id in cuid format, which starts with the milliseconds of creation."""
    alphabet = string.digits + string.ascii_lowercase
    rest, at = time.time_ns() // 1_000_000, ""
    while rest:
        rest, digit = divmod(rest, 36)
        at = alphabet[digit] + at
    return f"c{at}" + "".join(secrets.choice(alphabet) for _ in range(16))


def whatsapp_id() -> str:
    """Return an id like those of Baileys' own messages."""
    return "3EB0" + secrets.token_hex(9).upper()


def wamid() -> str:
    """Return an id like those of Graph's messages."""
    return "wamid." + base64.b64encode(secrets.token_bytes(16)).decode()


def instance_token() -> str:
    """Return the key that create generates if none is given."""
    return str(uuid.uuid4()).upper()


def make_qr(number: str | None, count: int) -> QrCode:
    """Return a new QR; with a number also the pairing code to enter on the phone (§3)."""
    reference = base64.b64encode(f"fake-ref-{count}-{time.time_ns()}".encode()).decode()
    code = f"2@{reference},noiseKey=,identityKey=,advSecret="
    pairing = None
    if number:
        alphabet = string.ascii_uppercase + string.digits
        pairing = "".join(secrets.choice(alphabet) for _ in range(8))
    picture = segno.make(code, micro=False).png_data_uri(scale=5, border=4)
    return QrCode(count=count, code=code, base64=picture, pairing_code=pairing)


def bytes_as_index(value: bytes) -> dict[str, int]:
    """Return a Uint8Array after JSON.stringify: `{"0":1,"1":2}` (§3)."""
    return {str(index): byte for index, byte in enumerate(value)}


def dumps(value: Any) -> str:
    """Return JSON as Node writes it: compact, not escaped, bytes as an index object."""

    def fallback(item: object) -> object:
        if isinstance(item, bytes):
            return bytes_as_index(item)
        raise TypeError(f"not JSON: {type(item).__name__}")

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=fallback)


def own_jid(number: str) -> str:
    """Return the jid of a phone number's WhatsApp account."""
    return f"{number}@s.whatsapp.net"


def create_jid(number: str) -> str:
    """Return the jid that Evolution looks up: jids stay, long digits are groups (§5)."""
    if "@" in number:
        return number
    digits = only_digits(number)
    return f"{digits}@g.us" if len(digits) >= 18 else own_jid(digits)


def known_jid(jid: str, *, without_ninth_digit: bool = False) -> str:
    """Return a number's jid on WhatsApp, possibly without its ninth digit (§5)."""
    if not jid.endswith("@s.whatsapp.net"):
        return jid
    digits = whatsapp_number(jid)
    if without_ninth_digit and len(digits) == 13 and digits.startswith("55"):
        digits = digits[:4] + digits[5:]
    return own_jid(digits)
