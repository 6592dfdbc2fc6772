"""Messages as WhatsApp Web and whatsapp-web.js 1.34.7 show them.

Shapes: ``tests/fixtures/wwebjs/314_send_ok.txt`` and its neighbors 320-348.
"""

from __future__ import annotations

import base64
import dataclasses
import re
import secrets
from typing import Any

from simulators.base import JsonObject

_LINK = re.compile(r"https?://\S+")
ME_LID = "100000000000001@lid"


@dataclasses.dataclass(slots=True)
class Content:
    """The content of a message; ``inner`` and ``outer`` are the fields of its kind."""

    kind: str
    body: str | None = ""
    inner: JsonObject = dataclasses.field(default_factory=dict)
    outer: JsonObject = dataclasses.field(default_factory=dict)
    outer_tail: JsonObject = dataclasses.field(default_factory=dict)
    vcards: list[str] = dataclasses.field(default_factory=list)
    media_key: str = ""
    caption: str | None = None


def text(body: str | None) -> Content:
    """A text; ``None`` and ``""`` are sent as an empty message (captures 328, 329)."""
    return Content("chat", body)


def location(latitude: Any, longitude: Any, description: Any) -> Content:
    """A location; a description that is not an object is dropped (captures 335, 336)."""
    shown: JsonObject = {"latitude": latitude, "longitude": longitude}
    lines: list[str] = []
    if isinstance(description, dict):
        for key in ("name", "address", "url"):
            if description.get(key):
                shown[key] = description[key]
        lines = [str(shown[key]) for key in ("name", "address") if key in shown]
    shown["description"] = "\n".join(lines)
    return Content(
        "location",
        "",
        inner={"loc": shown["description"], "lat": latitude, "lng": longitude},
        outer={"location": shown},
    )


def contact(contact_id: str) -> Content:
    """A contact card (capture 337)."""
    user = contact_id.removesuffix("@c.us")
    card = f"BEGIN:VCARD\nVERSION:3.0\nFN:{user}\nTEL;waid={user}:+{user}\nEND:VCARD"
    return Content("vcard", card, inner={"vcardFormattedName": user}, vcards=[card])


def vcard(card: str) -> Content:
    """A text that begins like a contact card (whatsapp-web.js, Injected/Utils.js)."""
    name = re.search(r"^FN:(.*)$", card, re.MULTILINE)
    inner = {"vcardFormattedName": name[1].strip()} if name else {}
    return Content("vcard", card, inner=inner, vcards=[card])


def poll(name: Any, options: Any, many_answers: bool) -> Content:
    """A poll (captures 339, 340)."""
    choices = [{"name": option, "localId": place} for place, option in enumerate(options or [])]
    secret = list(secrets.token_bytes(32))
    return Content(
        "poll_creation",
        "",
        inner={
            "kind": "pollCreation",
            "pollName": name,
            "pollOptions": choices,
            "pollSelectableOptionsCount": 0 if many_answers else 1,
            "messageSecret": {str(place): byte for place, byte in enumerate(secret)},
        },
        outer={"body": name},
        outer_tail={
            "pollName": name,
            "pollOptions": choices,
            "allowMultipleAnswers": many_answers,
            "messageSecret": secret,
        },
    )


def media(mimetype: str, filename: Any, options: JsonObject, caption: str | None) -> Content:
    """A file; its kind follows from the type and the options (captures 341, 342, 348)."""
    family = mimetype.partition("/")[0]
    kind = family if family in {"image", "video", "audio"} else "document"
    if options.get("sendMediaAsDocument"):
        kind = "document"
    elif options.get("sendMediaAsSticker"):
        kind = "sticker"
    elif kind == "audio" and options.get("sendAudioAsVoice"):
        kind = "ptt"
    key = base64.b64encode(secrets.token_hex(16).upper().encode()).decode()
    return Content(
        kind,
        None,
        inner={
            "mimetype": mimetype,
            "filename": filename,
            "size": 0,
            "filehash": "fh" + secrets.token_hex(8).upper(),
            "isGif": False,
            "renderableUrl": "blob:fake",
            "clientUrl": "https://mmg.whatsapp.net/fake",
            "directPath": "/v/t62.7118-24/fake",
            "mediaKey": key,
            "mediaKeyTimestamp": 1,
            "encFilehash": "e",
            "uploadhash": "u",
            "mediaHandle": None,
        },
        media_key=key,
        caption=caption,
    )


def wid(serialized: str) -> JsonObject:
    """Return a WhatsApp id with its parts."""
    user, _, server = serialized.partition("@")
    return {"server": server, "user": user, "_serialized": serialized}


def new_message(
    *, me: str, to: str, content: Content, options: JsonObject, now: int, ack: int, dollar: bool
) -> JsonObject:
    """Return an own message as the library returns it (captures 314-355, ``$1`` as in 417)."""
    key = "3EB0" + secrets.token_hex(9).upper()
    group, private = to.endswith("@g.us"), to.endswith("@lid")
    sender = ME_LID if group or private else f"{me}@c.us"
    serialized = f"true_{to}_{key}"
    message_id: JsonObject = {"fromMe": True, "remote": to, "id": key}
    if group:
        message_id["participant"] = wid(ME_LID)
        serialized += f"_{ME_LID}"
    message_id["self"] = "out"
    message_id["$1" if dollar else "_serialized"] = serialized

    links = _links(content.body or "") if content.kind == "chat" else []
    previews = bool(links) and options.get("linkPreview", True) is not False
    data: JsonObject = {
        **({"caption": content.caption} if content.caption is not None else {}),
        "isCaptionByUser": "caption" in options,
        "parseVCards": options.get("parseVCards", True) is not False,
        "mentionedJidList": [],
        "ignoreQuoteErrors": True,
        "waitUntilMsgSent": bool(options.get("waitUntilMsgSent", True)),
    }
    if previews:
        data |= {"title": "Fake preview", "description": "", "preview": True, "subtype": "url"}
    data |= {"id": message_id, "ack": ack}
    if content.body is not None:
        data["body"] = content.body
    data |= {"from": wid(sender), "to": wid(to), "self": "out", "t": now, "isNewMsg": True}
    data |= {"type": content.kind, **content.inner}
    data |= {
        "viewMode": "VISIBLE",
        "notifyName": "",
        "star": False,
        "broadcast": False,
        "stickerSentTs": 0,
        "lastPlaybackProgress": 0,
        "isMdHistoryMsg": False,
        "requiresDirectConnection": False,
        "links": links,
        "groupMentions": [],
        "isVcardOverMmsDocument": False,
        "hasReaction": False,
    }

    message: JsonObject = {"_data": data}
    if content.media_key:
        message["mediaKey"] = content.media_key
    message |= {
        "id": message_id,
        "ack": ack,
        "hasMedia": bool(content.media_key),
        "body": content.body or content.caption or "",
        "type": content.kind,
        "timestamp": now,
        "from": sender,
        "to": to,
        "deviceType": "web",
        "forwardingScore": 0,
        "isStatus": False,
        "isStarred": False,
        "broadcast": False,
        "fromMe": True,
        "hasQuotedMsg": False,
        "hasReaction": False,
        **content.outer,
        "vCards": content.vcards,
        "mentionedIds": [],
        "groupMentions": [],
        "isGif": False,
    }
    if previews:
        message["title"] = "Fake preview"
    message["links"] = links
    message |= content.outer_tail
    set_ack(message, ack)
    return message


def new_inbound(*, me: str, chat: str, name: str, body: str, now: int, key: str = "") -> JsonObject:
    """A customer's text in this chat (``tests/fixtures/wwebjs/webhook_events.jsonl``)."""
    key = key or secrets.token_hex(16).upper()
    message_id = {
        "fromMe": False,
        "remote": chat,
        "id": key,
        "_serialized": f"false_{chat}_{key}",
    }
    data = {
        "id": message_id,
        "ack": 1,
        "body": body,
        "type": "chat",
        "t": now,
        "from": wid(chat),
        "to": wid(f"{me}@c.us"),
        "notifyName": name,
        "isNewMsg": True,
        "links": [],
    }
    return {
        "_data": data,
        "id": message_id,
        "ack": 1,
        "hasMedia": False,
        "body": body,
        "type": "chat",
        "timestamp": now,
        "from": chat,
        "to": f"{me}@c.us",
        "deviceType": "android",
        "forwardingScore": 0,
        "isStatus": False,
        "fromMe": False,
        "hasQuotedMsg": False,
        "hasReaction": False,
        "vCards": [],
        "mentionedIds": [],
        "groupMentions": [],
        "isGif": False,
        "links": [],
    }


def quote(message: JsonObject, quoted: JsonObject) -> None:
    """Make a message a reply to another one (whatsapp-web.js: `hasQuotedMsg`, `_data`)."""
    message["hasQuotedMsg"] = True
    message["_data"] |= {
        "quotedStanzaID": quoted["id"]["id"],
        "quotedParticipant": wid(quoted["from"]),
        "quotedMsg": {"type": quoted["type"], "body": quoted["body"]},
    }


def set_ack(message: JsonObject, ack: int) -> None:
    """Record the ack of a message; -1 marks it as rejected (capture 351)."""
    message["ack"] = message["_data"]["ack"] = ack
    if ack < 0:
        message["_data"]["isSendFailure"] = True


def _links(body: str) -> list[JsonObject]:
    return [{"link": link, "isSuspicious": False} for link in _LINK.findall(body)]
