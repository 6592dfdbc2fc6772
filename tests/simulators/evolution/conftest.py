"""Fixtures: one simulator and one webhook receiver for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .support import Receiver, Server, receiver, running


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as started:
        yield started


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as started:
        yield started
