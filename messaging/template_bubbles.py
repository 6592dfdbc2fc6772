"""What the customer saw of a template that was sent, stored with its message. Pure.

A template changes, the sent message does not: so its bubble is drawn from this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from channels_app.providers.cloud.templates import Button, Rendered

# The key in `Message.context`.
KEY: Final = "template"
_TEXTS: Final = ("header", "header_kind", "body", "footer", "offer")


def store(rendered: Rendered | None) -> dict[str, Any]:
    """Return the context of a message for a rendered template, as JSON; empty if it is unknown."""
    return {} if rendered is None else {KEY: _as_json(rendered)}


def _as_json(rendered: Rendered) -> dict[str, Any]:
    found: dict[str, Any] = {name: getattr(rendered, name) for name in _TEXTS}
    found["header_media"] = dict(rendered.header_media) if rendered.header_media else None
    found["buttons"] = [list(button) for button in rendered.buttons]
    found["cards"] = [_as_json(card) for card in rendered.cards]
    return {name: value for name, value in found.items() if value}


def read(context: Mapping[str, Any]) -> Rendered | None:
    """Return the rendered template of a message's context, or None."""
    stored = context.get(KEY)
    return _from_json(stored) if isinstance(stored, Mapping) else None


def _from_json(stored: Mapping[str, Any]) -> Rendered:
    return Rendered(
        **{name: stored.get(name, "") for name in _TEXTS},
        header_media=stored.get("header_media"),
        buttons=tuple(Button(*button) for button in stored.get("buttons", ())),
        cards=tuple(_from_json(card) for card in stored.get("cards", ())),
    )
