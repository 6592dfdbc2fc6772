"""Each engine in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from channels_app.providers import engines
from tests.acme.engine import ACME
from tests.channels_app.providers.conformance.acme import AcmeAdapter
from tests.channels_app.providers.conformance.adapter import Adapter
from tests.channels_app.providers.conformance.cloud import CloudAdapter
from tests.channels_app.providers.conformance.evolution import EvolutionAdapter
from tests.channels_app.providers.conformance.wwebjs import WwebjsAdapter

ADAPTERS: tuple[type[Adapter], ...] = (CloudAdapter, WwebjsAdapter, EvolutionAdapter, AcmeAdapter)


def _name(adapter: Any) -> str:
    return str(adapter.engine.name)


@pytest.fixture(autouse=True)
def acme(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the test engine, as the three real ones are registered."""
    monkeypatch.setitem(engines.ENGINES, ACME.name, ACME)


@pytest.fixture(params=ADAPTERS, ids=_name)
def adapter(request: pytest.FixtureRequest) -> Iterator[Adapter]:
    with ExitStack() as stack:
        yield request.param(stack)
