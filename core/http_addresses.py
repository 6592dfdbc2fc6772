"""One spelling for the address of a server. Pure.

Callbacks, limits and sessions belong to a server, so two spellings of one address must not count
as two servers: `normalise` maps both to the same text.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

import idna

_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


def normalise(address: str) -> str:
    """Return the normal spelling of an HTTP address.

    Scheme and host are in lower case, the host is in its ASCII form, the scheme's own port is left
    out, and so are slashes at the end, repeated slashes and `.` and `..` in the path. The path
    keeps its case. What is no HTTP address is returned without the spaces around it, for
    `validate_http_address` to refuse. Applying it again changes nothing. Never raises.
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
    """The host as it is resolved; raises ValueError or UnicodeError for one that cannot be."""
    if ":" in host:
        address, percent, zone = host.partition("%")
        return f"[{ipaddress.IPv6Address(address).compressed}{percent}{zone}]"
    if host.isascii():
        # Names of one word and with underscores are resolved as well: compose files have them.
        return host.lower()
    return idna.encode(host, uts46=True).decode("ascii").lower()


def _path(path: str) -> str:
    """The path without what means nothing (RFC 3986, section 6.2.2), "" for the root."""
    kept: list[str] = []
    for segment in re.sub(r"%([0-9A-Fa-f]{2})", _escape, path).split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return "".join(f"/{segment}" for segment in kept)


def _escape(match: re.Match[str]) -> str:
    """An escape in upper case; none where the character needs none."""
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()
