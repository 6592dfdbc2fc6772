from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def the_tests_own_connection_stays_open(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver gives its thread's connection back; here it may hold the test's transaction."""
    marker = request.node.get_closest_marker("django_db")
    if marker and not marker.kwargs.get("transaction"):
        monkeypatch.setattr("messaging.inbound.authentication.close_old_connections", lambda: None)
