"""The people who work with the product, for whoever assigns conversations or mentions somebody."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.db.models.functions import Lower

if TYPE_CHECKING:
    from django.contrib.auth.models import User

_MENTION = re.compile(r"(?<![\w@.])@([\w.@+-]+)")


def active_staff() -> QuerySet[User]:
    """Return those who can sign in to the pages, by name."""
    return get_user_model().objects.filter(is_active=True, is_staff=True).order_by("username")


def mentioned_in(text: str) -> list[User]:
    """Return the active staff whose user names follow an @ in the text, in any case."""
    names = set(_candidates(text))
    if not names:
        return []
    people = active_staff().annotate(lower_name=Lower("username"))
    return list(people.filter(lower_name__in=names))


def _candidates(text: str) -> Iterable[str]:
    """Yield what may be a user name: a full stop may belong to it, or end the sentence."""
    for match in _MENTION.findall(text):
        name = match.lower()
        yield name
        while name and name[-1] in ".@+-":
            name = name[:-1]
            yield name


# The classes .hue-0 to .hue-9 of tokens.css.
HUES = 10


def initials_of(user: User) -> str:
    """Return the initials of a person's first and last name."""
    first, *others = names_of(user)[0].split() or [""]
    return (first[:1] + (others[-1][:1] if others else "")).upper()


def hue_of(user: User) -> int:
    """Return the number of the color in which a person is shown."""
    return user.pk * 7 % HUES


def names_of(user: User) -> tuple[str, str]:
    """Return the full and the first name to show; the user name if there is none."""
    return user.get_full_name() or user.username, user.first_name or user.username
