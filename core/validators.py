from __future__ import annotations

from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _


def validate_http_address(value: str) -> None:
    """Reject anything but an HTTP server address. Single-label host names are accepted.

    Compose files use them; Django's own validator requires a domain with a dot.
    """
    try:
        parts = urlsplit(value)
        is_port_valid = parts.port is None or parts.port > 0
    except ValueError:
        is_port_valid = False
    if (
        not is_port_valid
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or any(character.isspace() for character in value)
    ):
        raise ValidationError(_("Use the format http://127.0.0.1:3500."))
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValidationError(_("The address must not contain a password, query or fragment."))
