"""Reads the content of Meta's messages (docs/providers/cloud.md §10.2). Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from channels_app.providers import contents
from channels_app.providers.contents import AGENT, Content, dicts, lines, mapping, text_at

_MEDIA = ("image", "video", "audio", "document", "sticker")


def read(message: Mapping[str, Any]) -> Content:
    """Return the content of a message. Nothing is left out: an unknown type has its words."""
    name = type_of(message)
    content = message.get(name)
    if reader := _READERS.get(name):
        return reader(content)
    if name == "request_welcome":
        return Content(name)
    if name == "unsupported":
        kind = text_at(mapping(message, name), "type")[:60]
        return contents.unknown(kind=contents.UNSUPPORTED, name=kind)
    return contents.unknown(content, name=name[:60])


def handover(part: Mapping[str, Any], *, taken: bool) -> Content:
    """Return the notice of who has a conversation now: "us", Meta's agent, or another app.

    Meta's own agent has the role "ai_agent" (docs/providers/cloud.md §10.4.9). Who passes a
    conversation may add a summary for the next one, and a note.
    """
    role, before = text_at(part, "new_owner_role"), text_at(part, "previous_owner_role")
    other = AGENT if role == AGENT else "app"
    owner = other if taken or role == AGENT else "us"
    context = mapping(part, "conversation_context")
    kind = text_at(context, "type")
    summary = text_at(context, kind, "text", "body", "summary", "content")
    summary = summary or contents.unknown({n: context[n] for n in context if n != "type"}).text
    words = {"summary": summary[:2000], "note": text_at(part, "metadata")[:2000]}
    found = {"owner": owner, "previous": AGENT if before == AGENT else ""} | words
    parts = {name: found[name] for name in found if found[name]}
    return Content("handover", lines(*(words[name] for name in words)), parts)


def type_of(message: Mapping[str, Any]) -> str:
    """Return the type that a message declares, or what its object says."""
    declared = text_at(message, "type")
    if declared and declared != "unknown":
        return declared
    return next((name for name in message if name in _READERS or name in CHANGES), "unknown")


# Types that are no message of their own: they change another one.
CHANGES = ("reaction", "edit", "revoke")


def _text(content: Any) -> Content:
    return Content("text", text_at(content, "body"))


def _media(type_: str, **more: Any) -> Callable[[Any], Content]:
    def read_media(content: Any) -> Content:
        found = {**content, **more} if isinstance(content, Mapping) else more
        return Content(type_, text_at(content, "caption"), found)

    return read_media


def _location(content: Any) -> Content:
    parts = _object(content)
    return contents.place(
        parts.get("latitude"),
        parts.get("longitude"),
        name=text_at(content, "name"),
        address=text_at(content, "address"),
        url=text_at(content, "url"),
    )


def _contacts(content: Any) -> Content:
    return contents.cards(map(_card, dicts({"cards": content}, "cards")))


def _card(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a card with what only its vCard says, which it has if the customer chose it."""
    vcard = text_at(card, "vcard")
    kept = {name: card[name] for name in card if name != "vcard"}
    return {**contents.card_from_vcard(vcard), **kept} if vcard else kept


def is_media(found: Content) -> bool:
    """Whether this is a file, which needs no words."""
    return found.type in _MEDIA and bool(found.content)


def _button(content: Any) -> Content:
    return Content("button", text_at(content, "text"), _object(content))


def _interactive(content: Any) -> Content:
    kind = text_at(content, "type")
    part = mapping(content, kind)
    if kind == "nfm_reply":
        return contents.flow_reply(
            text_at(part, "name"), text_at(part, "body"), text_at(part, "response_json")
        )
    words = lines(text_at(part, "title"), text_at(part, "description"))
    if not words:
        # What a colleague sent from the phone has its texts beside each other.
        parts = (mapping(content, name) for name in ("header", "body", "footer"))
        words = lines(*(text_at(one, "text") for one in parts))
    if not words and kind in ("product", "product_list", "catalog_message"):
        ids = text_at(part, "product_retailer_id") or text_at(
            mapping(content, "action"), "product_retailer_id"
        )
        found = contents.product(title=ids)
        return Content(found.type, found.text, {**found.content, **_object(content)})
    return Content("interactive", words, _object(content))


def _order(content: Any) -> Content:
    items = [
        {
            "name": text_at(item, "product_retailer_id"),
            "quantity": item.get("quantity"),
            "price": contents.money(item.get("item_price"), text_at(item, "currency")),
        }
        for item in dicts(content, "product_items")
    ]
    found = contents.order(items, text=text_at(content, "text"), total=_total(content))
    # Programs read Meta's own object, too.
    return Content(found.type, found.text, {**_object(content), **found.content})


def _object(content: Any) -> Mapping[str, Any]:
    return content if isinstance(content, Mapping) else {}


def _total(content: Any) -> str:
    """Return the sum of an order, if all its items have a price in one currency."""
    items = dicts(content, "product_items")
    currencies = {text_at(item, "currency") for item in items}
    if len(currencies) != 1:
        return ""
    try:
        total = sum(float(item["item_price"]) * float(item.get("quantity", 1)) for item in items)
    except (KeyError, TypeError, ValueError):
        return ""
    return contents.money(total, currencies.pop())


def _system(content: Any) -> Content:
    parts = {
        "type": text_at(content, "type"),
        "old": text_at(content, "customer", "previous_user_id"),
        "new": text_at(content, "wa_id", "new_wa_id", "user_id"),
    }
    found = {name: parts[name] for name in parts if parts[name]}
    return Content("system", text_at(content, "body"), {**_object(content), **found})


def _template(content: Any) -> Content:
    return Content("template", text_at(content, "name"), _object(content))


_READERS: Mapping[str, Callable[[Any], Content]] = {
    "text": _text,
    **{type_: _media(type_) for type_ in _MEDIA},
    # Its name in the on-premises API, which resellers still use.
    "voice": _media("audio", voice=True),
    "location": _location,
    "contacts": _contacts,
    "button": _button,
    "interactive": _interactive,
    "order": _order,
    "system": _system,
    "template": _template,
}
