"""Templates of the official API: what a sender fills in, what is wrong, what the customer sees.

A definition is what Meta lists of a template. `fields` says what a send has to fill in; each field
has a key ("body.1", "header", "button.0", "card.1.body.name") under which `values_of`, `build` and
`errors` name it. Wire facts: docs/providers/cloud.md §11. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels_app.providers import header_media
from core.text import safe_id, storable

Component = Mapping[str, Any]
Values = Mapping[str, Any]

MARKETING, UTILITY, AUTHENTICATION = "MARKETING", "UTILITY", "AUTHENTICATION"
NAMED, POSITIONAL = "NAMED", "POSITIONAL"
MEDIA_KINDS: Final = frozenset(header_media.KINDS)
# Why a template of this status certainly cannot be sent (§11.2). Others are left to Meta.
UNUSABLE: Final[Mapping[str, str | Promise]] = {
    "PENDING": gettext_lazy("Meta has not approved this template yet."),
    "IN_APPEAL": gettext_lazy("Meta has not approved this template yet: an appeal is pending."),
    "REJECTED": gettext_lazy("Meta rejected this template."),
    "PAUSED": gettext_lazy("Meta paused this template, because customers complained about it."),
    "LOCKED": gettext_lazy("Meta locked this template."),
    "LIMIT_EXCEEDED": gettext_lazy("The limit of templates of the account is exceeded."),
    "DISABLED": gettext_lazy("Meta disabled this template for good."),
    "ARCHIVED": gettext_lazy("This template is archived at Meta."),
    "PENDING_DELETION": gettext_lazy("This template is being deleted at Meta."),
    "DELETED": gettext_lazy("This template was deleted."),
}

_VARIABLE = re.compile(r"\{\{\s*([A-Za-z0-9_]+)\s*\}\}")
# What a person sees as empty: spaces, controls and zero-width characters.
_INVISIBLE = re.compile(r"[\s\u00ad\u034f\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff]*")
_MAX_CODE, _MAX_COUPON, MAX_URL = 15, 20, 2000
# Buttons that take no value in any template, or only if they have a variable.
_FIXED_BUTTONS: Final = ("PHONE_NUMBER", "URL", "OTP", "REQUEST_CONTACT_INFO")
# Buttons whose value a send may leave out.
_OPTIONAL_BUTTONS: Final = {
    "QUICK_REPLY": "quick_reply",
    "FLOW": "flow",
    "CATALOG": "catalog",
    "VOICE_CALL": "voice_call",
}
_SUB_TYPES: Final = {
    **_OPTIONAL_BUTTONS,
    "URL": "url",
    "OTP": "url",
    "COPY_CODE": "copy_code",
    "MPM": "mpm",
}
# Components of a send that belong to no part of the definition.
_EXTRA_COMPONENTS: Final = frozenset({"tap_target_configuration"})


class InvalidParameters(ValueError):
    """The values do not fit the definition. `errors`: texts by the key of the field."""

    def __init__(self, errors: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{key}: {text}" for key, text in errors.items()))
        self.errors = dict(errors)


@dataclass(frozen=True, slots=True)
class Definition:
    """A template as Meta lists it. Category, status and quality are in upper case; "" if unknown.

    `components` are those of the list (§11.1), not those of a send.
    """

    template_id: str
    name: str
    language: str
    category: str = ""
    status: str = ""
    quality: str = ""
    rejected_reason: str = ""
    parameter_format: str = POSITIONAL
    components: tuple[Component, ...] = ()

    @property
    def is_named(self) -> bool:
        return self.parameter_format == NAMED

    @property
    def unusable(self) -> str:
        """Why it certainly cannot be sent now, in words; "" if it can, or if only Meta knows."""
        text = str(UNUSABLE.get(self.status, ""))
        if text and self.status == "REJECTED" and self.rejected_reason:
            return f"{text} ({self.rejected_reason})"
        return text


@dataclass(frozen=True, slots=True)
class Field:
    """What a sender fills in.

    `part`: header, body, button or offer; `card`: the index of its card in a carousel, `button`
    that of its button. `kind`: text, code, image, video, document, location, product, url_suffix,
    coupon_code, products or expiration. `name` is the variable's, "" for all but texts.
    """

    key: str
    part: str
    kind: str
    label: str
    name: str = ""
    example: str = ""
    card: int | None = None
    button: int | None = None


class Button(NamedTuple):
    """A button as the customer sees it. `kind` is Meta's in lower case.

    `value`: the whole address of a url, the number of a phone_number, the code of a copy_code or
    otp; "" for others.
    """

    kind: str
    text: str
    value: str


@dataclass(frozen=True, slots=True)
class Rendered:
    """A template as the customer sees it; variables without a value stay as they are.

    `header_kind`: text, image, video, document, location, product, or "" without a header.
    `header_media` is the object of a send that fills a header which is no text, or None.
    """

    header: str = ""
    header_kind: str = ""
    header_media: Mapping[str, Any] | None = None
    body: str = ""
    footer: str = ""
    offer: str = ""
    buttons: tuple[Button, ...] = ()
    cards: tuple[Rendered, ...] = ()

    @property
    def button_kinds(self) -> frozenset[str]:
        """The kinds of all buttons, those of the cards included."""
        return frozenset(button.kind for part in (self, *self.cards) for button in part.buttons)

    def as_text(self) -> str:
        """Return everything but the media as one WhatsApp text, each button on a line."""
        header = f"*{self.header}*" if self.header and "*" not in self.header else self.header
        footer = f"_{self.footer}_" if self.footer and "_" not in self.footer else self.footer
        place = _place_text(self.header_media) if self.header_kind == "location" else ""
        buttons = "\n".join(map(_button_line, self.buttons))
        cards = (card.as_text() for card in self.cards)
        parts = (header, place, self.offer, self.body, *cards, footer, buttons)
        return "\n\n".join(part for part in parts if part)


def _button_line(button: Button) -> str:
    return f"{button.text}: {button.value}" if button.value else f"• {button.text}"


def _place_text(place: Mapping[str, Any] | None) -> str:
    place = place or {}
    named = (str(place.get(name) or "") for name in ("name", "address"))
    at = ", ".join(str(place[name]) for name in ("latitude", "longitude") if name in place)
    return "\n".join(line for line in (*named, at) if line)


# -- reading -------------------------------------------------------------------------------------


def language_code(value: object) -> str:
    """Return a language as the API writes it: webhooks write "pt-BR", all else "pt_BR" (§11.1)."""
    return value.replace("-", "_") if isinstance(value, str) else ""


def read(row: object) -> Definition | None:
    """Return a row of Meta's list (§11.1), or None if it is no template."""
    row = _mapping(row)
    template_id = row.get("id")
    # A string in the list, a number in webhooks.
    template_id = safe_id(str(template_id)) if isinstance(template_id, int | str) else None
    name, language = row.get("name"), language_code(row.get("language"))
    if template_id is None or not isinstance(name, str) or not (name and language):
        return None
    reason = row.get("rejected_reason")
    return Definition(
        template_id=template_id[:64],
        name=storable(name)[:512],
        language=storable(language)[:20],
        category=_word(row.get("category")),
        status=_word(row.get("status")),
        quality=_word(_mapping(row.get("quality_score")).get("score")),
        rejected_reason="" if reason in (None, "NONE") else storable(str(reason))[:200],
        parameter_format=_word(row.get("parameter_format")) or POSITIONAL,
        components=tuple(storable(one) for one in _mappings(row.get("components"))),
    )


def _word(value: object) -> str:
    return str(storable(value)).upper()[:40] if isinstance(value, str) else ""


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _mappings(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class _Block:
    """The template itself, or a card of its carousel. `prefix` precedes the keys of its fields."""

    header: Component
    body: Component
    footer: Component
    offer: Component
    buttons: tuple[Component, ...]
    has_body: bool
    prefix: str = ""
    card: int | None = None

    @property
    def header_kind(self) -> str:
        kind = _word(self.header.get("format")).lower()
        return kind or ("text" if self.header else "")

    def body_text(self, definition: Definition) -> str:
        text = _text(self.body.get("text"))
        if not text and self.has_body and definition.category == AUTHENTICATION:
            # Meta writes the text of such a template itself.
            return "{{1}}"
        return text


def _block(components: Iterable[Component], *, card: int | None = None) -> _Block:
    by_type = {_word(one.get("type")): one for one in components}
    return _Block(
        header=by_type.get("HEADER", {}),
        body=by_type.get("BODY", {}),
        footer=by_type.get("FOOTER", {}),
        offer=by_type.get("LIMITED_TIME_OFFER", {}),
        buttons=tuple(_mappings(by_type.get("BUTTONS", {}).get("buttons"))),
        has_body="BODY" in by_type,
        prefix="" if card is None else f"card.{card}.",
        card=card,
    )


def _blocks(definition: Definition) -> tuple[_Block, tuple[_Block, ...]]:
    """Return the template's own block and those of its cards."""
    carousel = next(
        (one for one in definition.components if _word(one.get("type")) == "CAROUSEL"), {}
    )
    cards = tuple(
        _block(_mappings(card.get("components")), card=number)
        for number, card in enumerate(_mappings(carousel.get("cards")))
    )
    return _block(definition.components), cards


def variables(text: str) -> list[str]:
    """Return the names of a text's variables, in their order, each once; numbers by their value."""
    names = list(dict.fromkeys(_VARIABLE.findall(text)))
    return sorted(names, key=int) if all(name.isdecimal() for name in names) else names


# -- fields --------------------------------------------------------------------------------------


def fields(definition: Definition) -> tuple[Field, ...]:
    """Return what a send of this template has to fill in, in the order in which it is shown."""
    own, cards = _blocks(definition)
    return tuple(one for block in (own, *cards) for one in _fields_of(definition, block))


def _fields_of(definition: Definition, block: _Block) -> Iterator[Field]:
    where = "" if block.card is None else _("Card %(number)d: ") % {"number": block.card + 1}
    kind = block.header_kind
    if kind == "text":
        yield from _text_fields(
            block, "header", _text(block.header.get("text")), where + _("Header")
        )
    elif kind:
        label = {
            "image": _("Image"),
            "video": _("Video"),
            "document": _("Document"),
            "location": _("Location"),
            "product": _("Product"),
        }.get(kind, kind)
        yield Field(f"{block.prefix}header", "header", kind, where + label, card=block.card)
    if _mapping(block.offer.get("limited_time_offer")).get("has_expiration"):
        label = where + _("End of the offer")
        yield Field(f"{block.prefix}offer", "offer", "expiration", label, card=block.card)
    is_code = definition.category == AUTHENTICATION
    label = where + (_("Code") if is_code else _("Text"))
    yield from _text_fields(
        block, "body", block.body_text(definition), label, kind="code" if is_code else "text"
    )
    for index, button in enumerate(block.buttons):
        kind = _button_kind(definition, button)
        if kind and kind != "code":
            text = _text(button.get("text"))
            yield Field(
                f"{block.prefix}button.{index}",
                "button",
                kind,
                where + _("Button “%(text)s”") % {"text": text},
                example=_button_example(button),
                card=block.card,
                button=index,
            )


def _text_fields(
    block: _Block, part: str, text: str, label: str, *, kind: str = "text"
) -> Iterator[Field]:
    component = block.header if part == "header" else block.body
    examples = _examples(component, part)
    for number, name in enumerate(variables(text)):
        example = examples.get(name, examples.get(str(number + 1), ""))
        yield Field(
            f"{block.prefix}{part}.{name}",
            part,
            kind,
            label if kind == "code" else f"{label}: {name}",
            name=name,
            example=example,
            card=block.card,
        )


def _examples(component: Component, part: str) -> dict[str, str]:
    example = _mapping(component.get("example"))
    named = {
        str(one.get("param_name")): str(one.get("example", ""))
        for one in _mappings(example.get(f"{part}_text_named_params"))
    }
    listed = example.get(f"{part}_text")
    if isinstance(listed, list) and listed and isinstance(listed[0], list):
        listed = listed[0]
    if not isinstance(listed, list):
        return named
    return {str(n): str(one) for n, one in enumerate(listed, 1)} | named


def _button_kind(definition: Definition, button: Component) -> str:
    """Return the kind of the field that a button needs, or ""."""
    type_ = _word(button.get("type"))
    if type_ == "OTP" or _is_otp(definition, button):
        return "code"
    if type_ == "URL":
        return "url_suffix" if _VARIABLE.search(_text(button.get("url"))) else ""
    return {"COPY_CODE": "coupon_code", "MPM": "products"}.get(type_, "")


def _is_otp(definition: Definition, button: Component) -> bool:
    # The list shows the button of a code as one with an address (§11.1).
    return definition.category == AUTHENTICATION and _word(button.get("type")) == "URL"


def _button_example(button: Component) -> str:
    example = button.get("example")
    if isinstance(example, list):
        example = example[0] if example else ""
    text = str(example or "")
    prefix = _VARIABLE.split(_text(button.get("url")))[0]
    return text[len(prefix) :] if prefix and text.startswith(prefix) else text


# -- from values to the components of a send and back ---------------------------------------------


def fill(
    definition: Definition,
    parameters: Values | None = None,
    header: Values | None = None,
    buttons: Values | None = None,
    *,
    cards: Sequence[Any] | None = None,
    offer: Values | None = None,
) -> list[dict[str, Any]]:
    """Return the components of a send from its short form (§11.6). Raises InvalidParameters.

    `parameters`: the variables by name or number; those of the body, and of a named template's
    header. `header`: {"text"} for a variable, {"media"|"link"|"id", "filename"} for a file,
    {"latitude", "longitude", "name", "address"}, or {"product_retailer_id", "catalog_id"}.
    `buttons`: the variable part of an address, a code, or what the template leaves open, by the
    button's position from 0. `cards`: an object of these three for each card. `offer`:
    {"expiration_time_ms"}. What `errors` finds in the result is raised here.
    """
    own, own_cards = _blocks(definition)
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    _take_short_form(definition, own, parameters, header, buttons, values, problems)
    if offer is not None:
        values["offer"] = _mapping(offer).get("expiration_time_ms")
    given = cards if isinstance(cards, list | tuple) else ()
    if cards is not None and len(given) != len(own_cards):
        problems["cards"] = _wrong_count(len(own_cards), len(given))
    for block, one in zip(own_cards, given, strict=False):
        card = _mapping(one)
        _take_short_form(
            definition,
            block,
            card.get("parameters"),
            card.get("header"),
            card.get("buttons"),
            values,
            problems,
        )
        for name in sorted(card.keys() - {"parameters", "header", "buttons"}):
            problems[f"{block.prefix}{name}"] = _("This field does not exist.")
    return fill_values(definition, values, problems)


def fill_values(
    definition: Definition, values: Values, problems: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return the components of a send from values by the keys of `fields`.

    Raises InvalidParameters with these problems and those of the values, if there are any.
    """
    problems = dict(problems or {})
    known = {one.key: one for one in fields(definition)}
    for key in values.keys() - known.keys():
        if not _is_optional(definition, key):
            problems.setdefault(key, _("The template has no such variable."))
    for key, one in known.items():
        if error := _value_error(one, values.get(key)):
            problems.setdefault(key, error)
    components = _build(definition, values)
    if not problems:
        problems = errors(definition, components)
    if problems:
        raise InvalidParameters(problems)
    return components


def _take_short_form(
    definition: Definition,
    block: _Block,
    parameters: Any,
    header: Any,
    buttons: Any,
    values: dict[str, Any],
    problems: dict[str, str],
) -> None:
    """Enter the values of one block under the keys of its fields."""
    in_header = variables(_text(block.header.get("text"))) if block.header_kind == "text" else []
    in_body = variables(block.body_text(definition))
    for name, given in _given(parameters, f"{block.prefix}parameters", problems):
        if name in in_body:
            values[f"{block.prefix}body.{name}"] = given
        if name in in_header and (definition.is_named or not in_body):
            values[f"{block.prefix}header.{name}"] = given
        elif name not in in_body:
            values[f"{block.prefix}body.{name}"] = given
    if header is not None:
        if not isinstance(header, Mapping):
            problems[f"{block.prefix}header"] = _("This must be an object.")
        elif block.header_kind == "text" and set(header) == {"text"} and in_header:
            values[f"{block.prefix}header.{in_header[0]}"] = header["text"]
        elif block.header_kind == "text":
            for name, given in header.items():
                values[f"{block.prefix}header.{name}"] = given
        else:
            values[f"{block.prefix}header"] = header
    for index, given in _given(buttons, f"{block.prefix}buttons", problems):
        values[f"{block.prefix}button.{index}"] = given


def _given(parameters: Any, key: str, problems: dict[str, str]) -> list[tuple[str, Any]]:
    if parameters is None:
        return []
    if not isinstance(parameters, Mapping):
        problems[key] = _("This must be an object.")
        return []
    return [(str(name), given) for name, given in parameters.items()]


def _is_optional(definition: Definition, key: str) -> bool:
    """Return whether a key that is no field may have a value: a button that needs none."""
    own, cards = _blocks(definition)
    for block in (own, *cards):
        for index, button in enumerate(block.buttons):
            if key == f"{block.prefix}button.{index}":
                type_ = _word(button.get("type"))
                return type_ in _OPTIONAL_BUTTONS or _button_kind(definition, button) == "code"
    return False


def _build(definition: Definition, values: Values) -> list[dict[str, Any]]:
    own, cards = _blocks(definition)
    components = _build_block(definition, own, values)
    if cards:
        built = [
            {"card_index": block.card, "components": _build_block(definition, block, values)}
            for block in cards
        ]
        components.append({"type": "carousel", "cards": built})
    return components


def _build_block(definition: Definition, block: _Block, values: Values) -> list[dict[str, Any]]:
    built: list[dict[str, Any]] = []
    kind = block.header_kind
    if kind == "text":
        names = variables(_text(block.header.get("text")))
        if parameters := _text_parameters(definition, block, "header", names, values):
            built.append({"type": "header", "parameters": parameters})
    elif kind and (value := values.get(f"{block.prefix}header")) is not None:
        parameters = [{"type": kind, kind: _header_object(kind, value)}]
        built.append({"type": "header", "parameters": parameters})
    if (expires := values.get(f"{block.prefix}offer")) is not None:
        offer = {
            "type": "limited_time_offer",
            "limited_time_offer": {"expiration_time_ms": expires},
        }
        built.append({"type": "limited_time_offer", "parameters": [offer]})
    names = variables(block.body_text(definition))
    if parameters := _text_parameters(definition, block, "body", names, values):
        built.append({"type": "body", "parameters": parameters})
    for index, button in enumerate(block.buttons):
        value = values.get(f"{block.prefix}button.{index}")
        type_ = _word(button.get("type"))
        if value is None and _button_kind(definition, button) == "code":
            value = values.get(f"{block.prefix}body.1")
        if value is not None and type_ in _SUB_TYPES:
            built.append(
                {
                    "type": "button",
                    "sub_type": _SUB_TYPES[type_],
                    "index": str(index),
                    "parameters": [_button_parameter(type_, value)],
                }
            )
    return built


def _text_parameters(
    definition: Definition, block: _Block, part: str, names: Sequence[str], values: Values
) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    for name in names:
        value = values.get(f"{block.prefix}{part}.{name}")
        if value is None:
            continue
        rich = isinstance(value, Mapping)
        parameter = dict(value) if rich else {"type": "text", "text": _plain(value)}
        if definition.is_named:
            parameter["parameter_name"] = name
        parameters.append(parameter)
    return parameters


def _plain(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _header_object(kind: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    if kind == "location":
        # Meta takes texts only (§11.5).
        return {name: _plain(value[name]) for name in value}
    return dict(value)


def _button_parameter(type_: str, value: Any) -> dict[str, Any]:
    if type_ in ("QUICK_REPLY", "VOICE_CALL"):
        return {"type": "payload", "payload": _plain(value)}
    if type_ == "COPY_CODE":
        return {"type": "coupon_code", "coupon_code": _plain(value)}
    if type_ == "FLOW" and isinstance(value, str):
        return {"type": "action", "action": {"flow_token": value}}
    if type_ in ("FLOW", "CATALOG", "MPM"):
        return {"type": "action", "action": value}
    return {"type": "text", "text": _plain(value)}


def values_of(definition: Definition, components: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the values in the components of a send, by the keys of `fields`, and what is wrong.

    The errors are those of the structure: a part that the template does not have, a wrong number
    of parameters. A value that is missing has no entry.
    """
    values: dict[str, Any] = {}
    problems: dict[str, str] = {}
    if components is None:
        return values, problems
    if not isinstance(components, list | tuple):
        return values, {"components": _("This must be a list.")}
    own, cards = _blocks(definition)
    rest = _read_block(definition, own, components, values, problems)
    for component in rest:
        if _word(component.get("type")) != "CAROUSEL" or not cards:
            key = _text(component.get("type")).lower() or "components"
            problems[key] = _("The template has no such part.")
            continue
        given = _mappings(component.get("cards"))
        if len(given) != len(cards):
            problems["cards"] = _wrong_count(len(cards), len(given))
        for number, (block, card) in enumerate(zip(cards, given, strict=False)):
            if card.get("card_index", number) != number:
                problems["cards"] = _("The cards must be in the order of the template.")
            inner = card.get("components")
            if not isinstance(inner, list):
                problems[f"{block.prefix}components"] = _("This must be a list.")
                continue
            for other in _read_block(definition, block, inner, values, problems):
                key = f"{block.prefix}{_text(other.get('type')).lower() or 'components'}"
                problems[key] = _("The template has no such part.")
    return values, problems


def _read_block(
    definition: Definition,
    block: _Block,
    components: Sequence[Any],
    values: dict[str, Any],
    problems: dict[str, str],
) -> list[Component]:
    """Enter what the components give to this block; return those that are none of its parts."""
    rest: list[Component] = []
    seen: set[str] = set()
    for component in components:
        if not isinstance(component, Mapping):
            problems[f"{block.prefix}components"] = _("This must be an object.")
            continue
        type_ = _text(component.get("type")).lower()
        parameters = component.get("parameters", [])
        if not isinstance(parameters, list) or not all(isinstance(p, Mapping) for p in parameters):
            problems[f"{block.prefix}{type_ or 'components'}"] = _("This must be a list.")
            continue
        name = f"button.{component.get('index')}" if type_ == "button" else type_
        if type_ in ("header", "body", "button") and name in seen:
            problems[f"{block.prefix}{name}"] = _("This part is given twice.")
        seen.add(name)
        if type_ == "header":
            _read_header(definition, block, parameters, values, problems)
        elif type_ == "body":
            names = variables(block.body_text(definition))
            _read_texts(definition, block, "body", names, parameters, values, problems)
        elif type_ == "button":
            _read_button(definition, block, component, parameters, values, problems)
        elif type_ == "limited_time_offer" and block.offer:
            offer = _mapping(parameters[0].get("limited_time_offer")) if parameters else {}
            values[f"{block.prefix}offer"] = offer.get("expiration_time_ms")
        elif type_ not in _EXTRA_COMPONENTS:
            rest.append(component)
    return rest


def _read_header(
    definition: Definition,
    block: _Block,
    parameters: list[Mapping[str, Any]],
    values: dict[str, Any],
    problems: dict[str, str],
) -> None:
    kind, key = block.header_kind, f"{block.prefix}header"
    if kind in ("", "text"):
        names = variables(_text(block.header.get("text")))
        _read_texts(definition, block, "header", names, parameters, values, problems)
    elif len(parameters) != 1:
        problems[key] = _wrong_count(1, len(parameters))
    elif (given := _text(parameters[0].get("type")).lower()) != kind:
        problems[key] = _("The header is “%(kind)s”, not “%(given)s”.") % {
            "kind": kind,
            "given": given,
        }
    else:
        values[key] = parameters[0].get(kind)


def _read_texts(
    definition: Definition,
    block: _Block,
    part: str,
    names: Sequence[str],
    parameters: list[Mapping[str, Any]],
    values: dict[str, Any],
    problems: dict[str, str],
) -> None:
    key = f"{block.prefix}{part}"
    if len(parameters) != len(names):
        problems[key] = _wrong_count(len(names), len(parameters))
    for number, parameter in enumerate(parameters):
        name = str(number + 1)
        if definition.is_named:
            name = _text(parameter.get("parameter_name"))
            if not name:
                problems[key] = _('Each parameter needs its "parameter_name".')
                continue
            if name not in names:
                problems[f"{key}.{name}"] = _("The template has no such variable.")
                continue
        elif number >= len(names):
            continue
        else:
            name = names[number]
        if f"{key}.{name}" in values:
            problems[f"{key}.{name}"] = _("This part is given twice.")
        is_text = _text(parameter.get("type")).lower() == "text"
        values[f"{key}.{name}"] = parameter.get("text") if is_text else parameter


def _read_button(
    definition: Definition,
    block: _Block,
    component: Component,
    parameters: list[Mapping[str, Any]],
    values: dict[str, Any],
    problems: dict[str, str],
) -> None:
    given = component.get("index")
    index = int(str(given)) if str(given).isdecimal() else -1
    key = f"{block.prefix}button.{index if index >= 0 else given}"
    if not 0 <= index < len(block.buttons):
        problems[key] = _("The template has no such button.")
        return
    button = block.buttons[index]
    type_ = _word(button.get("type"))
    if type_ not in _SUB_TYPES and type_ not in _FIXED_BUTTONS:
        # A newer kind of button: only Meta knows what it takes.
        return
    sub_type = _text(component.get("sub_type")).lower()
    takes_value = type_ in _OPTIONAL_BUTTONS or bool(_button_kind(definition, button))
    if not takes_value or sub_type != _SUB_TYPES.get(type_):
        problems[key] = _("This button is “%(kind)s” and does not take such a value.") % {
            "kind": type_.lower()
        }
        return
    # A call button has two.
    if not parameters or (len(parameters) > 1 and type_ != "VOICE_CALL"):
        problems[key] = _wrong_count(1, len(parameters))
        return
    parameter = parameters[0]
    kind = _text(_button_parameter(type_, "").get("type"))
    if _text(parameter.get("type")).lower() != kind:
        problems[key] = _("The parameter must be of the type “%(kind)s”.") % {"kind": kind}
        return
    value = parameter.get(kind)
    if kind in ("text", "payload") and (error := _text_error(value, breaks=kind == "payload")):
        problems[key] = error
    elif kind == "action" and not isinstance(value, Mapping):
        problems[key] = _("This must be an object.")
    values[key] = value


def _wrong_count(expected: int, given: int) -> str:
    return _("Expected: %(expected)d, given: %(given)d.") % {"expected": expected, "given": given}


# -- checks --------------------------------------------------------------------------------------


def errors(definition: Definition, components: Any) -> dict[str, str]:
    """Return what Meta would reject in the components of a send, by the key of the field.

    Only what is certain: an empty result does not promise that Meta accepts it.
    """
    values, problems = values_of(definition, components)
    for one in fields(definition):
        if one.key in problems:
            continue
        value = values.get(one.key)
        if error := _value_error(one, value):
            problems[one.key] = error
        elif one.kind == "location" and not all(
            isinstance(v, str) for v in _mapping(value).values()
        ):
            # The short form may have numbers; they are texts when they are sent.
            problems[one.key] = _("This must be a text.")
    own, cards = _blocks(definition)
    for block in (own, *cards):
        for index, button in enumerate(block.buttons):
            key = f"{block.prefix}button.{index}"
            is_code = _button_kind(definition, button) == "code"
            if is_code and key not in values and key not in problems:
                problems[key] = _("Enter a value.")
    return problems


def _value_error(one: Field, value: Any) -> str:
    """Return what is wrong with the value of a field, or ""."""
    if value is None:
        return _("Enter a value.")
    if one.kind in ("text", "code", "url_suffix", "coupon_code"):
        return _plain_error(one.kind, value)
    if one.kind == "expiration":
        is_time = isinstance(value, int) and not isinstance(value, bool) and value > 0
        return "" if is_time else _("Enter a time in milliseconds.")
    if not isinstance(value, Mapping) or not value:
        return _("This must be an object.")
    if one.kind in MEDIA_KINDS:
        # A message has one file here, that of its own header.
        if one.card is not None and "media" in value:
            return _('A card takes a public "link" only.')
        return _media_error(one.kind, value)
    if one.kind == "location":
        return _location_error(value)
    if one.kind == "product":
        named = all(_text(value.get(name)) for name in ("product_retailer_id", "catalog_id"))
        return "" if named else _("Enter the product and its catalog.")
    if one.kind == "products":
        return "" if _mappings(value.get("sections")) else _("Enter the products.")
    return ""


def _plain_error(kind: str, value: Any) -> str:
    if isinstance(value, Mapping):
        return _rich_error(value) if kind == "text" else _("This must be a text.")
    value = _plain(value)
    if error := _text_error(value):
        return error
    longest = {"code": _MAX_CODE, "coupon_code": _MAX_COUPON, "url_suffix": MAX_URL}.get(kind)
    if longest and len(value) > longest:
        return _("At most %(max)d characters.") % {"max": longest}
    if kind == "url_suffix" and re.search(r"\s", value):
        return _("An address contains no spaces.")
    return ""


def _text_error(value: Any, *, breaks: bool = False) -> str:
    """Return what Meta rejects in the value of a variable (§11.5)."""
    if not isinstance(value, str):
        return _("This must be a text.")
    if _INVISIBLE.fullmatch(value):
        return _("Enter a value.")
    if not breaks and re.search(r"[\n\r\t\v\f\x85\u2028\u2029]| {5}", value):
        return _("Line breaks, tabs and more than four spaces in a row are not allowed.")
    return ""


def _rich_error(value: Mapping[str, Any]) -> str:
    """Return what is wrong with an amount or a date (§11.5)."""
    kind = _text(value.get("type")).lower()
    if kind not in ("currency", "date_time"):
        return _("This must be a text.")
    return _text_error(_mapping(value.get(kind)).get("fallback_value"))


def _media_error(kind: str, value: Mapping[str, Any]) -> str:
    sources = [name for name in ("id", "link", "media") if value.get(name) is not None]
    if len(sources) != 1 or not _text(value[sources[0]]):
        return _('Provide a public "link", or "media": the ID of an upload.')
    if sources[0] == "link" and not re.match(r"https?://[^\s/]+", value["link"]):
        return _('"link" is not a web address.')
    allowed = {"id", "link", "media", *(["filename"] if kind == "document" else [])}
    if unknown := sorted(str(name) for name in value if name not in allowed):
        return _("The header has no “%(name)s”.") % {"name": unknown[0]}
    if not isinstance(value.get("filename", ""), str):
        return _("This must be a text.")
    return ""


def _location_error(value: Mapping[str, Any]) -> str:
    for name, most in (("latitude", 90), ("longitude", 180)):
        given = value.get(name)
        try:
            number = float(given) if isinstance(given, str | int | float) else None
        except ValueError:
            number = None
        if number is None or isinstance(given, bool) or not abs(number) <= most:
            return _("“%(name)s” is no number of degrees.") % {"name": name}
    if not all(isinstance(value.get(name, ""), str) for name in ("name", "address")):
        return _("This must be a text.")
    return ""


# -- rendering -----------------------------------------------------------------------------------


def render(definition: Definition, components: Any) -> Rendered:
    """Return the template as the customer sees it. `components` may be incomplete, or None."""
    values, _problems = values_of(definition, components)
    return render_values(definition, values)


def render_values(definition: Definition, values: Values) -> Rendered:
    """Return the template as the customer sees it, from values by the keys of `fields`."""
    own, cards = _blocks(definition)
    rendered = (_render_block(definition, card, values) for card in cards)
    return _render_block(definition, own, values, cards=tuple(rendered))


def _render_block(
    definition: Definition, block: _Block, values: Values, *, cards: tuple[Rendered, ...] = ()
) -> Rendered:
    kind = block.header_kind
    header, media = "", None
    if kind == "text":
        header = _filled(_text(block.header.get("text")), f"{block.prefix}header.", values)
    elif kind:
        given = values.get(f"{block.prefix}header")
        media = given if isinstance(given, Mapping) else None
    buttons = tuple(
        _render_button(definition, block, index, button, values)
        for index, button in enumerate(block.buttons)
    )
    return Rendered(
        header=header,
        header_kind=kind,
        header_media=media,
        body=_filled(block.body_text(definition), f"{block.prefix}body.", values),
        footer=_text(block.footer.get("text")),
        offer=_text(_mapping(block.offer.get("limited_time_offer")).get("text")),
        buttons=buttons,
        cards=cards,
    )


def _render_button(
    definition: Definition, block: _Block, index: int, button: Component, values: Values
) -> Button:
    type_ = _word(button.get("type"))
    given = values.get(f"{block.prefix}button.{index}")
    given = given if isinstance(given, str) else None
    kind, value = type_.lower(), ""
    if _button_kind(definition, button) == "code":
        kind, value = "otp", given or _shown(values.get(f"{block.prefix}body.1"))
    elif type_ == "URL":
        url = _text(button.get("url"))
        # Only a function does not read "\1" in a value as a group.
        value = url if given is None else _VARIABLE.sub(lambda _match: given, url)
    elif type_ == "COPY_CODE":
        value = given or ""
    elif type_ == "PHONE_NUMBER":
        value = _text(button.get("phone_number"))
    text = _text(button.get("text")) or str(_BUTTON_LABELS.get(type_, ""))
    return Button(kind, text, value)


# Buttons of which Meta writes the label itself.
_BUTTON_LABELS: Final[Mapping[str, str | Promise]] = {
    "COPY_CODE": gettext_lazy("Copy code"),
    "OTP": gettext_lazy("Copy code"),
    "REQUEST_CONTACT_INFO": gettext_lazy("Share phone number"),
}


def _filled(text: str, prefix: str, values: Values) -> str:
    def value(match: re.Match[str]) -> str:
        return _shown(values.get(prefix + match[1])) or match[0]

    return _VARIABLE.sub(value, text)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = _mapping(value.get(_text(value.get("type")).lower()))
        return _text(inner.get("fallback_value"))
    value = _plain(value)
    return value if isinstance(value, str) else ""
