from __future__ import annotations

from typing import Protocol


class CloudSettings(Protocol):
    """A phone number at Meta and the token that may send from it."""

    graph_url: str
    graph_version: str
    phone_number_id: str
    access_token: str
