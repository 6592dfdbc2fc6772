"""Fixtures shared by several test packages. Django is imported only when a fixture is used."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from aiohttp import web
from hypothesis import settings

from simulators.base import Simulator, run_in_thread
from simulators.graph import app as graph_simulator
from simulators.wwebjs import app as wwebjs_simulator

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from pytest_django.plugin import DjangoDbBlocker
    from rest_framework.test import APIClient

    from channels_app.models import Channel

# The result must depend only on the code, not on chance or load. Search for new examples on
# demand: `make test ARGS="--hypothesis-profile=search"`.
settings.register_profile("firm", derandomize=True, deadline=None)
settings.register_profile("search", deadline=None, max_examples=5000)
settings.load_profile("firm")


# The files that take longest, which start first, so that all processes end at about the same time.
# Those with a product, which mostly wait, alternate with those that use a CPU all the time.
LONGEST = (
    "product/test_crashes.py", "instances/receive_mode/test_handover.py",
    "product/test_baileys_connection.py", "instances/listener/test_process.py",
    "product/test_inbound_faults.py", "pages/test_scripts.py",
    "product/test_wwebjs_session.py", "pages/test_usable.py",
    "product/test_faults.py", "messaging/delivery/test_runner.py",
    "config/test_up.py", "messaging/test_tasks.py",
    "product/test_bench.py", "messaging/delivery/test_channel_feedback.py",
    "product/test_receive_mode.py", "messaging/test_growth.py",
    "product/test_main_job.py", "product/test_files.py", "product/test_numbers_to_try.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


GRAPH_TOKEN = "EAAtest-token"
APP_SECRET = "test_app_secret"
NUMBER_ID = "106540352242922"
WWEBJS_KEY = "test-wwebjs-key"
WWEBJS_SESSION = "TESTE"

Body = dict[str, Any]


@dataclass
class Provider:
    """A simulator on a real socket."""

    url: str
    simulator: Simulator

    def plays(self, *scenarios: str, forever: bool = False, to: str = "") -> None:
        """Script the outcomes of the next sends, to any recipient or only to `to`."""
        body = {"scenarios": scenarios, "forever": forever, "recipient": to}
        answer = requests.post(f"{self.url}/_control/script", json=body, timeout=5)
        assert answer.ok, answer.text

    def sends(self) -> list[Body]:
        """Return the bodies of the received sends, including rejected ones."""
        return [
            request["body"]
            for request in list(self.simulator.requests)
            if request["method"] == "POST"
            and ("/messages" in request["path"] or "/sendMessage/" in request["path"])
        ]

    def settle(self) -> None:
        """Wait until the simulator has sent every status and webhook."""
        answer = requests.post(f"{self.url}/_control/settle", timeout=15)
        assert answer.json() == {"settled": True}


@dataclass
class Webhooks:
    """Replaces our receiver and stores Meta's requests with their signatures."""

    url: str = ""
    arrived: queue.Queue[tuple[bytes, str]] = field(default_factory=queue.Queue)

    def application(self) -> web.Application:
        async def receive(request: web.Request) -> web.Response:
            self.arrived.put((await request.read(), request.headers["X-Hub-Signature-256"]))
            return web.Response()

        app = web.Application()
        app.router.add_post("/{tail:.*}", receive)
        return app

    def take(self) -> list[tuple[bytes, str]]:
        """Return and remove everything received so far."""
        return [self.arrived.get_nowait() for _ in range(self.arrived.qsize())]


# Tables filled by migrations; all others are emptied after each transactional test.
PRESERVED = ("auth_permission", "django_content_type", "django_migrations")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> None:
    """Empty the tables after a transactional test by DELETE instead of Django's `flush`.

    TRUNCATE makes new files for every table and index, which takes longer than most tests. Django
    would also leave out the queue's tables and create all permissions again.
    """
    from django.db import connection, transaction
    from django.test import TransactionTestCase

    with django_db_blocker.unblock():
        names = sorted(set(connection.introspection.table_names()).difference(PRESERVED))
    # Like TRUNCATE, wait until nobody writes any more. As a replica, the database runs no triggers
    # and checks no foreign keys.
    statements = [
        "SET LOCAL session_replication_role = replica",
        f"LOCK TABLE {', '.join(names)} IN EXCLUSIVE MODE",
        *(f"DELETE FROM {name}" for name in names),
    ]

    def empty_tables(case: TransactionTestCase) -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("; ".join(statements))

    TransactionTestCase._fixture_teardown = empty_tables


@pytest.fixture
def servers() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def webhooks(servers: ExitStack) -> Webhooks:
    webhooks = Webhooks()
    webhooks.url = servers.enter_context(run_in_thread(webhooks.application())).url
    return webhooks


@pytest.fixture
def graph(servers: ExitStack, webhooks: Webhooks) -> Provider:
    """The simulated Graph API. It posts its webhooks to `webhooks`."""
    number = graph_simulator.GraphNumber(NUMBER_ID, token=GRAPH_TOKEN, app_secret=APP_SECRET)
    simulator = graph_simulator.GraphSimulator(
        graph_simulator.GraphSettings(
            numbers={NUMBER_ID: number},
            webhook_url=webhooks.url,
            status_delay=0.0,
            late_failure_delay=0.0,
            slow_seconds=0.1,
        )
    )
    running = servers.enter_context(run_in_thread(simulator.application()))
    return Provider(running.url, simulator)


@pytest.fixture
def wwebjs(servers: ExitStack) -> Provider:
    """A simulated wwebjs-api with one ready session."""
    simulator = wwebjs_simulator.WwebjsSimulator(
        wwebjs_simulator.WwebjsSettings(
            api_key=WWEBJS_KEY,
            ready_sessions=(WWEBJS_SESSION,),
            send_seconds=0.0,
            ack_delay=0.0,
            protocol_timeout=0.2,
            late_delivery_seconds=0.0,
        )
    )
    running = servers.enter_context(run_in_thread(simulator.application()))
    return Provider(running.url, simulator)


@pytest.fixture
def make_channel() -> Callable[..., Channel]:
    """Create official channels with their connections; `changes` are the channel's fields.

    The phones of an instance and an attached session are linked; `linked=False`: not reported yet.
    """
    from channels_app.models import Channel
    from tests.factories import create_channel, link_phones

    def make(*, linked: bool = True, **changes: Any) -> Channel:
        count = Channel.objects.count()
        fields = {
            "name": f"Oficial {count}" if count else "Oficial",
            "phone_number": "+5511900000001",
            "phone_number_id": str(int(NUMBER_ID) + count),
            "access_token": GRAPH_TOKEN,
            "app_secret": APP_SECRET,
            "verify_token": "let-me-in",
            # Nothing listens there: a test that sends must set its simulator's address.
            "graph_url": "http://127.0.0.1:9",
            **changes,
        }
        channel = create_channel(**fields)
        if linked:
            link_phones(channel)
        return channel

    return make


@pytest.fixture
def channel(make_channel: Callable[..., Channel]) -> Channel:
    """An official channel without a fallback and without a reachable provider."""
    return make_channel()


@pytest.fixture
def wired(make_channel: Callable[..., Channel], graph: Provider, wwebjs: Provider) -> Channel:
    """An official channel with a wwebjs fallback, both simulated."""
    return make_channel(
        graph_url=graph.url,
        fallback="wwebjs",
        wwebjs_url=wwebjs.url,
        wwebjs_api_key=WWEBJS_KEY,
        wwebjs_session_id=WWEBJS_SESSION,
        request_timeout_seconds=1,
    )


@pytest.fixture
def plain_static(settings: Any) -> None:
    """Static files under their unhashed names, because `collectstatic` has not run."""
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def make_user() -> Callable[..., User]:
    """Create active staff users with the given permissions ("messaging.view_message")."""
    from django.contrib.auth.models import Permission, User

    def make(username: str, *permissions: str, **changes: Any) -> User:
        # No password: hashing it takes longer than most tests.
        user = User.objects.create_user(username, **{"is_staff": True, **changes})
        for name in permissions:
            app, codename = name.split(".")
            user.user_permissions.add(
                Permission.objects.get(content_type__app_label=app, codename=codename)
            )
        return user

    return make


@pytest.fixture
def staff(make_user: Callable[..., User]) -> User:
    """A staff user with all permissions."""
    return make_user("ana", is_superuser=True)


@pytest.fixture
def client_of() -> Callable[[User], APIClient]:
    """Create REST clients that authenticate with a user's token."""
    from rest_framework.test import APIClient

    from accounts.models import ApiToken

    def make(user: User) -> APIClient:
        _, key = ApiToken.objects.create(user=user)
        client = APIClient()
        client.credentials(HTTP_AUTHORIZATION=f"Token {key}", HTTP_ACCEPT_LANGUAGE="en")
        return client

    return make


@pytest.fixture
def api(staff: User, client_of: Callable[[User], APIClient]) -> APIClient:
    """A REST client with all permissions, in English."""
    return client_of(staff)
