"""What the simulated Evolution does, without its HTTP face.

Lifecycle, sending, inbound messages and restarts. Wire facts: `contracts/evolution-api.md` §3 to
§5; a capture number means a file of `captures/evolution`.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from simulators.base import JsonObject, only_digits
from simulators.evolution_hub import EventHub
from simulators.evolution_messages import (
    Incoming,
    baileys_body,
    business_body,
    evolution_body,
    incoming,
    outgoing,
)
from simulators.evolution_model import (
    BAILEYS,
    BUSINESS,
    EVENTS,
    EVOLUTION,
    PROFILE_PICTURE,
    Answer,
    Books,
    EvolutionScenario,
    EvolutionSettings,
    Instance,
    InstanceSpec,
    QrCode,
    SentMessage,
    StoredMessage,
    WebhookRow,
    WebsocketRow,
    create_jid,
    cuid,
    epoch,
    instance_token,
    iso,
    known_jid,
    make_qr,
    own_jid,
    utc_now,
    whatsapp_id,
)

NO_LENGTH = "Cannot read properties of undefined (reading 'length')"
LOGGED_OUT_CODES = (401, 402, 403, 406)
"""Disconnect reasons after which Evolution does not dial again (§3)."""

_DEFAULT_SETTINGS: JsonObject = {
    "rejectCall": False,
    "msgCall": "",
    "groupsIgnore": False,
    "alwaysOnline": False,
    "readMessages": False,
    "readStatus": False,
    "syncFullHistory": False,
    "wavoipToken": "",
}
_BUSINESS_ACKS = {
    "SERVER_ACK": "SENT",
    "DELIVERY_ACK": "DELIVERED",
    "READ": "READ",
    "ERROR": "FAILED",
}
_BUSINESS_REFUSAL: JsonObject = {
    "message": "(#131030) Recipient phone number not in allowed list",
    "type": "OAuthException",
    "code": 131030,
    "error_data": {
        "messaging_product": "whatsapp",
        "details": "Recipient phone number not in allowed list",
    },
    "fbtrace_id": "Axxxxxxxxxx",
}
_URL_TOO_LONG = (
    "\nInvalid `this.prismaRepository.webhook.upsert()` invocation\n\n"
    "The provided value for the column is too long for the column's type."
    " Column: (not available)"
)
_MAX_URL = 500
_DEDUPE_SECONDS = 300

Job = Callable[[], Awaitable[None]]
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
Choose = Callable[[str], EvolutionScenario]


class ApiError(Exception):
    """An error answer of Evolution; `message` is any of the four shapes of §0."""

    def __init__(self, status: int, message: Any) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


def bad_request(text: Any) -> ApiError:
    """400 as Evolution's exceptions give it: the text in a list."""
    return ApiError(400, [text])


@dataclasses.dataclass(frozen=True)
class SendAnswer:
    """How the caller of a send is answered."""

    answer: Answer
    body: JsonObject


class EvolutionEngine:
    """The state of the simulated server and everything that changes it."""

    def __init__(
        self,
        settings: EvolutionSettings,
        spawn: Spawn,
        on_sent: Callable[[SentMessage], None],
    ) -> None:
        self.settings = settings
        self._on_sent = on_sent
        self.books = Books(settings.book_size)
        self.instances: dict[str, Instance] = {}
        self.hub = EventHub(settings, self.books, spawn)
        self.known_numbers = set(settings.on_whatsapp_cache)
        self.floods: dict[int, JsonObject] = {}
        self._spawn_counted = spawn
        self._memory: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}

    # -- start, stop, restart ------------------------------------------------------------------

    async def start(self) -> None:
        """Open what needs the event loop, and set up the instances of the settings."""
        await self.hub.start()
        for spec in self.settings.instances:
            self._set_up(spec)

    async def stop(self) -> None:
        """End all background work."""
        await self._forget_memory()
        await self.hub.stop()

    async def restart(self, *, downtime_seconds: float, redial: bool) -> None:
        """A crash and a new start: retries, queues, namespaces and clients are gone (§1, §2).

        Rows and messages stay. Paired Baileys instances dial again when `redial` is set, after
        the downtime. A deletion that still waited for its webhook is undone (capture 12).
        """
        await self._forget_memory()
        await self.hub.drop_retries()
        await self.hub.sockets.restart()
        for instance in self.instances.values():
            instance.dead = False
            if not instance.is_baileys:
                instance.state = instance.db_status = "open"
                continue
            instance.dialled = False
            instance.sender = instance.owner_jid if instance.paired else None
            was_connected = instance.state in ("open", "connecting")
            instance.state = "close"
            instance.qr = QrCode()
            if instance.paired and was_connected and redial:
                self._later(self._dial_after(instance, downtime_seconds))

    async def _dial_after(self, instance: Instance, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.dial(instance)

    async def _forget_memory(self) -> None:
        tasks = [*self._memory, *self._timers.values(), *self._workers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._timers.clear()
        self._workers.clear()
        for instance in self.instances.values():
            instance.queue = None

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Work that a restart forgets."""
        task = self._spawn_counted(work)
        self._memory.add(task)
        task.add_done_callback(self._memory.discard)
        return task

    def _set_timer(self, instance: Instance, work: Coroutine[Any, Any, None] | None) -> None:
        old = self._timers.pop(instance.name, None)
        if old is not None and old is not asyncio.current_task():
            old.cancel()
        if work is not None:
            self._timers[instance.name] = asyncio.get_running_loop().create_task(work)

    # -- instances -----------------------------------------------------------------------------

    def _set_up(self, spec: InstanceSpec) -> None:
        instance = self._new_row(
            spec.name,
            integration=spec.integration,
            token=spec.token,
            number=None if spec.integration == BAILEYS else spec.number,
            business_id=None,
            settings={},
        )
        instance.phone_number = spec.number
        instance.phone_name = spec.profile_name
        if spec.websocket is not None:
            self.set_websocket(instance, spec.websocket)
        if spec.webhook is not None:
            self.set_webhook(instance, spec.webhook)
        if instance.is_baileys and spec.open:
            instance.dialled = True
            self._load_webhook_flag(instance)
            self._mark_open(instance)

    def _new_row(
        self,
        name: str,
        *,
        integration: str,
        token: str | None,
        number: str | None,
        business_id: str | None,
        settings: Mapping[str, Any],
    ) -> Instance:
        now = utc_now()
        state = "close" if integration == BAILEYS else "open"
        instance = Instance(
            name=name,
            id=str(uuid.uuid4()),
            integration=integration,
            token=token or instance_token(),
            number=number,
            business_id=business_id,
            settings={**_DEFAULT_SETTINGS, **settings},
            created_at=now,
            updated_at=now,
            setting_id=cuid(),
            state=state,
            db_status=state,
        )
        self.instances[name] = instance
        return instance

    async def create(self, body: JsonObject) -> Instance:
        """`POST /instance/create`: every failure is a 400 and leaves nothing behind (§4)."""
        integration = body.get("integration")
        if integration not in (BAILEYS, BUSINESS, EVOLUTION):
            raise bad_request("Invalid integration")
        name = body.get("instanceName")
        if not isinstance(name, str) or not name:
            raise bad_request("Invalid instanceName")
        if integration == BUSINESS:
            for needed in ("token", "number"):
                if not body.get(needed):
                    raise bad_request(f"{needed} is required")
        instance = self._new_row(
            name,
            integration=integration,
            token=body.get("token"),
            number=body.get("number"),
            business_id=body.get("businessId"),
            settings={key: body[key] for key in _DEFAULT_SETTINGS if key in body},
        )
        if integration == BAILEYS and body.get("number"):
            instance.phone_number = only_digits(str(body["number"]))
        try:
            self._subscribe_at_creation(instance, body)
        except ApiError as error:
            del self.instances[name]
            raise bad_request(error.message) from None
        await self.hub.emit(
            instance, "instance.create", {"instanceName": name, "instanceId": instance.id}
        )
        if integration == BAILEYS and body.get("qrcode"):
            await self.dial(instance, number=body.get("number"))
        return instance

    def _subscribe_at_creation(self, instance: Instance, body: JsonObject) -> None:
        # `enabled` is forced to true and event names are not checked here (§4, capture 01).
        websocket = body.get("websocket")
        if websocket:
            inner = websocket if isinstance(websocket, dict) else {}
            self.set_websocket(instance, {"enabled": True, **_only(inner, "events")})
        webhook = body.get("webhook")
        if webhook:
            inner = webhook if isinstance(webhook, dict) else {}
            names = ("events", "headers", "byEvents", "base64")
            order = {"enabled": True, "url": inner.get("url", ""), **_only(inner, *names)}
            self.set_webhook(instance, order)

    async def delete(self, instance: Instance) -> None:
        """`DELETE /instance/delete`: the end comes after the REMOVE_INSTANCE webhook (§1, §4)."""
        if instance.is_baileys and instance.state in ("open", "connecting"):
            await self.log_out(instance, message=f"Log out instance: {instance.name}")
        instance.state = instance.db_status = "close"
        self._set_timer(instance, None)
        identity = {"instanceName": instance.name, "instanceId": instance.id}
        await self.hub.emit(instance, "instance.delete", identity)
        webhook = await self.hub.emit(instance, "remove.instance", None)
        if webhook is None:
            self._remove(instance)
        else:
            self._later(self._remove_after(instance, webhook))

    async def _remove_after(self, instance: Instance, webhook: asyncio.Task[None]) -> None:
        await asyncio.wait([webhook])
        await asyncio.sleep(self.settings.delete_seconds)
        self._remove(instance)

    def _remove(self, instance: Instance) -> None:
        if self.instances.get(instance.name) is not instance:
            return
        del self.instances[instance.name]
        self._set_timer(instance, None)
        worker = self._workers.pop(instance.name, None)
        if worker is not None:
            worker.cancel()

    # -- receive mode --------------------------------------------------------------------------

    def set_webhook(self, instance: Instance, order: Mapping[str, Any]) -> WebhookRow:
        """`/webhook/set` after validation: all, none or the listed events (§1).

        Raises ApiError 500 when it is enabled without `events`, or the URL is over 500 long.
        """
        events = _chosen_events(order)
        url = str(order["url"])
        if len(url) > _MAX_URL:
            raise ApiError(500, _URL_TOO_LONG)
        now = utc_now()
        row = instance.webhook
        if row is None:
            row = instance.webhook = WebhookRow(
                cuid(), instance.id, url, None, False, [], False, False, now, now
            )
        row.url = url
        row.enabled = bool(order["enabled"])
        row.events = events
        row.headers = order.get("headers", row.headers)
        row.by_events = order.get("byEvents", row.by_events)
        row.base64 = order.get("base64", row.base64)
        row.updated_at = now
        return row

    def set_websocket(self, instance: Instance, order: Mapping[str, Any]) -> WebsocketRow:
        """`/websocket/set` after validation; the rules of `set_webhook` (§2)."""
        events = _chosen_events(order)
        now = utc_now()
        row = instance.websocket
        if row is None:
            row = instance.websocket = WebsocketRow(cuid(), instance.id, False, [], now, now)
        row.enabled = bool(order["enabled"])
        row.events = events
        row.updated_at = now
        return row

    # -- connection ----------------------------------------------------------------------------

    async def dial(self, instance: Instance, *, number: str | None = None) -> None:
        """Open the WhatsApp socket of a Baileys instance: a QR, or open again when paired."""
        instance.dialled = True
        instance.dead = False
        instance.state = instance.db_status = "connecting"
        instance.dial_number = number
        instance.qr = QrCode()
        instance.touch()
        self._load_webhook_flag(instance)
        await self._connection_update(instance, "connecting", 200)
        if instance.paired:
            self._set_timer(instance, self._open_after(instance, self.settings.redial_seconds))
        else:
            await self._show_qr(instance)
            self._set_timer(instance, self._refresh_qr(instance))

    def _load_webhook_flag(self, instance: Instance) -> None:
        # The flag is read when the socket is made and never again (§3, issues 1555 and 2233).
        row = instance.webhook
        instance.base64_active = row is not None and row.enabled and row.base64

    async def _show_qr(self, instance: Instance) -> None:
        instance.qr = make_qr(instance.dial_number, instance.qr.count + 1)
        shown = {
            "instance": instance.name,
            "pairingCode": instance.qr.pairing_code,
            "code": instance.qr.code,
            "base64": instance.qr.base64,
        }
        await self.hub.emit(instance, "qrcode.updated", {"qrcode": shown})

    async def _refresh_qr(self, instance: Instance) -> None:
        """A new QR every 45 s until the limit, then `refused` (§3)."""
        settings = self.settings
        while True:
            if 0 < settings.auto_scan_seconds < settings.qr_seconds:
                await asyncio.sleep(settings.auto_scan_seconds)
                await self.scan(instance)
                return
            await asyncio.sleep(settings.qr_seconds)
            if instance.qr.count >= settings.qr_limit:
                break
            await self._show_qr(instance)
        await self.hub.emit(
            instance,
            "qrcode.updated",
            {"message": "QR code limit reached, please login again", "statusCode": 500},
        )
        instance.state = instance.db_status = "close"
        await self._connection_update(instance, "refused", 428)

    async def _open_after(self, instance: Instance, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._open(instance)

    async def scan(
        self, instance: Instance, *, number: str | None = None, name: str | None = None
    ) -> None:
        """A phone scans the QR. Raises ValueError when none is shown."""
        if instance.state != "connecting" or instance.qr.code is None:
            raise ValueError(f"{instance.name} shows no QR")
        if number:
            instance.phone_number = only_digits(number)
        if name:
            instance.phone_name = name
        await self._open(instance)

    async def _open(self, instance: Instance) -> None:
        self._mark_open(instance)
        self._set_timer(instance, None)
        await self.hub.emit(
            instance,
            "connection.update",
            {
                "instance": instance.name,
                "wuid": instance.owner_jid,
                "profileName": instance.profile_name,
                "profilePictureUrl": instance.profile_picture,
                "state": "open",
                "statusReason": 200,
            },
        )

    def _mark_open(self, instance: Instance) -> None:
        instance.paired = True
        instance.state = instance.db_status = "open"
        instance.qr = QrCode()
        instance.owner_jid = instance.sender = own_jid(instance.phone_number)
        instance.profile_name = instance.phone_name
        instance.profile_picture = PROFILE_PICTURE
        instance.touch()

    async def _connection_update(self, instance: Instance, state: str, reason: int) -> None:
        data = {"instance": instance.name, "state": state, "statusReason": reason}
        await self.hub.emit(instance, "connection.update", data)

    async def drop(self, instance: Instance, *, code: int) -> None:
        """WhatsApp ends the connection: dialled again, or logged out for 401 and its like (§3)."""
        if code in LOGGED_OUT_CODES:
            await self.log_out(instance, code=code, message="Stream Errored")
        else:
            await self.dial(instance)

    async def log_out(self, instance: Instance, *, message: str, code: int = 401) -> None:
        """The session ends for good: three events around it, in no promised order (§3)."""
        now = utc_now()
        error = {
            "data": None,
            "isBoom": True,
            "isServer": False,
            "output": {
                "statusCode": code,
                "payload": {"statusCode": code, "error": "Unauthorized", "message": message},
                "headers": {},
            },
        }
        trace = json.dumps({"error": error, "date": iso(now)}, separators=(",", ":"))
        self._set_timer(instance, None)
        instance.paired = False
        instance.state = instance.db_status = "close"
        instance.qr = QrCode()
        instance.disconnection_at = now
        instance.disconnection_code = code
        instance.disconnection_object = trace
        instance.touch()
        status = {
            "instance": instance.name,
            "status": "closed",
            "disconnectionAt": iso(now),
            "disconnectionReasonCode": code,
            "disconnectionObject": trace,
        }
        await self.hub.emit(instance, "status.instance", status)
        await self.hub.emit(instance, "logout.instance", None)
        await self._connection_update(instance, "close", code)

    # -- sending -------------------------------------------------------------------------------

    async def send(
        self,
        instance: Instance,
        route: str,
        body: JsonObject,
        *,
        upload: bytes | None,
        choose: Choose,
    ) -> SendAnswer:
        """One `/message/<route>` after validation.

        Raises ApiError for what Evolution refuses by itself; the scenario of the recipient
        decides the rest.
        """
        number = _recipient(route, body)
        scenario = choose(number)
        sent = SentMessage(
            id=self.books.next_id(),
            at=time.time(),
            instance=instance.name,
            route=route,
            number=number,
            scenario=scenario.name,
            delivered=False,
            body=body,
        )
        self.books.sent.append(sent)
        if instance.integration == EVOLUTION:
            return await self._send_evolution(instance, route, body, sent)
        if instance.integration == BUSINESS:
            return await self._send_business(instance, route, body, sent, scenario)
        return await self._send_baileys(
            instance, route, body, sent=sent, scenario=scenario, upload=upload
        )

    async def _send_evolution(
        self, instance: Instance, route: str, body: JsonObject, sent: SentMessage
    ) -> SendAnswer:
        """Nothing leaves the server: stored, emitted, and open or closed makes no difference."""
        answer, _ = evolution_body(route, body, instance_id=instance.id, now=epoch())
        self._note_sent(instance, sent, answer, delivered=True)
        await self.hub.emit(instance, "send.message", answer)
        return SendAnswer("ok", answer)

    async def _send_business(
        self,
        instance: Instance,
        route: str,
        body: JsonObject,
        sent: SentMessage,
        scenario: EvolutionScenario,
    ) -> SendAnswer:
        if body.get("text") == "":
            raise bad_request("TypeError: Cannot read properties of undefined (reading 'message')")
        refusal = self.settings.business_errors.get(only_digits(sent.number))
        if refusal is None and scenario.name == "not_on_whatsapp":
            refusal = _BUSINESS_REFUSAL
        if refusal is not None:
            # Graph's error object comes back with 201 (§5).
            return SendAnswer("ok", refusal)
        answer = business_body(route, body, instance_id=instance.id, now=epoch())
        if scenario.taken:
            self._note_sent(instance, sent, answer, delivered=scenario.delivered)
            await self.hub.emit(instance, "send.message", answer)
            acks = tuple(_BUSINESS_ACKS[status] for status in scenario.acks)
            self._schedule_acks(instance, sent, acks)
        return SendAnswer(scenario.answer, answer)

    async def _send_baileys(
        self,
        instance: Instance,
        route: str,
        body: JsonObject,
        *,
        sent: SentMessage,
        scenario: EvolutionScenario,
        upload: bytes | None,
    ) -> SendAnswer:
        asked = create_jid(sent.number)
        self._check_connected(instance, asked)
        if asked.endswith("@s.whatsapp.net"):
            if not self.exists(asked, scenario):
                raise ApiError(400, [{"jid": asked, "exists": False, "number": sent.number}])
            self.known_numbers.add(only_digits(asked))
        if isinstance(body.get("delay"), int):
            await asyncio.sleep(body["delay"] / 1000)
        jid = known_jid(asked, without_ninth_digit=scenario.without_ninth_digit)
        now = epoch()
        built = outgoing(route, body, now=now, upload=upload)
        if built.context is not None:
            self._add_context(instance, built.context, body, jid)
        answer = baileys_body(built, jid=jid, instance_id=instance.id, now=now)
        if scenario.taken:
            row = self._note_sent(instance, sent, answer, delivered=scenario.delivered)
            row.media = built.media
            await self.hub.emit(instance, "send.message", answer)
            self._schedule_acks(instance, sent, scenario.acks)
        return SendAnswer(scenario.answer, answer)

    def exists(self, jid: str, scenario: EvolutionScenario) -> bool:
        """Whether WhatsApp knows the number behind `jid`."""
        missing = only_digits(jid) in self.settings.not_on_whatsapp
        return not missing and scenario.name != "not_on_whatsapp"

    def _check_connected(self, instance: Instance, jid: str) -> None:
        """Raise what a send on a dead socket raises; it differs for numbers known before (§5)."""
        cached = only_digits(jid) in self.known_numbers or not jid.endswith("@s.whatsapp.net")
        if not instance.dialled:
            if cached:
                raise bad_request(
                    "TypeError: Cannot read properties of undefined (reading 'sendMessage')"
                )
            raise ApiError(500, "Cannot read properties of undefined (reading 'onWhatsApp')")
        if instance.state != "open" or instance.dead:
            if cached:
                raise bad_request("Error: Connection Closed")
            raise ApiError(500, "Connection Closed")

    def _add_context(
        self, instance: Instance, context: JsonObject, body: JsonObject, jid: str
    ) -> None:
        if jid.endswith("@g.us"):
            mentioned = [instance.owner_jid] if body.get("mentionsEveryOne") else []
            context.clear()
            context["mentionedJid"] = mentioned
        if isinstance(body.get("mentioned"), list):
            context["mentionedJid"] = [create_jid(str(number)) for number in body["mentioned"]]
        quoted = body.get("quoted")
        key = quoted.get("key", {}) if isinstance(quoted, dict) else {}
        original = instance.messages.get(str(key.get("id")))
        if original is not None:
            author = original.key.get("participant", original.key["remoteJid"])
            context["participant"] = instance.owner_jid if original.key.get("fromMe") else author
            context["stanzaId"] = original.key["id"]
            context["quotedMessage"] = original.message

    def _note_sent(
        self, instance: Instance, sent: SentMessage, answer: JsonObject, *, delivered: bool
    ) -> StoredMessage:
        sent.delivered = delivered
        sent.message_id = answer["key"]["id"]
        sent.remote_jid = answer["key"]["remoteJid"]
        row = self._store(instance, answer)
        self._note_chat(instance, sent.remote_jid or "")
        self._on_sent(sent)
        return row

    def _schedule_acks(
        self, instance: Instance, sent: SentMessage, statuses: tuple[str, ...]
    ) -> None:
        delays = self.settings.ack_delays
        for index, status in enumerate(statuses):
            delay = delays[min(index, len(delays) - 1)] if delays else 0.0
            self._later(self._ack_after(instance, sent, status, delay))

    async def _ack_after(
        self, instance: Instance, sent: SentMessage, status: str, delay: float
    ) -> None:
        await asyncio.sleep(delay)
        sent.acks.append(status)
        await self.acknowledge(instance, str(sent.message_id), status)

    async def acknowledge(self, instance: Instance, message_id: str, status: str | None) -> None:
        """`messages.update` for a stored message; unknown ones are skipped in silence (§3).

        `status` None is an update without one, which 2.3.7 calls SERVER_ACK and 2.3.6 DELETED.
        """
        if status is None:
            status = "DELETED" if self.settings.version == "2.3.6" else "SERVER_ACK"
        value = status

        async def update() -> None:
            row = instance.messages.get(message_id)
            if row is None:
                return
            update_row: JsonObject = {
                "id": cuid(),
                "keyId": message_id,
                "remoteJid": row.key["remoteJid"],
                "fromMe": row.key.get("fromMe", False),
                "participant": row.key.get("participant"),
                "pollUpdates": None,
                "status": value,
                "messageId": row.id,
                "instanceId": instance.id,
            }
            row.updates.append(update_row)
            data: JsonObject = {
                "keyId": message_id,
                "remoteJid": row.key["remoteJid"],
                "fromMe": update_row["fromMe"],
            }
            if row.key.get("participant"):
                data["participant"] = row.key["participant"]
            data |= {"status": value, "instanceId": instance.id, "messageId": row.id}
            if instance.integration == BUSINESS:
                data |= {"fromMe": False, "participant": row.key["remoteJid"]}
            await self.hub.emit(instance, "messages.update", data)

        await self._enqueue(instance, update)

    # -- the queue of an instance --------------------------------------------------------------

    async def _enqueue(self, instance: Instance, job: Job) -> None:
        """Baileys events are handled one after the other; a slow one stalls the rest (§1)."""
        if not instance.is_baileys:
            await job()
            return
        if instance.queue is None or instance.name not in self._workers:
            instance.queue = asyncio.Queue()
            self._workers[instance.name] = asyncio.get_running_loop().create_task(
                self._work(instance.queue)
            )
        instance.queue.put_nowait(job)

    async def _work(self, queue: asyncio.Queue[Job]) -> None:
        while True:
            job = await queue.get()
            await job()

    def queued(self, instance: Instance) -> int:
        """How many events wait behind the one in work."""
        return instance.queue.qsize() if instance.queue is not None else 0

    # -- inbound -------------------------------------------------------------------------------

    async def receive(self, instance: Instance, order: JsonObject) -> JsonObject:
        """A customer writes, edits, revokes, reacts or calls; returns the ids it got.

        Raises KeyError or ValueError when the order cannot be understood.
        """
        kind = str(order.get("kind", "text"))
        if kind in ("edit", "revoke", "delete"):
            return await self._receive_change(instance, kind, order)
        if kind == "call":
            return await self._receive_call(instance, order)
        now = epoch()
        sender = str(order.get("from", "5511988887777"))
        built = self._build_inbound(kind, order, now=now)
        key = self._inbound_key(order, sender)
        timestamp = int(order.get("timestamp", now))
        push_name = order.get("name") or order.get("push_name") or "Ana"
        emitted = bool(order.get("emit", True))

        async def upsert() -> None:
            if instance.is_baileys:
                await self._upsert(instance, key, built, push_name, timestamp, emitted=emitted)
            else:
                await self._upsert_evolution(
                    instance, key, built.message, built.message_type, push_name
                )

        await self._enqueue(instance, upsert)
        return {"id": key["id"], "key": key}

    def _build_inbound(self, kind: str, order: JsonObject, *, now: int) -> Incoming:
        if isinstance(order.get("message"), dict):
            message = dict(order["message"])
            return Incoming(message, str(order.get("message_type") or next(iter(message))))
        return incoming(kind, order, now=now)

    def _inbound_key(self, order: JsonObject, sender: str) -> JsonObject:
        from_me = bool(order.get("from_me", False))
        message_id = order.get("id") or ("3A" + uuid.uuid4().hex[:18].upper())
        jid = create_jid(sender)
        group = order.get("group")
        if group:
            return {
                "remoteJid": create_jid(str(group)) if "@" not in str(group) else str(group),
                "fromMe": from_me,
                "id": message_id,
                "participant": jid,
            }
        lid = order.get("lid")
        if lid:
            # 2.3.7 puts the number's jid into remoteJid, 2.3.6 leaves the lid (§3).
            remote = jid if self.settings.version != "2.3.6" else f"{only_digits(str(lid))}@lid"
            return {
                "remoteJid": remote,
                "remoteJidAlt": jid,
                "fromMe": from_me,
                "id": message_id,
                "participant": "",
                "addressingMode": "lid",
            }
        return {"remoteJid": jid, "fromMe": from_me, "id": message_id}

    async def _upsert(
        self,
        instance: Instance,
        key: JsonObject,
        built: Incoming,
        push_name: str,
        timestamp: int,
        *,
        emitted: bool,
        contacts: bool = True,
    ) -> None:
        """`messages.upsert` and the contact event after it (capture 08)."""
        jid = str(key["remoteJid"])
        if jid.endswith("@g.us") and instance.settings.get("groupsIgnore"):
            return
        if self.settings.version == "2.3.6" and self._was_seen(instance, str(key["id"])):
            return
        data: JsonObject = {"key": key, "pushName": push_name}
        if not key["fromMe"]:
            data["status"] = "DELIVERY_ACK"
        data["message"] = built.message
        if built.context is not None:
            data["contextInfo"] = built.context
        elif built.null_context:
            data["contextInfo"] = None
        data |= {
            "messageType": built.message_type,
            "messageTimestamp": timestamp,
            "instanceId": instance.id,
            "source": "unknown",
        }
        row = self._store(instance, data)
        row.media = built.media
        self._note_chat(instance, jid)
        if not emitted:
            return
        if instance.base64_active and built.media is not None:
            encoded = base64.b64encode(built.media).decode()
            data = {**data, "message": {**built.message, "base64": encoded}}
        await self.hub.emit(instance, "messages.upsert", data)
        if contacts and jid != "status@broadcast":
            await self._contact_event(instance, jid, "" if key["fromMe"] else push_name)

    async def _contact_event(self, instance: Instance, jid: str, push_name: str) -> None:
        event = "contacts.update" if jid in instance.contacts else "contacts.upsert"
        contact = {
            "remoteJid": jid,
            "pushName": push_name,
            "profilePicUrl": PROFILE_PICTURE,
            "instanceId": instance.id,
        }
        instance.contacts[jid] = contact
        await self.hub.emit(instance, event, contact)

    def _was_seen(self, instance: Instance, message_id: str) -> bool:
        """2.3.6 drops repeats for five minutes (§3)."""
        now = time.monotonic()
        last = instance.seen_ids.get(message_id)
        instance.seen_ids[message_id] = now
        return last is not None and now - last < _DEDUPE_SECONDS

    async def _upsert_evolution(
        self,
        instance: Instance,
        key: JsonObject,
        message: JsonObject,
        message_type: str | None,
        push_name: str | None,
        *,
        picture: str | None = None,
    ) -> None:
        """Inbound on the EVOLUTION channel (§7, captures 02 and 05)."""
        data: JsonObject = {"key": key, "pushName": push_name, "message": message}
        if message_type is not None:
            data["messageType"] = message_type
        data |= {"messageTimestamp": epoch(), "source": "unknown", "instanceId": instance.id}
        await self.hub.emit(instance, "messages.upsert", data)
        if message_type is None:
            # The insert into the database fails, and with it all that follows (§7).
            return
        self._store(instance, data)
        jid = str(key["remoteJid"])
        contact = {"remoteJid": jid, "pushName": push_name, "instanceId": instance.id}
        if picture:
            contact["profilePicUrl"] = picture
        instance.contacts[jid] = contact
        await self.hub.emit(instance, "contacts.upsert", contact)
        chat = {"remoteJid": jid, "instanceId": instance.id}
        known = jid in instance.chats
        self._note_chat(instance, jid)
        if known:
            await self.hub.emit(instance, "chats.update", chat)
            if self._is_shared_chat(instance, jid):
                return
        await self.hub.emit(instance, "chats.upsert", chat)

    def _is_shared_chat(self, instance: Instance, jid: str) -> bool:
        # 2.3.7's unique index makes the update throw before the upsert is emitted (§8).
        return self.settings.version != "2.3.6" and any(
            jid in other.chats for other in self.instances.values() if other is not instance
        )

    async def receive_evolution(self, body: JsonObject) -> bool:
        """`POST /webhook/evolution`; False when no instance has that number (§7)."""
        number = body.get("numberId")
        for instance in self.instances.values():
            if number and instance.number == number:
                break
        else:
            return False
        key = body.get("key")
        message = body.get("message")
        if isinstance(key, dict) and isinstance(message, dict) and message:
            picture = body.get("profilePicUrl")
            own_key: JsonObject = {
                "id": key.get("id") or str(uuid.uuid4()),
                "remoteJid": key.get("remoteJid"),
                "fromMe": key.get("fromMe"),
            }
            if picture:
                own_key["profilePicUrl"] = picture
            await self._upsert_evolution(
                instance,
                own_key,
                message,
                body.get("messageType"),
                body.get("pushName"),
                picture=picture,
            )
        return True

    async def _receive_change(self, instance: Instance, kind: str, order: JsonObject) -> JsonObject:
        target = str(order["target"])
        known = instance.messages.get(target)
        key: JsonObject = dict(known.key) if known is not None else {}
        if not key:
            sender = create_jid(str(order.get("from", "5511988887777")))
            key = {"remoteJid": sender, "fromMe": bool(order.get("from_me")), "id": target}
        text = str(order.get("text", "editado"))

        async def change() -> None:
            if kind == "delete":
                data: JsonObject = {
                    "remoteJid": key["remoteJid"],
                    "id": target,
                    "fromMe": key["fromMe"],
                }
                if self.settings.version != "2.3.6":
                    data["status"] = "DELETED"
                await self.hub.emit(instance, "messages.delete", data)
                return
            if kind == "edit":
                data = {
                    "key": key,
                    "type": "MESSAGE_EDIT",
                    "editedMessage": {"conversation": text},
                    "timestampMs": str(epoch() * 1000),
                }
                if known is not None:
                    known.message = {"conversation": text}
            else:
                # A delete-for-everyone is an edit of type REVOKE here (§3).
                data = {"key": key, "type": "REVOKE"}
            webhook = await self.hub.emit(instance, "messages.edited", data)
            if webhook is not None:
                # Awaited with its retries, inside of the queue: the stall of §1.
                await asyncio.wait([webhook])

        await self._enqueue(instance, change)
        return {"id": target, "key": key}

    async def _receive_call(self, instance: Instance, order: JsonObject) -> JsonObject:
        jid = create_jid(str(order.get("from", "5511988887777")))
        status = str(order.get("status", "offer"))
        call = {
            "chatId": jid,
            "from": jid,
            "id": str(order.get("id") or uuid.uuid4().hex[:20].upper()),
            "date": iso(utc_now()),
            "offline": False,
            "status": status,
            "isVideo": bool(order.get("is_video", False)),
            "isGroup": False,
        }

        async def ring() -> None:
            await self.hub.emit(instance, "call", call)
            text = instance.settings.get("msgCall")
            if status == "offer" and instance.settings.get("rejectCall") and text:
                await self._reply_to_call(instance, jid, str(text))

        await self._enqueue(instance, ring)
        return {"id": call["id"]}

    async def _reply_to_call(self, instance: Instance, jid: str, text: str) -> None:
        """msgCall's text is emitted as messages.upsert, not send.message (§6)."""
        data: JsonObject = {
            "key": {"remoteJid": jid, "fromMe": True, "id": whatsapp_id()},
            "pushName": "Você",
            "status": "PENDING",
            "message": {"conversation": text},
            "messageType": "conversation",
            "messageTimestamp": epoch(),
            "instanceId": instance.id,
            "source": "web",
        }
        self._store(instance, data)
        await self.hub.emit(instance, "messages.upsert", data)
        await self._contact_event(instance, jid, "")

    async def emit_raw(
        self,
        instance: Instance,
        event: str,
        data: Any,
        *,
        extra: JsonObject | None,
        socket_only: bool,
    ) -> None:
        """Any event with any data, through the instance's queue like a real one."""

        async def job() -> None:
            webhook = await self.hub.emit(
                instance, event, data, extra=extra, socket_only=socket_only
            )
            if webhook is not None and event == "messages.edited":
                await asyncio.wait([webhook])

        await self._enqueue(instance, job)

    def flood(
        self, instance: Instance, *, count: int, per_second: float, prefix: str, sender: str
    ) -> JsonObject:
        """Start a steady stream of text messages; returns its progress, updated as it runs."""
        number = self.books.next_id()
        progress: JsonObject = {
            "flood": number,
            "instance": instance.name,
            "prefix": prefix,
            "count": count,
            "emitted": 0,
            "done": False,
        }
        self.floods[number] = progress
        self._later(self._flood(instance, progress, per_second=per_second, sender=sender))
        return progress

    async def _flood(
        self, instance: Instance, progress: JsonObject, *, per_second: float, sender: str
    ) -> None:
        started = time.monotonic()
        for index in range(progress["count"]):
            # Paced by the clock and not by pauses, so that slow emits do not lower the rate.
            ahead = started + index / per_second - time.monotonic()
            await asyncio.sleep(max(0.0, ahead))
            key = {
                "remoteJid": create_jid(sender),
                "fromMe": False,
                "id": f"{progress['prefix']}{index + 1:06d}",
            }
            built = Incoming({"conversation": f"flood {index + 1}"}, "conversation")

            async def upsert(key: JsonObject = key, built: Incoming = built) -> None:
                if instance.is_baileys:
                    await self._upsert(
                        instance, key, built, "Flood", epoch(), emitted=True, contacts=False
                    )
                else:
                    await self._upsert_evolution(
                        instance, key, built.message, built.message_type, "Flood"
                    )

            await self._enqueue(instance, upsert)
            progress["emitted"] = index + 1
        progress["done"] = True

    # -- stored messages -----------------------------------------------------------------------

    def _store(self, instance: Instance, data: JsonObject) -> StoredMessage:
        message_id = str(data["key"]["id"])
        known = instance.messages.get(message_id)
        row = StoredMessage(
            id=known.id if known is not None else cuid(),
            key=data["key"],
            push_name=data.get("pushName"),
            message_type=data.get("messageType"),
            message=data["message"],
            timestamp=int(data["messageTimestamp"]),
            instance_id=instance.id,
            source=str(data.get("source", "unknown")),
            context_info=data.get("contextInfo"),
            status=data.get("status"),
        )
        instance.messages[message_id] = row
        return row

    def _note_chat(self, instance: Instance, jid: str) -> None:
        instance.chats.setdefault(jid, {"id": cuid(), "remoteJid": jid})

    async def edit_own(self, instance: Instance, key: JsonObject, text: str) -> JsonObject:
        """`/chat/updateMessage` on Baileys (capture 08). Raises ApiError when it is unknown."""
        row = instance.messages.get(str(key.get("id")))
        if row is None:
            raise bad_request("Message not found")
        stamp = int(time.time() * 1000)
        edited = {"extendedTextMessage": {"text": text}}
        row.message = {"conversation": text}
        row.timestamp = stamp // 1000
        await self.hub.emit(
            instance,
            "send.message.update",
            {"key": key, "editedMessage": edited, "timestampMs": stamp, "type": 14},
        )
        protocol = {
            "key": _plain_key(key),
            "type": "MESSAGE_EDIT",
            "editedMessage": edited,
            "timestampMs": str(stamp),
        }
        return _protocol_answer(str(key.get("remoteJid")), protocol, stamp // 1000)

    async def delete_own(self, instance: Instance, key: JsonObject) -> JsonObject:
        """`/chat/deleteMessageForEveryone` on Baileys: the event is a whole row (§3)."""
        row = instance.messages.get(str(key["id"]))
        if row is not None:
            row.key = {**row.key, "deleted": True}
            row.status = "DELETED"
            data = {
                "id": row.id,
                "instanceId": instance.id,
                "key": row.key,
                "messageType": row.message_type,
                "status": "DELETED",
                "source": row.source,
                "messageTimestamp": row.timestamp,
                "pushName": row.push_name,
                "participant": row.key.get("participant"),
                "message": row.message,
            }
            await self.hub.emit(instance, "messages.delete", data)
        protocol = {"key": _plain_key(key), "type": "REVOKE"}
        return _protocol_answer(str(key["remoteJid"]), protocol, epoch())


def _plain_key(key: JsonObject) -> JsonObject:
    return {name: key.get(name) for name in ("remoteJid", "fromMe", "id")}


def _protocol_answer(jid: str, protocol: JsonObject, now: int) -> JsonObject:
    return {
        "key": {"remoteJid": jid, "fromMe": True, "id": whatsapp_id()},
        "message": {"protocolMessage": protocol},
        "messageTimestamp": str(now),
        "status": "PENDING",
    }


def _recipient(route: str, body: JsonObject) -> str:
    if route == "sendreaction":
        return str(body["key"]["remoteJid"])
    if route == "sendstatus":
        return "status@broadcast"
    return str(body.get("number", ""))


def _only(source: Mapping[str, Any], *names: str) -> JsonObject:
    return {name: source[name] for name in names if name in source}


def _chosen_events(order: Mapping[str, Any]) -> list[str]:
    """None when disabled, all 31 for an empty list; leaving the list out is a 500 (§1)."""
    if not order["enabled"]:
        return []
    if "events" not in order:
        raise ApiError(500, NO_LENGTH)
    return list(order["events"]) or list(EVENTS)
