"""The OpenAPI schema: unchanged, correct, and viewable without internet access."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
import yaml
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.utils import timezone
from drf_spectacular.validation import validate_schema
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import checks

from accounts.models import ApiToken, Team
from channels_app.models import MessageTemplate
from instances.models import WhatsAppSession
from messaging.media import files
from messaging.models import QuickReply
from simulators.base import run_in_thread
from simulators.evolution.app import InstanceSpec, create_app
from tests.files import PNG
from tests.messaging.support import accept
from tests.simulators.evolution.support import KEY, quick_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.contrib.auth.models import User
    from rest_framework.test import APIClient

    from channels_app.models import Channel

pytestmark = pytest.mark.django_db

SNAPSHOT = Path(__file__).parent / "openapi.yaml"
REGENERATE = "manage.py spectacular --lang en --file tests/api/openapi.yaml"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("schema") / "openapi.yaml"
    call_command("spectacular", lang="en", file=str(file))
    return file.read_text()


@pytest.fixture(scope="module")
def schema(generated: str) -> Any:
    return yaml.safe_load(generated)


def test_the_schema_changes_only_on_purpose(generated: str) -> None:
    assert generated == SNAPSHOT.read_text(), f"If it should have changed: {REGENERATE}"


def test_the_schema_is_openapi_3_1(schema: Any) -> None:
    assert schema["openapi"].startswith("3.1.")
    validate_schema(schema)  # type: ignore[no-untyped-call]


def test_every_operation_documents_its_errors(schema: Any) -> None:
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            statuses = set(operation["responses"])
            assert {"401", "403", "503"} <= statuses, (method, path)
            assert ("404" in statuses) >= ("{" in path), (method, path)
            assert ("400" in statuses) >= ("requestBody" in operation), (method, path)


def test_secrets_are_write_only(schema: Any) -> None:
    responses = schema["components"]["schemas"]["Channel"]["properties"]
    requests = schema["components"]["schemas"]["ChannelRequest"]["properties"]
    for name in ("access_token", "app_secret", "verify_token", "wwebjs_api_key"):
        assert name not in responses
        assert responses[f"{name}_set"]["type"] == "boolean"
        assert name in requests
        assert f"{name}_set" not in requests


def test_the_schema_requires_staff(
    api: APIClient, make_user: Callable[..., User], client_of: Callable[..., APIClient]
) -> None:
    assert api.get("/api/schema/").status_code == 200
    assert client_of(make_user("bia")).get("/api/schema/").status_code == 200
    other = client_of(make_user("caio", is_staff=False))
    assert other.get("/api/schema/").status_code == 403
    api.credentials()
    assert api.get("/api/schema/").status_code == 401


@pytest.mark.usefixtures("plain_static")
def test_the_docs_page_redirects_anonymous_visitors_to_the_login(api: APIClient) -> None:
    api.credentials()
    response = api.get("/api/docs/")
    assert (response.status_code, response["Location"]) == (302, "/accounts/login/?next=/api/docs/")


@pytest.mark.usefixtures("plain_static")
def test_the_docs_page_needs_no_internet_and_no_inline_scripts(api: APIClient) -> None:
    for path in ("/api/docs/", "/api/docs/?script"):
        response = api.get(path)
        assert response.status_code == 200
        page = response.content.decode()
        assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page)
        assert "cdn" not in page.lower()
        assert not re.findall(r"<script(?![^>]*\bsrc=)", page)


# -- the schema against the product ----------------------------------------------------------------


described = schemathesis.openapi.from_path(SNAPSHOT)
OPERATIONS = [
    (path, method)
    for path, operations in yaml.safe_load(SNAPSHOT.read_text())["paths"].items()
    for method in operations
]
INSTANCE = "oficina_e9f2ed4d"


@pytest.fixture(scope="module")
def application() -> None:
    """Let schemathesis call the product."""
    described.app = get_wsgi_application()


@pytest.fixture
def one_connection() -> Iterator[None]:
    """Let requests run in the test's own transaction."""
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@pytest.fixture(scope="module")
def evolution() -> Iterator[str]:
    """The URL of a simulated Evolution API with one instance."""
    specs = (InstanceSpec(INSTANCE),)
    with run_in_thread(create_app(quick_settings(instances=specs))) as running:
        yield running.url


@pytest.fixture
def existing_ids(
    wired: Channel,
    make_channel: Callable[..., Channel],
    evolution: str,
    staff: User,
    settings: Any,
    tmp_path: Path,
) -> dict[str, Any]:
    """Ids of existing objects, by path parameter name, or by route if that name is `id`."""
    settings.MEDIA_ROOT = tmp_path
    baileys = make_channel(
        name="Oficina",
        kind="baileys",
        phone_number_id="",
        evolution_url=evolution,
        evolution_api_key=KEY,
        instance_name=INSTANCE,
    )
    message = accept(wired)
    picture = SimpleUploadedFile("a.png", PNG)
    now = timezone.now()
    template = MessageTemplate.objects.create(
        business_account_id="1", template_id="1", name="a", language="pt_BR",
        components=[{"type": "BODY", "text": "{{1}}"}], synced_at=now, updated_at=now,
    )  # fmt: skip
    return {
        "channels": wired.pk,
        "messages": str(message.pk),
        "conversations": message.conversation_id,
        "contacts": message.conversation.contact_id,
        "templates": template.pk,
        "media": str(files.store_upload(picture, user=staff).pk),
        "quick-replies": QuickReply.objects.create(shortcut="oi", text="Oi {name}").pk,
        "teams": Team.objects.create(name="Vendas").pk,
        "instance_name": INSTANCE,
        "session_id": WhatsAppSession.objects.get(channel=baileys).pk,
    }


def test_every_route_of_the_api_contract_is_documented() -> None:
    """The REST routes of the API contract, which is not part of `docs/`."""
    paths = {re.sub(r"\{\w+\}", "{}", path) for path, _ in OPERATIONS}
    assert paths >= {
        "/api/channels/",
        "/api/channels/{}/",
        "/api/channels/{}/wwebjs/",
        "/api/channels/{}/wwebjs/connect/",
        "/api/channels/{}/wwebjs/disconnect/",
        "/api/channels/{}/wwebjs/qr/",
        "/api/messages/",
        "/api/messages/{}/",
        "/api/messages/{}/retry/",
        "/api/media/",
        "/api/conversations/",
        "/api/conversations/{}/",
        "/api/conversations/{}/notes/",
        "/api/quick-replies/",
        "/api/contacts/{}/",
        "/api/templates/",
        "/api/templates/sync/",
        "/api/instances/",
        "/api/instance-management/connection-state/{}/",
        "/api/instance-management/enable-webhook/{}/",
        "/api/instance-management/enable-websocket/{}/",
        "/api/webhook-management/configure/{}/",
    }


# A simulator's thread uses the `random` module meanwhile; no strategy does.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.usefixtures("application", "one_connection")
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_responses_conform_to_the_schema(
    staff: User, wired: Channel, existing_ids: dict[str, Any], path: str, method: str
) -> None:
    _, key = ApiToken.objects.create(user=staff)

    @given(case=described[path][method].as_strategy(), use_existing=st.booleans())
    @settings(
        max_examples=5,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any, use_existing: bool) -> None:
        # Generated ids and numbers match nothing: let some refer to existing objects.
        if use_existing and case.path_parameters:
            [name] = case.path_parameters
            case.path_parameters[name] = existing_ids[path.split("/")[2] if name == "id" else name]
        if use_existing and isinstance(case.body, dict) and "to" in case.body:
            case.body |= {"channel": wired.pk, "to": "+5511988887777"}
        calls_provider = re.search("instance|webhook|wwebjs|templates", path)
        case.call_and_validate(
            headers={"Authorization": f"Token {key}"}, checks=RELAYED if calls_provider else CHECKS
        )

    check()


# Routes that call a provider may return its failure as a documented 5xx response.
RELAYED = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
CHECKS = [checks.not_a_server_error, *RELAYED]
