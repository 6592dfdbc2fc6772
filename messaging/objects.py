"""What the object of each message type must look like. Pure.

`errors` checks an object before it is stored and names each wrong field by its path, as in
`interactive.action.buttons[1].reply.title`. The shapes and limits are Meta's
(docs/providers/cloud.md §1.3); fields that no provider would use are errors, too, because a
misspelled name loses its value in silence. Kinds that are not described there go to Meta as they
are: only what is certain is refused.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.providers import header_media
from channels_app.providers.cloud.templates import MAX_URL
from core.text import is_blank, is_storable, storable

Text = str | Promise

MAX_CAPTION: Final = 1024
MAX_FILENAME: Final = 150
MAX_CARDS: Final = 257
_MAX_ANY: Final = 1000
_MAX_BODY: Final = 1024
_MAX_FOOTER: Final = 60

CAPTIONED: Final = ("image", "video", "document")
_HEADER_FILES: Final = header_media.KINDS
_check_url = URLValidator(schemes=["http", "https"])


def errors(type_: str, content: Any) -> dict[str, Text]:
    """Return the errors of the object named after a type, by the path of their field."""
    found: dict[str, Text] = {}
    _CHECKS[type_](_At(type_, content, found))
    if not found and not is_storable(content):
        found[type_] = _("The object contains a value that cannot be sent.")
    return found


def is_upload_id(value: Any) -> bool:
    """Whether this can be the ID of an upload."""
    try:
        return isinstance(value, str) and bool(uuid.UUID(value))
    except ValueError:
        return False


class _At:
    """A value inside an object, its path, and where its errors go."""

    def __init__(self, path: str, value: Any, found: dict[str, Text]) -> None:
        self.path, self.value, self._found = path, value, found

    @property
    def is_missing(self) -> bool:
        return self.value is None

    def fail(self, text: Text) -> None:
        self._found.setdefault(self.path, text)

    def child(self, name: str) -> _At:
        value = self.value.get(name) if isinstance(self.value, Mapping) else None
        return _At(f"{self.path}.{name}", value, self._found)

    def fields(self, required: str = "", optional: str = "", *, text: Text | None = None) -> bool:
        """Require an object with these fields and no others. Returns whether it is an object."""
        if not isinstance(self.value, Mapping):
            self.fail(text or (_("This field is required.") if self.is_missing else _OBJECT))
            return False
        for name in required.split():
            if self.child(name).is_missing:
                self.child(name).fail(_("This field is required."))
        for name in self.value.keys() - {*required.split(), *optional.split()}:
            self.child(storable(str(name))[:100]).fail(_("Unknown field."))
        return True

    def items(self, *, least: int = 1, most: int) -> list[_At]:
        """Require a list of so many items, and return them."""
        if not isinstance(self.value, list):
            self.fail(_("This field is required.") if self.is_missing else _("Give a list."))
            return []
        if not least <= len(self.value) <= most:
            self.fail(_("Give %(least)d to %(most)d items.") % {"least": least, "most": most})
        return [
            _At(f"{self.path}[{index}]", item, self._found)
            for index, item in enumerate(self.value[:most])
        ]

    def text(self, most: int, *, required: bool = True, blank: bool = False) -> str:
        """Require a text of at most so many characters that shows something."""
        if self.is_missing:
            if required:
                self.fail(_("This field is required."))
            return ""
        if not isinstance(self.value, str):
            self.fail(_("Give a text."))
            return ""
        if not blank and is_blank(self.value):
            self.fail(_("Enter a text."))
        elif len(self.value) > most:
            self.fail(
                _("The text has %(length)d characters; the limit is %(max)d.")
                % {"length": len(self.value), "max": most}
            )
        elif not is_storable(self.value):
            self.fail(_("The text contains a character that cannot be sent."))
        return self.value

    def texts(self, names: str, most: int = _MAX_ANY) -> None:
        """Require that these fields, where they are given, are texts."""
        for name in names.split():
            self.child(name).text(most, required=False, blank=True)

    def url(self) -> None:
        if not isinstance(self.value, str) or len(self.value) > MAX_URL:
            self.fail(_("This is not a web address."))
            return
        try:
            _check_url(self.value)
        except ValidationError:
            self.fail(_("This is not a web address."))

    def boolean(self) -> None:
        if not self.is_missing and not isinstance(self.value, bool):
            self.fail(_("Give true or false."))

    def one_of(self, values: Collection[str]) -> str:
        if isinstance(self.value, str) and self.value in values:
            return self.value
        self.fail(_("Give one of: %(values)s.") % {"values": ", ".join(sorted(values))})
        return ""

    def coordinate(self, limit: int) -> None:
        number = self.value
        is_number = isinstance(number, int | float) and not isinstance(number, bool)
        if not is_number or not abs(number) <= limit:
            self.fail(_("Give a number from -%(max)d to %(max)d.") % {"max": limit})


_OBJECT: Final = _("Give an object.")


# -- files -----------------------------------------------------------------------------------------


def _media(at: _At) -> None:
    kind = at.path
    fields = "link media caption filename provider" + (" voice" if kind == "audio" else "")
    source = _('Provide an object with a public "link", or with "media": the ID of an upload.')
    if not at.fields("", fields, text=source):
        return
    _file(at, source)
    caption = at.child("caption")
    if caption.text(MAX_CAPTION, required=False, blank=True) and kind not in CAPTIONED:
        caption.fail(_("A message of this type cannot have a caption."))
    at.child("filename").text(MAX_FILENAME, required=False, blank=True)
    at.child("voice").boolean()
    at.texts("provider")


def _file(at: _At, text: Text, *names: str) -> None:
    """Require one of `link`, `media` and the other names."""
    link, media = at.child("link"), at.child("media")
    given = [name for name in ("link", "media", *names) if not at.child(name).is_missing]
    if len(given) != 1:
        at.fail(text)
    elif not media.is_missing and not is_upload_id(media.value):
        media.fail(_("This is not the ID of an upload."))
    elif not link.is_missing:
        link.url()


def _header_file(at: _At, kind: str) -> None:
    """Check the file of a header, which may also be an upload at Meta."""
    text = _('Provide a public "link", "media": the ID of an upload, or "id": an upload at Meta.')
    named = " filename" if kind == "document" else ""
    if at.fields("", f"link media id{named}", text=text):
        _file(at, text, "id")
        at.child("id").text(_MAX_ANY, required=False)
        at.child("filename").text(MAX_FILENAME, required=False, blank=True)


# -- location, contacts, reaction ------------------------------------------------------------------


def _location(at: _At) -> None:
    if at.fields("latitude longitude", "name address url"):
        at.child("latitude").coordinate(90)
        at.child("longitude").coordinate(180)
        at.texts("name address url")


def _contacts(at: _At) -> None:
    for card in at.items(most=MAX_CARDS):
        if not card.fields("name", "phones emails urls addresses org birthday ims"):
            continue
        _name(card.child("name"))
        _entries(card.child("phones"), "phone wa_id type")
        _entries(card.child("emails"), "email type")
        _entries(card.child("urls"), "url type")
        _entries(card.child("ims"), "service user_id")
        _entries(card.child("addresses"), "street city state zip country country_code type")
        if not card.child("org").is_missing:
            card.child("org").fields("", "company department title")
            card.child("org").texts("company department title")
        card.texts("birthday")


def _name(at: _At) -> None:
    parts = "first_name last_name middle_name suffix prefix"
    # A mere text was always taken; the official API gets it as the formatted name.
    if isinstance(at.value, str):
        at.text(_MAX_ANY)
    elif not at.is_missing and at.fields("formatted_name", parts):
        at.child("formatted_name").text(_MAX_ANY)
        at.texts(parts)


def _entries(at: _At, fields: str) -> None:
    if not at.is_missing:
        for entry in at.items(least=0, most=MAX_CARDS):
            if entry.fields("", fields):
                entry.texts(fields)


def _reaction(at: _At) -> None:
    if not at.fields("emoji", "message message_id"):
        return
    emoji = at.child("emoji")
    value = emoji.text(_MAX_EMOJI, blank=True)
    if value and (is_blank(value) or any(sign.isspace() or _is_letter(sign) for sign in value)):
        emoji.fail(_("Give one emoji, or an empty text to remove the reaction."))
    target = [at.child(name) for name in ("message", "message_id") if name in at.value]
    if len(target) != 1 or not isinstance(target[0].value, str) or not target[0].value:
        at.fail(
            _(
                'Name the message that this refers to: "message" with the ID of a message '
                'here, or "message_id" with the provider\'s ID.'
            )
        )


# Families and flags have several characters.
_MAX_EMOJI: Final = 35


def _is_letter(sign: str) -> bool:
    return sign.isalpha() and sign not in "ℹⓂ"


# -- templates -------------------------------------------------------------------------------------


def _template(at: _At) -> None:
    if not at.fields("name language", "components namespace"):
        return
    at.child("name").text(512)
    language = at.child("language")
    if not language.is_missing and language.fields("code", "policy"):
        language.child("code").text(20)
        language.texts("policy")
    components = at.child("components")
    for component in [] if components.is_missing else components.items(least=0, most=20):
        _component(component)


def _component(at: _At) -> None:
    """Check what is certain without the template's definition: no parameter may be empty."""
    if not at.fields("type", "sub_type index parameters cards"):
        return
    at.child("type").text(40)
    cards = at.child("cards")
    for card in [] if cards.is_missing else cards.items(most=10):
        if card.fields("components", "card_index"):
            for component in card.child("components").items(least=0, most=20):
                _component(component)
    parameters = at.child("parameters")
    # The variable part of an address may be as long as an address.
    is_button = str(at.child("type").value).lower() == "button"
    for parameter in [] if parameters.is_missing else parameters.items(least=0, most=100):
        _parameter(parameter, most=MAX_URL if is_button else _MAX_BODY)


def _parameter(at: _At, *, most: int) -> None:
    if not isinstance(at.value, Mapping):
        at.fail(_OBJECT)
        return
    kind = at.child("type").text(40)
    if kind in ("text", "payload", "coupon_code"):
        # Meta refuses an empty value.
        at.child(kind).text(most)
    elif kind in _HEADER_FILES:
        _header_file(at.child(kind), kind)


# -- interactive -----------------------------------------------------------------------------------


def _interactive(at: _At) -> None:
    if not isinstance(at.value, Mapping):
        at.fail(_("The object does not have the structure that the Cloud API expects."))
        return
    kind = at.child("type").text(_MAX_ANY)
    if kind in _FORMER_KINDS:
        at.child("type").one_of(_INTERACTIVE)
    elif kind in _INTERACTIVE:
        _INTERACTIVE[kind](at)


def _frame(
    at: _At,
    *,
    most: int = _MAX_BODY,
    header: tuple[str, ...] = ("text", *_HEADER_FILES),
    needs: str = "body action",
    footer: bool = True,
) -> None:
    """Check header, body and footer."""
    required = f"type {needs}"
    extras = ("header" if header else "", "footer" if footer else "", "body")
    optional = " ".join(name for name in extras if name and name not in required.split())
    at.fields(required, optional)
    if header and not at.child("header").is_missing:
        _header(at.child("header"), header)
    for name, limit in (("body", most), ("footer", _MAX_FOOTER)):
        part = at.child(name)
        if not part.is_missing and part.fields("text", "type"):
            # An empty footer is left out.
            part.child("text").text(limit, blank=name == "footer")


def _header(at: _At, kinds: tuple[str, ...]) -> None:
    if not isinstance(at.value, Mapping):
        at.fail(_OBJECT)
        return
    kind = at.child("type").one_of(kinds)
    if not kind:
        return
    at.fields(f"type {kind}", "sub_text")
    if kind == "text":
        at.child("text").text(60)
    elif not at.child(kind).is_missing:
        _header_file(at.child(kind), kind)


def _button(at: _At) -> None:
    _frame(at)
    action = at.child("action")
    if action.is_missing or not action.fields("buttons"):
        return
    _replies(action.child("buttons").items(most=3), "reply", id_most=256)


def _replies(buttons: list[_At], key: str, *, id_most: int) -> None:
    titles: set[str] = set()
    ids: set[str] = set()
    for button in buttons:
        if not button.fields(f"type {key}"):
            continue
        button.child("type").one_of((key,))
        reply = button.child(key)
        if reply.is_missing or not reply.fields("id title"):
            continue
        _unique(reply.child("id"), ids, most=id_most)
        _unique(reply.child("title"), titles, most=20)


def _unique(at: _At, seen: set[str], *, most: int) -> None:
    value = at.text(most)
    if value and value in seen:
        at.fail(_("This value is used twice."))
    seen.add(value)


def _list(at: _At) -> None:
    _frame(at, most=4096, header=("text",))
    action = at.child("action")
    if action.is_missing or not action.fields("button sections"):
        return
    action.child("button").text(20)
    sections = action.child("sections").items(most=10)
    ids: set[str] = set()
    rows = 0
    for section in sections:
        if not section.fields("rows" if len(sections) < 2 else "title rows", "title"):
            continue
        section.child("title").text(24, required=False, blank=len(sections) < 2)
        for row in section.child("rows").items(most=10):
            rows += 1
            if row.fields("id title", "description"):
                _unique(row.child("id"), ids, most=200)
                row.child("title").text(24)
                row.child("description").text(72, required=False, blank=True)
    if rows > 10:
        action.child("sections").fail(_("A list has at most 10 rows in all its sections."))


def _cta_url(at: _At) -> None:
    _frame(at)
    _url_action(at.child("action"))


def _url_action(at: _At) -> None:
    if not at.is_missing and at.fields("name parameters"):
        at.child("name").one_of(("cta_url",))
        parameters = at.child("parameters")
        if not parameters.is_missing and parameters.fields("display_text url"):
            parameters.child("display_text").text(20)
            if not parameters.child("url").is_missing:
                parameters.child("url").url()


def _named(name: str, **frame: Any) -> Callable[[_At], None]:
    """Return the check of a message whose action has only a name."""

    def check(at: _At) -> None:
        _frame(at, **frame)
        action = at.child("action")
        if not action.is_missing and action.fields("name", "parameters"):
            action.child("name").one_of((name,))

    return check


def _flow(at: _At) -> None:
    _frame(at)
    action = at.child("action")
    if action.is_missing or not action.fields("name parameters"):
        return
    action.child("name").one_of(("flow",))
    parameters = action.child("parameters")
    optional = "flow_message_version flow_id flow_name mode flow_token flow_action"
    if parameters.is_missing or not parameters.fields(
        "flow_cta", f"{optional} flow_action_payload"
    ):
        return
    # Its length is a piece of advice only.
    parameters.child("flow_cta").text(_MAX_ANY)
    named = [name for name in ("flow_id", "flow_name") if not parameters.child(name).is_missing]
    if len(named) != 1:
        parameters.fail(_('Name the Flow by "flow_id" or by "flow_name".'))
    parameters.texts("flow_id flow_name flow_token")
    if not parameters.child("mode").is_missing:
        parameters.child("mode").one_of(("draft", "published"))
    if not parameters.child("flow_action").is_missing:
        parameters.child("flow_action").one_of(("navigate", "data_exchange"))


def _carousel(at: _At) -> None:
    _frame(at, header=(), footer=False)
    action = at.child("action")
    if action.is_missing or not action.fields("cards"):
        return
    kinds: set[str] = set()
    for card in action.child("cards").items(least=2, most=10):
        if not card.fields("action", "card_index type header body"):
            continue
        body, header = card.child("body"), card.child("header")
        if not body.is_missing and body.fields("text", "type"):
            body.child("text").text(160)
        if not header.is_missing:
            _header(header, ("image", "video"))
            for kind in ("image", "video"):
                if not (file := header.child(kind).child("media")).is_missing:
                    # A message has one file here, that of its own header.
                    file.fail(_('A card takes a public "link" only.'))
        if not card.child("action").is_missing:
            kinds.add(_card_action(card.child("action")))
    if len(kinds) > 1:
        action.child("cards").fail(_("The cards must all be of the same kind."))


def _card_action(at: _At) -> str:
    """Check the action of a card; return of which kind it is."""
    given = at.value if isinstance(at.value, Mapping) else {}
    if "buttons" in given:
        if at.fields("buttons"):
            _replies(at.child("buttons").items(most=3), "quick_reply", id_most=20)
        return "buttons"
    if given.keys() & {"product_retailer_id", "catalog_id"}:
        if at.fields("product_retailer_id catalog_id"):
            at.texts("product_retailer_id catalog_id")
        return "product"
    _url_action(at)
    return "url"


def _product_list(at: _At) -> None:
    _frame(at, needs="header body action", header=("text",))
    action = at.child("action")
    if action.is_missing or not isinstance(action.value, Mapping):
        action.fields("catalog_id sections")
        return
    products = 0
    for section in action.child("sections").items(least=0, most=10):
        items = section.child("product_items").value
        products += len(items) if isinstance(items, list) else 0
    if products > 30:
        action.child("sections").fail(_("Give at most 30 products in all sections."))


def _other(needs: str, **frame: Any) -> Callable[[_At], None]:
    """Return the check of a message whose action only has to be an object."""

    def check(at: _At) -> None:
        _frame(at, needs=needs, **frame)
        action = at.child("action")
        if not action.is_missing and not isinstance(action.value, Mapping):
            action.fail(_OBJECT)

    return check


_INTERACTIVE: Final[dict[str, Callable[[_At], None]]] = {
    "button": _button,
    "list": _list,
    "cta_url": _cta_url,
    "flow": _flow,
    "carousel": _carousel,
    "location_request_message": _named("send_location", header=(), footer=False),
    "request_contact_info": _named("request_contact_info", header=(), footer=False),
    "call_permission_request": _named("call_permission_request", needs="action"),
    "voice_call": _named("voice_call"),
    "address_message": _named("address_message"),
    "catalog_message": _named("catalog_message"),
    "product": _other("action", header=()),
    "product_list": _product_list,
}
# Meta refuses the name that request_contact_info had before.
_FORMER_KINDS: Final = ("contact_request",)

_CHECKS: Final[dict[str, Callable[[_At], None]]] = {
    **dict.fromkeys(("image", "video", "audio", "document", "sticker"), _media),
    "location": _location,
    "contacts": _contacts,
    "reaction": _reaction,
    "template": _template,
    "interactive": _interactive,
}
