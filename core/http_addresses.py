"""Normalization of server addresses. Pure.

Callbacks, limits and sessions belong to a server, so two spellings of one address must not count
as two servers: `normalize` maps both to the same text.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import idna

_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def normalize(address: str) -> str:
    """Return the normalized form of an HTTP address.

    Lowercases scheme and host, converts the host to ASCII, and removes the scheme's default port,
    trailing and repeated slashes, and `.` and `..` segments. The path's case is preserved. Text
    that is not an HTTP address is only stripped; `validate_http_address` rejects it later.
    Idempotent. Never raises.
    """
    text = address.strip()
    if any(character.isspace() or not character.isprintable() for character in text):
        return text
    try:
        parts = urlsplit(text)
        port = parts.port
        host = _host(parts.hostname or "")
    except (ValueError, UnicodeError):
        return text
    if parts.scheme not in _DEFAULT_PORTS or not host or "\\" in text:
        return text
    user, at, _ = parts.netloc.rpartition("@")
    shown_port = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    query = f"?{parts.query}" if parts.query else ""
    fragment = f"#{parts.fragment}" if parts.fragment else ""
    path = _path(parts.path)
    return f"{parts.scheme}://{user}{at}{host}{shown_port}{path}{query}{fragment}"


def _host(host: str) -> str:
    """Return the host in the form used for DNS. Raises ValueError or UnicodeError."""
    if ":" in host:
        address, percent, zone = host.partition("%")
        return f"[{ipaddress.IPv6Address(address).compressed}{percent}{zone}]"
    if host.isascii():
        # Compose files use single-label names and names with underscores.
        return host.lower()
    return idna.encode(host, uts46=True).decode("ascii").lower()


def _path(path: str) -> str:
    """Return the path normalized as in RFC 3986, section 6.2.2; "" for the root."""
    segments: list[str] = []
    for segment in re.sub(r"%([0-9A-Fa-f]{2})", _escape, path).split("/"):
        if segment == "..":
            del segments[-1:]
        elif segment not in ("", "."):
            segments.append(segment)
    return "".join(f"/{segment}" for segment in segments)


def _escape(match: re.Match[str]) -> str:
    """Return a percent escape in upper case, or the character if it needs no escape."""
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()
