from __future__ import annotations

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Wiring: the system checks, the engines and the `up`, `worker` commands."""

    name = "config"

    def ready(self) -> None:
        from config import checks  # noqa: F401  (registers the system checks)
