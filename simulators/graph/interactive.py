"""What Graph checks of an interactive message (``docs/providers/cloud.md §1.3``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simulators.base import JsonObject

# The kinds, and the longest body of each.
BODIES = {
    "button": 1024,
    "list": 4096,
    "cta_url": 1024,
    "flow": 1024,
    "carousel": 1024,
    "location_request_message": 1024,
    "request_contact_info": 1024,
    "call_permission_request": 1024,
    "voice_call": 1024,
    "address_message": 1024,
    "catalog_message": 1024,
    "product": 1024,
    "product_list": 1024,
}
_WITHOUT_BODY = ("product", "call_permission_request")


def problem(part: JsonObject) -> tuple[int, str] | None:
    """Return the code and the details with which Graph refuses the object; None if it takes it."""
    kind, action = part.get("type"), part.get("action")
    buttons = (action.get("buttons") if isinstance(action, dict) else None) or []
    if len(buttons) > 3:
        return 131009, "At most 3 buttons are allowed."
    if kind not in BODIES:
        # `contact_request` is the former name of request_contact_info (§10.1.7).
        return 100, f"{kind} is no interactive type."
    if not isinstance(action, dict) or not action:
        return 131008, "interactive.action is missing."
    if kind not in _WITHOUT_BODY and not _text(part.get("body")):
        return 131008, "interactive.body.text is missing."
    for name, text, most in _texts(str(kind), part):
        if not text:
            return 131008, f"{name} is missing."
        if len(text) > most:
            return 131009, f"{name} must be at most {most} characters long."
    titles = [button.get("reply", {}).get("title") for button in buttons]
    if len(set(titles)) < len(titles):
        return 131009, "Button titles must be unique."
    rows = [row for section in action.get("sections") or [] for row in _rows(section)]
    if kind == "list" and not 1 <= len(rows) <= 10:
        return 131009, "A list needs 1 to 10 rows in all its sections."
    return None


def _texts(kind: str, part: JsonObject) -> Iterator[tuple[str, str, int]]:
    """Yield each text that must be there, with its name and its limit."""
    action = part["action"]
    if part.get("body"):
        yield "interactive.body.text", _text(part["body"]), BODIES[kind]
    if part.get("footer"):
        yield "interactive.footer.text", _text(part["footer"]), 60
    if kind == "button":
        for button in action.get("buttons") or [{}]:
            reply = button.get("reply") or {}
            yield "reply.id", str(reply.get("id") or ""), 256
            yield "reply.title", str(reply.get("title") or ""), 20
    elif kind == "list":
        yield "action.button", str(action.get("button") or ""), 20
        for section in action.get("sections") or []:
            for row in _rows(section):
                yield "row.id", str(row.get("id") or ""), 200
                yield "row.title", str(row.get("title") or ""), 24
                yield "row.description", str(row.get("description") or "-"), 72
    elif kind == "cta_url":
        parameters = action.get("parameters") or {}
        yield "display_text", str(parameters.get("display_text") or ""), 20
        yield "url", str(parameters.get("url") or ""), 2000


def _rows(section: Any) -> list[JsonObject]:
    return list(section.get("rows") or []) if isinstance(section, dict) else []


def _text(part: Any) -> str:
    return str(part.get("text") or "") if isinstance(part, dict) else ""
