"""Reads the content of WhatsApp's own messages, as Baileys decodes them. Pure.

The wire facts are in docs/providers/evolution.md §3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from channels_app.providers import contents
from channels_app.providers.contents import Content, dicts, lines, mapping, text_at

# WhatsApp's name of the object with the content, and ours of the type.
MEDIA = {
    "imageMessage": "image",
    "videoMessage": "video",
    "ptvMessage": "video",
    "audioMessage": "audio",
    "documentMessage": "document",
    "stickerMessage": "sticker",
}
# Keys beside the content that are not content themselves.
_METADATA = (
    "messageContextInfo", "contextInfo", "base64", "mediaUrl", "speechToText", "quoted",
    "senderKeyDistributionMessage",
)  # fmt: skip
# Technical messages that no person wrote. An encrypted edit or reaction comes decrypted as well.
TECHNICAL = (
    "encCommentMessage",
    "encEventResponseMessage",
    "encReactionMessage",
    "keepInChatMessage",
    "pinInChatMessage",
    "protocolMessage",
    "secretEncryptedMessage",
    "senderKeyDistributionMessage",
)
# A message that the linked devices do not get.
_PHONE_ONLY = "placeholderMessage"
# Beside a message, these are no reason to leave its envelope closed.
_OF_ENVELOPES = (
    "messageContextInfo", "contextInfo", "destinationJid", "phash", "message", "groupJid",
    "caption",
)  # fmt: skip
# These hold only another message, too, but say what it is.
_KINDS = ("questionMessage",)
_DEEPEST = 12
# "Message absent from node" and the like: WhatsApp delivers the message later, or never.
_WAITING_STUB = 2


def unwrap(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the message inside all envelopes: whatever holds only another message is opened."""
    for _ in range(_DEEPEST):
        inner = next(filter(None, (_enclosed(name, message[name]) for name in message)), None)
        if inner is None or any(name in message for name in (*MEDIA, "conversation")):
            break
        message = inner
    return message


def _enclosed(name: str, value: Any) -> Mapping[str, Any] | None:
    inner = mapping(value, "message")
    if not inner or name in _KINDS:
        return None
    return inner if all(part in _OF_ENVELOPES for part in value) else None


def is_view_once(message: Mapping[str, Any]) -> bool:
    """Return whether the sender wants the content to be seen only once."""
    return any(name.startswith("viewOnceMessage") for name in message)


def name_of(message: Mapping[str, Any], declared: str) -> str:
    """Return WhatsApp's name of the content type.

    The object itself takes precedence over `messageType`: WHATSAPP-BUSINESS declares a reaction
    that it sends, and the title of a selected button, as "conversation".
    """
    for name in message:
        if name in _KNOWN and message[name]:
            return name
    if message and declared in _KNOWN:
        return declared
    if isinstance(message.get("conversation"), str):
        return "conversation"
    others = [name for name in message if name not in _METADATA]
    return next(iter(others), next((name for name in message if name in TECHNICAL), ""))


def read(message: Mapping[str, Any], name: str, key: Mapping[str, Any]) -> Content | None:
    """Return the content of an unwrapped message; None if it is technical.

    `name` comes from `name_of`. `key` identifies the message for a later fetch of its file.
    """
    if name in TECHNICAL:
        return None
    body = message.get(name)
    conversation = text_at(message, "conversation")
    if name in MEDIA:
        found = _media(name, mapping(message, name), key)
    elif name in ("conversation", "extendedTextMessage"):
        return Content("text", conversation or text_at(body, "text"))
    elif not name or name == _PHONE_ONLY:
        found = contents.unknown(name=name)
    elif reader := _READERS.get(name):
        # The channel EVOLUTION has the parts beside each other.
        found = reader(name, message if body is None else body)
    else:
        found = contents.unknown(body, name=name)
    file = _header_media(body, key)
    content = {**file, **found.content, "message_type": name}
    return Content(found.type, found.text or conversation, content)


def is_empty(data: Mapping[str, Any]) -> bool:
    """Return whether an event names a message without its content, which may come later."""
    message = unwrap(mapping(data, "message"))
    return name_of(message, "") in ("", _PHONE_ONLY)


def without_content(data: Mapping[str, Any]) -> Content | None:
    """Return a message that WhatsApp has not delivered to this device, as it declares itself.

    None for a notice of WhatsApp's own, such as that somebody joined a group.
    """
    stub = data.get("messageStubType")
    if stub in (_WAITING_STUB, "CIPHERTEXT"):
        return contents.unknown(kind=contents.WAITING)
    return contents.unknown() if stub in (None, 0, "") else None


# -- files -----------------------------------------------------------------------------------------


def _media(name: str, body: Mapping[str, Any], key: Mapping[str, Any]) -> Content:
    more = {"round": name == "ptvMessage", "view_once": body.get("viewOnce") is True}
    found = {**_file(body, key), **{flag: True for flag in more if more[flag]}}
    return Content(MEDIA[name], text_at(body, "caption"), found)


def _file(body: Mapping[str, Any], key: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data needed to fetch the file later, and to show it until then."""
    seconds = body.get("seconds")
    found = {
        "mime_type": text_at(body, "mimetype", "mime_type"),
        "filename": text_at(body, "fileName", "filename"),
        "caption": text_at(body, "caption"),
        "seconds": seconds if type(seconds) is int else None,
        "voice": body.get("ptt") is True or body.get("voice") is True,
        "gif": body.get("gifPlayback") is True,
        "sha256": _sha256(body),
        "size": _size(body.get("fileLength")),
        # Only WHATSAPP-BUSINESS has Meta's ID; Evolution cannot fetch the file without it (§3).
        "id": text_at(body, "id"),
    }
    names = ("id", "remoteJid", "fromMe", "participant")
    ids = {name: key[name] for name in names if isinstance(key.get(name), (str, bool))}
    return {name: found[name] for name in found if found[name]} | {"evolution": {"key": ids}}


def _sha256(body: Mapping[str, Any]) -> str:
    digest = text_at(body, "fileSha256", "sha256")
    return digest if re.fullmatch(r"[A-Za-z0-9+/]{43}=|[0-9a-fA-F]{64}", digest) else ""


def _size(value: Any) -> int | None:
    if isinstance(value, Mapping):
        low, high = value.get("low"), value.get("high")
        value = (high << 32) + (low & 0xFFFFFFFF) if type(low) is type(high) is int else None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,12}", value):
        value = int(value)
    return value if type(value) is int and 0 < value < 10**12 else None


def _header_media(body: Any, key: Mapping[str, Any]) -> dict[str, Any]:
    """Return the file in the header of a text with buttons; "header_type" is the file's type."""
    for holder in (mapping(body, "header"), body, mapping(body, "hydratedTemplate")):
        for name, type_ in MEDIA.items():
            if isinstance(holder, Mapping) and isinstance(holder.get(name), Mapping):
                return {**_file(holder[name], key), "header_type": type_}
    return {}


# -- everything else -------------------------------------------------------------------------------


def _location(name: str, body: Any) -> Content:
    parts = body if isinstance(body, Mapping) else {}
    return contents.place(
        parts.get("degreesLatitude"),
        parts.get("degreesLongitude"),
        name=text_at(body, "name"),
        address=text_at(body, "address"),
        caption=text_at(body, "caption", "comment"),
        url=text_at(body, "url"),
        live=name == "liveLocationMessage" or parts.get("isLive") is True,
    )


def _contacts(name: str, body: Any) -> Content:
    found = dicts(body, "contacts") or ([body] if isinstance(body, Mapping) else [])
    if isinstance(body, list):
        found = [card for card in body if isinstance(card, Mapping)]
    cards = (
        contents.card_from_vcard(text_at(card, "vcard"), name=text_at(card, "displayName"))
        for card in found
    )
    return contents.cards(cards)


def _poll(name: str, body: Any) -> Content:
    options = (text_at(option, "optionName") for option in dicts(body, "options"))
    parts = body if isinstance(body, Mapping) else {}
    count = parts.get("selectableOptionsCount", parts.get("selectableCount", 1))
    return contents.poll(text_at(body, "name"), options, many=count != 1)


def _poll_result(name: str, body: Any) -> Content:
    rows = [
        f"{text_at(row, 'optionName')}: {row.get('optionVoteCount')}"
        for row in dicts(body, "pollVotes")
    ]
    return contents.poll(text_at(body, "name"), rows)


def _order(name: str, body: Any) -> Content:
    parts = body if isinstance(body, Mapping) else {}
    currency = text_at(body, "totalCurrencyCode")
    return contents.order(
        text=text_at(body, "message"),
        title=text_at(body, "orderTitle"),
        count=parts.get("itemCount"),
        total=contents.money(parts.get("totalAmount1000"), currency, per_unit=1000),
        order_id=text_at(body, "orderId"),
    )


def _product(name: str, body: Any) -> Content:
    found = mapping(body, "product")
    price = found.get("salePriceAmount1000") or found.get("priceAmount1000")
    return contents.product(
        title=text_at(found, "title") or text_at(mapping(body, "catalog"), "title"),
        price=contents.money(price, text_at(found, "currencyCode"), per_unit=1000),
        description=text_at(found, "description")
        or text_at(mapping(body, "catalog"), "description"),
        body=text_at(body, "body"),
        url=text_at(found, "url"),
        product_retailer_id=text_at(found, "retailerId", "productId"),
    )


def _payment(name: str, body: Any) -> Content:
    note = unwrap(mapping(body, "noteMessage"))
    money = mapping(body, "amount")
    currency = text_at(body, "currencyCodeIso4217") or text_at(money, "currencyCode")
    thousandths = body.get("amount1000") if isinstance(body, Mapping) else None
    amount = contents.money(thousandths, currency, per_unit=1000)
    offset = money.get("offset")
    if not amount and type(offset) is int and offset > 0:
        amount = contents.money(money.get("value"), currency, per_unit=offset)
    state = {
        "sendPaymentMessage": "sent",
        "requestPaymentMessage": "requested",
        "declinePaymentRequestMessage": "declined",
        "cancelPaymentRequestMessage": "canceled",
        "paymentInviteMessage": "invited",
    }.get(name, "")
    text = text_at(note, "conversation") or text_at(mapping(note, "extendedTextMessage"), "text")
    return contents.payment(note=text, amount=amount, state=state)


def _pix(parameters: Mapping[str, Any]) -> Content | None:
    """Return the payment in the parameters of a button, if it has one."""
    settings = dicts(parameters, "payment_settings")
    found = next(
        (one[name] for one in settings for name in ("pix_static_code", "pix_dynamic_code")
         if isinstance(one.get(name), Mapping)),
        None,
    )  # fmt: skip
    total = mapping(parameters, "total_amount")
    offset = total.get("offset")
    value = total.get("value")
    amount = ""
    if value and type(offset) is int and offset > 0:
        amount = contents.money(value, text_at(parameters, "currency"), per_unit=offset)
    if found is None and not amount:
        return None
    names = ("merchant_name", "key", "key_type", "code")
    pix = {name: text_at(found, name) for name in names if text_at(found, name)}
    return contents.payment(amount=amount, pix=pix, reference=text_at(parameters, "reference_id"))


def _event(name: str, body: Any) -> Content:
    place = mapping(body, "location")
    parts = body if isinstance(body, Mapping) else {}
    start = parts.get("startTime")
    return contents.occasion(
        name=text_at(body, "name"),
        description=text_at(body, "description"),
        place=lines(text_at(place, "name"), text_at(place, "address")),
        url=text_at(body, "joinLink"),
        start=str(start) if isinstance(start, (str, int)) else "",
        canceled=parts.get("isCanceled") is True,
    )


def _chosen_button(name: str, body: Any) -> Content:
    id_ = text_at(body, "selectedButtonId", "selectedId")
    return contents.reply("button_reply", id_, text_at(body, "selectedDisplayText"))


def _chosen_row(name: str, body: Any) -> Content:
    id_ = text_at(mapping(body, "singleSelectReply"), "selectedRowId")
    return contents.reply("list_reply", id_, text_at(body, "title"), text_at(body, "description"))


def _form(name: str, body: Any) -> Content:
    flow = mapping(body, "nativeFlowResponseMessage")
    words = text_at(mapping(body, "body"), "text")
    return contents.flow_reply(text_at(flow, "name"), words, text_at(flow, "paramsJson"))


def _buttons(name: str, body: Any) -> Content:
    """Return the texts and buttons of a text with buttons, of any of WhatsApp's forms."""
    filled = mapping(body, "hydratedTemplate") or mapping(body, "hydratedFourRowTemplate")
    inner = mapping(body, "interactiveMessageTemplate") or filled or body
    flow = mapping(inner, "nativeFlowMessage")
    found = [
        *(_native_button(one) for one in dicts(flow, "buttons")),
        *(_hydrated_button(one) for one in dicts(inner, "hydratedButtons")),
        *({"title": text_at(mapping(one, "buttonText"), "displayText")}
          for one in dicts(inner, "buttons")),
        *({"title": text_at(row, "title")}
          for section in dicts(inner, "sections") for row in dicts(section, "rows")),
    ]  # fmt: skip
    cards = dicts(mapping(inner, "carouselMessage"), "cards")
    found.extend({"title": _buttons("", card).text} for card in cards)
    pix = next(filter(None, (_pix(_parameters(one)) for one in dicts(flow, "buttons"))), None)
    if pix is not None and not text_at(mapping(inner, "body"), "text"):
        return pix
    header, footer = mapping(inner, "header"), mapping(inner, "footer")
    read_from = contents.interactive(
        header=text_at(header, "title") or text_at(inner, "title", "hydratedTitleText", "text"),
        body=text_at(mapping(inner, "body"), "text").strip()
        or text_at(inner, "contentText", "hydratedContentText", "description"),
        footer=text_at(footer, "text") or text_at(inner, "footerText", "hydratedFooterText"),
        buttons=[button for button in found if button.get("title") or button.get("url")],
    )
    if pix is None:
        return read_from
    return Content("payment", lines(read_from.text, pix.text), {**read_from.content, **pix.content})


def _parameters(button: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        found = json.loads(text_at(button, "buttonParamsJson") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}


def _native_button(button: Mapping[str, Any]) -> dict[str, Any]:
    found = _parameters(button)
    return {
        "title": text_at(found, "display_text", "title"),
        "url": text_at(found, "url", "merchant_url"),
        "phone": text_at(found, "phone_number"),
        "code": text_at(found, "copy_code"),
    }


def _hydrated_button(button: Mapping[str, Any]) -> dict[str, Any]:
    kinds = ("quickReplyButton", "urlButton", "callButton")
    found = next((mapping(button, kind) for kind in kinds if mapping(button, kind)), {})
    return {
        "title": text_at(found, "displayText"),
        "url": text_at(found, "url"),
        "phone": text_at(found, "phoneNumber"),
    }


def _structured(name: str, body: Any) -> Content:
    inner = unwrap({"inner": {"message": mapping(body, "hydratedHsm")}})
    return _buttons(name, mapping(inner, "templateMessage") or inner or body)


def _invitation(name: str, body: Any) -> Content:
    group = text_at(body, "groupName", "newsletterName")
    parts = {
        "name": group,
        "caption": text_at(body, "caption"),
        "code": text_at(body, "inviteCode"),
    }
    found = {part: parts[part] for part in parts if parts[part]}
    return Content("group_invite", lines(group, parts["caption"]), found)


def _call(name: str, body: Any) -> Content:
    parts = body if isinstance(body, Mapping) else {}
    outcome = parts.get("callOutcome")
    found = {"video": parts.get("isVideo") is True, "outcome": str(outcome)[:20] if outcome else ""}
    return Content("call", text_at(body, "title"), {n: v for n, v in found.items() if v})


def _comment(name: str, body: Any) -> Content:
    inner = unwrap(mapping(body, "message"))
    found = read(inner, name_of(inner, ""), {})
    target = text_at(mapping(body, "targetMessageKey"), "id")
    return Content("comment", found.text if found else "", {"message_id": target} if target else {})


def _question(name: str, body: Any) -> Content:
    inner = unwrap(mapping(body, "message"))
    found = read(inner, name_of(inner, ""), {})
    return Content("question", (found.text if found else "") or text_at(body, "text"))


def _album(name: str, body: Any) -> Content:
    parts = body if isinstance(body, Mapping) else {}
    counts = {"images": parts.get("expectedImageCount"), "videos": parts.get("expectedVideoCount")}
    return Content("album", "", {n: count for n, count in counts.items() if type(count) is int})


def _view_once(name: str, body: Any) -> Content:
    return Content("view_once")


_READERS: Mapping[str, Callable[[str, Any], Content]] = {
    "locationMessage": _location,
    "liveLocationMessage": _location,
    "contactMessage": _contacts,
    "contactsArrayMessage": _contacts,
    "contact": _contacts,
    **dict.fromkeys(
        (
            "pollCreationMessage", "pollCreationMessageV2", "pollCreationMessageV3",
            "pollCreationMessageV4", "pollCreationMessageV5", "pollCreationMessageV6",
        ),
        _poll,
    ),
    "pollResultSnapshotMessage": _poll_result,
    "pollResultSnapshotMessageV3": _poll_result,
    "orderMessage": _order,
    "productMessage": _product,
    **dict.fromkeys(
        (
            "sendPaymentMessage", "requestPaymentMessage", "declinePaymentRequestMessage",
            "cancelPaymentRequestMessage", "paymentInviteMessage",
        ),
        _payment,
    ),
    "eventMessage": _event,
    "buttonsResponseMessage": _chosen_button,
    "templateButtonReplyMessage": _chosen_button,
    "listResponseMessage": _chosen_row,
    "interactiveResponseMessage": _form,
    **dict.fromkeys(
        ("buttonMessage", "buttonsMessage", "listMessage", "interactiveMessage", "templateMessage"),
        _buttons,
    ),
    "highlyStructuredMessage": _structured,
    "groupInviteMessage": _invitation,
    "newsletterAdminInviteMessage": _invitation,
    "newsletterFollowerInviteMessageV2": _invitation,
    **dict.fromkeys(("call", "callLogMesssage", "callLogMessage", "bcallMessage",
                     "scheduledCallCreationMessage"), _call),
    "commentMessage": _comment,
    "questionMessage": _question,
    "questionResponseMessage": _question,
    "albumMessage": _album,
    "viewOnceMessage": _view_once,
    "viewOnceMessageV2": _view_once,
    "viewOnceMessageV2Extension": _view_once,
}  # fmt: skip
# The names that `read` or the parser of events knows.
_KNOWN = {*MEDIA, *_READERS, "extendedTextMessage", "reactionMessage", "pollUpdateMessage"}
