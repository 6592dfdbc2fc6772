"""The rules by which a template is created and edited (docs/providers/cloud.md §11.3, §11.4). Pure.

A draft is the object that is sent to Meta: name, language, category, parameter_format, components.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from django.utils.translation import gettext as _

from channels_app.providers.cloud.templates import (
    AUTHENTICATION,
    MARKETING,
    NAMED,
    POSITIONAL,
    UTILITY,
    Definition,
    variables,
)

Draft = Mapping[str, Any]
Found = Iterator[tuple[str, str]]

CATEGORIES: Final = (MARKETING, UTILITY, AUTHENTICATION)
# Only these can be edited.
EDITABLE: Final = frozenset({"APPROVED", "REJECTED", "PAUSED"})
MEDIA_HEADERS: Final = frozenset({"IMAGE", "VIDEO", "DOCUMENT", "GIF"})
MAX_HEADER, MAX_BODY, MAX_FOOTER = 60, 1024, 60
MAX_OFFER_BODY, MAX_CARD_BODY, MAX_OFFER = 600, 160, 16
MAX_BUTTONS, MAX_BUTTON_TEXT, MAX_URL, MAX_NUMBER, MAX_COUPON = 10, 25, 2000, 20, 20
CARDS: Final = range(2, 11)
# At most so many of a kind.
MOST_OF_KIND: Final = {"URL": 2, "PHONE_NUMBER": 1, "COPY_CODE": 1, "QUICK_REPLY": 10, "FLOW": 1}
# Seconds during which Meta tries to deliver; -1 is 30 days.
TTL: Final = {
    AUTHENTICATION: (30, 900),
    UTILITY: (30, 43_200),
    MARKETING: (43_200, 2_592_000),
}
_FIXED_BUTTONS: Final = frozenset(
    {"QUICK_REPLY", "URL", "PHONE_NUMBER", "COPY_CODE", "FLOW", "CATALOG", "MPM", "SPM", "OTP"}
    | {"VOICE_CALL", "REQUEST_CONTACT_INFO"}
)
_ANY_VARIABLE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)

# The time to live of a one-time code that was created without one (docs/providers/cloud.md §11.3).
_DEFAULT_CODE_SECONDS: Final = 600


def ttl_seconds(draft: Draft) -> int | None:
    """Return how long after a send Meta tries to deliver it; None if that is not known."""
    ttl = draft.get("message_send_ttl_seconds")
    if isinstance(ttl, int) and not isinstance(ttl, bool) and ttl > 0:
        return ttl
    is_code = ttl is None and draft.get("category") == AUTHENTICATION
    return _DEFAULT_CODE_SECONDS if is_code else None


def creation_errors(draft: Draft) -> dict[str, str]:
    """Return what Meta would reject in a draft, by the part of the form: name, language, category,
    header, body, footer, buttons, button.0, card.0.body, …

    Only what is certain: Meta also judges the content, and how many words stand by a variable.
    """
    return dict(_first_of_each(_all_errors(draft)))


def edit_errors(definition: Definition, draft: Draft) -> dict[str, str]:
    """Return what Meta would reject in the new components of a template (§11.3)."""
    found = creation_errors({"name": definition.name, "language": definition.language, **draft})
    if definition.status not in EDITABLE:
        found["status"] = _("Only an approved, rejected or paused template can be edited.")
    category = draft.get("category")
    if definition.status == "APPROVED" and category != definition.category:
        found["category"] = _("The category of an approved template cannot be changed.")
    for name in ("name", "language"):
        if draft.get(name, getattr(definition, name)) != getattr(definition, name):
            found[name] = _("This cannot be changed.")
    return found


def _first_of_each(found: Found) -> Found:
    seen: set[str] = set()
    for key, text in found:
        if key not in seen:
            seen.add(key)
            yield key, text


def _all_errors(draft: Draft) -> Found:
    name = draft.get("name")
    if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_]{1,512}", name):
        yield "name", _("Only lower-case letters, digits and _, at most 512 characters.")
    language = draft.get("language")
    if not isinstance(language, str) or not re.fullmatch(r"[a-z]{2,3}(_[A-Z]{2,3})?", language):
        yield "language", _("Enter a language like pt_BR or en.")
    category = draft.get("category")
    if category not in CATEGORIES:
        yield "category", _("Choose marketing, utility or authentication.")
    format_ = draft.get("parameter_format", POSITIONAL)
    if format_ not in (NAMED, POSITIONAL):
        yield "parameter_format", _("Choose named or numbered variables.")
    ttl = draft.get("message_send_ttl_seconds")
    if ttl is not None and category in TTL:
        low, high = TTL[category]
        if (
            not isinstance(ttl, int)
            or isinstance(ttl, bool)
            or not (low <= ttl <= high or ttl == -1)
        ):
            yield (
                "message_send_ttl_seconds",
                _("Between %(min)d and %(max)d seconds.") % {"min": low, "max": high},
            )
    components = draft.get("components")
    if not isinstance(components, list) or not all(isinstance(c, Mapping) for c in components):
        yield "body", _("Enter a text.")
        return
    if category == AUTHENTICATION:
        yield from _code_errors(components)
    else:
        yield from _component_errors(components, format_, category)


def _component_errors(components: list[Mapping[str, Any]], format_: Any, category: Any) -> Found:
    by_type: dict[str, Mapping[str, Any]] = {}
    for component in components:
        type_ = _word(component, "type")
        if type_ in by_type:
            yield type_.lower(), _("This part is given twice.")
        elif type_ not in _COMPONENTS:
            yield type_.lower() or "components", _("Templates have no such part.")
        by_type[type_] = component
    offer = by_type.get("LIMITED_TIME_OFFER")
    if "HEADER" in by_type:
        yield from _header_errors(by_type["HEADER"], format_, "header")
    longest = MAX_BODY if offer is None else MAX_OFFER_BODY
    yield from _body_errors(by_type.get("BODY"), format_, "body", longest)
    if "FOOTER" in by_type:
        yield from _footer_errors(by_type["FOOTER"])
    if "BUTTONS" in by_type:
        yield from _button_list_errors(by_type["BUTTONS"].get("buttons"), "")
    if offer is not None:
        text = _get(_get(offer, "limited_time_offer", {}), "text")
        if not isinstance(text, str) or not 0 < len(text) <= MAX_OFFER:
            yield "limited_time_offer", _length_text(MAX_OFFER)
        if category != MARKETING:
            yield "limited_time_offer", _("Only marketing templates have an offer that ends.")
        if "FOOTER" in by_type:
            yield "footer", _("A template with an offer that ends has no footer.")
    if "CALL_PERMISSION_REQUEST" in by_type and "BUTTONS" in by_type:
        yield "buttons", _("A request to call has no buttons.")
    if "CAROUSEL" in by_type:
        yield from _carousel_errors(by_type["CAROUSEL"].get("cards"), format_)


_COMPONENTS: Final = frozenset(
    {"HEADER", "BODY", "FOOTER", "BUTTONS", "LIMITED_TIME_OFFER", "CAROUSEL"}
    | {"CALL_PERMISSION_REQUEST"}
)


def _header_errors(header: Mapping[str, Any], format_: Any, key: str) -> Found:
    kind = _word(header, "format")
    if kind == "TEXT":
        text = header.get("text")
        if not isinstance(text, str) or not text.strip():
            yield key, _("Enter a text.")
            return
        if len(text) > MAX_HEADER:
            yield key, _length_text(MAX_HEADER)
        if "\n" in text:
            yield key, _("Line breaks are not allowed here.")
        names = _ANY_VARIABLE.findall(text)
        if len(names) > 1:
            yield key, _("At most one variable.")
        yield from _variable_errors(header, "header", text, format_, key)
    elif kind in MEDIA_HEADERS:
        handles = _get(_get(header, "example", {}), "header_handle")
        if not isinstance(handles, list) or not handles or not isinstance(handles[0], str):
            yield key, _("Upload an example of the file.")
    elif kind not in ("LOCATION", "PRODUCT"):
        yield key, _("Choose a text, image, video, document or location.")


def _body_errors(
    body: Mapping[str, Any] | None, format_: Any, key: str, longest: int = MAX_BODY
) -> Found:
    text = _get(body or {}, "text")
    if not isinstance(text, str) or not text.strip():
        yield key, _("Enter a text.")
        return
    if len(text) > longest:
        yield key, _length_text(longest)
    stripped = text.strip()
    if re.match(r"\{\{.*?\}\}", stripped) or re.search(r"\{\{[^{}]*\}\}\Z", stripped):
        yield key, _("A variable cannot be at the beginning or at the end.")
    if re.search(r"\}\}\s*\{\{", text):
        yield key, _("Two variables cannot stand side by side.")
    yield from _variable_errors(body or {}, "body", text, format_, key)


def _variable_errors(
    component: Mapping[str, Any], part: str, text: str, format_: Any, key: str
) -> Found:
    """Return what is wrong with the names of the variables and with their examples."""
    names = [name.strip() for name in _ANY_VARIABLE.findall(text)]
    if "{{" in _ANY_VARIABLE.sub("", text):
        yield key, _("A variable is written like {{1}} or {{name}}.")
    pattern = r"[a-z0-9_]+" if format_ == NAMED else r"[1-9]\d*"
    if wrong := [name for name in names if not re.fullmatch(pattern, name)]:
        text_ = (
            _("“%(name)s” is no name of a variable: only lower-case letters, digits and _.")
            if format_ == NAMED
            else _("“%(name)s” is no number of a variable.")
        )
        yield key, text_ % {"name": wrong[0]}
        return
    distinct = variables(text)
    if format_ != NAMED and distinct != [str(n) for n in range(1, len(distinct) + 1)]:
        yield key, _("The variables must be numbered from 1 without gaps.")
    if missing := [name for name in distinct if not _has_example(component, part, name, format_)]:
        yield key, _("Enter an example of “%(name)s”.") % {"name": missing[0]}


def _has_example(component: Mapping[str, Any], part: str, name: str, format_: Any) -> bool:
    example = _get(component, "example", {})
    if format_ == NAMED:
        given = _get(example, f"{part}_text_named_params")
        rows = given if isinstance(given, list) else []
        found = [
            row.get("example")
            for row in rows
            if isinstance(row, Mapping) and row.get("param_name") == name
        ]
    else:
        listed = _get(example, f"{part}_text")
        if part == "body" and isinstance(listed, list) and listed:
            listed = listed[0]
        found = listed[int(name) - 1 : int(name)] if isinstance(listed, list) else []
    return bool(found) and isinstance(found[0], str) and bool(found[0].strip())


def _footer_errors(footer: Mapping[str, Any]) -> Found:
    text = footer.get("text")
    if not isinstance(text, str) or not text.strip():
        yield "footer", _("Enter a text.")
        return
    if len(text) > MAX_FOOTER:
        yield "footer", _length_text(MAX_FOOTER)
    if "{{" in text:
        yield "footer", _("Variables are not allowed here.")
    if "\n" in text:
        yield "footer", _("Line breaks are not allowed here.")


def _button_list_errors(buttons: Any, prefix: str, *, most: int = MAX_BUTTONS) -> Found:
    key = f"{prefix}buttons"
    if not isinstance(buttons, list) or not buttons:
        yield key, _("Add a button.")
        return
    if len(buttons) > most:
        yield key, _("At most %(max)d buttons.") % {"max": most}
    kinds = [_word(one, "type") if isinstance(one, Mapping) else "" for one in buttons]
    for kind, limit in MOST_OF_KIND.items():
        if kinds.count(kind) > limit:
            yield (
                key,
                _("At most %(max)d buttons of the kind “%(kind)s”.")
                % {"max": limit, "kind": kind.lower()},
            )
    replies = [index for index, kind in enumerate(kinds) if kind == "QUICK_REPLY"]
    if replies and replies[-1] - replies[0] + 1 != len(replies):
        yield key, _("Quick replies must stand together, before or after the other buttons.")
    for index, button in enumerate(buttons):
        if error := _button_error(button, kinds[index]):
            yield f"{prefix}button.{index}", error


def _button_error(button: Any, kind: str) -> str:
    if kind not in _FIXED_BUTTONS or kind == "OTP":
        return _("Choose what the button does.")
    text = button.get("text")
    # Meta writes the label of these itself.
    if kind not in ("COPY_CODE", "REQUEST_CONTACT_INFO"):
        if not isinstance(text, str) or not text.strip():
            return _("Enter the text of the button.")
        if len(text) > MAX_BUTTON_TEXT:
            return _length_text(MAX_BUTTON_TEXT)
        if "{{" in text:
            return _("Variables are not allowed here.")
    if kind == "REQUEST_CONTACT_INFO" and text not in (None, "Share Contact Info"):
        return _("Meta writes the text of this button.")
    if kind == "URL":
        return _url_error(button)
    if kind == "PHONE_NUMBER":
        number = button.get("phone_number")
        if not isinstance(number, str) or not re.fullmatch(r"\+?[\d ()-]{3,}", number):
            return _("Enter a phone number.")
        return _length_text(MAX_NUMBER) if len(number) > MAX_NUMBER else ""
    if kind == "COPY_CODE":
        example = button.get("example")
        example = example[0] if isinstance(example, list) and example else example
        if not isinstance(example, str) or not 0 < len(example) <= MAX_COUPON:
            return _("Enter an example of the code, at most %(max)d characters.") % {
                "max": MAX_COUPON
            }
    if kind == "FLOW" and sum(n in button for n in ("flow_id", "flow_name", "flow_json")) != 1:
        return _("Name the Flow.")
    return ""


def _url_error(button: Mapping[str, Any]) -> str:
    url = button.get("url")
    if not isinstance(url, str) or not re.match(r"https?://[^\s/{}]+", url) or " " in url:
        return _("Enter a web address.")
    if len(url) > MAX_URL:
        return _length_text(MAX_URL)
    names = _ANY_VARIABLE.findall(url)
    if not names:
        return _("A variable is written like {{1}} or {{name}}.") if "{{" in url else ""
    if names != ["1"] or not url.endswith("{{1}}"):
        return _("An address has at most one variable, {{1}}, at its end.")
    example = button.get("example")
    if not isinstance(example, list) or not example or not isinstance(example[0], str):
        return _("Enter an example of the address.")
    return ""


def _carousel_errors(cards: Any, format_: Any) -> Found:
    if not isinstance(cards, list) or len(cards) not in CARDS:
        yield "cards", _("A carousel has 2 to 10 cards.")
        return
    shapes = set()
    for number, card in enumerate(cards):
        prefix = f"card.{number}."
        components = _get(card if isinstance(card, Mapping) else {}, "components")
        parts = {
            _word(one, "type"): one
            for one in (components if isinstance(components, list) else [])
            if isinstance(one, Mapping)
        }
        header = parts.get("HEADER", {})
        if _word(header, "format") not in ("IMAGE", "VIDEO", "PRODUCT"):
            yield f"{prefix}header", _("A card needs an image, a video or a product.")
        else:
            yield from _header_errors(header, format_, f"{prefix}header")
        if "BODY" in parts:
            yield from _body_errors(parts["BODY"], format_, f"{prefix}body", MAX_CARD_BODY)
        buttons = _get(parts.get("BUTTONS", {}), "buttons")
        yield from _button_list_errors(buttons, prefix, most=2)
        kinds = tuple(
            _word(one, "type")
            for one in (buttons if isinstance(buttons, list) else [])
            if isinstance(one, Mapping)
        )
        shapes.add((_word(header, "format"), "BODY" in parts, kinds))
    if len(shapes) > 1:
        yield "cards", _("All cards must have the same parts.")


def _code_errors(components: list[Mapping[str, Any]]) -> Found:
    """Return what is wrong with a template of a code, whose text Meta writes itself."""
    parts = {_word(one, "type"): one for one in components}
    for name in parts.keys() - {"BODY", "FOOTER", "BUTTONS"}:
        yield name.lower() or "components", _("A template of a code has no such part.")
    if "BODY" not in parts:
        yield "body", _("A template of a code needs a body.")
    elif "text" in parts["BODY"]:
        yield "body", _("Meta writes the text of a code itself.")
    minutes = _get(parts.get("FOOTER", {}), "code_expiration_minutes")
    is_number = isinstance(minutes, int) and not isinstance(minutes, bool)
    if "FOOTER" in parts and not (is_number and 1 <= minutes <= 90):
        yield "footer", _("Between %(min)d and %(max)d minutes.") % {"min": 1, "max": 90}
    buttons = _get(parts.get("BUTTONS", {}), "buttons")
    is_one = isinstance(buttons, list) and len(buttons) == 1 and isinstance(buttons[0], Mapping)
    if not is_one or _word(buttons[0], "type") != "OTP":
        yield "buttons", _("A template of a code has exactly one button, which takes the code.")
    elif _word(buttons[0], "otp_type") not in ("COPY_CODE", "ONE_TAP", "ZERO_TAP"):
        yield "buttons", _("Choose what the button does.")


def _length_text(longest: int) -> str:
    return _("At most %(max)d characters.") % {"max": longest}


def _word(value: Mapping[str, Any], name: str) -> str:
    found = value.get(name)
    return found.upper() if isinstance(found, str) else ""


def _get(value: Any, name: str, default: Any = None) -> Any:
    found = value.get(name, default) if isinstance(value, Mapping) else default
    return default if found is None else found
