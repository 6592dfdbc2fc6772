"""The messaging providers. `base` defines their contract; `provider_for` selects one."""

from __future__ import annotations

from channels_app.providers.registry import provider_for

__all__ = ["provider_for"]
