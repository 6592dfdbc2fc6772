"""The instances of the simulated Evolution: lifecycle, receive mode, connection, restarts.

Wire facts: `docs/providers/evolution.md` §1 to §4; a capture number is a file in
`tests/fixtures/evolution`. `engine` adds the messages.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from simulators.base import JsonObject, only_digits
from simulators.evolution.hub import EventHub
from simulators.evolution.model import (
    BAILEYS,
    BUSINESS,
    EVENTS,
    EVOLUTION,
    EvolutionSettings,
    Instance,
    InstanceSpec,
    Ledger,
    QrCode,
    SentMessage,
    StoredMessage,
    WebhookRow,
    WebsocketRow,
    cuid,
    instance_token,
    iso,
    make_qr,
    own_jid,
    utc_now,
)

NO_LENGTH = "Cannot read properties of undefined (reading 'length')"
LOGGED_OUT_CODES = (401, 402, 403, 406)
"""Disconnect reasons after which Evolution does not reconnect (§3)."""
TIMED_OUT_CODE = 408
"""2.4 does not reconnect after this one either (§10)."""

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
_URL_TOO_LONG = (
    "\nInvalid `this.prismaRepository.webhook.upsert()` invocation\n\n"
    "The provided value for the column is too long for the column's type."
    " Column: (not available)"
)
_MAX_URL = 500

Job = Callable[[], Awaitable[None]]
Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


class ApiError(Exception):
    """An error response of Evolution; `message` has one of the four shapes of §0."""

    def __init__(self, status: int, message: Any) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


def bad_request(text: Any) -> ApiError:
    """Return a 400 like those of Evolution's exceptions: the text in a list."""
    return ApiError(400, [text])


class EvolutionCore:
    """The instances of the simulated server and their lifecycle."""

    def __init__(
        self,
        settings: EvolutionSettings,
        spawn: Spawn,
        on_sent: Callable[[SentMessage], None],
    ) -> None:
        self.settings = settings
        self._on_sent = on_sent
        self.books = Ledger(settings.book_size)
        self.instances: dict[str, Instance] = {}
        self.hub = EventHub(settings, self.books, spawn)
        self.known_numbers = set(settings.on_whatsapp_cache)
        self._delivered_ids: set[str] = set()
        self.floods: dict[int, JsonObject] = {}
        self._spawn_counted = spawn
        self._volatile_tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.Task[None]] = {}
        self._workers: dict[str, asyncio.Task[None]] = {}
        self._restarts = 0

    # -- start, stop, restart ------------------------------------------------------------------

    async def start(self) -> None:
        """Open the event hub and create the instances of the settings."""
        await self.hub.start()
        for spec in self.settings.instances:
            self._set_up(spec)

    async def stop(self) -> None:
        """Cancel all background work."""
        await self._clear_memory()
        await self.hub.stop()

    async def restart(
        self, *, downtime_seconds: float, redial: bool, empty_webhooks: bool = False
    ) -> None:
        """Crash and restart: retries, queues, namespaces and clients are lost (§1, §2).

        No `connection.update` reports it (§10.7). `empty_webhooks` also clears url and headers of
        every webhook, which stays enabled (§10.2).

        Rows and messages remain. With `redial`, paired Baileys instances reconnect after the
        downtime. A deletion that was waiting for its webhook is undone (capture 12).
        """
        await self._clear_memory()
        await self.hub.drop_retries()
        await self.hub.sockets.restart()
        self._restarts += 1
        every = self.settings.webhook_emptied_every
        empty_webhooks = empty_webhooks or bool(every and self._restarts % every == 0)
        for instance in self.instances.values():
            if empty_webhooks and instance.webhook is not None:
                instance.webhook.url, instance.webhook.headers = "", None
            instance.dead = False
            if not instance.is_baileys:
                instance.state = instance.db_status = "open"
                continue
            instance.dialed = False
            instance.sender = instance.owner_jid if instance.paired else None
            was_connected = instance.state in ("open", "connecting")
            instance.state = "close"
            instance.qr = QrCode()
            if instance.paired and was_connected and redial:
                self._later(self._dial_after(instance, downtime_seconds))

    async def _dial_after(self, instance: Instance, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.dial(instance)

    async def _clear_memory(self) -> None:
        tasks = [*self._volatile_tasks, *self._timers.values(), *self._workers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._timers.clear()
        self._workers.clear()
        for instance in self.instances.values():
            instance.queue = None

    def _later(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run background work that a restart cancels."""
        task = self._spawn_counted(work)
        self._volatile_tasks.add(task)
        task.add_done_callback(self._volatile_tasks.discard)
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
            instance.dialed = True
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
        """`POST /instance/create`: every failure is a 400 and creates nothing (§4)."""
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
        # Evolution forces `enabled` to true and does not check event names here (§4, capture 01).
        websocket = body.get("websocket")
        if websocket:
            inner = websocket if isinstance(websocket, dict) else {}
            self.set_websocket(instance, {"enabled": True, **_only(inner, "events")})
        webhook = body.get("webhook")
        if webhook:
            inner = webhook if isinstance(webhook, dict) else {}
            names = ("events", "headers", "byEvents", "base64")
            config = {"enabled": True, "url": inner.get("url", ""), **_only(inner, *names)}
            self.set_webhook(instance, config)

    async def delete(self, instance: Instance) -> None:
        """`DELETE /instance/delete`: removed after the REMOVE_INSTANCE webhook (§1, §4)."""
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

    def set_webhook(self, instance: Instance, config: Mapping[str, Any]) -> WebhookRow:
        """`/webhook/set` after validation: all, no or the listed events (§1).

        Raises ApiError 500 if it is enabled without `events`, or the URL exceeds 500 characters.
        """
        events = _selected_events(config)
        url = str(config["url"])
        if len(url) > _MAX_URL:
            raise ApiError(500, _URL_TOO_LONG)
        now = utc_now()
        row = instance.webhook
        if row is None:
            row = instance.webhook = WebhookRow(
                cuid(), instance.id, url, None, False, [], False, False, now, now
            )
        row.url = url
        row.enabled = bool(config["enabled"])
        row.events = events
        row.headers = config.get("headers", row.headers)
        row.by_events = config.get("byEvents", row.by_events)
        row.base64 = config.get("base64", row.base64)
        row.updated_at = now
        return row

    def set_websocket(self, instance: Instance, config: Mapping[str, Any]) -> WebsocketRow:
        """`/websocket/set` after validation, with the rules of `set_webhook` (§2)."""
        events = _selected_events(config)
        now = utc_now()
        row = instance.websocket
        if row is None:
            row = instance.websocket = WebsocketRow(cuid(), instance.id, False, [], now, now)
        row.enabled = bool(config["enabled"])
        row.events = events
        row.updated_at = now
        return row

    # -- connection ----------------------------------------------------------------------------

    async def dial(self, instance: Instance, *, number: str | None = None) -> None:
        """Open the WhatsApp socket of a Baileys instance: show a QR, or reconnect if paired."""
        instance.dialed = True
        instance.dead = False
        instance.state = instance.db_status = "connecting"
        instance.dial_number = number
        # The count continues across dials (capture 08); only the limit resets it.
        instance.qr = QrCode(count=instance.qr.count)
        instance.touch()
        self._load_webhook_flag(instance)
        await self._connection_update(instance, "connecting", 200)
        if self.settings.stuck_dialing:
            self._set_timer(instance, None)
        elif instance.paired:
            self._set_timer(instance, self._open_after(instance, self.settings.redial_seconds))
        else:
            await self._show_qr(instance)
            self._set_timer(instance, self._refresh_qr(instance))

    def _load_webhook_flag(self, instance: Instance) -> None:
        # The flag is read only when the socket is created (§3, issues 1555 and 2233).
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
        """Show a new QR every 45 s until the limit, then `refused` (§3)."""
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
        instance.qr = QrCode()
        await self._connection_update(instance, "refused", 428)

    async def _open_after(self, instance: Instance, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._open(instance)

    async def scan(
        self, instance: Instance, *, number: str | None = None, name: str | None = None
    ) -> None:
        """Scan the QR with a phone. Raises ValueError if none is shown."""
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
        waiting, instance.offline = instance.offline, []
        for job in waiting:
            await self._enqueue(instance, job)
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
        instance.qr = QrCode(count=instance.qr.count)
        instance.owner_jid = instance.sender = own_jid(instance.phone_number)
        instance.profile_name = instance.phone_name
        instance.profile_picture = self.settings.picture_url
        instance.touch()

    async def _connection_update(self, instance: Instance, state: str, reason: int) -> None:
        data = {"instance": instance.name, "state": state, "statusReason": reason}
        await self.hub.emit(instance, "connection.update", data)

    async def drop(self, instance: Instance, *, code: int) -> None:
        """Drop the connection: reconnect, or log out for 401 and similar codes (§3)."""
        if code in LOGGED_OUT_CODES:
            await self.log_out(instance, code=code, message="Stream Errored")
        elif code == TIMED_OUT_CODE and self.settings.version == "2.4.0":
            await self.log_out(instance, code=code, message="Timed Out", keep_login=True)
        else:
            await self.dial(instance)

    async def relink(self, instance: Instance, *, number: str) -> None:
        """Unlink the phone on the server and link another one."""
        await self.log_out(instance, message=f"Log out instance: {instance.name}")
        instance.phone_number = only_digits(number)
        await self._open(instance)

    async def log_out(
        self, instance: Instance, *, message: str, code: int = 401, keep_login: bool = False
    ) -> None:
        """End the session permanently: three events, in no guaranteed order (§3)."""
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
        instance.paired = instance.paired and keep_login
        instance.state = instance.db_status = "close"
        instance.qr = QrCode(count=instance.qr.count)
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

    # -- queue of an instance ------------------------------------------------------------------

    async def _enqueue(self, instance: Instance, job: Job) -> None:
        """Handle Baileys events one at a time; a slow one blocks the rest (§1)."""
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
        """Return the number of events that wait behind the current one."""
        return instance.queue.qsize() if instance.queue is not None else 0

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

    def _add_chat(self, instance: Instance, jid: str) -> None:
        instance.chats.setdefault(jid, {"id": cuid(), "remoteJid": jid})


def _only(source: Mapping[str, Any], *names: str) -> JsonObject:
    return {name: source[name] for name in names if name in source}


def _selected_events(config: Mapping[str, Any]) -> list[str]:
    """Return no events when disabled, all 31 for an empty list; 500 without a list (§1)."""
    if not config["enabled"]:
        return []
    if "events" not in config:
        raise ApiError(500, NO_LENGTH)
    return list(config["events"]) or list(EVENTS)
