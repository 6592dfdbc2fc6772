from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from simulators.base import run_in_thread
from simulators.evolution.app import SIMULATOR, InstanceSpec, create_app
from tests.instances.support import (
    KEY,
    NAME,
    OTHER,
    Evolution,
    listening,
    switch,
    wait_until,
)
from tests.simulators.evolution.support import quick_settings

if TYPE_CHECKING:
    from rest_framework.test import APIClient

    from channels_app.models import Channel
    from instances.models import WhatsAppSession


@pytest.fixture(autouse=True)
def _database(settings: Any, transactional_db: None, plain_static: None) -> None:
    """Make test data visible to threads and processes; render cards without a manifest."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(scope="session")
def web() -> Iterator[str]:
    """The product's ASGI application on a real port."""
    from config import asgi
    from config.asgi import application

    # The first request is a sign of a gap; only test_backfill.py tests it.
    asgi._started.append(True)
    config = uvicorn.Config(
        application, host="127.0.0.1", port=0, log_level="warning", lifespan="off"
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="web")
    thread.start()
    wait_until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def evolution_settings() -> dict[str, Any]:
    """Changes to the simulator's settings; test modules can override it."""
    return {}


@pytest.fixture
def evolution(evolution_settings: dict[str, Any]) -> Iterator[Evolution]:
    specs = (InstanceSpec(NAME), InstanceSpec(OTHER, number="5511900000778"))
    app = create_app(quick_settings(instances=specs, **evolution_settings))
    with run_in_thread(app) as running:
        yield Evolution(running.url, app[SIMULATOR])


@pytest.fixture
def channel(evolution: Evolution, web: str, settings: Any, tmp_path: Any) -> Channel:
    from tests.factories import create_channel

    settings.PUBLIC_URL = web
    settings.MEDIA_ROOT = tmp_path
    return create_channel(
        name="Oficina",
        kind="baileys",
        evolution_url=evolution.url,
        evolution_api_key=KEY,
        instance_name=NAME,
    )


@pytest.fixture
def session(channel: Channel) -> WhatsAppSession:
    """The channel's session, without a mode."""
    from instances.models import WhatsAppSession

    return WhatsAppSession.objects.select_related("channel").get(channel=channel)


@pytest.fixture
def by_webhook(session: WhatsAppSession, api: APIClient) -> WhatsAppSession:
    """A session in webhook mode."""
    answer = api.post(f"/api/webhook-management/configure/{session.pk}", {}, format="json")
    assert answer.status_code == 200, answer.data
    session.refresh_from_db()
    return session


@pytest.fixture
def listener(session: WhatsAppSession) -> Iterator[Any]:
    """A running listener."""
    with listening() as [started]:
        yield started


@pytest.fixture
def by_websocket(
    session: WhatsAppSession, listener: Any, api: APIClient, evolution: Evolution
) -> WhatsAppSession:
    """A session in WebSocket mode, joined."""
    evolution.open_namespace()
    answer = switch(api, "websocket")
    assert answer.status_code == 200, answer.data
    session.refresh_from_db()
    return session


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A switch is pending if the socket does not open within 0.3 seconds."""
    from instances.receive_mode import handover

    monkeypatch.setattr(handover, "JOIN_PATIENCE", 0.3)
