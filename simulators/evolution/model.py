"""What the Evolution simulator is made of: settings, scenarios, stored rows and books.

Facts about the wire come from `contracts/evolution-api.md`; a section number in a docstring means
that page. Nothing here opens a connection or knows about HTTP.
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
    """What happens to a send whose recipient carries this scenario's two digits.

    `answer` is what the caller of `/message/*` sees; `taken` says whether Evolution handed the
    message to WhatsApp (it is stored, `send.message` and the acks follow) and `delivered` whether
    it reached the phone. The three are independent on purpose: that gap is what a client has to
    survive. Digits mean the same as in `simulators.wwebjs.tables` where both can do it.
    """

    answer: Answer = "ok"
    taken: bool = True
    delivered: bool = True
    acks: tuple[str, ...] = ACK_STATUSES
    without_ninth_digit: bool = False


def _refusal(
    name: str, digits: str, answer: Answer, english: str, portuguese: str
) -> EvolutionScenario:
    return EvolutionScenario(
        name=name,
        digits=digits,
        english=english,
        portuguese=portuguese,
        answer=answer,
        taken=False,
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
            english="201 PENDING and never an ack, not delivered",
            portuguese="201 PENDING e nenhum ack, não entregue",
            delivered=False,
            acks=(),
        ),
        EvolutionScenario(
            name="ack_error",
            digits="03",
            english="201 PENDING, then ERROR: WhatsApp refused it",
            portuguese="201 PENDING, depois ERROR: o WhatsApp recusou",
            delivered=False,
            acks=("ERROR",),
        ),
        _refusal(
            "not_on_whatsapp",
            "06",
            "not_on_whatsapp",
            "400 with exists: false: certainly not sent",
            "400 com exists: false: com certeza não enviada",
        ),
        EvolutionScenario(
            name="ack_one_only",
            digits="07",
            english="SERVER_ACK and no more: the phone stays off",
            portuguese="SERVER_ACK e nada mais: o celular segue desligado",
            delivered=False,
            acks=("SERVER_ACK",),
        ),
        EvolutionScenario(
            name="ninth_digit",
            digits="09",
            english="201; key.remoteJid comes without the ninth digit",
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
        _refusal(
            "error_lost",
            "13",
            "error_500",
            "500 with a JavaScript error, not sent",
            "500 com erro de JavaScript, não enviada",
        ),
        _refusal(
            "hang_lost", "20", "hang", "no answer, nothing sent", "sem resposta, nada enviado"
        ),
        EvolutionScenario(
            name="hang_delivered",
            digits="21",
            english="no answer, but delivered",
            portuguese="sem resposta, mas entregue",
            answer="hang",
        ),
        _refusal(
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
        _refusal(
            "html_502",
            "25",
            "html_502",
            "502 with an HTML page, not sent",
            "502 com página HTML, não enviada",
        ),
        _refusal(
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
            english="201 after some seconds; the acks come before the answer",
            portuguese="201 depois de alguns segundos; os acks chegam antes",
            answer="slow",
        ),
        _refusal(
            "closed",
            "30",
            "closed_500",
            "500 Connection Closed: certainly not sent",
            "500 Connection Closed: com certeza não enviada",
        ),
        _refusal(
            "closed_cached",
            "31",
            "closed_400",
            "400 Error: Connection Closed, not sent",
            "400 Error: Connection Closed, não enviada",
        ),
    )
}
"""Outcomes by name; `digits` are the two before the last two of a number like …9999FF00.

`simulators.base` explains the numbering. Numbers without a scenario succeed.
"""


@dataclass(frozen=True)
class InstanceSpec:
    """An instance that exists when the simulator starts.

    `open` pairs a Baileys instance at once, with `number` as its own WhatsApp number; the other
    integrations are open from their creation (§4). `webhook` and `websocket` take the inner
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
    """How the simulated server is set up; the defaults are those of Evolution 2.3.7.

    Waits are in seconds. Everything except `instances` can be changed while running through
    `POST /_control/settings`; ping settings take effect at the next simulated restart.
    """

    api_key: str = "evolution-api-key"
    version: Literal["2.3.6", "2.3.7", "2.4.0"] = "2.3.7"
    licensed: bool = True
    """2.4 without an activated licence answers every route but `/` with 503 (§8)."""
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
    """Post bodies without their length, as a proxy between may do."""
    webhook_global_url: str = ""
    webhook_global_by_events: bool = False
    webhook_global_events: tuple[str, ...] = ()

    ack_delays: tuple[float, ...] = (0.15, 0.4, 2.0)
    """Waits after the send for the first, second and third ack of the scenario; () = no acks."""
    connect_wait_seconds: float = 2.0
    create_wait_seconds: float = 5.0
    qr_seconds: float = 45.0
    qr_limit: int = 30
    auto_scan_seconds: float = 0.0
    """A demo may let a phone scan each QR by itself after this time; 0 = never."""
    redial_seconds: float = 0.3
    stuck_dialling: bool = False
    """Instances that are dialled from now on stay `connecting`: no code, never open."""
    late_owner: bool = False
    """The row of an instance that opens gets its number only when this is switched off again."""
    delete_seconds: float = 0.3
    """From the REMOVE_INSTANCE webhook's answer to the end of the instance (§4)."""
    hang_seconds: float = 120.0
    slow_seconds: float = 3.0
    picture_url: str | None = PROFILE_PICTURE
    """The picture of every account and contact; None = they have none."""

    history_messages: int = 0
    """How many old messages a link brings, from the two days before it (§10.4)."""
    message_secrets: bool = True
    """Received messages carry `messageContextInfo.messageSecret`, as WhatsApp's clients send it."""

    not_on_whatsapp: tuple[str, ...] = ()
    """Exact digits without WhatsApp, besides the scenario of that name."""
    on_whatsapp_cache: tuple[str, ...] = ()
    """Digits that Evolution has looked up before: they change its errors (§5)."""
    business_errors: dict[str, JsonObject] = field(default_factory=dict)
    """Graph error objects by exact digits, answered with 201 by BUSINESS instances (§5)."""
    book_size: int = 200_000
    webhook_emptied_every: int = 0
    """Each so many restarts empty url and headers of every webhook (§10.2, issue 2694); 0 = none.
    """
    save_new_messages: bool = True
    """DATABASE_SAVE_DATA_NEW_MESSAGE: without it `/chat/findMessages` finds nothing (§1)."""
    hold_offline: bool = False
    """What customers write while an instance is not open waits at WhatsApp and comes later."""


@dataclass
class WebhookRow:
    """A row of the table Webhook, as `/webhook/find` shows it (§1)."""

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
        """Written as byEvents/base64, read back as webhookByEvents/webhookBase64 (§1)."""
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
        """As `/websocket/find` shows it."""
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
    """A row of the table Message with its status updates and, for media, its bytes."""

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
        """One of `messages.records` of `/chat/findMessages` (§5)."""
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
    """The QR that a connecting Baileys instance shows."""

    count: int = 0
    code: str | None = None
    base64: str | None = None
    pairing_code: str | None = None

    def as_json(self) -> JsonObject:
        """As `/instance/connect` answers it; a code not made yet is left out."""
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
    """One instance: its database row and what Evolution holds in memory about it."""

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
    dialled: bool = False
    paired: bool = False
    dead: bool = False
    """State says open, the socket is gone: sends fail (§4, issues 1398 and 2403)."""
    sender: str | None = None
    base64_active: bool = False
    dial_number: str | None = None
    qr: QrCode = field(default_factory=QrCode)
    phone_number: str = "5511900000777"
    phone_name: str = "Alterna Demo"
    messages: dict[str, StoredMessage] = field(default_factory=dict)
    contacts: dict[str, JsonObject] = field(default_factory=dict)
    chats: dict[str, JsonObject] = field(default_factory=dict)
    seen_ids: dict[str, float] = field(default_factory=dict)
    queue: asyncio.Queue[Any] | None = None
    offline: list[Any] = field(default_factory=list)
    """What WhatsApp holds for it, oldest first (`hold_offline`)."""

    @property
    def is_baileys(self) -> bool:
        """Whether a (simulated) phone is behind this instance."""
        return self.integration == BAILEYS

    def touch(self) -> None:
        """Note that the database row changed."""
        self.updated_at = utc_now()


@dataclass
class Delivery:
    """One event on its way to one webhook URL."""

    url: str
    state: str = "pending"
    attempts: list[JsonObject] = field(default_factory=list)

    def as_json(self) -> JsonObject:
        """For the control endpoint."""
        return {"url": self.url, "state": self.state, "attempts": self.attempts}


@dataclass
class EmittedEvent:
    """An entry of the book of events: what was emitted and whom it reached."""

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
        """ "socket" and "webhook" when a client got it that way; empty means that it was lost."""
        ways = []
        if any(entry["clients"] for entry in self.sockets):
            ways.append("socket")
        if any(delivery.state == "delivered" for delivery in self.webhooks):
            ways.append("webhook")
        return ways

    def as_json(self, *, payload: bool) -> JsonObject:
        """For the control endpoint; `payload` adds the event's data."""
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
    """An entry of the book of messages that a client asked to send."""

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
        """For the control endpoint."""
        return dict(self.__dict__)


@dataclass
class Fault:
    """A planned misbehaviour of the next `times` requests that match.

    `mode`: `status` (answer `status` with `body`, or Evolution's envelope without one), `garbage`
    (half a JSON), `html` (a page), `empty` (all three with `status`), `hang`, `reset`, `slow`
    (wait `seconds`, then answer normally). `after` does what was asked and only then misbehaves;
    `skip` lets that many matching requests through first.
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
        """Whether a request is meant (path by prefix, without regard to case)."""
        if self.times <= 0 or (self.method and self.method.upper() != method):
            return False
        if not path.lower().startswith(self.path.lower()):
            return False
        return self.instance is None or path.rstrip("/").endswith(f"/{self.instance}")

    def as_json(self) -> JsonObject:
        """For the control endpoint."""
        return dict(self.__dict__)


class Ledger:
    """Everything the simulator remembers for inspection, bounded in length."""

    def __init__(self, size: int) -> None:
        self.events: deque[EmittedEvent] = deque(maxlen=size)
        self.sent: deque[SentMessage] = deque(maxlen=size)
        self._ids = itertools.count(1)

    def next_id(self) -> int:
        """A number that grows over all the books."""
        return next(self._ids)


def utc_now() -> datetime:
    """Now, aware, in UTC."""
    return datetime.now(UTC)


def epoch() -> int:
    """Now in whole seconds, as `messageTimestamp` counts."""
    return int(time.time())


def iso(moment: datetime) -> str:
    """JavaScript's toISOString: milliseconds and Z."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def false_iso(moment: datetime, timezone: str) -> str:
    """`date_time` of webhooks: the server's local time with a false Z (§1)."""
    local = moment.astimezone(ZoneInfo(timezone))
    return f"{local:%Y-%m-%dT%H:%M:%S}.{local.microsecond // 1000:03d}Z"


def cuid() -> str:
    """A database id in the form of cuid, which begins with the milliseconds of its making."""
    alphabet = string.digits + string.ascii_lowercase
    rest, at = time.time_ns() // 1_000_000, ""
    while rest:
        rest, digit = divmod(rest, 36)
        at = alphabet[digit] + at
    return f"c{at}" + "".join(secrets.choice(alphabet) for _ in range(16))


def whatsapp_id() -> str:
    """An id as Baileys gives its own messages."""
    return "3EB0" + secrets.token_hex(9).upper()


def wamid() -> str:
    """An id as Graph gives its messages."""
    return "wamid." + base64.b64encode(secrets.token_bytes(16)).decode()


def instance_token() -> str:
    """The key that create makes when it is given none."""
    return str(uuid.uuid4()).upper()


def make_qr(number: str | None, count: int) -> QrCode:
    """A fresh QR; with a number also the code to type on the phone instead (§3)."""
    reference = base64.b64encode(f"fake-ref-{count}-{time.time_ns()}".encode()).decode()
    code = f"2@{reference},noiseKey=,identityKey=,advSecret="
    pairing = None
    if number:
        alphabet = string.ascii_uppercase + string.digits
        pairing = "".join(secrets.choice(alphabet) for _ in range(8))
    picture = segno.make(code, micro=False).png_data_uri(scale=5, border=4)
    return QrCode(count=count, code=code, base64=picture, pairing_code=pairing)


def bytes_as_index(value: bytes) -> dict[str, int]:
    """A Uint8Array after JSON.stringify: `{"0":1,"1":2}` (§3)."""
    return {str(index): byte for index, byte in enumerate(value)}


def dumps(value: Any) -> str:
    """JSON as Node writes it: compact, not escaped, bytes as an index object."""

    def fallback(item: object) -> object:
        if isinstance(item, bytes):
            return bytes_as_index(item)
        raise TypeError(f"not JSON: {type(item).__name__}")

    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=fallback)


def own_jid(number: str) -> str:
    """The jid of a phone number's WhatsApp account."""
    return f"{number}@s.whatsapp.net"


def create_jid(number: str) -> str:
    """The jid Evolution asks WhatsApp about: jids stay, long digits are groups (§5)."""
    if "@" in number:
        return number
    digits = only_digits(number)
    return f"{digits}@g.us" if len(digits) >= 18 else own_jid(digits)


def known_jid(jid: str, *, without_ninth_digit: bool = False) -> str:
    """The jid under which WhatsApp knows a number, maybe without its ninth digit (§5)."""
    if not jid.endswith("@s.whatsapp.net"):
        return jid
    digits = whatsapp_number(jid)
    if without_ninth_digit and len(digits) == 13 and digits.startswith("55"):
        digits = digits[:4] + digits[5:]
    return own_jid(digits)
