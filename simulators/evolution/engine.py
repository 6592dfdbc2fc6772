"""The messages of the simulated Evolution: sending, inbound, edits, acks, floods.

Wire facts: `docs/providers/evolution.md` §3 and §5; a capture number is a file in
`tests/fixtures/evolution`.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import time
import uuid
from collections.abc import Callable
from typing import Any

from simulators.base import JsonObject, only_digits
from simulators.evolution.core import ApiError, EvolutionCore, bad_request
from simulators.evolution.messages import (
    OWN_IDS,
    Incoming,
    as_2_4,
    baileys_body,
    business_body,
    evolution_body,
    incoming,
    outgoing,
    with_number_first,
    with_secret,
)
from simulators.evolution.model import (
    BUSINESS,
    EVOLUTION,
    Answer,
    EvolutionScenario,
    Instance,
    SentMessage,
    StoredMessage,
    create_jid,
    cuid,
    epoch,
    iso,
    known_jid,
    utc_now,
    whatsapp_id,
)

_BUSINESS_ACKS = {
    "SERVER_ACK": "SENT",
    "DELIVERY_ACK": "DELIVERED",
    "READ": "READ",
    "ERROR": "FAILED",
}
_BUSINESS_ERROR: JsonObject = {
    "message": "(#131030) Recipient phone number not in allowed list",
    "type": "OAuthException",
    "code": 131030,
    "error_data": {
        "messaging_product": "whatsapp",
        "details": "Recipient phone number not in allowed list",
    },
    "fbtrace_id": "Axxxxxxxxxx",
}
_DEDUPE_SECONDS = 300
_HISTORY_SECONDS = 2 * 24 * 3600

Choose = Callable[[str], EvolutionScenario]


@dataclasses.dataclass(frozen=True)
class SendAnswer:
    """The response to a send."""

    answer: Answer
    body: JsonObject


class EvolutionEngine(EvolutionCore):
    """Sending, inbound messages and changes to messages, on top of the instances."""

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
        """Handle one `/message/<route>` after validation.

        Raises ApiError for requests that Evolution itself rejects; otherwise the scenario of the
        recipient decides.
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
        """Store and emit only; nothing leaves the server, whether open or closed."""
        answer = evolution_body(route, body, instance_id=instance.id, now=epoch())
        self._record_sent(instance, sent, answer, delivered=True)
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
        error = self.settings.business_errors.get(only_digits(sent.number))
        if error is None and scenario.name == "not_on_whatsapp":
            error = _BUSINESS_ERROR
        if error is not None:
            # Evolution returns Graph's error object with 201 (§5).
            return SendAnswer("ok", error)
        answer = business_body(route, body, instance_id=instance.id, now=epoch())
        if scenario.accepted:
            self._record_sent(instance, sent, answer, delivered=scenario.delivered)
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
        requested = create_jid(sent.number)
        self._check_connected(instance, requested)
        if requested.endswith("@s.whatsapp.net"):
            if not self.exists(requested, scenario):
                raise ApiError(400, [{"jid": requested, "exists": False, "number": sent.number}])
            self.known_numbers.add(only_digits(requested))
        if isinstance(body.get("delay"), int):
            await asyncio.sleep(body["delay"] / 1000)
        jid = known_jid(requested, without_ninth_digit=scenario.without_ninth_digit)
        now = epoch()
        built = outgoing(route, body, now=now, upload=upload)
        if built.context is not None:
            self._add_context(instance, built.context, body, jid)
        chosen = body.get("messageId") if self._is_2_4 and route in OWN_IDS else None
        message_id = chosen if isinstance(chosen, str) else ""
        answer = baileys_body(
            built, jid=jid, instance_id=instance.id, now=now, message_id=message_id
        )
        if scenario.accepted:
            # A phone shows each message id only once.
            is_repeat = message_id in self._delivered_ids
            delivered = scenario.delivered and not is_repeat
            if scenario.delivered and message_id:
                self._delivered_ids.add(message_id)
            row = self._record_sent(instance, sent, answer, delivered=delivered)
            row.media = built.media
            await self.hub.emit(instance, "send.message", answer)
            self._schedule_acks(instance, sent, scenario.acks)
        return SendAnswer(scenario.answer, answer)

    @property
    def _is_2_4(self) -> bool:
        return self.settings.version == "2.4.0"

    def exists(self, jid: str, scenario: EvolutionScenario) -> bool:
        """Return whether the number of `jid` is on WhatsApp."""
        missing = only_digits(jid) in self.settings.not_on_whatsapp
        return not missing and scenario.name != "not_on_whatsapp"

    def _check_connected(self, instance: Instance, jid: str) -> None:
        """Raise the error of a closed socket, which differs for known numbers (§5)."""
        cached = only_digits(jid) in self.known_numbers or not jid.endswith("@s.whatsapp.net")
        if not instance.dialed:
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
        if isinstance(quoted, dict) and isinstance(quoted.get("message"), dict):
            # Taken as it is, whether or not the message is stored (S whatsapp.baileys.service.ts).
            from_us = bool(key.get("fromMe"))
            context["participant"] = instance.owner_jid if from_us else key.get("remoteJid")
            context["stanzaId"], context["quotedMessage"] = key.get("id"), quoted["message"]
            return
        original = instance.messages.get(str(key.get("id")))
        if original is not None:
            author = original.key.get("participant", original.key["remoteJid"])
            context["participant"] = instance.owner_jid if original.key.get("fromMe") else author
            context["stanzaId"] = original.key["id"]
            context["quotedMessage"] = original.message

    def _record_sent(
        self, instance: Instance, sent: SentMessage, answer: JsonObject, *, delivered: bool
    ) -> StoredMessage:
        sent.delivered = delivered
        sent.message_id = answer["key"]["id"]
        sent.remote_jid = answer["key"]["remoteJid"]
        row = self._store(instance, answer)
        self._add_chat(instance, sent.remote_jid or "")
        self._on_sent(sent)
        return row

    def _schedule_acks(
        self, instance: Instance, sent: SentMessage, statuses: tuple[str, ...]
    ) -> None:
        for index, status in enumerate(statuses):
            if not self.settings.ack_delays:
                break
            delay = self.settings.ack_delays[min(index, len(self.settings.ack_delays) - 1)]
            self._later(self._ack_after(instance, sent, status, delay))

    async def _ack_after(
        self, instance: Instance, sent: SentMessage, status: str, delay: float
    ) -> None:
        await asyncio.sleep(delay)
        sent.acks.append(status)
        await self.acknowledge(instance, str(sent.message_id), status)

    async def acknowledge(self, instance: Instance, message_id: str, status: str | None) -> None:
        """Emit `messages.update` for a stored message; unknown ones are silently skipped (§3).

        `status` None is an update without status, which 2.3.7 calls SERVER_ACK and 2.3.6 DELETED.
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

    # -- inbound -------------------------------------------------------------------------------

    async def receive(self, instance: Instance, command: JsonObject) -> JsonObject:
        """Simulate a customer's message, edit, revoke, reaction or call; return its ids.

        Raises KeyError or ValueError if the command is invalid.
        """
        kind = str(command.get("kind", "text"))
        if kind in ("edit", "revoke", "delete"):
            return await self._receive_change(instance, kind, command)
        if kind == "call":
            return await self._receive_call(instance, command)
        now = epoch()
        sender = str(command.get("from", "5511988887777"))
        built = self._build_inbound(kind, command, now=now)
        key = self._inbound_key(command, sender)
        timestamp = int(command.get("timestamp", now))
        push_name = command.get("name") or command.get("push_name") or "Ana"
        emitted = bool(command.get("emit", True))

        async def upsert() -> None:
            if instance.is_baileys:
                await self._upsert(instance, key, built, push_name, timestamp, emitted=emitted)
            else:
                await self._upsert_evolution(
                    instance, key, built.message, built.message_type, push_name
                )

        if self.settings.hold_offline and instance.is_baileys and instance.state != "open":
            instance.offline.append(upsert)
        else:
            await self._enqueue(instance, upsert)
        return {"id": key["id"], "key": key}

    async def sync_history(self, instance: Instance, count: int) -> None:
        """Sync history after linking (§10.4): store each message, emit them as messages.set.

        Every third one was sent from the phone and is read.
        """
        if count < 1:
            return
        now, interval = epoch(), _HISTORY_SECONDS // (count + 1)
        history = []
        for number in range(1, count + 1):
            from_me = number % 3 == 0
            built = incoming("text", {"text": f"history {number}"}, now=now)
            data: JsonObject = {
                "key": {
                    "remoteJid": create_jid(f"55119888800{number % 4:02d}"),
                    "fromMe": from_me,
                    "id": f"HISTORY{number:04d}",
                },
                "pushName": "Você" if from_me else "Ana",
                "status": "READ" if from_me else "DELIVERY_ACK",
                "message": self._sent_by_a_phone(instance, built.message),
                "contextInfo": None,
                "messageType": built.message_type,
                "messageTimestamp": now - _HISTORY_SECONDS + number * interval,
                "instanceId": instance.id,
                "source": "unknown",
            }
            self._store(instance, data)
            self._add_chat(instance, str(data["key"]["remoteJid"]))
            history.append(data)

        async def emit() -> None:
            extra = {"isLatest": True, "progress": 100}
            extra = extra if self.settings.version != "2.3.6" else {}
            await self.hub.emit(instance, "messages.set", history, extra=extra)

        await self._enqueue(instance, emit)

    def _build_inbound(self, kind: str, command: JsonObject, *, now: int) -> Incoming:
        if isinstance(command.get("message"), dict):
            message = dict(command["message"])
            return Incoming(message, str(command.get("message_type") or next(iter(message))))
        return incoming(kind, command, now=now)

    def _sent_by_a_phone(self, instance: Instance, message: JsonObject) -> JsonObject:
        """Return the message with the fields that a WhatsApp client adds."""
        if not (self.settings.message_secrets and instance.is_baileys):
            return message
        return with_secret(message)

    def _inbound_key(self, command: JsonObject, sender: str) -> JsonObject:
        from_me = bool(command.get("from_me", False))
        message_id = command.get("id") or ("3A" + uuid.uuid4().hex[:18].upper())
        jid = create_jid(sender)
        group = command.get("group")
        if group:
            return {
                "remoteJid": create_jid(str(group)) if "@" not in str(group) else str(group),
                "fromMe": from_me,
                "id": message_id,
                "participant": jid,
            }
        lid = command.get("lid")
        if lid:
            # 2.3.7 puts the number's jid into remoteJid; 2.3.6 and the row of 2.4 keep the
            # lid (§3).
            is_2_3_7 = self.settings.version == "2.3.7"
            remote = jid if is_2_3_7 else f"{only_digits(str(lid))}@lid"
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
        """Emit `messages.upsert` and the contact event after it (capture 08)."""
        jid = str(key["remoteJid"])
        if jid.endswith("@g.us") and instance.settings.get("groupsIgnore"):
            return
        if self.settings.version == "2.3.6" and self._is_duplicate(instance, str(key["id"])):
            return
        data: JsonObject = {"key": key, "pushName": push_name}
        if not key["fromMe"]:
            data["status"] = "DELIVERY_ACK"
        data["message"] = self._sent_by_a_phone(instance, built.message)
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
        if self._is_2_4:
            data = as_2_4(data)
        row = self._store(instance, data)
        row.media = built.media
        self._add_chat(instance, jid)
        if not emitted:
            return
        if self._is_2_4:
            data = {**data, "key": with_number_first(key)}
        if instance.base64_active and built.media is not None:
            encoded = base64.b64encode(built.media).decode()
            data = {**data, "message": {**data["message"], "base64": encoded}}
        await self.hub.emit(instance, "messages.upsert", data)
        if contacts and jid != "status@broadcast":
            await self._contact_event(instance, jid, "" if key["fromMe"] else push_name)

    async def _contact_event(self, instance: Instance, jid: str, push_name: str) -> None:
        event = "contacts.update" if jid in instance.contacts else "contacts.upsert"
        contact = {
            "remoteJid": jid,
            "pushName": push_name,
            "profilePicUrl": self.settings.picture_url,
            "instanceId": instance.id,
        }
        instance.contacts[jid] = contact
        await self.hub.emit(instance, event, contact)

    def _is_duplicate(self, instance: Instance, message_id: str) -> bool:
        """Return whether 2.3.6 drops the id as a repeat within five minutes (§3)."""
        now = time.monotonic()
        last = instance.received_ids.get(message_id)
        instance.received_ids[message_id] = now
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
        """Handle an inbound message of the EVOLUTION channel (§7, captures 02 and 05)."""
        data: JsonObject = {"key": key, "pushName": push_name, "message": message}
        if message_type is not None:
            data["messageType"] = message_type
        data |= {"messageTimestamp": epoch(), "source": "unknown", "instanceId": instance.id}
        await self.hub.emit(instance, "messages.upsert", data)
        if message_type is None:
            # The database insert fails, and so does everything after it (§7).
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
        self._add_chat(instance, jid)
        if known:
            await self.hub.emit(instance, "chats.update", chat)
            if self._is_shared_chat(instance, jid):
                return
        await self.hub.emit(instance, "chats.upsert", chat)

    def _is_shared_chat(self, instance: Instance, jid: str) -> bool:
        # The unique index of 2.3.7 makes the update fail before the upsert is emitted (§8).
        return self.settings.version != "2.3.6" and any(
            jid in other.chats for other in self.instances.values() if other is not instance
        )

    async def receive_evolution(self, body: JsonObject) -> bool:
        """Handle `POST /webhook/evolution`; False if no instance has that number (§7)."""
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

    async def _receive_change(
        self, instance: Instance, kind: str, command: JsonObject
    ) -> JsonObject:
        target = str(command["target"])
        known = instance.messages.get(target)
        key: JsonObject = dict(known.key) if known is not None else {}
        if not key:
            sender = create_jid(str(command.get("from", "5511988887777")))
            key = {"remoteJid": sender, "fromMe": bool(command.get("from_me")), "id": target}
        text = str(command.get("text", "editado"))

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
                # Evolution reports a delete for everyone as an edit of type REVOKE (§3).
                data = {"key": key, "type": "REVOKE"}
            webhook = await self.hub.emit(instance, "messages.edited", data)
            if webhook is not None:
                # Awaited with its retries inside the queue, which blocks the instance (§1).
                await asyncio.wait([webhook])

        await self._enqueue(instance, change)
        return {"id": target, "key": key}

    async def _receive_call(self, instance: Instance, command: JsonObject) -> JsonObject:
        jid = create_jid(str(command.get("from", "5511988887777")))
        status = str(command.get("status", "offer"))
        call = {
            "chatId": jid,
            "from": jid,
            "id": str(command.get("id") or uuid.uuid4().hex[:20].upper()),
            "date": iso(utc_now()),
            "offline": False,
            "status": status,
            "isVideo": bool(command.get("is_video", False)),
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
        """Emit the text of msgCall as messages.upsert, not send.message (§6)."""
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
        """Emit any event with any data through the instance's queue, like a real one."""

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
        """Start a steady stream of text messages; return its progress, updated as it runs."""
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
            # Paced by the clock, not by fixed pauses, so that slow emits do not lower the rate.
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

    # -- own messages --------------------------------------------------------------------------

    async def edit_own(self, instance: Instance, key: JsonObject, text: str) -> JsonObject:
        """Handle `/chat/updateMessage` on Baileys (capture 08); ApiError if it is unknown."""
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
        """Handle `/chat/deleteMessageForEveryone` on Baileys: the event is a full row (§3)."""
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
