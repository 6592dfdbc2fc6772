"""REST: templates, and sends of them from the list to the wire."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from procrastinate.contrib.django.models import ProcrastinateJob

from channels_app import message_templates
from channels_app.models import MessageTemplate
from messaging.models import Contact, Message
from simulators.graph.app import GraphSimulator
from tests.files import PNG
from tests.messaging.support import customer, deliver, envelope, post, read_events, receive, trail

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.contrib.auth.models import User
    from pytest_django.fixtures import DjangoAssertNumQueries
    from rest_framework.test import APIClient

    from channels_app.models import Channel
    from tests.conftest import Provider, Webhooks

pytestmark = pytest.mark.django_db

ACCOUNT = "102290129340398"
ORDER: dict[str, Any] = {
    "name": "pedido",
    "category": "UTILITY",
    "parameter_format": "NAMED",
    "components": [
        {"type": "BODY", "text": "Oi {{nome}}, seu pedido saiu."},
        {
            "type": "BUTTONS",
            "buttons": [{"type": "URL", "text": "Ver", "url": "https://example.com/{{1}}"}],
        },
    ],
}
OFFER: dict[str, Any] = {
    "name": "oferta",
    "category": "MARKETING",
    "components": [{"type": "BODY", "text": "Tudo com desconto."}],
}
SHORT = {
    "name": "pedido", "language": "pt_BR", "parameters": {"nome": "Ana"}, "buttons": {"0": "17"}
}  # fmt: skip
METAS = {
    "name": "pedido",
    "language": {"code": "pt_BR"},
    "components": [
        {"type": "body", "parameters": [
            {"type": "text", "text": "Ana", "parameter_name": "nome"},
        ]},
        {"type": "button", "sub_type": "url", "index": "0", "parameters": [
            {"type": "text", "text": "17"},
        ]},
    ],
}  # fmt: skip
TEXT = "Oi Ana, seu pedido saiu.\n\nVer: https://example.com/17"


@pytest.fixture
def official(wired: Channel, graph: Provider) -> Channel:
    """A channel whose account has two templates, which are not synchronized yet."""
    from tests.factories import change_channel

    change_channel(wired, business_account_id=ACCOUNT)
    ProcrastinateJob.objects.all().delete()
    for row in (ORDER, OFFER):
        simulated(graph).templates.add(ACCOUNT, row)
    return wired


def simulated(graph: Provider) -> GraphSimulator:
    assert isinstance(graph.simulator, GraphSimulator)
    return graph.simulator


@pytest.fixture
def send(api: APIClient, official: Channel) -> Callable[..., Any]:
    def request(template: Any, to: str = customer(), key: str = "") -> Any:
        body = {"channel": official.pk, "to": to, "type": "template", "template": template}
        headers = {"Idempotency-Key": key} if key else {}
        return api.post("/api/messages/", body, format="json", headers=headers)

    return request


@pytest.fixture
def synced(api: APIClient, official: Channel) -> None:
    response = api.post("/api/templates/sync/", {"channel": official.pk}, format="json")
    assert (response.status_code, response.json()["total"]) == (200, 2)


def sync_jobs() -> list[str]:
    jobs = ProcrastinateJob.objects.filter(task_name="channels_app.sync_templates")
    return [job.queueing_lock.split(":")[-1] for job in jobs.order_by("id")]


@pytest.mark.usefixtures("synced")
def test_a_template_is_listed_sent_by_its_short_form_and_stored_as_the_customer_reads_it(
    api: APIClient,
    official: Channel,
    send: Callable[..., Any],
    graph: Provider,
    webhooks: Webhooks,
) -> None:
    query = {"channel": official.pk, "name": "pedido", "status": "approved"}
    (listed,) = api.get("/api/templates/", query).json()["results"]
    assert [one["key"] for one in listed["variables"]] == ["body.nome", "button.0"]
    assert (listed["category"], listed["problem"]) == ("UTILITY", "")

    response = send(SHORT, key="k1")
    assert response.status_code == 202, response.content
    assert (response.json()["template"], response.json()["text"]) == (METAS, TEXT)
    message = Message.objects.get()
    deliver(message)
    assert graph.sends()[-1]["template"] == METAS
    assert trail(message) == [("official", "accepted", "")]
    graph.settle()
    receive(webhooks)
    assert "utility" in message.attempts.get().pricing
    # A language as webhooks write it is sent as Meta takes it.
    hyphen = send({**METAS, "language": {"code": "pt-BR"}})
    assert hyphen.json()["template"] == METAS, hyphen.content
    # What was accepted is answered again, whatever became of the template.
    MessageTemplate.objects.update(status="PAUSED")
    assert send(SHORT, key="k1").headers["Idempotent-Replay"] == "true"


def test_the_file_of_a_header_is_uploaded_to_meta_and_sent_by_its_id(
    api: APIClient,
    official: Channel,
    send: Callable[..., Any],
    graph: Provider,
    settings: Any,
    tmp_path: Path,
) -> None:
    settings.MEDIA_ROOT = tmp_path
    parts = [{"type": "HEADER", "format": "DOCUMENT"}, {"type": "BODY", "text": "Segue a nota."}]
    simulated(graph).templates.add(ACCOUNT, {"name": "nota", "components": parts})
    message_templates.synchronize(official)
    upload = api.post("/api/media/", {"file": SimpleUploadedFile("nota.png", PNG)}).json()
    template = {"name": "nota", "language": "pt_BR", "header": {"media": upload["id"]}}
    for media_id in (str(uuid.uuid4()), "1042"):
        missing = {**template, "header": {"media": media_id}}
        assert set(send(missing).json()) == {"template.header.document"}
    assert send(template).status_code == 202
    message = Message.objects.get()
    deliver(message)
    assert trail(message) == [("official", "accepted", "")]
    sent = graph.sends()[-1]["template"]["components"][0]["parameters"][0]["document"]
    assert (set(sent), sent["filename"]) == ({"id", "filename"}, "nota.png")


@pytest.mark.usefixtures("synced")
def test_what_does_not_fit_the_template_is_refused_before_it_is_stored(
    send: Callable[..., Any], graph: Provider
) -> None:
    for template, field in (
        ({**SHORT, "parameters": {"nome": " "}}, "template.body.nome"),
        ({**SHORT, "parameters": {"name": "Ana"}}, "template.body.name"),
        ({**SHORT, "buttons": {}}, "template.button.0"),
        ({**SHORT, "header": {"media": "x"}}, "template.header"),
        ({**SHORT, "extra": 1}, "template.extra"),
        ({**SHORT, "name": "unknown"}, "template.name"),
        ({**SHORT, "language": 7}, "template.language"),
        ({**METAS, "components": METAS["components"][:1]}, "template.button.0"),
    ):
        response = send(template)
        assert response.status_code == 400, template
        assert field in response.json(), response.json()
    MessageTemplate.objects.filter(name="oferta").update(status="PAUSED")
    response = send({"name": "oferta", "language": {"code": "pt_BR"}})
    assert response.status_code == 400
    assert "paused" in response.json()["template"][0]
    assert not Message.objects.exists()
    assert not graph.sends()
    # A pause ends by itself, and the copy may be outdated: it is read again, once.
    assert sync_jobs() == ["outdated"]


def test_without_a_definition_metas_form_is_passed_on_and_its_error_leads_to_a_synchronization(
    send: Callable[..., Any],
) -> None:
    assert send(SHORT).status_code == 400
    wrong = {**METAS, "components": []}
    response = send(wrong)
    assert (response.status_code, response.json()["text"]) == (202, "")
    assert sync_jobs() == ["outdated"]
    ProcrastinateJob.objects.all().delete()
    message = Message.objects.get()
    deliver(message)
    assert trail(message)[0] == ("official", "rejected", "132000")
    assert sync_jobs() == ["outdated"]


def test_a_known_template_costs_one_query(
    official: Channel, synced: None, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    from messaging.delivery import template_content

    channel = type(official).objects.get(pk=official.pk)
    with django_assert_num_queries(1):
        template_content.prepare(channel, SHORT)


@pytest.mark.usefixtures("synced")
def test_marketing_to_whom_stopped_it_is_not_sent_and_a_utility_template_is(
    official: Channel, send: Callable[..., Any], graph: Provider, wwebjs: Provider
) -> None:
    to = customer(graph="47")
    send({"name": "oferta", "language": "pt_BR"}, to)
    Contact.objects.update(marketing_stopped=True)
    (offer,) = Message.objects.all()
    deliver(offer)
    assert (offer.status, offer.decision, trail(offer)) == ("rejected", "opted_out", [])
    send(SHORT, to)
    order = Message.objects.get(text=TEXT)
    deliver(order)
    assert [route for route, _, _ in trail(order)] == ["official", "wwebjs"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("message_template_status_update", {"event": "APPROVED"}),
        ("message_template_status_update", {"event": "PENDING"}),
        ("message_template_quality_update", {"new_quality_score": "GREEN"}),
        ("message_template_status_update", {"new_quality_score": "RED"}),
        ("message_template_components_update", {"message_template_element": "x"}),
        ("template_category_update", {"new_category": "MARKETING"}),
    ],
)
def test_each_webhook_of_a_template_leads_to_a_synchronization(
    official: Channel, field: str, value: dict[str, Any]
) -> None:
    payload = envelope({"message_template_id": 5, **value}, None, field)
    payload["entry"][0]["id"] = ACCOUNT
    del payload["entry"][0]["changes"][0]["value"]["metadata"]
    post(payload)
    read_events()
    assert sync_jobs() == ["changed"]


def test_templates_are_created_edited_and_deleted_with_the_permission_for_it(
    api: APIClient,
    official: Channel,
    make_user: Callable[..., User],
    client_of: Callable[[User], APIClient],
) -> None:
    components = [{"type": "BODY", "text": "Tudo certo com o seu pedido."}]
    draft = {
        "channel": official.pk, "name": "novo", "language": "pt_BR", "category": "UTILITY",
        "components": components,
    }  # fmt: skip
    viewer = client_of(make_user("bia", "channels_app.view_messagetemplate"))
    assert viewer.get("/api/templates/").status_code == 200
    for method, path in (("post", ""), ("post", "sync/"), ("patch", "1/"), ("delete", "1/")):
        answer = getattr(viewer, method)(f"/api/templates/{path}", draft, format="json")
        assert answer.status_code == 403, path

    wrong = {**draft, "components": [{"type": "BODY", "text": "{{1}} chegou"}]}
    assert set(api.post("/api/templates/", wrong, format="json").json()) == {"body"}
    made = api.post("/api/templates/", draft, format="json")
    assert (made.status_code, made.json()["status"]) == (201, "PENDING")
    path = f"/api/templates/{made.json()['id']}/"
    refused = api.patch(path, {"components": components}, format="json")
    assert set(refused.json()) == {"status"}
    again = api.post("/api/templates/", draft, format="json")
    assert (again.status_code, again.json()["code"]) == (502, "100")
    assert api.post(f"{path}unpause/").status_code == 502
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404
