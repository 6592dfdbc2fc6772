from __future__ import annotations

from typing import Protocol


class CloudSettings(Protocol):
    """A phone number at Meta, its account, and the token that may use both."""

    graph_url: str
    graph_version: str
    phone_number_id: str
    business_account_id: str
    access_token: str
