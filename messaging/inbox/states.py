"""The states of a conversation's work: open, snoozed until a time, resolved. Pure."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

OPEN: Final = "open"
SNOOZED: Final = "snoozed"
RESOLVED: Final = "resolved"
STATUSES: Final = (OPEN, SNOOZED, RESOLVED)

# What a new message of the customer changes.
REOPENED: Final[dict[str, Any]] = {"status": OPEN, "snoozed_until": None}


def changed(
    status: str | None, snoozed_until: dt.datetime | None, *, now: dt.datetime
) -> dict[str, Any]:
    """Return the fields for a requested state; a time alone snoozes. Raises ValidationError."""
    if status is None:
        status = OPEN if snoozed_until is None else SNOOZED
    if status not in STATUSES:
        raise ValidationError({"status": _("There is no such status.")})
    if status != SNOOZED:
        if snoozed_until is not None:
            raise ValidationError(
                {"snoozed_until": _("Only a snoozed conversation has such a time.")}
            )
        return {"status": status, "snoozed_until": None}
    if snoozed_until is None:
        raise ValidationError({"snoozed_until": _("Say until when.")})
    if snoozed_until <= now:
        raise ValidationError({"snoozed_until": _("This time has passed.")})
    return {"status": SNOOZED, "snoozed_until": snoozed_until}
