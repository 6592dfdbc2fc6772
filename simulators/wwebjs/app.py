"""A simulated wwebjs-api (avoylenko/wwebjs-api v1.34.7), quirks included.

Wire facts: ``docs/providers/wwebjs.md``, measured on the exchanges recorded in
``tests/fixtures/wwebjs``.

The two digits before the last two of a recipient like +55 11 99999-FF47 select a scenario from
``simulators.wwebjs.tables``; ``simulators.base`` explains the numbering. A test can override
it: ``POST /_control/script {"scenarios": ["ack_error"], "recipient": "5511…"}``.

Control API, in addition to that of ``simulators.base`` (requests, book, webhooks, scenarios,
script, settings, settle):

- ``GET /_control/sessions`` the state of every session
- ``POST /_control/sessions/{id}`` ``{"action": …}``, one of ``ACTIONS``
- ``POST /_control/restart`` the server restarts: ``{"downtime_seconds": 0}``; the browsers stop,
  and sessions with a folder start again
- ``POST /_control/inbound`` a customer writes: ``{"session", "from", "text", "name"}``; ``key_id``
  if another server reported the same message, ``chat`` if WhatsApp Web shows it under a
  ``…@lid``, ``silent`` to post no callback; ``type`` and ``data`` (base64) for a file
- ``POST /_control/callback`` any callback, unchanged: ``{"session", "kind", "data"}``
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import dataclasses
import html
import io
import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import segno
from aiohttp import web

from simulators.base import (
    ControlError,
    JsonObject,
    LedgerEntry,
    Scenario,
    Simulator,
    control_body,
    example_number,
    fallback_digits,
    only_digits,
    reset_connection,
    wait_for_client,
    whatsapp_id,
)
from simulators.wwebjs import page
from simulators.wwebjs.browsers import ACTIONS, Browsers, Session, WwebjsSettings
from simulators.wwebjs.tables import (
    BAD_PAIRING_NUMBER,
    DETACHED,
    DOLLAR_BUILD,
    INVALID_WID,
    NO_LID,
    NO_QR,
    NOT_BASE64,
    NOT_READY,
    PROTOCOL_TIMEOUT,
    SCENARIOS,
    WwebjsScenario,
)

__all__ = ["ACTIONS", "SCENARIOS", "WwebjsSettings", "WwebjsSimulator", "create_app", "describe"]

WEB_VERSION = "2.3000.1043280533-sim"
_CARD = "BEGIN:VCARD"
_CHAT_ID = re.compile(r"\d+(-\d+)?@(c\.us|g\.us|lid|s\.whatsapp\.net|newsletter)")
_SESSION_ID = re.compile(r"[\w-]+", re.ASCII)
_BODY_SLACK = 1_000_000
_HEADERS = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true"}
_NO_CACHE = {"Cache-Control": "no-cache, no-store, must-revalidate", "Expires": "0"}
_PAGE = (
    '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n'
    "</head>\n<body>\n<pre>{}</pre>\n</body>\n</html>\n"
)


class ErrorResponse(Exception):
    """A JSON error response: status and text."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


Handler = Callable[[web.Request, str, JsonObject], Awaitable[web.StreamResponse]]


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """One Express route; ``needs_session`` validates the session before the handler."""

    method: str
    path: re.Pattern[str]
    handler: Handler
    needs_session: bool


class WwebjsSimulator(Simulator):
    """State and routes of the simulated server."""

    name = "wwebjs"
    scenarios = SCENARIOS

    def __init__(self, settings: WwebjsSettings) -> None:
        super().__init__(settings)
        self.settings: WwebjsSettings = settings
        self.browsers = Browsers(settings, self.spawn, self._callback)
        self._chats: dict[str, dict[str, list[JsonObject]]] = {}
        self._files: dict[str, JsonObject] = {}
        self._routes = self._route_table()
        self._down_until = 0.0

    @classmethod
    def example(cls, scenario: Scenario) -> str:
        # Graph rejects these with 131047, which triggers the fallback.
        return example_number(graph="47", fallback=scenario.digits)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/_control/sessions", self._control_sessions)
        router.add_post("/_control/sessions/{id}", self._control_session)
        router.add_post("/_control/restart", self._control_restart)
        router.add_post("/_control/inbound", self._control_inbound)
        router.add_post("/_control/callback", self._control_callback)
        router.add_route("*", "/{tail:.*}", self._dispatch)

    async def on_start(self) -> None:
        for session_id in self.settings.ready_sessions:
            self.browsers.make_ready(session_id)

    # -- Express -----------------------------------------------------------------------------

    def _route_table(self) -> list[Route]:
        def route(method: str, path: str, handler: Handler, *, bare: bool = False) -> Route:
            pattern = re.escape(path).replace(":id", "(?P<id>[^/]+)") + "/?"
            needs_session = not bare and not path.startswith("/session/")
            return Route(method, re.compile(pattern, re.IGNORECASE), handler, needs_session)

        return [
            route("GET", "/session/getSessions", self._get_sessions),
            route("GET", "/session/terminateInactive", self._terminate_inactive),
            route("GET", "/session/terminateAll", self._terminate_all),
            route("GET", "/session/start/:id", self._start),
            route("GET", "/session/stop/:id", self._stop),
            route("GET", "/session/status/:id", self._status),
            route("GET", "/session/qr/:id", self._qr),
            route("GET", "/session/qr/:id/image", self._qr_image),
            route("GET", "/session/restart/:id", self._restart),
            route("GET", "/session/terminate/:id", self._terminate),
            route("GET", "/session/getPageScreenshot/:id", self._screenshot),
            route("POST", "/session/requestPairingCode/:id", self._pairing_code),
            route("GET", "/client/getState/:id", self._get_state, bare=True),
            route("GET", "/client/getClassInfo/:id", self._class_info),
            route("GET", "/client/getWWebVersion/:id", self._web_version),
            route("GET", "/client/getChats/:id", self._get_chats),
            route("POST", "/client/sendMessage/:id", self._send_message),
            route("POST", "/client/getNumberId/:id", self._get_number_id),
            route("POST", "/client/isRegisteredUser/:id", self._is_registered),
            route("POST", "/client/getContactLidAndPhone/:id", self._lid_and_phone),
            route("POST", "/client/getFormattedNumber/:id", self._formatted_number),
            route("POST", "/client/sendSeen/:id", self._true_result),
            route("POST", "/client/sendPresenceAvailable/:id", self._bare_success),
            route("POST", "/client/sendPresenceUnavailable/:id", self._bare_success),
            route("POST", "/client/runMethod/:id", self._run_method),
            route("POST", "/chat/fetchMessages/:id", self._fetch_messages),
            route("POST", "/chat/sendStateTyping/:id", self._true_result),
            route("POST", "/message/getClassInfo/:id", self._message_info),
            route("POST", "/message/downloadMedia/:id", self._download_media),
            route("POST", "/message/react/:id", self._react),
        ]

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        """Check in the order of Express: body, key, route, session id, session (§1, §2)."""
        if time.monotonic() < self._down_until:
            return reset_connection(request)
        raw = await request.read()
        if len(raw) > self.settings.max_attachment_size + _BODY_SLACK:
            return _page("Payload Too Large", 413)
        try:
            body = _parse_body(request, raw)
        except ValueError:
            return _page("Bad Request", 400)
        path = request.path
        base = self.settings.base_path.rstrip("/")
        if not path.startswith(base):
            return _not_found(request)
        path = path[len(base) :]
        if request.method == "GET" and re.fullmatch(r"(?i)/ping/?", path):
            return _answer({"success": True, "message": "pong"})
        if re.match(r"(?i)/(session|client|chat|message|contact|groupChat|channel)(/|$)", path):
            key = self.settings.api_key
            if key and request.headers.get("x-api-key") != key:
                return _failure(403, "Invalid API key")
        for route in self._routes:
            match = route.path.fullmatch(path)
            if match and route.method == request.method:
                return await self._run(route, request, match.groupdict().get("id"), body)
        return _not_found(request)

    async def _run(
        self, route: Route, request: web.Request, session_id: str | None, body: JsonObject
    ) -> web.StreamResponse:
        if session_id is not None and not _SESSION_ID.fullmatch(session_id):
            return _failure(422, "Session should be alphanumerical or -")
        try:
            if route.needs_session:
                valid, _, message = await self.browsers.validate(session_id or "")
                if not valid:
                    return _failure(404, message)
            return await route.handler(request, session_id or "", body)
        except ErrorResponse as error:
            # Page errors may carry the prefix of puppeteer (§7.9).
            prefix = self.settings.error_prefix if error.status == 500 else ""
            return _failure(error.status, prefix + error.error)

    # -- sessions ----------------------------------------------------------------------------

    async def _start(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        if id in self.browsers.sessions:
            return _failure(422, f"Session already exists for: {id}")
        if id in self.browsers.starting:
            folder = f"/usr/src/app/sessions/session-{id}"
            raise ErrorResponse(
                422,
                f"The browser is already running for {folder}. Use a different `userDataDir` or"
                " stop the running browser first.",
            )
        self.browsers.starting.add(id)
        try:
            failure = self.settings.start_failure
            if failure == "blank":
                await asyncio.sleep(self.settings.blank_seconds)
                return _answer({"success": False}, 422)
            if failure == "stuck":
                await asyncio.sleep(self.settings.protocol_timeout)
                raise ErrorResponse(422, PROTOCOL_TIMEOUT)
            if failure:
                raise ErrorResponse(422, "net::ERR_NAME_NOT_RESOLVED at https://web.whatsapp.com/")
            await self.browsers.open(id)
        finally:
            self.browsers.starting.discard(id)
        return _answer({"success": True, "message": "Session initiated successfully"})

    async def _stop(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        self.browsers.close(id)
        return _answer({"success": True, "message": "Session stopped successfully"})

    async def _status(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        valid, state, message = await self.browsers.validate(id)
        return _answer({"success": valid, "state": state, "message": message})

    async def _qr(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        session = self.browsers.sessions.get(id)
        if session is None or session.qr is None:
            message = NO_QR if session else "session_not_found"
            return _answer({"success": False, "message": message})
        return _answer({"success": True, "qr": session.qr}, headers=_NO_CACHE)

    async def _qr_image(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        session = self.browsers.sessions.get(id)
        if session is None or session.qr is None:
            return await self._qr(request, id, body)
        return _png(session.qr, _NO_CACHE)

    async def _screenshot(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        session = self.browsers.sessions.get(id)
        if session is None:
            return _answer({"success": False, "message": "session_not_found"})
        if session.zombie:
            raise ErrorResponse(500, DETACHED)
        return _png(session.qr or session.state)

    async def _pairing_code(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        if id not in self.browsers.sessions:
            return _answer({"success": False, "message": "session_not_found"})
        number = body.get("phoneNumber")
        if not isinstance(number, str) or not number.isdigit():
            raise ErrorResponse(500, BAD_PAIRING_NUMBER)
        code = "ABCD" + secrets.token_hex(2).upper()
        self._callback(id, "code", {"code": code})
        return _answer({"success": True, "result": code})

    async def _restart(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        if id not in self.browsers.sessions:
            return await self._status(request, id, body)
        if not await self.browsers.restart(id):
            raise ErrorResponse(500, PROTOCOL_TIMEOUT)
        return _answer({"success": True, "message": "Restarted successfully"})

    async def _terminate(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        if id not in self.browsers.sessions:
            return await self._status(request, id, body)
        self._delete_session(id)
        return _answer({"success": True, "message": "Logged out successfully"})

    def _delete_session(self, session_id: str) -> None:
        self.browsers.delete_session(session_id)
        self._chats.pop(session_id, None)

    async def _terminate_inactive(
        self, request: web.Request, id: str, body: JsonObject
    ) -> web.Response:
        for session in tuple(self.browsers.sessions.values()):
            unresponsive = session.crashed or session.frozen
            if session.zombie or unresponsive or session.state != "CONNECTED":
                self._delete_session(session.id)
        return _answer({"success": True, "message": "Flush completed successfully"})

    async def _terminate_all(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        for session_id in tuple(self.browsers.sessions):
            self._delete_session(session_id)
        return _answer({"success": True, "message": "Flush completed successfully"})

    async def _get_sessions(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        return _answer({"success": True, "result": list(self.browsers.sessions)})

    async def _get_state(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        session = self.browsers.sessions.get(id)
        if session is None:
            raise ErrorResponse(500, "Cannot read properties of undefined (reading 'getState')")
        if session.zombie:
            raise ErrorResponse(500, DETACHED)
        return _answer({"success": True, "state": session.state})

    async def _class_info(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        session = self.browsers.sessions[id]
        if not session.info_number:
            return _answer({"success": True})
        number = self.settings.own_number if session.ready else session.info_number
        me = page.wid(f"{number}@c.us")
        if self.settings.nameless_info:
            del me["user"]
        info = {"pushname": self.settings.pushname, "wid": me, "me": me, "platform": "android"}
        return _answer({"success": True, "sessionInfo": info})

    async def _web_version(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        return _answer({"success": True, "result": WEB_VERSION})

    # -- sending -----------------------------------------------------------------------------

    async def _send_message(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        session = self.browsers.sessions[id]
        chat_id = body.get("chatId")
        scenario = self._scenario(chat_id)
        if scenario.answer == "session_error":
            raise ErrorResponse(404, scenario.error)
        if scenario.answer == "session_timeout":
            await wait_for_client(request, self.settings.protocol_timeout)
            raise ErrorResponse(404, PROTOCOL_TIMEOUT)

        options: JsonObject = {"waitUntilMsgSent": True, **_object(body.get("options"))}
        content = await self._content(body, options)
        if not session.ready:
            raise ErrorResponse(500, NOT_READY)
        if not isinstance(chat_id, str) or not _CHAT_ID.fullmatch(chat_id):
            raise ErrorResponse(500, INVALID_WID)
        if not scenario.registered:
            raise ErrorResponse(500, NO_LID)
        return await self._play(request, session, chat_id, content, options, scenario)

    def _scenario(self, chat_id: Any, *, consume: bool = True) -> WwebjsScenario:
        is_person = isinstance(chat_id, str) and not chat_id.endswith(("@g.us", "@lid"))
        recipient = str(chat_id) if is_person else ""
        scenario = self.choose(recipient, fallback_digits(recipient), consume=consume)
        assert isinstance(scenario, WwebjsScenario)
        return scenario

    async def _content(self, body: JsonObject, options: JsonObject) -> page.Content:
        """Return the content that the controller sends, or raise its error (§3)."""
        kind, content = body.get("contentType"), body.get("content")
        if kind == "string":
            attached = options.get("media")
            if attached:
                file = _object(attached)
                if not file.get("mimetype") or not file.get("data"):
                    raise ErrorResponse(400, "invalid media options")
                _check_base64(file["data"])
                return page.media(file["mimetype"], file.get("filename"), options, content)
            # The capture does not show the outcome; the simulator sends nothing (capture 330).
            if content is not None and not isinstance(content, str):
                raise ErrorResponse(500, '(t || "").match is not a function')
            if options.get("parseVCards", True) is not False and str(content).startswith(_CARD):
                return page.vcard(str(content))
            return page.text(content)
        if kind == "MessageMedia":
            file = _object(content)
            _check_base64(file.get("data"))
            caption = options.get("caption")
            return page.media(str(file.get("mimetype")), file.get("filename"), options, caption)
        if kind == "MessageMediaFromURL":
            mimetype, filename = await self._fetch(content)
            return page.media(mimetype, filename, options, options.get("caption"))
        if kind == "Location":
            location = _properties(content, "latitude")
            return page.location(
                location.get("latitude"), location.get("longitude"), location.get("description")
            )
        if kind == "Contact":
            contact_id = _properties(content, "contactId").get("contactId")
            if not isinstance(contact_id, str):
                raise ErrorResponse(500, "Cannot read properties of undefined (reading 'endsWith')")
            return page.contact(contact_id)
        if kind == "Poll":
            poll = _properties(content, "pollName")
            many = bool(_object(poll.get("options")).get("allowMultipleAnswers"))
            return page.poll(poll.get("pollName"), poll.get("pollOptions"), many)
        raise ErrorResponse(400, "invalid contentType")

    async def _fetch(self, url: Any) -> tuple[str, str]:
        """Return type and name of the file at a URL; the HTTP status is ignored (§3)."""
        parts = urlsplit(url) if isinstance(url, str) else None
        if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ErrorResponse(500, "Invalid URL")
        try:
            async with self.client.get(url) as answer:
                await answer.read()
                mimetype = answer.headers.get("Content-Type", "application/octet-stream")
        except aiohttp.ClientConnectorError:
            reason = f"connect ECONNREFUSED {parts.hostname}:{parts.port or 443}"
            raise ErrorResponse(500, f"request to {url} failed, reason: {reason}") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ErrorResponse(500, f"request to {url} failed, reason: {error}") from None
        return mimetype, parts.path.rpartition("/")[2]

    async def _play(
        self,
        request: web.Request,
        session: Session,
        chat_id: str,
        content: page.Content,
        options: JsonObject,
        scenario: WwebjsScenario,
    ) -> web.Response:
        if scenario.answer == "html_502":
            return _page("502 Bad Gateway", 502)
        if scenario.answer == "html_200":
            return _page("Please sign in", 200)
        if scenario.answer == "bare" and scenario.delivery == "no":
            return _answer({"success": True})
        if scenario.answer == "error" and scenario.delivery == "no":
            raise ErrorResponse(500, scenario.error)
        if scenario.answer == "reset" and scenario.delivery == "no":
            return reset_connection(request)

        waits = bool(options["waitUntilMsgSent"])
        dollar = scenario.dollar_id or self.settings.dollar_ids
        message = page.new_message(
            me=self.settings.own_number,
            to=_remote(chat_id, scenario),
            content=content,
            options=options,
            now=int(time.time()),
            ack=0,
            dollar=dollar,
        )
        wanted = options.get("quotedMessageId")
        quoted = self._find_message(session.id, wanted)
        if wanted and quoted is None and options.get("ignoreQuoteErrors") is False:
            # By default the page ignores an unknown id (whatsapp-web.js, Injected/Utils.js).
            raise ErrorResponse(500, "Could not get the quoted message.")
        if quoted is not None:
            page.quote(message, quoted)
        entry = self._store_sent(session, chat_id, message, scenario)
        if scenario.answer == "protocol_timeout":
            if scenario.delivery == "yes":
                self._deliver(session, message, entry, scenario)
            elif scenario.delivery == "late":
                self.spawn(self._deliver_late(session, message, entry, scenario))
            await wait_for_client(request, self.settings.protocol_timeout)
            raise ErrorResponse(500, PROTOCOL_TIMEOUT)
        if waits:
            await asyncio.sleep(self.settings.send_seconds)
            page.set_ack(message, scenario.ack)
        # Serialized before later acks change the message.
        answer = json.dumps({"success": True, "message": message}, ensure_ascii=False)
        self._deliver(session, message, entry, scenario)

        if scenario.answer == "error":
            raise ErrorResponse(500, scenario.error)
        if scenario.answer == "reset":
            return reset_connection(request)
        if scenario.answer == "empty":
            return _body(b"", "application/json; charset=utf-8")
        if scenario.answer == "not_json":
            return _body(answer[:40].encode(), "application/json; charset=utf-8")
        # The library looks up its message by _serialized and finds none (capture 410).
        if scenario.answer == "bare" or self.settings.dollar_ids:
            return _answer({"success": True})
        return _answer(json.loads(answer))

    def _store_sent(
        self, session: Session, chat_id: str, message: JsonObject, scenario: WwebjsScenario
    ) -> LedgerEntry:
        self._chat(session.id, chat_id).append(message)
        self._callback(session.id, "message_create", {"message": message})
        return self.book.add(
            LedgerEntry(
                id=message["id"]["id"],
                sender=session.id,
                to=only_digits(chat_id),
                type=message["type"],
                text=str(message["body"]),
                reference="",
                scenario=scenario.name,
                delivered=False,
            )
        )

    def _deliver(
        self, session: Session, message: JsonObject, entry: LedgerEntry, scenario: WwebjsScenario
    ) -> None:
        wrong_form = scenario.without_ninth_digit and len(entry.to) == 13
        entry.delivered = scenario.delivery != "no" and not wrong_form
        if scenario.ack < 0:
            self._ack(session, message, scenario.ack)
            return
        last_ack = scenario.last_ack if entry.delivered else 1
        self.spawn(self._acks(session, message, last_ack))
        if entry.delivered and self.settings.echo_url:
            self.spawn(self._echo(message))

    async def _deliver_late(
        self, session: Session, message: JsonObject, entry: LedgerEntry, scenario: WwebjsScenario
    ) -> None:
        await asyncio.sleep(self.settings.protocol_timeout + self.settings.late_delivery_seconds)
        self._deliver(session, message, entry, scenario)

    async def _acks(self, session: Session, message: JsonObject, last_ack: int) -> None:
        for ack in range(1, last_ack + 1):
            if ack > 1 or message["ack"] == 0:
                await asyncio.sleep(self.settings.ack_delay)
            self._ack(session, message, ack)

    def _ack(self, session: Session, message: JsonObject, ack: int) -> None:
        page.set_ack(message, ack)
        self._callback(session.id, "message_ack", {"message": message, "ack": ack})

    async def _echo(self, message: JsonObject) -> None:
        command = {
            "to": only_digits(message["to"]),
            "text": message["body"],
            "key_id": message["id"]["id"],
        }
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.client.post(self.settings.echo_url, json=command):
                pass

    # -- numbers and messages ----------------------------------------------------------------

    def _lookup(self, number: Any) -> JsonObject | None:
        """Return the account of a number, or None (§3, number checks)."""
        if number is None:
            raise ErrorResponse(500, "Cannot read properties of undefined (reading 'endsWith')")
        if not isinstance(number, str):
            raise ErrorResponse(500, "number.endsWith is not a function")
        digits = number.removesuffix("@c.us")
        if not digits.isdigit():
            raise ErrorResponse(500, INVALID_WID)
        scenario = self._scenario(digits, consume=False)
        if scenario.lookup_error:
            raise ErrorResponse(500, scenario.lookup_error)
        if not scenario.registered:
            return None
        if scenario.without_ninth_digit and len(digits) == 13:
            return page.wid(f"{digits[:4]}{digits[5:]}@c.us")
        return page.wid(f"{whatsapp_id(digits)}@c.us")

    async def _get_number_id(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        return _answer({"success": True, "result": self._lookup(body.get("number"))})

    async def _is_registered(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        return _answer({"success": True, "result": self._lookup(body.get("number")) is not None})

    async def _lid_and_phone(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        found: list[JsonObject] = []
        for user_id in body.get("userIds") or []:
            known = self._lookup(user_id)
            user = str(user_id).removesuffix("@c.us")
            found.append({"lid": f"20{user}@lid", "pn": f"{user}@c.us"} if known else {})
        return _answer({"success": True, "data": found})

    async def _formatted_number(
        self, request: web.Request, id: str, body: JsonObject
    ) -> web.Response:
        return _answer({"success": True, "result": "+" + only_digits(str(body.get("number")))})

    async def _true_result(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        return _answer({"success": True, "result": True})

    async def _bare_success(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        return _answer({"success": True})

    def _chat(self, session_id: str, chat_id: str) -> list[JsonObject]:
        return self._chats.setdefault(session_id, {}).setdefault(chat_id, [])

    def _readable_chat(self, session_id: str, chat_id: str) -> list[JsonObject]:
        """Return the messages of a chat; builds with $1 ids fail (captures 411-415)."""
        if not self.browsers.sessions[session_id].ready:
            raise ErrorResponse(500, NOT_READY)
        messages = self._chats.get(session_id, {}).get(chat_id, [])
        if messages and self.settings.dollar_ids:
            raise ErrorResponse(500, DOLLAR_BUILD)
        return messages

    async def _fetch_messages(
        self, request: web.Request, id: str, body: JsonObject
    ) -> web.Response:
        wanted = _object(body.get("searchOptions"))
        messages = self._readable_chat(id, str(body.get("chatId")))
        if "fromMe" in wanted:
            messages = [m for m in messages if m["fromMe"] is bool(wanted["fromMe"])]
        if isinstance(wanted.get("since"), int | float):
            messages = [m for m in messages if m["timestamp"] >= wanted["since"]]
        limit = wanted.get("limit")
        if isinstance(limit, int) and limit > 0:
            messages = messages[-limit:]
        return _answer({"success": True, "messages": messages})

    async def _get_chats(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        chats = [
            {
                "id": page.wid(chat_id),
                "name": chat_id.partition("@")[0],
                "isGroup": chat_id.endswith("@g.us"),
                "unreadCount": 0,
                "timestamp": messages[-1]["timestamp"],
                "archived": False,
                "pinned": False,
                "isMuted": False,
                "muteExpiration": 0,
            }
            for chat_id in self._chats.get(id, {})
            if (messages := self._readable_chat(id, chat_id))
        ]
        return _answer({"success": True, "chats": chats})

    async def _message_info(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        for message in self._readable_chat(id, str(body.get("chatId"))):
            if message["id"]["id"] == body.get("messageId"):
                return _answer({"success": True, "message": message})
        raise ErrorResponse(500, "Message not found")

    async def _download_media(
        self, request: web.Request, id: str, body: JsonObject
    ) -> web.Response:
        for message in self._readable_chat(id, str(body.get("chatId"))):
            if message["id"]["id"] == body.get("messageId"):
                break
        else:
            raise ErrorResponse(500, "Message not found")
        if not message.get("hasMedia"):
            raise ErrorResponse(500, "Message media not found")
        return _answer({"success": True, "messageMedia": self._files[message["id"]["id"]]})

    async def _run_method(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        method, argument = body.get("method"), body.get("options")
        if method == "getState":
            return _answer({"success": True, "data": self.browsers.sessions[id].state})
        if method == "getNumberId":
            return _answer({"success": True, "data": self._lookup(argument)})
        if method != "getMessageById":
            raise ErrorResponse(500, f"Method {method} is not implemented")
        found = self._find_message(id, argument)
        return _answer({"success": True, **({"data": found} if found is not None else {})})

    def _find_message(self, session_id: str, serialized: Any) -> JsonObject | None:
        """Return the session's message with exactly this serialized id."""
        for messages in self._chats.get(session_id, {}).values():
            for message in messages:
                key = message["id"]
                if serialized and serialized in (key.get("_serialized"), key.get("$1")):
                    return message
        return None

    async def _react(self, request: web.Request, id: str, body: JsonObject) -> web.Response:
        """React as wwebjs-api does: the message by its short id in the chat (messageController)."""
        chat_id, emoji = str(body.get("chatId")), str(body.get("reaction", ""))
        messages = self._readable_chat(id, chat_id)
        if not any(one["id"]["id"] == body.get("messageId") for one in messages):
            raise ErrorResponse(500, "Message not found")
        self.book.add(
            LedgerEntry(
                id="3EB0" + secrets.token_hex(9).upper(),
                sender=id,
                to=only_digits(chat_id),
                type="reaction",
                text=emoji,
                reference="",
                scenario="ok",
                delivered=True,
            )
        )
        # The library returns nothing, so the server's `result` is missing.
        return _answer({"success": True})

    # -- callbacks ---------------------------------------------------------------------------

    def _callback(self, session_id: str, kind: str, data: JsonObject | None = None) -> None:
        """Post an event once, without retry or signature (§4)."""
        if not self.settings.webhook_url or kind in self.settings.disabled_callbacks:
            return
        event: JsonObject = {"dataType": kind}
        if data is not None:
            event["data"] = data
        event["sessionId"] = session_id
        raw = json.dumps(event, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "axios/1.15.2"}
        if self.settings.api_key:
            headers["x-api-key"] = self.settings.api_key
        self.spawn(self._post_callback(raw, headers))

    async def _post_callback(self, raw: bytes, headers: dict[str, str]) -> None:
        await self.post_webhook(self.settings.webhook_url, raw, headers)

    # -- control API -------------------------------------------------------------------------

    async def _control_sessions(self, request: web.Request) -> web.Response:
        return _answer(
            {
                "sessions": [
                    dataclasses.asdict(session) for session in self.browsers.sessions.values()
                ],
                "starting": sorted(self.browsers.starting),
                "paired": sorted(self.browsers.paired),
                "folders": sorted(self.browsers.folders),
            }
        )

    async def _control_restart(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        self._down_until = time.monotonic() + float(command.get("downtime_seconds", 0))
        await self.browsers.restart_server()
        return await self._control_sessions(request)

    async def _control_session(self, request: web.Request) -> web.Response:
        action = str((await control_body(request)).get("action"))
        session_id = request.match_info["id"]
        if action not in ACTIONS:
            raise ControlError(f"action must be one of {', '.join(ACTIONS)}")
        if action == "make_ready":
            self.browsers.make_ready(session_id)
        session = self.browsers.sessions.get(session_id)
        if session is None:
            raise ControlError(f"no such session: {session_id}")
        if action != "make_ready":
            await self.browsers.apply_action(session, action)
        return _answer(dataclasses.asdict(session))

    async def _control_inbound(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        session_id = str(command.get("session") or next(iter(self.browsers.sessions), ""))
        sender = whatsapp_id(str(command.get("from") or ""))
        chat = str(command.get("chat") or f"{sender}@c.us")
        if session_id not in self.browsers.sessions or not sender:
            raise ControlError("session must be known and from a customer's number")
        message = page.new_inbound(
            me=self.settings.own_number,
            chat=chat,
            name=str(command.get("name") or f"Cliente {sender[-4:]}"),
            body=str(command.get("text", "")),
            now=int(time.time()),
            key=str(command.get("key_id") or ""),
        )
        if data := command.get("data"):
            message |= {"hasMedia": True, "type": str(command.get("type") or "image")}
            file = {"mimetype": str(command.get("mime_type") or "image/png"), "data": str(data)}
            self._files[message["id"]["id"]] = {**file, "filename": None, "filesize": len(data)}
        self._chat(session_id, chat).append(message)
        if not command.get("silent"):
            self._callback(session_id, "message_create", {"message": message})
            self._callback(session_id, "message", {"message": message})
        return _answer({"message": message})

    async def _control_callback(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        session_id = str(command.get("session") or next(iter(self.browsers.sessions), ""))
        self._callback(session_id, str(command.get("kind")), _object(command.get("data")))
        return _answer({"success": True})


# -- shapes ------------------------------------------------------------------------------------


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _properties(value: Any, name: str) -> JsonObject:
    """Read a property of a value as JavaScript does, including its error."""
    if value is None:
        raise ErrorResponse(500, f"Cannot read properties of undefined (reading '{name}')")
    return value if isinstance(value, dict) else {}


def _check_base64(data: Any) -> None:
    try:
        base64.b64decode(str(data or "!"), validate=True)
    except binascii.Error:
        raise ErrorResponse(500, NOT_BASE64) from None


def _parse_body(request: web.Request, raw: bytes) -> JsonObject:
    """Parse a request body as body-parser does; raises ValueError like it."""
    if not raw or request.content_type != "application/json":
        return {}
    body = json.loads(raw)
    if not isinstance(body, dict | list):
        raise ValueError("only objects and arrays are accepted")
    return body if isinstance(body, dict) else {}


def _remote(chat_id: str, scenario: WwebjsScenario) -> str:
    return f"1{only_digits(chat_id)}@lid" if scenario.lid_remote else chat_id


def _png(content: str, headers: dict[str, str] | None = None) -> web.Response:
    picture = io.BytesIO()
    segno.make(content, micro=False).save(picture, kind="png", scale=5, border=4)
    return _body(picture.getvalue(), "image/png", headers=headers)


def _answer(
    data: JsonObject, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    raw = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
    return _body(raw, "application/json; charset=utf-8", status, headers)


def _failure(status: int, error: str) -> web.Response:
    return _answer({"success": False, "error": error}, status)


def _page(text: str, status: int) -> web.Response:
    return _body(_PAGE.format(text).encode(), "text/html; charset=utf-8", status)


def _not_found(request: web.Request) -> web.Response:
    path = html.escape(request.rel_url.raw_path)
    return _page(f"Cannot {request.method} {path}", 404)


def _body(
    raw: bytes, content_type: str, status: int = 200, headers: dict[str, str] | None = None
) -> web.Response:
    return web.Response(
        body=raw,
        status=status,
        headers={**_HEADERS, **(headers or {}), "Content-Type": content_type},
    )


def create_app(settings: WwebjsSettings | None = None) -> web.Application:
    """Build the simulated wwebjs-api as an aiohttp application."""
    return WwebjsSimulator(settings or WwebjsSettings()).application()


def describe() -> list[JsonObject]:
    """Return the scenario table with an example number for each."""
    return WwebjsSimulator(WwebjsSettings()).describe()
