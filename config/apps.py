from __future__ import annotations

from django.apps import AppConfig


class ConfigConfig(AppConfig):
    """Project wiring: system checks, embedded engines, and commands such as `up` and `worker`."""

    name = "config"

    def ready(self) -> None:
        from config import checks  # noqa: F401  (registers the system checks)
