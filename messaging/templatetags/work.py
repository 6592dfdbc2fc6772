"""Notes, labels and the people who work on conversations. No tag makes a query."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

from django import template
from django.utils.html import escape, format_html, urlize
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from accounts.people import names_of
from channels_app.providers import engines
from messaging.models import CallAttempt, Label, Message, Note

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.utils.functional import Promise

register = template.Library()

# The classes .hue-0 to .hue-9 of tokens.css, their colors there, and what they are called.
COLORS: dict[str, tuple[int, str | Promise]] = {
    "#3f7cb5": (0, _("blue")),
    "#b4476b": (1, _("pink")),
    "#9a6412": (2, _("amber")),
    "#5c7a2e": (3, _("green")),
    "#23806f": (4, _("turquoise")),
    "#8a5a3b": (5, _("brown")),
    "#94479a": (6, _("purple")),
    "#6f5cc0": (7, _("violet")),
    "#b0513a": (8, _("red")),
    "#4b6c8c": (9, _("gray")),
}


@register.filter
def first_name(user: User) -> str:
    """Return what colleagues call somebody."""
    return names_of(user)[1]


@register.filter
def whole_name(user: User) -> str:
    return names_of(user)[0]


@register.filter
def is_note(entry: Message | CallAttempt | Note) -> bool:
    """Return whether an entry of the thread is a private note."""
    return isinstance(entry, Note)


@register.filter
def route_name(kind: str) -> str:
    return str(engines.label(kind))


@register.filter
def note_text(note: Note) -> SafeString:
    """Return a note as HTML: lines and links, and the people it mentions by name."""
    people = {user.username.lower(): user for user in note.mentions.all()}
    html = urlize(escape(note.text).replace("\n", "<br>"), nofollow=True)
    if not people:
        return mark_safe(html)  # noqa: S308 (escaped above)
    longest_first = sorted(map(escape, people), key=len, reverse=True)
    names = "|".join(map(re.escape, longest_first))
    # A tag as a whole comes first: an address in it may contain an @ as well.
    mention = re.compile(rf"<[^>]*>|(?<![\w@.])@({names})(?!\w)", re.IGNORECASE)

    def highlighted(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0]
        user = people.get(match[1].lower())
        name = match[1] if user is None else names_of(user)[1]
        return format_html('<span class="mention">@{}</span>', name)

    return mark_safe(mention.sub(highlighted, html))  # noqa: S308 (escaped above)


@register.filter
def label_hue(label: Label) -> str:
    """Return the class that colors a label: the chosen color, else one by its name."""
    chosen = COLORS.get(label.color)
    return f"hue-{zlib.crc32(label.name.lower().encode()) % 10 if chosen is None else chosen[0]}"


@register.simple_tag
def label_colors() -> list[tuple[str, int, str | Promise]]:
    """Return the colors to choose from: value, number of the hue, name."""
    return [(color, hue, name) for color, (hue, name) in COLORS.items()]
