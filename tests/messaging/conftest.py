"""Fixtures of the messaging tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from channels_app.models import Channel


@pytest.fixture
def baileys(make_channel: Callable[..., Channel]) -> Channel:
    """A Baileys channel whose server is never asked."""
    return make_channel(
        kind="baileys",
        phone_number_id="",
        phone_number="+5511900000002",
        evolution_url="http://127.0.0.1:9",
        evolution_api_key="key",
        instance_name="oficina_demo",
    )
