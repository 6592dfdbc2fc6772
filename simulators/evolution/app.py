"""A simulated Evolution API 2.3.x or 2.4 (HTTP and Socket.IO), quirks included.

Wire facts: `contracts/evolution-api.md`. `evolution_http` holds the routes, `evolution_core`
(instances) and `evolution_engine` (messages) what they do, `evolution_hub` how events leave,
`evolution_model` the settings and the scenario table.

The two digits before the last two of a recipient like +55 11 99999-FF00 choose what happens to a
send; `simulators.base` explains the numbering. A test may override it for one or all recipients:
`POST /_control/script {"scenarios": ["hang_delivered"], "recipient": "5511…"}`.

Control door, besides what `simulators.base` gives (requests, book, scenarios, script, settings,
settle); all bodies are JSON objects, `instance` is a name:

- `GET /_control/instances` state, queue length and clients of each instance, and the namespaces
- `POST /_control/scan` a phone scans the QR: `{"instance", "number"?, "name"?, "history"?}`;
  `history`: how many old messages come with the link, else the setting `history_messages`
- `POST /_control/drop` WhatsApp cuts the connection: `{"instance", "code": 428}`; 401, 402, 403
  and 406 log out; `"zombie": true` lets the state say open while sends fail
- `POST /_control/relink` somebody links another phone: `{"instance", "number"}`
- `POST /_control/restart` the whole server: `{"downtime_seconds": 0, "redial": true,
  "empty_webhooks": false}`; webhooks in retry are lost
- `GET /_control/ledger?instance=` the inbound messages that the instance has stored, oldest first
- `POST|GET|DELETE /_control/faults` planned misbehaviour: the fields of `Fault`, for example
  `{"path": "/webhook/set", "method": "POST", "mode": "status", "status": 500, "times": 2}`
- `POST /_control/inbound` a customer acts: `{"instance", "kind": "text", "from", "text", "id"?}`;
  kinds: `evolution_messages.INBOUND_KINDS` and `edit`, `revoke`, `delete` (with `target`), `call`;
  media take `base64` or `size` (bytes that are made up), `mimetype`, `caption`; also `group`,
  `lid`, `from_me`, `timestamp`, `name`, a raw `message`, and `"emit": false` for a message that is
  stored and never emitted
- `POST /_control/event` any event as it is: `{"instance", "event", "data", "extra"?,
  "socket_only"?}`
- `POST /_control/ack` a status update: `{"instance", "id", "status": "READ"}`; null has none
- `POST /_control/flood` a stream of texts: `{"instance", "count", "per_second", "prefix"?,
  "from"?}`; `GET /_control/floods` shows the progress
- `GET|DELETE /_control/events` the book of emitted events; `?instance= &event= &message_id=
  &after=<id> &limit= &payload=1 &lost=1`
- `GET|DELETE /_control/sent` the book of sends, with scenario and acks
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

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
)
from simulators.evolution.engine import EvolutionEngine
from simulators.evolution.http import EvolutionHttp, json_answer
from simulators.evolution.model import (
    SCENARIOS,
    EmittedEvent,
    EvolutionScenario,
    EvolutionSettings,
    Fault,
    Instance,
    InstanceSpec,
    SentMessage,
    StoredMessage,
)

__all__ = [
    "SCENARIOS",
    "SIMULATOR",
    "EvolutionScenario",
    "EvolutionSettings",
    "EvolutionSimulator",
    "Fault",
    "InstanceSpec",
    "create_app",
    "describe",
]

FAULT_MODES = ("status", "garbage", "html", "empty", "hang", "reset", "slow")
_NUMBER_LISTS = {"ack_delays": float, "webhook_not_retried": int}
_BY_DIGITS = {scenario.digits: scenario for scenario in SCENARIOS.values()}


class EvolutionSimulator(Simulator):
    """The simulated server with its control door."""

    name = "evolution"
    scenarios = SCENARIOS

    def __init__(self, settings: EvolutionSettings) -> None:
        super().__init__(settings)
        self.engine = EvolutionEngine(settings, self.spawn, self._record_sent)
        self.http = EvolutionHttp(self.engine, choose=self._choose, lookup=_by_digits)

    @classmethod
    def example(cls, scenario: Scenario) -> str:
        """A valid number that plays the scenario."""
        return example_number(fallback=scenario.digits)

    def _choose(self, number: str) -> EvolutionScenario:
        return SCENARIOS[self.choose(number, fallback_digits(number)).name]

    def _record_sent(self, sent: SentMessage) -> None:
        self.book.add(
            LedgerEntry(
                id=sent.message_id or "",
                sender=sent.instance,
                to=only_digits(sent.remote_jid or ""),
                type=sent.route,
                text=str(sent.body.get("text") or sent.body.get("caption") or ""),
                reference="",
                scenario=sent.scenario,
                delivered=sent.delivered,
            )
        )

    def application(self) -> web.Application:
        """The aiohttp application; long polls and sockets end before it stops."""
        app = super().application()
        app.on_shutdown.append(self._stop)
        return app

    async def on_start(self) -> None:
        """Open clients and set up the instances of the settings."""
        await self.engine.start()

    async def _stop(self, app: web.Application) -> None:
        await self.engine.stop()

    def add_routes(self, router: web.UrlDispatcher) -> None:
        """The control door's own routes, then everything else as Express would see it."""
        router.add_get("/_control/instances", self._control_instances)
        router.add_post("/_control/scan", self._control_scan)
        router.add_post("/_control/drop", self._control_drop)
        router.add_post("/_control/relink", self._control_relink)
        router.add_post("/_control/restart", self._control_restart)
        router.add_get("/_control/ledger", self._control_ledger)
        router.add_get("/_control/faults", self._control_list_faults)
        router.add_post("/_control/faults", self._control_add_fault)
        router.add_delete("/_control/faults", self._control_clear_faults)
        router.add_post("/_control/inbound", self._control_inbound)
        router.add_post("/_control/event", self._control_event)
        router.add_post("/_control/ack", self._control_ack)
        router.add_post("/_control/flood", self._control_flood)
        router.add_get("/_control/floods", self._control_floods)
        router.add_get("/_control/events", self._control_events)
        router.add_delete("/_control/events", self._control_clear_events)
        router.add_get("/_control/sent", self._control_sent)
        router.add_delete("/_control/sent", self._control_clear_sent)
        router.add_route("*", "/{path:.*}", self.http.handle)

    def change_settings(self, changes: JsonObject) -> None:
        """As in the base, and lists of numbers and `business_errors` too."""
        special: JsonObject = {}
        plain: JsonObject = {}
        for name, value in changes.items():
            if name == "instances":
                raise ControlError("instances are made at the start or by /instance/create")
            if name in _NUMBER_LISTS:
                special[name] = _numbers(name, value)
            elif name == "business_errors":
                if not isinstance(value, dict):
                    raise ControlError("business_errors must be an object")
                special[name] = value
            else:
                plain[name] = value
        super().change_settings(plain)
        for name, value in special.items():
            setattr(self.settings, name, value)

    # -- the control door ----------------------------------------------------------------------

    async def _command(self, request: web.Request) -> tuple[JsonObject, Instance]:
        command = await control_body(request)
        instance = self.engine.instances.get(str(command.get("instance")))
        if instance is None:
            raise ControlError(f"no such instance: {command.get('instance')!r}")
        return command, instance

    async def _control_instances(self, request: web.Request) -> web.Response:
        sockets = self.engine.hub.sockets
        return web.json_response(
            {
                "namespaces": sockets.namespaces,
                "root_clients": sockets.clients("/"),
                "instances": {
                    name: {
                        "state": instance.state,
                        "integration": instance.integration,
                        "paired": instance.paired,
                        "token": instance.token,
                        "queued": self.engine.queued(instance),
                        "clients": sockets.clients(f"/{name}"),
                    }
                    for name, instance in self.engine.instances.items()
                },
            }
        )

    async def _control_scan(self, request: web.Request) -> web.Response:
        command, instance = await self._command(request)
        try:
            await self.engine.scan(instance, number=command.get("number"), name=command.get("name"))
        except ValueError as error:
            raise ControlError(str(error)) from None
        await self.engine.sync_history(
            instance, int(command.get("history", self.settings.history_messages))
        )
        return web.json_response({"state": instance.state})

    async def _control_drop(self, request: web.Request) -> web.Response:
        command, instance = await self._command(request)
        if not instance.is_baileys:
            raise ControlError(f"{instance.name} has no WhatsApp connection to drop")
        if command.get("zombie"):
            instance.dead = True
        else:
            await self.engine.drop(instance, code=int(command.get("code", 428)))
        return web.json_response({"state": instance.state})

    async def _control_relink(self, request: web.Request) -> web.Response:
        command, instance = await self._command(request)
        await self.engine.relink(instance, number=str(command["number"]))
        return web.json_response({"state": instance.state})

    async def _control_restart(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        downtime = float(command.get("downtime_seconds", 0))
        self.http.reset_all()
        if downtime > 0:
            self.http.is_down = True
            asyncio.get_running_loop().call_later(downtime, self._end_downtime)
        await self.engine.restart(
            downtime_seconds=downtime,
            redial=bool(command.get("redial", True)),
            empty_webhooks=bool(command.get("empty_webhooks", False)),
        )
        return web.json_response({"restarted": True})

    async def _control_ledger(self, request: web.Request) -> web.Response:
        instance = self.engine.instances.get(request.query.get("instance", ""))
        if instance is None:
            raise ControlError("no such instance")
        rows = instance.messages.values()
        return json_answer([_inbound_entry(row) for row in rows if not row.key.get("fromMe")])

    def _end_downtime(self) -> None:
        self.http.is_down = False

    async def _control_list_faults(self, request: web.Request) -> web.Response:
        return web.json_response([fault.as_json() for fault in self.http.faults])

    async def _control_add_fault(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        known = {field.name for field in dataclasses.fields(Fault)}
        unknown = sorted(set(command) - known)
        if unknown or not {"path", "mode"} <= set(command):
            raise ControlError(f"a fault needs path and mode, and knows {sorted(known)}")
        if command["mode"] not in FAULT_MODES:
            raise ControlError(f"mode must be one of {', '.join(FAULT_MODES)}")
        fault = Fault(**command)
        if "status" not in command and fault.mode in ("garbage", "html", "empty"):
            fault.status = 200
        self.http.faults.append(fault)
        return web.json_response(fault.as_json())

    async def _control_clear_faults(self, request: web.Request) -> web.Response:
        self.http.faults.clear()
        return web.json_response({"cleared": True})

    async def _control_inbound(self, request: web.Request) -> web.Response:
        command, instance = await self._command(request)
        try:
            ids = await self.engine.receive(instance, command)
        except (KeyError, ValueError) as error:
            raise ControlError(f"inbound: {error}") from None
        return web.json_response(ids)

    async def _control_event(self, request: web.Request) -> web.Response:
        command, instance = await self._command(request)
        if not isinstance(command.get("event"), str):
            raise ControlError("event must be a dotted name such as messages.upsert")
        extra = command.get("extra")
        await self.engine.emit_raw(
            instance,
            command["event"],
            command.get("data"),
            extra=extra if isinstance(extra, dict) else None,
            socket_only=bool(command.get("socket_only")),
        )
        return web.json_response({"emitted": command["event"]})

    async def _control_ack(self, request: web.Request) -> web.Response:
        command, instance = await self._command(request)
        status = command.get("status")
        await self.engine.acknowledge(
            instance, str(command.get("id")), str(status) if status is not None else None
        )
        return web.json_response({"acknowledged": str(command.get("id")) in instance.messages})

    async def _control_flood(self, request: web.Request) -> web.Response:
        command, instance = await self._command(request)
        count = int(command.get("count", 0))
        per_second = float(command.get("per_second", 0))
        if count < 1 or per_second <= 0:
            raise ControlError("count and per_second must be above zero")
        progress = self.engine.flood(
            instance,
            count=count,
            per_second=per_second,
            prefix=str(command.get("prefix", "FLOOD")),
            sender=str(command.get("from", "5511988887777")),
        )
        return web.json_response(progress)

    async def _control_floods(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.engine.floods.values()))

    async def _control_events(self, request: web.Request) -> web.Response:
        query = request.query
        matching = [entry for entry in self.engine.books.events if _matches_query(entry, query)]
        limit = int(query.get("limit", "0"))
        if limit:
            matching = matching[:limit]
        payload = query.get("payload") == "1"
        return json_answer([entry.as_json(payload=payload) for entry in matching])

    async def _control_clear_events(self, request: web.Request) -> web.Response:
        self.engine.books.events.clear()
        return web.json_response({"cleared": True})

    async def _control_sent(self, request: web.Request) -> web.Response:
        return web.json_response([entry.as_json() for entry in self.engine.books.sent])

    async def _control_clear_sent(self, request: web.Request) -> web.Response:
        self.engine.books.sent.clear()
        return web.json_response({"cleared": True})


SIMULATOR: web.AppKey[EvolutionSimulator] = web.AppKey("evolution", EvolutionSimulator)
"""Where an application made by `create_app` keeps its simulator."""


def _inbound_entry(row: StoredMessage) -> JsonObject:
    return {
        "id": row.key["id"],
        "from": row.key["remoteJid"],
        "type": row.message_type,
        "text": row.message.get("conversation", ""),
        "at": row.timestamp,
    }


def _by_digits(number: str) -> EvolutionScenario:
    return _BY_DIGITS.get(fallback_digits(number), SCENARIOS["ok"])


def _numbers(name: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or any(
        isinstance(item, bool) or not isinstance(item, int | float) for item in value
    ):
        raise ControlError(f"{name} must be a list of numbers")
    return tuple(_NUMBER_LISTS[name](item) for item in value)


def _matches_query(entry: EmittedEvent, query: Any) -> bool:
    return (
        query.get("instance") in (None, entry.instance)
        and query.get("event") in (None, entry.event)
        and query.get("message_id") in (None, entry.message_id)
        and entry.id > int(query.get("after", "0"))
        and not (query.get("lost") == "1" and entry.reached)
    )


def create_app(settings: EvolutionSettings | None = None) -> web.Application:
    """The simulated Evolution API as an aiohttp application."""
    simulator = EvolutionSimulator(settings or EvolutionSettings())
    app = simulator.application()
    app[SIMULATOR] = simulator
    return app


def describe() -> list[JsonObject]:
    """The scenario table with an example number for each."""
    return EvolutionSimulator(EvolutionSettings()).describe()
