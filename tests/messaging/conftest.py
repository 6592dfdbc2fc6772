from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def keep_test_connection_open(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep the connection open: a receiver closes it, but it may hold the test's transaction."""
    marker = request.node.get_closest_marker("django_db")
    if marker and not marker.kwargs.get("transaction"):
        monkeypatch.setattr("messaging.inbound.authentication.close_old_connections", lambda: None)
