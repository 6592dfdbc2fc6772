"""What a message says, in the reader's language (docs/message-kinds.md). Pure.

`KINDS` is the fixed set of kinds. A message that is none of them is UNKNOWN: "a message that only
the phone shows", with whatever words it has. No name of a provider is shown to people.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from channels_app.providers import contents
from core import phone_numbers


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of message: its label ("" for a plain text), and what a received one causes.

    `unread`: a person must read it. `opens_window`: by Meta's rules it opens the 24-hour window.
    """

    name: str
    label: str | Promise
    unread: bool = True
    opens_window: bool = True


_ONLY_ON_THE_PHONE = gettext_lazy("Message that only the phone shows")
_ALL = (
    Kind("text", ""),
    Kind("image", gettext_lazy("Image")),
    Kind("video", gettext_lazy("Video")),
    Kind("round_video", gettext_lazy("Video message")),
    Kind("gif", gettext_lazy("GIF")),
    Kind("audio", gettext_lazy("Audio")),
    Kind("voice", gettext_lazy("Voice message")),
    Kind("document", gettext_lazy("Document")),
    Kind("sticker", gettext_lazy("Sticker")),
    Kind("location", gettext_lazy("Location")),
    Kind("live_location", gettext_lazy("Live location")),
    Kind("contacts", gettext_lazy("Contact")),
    Kind("reaction", gettext_lazy("Reaction"), unread=False, opens_window=False),
    Kind("template", gettext_lazy("Template")),
    Kind("interactive", gettext_lazy("Buttons")),
    Kind("button_reply", gettext_lazy("Button reply")),
    Kind("list_reply", gettext_lazy("List reply")),
    Kind("form_reply", gettext_lazy("Form")),
    Kind("call_permission", gettext_lazy("Permission to call")),
    Kind("poll", gettext_lazy("Poll")),
    Kind("order", gettext_lazy("Customer order")),
    Kind("product", gettext_lazy("Product")),
    Kind("payment", gettext_lazy("Payment")),
    Kind("event", gettext_lazy("Event")),
    Kind("group_invite", gettext_lazy("Group invitation")),
    Kind("call", gettext_lazy("Call")),
    Kind("comment", gettext_lazy("Comment")),
    Kind("question", gettext_lazy("Question")),
    # Its pictures and videos follow as messages of their own.
    Kind("album", gettext_lazy("Album"), unread=False),
    Kind("view_once", gettext_lazy("View-once message")),
    Kind("system", gettext_lazy("Notice from WhatsApp"), unread=False, opens_window=False),
    # Who else has the conversation at Meta, and that it came back.
    Kind("handover", gettext_lazy("Notice from WhatsApp"), unread=False, opens_window=False),
    Kind("escalation", gettext_lazy("Notice from WhatsApp"), opens_window=False),
    Kind("request_welcome", gettext_lazy("The customer opened the chat")),
    Kind("waiting", _ONLY_ON_THE_PHONE),
    Kind("unsupported", _ONLY_ON_THE_PHONE),
    # A change of an earlier message that Meta does not describe.
    Kind("unsupported_change", _ONLY_ON_THE_PHONE, opens_window=False),
    Kind("unknown", _ONLY_ON_THE_PHONE),
)
KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
# The types of received messages that never open the 24-hour window.
OPEN_NO_WINDOW = ("system", "handover", "reaction")
# What Meta calls a change of an earlier message that it does not describe.
CHANGES = ("edit", "revoke", "reaction", "pin", "keep_in_chat", "poll_update")
_REPLIES = {
    "button_reply": "button_reply",
    "list_reply": "list_reply",
    "nfm_reply": "form_reply",
    "call_permission_reply": "call_permission",
}
_BUTTON = "▸"


def kind_of(type_: str, content: Any) -> Kind:
    """Return the kind of a message by its stored type and content."""
    parts: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
    name = type_
    if type_ == "video":
        name = "round_video" if parts.get("round") else "gif" if parts.get("gif") else "video"
    elif type_ in ("audio", "voice"):
        name = "voice" if parts.get("voice") or type_ == "voice" else "audio"
    elif type_ == "location" and parts.get("live"):
        name = "live_location"
    elif type_ == "button":
        name = "button_reply"
    elif type_ == "interactive":
        name = _REPLIES.get(str(parts.get("type")), "interactive")
    elif type_ == "unsupported" and parts.get("message_type") in CHANGES:
        name = "unsupported_change"
    elif type_ == "handover" and parts.get("owner") == "us":
        name = "escalation"
    return KINDS.get(name, KINDS["unknown"])


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a bubble. `url` makes it a link; a `muted` one is less important.

    `mark` stands before it in a bubble: that of an option or a button. `number` is a phone number
    to which a person may want to write.
    """

    text: str
    url: str = ""
    muted: bool = False
    label: str = ""
    mark: str = ""
    number: str = ""


def lines(
    type_: str, text: str, content: Any, *, votes: Sequence[Mapping[str, Any]] = ()
) -> list[Line]:
    """Return what a person reads in a bubble, below its label and its file.

    The caption of a file or a plain text is one line, which keeps its line breaks. `votes` are
    those of a poll, as the message has them.
    """
    parts: Mapping[str, Any] = content if isinstance(content, Mapping) else {}
    if isinstance(content, list):
        parts = {"contacts": content}  # cards that we sent
    kind = kind_of(type_, content)
    if kind.name == "poll":
        return [line for line in _poll(parts, votes) if line.text]
    reader = _READERS.get(kind.name)
    if reader and (found := [line for line in reader(parts, text) if line.text]):
        return found
    words = text or str(parts.get("caption") or parts.get("emoji") or "")
    if not words and kind.name == contents.UNKNOWN:
        words = contents.unknown(parts).text  # an earlier version stored the object only
    return [Line(words)] if words else []


def summary(type_: str, text: str, content: Any, *, filename: str = "") -> str:
    """Return a message in one line: its label and its words."""
    kind = kind_of(type_, content)
    label = str(kind.label)
    words = [f"{line.label}: {line.text}" if line.label else line.text
             for line in lines(type_, text, content)]  # fmt: skip
    text = " · ".join(" ".join(one.split()) for one in words) or filename
    return f"[{label}] {text}".strip() if label else text


# Names that WhatsApp, phones and Alterna give to files: nobody chose them.
_GIVEN = re.compile(
    r"(whatsapp (image|video|audio|ptt|sticker|document) .*"
    r"|(img|vid|aud|ptt|stk|doc)[-_][0-9]{8}[-_].*"
    r"|[a-z_]+-[0-9]{8}-[0-9]{6}\..*"
    r"|[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}.*"
    r"|file\.[a-z0-9]+)",
    re.IGNORECASE,
)


def own_name(filename: str) -> str:
    """Return the name that a person gave a file; "" for one that nobody chose."""
    return "" if _GIVEN.fullmatch(filename) else filename


def _place(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    yield Line(str(parts.get("caption") or ""))
    yield Line(str(parts.get("name") or ""))
    if parts.get("address") != parts.get("name"):
        yield Line(str(parts.get("address") or ""))
    if point := contents.coordinates(parts):
        latitude, longitude = point.split(", ")
        at = f"mlat={latitude}&mlon={longitude}#map=17/{latitude}/{longitude}"
        yield Line(point, url=f"https://www.openstreetmap.org/?{at}")


def _contacts(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    for card in contents.dicts(parts, "contacts"):
        name = contents.text_at(contents.mapping(card, "name"), "formatted_name")
        company = contents.text_at(contents.mapping(card, "org"), "company")
        yield Line(" · ".join(filter(None, [name or contents.text_at(card, "name"), company])))
        for phone in contents.dicts(card, "phones"):
            shown = contents.text_at(phone, "phone", "wa_id")
            yield Line(shown, number=contents.text_at(phone, "wa_id", "phone"))
        for email in contents.dicts(card, "emails"):
            yield Line(contents.text_at(email, "email"))


def _poll(parts: Mapping[str, Any], votes: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    yield Line(str(parts.get("name") or ""))
    # Before polls had votes of their own, a vote was a message.
    chosen = parts.get("chosen")
    yield Line(", ".join(map(str, chosen)) if isinstance(chosen, list) else "", label=_("Vote"))
    if parts.get("many"):
        yield Line(_("Several options can be chosen"), muted=True)
    options = parts.get("options")
    for option in options if isinstance(options, list) else ():
        count = sum(option in vote.get("chosen", ()) for vote in votes)
        voted = ngettext("%(count)d vote", "%(count)d votes", count) % {"count": count}
        yield Line(f"{option} ({voted})" if votes else str(option), mark="•")


def _order(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    yield Line(str(parts.get("text") or ""))
    yield Line(str(parts.get("title") or ""))
    for item in contents.dicts(parts, "items") or contents.dicts(parts, "product_items"):
        yield Line(contents.item_text(item))
    if type(count := parts.get("count")) is int:
        yield Line(ngettext("%(count)d item", "%(count)d items", count) % {"count": count})
    yield Line(str(parts.get("total") or ""), label=_("Total"))


def _product(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    yield Line(str(parts.get("body") or ""))
    yield Line(" · ".join(str(parts[name]) for name in ("title", "price") if parts.get(name)))
    yield Line(str(parts.get("description") or ""), muted=True)
    yield _link(parts.get("url"))


def _payment(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    states = {
        "sent": _("Payment sent"),
        "requested": _("Payment requested"),
        "declined": _("Payment request declined"),
        "canceled": _("Payment request canceled"),
        "invited": _("Invitation to use payments"),
    }
    yield Line(states.get(str(parts.get("state")), ""))
    for name in ("header", "body", "note", "amount"):
        yield Line(str(parts.get(name) or ""))
    pix = contents.mapping(parts, "pix")
    yield Line(contents.text_at(pix, "merchant_name"), label=_("Payee"))
    yield Line(contents.text_at(pix, "key", "code"), label=_("Pix key"))
    kinds = {
        "PHONE": _("Phone number"),
        "EMAIL": _("E-mail"),
        "EVP": _("Random key"),
    }
    kind = contents.text_at(pix, "key_type")
    yield Line(kinds.get(kind, kind), label=_("Kind of key"))
    yield Line(str(parts.get("reference") or ""), label=_("Reference"), muted=True)


def _event(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    if parts.get("canceled"):
        yield Line(_("Canceled"))
    for name in ("name", "description", "place"):
        yield Line(str(parts.get(name) or ""))
    yield _link(parts.get("url"))


def _reply(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    yield Line(text)


def _form(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    reply = contents.mapping(parts, "nfm_reply")
    for label, answer in contents.answers(reply.get("response_json")):
        yield Line(answer, label=label.replace("_", " ").strip())


def _permission(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    reply = contents.mapping(parts, "call_permission_reply")
    accepted = reply.get("response") == "accept"
    yield Line(_("The customer allows calls") if accepted else _("The customer declined calls"))


def _interactive(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    """Yield texts and buttons, of Meta's object for a message to send as well."""
    written = [_words_of(parts.get(name)) for name in ("header", "body", "footer")]
    yield Line(written[0])
    yield Line(written[1])
    yield Line(written[2], muted=True)
    if not any(written):
        yield Line(text)
    for button in contents.dicts(parts, "buttons"):
        url = str(button.get("url") or "")
        target = str(button.get("phone") or button.get("code") or "")
        title = str(button.get("title") or url)
        words = ": ".join(filter(None, [title, target]))
        yield _link(url, title) if url else Line(words, mark=_BUTTON)
    action = contents.mapping(parts, "action")
    for button in contents.dicts(action, "buttons"):
        title = contents.text_at(contents.mapping(button, "reply"), "title")
        yield Line(title, mark=_BUTTON)
    parameters = contents.mapping(action, "parameters")
    yield _link(parameters.get("url"), contents.text_at(parameters, "display_text"))
    for section in contents.dicts(action, "sections"):
        for row in contents.dicts(section, "rows"):
            yield Line(contents.text_at(row, "title"), mark=_BUTTON)


def _words_of(part: Any) -> str:
    return part if isinstance(part, str) else contents.text_at(part, "text")


def _link(url: Any, title: str = "") -> Line:
    """Return a link, or its text alone if a browser should not follow it."""
    address = url if isinstance(url, str) else ""
    safe = address.startswith(("https://", "http://"))
    words = f"{title}: {address}" if title and title != address else address or title
    return Line(words, url=address if safe else "")


def _template(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    if text:
        yield Line(text)
        return
    yield Line(str(parts.get("name") or ""))
    for component in contents.dicts(parts, "components"):
        values = (contents.text_at(one, "text") for one in contents.dicts(component, "parameters"))
        yield Line(" · ".join(filter(None, values)), muted=True)


def _invitation(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    yield Line(str(parts.get("name") or ""))
    yield Line(str(parts.get("caption") or ""))


def _call(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    yield Line(_("Video call") if parts.get("video") else "")
    yield Line(text)


def _album(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    images, videos = (parts.get(name) for name in ("images", "videos"))
    if type(images) is int and images:
        yield Line(ngettext("%(count)d picture", "%(count)d pictures", images) % {"count": images})
    if type(videos) is int and videos:
        yield Line(ngettext("%(count)d video", "%(count)d videos", videos) % {"count": videos})


def _view_once(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    yield Line(_("It can be opened only once, on the phone."))


def _system(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    old, new = (str(parts.get(name) or "") for name in ("old", "new"))
    if str(parts.get("type", "")).endswith(("changed_number", "changed_user_id")):
        yield Line(_("The customer changed their number"))
        yield Line(" → ".join(map(_address, filter(None, [old, new]))))
    elif str(parts.get("type", "")).endswith("identity_changed"):
        yield Line(_("The customer's security code changed"))
    else:
        yield Line(text)


def _address(address: str) -> str:
    return phone_numbers.pretty(f"+{address}") if address.isdigit() else address


def _handover(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    from_agent = parts.get("previous") == "ai_agent"
    passed = (
        _("Meta's agent passed the conversation to you")
        if from_agent
        else _("Another app passed the conversation to you")
    )
    owners = {
        "us": passed,
        "ai_agent": _("Meta's agent has the conversation now"),
        "app": _("Another app has the conversation now"),
    }
    yield Line(owners.get(str(parts.get("owner")), ""))
    yield Line(str(parts.get("summary") or ""))
    yield Line(str(parts.get("note") or ""), muted=True)


def _unknown(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    if parts.get("message_type") == "media_placeholder":
        yield Line(_("A file from the time before the number was connected"), muted=True)


def _waiting(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    yield Line(_("WhatsApp has not delivered it to this device yet."), muted=True)


def _changed(parts: Mapping[str, Any], text: str) -> Iterator[Line]:
    name = parts.get("message_type")
    words = {
        "edit": _("The customer edited a message. Meta does not say how."),
        "revoke": _("The customer deleted a message."),
    }
    yield Line(words.get(str(name), ""))
    yield Line(text)


_READERS = {
    "location": _place,
    "live_location": _place,
    "contacts": _contacts,
    "order": _order,
    "product": _product,
    "payment": _payment,
    "event": _event,
    "button_reply": _reply,
    "list_reply": _reply,
    "form_reply": _form,
    "call_permission": _permission,
    "interactive": _interactive,
    "template": _template,
    "group_invite": _invitation,
    "call": _call,
    "album": _album,
    "view_once": _view_once,
    "system": _system,
    "handover": _handover,
    "escalation": _handover,
    "unknown": _unknown,
    "waiting": _waiting,
    "unsupported_change": _changed,
}
