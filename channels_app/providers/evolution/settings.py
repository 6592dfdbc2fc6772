from __future__ import annotations

from typing import Protocol


class EvolutionSettings(Protocol):
    """An instance of an Evolution server, and a key that may use it."""

    url: str
    api_key: str
    instance_name: str
