"""Download a profile picture from the address that a provider reported."""

from __future__ import annotations

from urllib.parse import urlsplit

from core import http_client

# Providers pass on an address from WhatsApp; we fetch from no other host.
HOSTS = (".whatsapp.net",)
SECONDS = 5.0
MAX_BYTES = 512 * 1024
_KINDS = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
}


def download(url: str, *, hosts: tuple[str, ...] = HOSTS) -> tuple[bytes, str]:
    """Return the picture and its type; both empty if it cannot be had. Raises nothing."""
    content = _fetch(url, hosts)
    kind = next((kind for start, kind in _KINDS.items() if content.startswith(start)), "")
    return (content, kind) if kind else (b"", "")


def _fetch(url: str, hosts: tuple[str, ...]) -> bytes:
    try:
        host = urlsplit(url).hostname or ""
        if not host.endswith(hosts):
            return b""
        answer = http_client.request(
            "GET", url, timeout=SECONDS, max_bytes=MAX_BYTES + 1, public_only=True
        )
    except (http_client.RequestFailed, ValueError):
        return b""
    fits = answer.status == 200 and len(answer.body) <= MAX_BYTES
    return answer.body if fits else b""
