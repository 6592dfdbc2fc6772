"""When a message may be sent and must be delivered, as its sender asks for it. Pure."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

# A message is not scheduled further ahead.
MAX_AHEAD = dt.timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Times:
    """`on_undelivered`: what follows if it is not delivered by `deliver_by`; "": as its channel."""

    send_at: dt.datetime | None = None
    deliver_by: dt.datetime | None = None
    on_undelivered: str = ""

    def validate(self, *, now: dt.datetime) -> None:
        """Raise ValidationError, keyed by field, unless all are times that can still be kept."""
        errors: dict[str, Any] = {}
        if self.send_at is not None:
            if self.send_at <= now:
                errors["send_at"] = _("This time has passed.")
            elif self.send_at > now + MAX_AHEAD:
                errors["send_at"] = _("At most one year ahead.")
        if self.deliver_by is not None:
            if self.deliver_by <= now:
                errors["deliver_by"] = _("This time has passed.")
            elif self.send_at is not None and self.deliver_by <= self.send_at:
                errors["deliver_by"] = _("It must be after the time at which it is sent.")
        elif self.on_undelivered:
            errors["on_undelivered"] = _("Only with a time by which it must be delivered.")
        if errors:
            raise ValidationError(errors)

    def as_fields(self) -> dict[str, Any]:
        """Return the values of the message's fields."""
        return {
            "send_at": self.send_at,
            "deliver_by": self.deliver_by,
            "on_undelivered": self.on_undelivered,
            "deadline_check_at": self.deliver_by,
        }

    def as_request(self) -> dict[str, str]:
        """Return what identifies the request; nothing for a message without times."""
        given = {"send_at": self.send_at, "deliver_by": self.deliver_by}
        times = {name: at.astimezone(dt.UTC).isoformat() for name, at in given.items() if at}
        return times | ({"on_undelivered": self.on_undelivered} if self.on_undelivered else {})


NO_TIMES = Times()
