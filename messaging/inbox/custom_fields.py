"""What staff note of a customer, by names of their own, such as “CPF”."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from core.text import is_storable
from messaging.models import Contact

MAX_FIELDS: Final = 50
MAX_NAME: Final = 50
MAX_VALUE: Final = 1_000


def change(contact: Contact, changes: Mapping[str, Any]) -> None:
    """Set the given fields; an empty value removes its field. Raises ValidationError."""
    fields = dict(contact.custom_fields)
    for name, value in changes.items():
        name = " ".join(str(name).split())
        text = str(value or "").strip()
        if not 0 < len(name) <= MAX_NAME or len(text) > MAX_VALUE or not is_storable(name + text):
            raise ValidationError(
                {"custom_fields": _("A name has at most 50 characters, a value 1000.")}
            )
        fields.pop(name, None)
        if text:
            fields[name] = text
    if len(fields) > MAX_FIELDS:
        raise ValidationError({"custom_fields": _("At most 50 fields.")})
    contact.custom_fields = fields
    contact.save(update_fields=["custom_fields"])
