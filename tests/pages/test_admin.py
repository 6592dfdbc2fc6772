"""Django's admin site shows history read-only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib.admin.utils import label_for_field
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation

from messaging.inbound import journal
from messaging.models import Conversation, InboundEvent, Message

pytestmark = pytest.mark.django_db
LISTS = ("contact", "conversation", "message", "deliveryattempt", "inboundevent")
SAME_IN_BOTH = {"fallback", "fallbacks", "id"}


@pytest.fixture
def history(conversation: Conversation, make_message: Callable[..., Message]) -> Message:
    InboundEvent.objects.create(
        source="cloud", source_key="1", dedupe_key="k1", payload={"object": "x"}
    )
    return make_message(conversation, attempts=[{"outcome": "accepted"}])


@pytest.mark.parametrize("model", LISTS)
def test_lists_can_be_opened_and_searched_but_not_changed(
    staff_client: Client, history: Message, model: str
) -> None:
    url = f"/admin/messaging/{model}/"

    assert staff_client.get(url, {"q": "11"}).status_code == 200
    assert staff_client.get(f"{url}add/").status_code == 403
    assert b"delete_selected" not in staff_client.get(url).content


def test_a_message_shows_its_attempts_and_cannot_be_changed(
    staff_client: Client, history: Message
) -> None:
    url = f"/admin/messaging/message/{history.pk}"

    page = staff_client.get(f"{url}/change/")

    assert page.status_code == 200
    assert b"attempts-0" in page.content
    assert b'name="_save"' not in page.content
    assert staff_client.post(f"{url}/change/", {"text": "x"}).status_code == 403
    assert staff_client.post(f"{url}/delete/", {"post": "yes"}).status_code == 403


def test_an_event_is_shown_without_its_token(staff_client: Client) -> None:
    payload = {"event": "call", "apikey": "EAAG-of-the-business", "data": {"id": "C1"}}
    journal.store(source="evolution", source_key="1", dedupe_key="k", payload=payload)
    event = InboundEvent.objects.get()

    page = staff_client.get(f"/admin/messaging/inboundevent/{event.pk}/change/")

    assert page.status_code == 200
    assert b"C1" in page.content
    assert b"EAAG" not in page.content


@pytest.mark.parametrize("page", ["/admin/", "/admin/messaging/message/"])
def test_the_admin_contains_no_inline_code_forbidden_by_the_policy(
    staff_client: Client, history: Message, page: str
) -> None:
    text = staff_client.get(page).content.decode()

    assert " style=" not in text
    assert "<style" not in text
    assert " onclick=" not in text


@pytest.mark.parametrize(
    "path",
    [*(f"messaging/{name}/" for name in LISTS), "messaging/callattempt/",
     "instances/whatsappsession/", "channels_app/channel/"],
)  # fmt: skip
def test_columns_and_filters_have_portuguese_names(
    client_for: Callable[..., Client], staff: User, history: Message, path: str
) -> None:
    page = client_for(staff, "pt-br").get(f"/admin/{path}")

    assert page.status_code == 200
    shown = page.context["cl"]
    columns = [
        label_for_field(name, shown.model, shown.model_admin)
        for name in shown.list_display
        if name != "action_checkbox"
    ]
    for name in (*columns, *(spec.title for spec in shown.filter_specs)):
        with translation.override("en"):
            english = str(name)
        with translation.override("pt-br"):
            assert str(name) != english or english in SAME_IN_BOTH
