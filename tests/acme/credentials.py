"""Acme's credentials. A real engine has a table, one row per connection, with encrypted secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from channels_app.models import Channel


@dataclass(frozen=True)
class AcmeCredentials:
    """`line` is the name of our number at Acme. `key` authenticates us, and Acme to us."""

    url: str = ""
    line: str = "line-1"
    key: str = field(default="acme-secret-key", repr=False)
    timeout: float = 3.0


_ROWS: dict[int | None, AcmeCredentials] = {}


def store(channel: Channel, credentials: AcmeCredentials) -> None:
    _ROWS[channel.pk] = credentials


def credentials_of(channel: Channel) -> AcmeCredentials:
    """Return the credentials of a channel; blank ones if it has none."""
    return _ROWS.get(channel.pk, AcmeCredentials(key=""))
