"""Templates of an account: synchronized, created, edited and deleted at the simulated Meta."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import pytest
import requests
from django.core.exceptions import ValidationError
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from channels_app import message_templates
from channels_app.models import MessageTemplate, TemplateSync
from channels_app.providers.base import Rejected, Transient
from simulators.graph.app import GraphSimulator
from tests.factories import change_channel
from tests.files import PNG

if TYPE_CHECKING:
    from collections.abc import Callable

    from channels_app.models import Channel
    from tests.conftest import Provider

pytestmark = pytest.mark.django_db

ACCOUNT = "102290129340398"
BODY = {"type": "BODY", "text": "Oi {{1}}, tudo bem?", "example": {"body_text": [["Ana"]]}}
DRAFT: dict[str, Any] = {
    "name": "aviso",
    "language": "pt_BR",
    "category": "UTILITY",
    "components": [BODY],
}


@pytest.fixture
def channel(make_channel: Callable[..., Channel], graph: Provider) -> Channel:
    return make_channel(graph_url=graph.url, business_account_id=ACCOUNT)


def simulator(graph: Provider) -> GraphSimulator:
    assert isinstance(graph.simulator, GraphSimulator)
    return graph.simulator


def event(graph: Provider, template: MessageTemplate, **change: Any) -> None:
    body = {"id": template.template_id, "silent": True, **change}
    answer = requests.post(f"{graph.url}/_control/template_event", json=body, timeout=5)
    assert answer.ok, answer.text


def sync_jobs() -> list[str]:
    """Return the reasons of the queued synchronizations."""
    jobs = ProcrastinateJob.objects.filter(task_name="channels_app.sync_templates")
    return [job.queueing_lock.split(":")[-1] for job in jobs.order_by("id")]


def test_all_pages_of_the_list_are_stored_and_what_changes_later_too(
    channel: Channel, graph: Provider
) -> None:
    book = simulator(graph).templates
    for number in range(101):
        book.add(ACCOUNT, {"name": f"t{number}", "components": [BODY]})
    book.add("another account", {"name": "foreign"})
    assert message_templates.synchronize(channel).created == 101
    assert message_templates.synchronize(channel).updated == 0
    stored = MessageTemplate.objects.get(name="t7")
    event(graph, stored, event="PAUSED")
    event(graph, MessageTemplate.objects.get(name="t8"), quality="RED")
    event(graph, MessageTemplate.objects.get(name="t9"), category="MARKETING")
    event(graph, MessageTemplate.objects.get(name="t10"), event="SOMETHING_NEW")
    book.delete(ACCOUNT, "t11")
    result = message_templates.synchronize(channel)
    assert (result.total, result.created, result.updated, result.deleted) == (100, 0, 4, 1)
    rows = {row.name: row for row in MessageTemplate.objects.all()}
    assert rows["t7"].definition.unusable
    assert rows["t8"].quality == "RED"
    assert (rows["t9"].category, rows["t10"].status) == ("MARKETING", "SOMETHING_NEW")
    assert rows["t11"].deleted_at is not None
    assert message_templates.find(channel, "t11", "pt_BR") is None
    # The name returns under another id.
    book.add(ACCOUNT, {"name": "t11", "components": [BODY]})
    message_templates.synchronize(channel)
    found = message_templates.find(channel, "t11", "pt_BR")
    assert found is not None
    assert found.template_id != rows["t11"].template_id


def test_a_failed_synchronization_changes_nothing_and_is_repeated_when_that_may_help(
    channel: Channel, graph: Provider
) -> None:
    simulator(graph).templates.add(ACCOUNT, {"name": "t", "components": [BODY]})
    message_templates.synchronize(channel)
    message_templates.enqueue_due()
    assert sync_jobs() == [""], "only that of the new channel"
    ProcrastinateJob.objects.all().delete()
    for change, code, kind, is_due in (
        ({"access_token": "EAAwrong"}, "190", Rejected, False),
        ({"graph_url": "http://127.0.0.1:9"}, "connection_refused", Transient, True),
    ):
        change_channel(channel, **change)
        # New credentials are tried at once.
        assert sync_jobs() == [""]
        ProcrastinateJob.objects.all().delete()
        with pytest.raises(kind):
            message_templates.synchronize(channel)
        message_templates.synchronize_account(ACCOUNT)
        sync = TemplateSync.objects.get()
        assert sync.error_code == code
        assert "EAAwrong" not in sync.error_detail
        TemplateSync.objects.update(tried_at=sync.tried_at - 2 * message_templates.RETRY_AFTER)
        message_templates.enqueue_due()
        assert bool(sync_jobs()) == is_due
        ProcrastinateJob.objects.all().delete()
    assert MessageTemplate.objects.get().deleted_at is None


def test_a_review_is_followed_by_looking_even_if_no_webhook_reports_its_end(
    channel: Channel, graph: Provider
) -> None:
    simulator(graph).templates.add(
        ACCOUNT, {"name": "t", "components": [BODY], "status": "PENDING"}
    )
    message_templates.synchronize(channel)
    minutes = 2 * message_templates.REVIEW_EVERY
    for change, is_due in (
        ({}, True),
        ({"updated_at": timezone.now() - dt.timedelta(days=3)}, False),
        ({"status": "APPROVED", "updated_at": timezone.now()}, False),
    ):
        ProcrastinateJob.objects.all().delete()
        MessageTemplate.objects.update(**change)
        TemplateSync.objects.update(tried_at=timezone.now() - minutes)
        message_templates.enqueue_due()
        assert bool(sync_jobs()) == is_due


def test_an_older_list_does_not_replace_a_newer_one(channel: Channel, graph: Provider) -> None:
    simulator(graph).templates.add(ACCOUNT, {"name": "t", "components": [BODY]})
    message_templates.synchronize(channel)
    sync = TemplateSync.objects.get()
    TemplateSync.objects.update(tried_at=sync.tried_at + message_templates.SYNC_EVERY)
    simulator(graph).templates.delete(ACCOUNT, "t")
    assert message_templates.synchronize(channel).deleted == 0


def test_a_template_is_created_reviewed_edited_and_deleted_at_meta(
    channel: Channel, graph: Provider
) -> None:
    ProcrastinateJob.objects.all().delete()
    with pytest.raises(ValidationError) as invalid:
        message_templates.create(channel, {**DRAFT, "name": "Aviso Novo"})
    assert set(invalid.value.message_dict) == {"name"}
    simulator(graph).settings.review_delay = 0.0
    # Meta chooses the category itself.
    advert = {**BODY, "text": "Oi {{1}}, veja nossa oferta!"}
    template = message_templates.create(channel, {**DRAFT, "components": [advert]})
    assert (template.status, template.category) == ("PENDING", "MARKETING")
    assert sync_jobs() == ["changed"]
    with pytest.raises(Rejected) as known:
        message_templates.create(channel, DRAFT)
    assert known.value.code == "100"
    assert "already content in this language" in known.value.detail
    graph.settle()
    message_templates.synchronize(channel)
    template.refresh_from_db()
    assert template.status == "APPROVED"

    edited = message_templates.edit(template, {"components": [{**BODY, "text": "Oi {{1}}, ok."}]})
    # Until Meta's list says otherwise, sends are checked against the version before.
    assert edited.components == template.components
    assert edited.components[0]["text"] == advert["text"]

    graph.settle()
    message_templates.synchronize(channel)
    template.refresh_from_db()
    assert template.components[0]["text"] == "Oi {{1}}, ok."
    assert simulator(graph).templates.of_account(ACCOUNT)[0].components == template.components
    event(graph, template, event="PAUSED", paced=True)
    message_templates.unpause(template)
    message_templates.delete(template)
    template.refresh_from_db()
    assert template.deleted_at is not None
    assert simulator(graph).templates.of_account(ACCOUNT) == []

    rejected = message_templates.create(channel, {**DRAFT, "name": "to_reject"})
    graph.settle()
    message_templates.synchronize(channel)
    rejected.refresh_from_db()
    assert (rejected.status, rejected.rejected_reason) == ("REJECTED", "INVALID_FORMAT")
    assert "INVALID_FORMAT" in rejected.definition.unusable


def test_the_example_of_a_header_is_uploaded_for_its_handle(
    channel: Channel, graph: Provider
) -> None:
    upload = {"data": PNG, "filename": "foto.png", "mime_type": "image/png"}
    handle = message_templates.upload_example(channel, **upload)
    assert handle.startswith("4::")
    with pytest.raises(Rejected):
        message_templates.upload_example(channel, **{**upload, "mime_type": "text/plain"})


def test_a_time_to_live_is_known_from_the_approval_until_anything_else_changes(
    channel: Channel, graph: Provider
) -> None:
    simulator(graph).settings.review_delay = 0.0
    known: list[int | None] = []

    def look(template: MessageTemplate) -> None:
        message_templates.synchronize(channel)
        template.refresh_from_db()
        known.append(template.ttl_seconds)

    template = message_templates.create(channel, {**DRAFT, "message_send_ttl_seconds": 30})
    known.append(template.ttl_seconds)
    graph.settle()
    look(template)
    event(graph, template, quality="YELLOW")
    look(template)
    assert known == [None, 30, 30]

    # Our own edit: unknown until it is approved.
    simulator(graph).settings.review_delay = 0.5
    text = {**BODY, "text": "Oi {{1}}, ok."}
    draft = {"components": [text], "message_send_ttl_seconds": 60}
    known[:] = [message_templates.edit(template, draft).ttl_seconds]
    assert template.submitted_ttl_seconds == 60
    look(template)
    graph.settle()
    look(template)
    assert known == [None, None, 60]

    for change in ({"category": "MARKETING"}, {"event": "PAUSED"}, {"components": [BODY]}):
        MessageTemplate.objects.update(ttl_seconds=30, submitted_ttl_seconds=None)
        event(graph, template, **change)
        look(template)
        assert known[-1] is None, change
    MessageTemplate.objects.update(ttl_seconds=30)
    message_templates.forget_ttl(ACCOUNT, template.template_id)
    template.refresh_from_db()
    assert template.ttl_seconds is None
    # Meta chose another category, which has other times to live.
    advert = {**DRAFT, "name": "oferta", "components": [{**BODY, "text": "Oi {{1}}, oferta!"}]}
    other = message_templates.create(channel, {**advert, "message_send_ttl_seconds": 30})
    assert (other.ttl_seconds, other.submitted_ttl_seconds) == (None, None)
