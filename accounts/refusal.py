"""The words of a refusal: which role is missing, and whom to ask for it."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from accounts import people, roles, team

MOST_NAMES = 3


def words(permissions: Iterable[str]) -> str:
    """Return a sentence that names the role that has these permissions, and the administrators."""
    role = roles.lowest_with(permissions)
    if role:
        missing = _("This needs the role “%(role)s” or a higher one.") % {
            "role": roles.LABELS[role]
        }
    else:
        missing = _("This needs rights that no ready-made role has.")
    names = [people.names_of(user)[0] for user in team.administrators()[:MOST_NAMES]]
    asked = ", ".join(names)
    whom = _("Ask %(names)s.") % {"names": asked} if asked else _("Ask an administrator.")
    return f"{missing} {whom}"
