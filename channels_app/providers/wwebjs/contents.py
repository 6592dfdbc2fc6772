"""Reads the content of whatsapp-web.js' messages (docs/providers/wwebjs.md §4). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from channels_app.providers import contents
from channels_app.providers.contents import Content, lines, mapping, text_at

# WhatsApp Web's name of a type, and ours. `ptv` is a round video.
MEDIA = {
    "image": "image",
    "video": "video",
    "ptv": "video",
    "gif": "video",
    "audio": "audio",
    "ptt": "audio",
    "document": "document",
    "sticker": "sticker",
}
# Notices of WhatsApp's own that no person wrote, and what changes another message.
TECHNICAL = (
    "broadcast_notification", "debug", "e2e_notification", "gp2", "keep_in_chat", "notification",
    "notification_template", "pinned_message", "poll_vote", "poll_update", "protocol", "reaction",
    "reaction_enc", "revoked", "biz-notification",
)  # fmt: skip


def read(message: Mapping[str, Any]) -> Content | None:
    """Return the content of a message; None if no person wrote it."""
    type_ = type_of(message)
    if type_ in TECHNICAL:
        return None
    if type_ in MEDIA:
        found = _media(type_, message)
    elif reader := _READERS.get(type_):
        found = reader(message)
    else:
        words = {
            name: message[name] for name in ("body", "title", "description") if name in message
        }
        found = contents.unknown(words, name=type_)
    if found.type == "text":
        return found
    return Content(found.type, found.text, {**found.content, "message_type": type_})


def type_of(message: Mapping[str, Any]) -> str:
    """Return the type that a message declares, or what its object says."""
    declared = text_at(message, "type") or text_at(mapping(message, "_data"), "type")
    if declared and declared != "unknown":
        return declared[:60]
    if mapping(message, "location"):
        return "location"
    if isinstance(message.get("vCards"), list) and message["vCards"]:
        return "vcard"
    return "document" if message.get("hasMedia") is True else "chat" if body(message) else "unknown"


def body(message: Mapping[str, Any]) -> str:
    return text_at(message, "body", "caption")


def _media(type_: str, message: Mapping[str, Any]) -> Content:
    inner = mapping(message, "_data")
    text = body(message)
    filename = text_at(inner, "filename")
    if MEDIA[type_] == "document" and text == filename:
        text = ""  # without a caption, the body is the file's name
    parts = {
        "caption": text,
        "filename": filename,
        "mime_type": text_at(inner, "mimetype"),
        "voice": type_ == "ptt",
        "round": type_ == "ptv",
        "gif": type_ == "gif" or message.get("isGif") is True,
        "view_once": inner.get("isViewOnce") is True,
    }
    return Content(MEDIA[type_], text, {name: parts[name] for name in parts if parts[name]})


def _text(message: Mapping[str, Any]) -> Content:
    return Content("text", body(message))


def _location(message: Mapping[str, Any]) -> Content:
    found = mapping(message, "location")
    # The body of a location is its thumbnail.
    return contents.place(
        found.get("latitude"),
        found.get("longitude"),
        name=text_at(found, "name", "description"),
        address=text_at(found, "address"),
        url=text_at(found, "url"),
        caption="" if found else body(message),
        live=message.get("type") == "live_location",
    )


def _contacts(message: Mapping[str, Any]) -> Content:
    found = message.get("vCards")
    vcards = found if isinstance(found, list) and found else [body(message)]
    return contents.cards(contents.card_from_vcard(one) for one in vcards if isinstance(one, str))


def _poll(message: Mapping[str, Any]) -> Content:
    inner = mapping(message, "_data")
    listed = message.get("pollOptions") or inner.get("pollOptions")
    options = [
        one if isinstance(one, str) else text_at(one, "name")
        for one in (listed if isinstance(listed, list) else [])
    ]
    many = message.get("allowMultipleAnswers") is True
    return contents.poll(text_at(message, "pollName", "body"), options, many=many)


def _button(message: Mapping[str, Any]) -> Content:
    inner = mapping(message, "_data")
    id_ = text_at(message, "selectedButtonId") or text_at(inner, "selectedId", "selectedButtonId")
    return contents.reply("button_reply", id_, body(message))


def _row(message: Mapping[str, Any]) -> Content:
    response = mapping(mapping(message, "_data"), "listResponse")
    id_ = text_at(message, "selectedRowId")
    id_ = id_ or text_at(mapping(response, "singleSelectReply"), "selectedRowId")
    title = body(message) or text_at(message, "title") or text_at(response, "title")
    return contents.reply("list_reply", id_, title, text_at(message, "description"))


def _buttons(message: Mapping[str, Any]) -> Content:
    inner = mapping(message, "_data")
    listed = message.get("dynamicReplyButtons")
    buttons = [
        {"title": text_at(mapping(one, "buttonText"), "displayText") or text_at(one, "text")}
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, Mapping)
    ]
    title = text_at(message, "title") or text_at(inner, "title")
    text = body(message)
    return contents.interactive(
        header="" if title == text else title,
        body=text,
        footer=text_at(message, "footer") or text_at(inner, "footer"),
        buttons=buttons,
    )


def _product(message: Mapping[str, Any]) -> Content:
    inner = mapping(message, "_data")
    price = inner.get("salePriceAmount1000") or inner.get("priceAmount1000")
    return contents.product(
        title=text_at(message, "title") or text_at(inner, "title"),
        price=contents.money(price, text_at(inner, "currencyCode"), per_unit=1000),
        description=text_at(message, "description"),
        product_retailer_id=text_at(message, "productId"),
        body=body(message),
    )


def _order(message: Mapping[str, Any]) -> Content:
    inner = mapping(message, "_data")
    total = inner.get("totalAmount1000")
    return contents.order(
        text=body(message),
        title=text_at(inner, "orderTitle"),
        count=inner.get("itemCount"),
        total=contents.money(total, text_at(inner, "totalCurrencyCode"), per_unit=1000),
        order_id=text_at(message, "orderId"),
    )


def _payment(message: Mapping[str, Any]) -> Content:
    inner = mapping(message, "_data")
    note = text_at(mapping(inner, "paymentNoteMsg"), "body") or body(message)
    currency = text_at(inner, "paymentCurrency")
    amount = contents.money(inner.get("paymentAmount1000"), currency, per_unit=1000)
    return contents.payment(note=note, amount=amount)


def _invitation(message: Mapping[str, Any]) -> Content:
    invite = mapping(message, "inviteV4") or mapping(mapping(message, "_data"), "inviteV4")
    group = text_at(invite, "groupName")
    words = body(message)
    return Content("group_invite", lines(group, words), {"name": group} if group else {})


def _call(message: Mapping[str, Any]) -> Content:
    video = mapping(message, "_data").get("isVideoCall") is True
    return Content("call", "", {"video": True} if video else {})


def _event(message: Mapping[str, Any]) -> Content:
    inner = mapping(message, "_data")
    name = text_at(message, "eventName") or text_at(inner, "eventName") or body(message)
    place = text_at(mapping(inner, "eventLocation"), "name")
    return contents.occasion(name=name, description=text_at(inner, "eventDescription"), place=place)


def _waiting(message: Mapping[str, Any]) -> Content:
    return contents.unknown(kind=contents.WAITING)


_READERS: Mapping[str, Callable[[Mapping[str, Any]], Content]] = {
    "chat": _text,
    "location": _location,
    "live_location": _location,
    "vcard": _contacts,
    "multi_vcard": _contacts,
    "poll_creation": _poll,
    "buttons_response": _button,
    "template_button_reply": _button,
    "list_response": _row,
    **dict.fromkeys(("hsm", "list", "buttons", "interactive", "native_flow", "template"), _buttons),
    "product": _product,
    "order": _order,
    "payment": _payment,
    "groups_v4_invite": _invitation,
    "call_log": _call,
    "event_creation": _event,
    "ciphertext": _waiting,
    "album": lambda message: Content("album"),
}
