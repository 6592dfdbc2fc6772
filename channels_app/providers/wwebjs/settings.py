from __future__ import annotations

from typing import Protocol


class WwebjsSettings(Protocol):
    """A session of a wwebjs-api server, and the server's key."""

    url: str
    api_key: str
    session_id: str
