"""A simulated Acme. Like every simulator it imports no app.

``/{line}/messages`` takes a message by POST and lists accepted ones by GET (``?to=&since=`` or
``?id=``). ``/{line}/session`` has the state of the line (GET), starts it (POST) and stops it
(DELETE, ``?unlink=1`` forgets the phone). Every request needs the header ``X-Acme-Key``.

The two digits before the last two of a recipient like +55 11 99999-FF00 select the scenario of a
send (``simulators.base``). In addition to the control API of ``simulators.base``:

- ``POST /_control/scan`` a phone scans the code: ``{"number"}``
- ``POST /_control/inbound`` a customer writes: ``{"from", "text"}``; with ``"outgoing": true`` we
  wrote it on the linked phone
- ``POST /_control/change`` a message is edited or deleted: ``{"id", "event": "edited", "text"}``
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from aiohttp import web

from simulators.base import (
    JsonObject,
    LedgerEntry,
    Scenario,
    Simulator,
    control_body,
    example_number,
    fallback_digits,
    hang,
    only_digits,
    reset_connection,
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AcmeScenario(Scenario):
    """The answer to a send; `accepted` and `failed` say what becomes of the message."""

    answer: Literal["ok", "hang", "reset", "html_502", "html_200", "empty", "not_json"] = "ok"
    refusal: tuple[int, str] | None = None
    accepted: bool = True
    failed: bool = False


def _scenario(name: str, digits: str, english: str, **fields: object) -> AcmeScenario:
    return AcmeScenario(name=name, digits=digits, english=english, portuguese=english, **fields)  # type: ignore[arg-type]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        _scenario("ok", "00", "202, then sent, delivered and read"),
        _scenario("fails_late", "03", "202, then failed", failed=True),
        _scenario("no_account", "06", "422 no_account", refusal=(422, "no_account")),
        _scenario("bad_content", "07", "400 bad_content", refusal=(400, "bad_content")),
        _scenario("slow_down", "08", "429 slow_down", refusal=(429, "slow_down")),
        _scenario("hang_lost", "20", "no answer, not accepted", answer="hang", accepted=False),
        _scenario("hang_delivered", "21", "no answer, but accepted", answer="hang"),
        _scenario("reset_before", "23", "reset, not accepted", answer="reset", accepted=False),
        _scenario("reset_after", "24", "reset, but accepted", answer="reset"),
        _scenario("html_502", "25", "502 page", answer="html_502", accepted=False),
        _scenario("html_200", "26", "200 page", answer="html_200", accepted=False),
        _scenario("empty", "27", "202 without a body, accepted", answer="empty"),
        _scenario("not_json", "28", "202 with broken JSON, accepted", answer="not_json"),
    )
}


@dataclasses.dataclass(slots=True)
class AcmeSettings:
    key: str = "acme-secret-key"
    line: str = "line-1"
    webhook_url: str = ""
    linked: bool = True
    hang_seconds: float = 60.0


class AcmeError(Exception):
    """An error answer: HTTP status and Acme's code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AcmeSimulator(Simulator):
    """State and routes of the simulated server."""

    name = "acme"
    scenarios = SCENARIOS

    def __init__(self, settings: AcmeSettings) -> None:
        super().__init__(settings)
        self.settings: AcmeSettings = settings
        self.number = "5511900000777" if settings.linked else ""
        self.state = "linked" if settings.linked else "off"
        self.messages: dict[str, JsonObject] = {}
        self._seq = 0

    @classmethod
    def example(cls, scenario: Scenario) -> str:
        return example_number(fallback=scenario.digits)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/_control/scan", self._control_scan)
        router.add_post("/_control/inbound", self._control_inbound)
        router.add_post("/_control/change", self._control_change)
        router.add_post("/{line}/messages", self._guarded(self._send))
        router.add_get("/{line}/messages", self._guarded(self._list))
        for method in ("GET", "POST", "DELETE"):
            router.add_route(method, "/{line}/session", self._guarded(self._session))

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                if request.headers.get("X-Acme-Key") != self.settings.key:
                    raise AcmeError(401, "bad_key")
                if request.match_info["line"] != self.settings.line:
                    raise AcmeError(404, "no_line")
                return await handler(request)
            except AcmeError as error:
                return web.json_response({"error": error.code}, status=error.status)

        return guarded

    # -- sending -----------------------------------------------------------------------------

    async def _send(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if self.state != "linked":
            raise AcmeError(503, "not_linked")
        scenario = self.choose(body["to"], fallback_digits(body["to"]))
        assert isinstance(scenario, AcmeScenario)
        if scenario.refusal is not None:
            raise AcmeError(*scenario.refusal)
        message_id = str(body.get("id") or f"ACME{secrets.token_hex(8)}")
        if scenario.accepted:
            self._accept(message_id, body, scenario)
        answer: JsonObject = {"id": message_id}
        if "id" in body:
            answer["own_id"] = True
        match scenario.answer:
            case "hang":
                return await hang(request, self.settings.hang_seconds)
            case "reset":
                return reset_connection(request)
            case "html_502":
                return web.Response(text="<h1>Bad Gateway</h1>", status=502)
            case "html_200":
                return web.Response(text="<h1>Please sign in</h1>", content_type="text/html")
            case "empty":
                return web.Response(status=202)
            case "not_json":
                return web.Response(text='{"id": "AC', status=202)
        return web.json_response(answer, status=202)

    def _accept(self, message_id: str, body: JsonObject, scenario: AcmeScenario) -> None:
        self.messages[message_id] = {**body, "id": message_id, "at": int(time.time())}
        self.book.add(
            LedgerEntry(
                id=message_id,
                sender=self.settings.line,
                to=body["to"],
                type=body["type"],
                text=str(body.get("text") or ""),
                reference=body["ref"],
                scenario=scenario.name,
                delivered=not scenario.failed,
            )
        )
        self.spawn(self._report(message_id, body, failed=scenario.failed))

    async def _report(self, message_id: str, body: JsonObject, *, failed: bool) -> None:
        for status in ["failed"] if failed else ["sent", "delivered", "read"]:
            reason = {"reason": "error"} if failed else {}
            await self.emit(
                "status",
                id=message_id,
                status=status,
                ref=body["ref"],
                customer=body["to"],
                **reason,
            )

    async def _list(self, request: web.Request) -> web.Response:
        query = request.query
        listed = [
            {"id": one["id"], "type": one["type"], "text": one.get("text")}
            for one in self.messages.values()
            if (one["id"] == query["id"] if "id" in query else one["to"] == query.get("to"))
            and one["at"] >= int(query.get("since", "0"))
        ]
        return web.json_response({"messages": listed})

    # -- session -----------------------------------------------------------------------------

    async def _session(self, request: web.Request) -> web.Response:
        if request.method == "POST" and self.state == "off":
            self.state = "linked" if self.number else "waiting"
        elif request.method == "DELETE":
            self.state = "off"
            if "unlink" in request.query:
                self.number = ""
        answer: JsonObject = {"state": self.state}
        if self.state == "linked":
            answer["number"] = self.number
        elif self.state == "waiting":
            answer["qr"] = "acme-link-code"
        return web.json_response(answer)

    # -- events ------------------------------------------------------------------------------

    async def emit(self, event: str, **fields: object) -> None:
        """Post an event. Acme numbers its events and repeats the key in each body."""
        self._seq += 1
        body = {"event": event, "line": self.settings.line, "key": self.settings.key,
                "seq": self._seq, "at": int(time.time()), **fields}  # fmt: skip
        if self.settings.webhook_url:
            headers = {"Content-Type": "application/json", "X-Acme-Key": self.settings.key}
            await self.post_webhook(self.settings.webhook_url, json.dumps(body).encode(), headers)

    # -- control API -------------------------------------------------------------------------

    async def _control_scan(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        self.number, self.state = only_digits(str(command["number"])), "linked"
        return web.json_response({"state": self.state})

    async def _control_inbound(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        message_id = f"IN{secrets.token_hex(8)}"
        customer = only_digits(str(command["from"]))
        outgoing = bool(command.get("outgoing"))
        await self.emit(
            "message", id=message_id, customer=customer, text=command["text"], outgoing=outgoing
        )
        return web.json_response({"id": message_id})

    async def _control_change(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        await self.emit(command["event"], id=command["id"], text=command.get("text", ""))
        return web.json_response({"changed": command["id"]})
