"""The templates of the simulated accounts (``docs/providers/cloud.md §11``).

It follows Meta's pages and knows nothing of the product's own rules: what those accept, this
accepts, and a test compares the two.

An account without any template is permissive: every name is taken, as if it had been created.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import itertools
import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

JsonObject = dict[str, Any]

FIELDS = frozenset(
    {
        "id",
        "name",
        "language",
        "status",
        "category",
        "previous_category",
        "sub_category",
        "parameter_format",
        "components",
        "quality_score",
        "rejected_reason",
    }
)
DEFAULT_FIELDS = (
    "id",
    "name",
    "language",
    "status",
    "category",
    "parameter_format",
    "components",
)
EDITABLE = frozenset({"APPROVED", "REJECTED", "PAUSED"})
VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")


class Problem(Exception):
    """A rejection: Meta's code, its details, and the subcode of a creation."""

    def __init__(self, code: int, details: str, subcode: int = 0) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.subcode = subcode


@dataclasses.dataclass(slots=True)
class Template:
    """A template of an account. ``components`` are those of its creation."""

    id: str
    waba_id: str
    name: str
    language: str
    category: str
    components: list[JsonObject]
    parameter_format: str = "POSITIONAL"
    status: str = "PENDING"
    quality: str = "UNKNOWN"
    rejected_reason: str = "NONE"
    previous_category: str = ""
    edited_at: float = 0.0
    paced: bool = False
    """The pause is one of pacing, which only ``unpause`` ends."""

    def row(self, fields: Iterable[str]) -> JsonObject:
        """Return the template as the list shows it (§11.1)."""
        known: JsonObject = {
            "id": self.id,
            "name": self.name,
            "language": self.language,
            "status": self.status,
            "category": self.category,
            "parameter_format": self.parameter_format,
            "components": [_listed(one, self.category) for one in self.components],
            "quality_score": {"score": self.quality, "date": int(time.time())},
            "rejected_reason": self.rejected_reason,
        }
        if self.previous_category:
            known["previous_category"] = self.previous_category
        return {name: known[name] for name in ("id", *fields) if name in known}


def _listed(component: JsonObject, category: str) -> JsonObject:
    """Return a component in the form of the list: upper case, URLs instead of handles."""
    shown = copy.deepcopy(component)
    for name in ("type", "format"):
        if isinstance(shown.get(name), str):
            shown[name] = shown[name].upper()
    if shown["type"] == "BODY" and category == "AUTHENTICATION":
        shown["text"] = "*{{1}}* is your verification code."
    minutes = shown.get("code_expiration_minutes")
    if shown["type"] == "FOOTER" and minutes:
        shown["text"] = f"This code expires in {minutes} minutes."
    if handles := (shown.get("example") or {}).get("header_handle"):
        shown["example"]["header_handle"] = [
            handle if handle.startswith("http") else "https://scontent.whatsapp.net/v/example"
            for handle in handles
        ]
    for button in shown.get("buttons") or ():
        button["type"] = str(button.get("type")).upper()
        if button["type"] == "OTP":
            otp_type = str(button.pop("otp_type", "COPY_CODE")).upper()
            button |= {
                "type": "URL",
                "text": button.get("text") or "Copy code",
                "url": f"https://www.whatsapp.com/otp/code/?otp_type={otp_type}&code=otp{{{{1}}}}",
            }
    for card in shown.get("cards") or ():
        card["components"] = [_listed(one, category) for one in card.get("components") or ()]
    return shown


class TemplateBook:
    """The templates of all accounts."""

    def __init__(self) -> None:
        self._templates: dict[str, Template] = {}
        self._ids = itertools.count(1689556908129835)

    def add(self, waba_id: str, row: JsonObject, *, status: str = "APPROVED") -> Template:
        """Put a template there without any check."""
        template = Template(
            id=str(row.get("id") or next(self._ids)),
            waba_id=waba_id,
            name=str(row["name"]),
            language=str(row.get("language") or "pt_BR"),
            category=str(row.get("category") or "UTILITY").upper(),
            components=list(row.get("components") or []),
            parameter_format=str(row.get("parameter_format") or "POSITIONAL").upper(),
            status=str(row.get("status") or status).upper(),
            quality=str(row.get("quality") or "UNKNOWN").upper(),
            rejected_reason=str(row.get("rejected_reason") or "NONE"),
            paced=bool(row.get("paced")),
        )
        self._templates[template.id] = template
        return template

    def get(self, template_id: str) -> Template | None:
        return self._templates.get(template_id)

    def of_account(self, waba_id: str) -> list[Template]:
        """Return the account's templates that are not deleted, in the order of their creation."""
        rows = (one for one in self._templates.values() if one.waba_id == waba_id)
        return [one for one in rows if one.status != "DELETED"]

    def is_permissive(self, waba_id: str) -> bool:
        return not any(one.waba_id == waba_id for one in self._templates.values())

    def find(self, waba_id: str, name: str, language: str) -> Template | None:
        for one in self.of_account(waba_id):
            if (one.name, one.language) == (name, language):
                return one
        return None

    def page(self, waba_id: str, query: Mapping[str, str]) -> JsonObject:
        """Return a page of the list. Raises Problem."""
        asked = [name for name in query.get("fields", "").split(",") if name]
        if unknown := [name for name in asked if name not in FIELDS]:
            raise Problem(100, f"Tried accessing nonexisting field ({unknown[0]})")
        rows = [
            one
            for one in self.of_account(waba_id)
            if all(
                query[name] == getattr(one, name)
                for name in ("name", "language", "status", "category")
                if name in query
            )
        ]
        # Never more than this, whatever was asked for.
        limit = min(max(int(query.get("limit") or 25), 1), 100)
        start = _position(query.get("after", ""))
        end = start + limit
        answer: JsonObject = {"data": [one.row(asked or DEFAULT_FIELDS) for one in rows[start:end]]}
        if answer["data"]:
            cursors = {"before": _cursor(start), "after": _cursor(end)}
            answer["paging"] = {"cursors": cursors}
            if end < len(rows):
                answer["paging"]["next"] = f"https://graph.facebook.com/next?after={_cursor(end)}"
        return answer

    def create(self, waba_id: str, draft: JsonObject) -> Template:
        """Create a template that waits for its review. Raises Problem."""
        check_draft(draft)
        if self.find(waba_id, draft["name"], draft["language"]):
            raise Problem(100, "There is already content in this language for this template.")
        template = self.add(waba_id, draft, status="PENDING")
        template.category = self._judged(template)
        return template

    def edit(self, template: Template, changes: JsonObject) -> None:
        """Replace what an edit may change; the review begins again. Raises Problem."""
        if template.status not in EDITABLE:
            raise Problem(100, f"A template that is {template.status} cannot be edited.")
        category = str(changes.get("category") or template.category).upper()
        if template.status == "APPROVED" and category != template.category:
            raise Problem(100, "The category of an approved template cannot be edited.")
        if template.status == "APPROVED" and time.time() - template.edited_at < 24 * 3600:
            raise Problem(100, "An approved template can be edited once in 24 hours.")
        draft = {
            "name": template.name,
            "language": template.language,
            "category": category,
            "parameter_format": template.parameter_format,
            "components": template.components,
            **changes,
        }
        check_draft(draft)
        template.components = draft["components"]
        template.category, template.status = category, "PENDING"
        template.rejected_reason, template.edited_at = "NONE", time.time()

    def delete(self, waba_id: str, name: str, template_id: str = "") -> list[Template]:
        """Delete all languages of a name, or one. Raises Problem."""
        found = [
            one
            for one in self.of_account(waba_id)
            if one.name == name and template_id in ("", one.id)
        ]
        if not found:
            raise Problem(100, "The template does not exist.")
        for one in found:
            one.status = "DELETED"
        return found

    def unpause(self, template: Template) -> None:
        """End a pause of pacing. Raises Problem."""
        if template.status != "PAUSED" or not template.paced:
            raise Problem(100, "The template was not paused by pacing.")
        template.status, template.paced = "APPROVED", False

    @staticmethod
    def _judged(template: Template) -> str:
        """Return the category that Meta chooses: what advertises is marketing."""
        text = " ".join(str(one.get("text") or "") for one in template.components).lower()
        advertises = re.search(r"promo|oferta|desconto|discount", text)
        return "MARKETING" if advertises and template.category == "UTILITY" else template.category


def _cursor(position: int) -> str:
    return base64.urlsafe_b64encode(f"at:{position}".encode()).decode()


def _position(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        return int(base64.urlsafe_b64decode(cursor).decode().removeprefix("at:"))
    except ValueError:
        raise Problem(100, "Invalid cursor") from None


# -- creation ----------------------------------------------------------------------------------


def check_draft(draft: JsonObject) -> None:
    """Raise Problem for a creation that Meta rejects (§11.3, §11.4)."""
    if not re.fullmatch(r"[a-z0-9_]{1,512}", str(draft.get("name") or "")):
        raise Problem(100, "The template name is not valid.")
    category = str(draft.get("category") or "").upper()
    if category not in ("MARKETING", "UTILITY", "AUTHENTICATION"):
        raise Problem(100, "The category is not valid.")
    components = draft.get("components")
    if not isinstance(components, list) or not draft.get("language"):
        raise Problem(100, "The template needs a language and components.")
    parts = {str(one.get("type")).upper(): one for one in components}
    if category == "AUTHENTICATION":
        buttons = (parts.get("BUTTONS") or {}).get("buttons") or []
        if "text" in parts.get("BODY", {"text": ""}) or len(buttons) != 1:
            raise Problem(100, "An authentication template has no text and one button.")
        return
    named = str(draft.get("parameter_format") or "").upper() == "NAMED"
    header = parts.get("HEADER") or {}
    if str(header.get("format") or "").upper() == "TEXT":
        text = str(header.get("text") or "")
        if len(text) > 60:
            raise Problem(100, "The header is too long.", 2388040)
        if not text or len(VARIABLE.findall(text)) > 1 or "\n" in text:
            raise Problem(100, "The header's format is incorrect.", 2388047)
        _check_examples(text, header, "header", named=named)
    elif header.get("format") in ("IMAGE", "VIDEO", "DOCUMENT") and not (
        header.get("example") or {}
    ).get("header_handle"):
        raise Problem(100, "The header needs an example.", 2388047)
    body = str((parts.get("BODY") or {}).get("text") or "")
    if not body:
        raise Problem(100, "The template needs a body.", 2388047)
    if len(body) > 1024:
        raise Problem(100, "The body is too long.", 2388040)
    if re.match(r"\s*\{\{", body) or re.search(r"\}\}\s*\Z", body):
        raise Problem(100, "Variables can't be at the start or end of the template.", 2388299)
    _check_examples(body, parts["BODY"], "body", named=named)
    footer = str((parts.get("FOOTER") or {}).get("text") or "")
    if len(footer) > 60 or "{{" in footer:
        raise Problem(100, "The footer's format is incorrect.", 2388073)
    buttons = (parts.get("BUTTONS") or {}).get("buttons") or []
    if len(buttons) > 10 or any(len(str(one.get("text") or "")) > 25 for one in buttons):
        raise Problem(100, "The buttons are not valid.", 2388040)


def _check_examples(text: str, component: JsonObject, part: str, *, named: bool) -> None:
    names = set(VARIABLE.findall(text))
    example = component.get("example") or {}
    if named:
        given = {one.get("param_name") for one in example.get(f"{part}_text_named_params") or ()}
        right = all(re.fullmatch(r"[a-z0-9_]+", name) for name in names)
    else:
        listed = example.get(f"{part}_text") or []
        listed = listed[0] if part == "body" and listed else listed
        given = {str(number) for number in range(1, len(listed) + 1)}
        right = names == {str(number) for number in range(1, len(names) + 1)}
    if not right or not names <= given:
        raise Problem(100, f"The {part} has variables without an example.", 2388047)


# -- sends -------------------------------------------------------------------------------------


def check_send(template: Template | None, part: JsonObject, *, to_user_id: bool = False) -> None:
    """Raise Problem for a send that Meta rejects (§11.5, §11.9)."""
    if template is None:
        raise Problem(132001, f"template name ({part.get('name')}) does not exist")
    if template.status == "PAUSED":
        raise Problem(132015, "")
    if template.status == "DISABLED":
        raise Problem(132016, "")
    if template.status not in ("APPROVED", "FLAGGED", "REINSTATED"):
        raise Problem(132001, f"template name ({template.name}) is not approved")
    if to_user_id and template.category == "AUTHENTICATION":
        raise Problem(131062, "")
    named = template.parameter_format == "NAMED"
    given = part.get("components", [])
    if not isinstance(given, list):
        raise Problem(100, "components must be an array.")
    _check_block(template.components, given, named=named, category=template.category)


def _check_block(
    components: list[JsonObject], given: list[JsonObject], *, named: bool, category: str
) -> None:
    parts = {str(one.get("type")).upper(): one for one in components}
    sent: dict[str, list[JsonObject]] = {}
    buttons: dict[str, JsonObject] = {}
    for one in given:
        kind = str(one.get("type")).lower()
        if kind == "button":
            buttons[str(one.get("index"))] = one
        elif kind == "carousel":
            _check_cards(parts.get("CAROUSEL"), one, named=named, category=category)
        else:
            sent[kind] = one.get("parameters") or []
    if "CAROUSEL" in parts and not any(one.get("type") == "carousel" for one in given):
        raise Problem(132012, "carousel: expected the cards")
    header = parts.get("HEADER") or {}
    kind = str(header.get("format") or "TEXT").lower()
    if kind == "text":
        _check_texts("header", str(header.get("text") or ""), sent.get("header", []), named=named)
    else:
        _check_file(kind, sent.get("header", []))
    body = parts.get("BODY") or {}
    is_code = category == "AUTHENTICATION"
    text = "{{1}}" if is_code and body else str(body.get("text") or "")
    _check_texts("body", text, sent.get("body", []), named=named)
    offer = (parts.get("LIMITED_TIME_OFFER") or {}).get("limited_time_offer") or {}
    if offer.get("has_expiration") and not sent.get("limited_time_offer"):
        raise Problem(132012, "limited_time_offer: expected an expiration")
    if unknown := set(sent) - {"header", "body", "limited_time_offer", "tap_target_configuration"}:
        raise Problem(132012, f"{sorted(unknown)[0]}: the template has no such component")
    own_buttons = (parts.get("BUTTONS") or {}).get("buttons") or []
    for index, button in enumerate(own_buttons):
        _check_button(index, button, buttons.pop(str(index), None))
    if buttons:
        raise Problem(132012, f"button at index {next(iter(buttons))} does not exist")


def _check_texts(part: str, text: str, given: list[JsonObject], *, named: bool) -> None:
    names = set(VARIABLE.findall(text))
    if len(given) != len(names):
        raise Problem(
            132000,
            f"{part}: number of localizable_params ({len(given)}) does not match the expected"
            f" number of params ({len(names)})",
        )
    if named and {one.get("parameter_name") for one in given} != names:
        raise Problem(132018, f"{part}: parameter_name does not match")
    for one in given:
        kind = str(one.get("type")).lower()
        if kind not in ("text", "currency", "date_time"):
            raise Problem(132012, f"{part}: expected a text, got {kind}")
        value = one.get("text") if kind == "text" else (one.get(kind) or {}).get("fallback_value")
        if not isinstance(value, str) or not value:
            raise Problem(131008, f"{part}: a parameter is empty")
        if re.search(r"[\n\t]| {5}", value):
            raise Problem(132018, "Param text cannot have new-line/tab characters or more than 4"
                                  " consecutive spaces")  # fmt: skip


def _check_file(kind: str, given: list[JsonObject]) -> None:
    if len(given) != 1:
        raise Problem(132012, f"header: Format mismatch, expected {kind.upper()}, received UNKNOWN")
    type_ = str(given[0].get("type")).lower()
    if type_ != kind:
        raise Problem(
            132012, f"header: Format mismatch, expected {kind.upper()}, received {type_.upper()}"
        )
    value = given[0].get(kind) or {}
    if kind in ("image", "video", "document"):
        if not (value.get("id") or value.get("link")):
            raise Problem(131008, f"header: {kind} needs an id or a link")
        # Our own names are unknown to Meta.
        if set(value) - {"id", "link", "filename", "caption", "provider"}:
            raise Problem(100, f"Unexpected key on param {kind}")
    elif kind == "location" and not all(
        isinstance(value.get(name), str) for name in ("latitude", "longitude")
    ):
        raise Problem(131009, "header: latitude and longitude must be strings")


_SUB_TYPES = {
    "QUICK_REPLY": ("quick_reply", "payload"),
    "URL": ("url", "text"),
    "OTP": ("url", "text"),
    "COPY_CODE": ("copy_code", "coupon_code"),
    "FLOW": ("flow", "action"),
    "CATALOG": ("catalog", "action"),
    "MPM": ("mpm", "action"),
    "VOICE_CALL": ("voice_call", "payload"),
}


def _check_button(index: int, button: JsonObject, given: JsonObject | None) -> None:
    kind = str(button.get("type")).upper()
    needed = kind in ("OTP", "COPY_CODE", "MPM") or "{{" in str(button.get("url") or "")
    if given is None:
        if needed:
            raise Problem(131008, f"buttons: Button at index {index} of type {kind} requires a"
                                  " parameter")  # fmt: skip
        return
    sub_type, name = _SUB_TYPES.get(kind, ("", ""))
    if not sub_type or (kind == "URL" and not needed):
        raise Problem(132018, f"buttons: Button at index {index} takes no parameter")
    if str(given.get("sub_type")).lower() != sub_type:
        raise Problem(132012, f"buttons: Button at index {index} is no {given.get('sub_type')}")
    parameters = given.get("parameters") or []
    value = parameters[0].get(name) if parameters else None
    if value in (None, "") or (name == "action") != isinstance(value, dict):
        raise Problem(131008, f"buttons: Button at index {index} needs its {name}")
    if name == "coupon_code" and len(value) > 20:
        raise Problem(131009, "coupon_code is too long")


def _check_cards(
    carousel: JsonObject | None, given: JsonObject, *, named: bool, category: str
) -> None:
    cards = (carousel or {}).get("cards") or []
    sent = given.get("cards") or []
    if len(cards) != len(sent):
        raise Problem(132012, f"carousel: expected {len(cards)} cards, got {len(sent)}")
    for card, one in zip(cards, sent, strict=True):
        _check_block(
            card["components"], one.get("components") or [], named=named, category=category
        )
