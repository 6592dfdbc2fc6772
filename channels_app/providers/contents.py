"""What messages contain, in one form for all providers (docs/message-kinds.md). Pure.

A parser turns each message of its provider into a `Content`. `text` is what a person would read,
as far as it needs no word of ours: a caption, the lines of an address with its coordinates, the
numbers of a card. `content` has the same in parts, for pages and programs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# The types of messages besides those that can be sent (`messaging.content.TYPES`).
UNKNOWN, UNSUPPORTED, WAITING = "unknown", "unsupported", "waiting"
# Who has a conversation that another app may have: Meta's own agent.
AGENT = "ai_agent"
# The names that hold words of a person in an object that this version does not know.
_WORDS = (
    "caption", "text", "body", "title", "contentText", "displayText", "selectedDisplayText",
    "description", "name", "comment", "message", "note",
)  # fmt: skip
_DEEPEST = 4
# What the phone or Meta added, not a person.
_NOT_ANSWERS = ("flow_token", "saved_address_id")


@dataclass(frozen=True, slots=True)
class Content:
    """The content of a message: its type, its words, and its parts."""

    type: str
    text: str = ""
    content: Mapping[str, Any] = field(default_factory=dict)


def place(
    latitude: Any, longitude: Any, *, name: str = "", address: str = "", caption: str = "",
    **more: Any,
) -> Content:  # fmt: skip
    """Return a location. Its text has the name, the address and the coordinates."""
    parts = {
        "latitude": _degrees(latitude, 90),
        "longitude": _degrees(longitude, 180),
        "name": name,
        "address": address,
        "caption": caption,
        **more,
    }
    # Zero degrees are a place.
    content = {n: v for n, v in parts.items() if v is not None and v is not False and v != ""}
    words = [caption, name, address if address != name else "", coordinates(content)]
    return Content("location", lines(*words), content)


def coordinates(content: Mapping[str, Any]) -> str:
    """Return latitude and longitude as maps take them, or "" if one is missing."""
    latitude, longitude = (_degrees(content.get(n), 180) for n in ("latitude", "longitude"))
    if latitude is None or longitude is None:
        return ""
    return ", ".join(f"{one:.7f}".rstrip("0").rstrip(".") for one in (latitude, longitude))


def _degrees(value: Any, limit: int) -> float | None:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,3}(\.[0-9]{1,20})?", value):
        value = float(value)
    return value if type(value) in (int, float) and abs(value) <= limit else None


def cards(contacts: Iterable[Mapping[str, Any]]) -> Content:
    """Return contact cards. The text has each name with all its numbers."""
    found = list(contacts)
    return Content("contacts", lines(*map(card_text, found)), {"contacts": found})


def card_text(card: Mapping[str, Any]) -> str:
    """Return name and numbers of a contact card in Meta's form."""
    name = text_at(mapping(card, "name"), "formatted_name") or text_at(card, "name")
    numbers = [
        text_at(phone, "phone") or text_at(phone, "wa_id") for phone in dicts(card, "phones")
    ]
    emails = [text_at(email, "email") for email in dicts(card, "emails")]
    details = ", ".join(filter(None, [*numbers, *emails]))
    return ": ".join(filter(None, [name, details]))


def card_from_vcard(vcard: str, *, name: str = "") -> dict[str, Any]:
    """Return a contact card in Meta's form: FN, every TEL with its `waid`, every EMAIL, ORG.

    A vCard itself is not kept: it may contain a picture.
    """
    card: dict[str, Any] = {"name": {"formatted_name": name}, "phones": []}
    # A long line continues on the next one, which begins with a space.
    for line in re.sub(r"\r?\n[ \t]", "", vcard[:20_000]).splitlines():
        head, colon, value = line.partition(":")
        # "item1.TEL;type=CELL;waid=5511…"
        label, *parameters = head.rpartition(".")[2].split(";")
        value = re.sub(r"\\([,;\\])", r"\1", value).strip()[:300]
        if not colon or not value:
            continue
        if label.upper() == "FN":
            card["name"] = {"formatted_name": name or value}
        elif label.upper() == "TEL":
            waid = (p[5:] for p in parameters if re.fullmatch(r"(?i)waid=[0-9]{5,15}", p))
            phone = {"phone": value.removeprefix("tel:"), "wa_id": next(waid, "")}
            card["phones"].append({name: phone[name] for name in phone if phone[name]})
        elif label.upper() == "EMAIL":
            card.setdefault("emails", []).append({"email": value})
        elif label.upper() == "ORG":
            card["org"] = {"company": value.rstrip(";").replace(";", ", ")}
    return card


def poll(name: str, options: Iterable[str], *, many: bool = False) -> Content:
    """Return a poll. Its votes are events of their own."""
    found = [option for option in options if option]
    content: dict[str, Any] = {"name": name, "options": found}
    return Content("poll", lines(name, *found), {**content, "many": True} if many else content)


def money(amount: Any, currency: str, *, per_unit: int = 1) -> str:
    """Return an amount as "BRL 459.00", or "" if it is none."""
    if isinstance(amount, Mapping):
        low, high = amount.get("low"), amount.get("high")
        amount = (high << 32) + (low & 0xFFFFFFFF) if type(low) is type(high) is int else None
    if isinstance(amount, str) and re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,6})?", amount):
        amount = float(amount)
    if type(amount) not in (int, float) or not abs(amount) < 10**15:
        return ""
    return f"{currency} {amount / per_unit:.2f}".strip()


def product(
    *, title: str, price: str = "", description: str = "", body: str = "", **more: Any
) -> Content:
    parts = {"title": title, "price": price, "description": description, "body": body, **more}
    head = " · ".join(filter(None, [title, price]))
    return Content("product", lines(body, head, description), _filled(parts))


def order(
    items: Sequence[Mapping[str, Any]] = (), *, text: str = "", title: str = "", count: Any = None,
    total: str = "", **more: Any,
) -> Content:  # fmt: skip
    """Return an order: `items` have `name`, `quantity` and `price`."""
    found = [_filled(item) for item in items]
    number = count if type(count) is int else sum(_count(item) for item in found) or None
    parts = {"text": text, "title": title, "count": number, "total": total, **more}
    rows = [item_text(item) for item in found]
    return Content("order", lines(text, title, *rows, total), {**_filled(parts), "items": found})


def item_text(item: Mapping[str, Any]) -> str:
    """Return an ordered item in words."""
    quantity = item.get("quantity")
    name = text_at(item, "name", "product_retailer_id")
    head = f"{quantity} x {name}" if quantity else name
    return " · ".join(filter(None, [head, str(item.get("price", ""))]))


def _count(item: Mapping[str, Any]) -> int:
    quantity = item.get("quantity")
    return quantity if type(quantity) is int else 1


def payment(*, note: str = "", amount: str = "", **more: Any) -> Content:
    """Return a payment, or a request for one; `pix` has key, key type and payee."""
    pix = more.get("pix")
    key = pix if isinstance(pix, Mapping) else {}
    words = [note, amount, str(key.get("merchant_name") or ""), str(key.get("key") or "")]
    return Content("payment", lines(*words), _filled({"note": note, "amount": amount, **more}))


def occasion(*, name: str, description: str = "", place: str = "", **more: Any) -> Content:
    """Return an event to which the customer invites."""
    parts = {"name": name, "description": description, "place": place, **more}
    return Content("event", lines(name, description, place), _filled(parts))


def interactive(
    *, header: str = "", body: str = "", footer: str = "",
    buttons: Iterable[Mapping[str, Any]] = (), **more: Any,
) -> Content:  # fmt: skip
    """Return a text with buttons; a button has `title`, and `url`, `phone` or `code`."""
    found = [_filled(button) for button in buttons]
    links = [lines_of(button) for button in found if set(button) - {"title"}]
    parts = {"header": header, "body": body, "footer": footer, "buttons": found, **more}
    return Content("interactive", lines(header, body, footer, *links), _filled(parts))


def lines_of(button: Mapping[str, Any]) -> str:
    """Return a button with where it leads, in one line."""
    target = next((str(button[n]) for n in ("url", "phone", "code") if button.get(n)), "")
    return ": ".join(filter(None, [str(button.get("title", "")), target]))


def reply(kind: str, id_: str, title: str, description: str = "") -> Content:
    """Return the button or row that was chosen, in Meta's form."""
    parts = _filled({"title": title, "description": description})
    chosen = {"id": id_, **parts}
    return Content("interactive", lines(title, description), {"type": kind, kind: chosen})


def flow_reply(name: str, body: str, response_json: str) -> Content:
    """Return the answers that a customer gave in a form. The text has one line per field."""
    sent = {"name": name, "body": body, "response_json": response_json}
    content = {"type": "nfm_reply", "nfm_reply": _filled(sent)}
    rows = [f"{label}: {answer}" for label, answer in answers(response_json)]
    return Content("interactive", lines(*rows) or body, content)


def answers(response_json: Any) -> list[tuple[str, str]]:
    """Return the fields of a form's answers, which are JSON in a string; [] if it is not."""
    try:
        found = json.loads(response_json) if isinstance(response_json, str) else response_json
    except ValueError:
        return []
    return list(_answers(found)) if isinstance(found, Mapping) else []


def _answers(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in found.items():
        if name in _NOT_ANSWERS:
            continue
        if isinstance(value, Mapping):
            yield from _answers(value)
        elif isinstance(value, list):
            yield name, ", ".join(str(item) for item in value if not isinstance(item, Mapping))
        elif value not in (None, ""):
            yield name, str(value)


def quote(id_: str, quoted: Content | None, *, is_status: bool = False) -> dict[str, Any]:
    """Return the `quoted` of `MessageEvent.context`: what the provider tells of the message."""
    found: dict[str, Any] = {"id": id_}
    if quoted is not None:
        found |= {"text": quoted.text[:1000], "type": quoted.type}
    return {**found, "status": True} if is_status else found


def unknown(value: Any = None, *, kind: str = UNKNOWN, name: str = "") -> Content:
    """Return a message that only the phone shows, with whatever words it has.

    `name` is the provider's own name of it, for programs and for support.
    """
    return Content(kind, _words(value, _DEEPEST), {"message_type": name} if name else {})


def _words(value: Any, depth: int) -> str:
    if not isinstance(value, Mapping) or depth == 0:
        return ""
    own = [value[name].strip() for name in _WORDS if isinstance(value.get(name), str)]
    if found := list(dict.fromkeys(filter(None, own))):
        return lines(*found[:3])
    return next(filter(None, (_words(inner, depth - 1) for inner in value.values())), "")


def lines(*words: str) -> str:
    """Join texts, without empty ones, one a line."""
    return "\n".join(filter(None, words))


def _filled(parts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parts.items() if value not in (None, "", [], {}, False)}


def text_at(parent: Any, *names: str) -> str:
    """Return the first text under one of the names, or ""."""
    found = (parent.get(name) for name in names) if isinstance(parent, Mapping) else ()
    return next((text for text in found if isinstance(text, str) and text), "")


def mapping(parent: Any, name: str) -> Mapping[str, Any]:
    """Return the object under a name, or {}."""
    found = parent.get(name) if isinstance(parent, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def dicts(parent: Any, name: str) -> list[Mapping[str, Any]]:
    """Return the objects in the list under a name."""
    found = parent.get(name) if isinstance(parent, Mapping) else None
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
