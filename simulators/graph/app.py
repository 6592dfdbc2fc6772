"""A simulated graph.facebook.com, limited to what WhatsApp messaging needs.

Wire facts: ``docs/providers/cloud.md`` (§1 sending, §2 errors, §3 webhooks, §4 coexistence).

The last two digits of a recipient like +55 11 99999-00GG select a scenario from
``simulators.graph.tables``; ``simulators.base`` explains the numbering. A test can override it:
``POST /_control/script {"scenarios": ["refused_131047"], "recipient": "5511…"}``.

Control API, in addition to that of ``simulators.base`` (requests, book, webhooks, scenarios,
script, settings, settle):

- ``POST /_control/inbound`` a customer writes: ``{"from", "text"}`` or ``{"from", "type",
  "content"}``; for media ``{"from", "type": "image", "data": <base64>, "mime_type"}``
- ``POST /_control/echo`` a message sent by the app or a companion: ``{"to", "text", "key_id"}``
- ``POST /_control/webhook`` any other field: ``{"field", "value"}``
- ``POST /_control/numbers`` add or change a phone number: the fields of ``GraphNumber``
- ``POST /_control/templates`` add or replace a template: its row as in Meta's list, ``waba_id``
- ``POST /_control/template_event`` change a template and report it: ``{"id", "event"}``, or
  ``{"id", "quality"}``, ``{"id", "category"}``, ``{"id", "components"}``; ``"silent": true``
  reports nothing

The text ``reject`` in a template's name has it rejected by the review; a utility template that
advertises becomes marketing.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import hashlib
import hmac
import json
import random
import re
import secrets
import time
from collections import Counter
from collections.abc import Coroutine
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
    graph_digits,
    hang,
    only_digits,
    reset_connection,
    whatsapp_id,
)
from simulators.graph import interactive, templates
from simulators.graph.tables import ERRORS, SCENARIOS, GraphScenario, http_status

__all__ = [
    "SCENARIOS",
    "GraphNumber",
    "GraphSettings",
    "GraphSimulator",
    "create_app",
    "describe",
    "make_wamid",
    "sign",
]

SERVICE_WINDOW_SECONDS = 24 * 3600
VERSION = r"v\d+\.\d+"
MAX_TEXT = 4096
MAX_CAPTION = 1024
MAX_UPDATES = 1000
MEDIA_TYPES = frozenset({"image", "video", "audio", "document", "sticker"})
OTHER_TYPES = frozenset({"text", "location", "contacts", "reaction", "interactive", "template"})
TINY_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="
)
HTML_PAGE = "<!DOCTYPE html>\n<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"


# -- errors -----------------------------------------------------------------------------------


class GraphFailure(Exception):
    """An error answer of the Graph API (``docs/providers/cloud.md §2.1``)."""

    def __init__(
        self,
        code: int,
        *,
        details: str | None = None,
        message: str = "",
        subcode: int = 0,
        user_message: str = "",
    ) -> None:
        super().__init__(code)
        self.user_message = user_message
        self.code = code
        text = ERRORS[code]
        # Only a token error does not start with its code.
        self.message = message or (text.title if code == 190 else f"(#{code}) {text.title}")
        self.details = text.details if details is None else details
        self.subcode = subcode or (0 if message else text.subcode)
        self.kind = "GraphMethodException" if subcode == 33 else "OAuthException"

    def response(self) -> web.Response:
        error: JsonObject = {"message": self.message, "type": self.kind, "code": self.code}
        if self.details:
            error["error_data"] = {"messaging_product": "whatsapp", "details": self.details}
        if self.subcode:
            error["error_subcode"] = self.subcode
        if self.user_message:
            error["is_transient"] = False
            error["error_user_title"] = self.message
            error["error_user_msg"] = self.user_message
        error["fbtrace_id"] = "A" + secrets.token_urlsafe(16)
        return _json({"error": error}, status=http_status(self.code))


def status_error(code: int) -> JsonObject:
    """Return the error in the form of a ``failed`` status (``docs/providers/cloud.md §2.1``)."""
    text = ERRORS[code]
    return {
        "code": code,
        "title": text.title,
        "message": text.title,
        "error_data": {"details": text.details},
        "href": "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/",
    }


# -- settings ----------------------------------------------------------------------------------


@dataclasses.dataclass(slots=True)
class GraphNumber:
    """One business phone number; an empty ``token`` accepts any bearer token."""

    phone_number_id: str
    token: str = ""
    app_secret: str = "demo-app-secret"
    webhook_url: str = ""
    display_phone_number: str = "+55 11 90000-0001"
    verified_name: str = "Clínica Demo"
    waba_id: str = "102290129340398"
    quality_rating: str = "GREEN"
    is_on_biz_app: bool = True
    platform_type: str = "CLOUD_API"


@dataclasses.dataclass(slots=True)
class GraphSettings:
    """Durations and counts that configure the simulation.

    Without ``numbers`` the simulator is permissive: every phone number id exists and looks like
    ``demo``. ``webhook_url`` applies to numbers without their own URL.
    """

    numbers: dict[str, GraphNumber] = dataclasses.field(default_factory=dict)
    demo: GraphNumber = dataclasses.field(default_factory=lambda: GraphNumber("106540352242922"))
    webhook_url: str = ""
    app_id: str = "634974688087057"
    # Of the account of `demo`, each a row as in Meta's list.
    templates: list[JsonObject] = dataclasses.field(default_factory=list)
    review_delay: float = 1.0
    status_delay: float = 0.2
    late_failure_delay: float = 2.0
    slow_seconds: float = 3.0
    hang_seconds: float = 120.0
    unavailable_times: int = 2
    media_url_seconds: float = 300.0
    webhook_attempts: int = 6
    webhook_retry_delay: float = 0.5
    batch_window: float = 0.0
    # Reject what is no template unless the customer wrote within the last 24 hours.
    enforces_window: bool = False


# -- wire helpers ------------------------------------------------------------------------------


def sign(secret: str, body: bytes) -> str:
    """Return the ``X-Hub-Signature-256`` of a raw body (``docs/providers/cloud.md §3.2``)."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def make_wamid(remote: str, key_id: str, *, from_me: bool = True) -> str:
    """Return a message id with Meta's internal layout (``docs/providers/cloud.md §4.4``)."""
    other, key = remote.encode(), key_id.encode()
    flag = b"\x11" if from_me else b"\x12"
    raw = (
        b"\x1c\x18" + bytes([len(other)]) + other + b"\x15\x02\x00" + flag
        + b"\x18" + bytes([len(key)]) + key + b"\x00"
    )  # fmt: skip
    return "wamid." + base64.b64encode(raw).decode()


def new_key_id() -> str:
    """Return a random key like those of API-sent messages: 18 hexadecimal digits."""
    return secrets.token_hex(9).upper()


_USER_ID = re.compile(r"[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}")


def _json(data: Any, *, status: int = 200) -> web.Response:
    return web.json_response(
        data,
        status=status,
        dumps=lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    )


@dataclasses.dataclass(slots=True)
class _Media:
    id: str
    data: bytes
    mime_type: str
    filename: str
    nonce: str = ""
    url_expires_at: float = 0.0

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclasses.dataclass(slots=True)
class _Message:
    """A message that Graph has accepted."""

    id: str
    number: GraphNumber
    wa_id: str
    reference: str
    scenario: GraphScenario
    # The user id that it was sent to; then there is no number.
    user_id: str = ""
    # What a status reports as its charge.
    category: str = "service"


class GraphSimulator(Simulator):
    """State and routes of the simulated Graph API."""

    name = "graph"
    scenarios = SCENARIOS

    def __init__(self, settings: GraphSettings) -> None:
        super().__init__(settings)
        self.settings: GraphSettings = settings
        self.templates = templates.TemplateBook()
        for row in settings.templates:
            self.templates.add(settings.demo.waba_id, row)
        self._uploads: dict[str, int] = {}
        self._media: dict[str, _Media] = {}
        self._history: dict[str, list[JsonObject]] = {}
        self._rejections: Counter[str] = Counter()
        # When each customer last wrote (``docs/providers/cloud.md §2.3``, 131047).
        self.wrote_at: dict[str, float] = {}
        self._batch: list[tuple[GraphNumber, str, JsonObject]] = []
        self._batch_sent: asyncio.Future[None] | None = None

    @classmethod
    def example(cls, scenario: Scenario) -> str:
        return example_number(graph=scenario.digits)

    def add_routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/_control/inbound", self._control_inbound)
        router.add_post("/_control/echo", self._control_echo)
        router.add_post("/_control/webhook", self._control_webhook)
        router.add_post("/_control/numbers", self._control_numbers)
        router.add_post("/_control/templates", self._control_templates)
        router.add_post("/_control/template_event", self._control_template_event)
        router.add_get("/_media/{media_id}", self._guarded(self._download))
        base = f"/{{version:{VERSION}}}/{{id}}"
        router.add_post(base + "/messages", self._guarded(self._messages))
        router.add_post(base + "/media", self._guarded(self._upload))
        router.add_get(base + "/message_history", self._guarded(self._message_history))
        router.add_get(base + "/message_templates", self._guarded(self._list_templates))
        router.add_post(base + "/message_templates", self._guarded(self._create_template))
        router.add_delete(base + "/message_templates", self._guarded(self._delete_template))
        router.add_post(base + "/unpause", self._guarded(self._unpause_template))
        router.add_post(base + "/uploads", self._guarded(self._begin_upload))
        debug = f"/{{version:{VERSION}}}/debug_token"
        router.add_get(debug, self._guarded(self._debug_token))
        router.add_post(base, self._guarded(self._edit_template))
        router.add_get(base, self._guarded(self._object))
        router.add_delete(base, self._guarded(self._delete))

    def _guarded(self, handler: Any) -> Any:
        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                answer: web.StreamResponse = await handler(request)
            except GraphFailure as failure:
                return failure.response()
            except templates.Problem as problem:
                return _problem(problem).response()
            return answer

        return guarded

    # -- authentication ----------------------------------------------------------------------

    def _number(self, phone_number_id: str) -> GraphNumber | None:
        if self.settings.numbers:
            return self.settings.numbers.get(phone_number_id)
        if not phone_number_id.isdigit():
            return None
        return dataclasses.replace(self.settings.demo, phone_number_id=phone_number_id)

    def _bearer(self, request: web.Request) -> str:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        tokens = {number.token for number in self.settings.numbers.values()} or {
            self.settings.demo.token
        }
        if kind.lower() != "bearer" or not token.strip():
            raise _invalid_token()
        if token not in tokens and "" not in tokens:
            raise _invalid_token()
        return token

    def _sender(self, request: web.Request) -> GraphNumber:
        """Return the phone number in the path if the token may use it."""
        token = self._bearer(request)
        number = self._number(request.match_info["id"])
        if number is None or (number.token and number.token != token):
            raise _unknown_object(request.match_info["id"], request.method)
        return number

    # -- sending -----------------------------------------------------------------------------

    async def _messages(self, request: web.Request) -> web.Response:
        number = self._sender(request)
        body = await _body(request)
        if body.get("messaging_product") != "whatsapp":
            raise GraphFailure(
                100, message="(#100) The parameter messaging_product is required.", details=""
            )
        if body.get("status") == "read":
            if not body.get("message_id"):
                raise GraphFailure(131008, details="message_id is required.")
            return _json({"success": True})
        check_message(body)
        if body.get("type") == "template" and not self.templates.is_permissive(number.waba_id):
            part = body["template"]
            template = self._template_of(number, body)
            templates.check_send(template, part, to_user_id="to" not in body)
        to = str(body["to"] if "to" in body else body["recipient"])
        scenario = self.choose(to, graph_digits(to))
        assert isinstance(scenario, GraphScenario)
        if _is_dropped(body):
            # Meta takes it, reads the digits as a number, and delivers and reports nothing
            # (docs/providers/cloud.md §10.1.4).
            message = self._message(number, body, scenario)
            self._accept(message, body, delivered=False)
            return _json(_accepted(message, body))
        closed = time.time() - self.wrote_at.get(whatsapp_id(to), 0.0) > SERVICE_WINDOW_SECONDS
        if self.settings.enforces_window and closed and body.get("type") != "template":
            raise GraphFailure(131047)
        return await self._play(request, number, body, scenario)

    async def _play(
        self, request: web.Request, number: GraphNumber, body: JsonObject, scenario: GraphScenario
    ) -> web.Response:
        to = str(body["to"] if "to" in body else body["recipient"])
        if scenario.refusal and self._still_rejects(to, scenario):
            if scenario.late_refusal:
                self.spawn(self._report(self._message(number, body, scenario), failed_only=True))
            raise GraphFailure(scenario.refusal)

        message = self._message(number, body, scenario)
        if scenario.accepted:
            self._accept(message, body)
            if scenario.answer == "after_statuses":
                await self._report(message)
            else:
                self.spawn(self._report(message))

        answer = scenario.answer
        if answer == "hang":
            return await hang(request, self.settings.hang_seconds)
        if answer == "reset":
            return reset_connection(request)
        if answer == "not_json":
            return web.Response(
                text='{"messaging_product":"whatsapp","contacts":[{"in',
                content_type="application/json",
            )
        if answer == "html_502":
            return _html("502 Bad Gateway", 502)
        if answer == "html_200":
            return _html("Please sign in", 200)
        if answer == "empty":
            return web.Response(body=b"", content_type="application/json")
        if answer == "error_500":
            return _json({"error": {"message": "An unknown error has occurred."}}, status=500)
        if answer == "slow":
            await asyncio.sleep(self.settings.slow_seconds)
        return _json(_accepted(message, body))

    def _still_rejects(self, to: str, scenario: GraphScenario) -> bool:
        if not scenario.rejects_first_attempts_only:
            return True
        key = only_digits(to)
        self._rejections[key] += 1
        if self._rejections[key] <= self.settings.unavailable_times:
            return True
        del self._rejections[key]
        return False

    def _message(self, number: GraphNumber, body: JsonObject, scenario: GraphScenario) -> _Message:
        user_id = "" if "to" in body else body["recipient"]
        wa_id = "" if user_id else whatsapp_id(body["to"])
        return _Message(
            id=make_wamid(user_id or wa_id, new_key_id()),
            number=number,
            wa_id=wa_id,
            user_id=user_id,
            reference=str(body.get("biz_opaque_callback_data") or ""),
            scenario=scenario,
            category=self._category(number, body),
        )

    def _template_of(self, number: GraphNumber, body: JsonObject) -> templates.Template | None:
        part = body["template"]
        return self.templates.find(number.waba_id, part["name"], part["language"]["code"])

    def _category(self, number: GraphNumber, body: JsonObject) -> str:
        if body.get("type") != "template":
            return "service"
        template = self._template_of(number, body)
        return template.category.lower() if template else "utility"

    def _accept(self, message: _Message, body: JsonObject, *, delivered: bool = True) -> None:
        kind = body.get("type", "text")
        self._history[message.id] = []
        self.book.add(
            LedgerEntry(
                id=message.id,
                sender=message.number.phone_number_id,
                to=message.user_id or only_digits(body["to"]),
                type=kind,
                text=_text_of(kind, body[kind]),
                reference=message.reference,
                scenario=message.scenario.name,
                delivered=delivered and message.scenario.reaches_customer,
            )
        )

    # -- statuses ----------------------------------------------------------------------------

    async def _report(self, message: _Message, *, failed_only: bool = False) -> None:
        """Send the statuses of a message in the order and number its scenario defines."""
        scenario = message.scenario
        statuses = () if failed_only else scenario.statuses
        if scenario.scrambled:
            await asyncio.sleep(self.settings.status_delay)
            statuses = tuple(status for status in reversed(statuses) for _ in range(2))
        for status in statuses:
            if not scenario.scrambled:
                await asyncio.sleep(self.settings.status_delay)
            await self._wait_briefly(self._send_status(message, status))
        if scenario.late_refusal:
            await asyncio.sleep(self.settings.late_failure_delay)
            await self._send_status(message, "failed")

    async def _wait_briefly(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait at most a second for a webhook: Meta does not delay later ones."""
        await asyncio.wait({self.spawn(work)}, timeout=1.0)

    async def _send_status(self, message: _Message, status: str) -> None:
        now = str(int(time.time()))
        update: JsonObject = {
            "id": message.id,
            "status": status,
            "timestamp": now,
            **({"recipient_id": message.wa_id} if message.wa_id else {}),
        }
        value: JsonObject = {}
        if message.reference:
            update["biz_opaque_callback_data"] = message.reference
        if status == "failed":
            if message.user_id:
                update["recipient_user_id"] = message.user_id
            update["errors"] = [status_error(message.scenario.late_refusal)]
        else:
            # Contacts and user id were added in 2026, except for failures (§3.5).
            update["recipient_user_id"] = message.user_id or f"BR.{message.wa_id}"
            value["contacts"] = [_contact(message.wa_id, "", user_id=message.user_id)]
            if status != "played":
                is_free = message.category == "service"
                update["pricing"] = {
                    "billable": not is_free,
                    "pricing_model": "PMP",
                    "category": message.category,
                    "type": "free_customer_service" if is_free else "regular",
                }
        if message.id in self._history:
            self._history[message.id].append({"delivery_status": status.upper(), "timestamp": now})
        value["statuses"] = [update]
        await self.send_update(message.number, "messages", value)

    # -- webhooks ----------------------------------------------------------------------------

    async def send_update(self, number: GraphNumber, field: str, value: JsonObject) -> None:
        """Send one update, alone or in the current batch; return once it is sent."""
        head = {
            "messaging_product": "whatsapp",
            "metadata": {
                "display_phone_number": only_digits(number.display_phone_number),
                "phone_number_id": number.phone_number_id,
            },
        }
        update = (number, field, {**head, **value})
        if not self.settings.batch_window:
            await self._post([update])
            return
        self._batch.append(update)
        if self._batch_sent is None:
            self._batch_sent = asyncio.get_running_loop().create_future()
            self.spawn(self._flush(self._batch_sent))
        await asyncio.shield(self._batch_sent)

    async def _flush(self, sent: asyncio.Future[None]) -> None:
        await asyncio.sleep(self.settings.batch_window)
        updates, self._batch, self._batch_sent = self._batch, [], None
        # Meta guarantees no order, so a batch is shuffled.
        random.shuffle(updates)
        for start in range(0, len(updates), MAX_UPDATES):
            await self._post(updates[start : start + MAX_UPDATES])
        sent.set_result(None)

    async def _post(self, updates: list[tuple[GraphNumber, str, JsonObject]]) -> None:
        """Post updates in one envelope per receiver, with one entry per account."""
        by_receiver: dict[tuple[str, str], list[tuple[GraphNumber, str, JsonObject]]] = {}
        for update in updates:
            number = update[0]
            url = number.webhook_url or self.settings.webhook_url
            if url:
                url = url.replace("{phone_number_id}", number.phone_number_id)
                by_receiver.setdefault((url, number.app_secret), []).append(update)
        for (url, secret), batch in by_receiver.items():
            entries: dict[str, list[JsonObject]] = {}
            for number, field, value in batch:
                entries.setdefault(number.waba_id, []).append({"field": field, "value": value})
            envelope = {
                "object": "whatsapp_business_account",
                "entry": [{"id": waba, "changes": changes} for waba, changes in entries.items()],
            }
            body = json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()
            await self.post_webhook(
                url,
                body,
                {
                    "Content-Type": "application/json",
                    "User-Agent": "facebookexternalua",
                    "X-Hub-Signature-256": sign(secret, body),
                },
                attempts=self.settings.webhook_attempts,
                retry_delay=self.settings.webhook_retry_delay,
            )

    # -- media, account ----------------------------------------------------------------------

    async def _upload(self, request: web.Request) -> web.Response:
        self._sender(request)
        if not request.content_type.startswith("multipart/"):
            raise GraphFailure(100, message="(#100) The parameter file is required.", details="")
        form = await request.post()
        upload = form.get("file")
        if form.get("messaging_product") != "whatsapp":
            raise GraphFailure(
                100, message="(#100) The parameter messaging_product is required.", details=""
            )
        if not isinstance(upload, web.FileField):
            raise GraphFailure(100, message="(#100) The parameter file is required.", details="")
        media = self._store_media(
            upload.file.read(), str(form.get("type") or upload.content_type), upload.filename
        )
        return _json({"id": media.id})

    def _store_media(self, data: bytes, mime_type: str, filename: str = "") -> _Media:
        media = _Media(str(secrets.randbelow(9 * 10**14) + 10**14), data, mime_type, filename)
        self._media[media.id] = media
        return media

    def _media_url(self, media: _Media, origin: str) -> str:
        media.nonce = secrets.token_hex(8)
        media.url_expires_at = time.time() + self.settings.media_url_seconds
        return f"{origin}/_media/{media.id}?hash={media.nonce}"

    async def _object(self, request: web.Request) -> web.Response:
        token = self._bearer(request)
        object_id = request.match_info["id"]
        if media := self._media.get(object_id):
            return _json(
                {
                    "messaging_product": "whatsapp",
                    "url": self._media_url(media, str(request.url.origin())),
                    "mime_type": media.mime_type,
                    "sha256": media.sha256,
                    "file_size": len(media.data),
                    "id": media.id,
                }
            )
        number = self._number(object_id)
        if number is None or (number.token and number.token != token):
            raise _unknown_object(object_id, request.method)
        known = {
            "verified_name": number.verified_name,
            "display_phone_number": number.display_phone_number,
            "quality_rating": number.quality_rating,
            "platform_type": number.platform_type,
            "is_on_biz_app": number.is_on_biz_app,
            "throughput": {"level": "STANDARD"},
            "code_verification_status": "VERIFIED",
            "status": "CONNECTED",
        }
        fields = [name for name in request.query.get("fields", "").split(",") if name]
        default = ("verified_name", "display_phone_number", "quality_rating", "platform_type")
        unknown = [name for name in fields if name not in known and name != "id"]
        if unknown:
            raise GraphFailure(
                100, message=f"(#100) Tried accessing nonexisting field ({unknown[0]})", details=""
            )
        chosen = {name: known[name] for name in fields or default if name in known}
        return _json({**chosen, "id": number.phone_number_id})

    async def _download(self, request: web.Request) -> web.Response:
        self._bearer(request)
        media = self._media.get(request.match_info["media_id"])
        if (
            media is None
            or not media.nonce
            or request.query.get("hash") != media.nonce
            or time.time() > media.url_expires_at
        ):
            return web.Response(status=404)
        return web.Response(body=media.data, headers={"Content-Type": media.mime_type})

    async def _delete(self, request: web.Request) -> web.Response:
        self._bearer(request)
        if self._media.pop(request.match_info["id"], None) is None:
            raise _unknown_object(request.match_info["id"], request.method)
        return _json({"success": True})

    async def _message_history(self, request: web.Request) -> web.Response:
        self._sender(request)
        message_id = request.query.get("message_id", "")
        if message_id not in self._history:
            return _json({"data": []})
        record_id = str(int(hashlib.sha256(message_id.encode()).hexdigest()[:12], 16))
        events = {"data": self._history[message_id]}
        return _json({"data": [{"id": record_id, "message_id": message_id, "events": events}]})

    # -- templates (docs/providers/cloud.md §11) -----------------------------------------------

    def _account(self, request: web.Request) -> GraphNumber:
        """Return a number of the account in the path if the token may use it."""
        token = self._bearer(request)
        waba_id = request.match_info["id"]
        numbers = list(self.settings.numbers.values())
        if not numbers and waba_id.isdigit():
            return dataclasses.replace(self.settings.demo, waba_id=waba_id)
        for number in numbers:
            if number.waba_id == waba_id and number.token in ("", token):
                return number
        raise _unknown_object(waba_id, request.method)

    def _own_template(self, request: web.Request) -> tuple[GraphNumber, templates.Template]:
        """Return the template in the path, and a number of its account."""
        token = self._bearer(request)
        template = self.templates.get(request.match_info["id"])
        for number in self.settings.numbers.values() or [self.settings.demo]:
            if template is not None and number.token in ("", token):
                if number.waba_id == template.waba_id:
                    return number, template
                if not self.settings.numbers:
                    return dataclasses.replace(number, waba_id=template.waba_id), template
        raise _unknown_object(request.match_info["id"], request.method)

    async def _list_templates(self, request: web.Request) -> web.Response:
        number = self._account(request)
        return _json(self.templates.page(number.waba_id, request.query))

    async def _create_template(self, request: web.Request) -> web.Response:
        number = self._account(request)
        template = self.templates.create(number.waba_id, await _body(request))
        self.spawn(self._review(number, template))
        return _json({"id": template.id, "status": template.status, "category": template.category})

    async def _edit_template(self, request: web.Request) -> web.Response:
        if request.match_info["id"].startswith("upload:"):
            return await self._upload_bytes(request)
        number, template = self._own_template(request)
        self.templates.edit(template, await _body(request))
        self.spawn(self._review(number, template))
        return _json({"success": True})

    async def _delete_template(self, request: web.Request) -> web.Response:
        number = self._account(request)
        name, template_id = request.query.get("name", ""), request.query.get("hsm_id", "")
        for template in self.templates.delete(number.waba_id, name, template_id):
            self.spawn(self._report_template(number, template, {"event": "DELETED"}))
        return _json({"success": True})

    async def _unpause_template(self, request: web.Request) -> web.Response:
        number, template = self._own_template(request)
        self.templates.unpause(template)
        self.spawn(self._report_template(number, template, {"event": "APPROVED"}))
        return _json({"success": True, "reason": "Active"})

    async def _review(self, number: GraphNumber, template: templates.Template) -> None:
        """Approve or reject a template after a while."""
        await asyncio.sleep(self.settings.review_delay)
        if template.status != "PENDING":
            return
        is_bad = "reject" in template.name
        template.status = "REJECTED" if is_bad else "APPROVED"
        template.rejected_reason = "INVALID_FORMAT" if is_bad else "NONE"
        event: JsonObject = {"event": template.status, "reason": template.rejected_reason}
        if is_bad:
            event["rejection_info"] = {"reason": "…", "recommendation": "…"}
        await self._report_template(number, template, event)

    async def _report_template(
        self,
        number: GraphNumber,
        template: templates.Template,
        value: JsonObject,
        *,
        field: str = "message_template_status_update",
    ) -> None:
        """Send a webhook of the account, in which the id is a number (§11.8)."""
        head = {
            "message_template_id": int(template.id) if template.id.isdecimal() else template.id,
            "message_template_name": template.name,
            "message_template_language": template.language.replace("_", "-"),
        }
        if field == "message_template_status_update":
            head["message_template_category"] = template.category
        await self._post([(number, field, {**head, **value})])

    async def _debug_token(self, request: web.Request) -> web.Response:
        self._bearer(request)
        return _json({"data": {"app_id": self.settings.app_id, "type": "SYSTEM_USER"}})

    async def _begin_upload(self, request: web.Request) -> web.Response:
        self._bearer(request)
        if request.match_info["id"] != self.settings.app_id:
            raise _unknown_object(request.match_info["id"], request.method)
        length = int(request.query.get("file_length") or 0)
        if not length or request.query.get("file_type") not in (
            "image/jpeg",
            "image/png",
            "video/mp4",
            "application/pdf",
        ):
            raise GraphFailure(100, details="file_type or file_length is not valid.")
        session = f"upload:{secrets.token_urlsafe(12)}"
        self._uploads[session] = length
        return _json({"id": f"{session}?sig={secrets.token_urlsafe(6)}"})

    async def _upload_bytes(self, request: web.Request) -> web.Response:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        length = self._uploads.get(request.match_info["id"])
        if kind != "OAuth" or not token or not request.query.get("sig") or length is None:
            raise _invalid_token()
        data = await request.read()
        if request.headers.get("file_offset") != "0" or len(data) != length:
            raise GraphFailure(100, details="The upload is not complete.")
        return _json({"h": f"4::{base64.b64encode(hashlib.sha256(data).digest()).decode()}"})

    async def _control_templates(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        if not command.get("name"):
            raise ControlError("a template needs a name")
        waba_id = str(command.get("waba_id") or self._chosen_number(command).waba_id)
        template = self.templates.add(waba_id, command)
        return _json(template.row(templates.FIELDS))

    async def _control_template_event(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        template = self.templates.get(str(command.get("id")))
        if template is None:
            raise ControlError("no such template")
        rows = [*self.settings.numbers.values(), self.settings.demo]
        number = next((one for one in rows if one.waba_id == template.waba_id), rows[0])
        field, value = _change_template(template, command)
        if not command.get("silent"):
            self.spawn(self._report_template(number, template, value, field=field))
        return _json(template.row(templates.FIELDS))

    # -- control API -------------------------------------------------------------------------

    def _chosen_number(self, command: JsonObject) -> GraphNumber:
        wanted = str(command.get("phone_number_id") or "")
        if not wanted:
            return next(iter(self.settings.numbers.values()), self.settings.demo)
        number = self._number(wanted)
        if number is None:
            raise ControlError(f"no such phone number id: {wanted}")
        return number

    async def _control_inbound(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        number = self._chosen_number(command)
        sender = whatsapp_id(str(command.get("from") or ""))
        # A customer with a username, whose number is hidden.
        user_id = str(command.get("user_id") or "")
        if not (sender or user_id):
            raise ControlError("from must be the customer's number, or user_id their id")
        self.wrote_at[sender or user_id] = time.time()
        kind = str(command.get("type") or "text")
        new_id = make_wamid(sender or user_id, new_key_id(), from_me=False)
        message: JsonObject = {
            **({"from": sender} if sender else {}),
            **({"from_user_id": user_id} if user_id else {}),
            "id": str(command.get("id") or new_id),
            "timestamp": str(command.get("timestamp") or int(time.time())),
            "type": kind,
            kind: self._inbound_content(command, kind, str(request.url.origin())),
        }
        if command.get("context_id"):
            message["context"] = {
                "from": only_digits(number.display_phone_number),
                "id": command["context_id"],
            }
        value = {
            "contacts": [
                _contact(
                    sender,
                    str(command.get("name") or ""),
                    user_id=user_id,
                    username=str(command.get("username") or ""),
                )
            ],
            "messages": [message],
        }
        self.spawn(self.send_update(number, "messages", value))
        return _json({"message": message})

    def _inbound_content(self, command: JsonObject, kind: str, origin: str) -> Any:
        if "content" in command:
            return command["content"]
        if kind == "text":
            return {"body": str(command.get("text", ""))}
        if kind not in MEDIA_TYPES:
            raise ControlError(f"a message of type {kind} needs its content")
        defaults = {"audio": "audio/ogg; codecs=opus", "document": "application/pdf"}
        media = self._store_media(
            base64.b64decode(str(command.get("data") or TINY_PNG)),
            str(command.get("mime_type") or defaults.get(kind, "image/png")),
        )
        content: JsonObject = {
            "mime_type": media.mime_type,
            "sha256": media.sha256,
            "id": media.id,
            "url": self._media_url(media, origin),
        }
        if command.get("caption"):
            content["caption"] = str(command["caption"])
        if kind == "document":
            content["filename"] = str(command.get("filename") or "documento.pdf")
        return content

    async def _control_echo(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        number = self._chosen_number(command)
        to = whatsapp_id(str(command.get("to") or ""))
        if not to:
            raise ControlError("to must be the customer's number")
        kind = str(command.get("type") or "text")
        content = command.get("content", {"body": str(command.get("text", ""))})
        echo: JsonObject = {
            "from": only_digits(number.display_phone_number),
            "to": to,
            "id": str(
                command.get("id") or make_wamid(to, str(command.get("key_id") or new_key_id()))
            ),
            "timestamp": str(command.get("timestamp") or int(time.time())),
            "type": kind,
            kind: content,
        }
        self.spawn(self.send_update(number, "smb_message_echoes", {"message_echoes": [echo]}))
        return _json({"message": echo})

    async def _control_webhook(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        field, value = command.get("field"), command.get("value")
        if not isinstance(field, str) or not isinstance(value, dict):
            raise ControlError("field must be a text and value an object")
        self.spawn(self.send_update(self._chosen_number(command), field, value))
        return _json({"queued": True})

    async def _control_numbers(self, request: web.Request) -> web.Response:
        command = await control_body(request)
        try:
            number = GraphNumber(**command)
        except TypeError as error:
            raise ControlError(str(error)) from None
        self.settings.numbers[number.phone_number_id] = number
        return _json(dataclasses.asdict(number))


# -- checks and shapes -------------------------------------------------------------------------


def check_message(body: JsonObject) -> None:
    """Raise GraphFailure for a body that Graph would reject (``docs/providers/cloud.md §1.3``)."""
    to, recipient = body.get("to"), body.get("recipient")
    if "to" in body or recipient is None:
        if not isinstance(to, str) or not only_digits(to):
            raise GraphFailure(100, message="(#100) The parameter to is required.", details="")
    elif not isinstance(recipient, str) or not _USER_ID.fullmatch(recipient):
        raise GraphFailure(131009, details="Parameter recipient is not a valid user id.")
    if body.get("recipient_type", "individual") not in ("individual", "group"):
        raise GraphFailure(100, details="recipient_type must be individual or group.")
    kind = body.get("type", "text")
    if kind not in MEDIA_TYPES | OTHER_TYPES:
        raise GraphFailure(131051)
    part: Any = body.get(kind)
    fits = isinstance(part, list if kind == "contacts" else dict)
    if not fits or not part:
        raise GraphFailure(131008, details=f"Parameter {kind} is missing.")
    if kind == "text":
        _require(part, "body", MAX_TEXT)
    elif kind in MEDIA_TYPES:
        if not part.get("id") and not part.get("link"):
            raise GraphFailure(131008, details=f"{kind} needs an id or a link.")
        if len(str(part.get("caption") or "")) > MAX_CAPTION:
            raise GraphFailure(131009, details=f"caption is longer than {MAX_CAPTION}.")
    elif kind == "template":
        _require(part, "name", 512)
        if not isinstance(part.get("language"), dict) or not part["language"].get("code"):
            raise GraphFailure(131008, details="template.language.code is missing.")
    elif kind == "interactive":
        if (found := interactive.problem(part)) is not None:
            raise GraphFailure(found[0], details=found[1])
    elif kind == "reaction":
        _require(part, "message_id", 512)


def _require(part: JsonObject, name: str, longest: int) -> None:
    value = part.get(name)
    if not isinstance(value, str) or not value:
        raise GraphFailure(131008, details=f"Parameter {name} is missing.")
    if len(value) > longest:
        raise GraphFailure(
            131009, details=f"Param {name} must be at most {longest} characters long."
        )


async def _body(request: web.Request) -> JsonObject:
    try:
        body = json.loads(await request.read())
    except ValueError:
        raise GraphFailure(100, details="The request body is not valid JSON.") from None
    if not isinstance(body, dict):
        raise GraphFailure(100, details="The request body must be an object.")
    return body


def _problem(problem: templates.Problem) -> GraphFailure:
    """Return the error of a template; the account API writes a text for its users."""
    if problem.code != 100:
        return GraphFailure(problem.code, details=problem.details or None)
    return GraphFailure(
        100,
        message="Invalid parameter",
        details="",
        subcode=problem.subcode,
        user_message=problem.details,
    )


def _change_template(template: templates.Template, command: JsonObject) -> tuple[str, JsonObject]:
    """Change a template as a control request says; return field and value of its webhook."""
    if quality := command.get("quality"):
        before, template.quality = template.quality, str(quality)
        value = {"previous_quality_score": before, "new_quality_score": template.quality}
        return "message_template_quality_update", value
    if category := command.get("category"):
        before, template.category = template.category, str(category)
        template.previous_category = before
        value = {"previous_category": before, "new_category": template.category}
        return "template_category_update", value
    if components := command.get("components"):
        template.components = components
        return "message_template_components_update", {"message_template_element": "…"}
    event = str(command.get("event") or "APPROVED").upper()
    status = {"UNLOCKED": "APPROVED", "UNARCHIVED": "APPROVED", "REINSTATED": "APPROVED"}
    template.status = status.get(event, event)
    template.paced = bool(command.get("paced"))
    template.rejected_reason = str(command.get("reason") or "NONE")
    return "message_template_status_update", {"event": event, "reason": command.get("reason")}


def _invalid_token() -> GraphFailure:
    return GraphFailure(190, message="Invalid OAuth access token - Cannot parse access token")


def _unknown_object(object_id: str, method: str) -> GraphFailure:
    return GraphFailure(
        100,
        message=(
            f"Unsupported {method.lower()} request. Object with ID '{object_id}' does not exist,"
            " cannot be loaded due to missing permissions, or does not support this operation."
        ),
        details="",
        subcode=33,
    )


def _accepted(message: _Message, body: JsonObject) -> JsonObject:
    """Return the response to an accepted message (``docs/providers/cloud.md §1.4``)."""
    accepted: JsonObject = {"id": message.id}
    if body.get("type") == "template":
        held = message.scenario.held
        accepted["message_status"] = "held_for_quality_assessment" if held else "accepted"
    contact = {"input": message.user_id, "user_id": message.user_id}
    if not message.user_id:
        contact = {"input": body["to"], "wa_id": message.wa_id}
    return {
        "messaging_product": "whatsapp",
        "contacts": [contact],
        "messages": [accepted],
    }


def _is_dropped(body: JsonObject) -> bool:
    """Return whether the recipient is a user id in the field for numbers."""
    return bool(re.search("[A-Za-z]", str(body.get("to") or "")))


def _contact(wa_id: str, name: str, *, user_id: str = "", username: str = "") -> JsonObject:
    profile = {"name": name or f"Cliente {(wa_id or user_id)[-4:]}"}
    return {
        "profile": profile | ({"username": username} if username else {}),
        **({"wa_id": wa_id} if wa_id else {}),
        "user_id": user_id or f"BR.{wa_id}",
    }


def _text_of(kind: str, part: Any) -> str:
    if kind == "text":
        return str(part.get("body", ""))
    if kind in MEDIA_TYPES:
        return str(part.get("caption") or "")
    if kind == "template":
        return str(part.get("name", ""))
    if kind == "interactive":
        return re.sub(r"\s+", " ", str((part.get("body") or {}).get("text", "")))
    return ""


def _html(title: str, status: int) -> web.Response:
    return web.Response(text=HTML_PAGE.format(title), status=status, content_type="text/html")


def create_app(settings: GraphSettings | None = None) -> web.Application:
    """Build the simulated Graph API as an aiohttp application."""
    return GraphSimulator(settings or GraphSettings()).application()


def describe() -> list[JsonObject]:
    """Return the scenario table with an example number for each."""
    return GraphSimulator(GraphSettings()).describe()
