"""The HTTP layer of the simulated Evolution: guards, routes, responses, injected faults.

`docs/providers/evolution.md` §0 (auth, errors), §4 (instances), §5 (messages), §6 (settings).
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from aiohttp import BodyPartReader, web

from simulators.base import JsonObject, hang, only_digits, reset_connection
from simulators.evolution.core import ApiError, bad_request
from simulators.evolution.engine import Choose, EvolutionEngine, SendAnswer
from simulators.evolution.model import (
    BAILEYS,
    BUSINESS,
    EVOLUTION,
    Fault,
    Instance,
    StoredMessage,
    create_jid,
    dumps,
    iso,
    known_jid,
)
from simulators.evolution.schema import (
    CALL_OFFER,
    DELETE_MESSAGE,
    INSTANCE,
    READ_MESSAGES,
    SEND_PRESENCE,
    SENDS,
    SET_PRESENCE,
    SETTING_FLAGS,
    SETTINGS,
    UPDATE_MESSAGE,
    WEBHOOK,
    WEBSOCKET,
    WHATSAPP_NUMBERS,
    Schema,
    is_base64,
    is_url,
    malformed_json_text,
    validate,
)

HTML_PAGE = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
_ERROR_NAMES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    500: "Internal Server Error",
}
_UNLICENSED: JsonObject = {
    "error": "service not activated",
    "code": "LICENSE_REQUIRED",
    "register_url": "http://127.0.0.1:8080/manager/login",
    "instance_id": "00000000-0000-0000-0000-000000000000",
    "message": "This Evolution API instance is not activated.",
}
_NOT_AVAILABLE = {
    EVOLUTION: "Method not available on Evolution Channel",
    BUSINESS: "Method not available on WhatsApp Business API",
}
_EVOLUTION_SENDS = ("sendtext", "sendmedia", "sendbuttons", "sendwhatsappaudio", "sendptv")
_NO_PTV = "this.waMonitor.waInstances[s].ptvMessage is not a function"
_NO_MEDIA = "Owned media must be a url or base64"
_BOOM_CLOSED: JsonObject = {
    "data": None,
    "isBoom": True,
    "isServer": False,
    "output": {
        "statusCode": 428,
        "payload": {
            "statusCode": 428,
            "error": "Precondition Required",
            "message": "Connection Closed",
        },
        "headers": {},
    },
}
_DEFAULT_PAGE = 50


@dataclasses.dataclass
class Call:
    """One request to a route."""

    request: web.Request
    action: str
    name: str
    body: JsonObject
    upload: bytes | None = None


Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclasses.dataclass(frozen=True)
class Route:
    """A handler for `/<group>/<action>` and the schema that validates its body."""

    handler: Handler
    schema: Schema | None = None


class EvolutionHttp:
    """Routes requests to the engine."""

    def __init__(self, engine: EvolutionEngine, *, choose: Choose, lookup: Choose) -> None:
        self._engine = engine
        self._choose = choose
        self._lookup_scenario = lookup
        self._in_flight: dict[int, web.Request] = {}
        self.faults: list[Fault] = []
        self.is_down = False
        self._routes = self._table()

    def _table(self) -> dict[tuple[str, str], Route]:
        routes = {
            ("GET", "webhook/find"): Route(self._find_webhook),
            ("POST", "webhook/set"): Route(self._set_webhook, WEBHOOK),
            ("GET", "websocket/find"): Route(self._find_websocket),
            ("POST", "websocket/set"): Route(self._set_websocket, WEBSOCKET),
            ("GET", "settings/find"): Route(self._find_settings),
            ("POST", "settings/set"): Route(self._set_settings, SETTINGS),
            ("GET", "instance/connect"): Route(self._connect),
            ("GET", "instance/connectionstate"): Route(self._connection_state),
            ("POST", "instance/restart"): Route(self._restart),
            ("POST", "instance/setpresence"): Route(self._set_presence, SET_PRESENCE),
            ("DELETE", "instance/logout"): Route(self._logout),
            ("DELETE", "instance/delete"): Route(self._delete),
            ("POST", "call/offer"): Route(self._offer_call, CALL_OFFER),
            ("POST", "chat/whatsappnumbers"): Route(self._whatsapp_numbers, WHATSAPP_NUMBERS),
            ("POST", "chat/markmessageasread"): Route(self._mark_as_read, READ_MESSAGES),
            ("POST", "chat/sendpresence"): Route(self._send_presence, SEND_PRESENCE),
            ("POST", "chat/updatemessage"): Route(self._update_message, UPDATE_MESSAGE),
            ("DELETE", "chat/deletemessageforeveryone"): Route(
                self._delete_message, DELETE_MESSAGE
            ),
            ("POST", "chat/findmessages"): Route(self._find_messages),
            ("POST", "chat/findstatusmessage"): Route(self._find_status),
            ("POST", "chat/findcontacts"): Route(self._find_contacts),
            ("POST", "chat/findchats"): Route(self._find_chats),
            ("POST", "chat/fetchprofilepictureurl"): Route(self._profile_picture),
            ("POST", "chat/getbase64frommediamessage"): Route(self._get_base64),
        }
        for action, schema in SENDS.items():
            routes["POST", f"message/{action}"] = Route(self._send, schema)
        return routes

    # -- request handling ----------------------------------------------------------------------

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Handle any request outside the control API."""
        if self.is_down:
            return reset_connection(request)
        self._in_flight[id(request)] = request
        try:
            return await self._handle(request)
        finally:
            del self._in_flight[id(request)]

    def reset_all(self) -> None:
        """Reset every connection with a pending response, like the end of the process."""
        for request in tuple(self._in_flight.values()):
            reset_connection(request)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self._next_fault(request)
        if fault is not None and fault.mode == "slow":
            await asyncio.sleep(fault.seconds or self._engine.settings.slow_seconds)
            fault = None
        if fault is not None and not fault.after:
            return await self._apply_fault(request, fault)
        if request.path.lower().rstrip("/") == "/socket.io" and self._settings.websocket_enabled:
            answer: web.StreamResponse = await self._engine.hub.sockets.handle(
                request, self._is_known_key
            )
        else:
            try:
                answer = await self._dispatch(request)
            except ApiError as error:
                answer = envelope(error.status, error.message)
        if fault is not None:
            return await self._apply_fault(request, fault)
        return answer

    @property
    def _settings(self) -> Any:
        return self._engine.settings

    def _next_fault(self, request: web.Request) -> Fault | None:
        path = unquote(request.path)
        for fault in self.faults:
            if not fault.matches(request.method, path):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
        return None

    async def _apply_fault(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.mode == "reset":
            return reset_connection(request)
        if fault.mode == "hang":
            return await hang(request, fault.seconds or self._settings.hang_seconds)
        if fault.mode == "garbage":
            return _text('{"status": "SUCC', fault.status, "application/json")
        if fault.mode == "html":
            return _text(HTML_PAGE, fault.status, "text/html")
        if fault.mode == "empty":
            return _text("", fault.status, "application/json")
        if fault.body is not None:
            return json_answer(fault.body, fault.status)
        message: Any = "Unauthorized" if fault.status == 401 else ["Simulated fault"]
        return envelope(fault.status, message)

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        body, upload = await _read_body(request)
        segments = [segment for segment in request.rel_url.raw_path.split("/") if segment]
        lowered = [segment.lower() for segment in segments]
        method = request.method
        if not segments and method == "GET":
            return self._welcome()
        if self._settings.version == "2.4.0" and not self._settings.licensed:
            return json_answer(_UNLICENSED, 503)
        call = Call(request, "", "", body, upload)
        if lowered == ["verify-creds"] and method == "POST":
            self._require_key(request)
            return json_answer({"status": 200, "message": "Credentials are valid"})
        if lowered == ["instance", "create"] and method == "POST":
            return await self._create(call)
        if lowered == ["instance", "fetchinstances"] and method == "GET":
            return self._fetch_instances(request)
        if lowered == ["webhook", "evolution"] and method == "POST":
            known = await self._engine.receive_evolution(body)
            return (
                json_answer({"status": "success"}) if known else _text("", 200, "application/json")
            )
        if lowered == ["webhook", "meta"] and method == "GET":
            return self._verify_meta(request)
        if lowered == ["webhook", "meta"] and method == "POST":
            # Accepted and dropped: BUSINESS inbound is not simulated.
            return json_answer({"status": "success"})
        route = self._routes.get((method, "/".join(lowered[:2]))) if len(segments) == 3 else None
        if route is None:
            raise ApiError(404, [f"Cannot {method} {request.raw_path}"])
        name = unquote(segments[2])
        # An unknown instance is reported before the key is checked (§0).
        if name not in self._engine.instances:
            raise ApiError(404, [f'The "{name}" instance does not exist'])
        self._require_key(request, self._engine.instances[name])
        call.action = lowered[1]
        # After the guards, the query overrides the path (§0).
        call.name = request.query.get("instanceName", name)
        if route.schema is not None:
            failures = validate(body, route.schema)
            if failures:
                raise bad_request(failures)
        return await route.handler(call)

    def _instance(self, call: Call) -> Instance:
        instance = self._engine.instances.get(call.name)
        if instance is None:
            raise ApiError(500, "Cannot read properties of undefined (reading 'connectionStatus')")
        return instance

    def _require_key(self, request: web.Request, instance: Instance | None = None) -> None:
        key = request.headers.get("apikey")
        if key and key == self._settings.api_key:
            return
        if key and instance is not None and key == instance.token:
            return
        raise ApiError(401, "Unauthorized")

    def _is_known_key(self, key: str) -> bool:
        """Return whether it is the global key or any instance's token, as for sockets (§2)."""
        tokens = {instance.token for instance in self._engine.instances.values()}
        return key == self._settings.api_key or key in tokens

    def _reject_channel(self, instance: Instance, *channels: str) -> None:
        if instance.integration in channels:
            raise bad_request(_NOT_AVAILABLE[instance.integration])

    # -- server and instances ------------------------------------------------------------------

    def _welcome(self) -> web.Response:
        return json_answer(
            {
                "status": 200,
                "message": "Welcome to the Evolution API, it is working!",
                "version": self._settings.version,
                "clientName": "evolution",
                "manager": f"{self._settings.server_url}/manager",
                "documentation": "https://doc.evolution-api.com",
                "whatsappWebVersion": "2.3000.1027934701",
            }
        )

    def _verify_meta(self, request: web.Request) -> web.Response:
        """Answer 200 even to a wrong token (§7)."""
        if request.query.get("hub.verify_token") == "evolution":
            return _text(request.query.get("hub.challenge", ""), 200, "text/html")
        return _text("Error, wrong validation token", 200, "text/html")

    async def _create(self, call: Call) -> web.Response:
        name = call.body.get("instanceName")
        if name in self._engine.instances:
            raise ApiError(403, [f'This name "{name}" is already in use.'])
        self._require_key(call.request)
        failures = validate(call.body, INSTANCE)
        if failures:
            raise bad_request(failures)
        instance = await self._engine.create(call.body)
        if instance.is_baileys and call.body.get("qrcode"):
            await asyncio.sleep(self._settings.create_wait_seconds)
        return json_answer(_creation(instance, call.body, self._settings.server_url), 201)

    def _fetch_instances(self, request: web.Request) -> web.Response:
        key = request.headers.get("apikey")
        every = list(self._engine.instances.values())
        wanted_name = request.query.get("instanceName")
        wanted_id = request.query.get("instanceId")
        wanted_number = request.query.get("number")
        is_global = bool(key) and key == self._settings.api_key
        if not is_global:
            every = [instance for instance in every if key and instance.token == key]
        chosen = [
            instance
            for instance in every
            if (not wanted_name or instance.name == wanted_name)
            and (not wanted_id or instance.id == wanted_id)
            and (not wanted_number or instance.number == wanted_number)
        ]
        if not is_global and (not every or not chosen):
            raise ApiError(401, "Unauthorized")
        requested = wanted_name or wanted_id or wanted_number
        if requested and not chosen:
            raise ApiError(404, [f'Instance "{requested}" not found'])
        if not self._settings.late_owner:
            for instance in chosen:
                instance.stored_owner_jid = instance.owner_jid
        return json_answer([_instance_row(instance) for instance in chosen])

    async def _connect(self, call: Call) -> web.Response:
        instance = self._instance(call)
        if instance.state == "open":
            return json_answer(_state(instance))
        if not instance.is_baileys:
            await asyncio.sleep(self._settings.connect_wait_seconds)
            return json_answer({})
        if instance.state == "close":
            await self._engine.dial(instance, number=call.request.query.get("number"))
            await asyncio.sleep(self._settings.connect_wait_seconds)
        return json_answer(instance.qr.as_json())

    async def _connection_state(self, call: Call) -> web.Response:
        return json_answer(_state(self._instance(call)))

    async def _restart(self, call: Call) -> web.Response:
        instance = self._instance(call)
        if instance.state == "close":
            return json_answer({"error": True, "message": "[object Object]"})
        is_connecting = instance.state == "connecting"
        answer = json_answer(instance.qr.as_json() if is_connecting else _state(instance))
        if instance.is_baileys:
            # The socket is closed in both cases; Evolution dials after the response.
            await self._engine.dial(instance)
        return answer

    async def _set_presence(self, call: Call) -> web.Response:
        self._reject_channel(self._instance(call), EVOLUTION, BUSINESS)
        return json_answer({"presence": call.body["presence"]}, 201)

    async def _logout(self, call: Call) -> web.Response:
        instance = self._instance(call)
        if instance.state == "close" and self._settings.version == "2.4.0":
            return _success("Instance was already disconnected")
        if instance.state == "close":
            raise bad_request(f'The "{instance.name}" instance is not connected')
        if instance.is_baileys:
            await self._engine.log_out(instance, message=f"Log out instance: {instance.name}")
        else:
            instance.state = instance.db_status = "close"
        return _success("Instance logged out")

    async def _delete(self, call: Call) -> web.Response:
        await self._engine.delete(self._instance(call))
        return _success("Instance deleted")

    # -- receive mode and settings -------------------------------------------------------------

    async def _find_webhook(self, call: Call) -> web.Response:
        row = self._instance(call).webhook
        return json_answer(row.as_json() if row is not None else None)

    async def _set_webhook(self, call: Call) -> web.Response:
        row = self._engine.set_webhook(self._instance(call), call.body["webhook"])
        return json_answer(row.as_json(), 201)

    async def _find_websocket(self, call: Call) -> web.Response:
        if not self._settings.websocket_enabled:
            return _text("", 200, "application/json")
        row = self._instance(call).websocket
        return json_answer(row.as_json() if row is not None else None)

    async def _set_websocket(self, call: Call) -> web.Response:
        if not self._settings.websocket_enabled:
            # Neither JSON nor null, which is how a client can detect it (§2).
            return _text("", 201, "application/json")
        if not call.body.get("websocket"):
            raise ApiError(500, "Cannot set properties of undefined (setting 'events')")
        row = self._engine.set_websocket(self._instance(call), call.body["websocket"])
        return json_answer(row.as_json(), 201)

    async def _find_settings(self, call: Call) -> web.Response:
        return json_answer(self._instance(call).settings)

    async def _set_settings(self, call: Call) -> web.Response:
        instance = self._instance(call)
        names = (*SETTING_FLAGS, "msgCall", "wavoipToken")
        requested = {name: call.body[name] for name in names if name in call.body}
        instance.settings.update(requested)
        if call.body.get("wavoipToken"):
            # Saved, but the subsequent redial fails without a socket (§6).
            if instance.integration == EVOLUTION:
                raise ApiError(500, "Cannot read properties of null (reading 'ws')")
            if not instance.dialed:
                raise ApiError(500, "Cannot read properties of undefined (reading 'ws')")
            await self._engine.dial(instance)
        ordered = {name: call.body[name] for name in call.body if name in requested}
        answer = {"settings": {"instanceName": instance.name, "settings": ordered}}
        return json_answer(answer, 201)

    # -- messages ------------------------------------------------------------------------------

    async def _send(self, call: Call) -> web.StreamResponse:
        instance = self._instance(call)
        self._check_media(call)
        self._check_content(instance, call)
        result = await self._engine.send(
            instance, call.action, call.body, upload=call.upload, choose=self._choose
        )
        return await self._answer_send(call.request, result)

    def _check_media(self, call: Call) -> None:
        field = {
            "sendmedia": "media",
            "sendwhatsappaudio": "audio",
            "sendsticker": "sticker",
            "sendptv": "video",
        }.get(call.action)
        if field is None or call.upload is not None:
            return
        media = call.body.get(field)
        is_document = call.body.get("mediatype") == "document"
        if is_base64(media) and is_document and not call.body.get("fileName"):
            raise bad_request("For base64 the file name must be informed.")
        if not is_url(media) and not is_base64(media):
            if field == "audio":
                raise bad_request("Owned media must be a url, base64, or valid file with buffer")
            raise bad_request(_NO_MEDIA)

    def _check_content(self, instance: Instance, call: Call) -> None:
        if call.action == "sendreaction" and not _is_emoji(str(call.body["reaction"])):
            raise bad_request("Reaction must be a single emoji or empty string")
        if instance.integration == EVOLUTION:
            self._check_evolution(call)
        elif instance.integration == BUSINESS:
            self._check_business(call)
        elif call.action == "sendtemplate":
            raise ApiError(500, "Method not available in the Baileys service")
        if call.action == "sendbuttons":
            buttons = call.body.get("buttons") or []
            if not buttons:
                raise bad_request("At least one button is required")
            if len([button for button in buttons if button["type"] == "reply"]) > 3:
                raise bad_request("Maximum of 3 reply buttons allowed")

    def _check_evolution(self, call: Call) -> None:
        if call.action not in _EVOLUTION_SENDS:
            raise bad_request(_NOT_AVAILABLE[EVOLUTION])
        if call.action == "sendptv":
            raise ApiError(500, _NO_PTV)
        if call.action == "sendwhatsappaudio" and is_base64(call.body.get("audio")):
            raise ApiError(500, "File or buffer is undefined.")

    def _check_business(self, call: Call) -> None:
        if call.action in ("sendsticker", "sendpoll", "sendstatus"):
            raise bad_request(_NOT_AVAILABLE[BUSINESS])
        if call.action == "sendptv":
            raise ApiError(500, _NO_PTV)
        media = call.body.get("media")
        if call.action == "sendmedia" and is_url(media) and not call.body.get("mimetype"):
            last = str(media).rsplit("/", 1)[-1]
            if "." not in last:
                raise bad_request("TypeError: t.mimetype?.startsWith is not a function")

    async def _answer_send(self, request: web.Request, result: SendAnswer) -> web.StreamResponse:
        settings = self._settings
        answer = result.answer
        if answer == "slow":
            await asyncio.sleep(settings.slow_seconds)
        if answer in ("ok", "slow"):
            return json_answer(result.body, 201)
        if answer == "hang":
            return await hang(request, settings.hang_seconds)
        if answer == "reset":
            return reset_connection(request)
        if answer == "html_502":
            return _text(HTML_PAGE, 502, "text/html")
        if answer == "html_200":
            return _text(HTML_PAGE, 200, "text/html")
        if answer == "empty":
            return _text("", 201, "application/json")
        if answer == "not_json":
            text = dumps(result.body)
            return _text(text[: len(text) // 2], 201, "application/json")
        if answer == "closed_400":
            raise bad_request("Error: Connection Closed")
        if answer == "closed_500":
            raise ApiError(500, "Connection Closed")
        raise ApiError(500, "Cannot read properties of undefined (reading 'id')")

    async def _offer_call(self, call: Call) -> web.Response:
        """A stub since 2.3.0; EVOLUTION names the wrong channel (§6, capture 04)."""
        if self._instance(call).integration != BAILEYS:
            raise bad_request(_NOT_AVAILABLE[BUSINESS])
        answer: JsonObject = {"id": "123", "jid": create_jid(str(call.body["number"]))}
        if "isVideo" in call.body:
            answer["isVideo"] = call.body["isVideo"]
        answer["callDuration"] = call.body["callDuration"]
        return json_answer(answer, 201)

    # -- chat ----------------------------------------------------------------------------------

    async def _whatsapp_numbers(self, call: Call) -> web.Response:
        """Look up numbers; errors have no envelope (§0)."""
        instance = self._instance(call)
        if instance.integration != BAILEYS:
            message = [_NOT_AVAILABLE[instance.integration]]
            return json_answer({"status": 400, "error": "Bad Request", "message": message}, 400)
        numbers = [str(number) for number in call.body.get("numbers", [])]
        cached = all(only_digits(number) in self._engine.known_numbers for number in numbers)
        if not cached and not instance.dialed:
            return json_answer({}, 400)
        if not cached and (instance.state != "open" or instance.dead):
            return json_answer(_BOOM_CLOSED, 400)
        groups = [number for number in numbers if create_jid(number).endswith("@g.us")]
        people = [number for number in numbers if number not in groups]
        rows: list[JsonObject] = [
            {"jid": create_jid(number), "exists": True, "number": number, "name": "Fake group"}
            for number in groups
        ]
        rows += [self._lookup(number) for number in people]
        return json_answer(rows)

    def _lookup(self, number: str) -> JsonObject:
        scenario = self._lookup_scenario(number)
        jid = create_jid(number)
        exists = self._engine.exists(jid, scenario)
        if exists:
            self._engine.known_numbers.add(only_digits(number))
            jid = known_jid(jid, without_ninth_digit=scenario.without_ninth_digit)
        return {"jid": jid, "exists": exists, "number": number}

    async def _mark_as_read(self, call: Call) -> web.Response:
        instance = self._instance(call)
        self._reject_channel(instance, EVOLUTION, BUSINESS)
        self._require_open(instance)
        return json_answer({"message": "Read messages", "read": "success"}, 201)

    async def _send_presence(self, call: Call) -> web.Response:
        instance = self._instance(call)
        self._reject_channel(instance, EVOLUTION, BUSINESS)
        self._require_open(instance)
        await asyncio.sleep(float(call.body["delay"]) / 1000)
        return json_answer({"presence": call.body["presence"]}, 201)

    def _require_open(self, instance: Instance) -> None:
        if instance.state != "open" or instance.dead:
            raise ApiError(500, "Connection Closed")

    async def _update_message(self, call: Call) -> web.Response:
        instance = self._instance(call)
        self._reject_channel(instance, EVOLUTION, BUSINESS)
        self._require_open(instance)
        key = call.body.get("key") or {}
        return json_answer(
            await self._engine.edit_own(instance, key, str(call.body.get("text", "")))
        )

    async def _delete_message(self, call: Call) -> web.Response:
        instance = self._instance(call)
        self._reject_channel(instance, EVOLUTION, BUSINESS)
        self._require_open(instance)
        return json_answer(await self._engine.delete_own(instance, call.body), 201)

    async def _find_messages(self, call: Call) -> web.Response:
        """Return the newest first; `offset` is the page size (§5)."""
        instance = self._instance(call)
        where = _object(call.body.get("where"))
        rows = instance.messages.values() if self._settings.save_new_messages else ()
        found = [row for row in reversed(list(rows)) if _matches(row, where)]
        found.sort(key=lambda row: row.timestamp, reverse=True)
        size = int(call.body.get("offset") or _DEFAULT_PAGE)
        page = int(call.body.get("page") or 1)
        start = size * (page - 1)
        return json_answer(
            {
                "messages": {
                    "total": len(found),
                    "pages": math.ceil(len(found) / size),
                    "currentPage": page,
                    "records": [row.as_record() for row in found[start : start + size]],
                }
            }
        )

    async def _find_status(self, call: Call) -> web.Response:
        instance = self._instance(call)
        where = _object(call.body.get("where"))
        wanted = {"keyId": where.get("id"), **{n: where.get(n) for n in ("remoteJid", "status")}}
        rows = [update for row in instance.messages.values() for update in row.updates]
        return json_answer(
            [
                row
                for row in rows
                if all(value is None or row[name] == value for name, value in wanted.items())
            ]
        )

    async def _find_contacts(self, call: Call) -> web.Response:
        instance = self._instance(call)
        wanted = _object(call.body.get("where")).get("remoteJid")
        rows = instance.contacts.values()
        return json_answer([row for row in rows if wanted in (None, row["remoteJid"])])

    async def _find_chats(self, call: Call) -> web.Response:
        return json_answer([_chat_row(self._instance(call), jid) for jid in self._chats(call)])

    def _chats(self, call: Call) -> list[str]:
        return list(self._instance(call).chats)

    async def _profile_picture(self, call: Call) -> web.Response:
        jid = create_jid(str(call.body.get("number", "")))
        known = self._instance(call).contacts.get(jid, {})
        return json_answer({"wuid": jid, "profilePictureUrl": known.get("profilePicUrl")})

    async def _get_base64(self, call: Call) -> web.Response:
        """BUSINESS needs the whole message, Baileys only its key (§3, capture 09)."""
        instance = self._instance(call)
        requested = _object(call.body.get("message"))
        if instance.integration == BUSINESS and "messageType" not in requested:
            raise bad_request("TypeError: Cannot read properties of undefined (reading 'includes')")
        row = instance.messages.get(str(_object(requested.get("key")).get("id")))
        if row is None:
            raise bad_request("Message not found")
        if row.media is None:
            raise bad_request("The message is not of the media type")
        media = _object(row.message.get(str(row.message_type)))
        size = {name: media[name] for name in ("fileLength", "height", "width") if name in media}
        answer: JsonObject = {"mediaType": row.message_type}
        if media.get("fileName"):
            answer["fileName"] = media["fileName"]
        if media.get("caption"):
            answer["caption"] = media["caption"]
        answer |= {
            "size": size,
            "mimetype": media.get("mimetype"),
            "base64": base64.b64encode(row.media).decode(),
            "buffer": None,
        }
        return json_answer(answer, 201)


async def _read_body(request: web.Request) -> tuple[JsonObject, bytes | None]:
    """Read the body before any guard: malformed JSON fails first, with a wrong name (§0)."""
    if request.content_type.startswith("multipart/"):
        return await _read_multipart(request)
    text = (await request.read()).decode("utf-8", errors="replace")
    if request.content_type != "application/json" or not text.strip():
        return {}, None
    try:
        body = json.loads(text)
    except json.JSONDecodeError:
        raise MalformedBody(malformed_json_text(text)) from None
    return (body if isinstance(body, dict) else {}), None


class MalformedBody(ApiError):
    """A 400 named Internal Server Error (capture 01)."""

    def __init__(self, text: str) -> None:
        super().__init__(400, text)


async def _read_multipart(request: web.Request) -> tuple[JsonObject, bytes | None]:
    fields: JsonObject = {}
    upload: bytes | None = None
    async for part in await request.multipart():
        if not isinstance(part, BodyPartReader):
            continue
        content = bytes(await part.read(decode=True))
        if part.filename:
            upload = content
            fields.setdefault("fileName", part.filename)
        elif part.name:
            fields[part.name] = content.decode("utf-8", errors="replace")
    return fields, upload


def envelope(status: int, message: Any) -> web.Response:
    """Return `{"status","error","response":{"message"}}` (§0)."""
    name = _ERROR_NAMES.get(status, "Error")
    if status == 400 and isinstance(message, str):
        name = "Internal Server Error"
    return json_answer({"status": status, "error": name, "response": {"message": message}}, status)


def json_answer(value: Any, status: int = 200) -> web.Response:
    """Return a JSON response as Express writes it."""
    return _text(dumps(value), status, "application/json")


def _text(text: str, status: int, content_type: str) -> web.Response:
    return web.Response(text=text, status=status, content_type=content_type, charset="utf-8")


def _success(text: str) -> web.Response:
    return json_answer({"status": "SUCCESS", "error": False, "response": {"message": text}})


def _state(instance: Instance) -> JsonObject:
    return {"instance": {"instanceName": instance.name, "state": instance.state}}


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _is_emoji(text: str) -> bool:
    return text == "" or not any(character.isalnum() for character in text)


def _creation(instance: Instance, body: JsonObject, server_url: str) -> JsonObject:
    """Return the response of create, which echoes the request, not the stored row (§4)."""
    is_business = instance.integration == BUSINESS
    webhook = _object(body.get("webhook"))
    echoed = {
        "webhookUrl": webhook.get("url"),
        "webhookHeaders": webhook.get("headers"),
        "webhookByEvents": webhook.get("byEvents"),
        "webhookBase64": webhook.get("base64"),
    }
    websocket = _object(body.get("websocket"))
    answer: JsonObject = {
        "instance": {
            "instanceName": instance.name,
            "instanceId": instance.id,
            "integration": instance.integration,
            "webhookWaBusiness": f"{server_url}/webhook/meta" if is_business else None,
            "accessTokenWaBusiness": "evolution" if is_business else "",
            "status": instance.state,
        },
        "hash": instance.token,
        "webhook": {name: value for name, value in echoed.items() if value is not None},
        "websocket": {"enabled": websocket["enabled"]} if "enabled" in websocket else {},
        "rabbitmq": {},
        "nats": {},
        "sqs": {},
        "settings": dict(instance.settings),
    }
    if instance.is_baileys and body.get("qrcode"):
        answer["qrcode"] = instance.qr.as_json()
    return answer


def _instance_row(instance: Instance) -> JsonObject:
    """Return a row of fetchInstances: without Webhook, always with the token (§4)."""
    moment = instance.disconnection_at
    return {
        "id": instance.id,
        "name": instance.name,
        "connectionStatus": instance.db_status,
        "ownerJid": instance.stored_owner_jid,
        "profileName": instance.profile_name,
        "profilePicUrl": instance.profile_picture,
        "integration": instance.integration,
        "number": instance.number,
        "businessId": instance.business_id,
        "token": instance.token,
        "clientName": "evolution",
        "disconnectionReasonCode": instance.disconnection_code,
        "disconnectionObject": instance.disconnection_object,
        "disconnectionAt": iso(moment) if moment is not None else None,
        "createdAt": iso(instance.created_at),
        "updatedAt": iso(instance.updated_at),
        "Chatwoot": None,
        "Proxy": None,
        "Rabbitmq": None,
        "Nats": None,
        "Sqs": None,
        "Websocket": instance.websocket.as_json() if instance.websocket is not None else None,
        "Setting": {
            "id": instance.setting_id,
            **instance.settings,
            "createdAt": iso(instance.created_at),
            "updatedAt": iso(instance.created_at),
            "instanceId": instance.id,
        },
        "_count": {
            "Message": len(instance.messages),
            "Contact": len(instance.contacts),
            "Chat": len(instance.chats),
        },
    }


def _chat_row(instance: Instance, jid: str) -> JsonObject:
    """Return a row of findChats for a chat without a saved contact (capture 04)."""
    rows = [row for row in instance.messages.values() if row.key.get("remoteJid") == jid]
    last = max(rows, key=lambda row: row.timestamp, default=None)
    latest: JsonObject | None = None
    if last is not None:
        latest = {
            **last.as_record(),
            "participant": last.key.get("participant"),
            "sessionId": None,
            "status": last.status,
        }
        del latest["MessageUpdate"]
        if last.key.get("fromMe"):
            latest["pushName"] = "Você"
    return {
        "id": None,
        "remoteJid": jid,
        "pushName": instance.contacts.get(jid, {}).get("pushName"),
        "profilePicUrl": None,
        "updatedAt": iso(instance.updated_at),
        "windowStart": None,
        "windowExpires": None,
        "windowActive": False,
        "lastMessage": latest,
        "unreadCount": None,
        "isSaved": False,
    }


def _matches(row: StoredMessage, where: JsonObject) -> bool:
    """Apply the filters of findMessages; like Evolution, ignore falsy ones."""
    key = _object(where.get("key"))
    for name in ("id", "fromMe", "participant"):
        if key.get(name) and row.key.get(name) != key[name]:
            return False
    jid = key.get("remoteJid")
    if jid and jid not in (row.key.get("remoteJid"), row.key.get("remoteJidAlt")):
        return False
    if where.get("id") is not None and row.id != where["id"]:
        return False
    if where.get("messageType") is not None and row.message_type != where["messageType"]:
        return False
    window = _object(where.get("messageTimestamp"))
    # A single bound is ignored.
    if window.get("gte") and window.get("lte"):
        return _seconds(window["gte"]) <= row.timestamp <= _seconds(window["lte"])
    return True


def _seconds(value: Any) -> int:
    """Return `Math.floor(new Date(value) / 1000)`."""
    if isinstance(value, int | float):
        return math.floor(value / 1000)
    return math.floor(datetime.fromisoformat(str(value)).timestamp())
