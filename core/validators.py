from __future__ import annotations

from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _


def validate_http_address(value: str) -> None:
    """Refuse what is no address of an HTTP server. Names of one word, as in a compose file, are.

    Django's own check wants a domain with a dot.
    """
    try:
        parts = urlsplit(value)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        port_is_fine = False
    if (
        not port_is_fine
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or any(character.isspace() for character in value)
    ):
        raise ValidationError(_("Write it like http://127.0.0.1:3500."))
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValidationError(_("The address must hold no password, query or fragment."))
