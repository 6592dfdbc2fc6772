"""The ways out. `base` holds their contract, `provider_for` chooses one."""

from __future__ import annotations

from channels_app.providers.registry import provider_for

__all__ = ["provider_for"]
