"""Message objects as Evolution builds them, for each channel: pure functions.

Shapes: `docs/providers/evolution.md` §3 and §5, captures 04 (EVOLUTION, BUSINESS) and 08 (Baileys).
Raw bytes stay `bytes` here: webhooks and HTTP responses contain them as an index object, Socket.IO
sends them as binary attachments (capture 08).
"""

from __future__ import annotations

import base64
import hashlib
import json
import mimetypes
import secrets
import uuid
from typing import Any

from simulators.base import JsonObject
from simulators.evolution.model import own_jid, wamid, whatsapp_id
from simulators.evolution.schema import decode_base64, is_base64

MEDIA_URL = "https://mmg.whatsapp.net/v/t62.7118-24/fake.enc?mms3=true"
DIRECT_PATH = "/v/t62.7118-24/fake.enc?ccb=11-4"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_THUMBNAIL = b"\xff\xd8\xff\xdb\x00C\x00\x10\x0b\x0c\x0e\xff\xd9"
_EPHEMERAL_SECONDS = 172_800
_DEFAULT_MIMETYPE = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/octet-stream",
    "sticker": "image/webp",
}


def long_number(value: int, *, unsigned: bool = False) -> JsonObject:
    """Return a protobuf Long after JSON.stringify (§3)."""
    return {"low": value & 0xFFFFFFFF, "high": value >> 32, "unsigned": unsigned}


def context_info(now: int, *, attributions: bool = False) -> JsonObject:
    """Return the contextInfo that Evolution adds to each send to a person (capture 08)."""
    info: JsonObject = {"mentionedJid": [], "groupMentions": []}
    if attributions:
        info["statusAttributions"] = []
    info["ephemeralSettingTimestamp"] = long_number(now - _EPHEMERAL_SECONDS)
    info["disappearingMode"] = {"initiator": 0}
    return info


def vcard(contact: JsonObject) -> str:
    """Return one contact card (captures 04 and 08)."""
    phone = str(contact.get("phoneNumber", ""))
    wuid = contact.get("wuid") or "".join(c for c in phone if c.isdigit())
    lines = ["BEGIN:VCARD", "VERSION:3.0", f"N:{contact['fullName']}", f"FN:{contact['fullName']}"]
    if contact.get("organization"):
        lines.append(f"ORG:{contact['organization']};")
    if contact.get("email"):
        lines.append(f"EMAIL:{contact['email']}")
    if contact.get("url"):
        lines.append(f"URL:{contact['url']}")
    lines += [f"item1.TEL;waid={wuid}:{phone}", "item1.X-ABLabel:Celular", "END:VCARD"]
    return "\n".join(lines)


def media_message(
    kind: str,
    content: bytes,
    *,
    now: int,
    mimetype: str | None = None,
    caption: str | None = None,
    file_name: str | None = None,
    voice: bool = False,
) -> JsonObject:
    """Return the inner `imageMessage` etc. of a file, with keys and hashes as bytes."""
    message: JsonObject = {}
    if kind in ("image", "video"):
        message |= {"interactiveAnnotations": [], "scanLengths": [], "annotations": []}
    message |= {
        "url": MEDIA_URL,
        "mimetype": mimetype or _guess_mimetype(kind, file_name),
        "fileSha256": hashlib.sha256(content).digest(),
        "fileLength": long_number(len(content), unsigned=True),
        "mediaKey": secrets.token_bytes(32),
        "fileEncSha256": hashlib.sha256(content + b"enc").digest(),
        "directPath": DIRECT_PATH,
        "mediaKeyTimestamp": long_number(now),
    }
    if caption is not None and kind in ("image", "video", "document"):
        message["caption"] = caption
    if kind in ("image", "video"):
        message |= {"height": 1, "width": 1, "jpegThumbnail": _THUMBNAIL}
    if kind == "video":
        message["seconds"] = 1
    if kind == "audio":
        message["ptt"] = voice
        message["seconds"] = 1
    if kind == "document":
        message["fileName"] = file_name or "document"
    return message


def _guess_mimetype(kind: str, file_name: str | None) -> str:
    guessed = mimetypes.guess_type(file_name)[0] if file_name else None
    return guessed or _DEFAULT_MIMETYPE[kind]


class Outgoing:
    """A message under construction for the Baileys channel."""

    def __init__(
        self,
        message: JsonObject,
        message_type: str,
        *,
        context: JsonObject | None = None,
        inner_context: bool = False,
        media: bytes | None = None,
    ) -> None:
        self.message = message
        self.message_type = message_type
        self.context = context
        self.media = media
        self.source = "web"
        self.participant = False
        if inner_context and context is not None:
            message[message_type]["contextInfo"] = context


def outgoing(route: str, body: JsonObject, *, now: int, upload: bytes | None) -> Outgoing:
    """Build the Baileys message for a body of `/message/<route>` (capture 08)."""
    context = context_info(now)
    if route == "sendtext":
        return Outgoing({"conversation": body["text"]}, "conversation", context=context)
    if route == "sendmedia":
        kind = str(body["mediatype"])
        content = _content(body.get("media"), upload)
        media = media_message(
            kind,
            content,
            now=now,
            mimetype=body.get("mimetype"),
            caption=body.get("caption"),
            file_name=body.get("fileName"),
        )
        name = f"{kind}Message"
        return Outgoing({name: media}, name, context=context, inner_context=True, media=content)
    if route == "sendwhatsappaudio":
        content = _content(body.get("audio"), upload)
        media = media_message("audio", content, now=now, voice=True)
        del media["seconds"]
        context = context_info(now, attributions=True)
        return Outgoing(
            {"audioMessage": media},
            "audioMessage",
            context=context,
            inner_context=True,
            media=content,
        )
    if route == "sendsticker":
        content = _content(body.get("sticker"), upload)
        media = media_message("sticker", content, now=now)
        context = context_info(now, attributions=True)
        return Outgoing(
            {"stickerMessage": media},
            "stickerMessage",
            context=context,
            inner_context=True,
            media=content,
        )
    if route == "sendptv":
        content = _content(body.get("video"), upload)
        media = media_message("video", content, now=now)
        return Outgoing(
            {"ptvMessage": media}, "ptvMessage", context=context, inner_context=True, media=content
        )
    if route == "sendlocation":
        location = {
            "degreesLatitude": body["latitude"],
            "degreesLongitude": body["longitude"],
            "name": body["name"],
            "address": body["address"],
        }
        return Outgoing(
            {"locationMessage": location}, "locationMessage", context=context, inner_context=True
        )
    if route == "sendcontact":
        return _contacts(body["contact"], context)
    if route == "sendreaction":
        reaction = {
            "text": body["reaction"],
            "key": body["key"],
            "senderTimestampMs": now * 1000,
        }
        return Outgoing({"reactionMessage": reaction}, "reactionMessage")
    if route == "sendpoll":
        return Outgoing(
            {
                "messageContextInfo": {
                    "messageSecret": secrets.token_bytes(32),
                    "contextInfo": context,
                },
                "pollCreationMessageV3": {
                    "name": body["name"],
                    "selectableOptionsCount": body["selectableCount"],
                    "options": [{"optionName": value} for value in body["values"]],
                },
            },
            "pollCreationMessageV3",
        )
    if route == "sendlist":
        listing = {
            "sections": body["sections"],
            "title": body["title"],
            "description": body.get("description"),
            "buttonText": body["buttonText"],
            "listType": 2,
            "footerText": body["footerText"],
        }
        return Outgoing(
            {"listMessage": listing}, "listMessage", context=context, inner_context=True
        )
    if route == "sendstatus":
        return Outgoing({"conversation": body.get("content")}, "conversation")
    return _buttons(body)


def _content(value: Any, upload: bytes | None) -> bytes:
    if upload is not None:
        return upload
    # Evolution would download a URL; the simulator does not.
    return decode_base64(value) if is_base64(value) else PIXEL


def _contacts(contacts: list[JsonObject], context: JsonObject) -> Outgoing:
    cards = [{"displayName": entry["fullName"], "vcard": vcard(entry)} for entry in contacts]
    if len(cards) == 1:
        return Outgoing(
            {"contactMessage": cards[0]}, "contactMessage", context=context, inner_context=True
        )
    array = {"displayName": f"{len(cards)} contacts", "contacts": cards}
    return Outgoing(
        {"contactsArrayMessage": array}, "contactsArrayMessage", context=context, inner_context=True
    )


def _buttons(body: JsonObject) -> Outgoing:
    names = {"reply": "quick_reply", "copy": "cta_copy", "url": "cta_url", "call": "cta_call"}
    buttons = []
    for button in body["buttons"]:
        parameters = {"display_text": button.get("displayText"), "id": button.get("id")}
        buttons.append(
            {
                "name": names.get(button["type"], "payment_info"),
                "buttonParamsJson": json.dumps(parameters, separators=(",", ":")),
            }
        )
    text = f"*{body.get('title', '')}*"
    if body.get("description"):
        text += f"\n\n{body['description']}\n"
    parameters = {"from": "api", "templateId": str(uuid.uuid4())}
    interactive: JsonObject = {
        "body": {"text": text},
        "footer": {"text": body.get("footer", "")},
        "nativeFlowMessage": {
            "buttons": buttons,
            "messageParamsJson": json.dumps(parameters, separators=(",", ":")),
        },
    }
    message = {"viewOnceMessage": {"message": {"interactiveMessage": interactive}}}
    result = Outgoing(message, "viewOnceMessage")
    result.source = "unknown"
    result.participant = True
    return result


OWN_IDS = ("sendtext", "sendmedia")
"""The routes of 2.4 that use `messageId` as the id of the message."""


def baileys_body(
    built: Outgoing, *, jid: str, instance_id: str, now: int, message_id: str = ""
) -> JsonObject:
    """Return the response of a Baileys send, also the data of `send.message` (§5)."""
    key: JsonObject = {"remoteJid": jid, "fromMe": True, "id": message_id or whatsapp_id()}
    if built.participant:
        key = {"id": key["id"], "remoteJid": jid, "participant": jid, "fromMe": True}
    body: JsonObject = {
        "key": key,
        "pushName": "Você",
        "status": "PENDING",
        "message": built.message,
    }
    if built.context is not None:
        body["contextInfo"] = built.context
    return body | {
        "messageType": built.message_type,
        "messageTimestamp": now,
        "instanceId": instance_id,
        "source": built.source,
    }


def evolution_body(route: str, body: JsonObject, *, instance_id: str, now: int) -> JsonObject:
    """Return the response of a send on the EVOLUTION channel (capture 04)."""
    if route == "sendtext":
        message: JsonObject = {"conversation": body["text"]}
        if isinstance(body.get("quoted"), dict) and "key" in body["quoted"]:
            message["quoted"] = {"id": body["quoted"]["key"].get("id")}
        kind = "conversation"
    elif route == "sendbuttons":
        names = ("title", "description", "footer", "buttons")
        message = {name: body[name] for name in names if name in body}
        kind = "buttonMessage"
    else:
        source = body.get("media", body.get("audio"))
        message = {"mediaUrl": source if isinstance(source, str) and "://" in source else None}
        kind = "audioMessage" if route == "sendwhatsappaudio" else f"{body['mediatype']}Message"
    return {
        "key": {"fromMe": True, "id": str(uuid.uuid4()), "remoteJid": body["number"]},
        "message": message,
        "messageType": kind,
        "messageTimestamp": now,
        "source": "unknown",
        "instanceId": instance_id,
    }


def business_body(route: str, body: JsonObject, *, instance_id: str, now: int) -> JsonObject:
    """Return the response of a send on the BUSINESS channel (capture 04)."""
    kind = "conversation"
    message: JsonObject
    if route == "sendtext":
        message = {"conversation": body["text"]}
        if isinstance(body.get("quoted"), dict) and "key" in body["quoted"]:
            message["contextInfo"] = {"stanzaId": body["quoted"]["key"].get("id")}
    elif route == "sendmedia":
        kind = f"{body['mediatype']}Message"
        media = {
            "caption": body.get("caption"),
            "fileName": body.get("fileName"),
            "mediaType": body["mediatype"],
            "media": body.get("media"),
            "gifPlayback": False,
            "id": "1037543291543636",
            "type": "id",
            "mimetype": body.get("mimetype"),
        }
        message = {kind: {name: value for name, value in media.items() if value is not None}}
    elif route == "sendwhatsappaudio":
        kind = "audioMessage"
        message = {
            "audioMessage": {
                "fileName": f"{body['number']}-{now}000.mp3",
                "mediaType": "audio",
                "media": body.get("audio"),
                "id": "1037543291543636",
                "type": "id",
                "mimetype": "audio/mpeg",
            }
        }
    elif route == "sendlocation":
        kind = "locationMessage"
        message = {
            "locationMessage": {
                "degreesLatitude": body["latitude"],
                "degreesLongitude": body["longitude"],
                "name": body["name"],
                "address": body["address"],
            }
        }
    elif route == "sendcontact":
        entry = body["contact"][0]
        message = {"contact": {"displayName": entry["fullName"], "vcard": vcard(entry)}}
    elif route == "sendreaction":
        message = {"reactionMessage": {"key": body["key"], "text": body["reaction"]}}
    elif route == "sendbuttons":
        labels = "".join(f"▶️ {button.get('displayText')}\n" for button in body["buttons"])
        message = {"conversation": f"{body.get('title')}\n{labels}"}
    elif route == "sendlist":
        lines = [body["title"]]
        for section in body["sections"]:
            lines += [section["title"], *(row["title"] for row in section["rows"])]
        message = {"conversation": "\n".join(lines) + "\n"}
    else:
        message = {"conversation": f"▶️{body['name']}◀️"}
    jid = body["number"] if "number" in body else body["key"]["remoteJid"]
    return {
        "key": {"fromMe": True, "id": wamid(), "remoteJid": jid if "@" in jid else own_jid(jid)},
        "message": message,
        "messageType": kind,
        "messageTimestamp": now,
        "instanceId": instance_id,
        "status": "PENDING",
        "source": "unknown",
    }


def as_2_4(data: JsonObject) -> JsonObject:
    """Return a message as 2.4 builds it: `contextInfo` holds `messageContextInfo` (§10).

    A text loses its quote with its `extendedTextMessage`; other kinds of content keep the quote in
    their own `contextInfo`.
    """
    message = dict(data["message"])
    quoted, kind = data.get("contextInfo"), str(data.get("messageType"))
    if quoted and isinstance(message.get(kind), dict):
        message[kind] = {**message[kind], "contextInfo": quoted}
    return {**data, "message": message, "contextInfo": message.get("messageContextInfo")}


def with_number_first(key: JsonObject) -> JsonObject:
    """Return the key of an emitted message of 2.4; the row has the LID in `remoteJid` (§10)."""
    if not str(key["remoteJid"]).endswith("@lid") or not key.get("remoteJidAlt"):
        return key
    swapped = {"remoteJid": key["remoteJidAlt"], "remoteJidAlt": key["remoteJid"]}
    return {**key, **swapped, "addressingMode": "pn"}


class Incoming:
    """An inbound message before it becomes `messages.upsert`."""

    def __init__(
        self,
        message: JsonObject,
        message_type: str,
        *,
        media: bytes | None = None,
        context: JsonObject | None = None,
        null_context: bool = False,
    ) -> None:
        self.message = message
        self.message_type = message_type
        self.media = media
        self.context = context
        self.null_context = null_context


INBOUND_KINDS = (
    "text",
    "image",
    "video",
    "audio",
    "document",
    "sticker",
    "location",
    "contact",
    "reaction",
    "buttons_reply",
    "list_reply",
    "view_once",
)


def with_secret(message: JsonObject) -> JsonObject:
    """Add the bytes that WhatsApp's clients send with nearly every message."""
    if "messageContextInfo" in message:
        return message
    context = {
        "deviceListMetadata": {
            "senderKeyHash": secrets.token_bytes(10),
            "senderTimestamp": "1795300000",
            "recipientKeyHash": secrets.token_bytes(10),
        },
        "deviceListMetadataVersion": 2,
        "messageSecret": secrets.token_bytes(32),
    }
    if location := message.get("locationMessage"):
        message = {**message, "locationMessage": {**location, "jpegThumbnail": _THUMBNAIL}}
    return {**message, "messageContextInfo": context}


_HEADS = {"video": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom", "document": b"%PDF-1.4\n"}


def sample_file(kind: str, size: int) -> bytes:
    """Return a file of this many bytes that starts like one of its kind."""
    return _HEADS.get(kind, PIXEL).ljust(size, b"\0")[:size]


def incoming(kind: str, command: JsonObject, *, now: int) -> Incoming:
    """Build the content of an inbound message by kind (capture 08).

    Raises KeyError or ValueError if the command lacks a field that its kind needs.
    """
    text = str(command.get("text", "oi"))
    if kind == "text":
        context = None
        if command.get("quoted_id"):
            context = {
                "mentionedJid": [],
                "groupMentions": [],
                "statusAttributions": [],
                "stanzaId": command["quoted_id"],
                "participant": command.get("quoted_participant"),
                "quotedMessage": {"conversation": command.get("quoted_text", "")},
            }
        return Incoming({"conversation": text}, "conversation", context=context)
    if kind in ("image", "video", "audio", "document", "sticker"):
        content = base64.b64decode(command["base64"]) if command.get("base64") else PIXEL
        if command.get("size"):
            content = sample_file(kind, int(command["size"]))
        media = media_message(
            kind,
            content,
            now=now,
            mimetype=command.get("mimetype"),
            caption=command.get("caption", command.get("text")),
            file_name=command.get("file_name"),
            voice=bool(command.get("voice", True)),
        )
        name = f"{kind}Message"
        return Incoming({name: media}, name, media=content, null_context=kind != "document")
    if kind == "view_once":
        image = media_message("image", PIXEL, now=now) | {"viewOnce": True}
        return Incoming(
            {"viewOnceMessageV2": {"message": {"imageMessage": image}}}, "viewOnceMessageV2"
        )
    if kind == "location":
        location = {
            "degreesLatitude": float(command.get("latitude", -23.5)),
            "degreesLongitude": float(command.get("longitude", -46.6)),
            "name": str(command.get("name", "SP")),
        }
        return Incoming({"locationMessage": location}, "locationMessage", null_context=True)
    if kind == "contact":
        card = {
            "fullName": command.get("name", "Bob"),
            "phoneNumber": command.get("phone", "+55 11 97777-6666"),
        }
        message = {"contactMessage": {"displayName": card["fullName"], "vcard": vcard(card)}}
        return Incoming(message, "contactMessage", null_context=True)
    if kind == "reaction":
        reaction = {
            "key": {
                "remoteJid": command.get("target_jid"),
                "fromMe": bool(command.get("target_from_me", True)),
                "id": command["target"],
            },
            "text": command.get("emoji", "👍"),
            "senderTimestampMs": long_number(int(command.get("timestamp", now)) * 1000),
        }
        return Incoming({"reactionMessage": reaction}, "reactionMessage")
    if kind == "buttons_reply":
        reply = {
            "selectedButtonId": command.get("button_id", "yes"),
            "type": 1,
            "selectedDisplayText": text,
        }
        return Incoming(
            {"buttonsResponseMessage": reply}, "buttonsResponseMessage", null_context=True
        )
    if kind == "list_reply":
        reply = {
            "title": text,
            "listType": 1,
            "singleSelectReply": {"selectedRowId": command.get("row_id", "r1")},
        }
        return Incoming({"listResponseMessage": reply}, "listResponseMessage", null_context=True)
    raise ValueError(f"unknown kind {kind!r}; one of {', '.join(INBOUND_KINDS)}")
