from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.template.loader import render_to_string
from django.test import Client
from django.utils import translation
from procrastinate.contrib.django.models import ProcrastinateJob
from rest_framework.test import APIClient

from channels_app import tasks
from channels_app.channels import save_channel
from channels_app.connections import connection_tests
from channels_app.incidents import reason_text
from channels_app.models import Channel
from channels_app.providers.base import ConnectionReport
from messaging.live import publisher
from messaging.models import Conversation, Message
from tests.conftest import GRAPH_TOKEN, NUMBER_ID, Provider
from tests.factories import change_channel, update_connection
from tests.pages.html import parse

pytestmark = pytest.mark.django_db
MakeChannel = Callable[..., Channel]

SECRETS = {name: f"s3cret-{name}" for name in Channel.SECRETS}


@pytest.fixture
def baileys(make_channel: MakeChannel) -> Channel:
    return make_channel(
        name="Celular",
        kind="baileys",
        evolution_url="http://127.0.0.1:9",
        evolution_api_key="evo-key",
        instance_name="oficina",
    )


def filled(channel: Channel | None = None, **changes: Any) -> dict[str, Any]:
    """Return what a browser would post for an official channel."""
    return {
        "name": channel.name if channel else "Novo",
        "active": "on",
        "phone_number_id": channel.phone_number_id if channel else "123",
        "graph_url": "https://graph.facebook.com",
        "graph_version": "v25.0",
        "official_retries": "1",
        "request_timeout_seconds": "15",
        "confirm_seconds": "60",
        "on_unconfirmed": "fallback",
        "on_undelivered": "hold",
        "fallback_max_age_minutes": "60",
        "fallback_per_minute": "20",
        "fallback_new_chats_per_day": "100",
        "messages_per_second": "80",
        **({} if channel else {"access_token": "EAAnew"}),
        **changes,
    }


# --- cards --------------------------------------------------------------------------------------


def test_a_card_shows_name_kind_state_and_fallback_and_links_to_the_form(
    staff_client: Client, baileys: Channel, make_channel: MakeChannel
) -> None:
    channel = make_channel(fallback="baileys", fallback_channel=baileys)
    channel.primary.record_health(ok=False, detail="The access token has expired")

    card = parse(staff_client.get("/channels/").content).one(data_channel=str(channel.pk))

    for expected in ("Oficial", "Official (Cloud API)", "Not working", "token has expired",
                     "Fallback: Baileys, through “Celular”", "Last change now"):  # fmt: skip
        assert expected in card.text
    assert card.one("a", title="Edit").attributes["href"] == f"/channels/{channel.pk}/"


@pytest.mark.parametrize(
    ("fallback", "state"), [("none", "not_configured"), ("wwebjs", "disconnected")]
)
def test_the_card_shows_the_state_of_the_wwebjs_session(
    staff_client: Client, make_channel: MakeChannel, fallback: str, state: str
) -> None:
    channel = make_channel(fallback=fallback, wwebjs_url="http://127.0.0.1:9", wwebjs_api_key="k")

    card = parse(staff_client.get("/channels/").content).one(data_channel=str(channel.pk))

    assert card.attributes["data-wwebjs-state"] == state


def test_the_socket_renders_the_same_card_without_a_request(channel: Channel) -> None:
    html = render_to_string("channels_app/_card.html", {"channel": channel, "may_change": True})

    assert parse(html).one("article", data_live=f"channel:{channel.pk}")


def test_an_empty_installation_links_to_the_channel_form(staff_client: Client) -> None:
    for page in ("/", "/channels/"):
        links = parse(staff_client.get(page).content).all("a", href="/channels/new/")
        assert "Create the first channel" in [link.text for link in links]


def test_the_number_of_queries_does_not_depend_on_the_number_of_cards(
    staff_client: Client,
    baileys: Channel,
    make_channel: MakeChannel,
    django_assert_max_num_queries: Any,
) -> None:
    counts = []
    for _ in range(2):
        make_channel(fallback="baileys", fallback_channel=baileys)
        with django_assert_max_num_queries(8) as queries:
            staff_client.get("/channels/")
        counts.append(len(queries))

    assert counts[0] == counts[1]


def test_the_number_of_queries_does_not_depend_on_the_number_of_fallback_channels(
    staff_client: Client, make_channel: MakeChannel, django_assert_max_num_queries: Any
) -> None:
    counts = []
    for n in range(3):
        baileys = make_channel(name=f"Celular {n}", kind="baileys", instance_name=f"celular {n}")
        make_channel(fallback="baileys", fallback_channel=baileys)
        with django_assert_max_num_queries(20) as queries:
            staff_client.get("/")
        counts.append(len(queries))

    assert len(set(counts[1:])) == 1


# --- the form -----------------------------------------------------------------------------------


def test_an_official_channel_is_created(staff_client: Client) -> None:
    answer = staff_client.post("/channels/new/", filled(verify_token=" abre-te "))

    channel = Channel.objects.get()
    assert answer["Location"] == f"/channels/{channel.pk}/"
    assert (channel.kind, channel.name, channel.access_token) == ("official", "Novo", "EAAnew")
    assert channel.verify_token == "abre-te"
    assert channel.fallback == "none"


def test_a_baileys_channel_is_created(staff_client: Client) -> None:
    data = {
        "name": "Celular",
        "active": "on",
        "evolution_url": "http://evolution.example:8080",
        "evolution_api_key": "evo",
        "instance_name": "oficina",
        "request_timeout_seconds": "15",
    }

    staff_client.post("/channels/new/?kind=baileys", data)

    channel = Channel.objects.get()
    assert (channel.kind, channel.instance_name, channel.evolution_api_key) == (
        "baileys", "oficina", "evo",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field", "expected"),
    [
        ({"name": ""}, "name", "This field is required."),
        ({"name": "Outro"}, "name", "Another channel already has this name."),
        ({"phone_number_id": "12x"}, "phone_number_id", "Digits only."),
        ({"phone_number_id": "777"}, "phone_number_id", "Another channel already uses"),
        ({"access_token": ""}, "access_token", "This field is required."),
        ({"graph_url": "not a url"}, "graph_url", "Use the format"),
        ({"graph_version": "25"}, "graph_version", "Use the format v25.0."),
        ({"wwebjs_enabled": "on"}, "wwebjs_url", "This field is required."),
        ({"wwebjs_enabled": "on"}, "wwebjs_api_key", "This field is required."),
        ({"wwebjs_session_id": "a b"}, "wwebjs_session_id", "Only letters, digits, - and _."),
        ({"fallback_channel": "999"}, "fallback_channel", "Select a valid choice"),
        ({"official_retries": "99"}, "official_retries", "less than or equal to 10"),
        ({"confirm_seconds": "x"}, "confirm_seconds", "Enter a whole number."),
        ({"fallback_per_minute": "0"}, "fallback_per_minute", "greater than or equal to 1"),
    ],
)
def test_errors_are_shown_at_their_field(
    staff_client: Client,
    make_channel: MakeChannel,
    change: dict[str, Any],
    field: str,
    expected: str,
) -> None:
    make_channel(name="Outro", phone_number_id="777")

    answer = staff_client.post("/channels/new/", filled(**change))

    assert answer.status_code == 400
    page = parse(answer.content)
    assert expected in page.text
    if field == "phone_number_id" and change[field] == "777":
        return  # a constraint that spans fields is shown above the form
    assert expected in page.error_of(field)
    assert Channel.objects.count() == 1


def test_an_error_in_the_advanced_section_opens_it(staff_client: Client) -> None:
    page = parse(staff_client.post("/channels/new/", filled(official_retries="99")).content)

    assert "open" in page.one("details", class_="fieldset").attributes


def test_the_two_fallbacks_exclude_each_other(staff_client: Client, baileys: Channel) -> None:
    both = filled(
        wwebjs_enabled="on",
        wwebjs_url="http://127.0.0.1:3500",
        wwebjs_api_key="suaapikey",
        fallback_channel=baileys.pk,
    )

    page = parse(staff_client.post("/channels/new/", both).content)

    assert "Choose one of the two" in page.error_of("fallback_channel")
    assert Channel.objects.count() == 1


def test_the_fallback_can_be_saved_shown_and_removed(
    staff_client: Client, channel: Channel, baileys: Channel
) -> None:
    url = f"/channels/{channel.pk}/"
    wwebjs = {
        "wwebjs_enabled": "on",
        "wwebjs_url": "http://127.0.0.1:3500",
        "wwebjs_api_key": "suaapikey",
    }

    staff_client.post(url, filled(channel, **wwebjs))
    channel.refresh_from_db()
    assert (channel.fallback, channel.wwebjs_api_key) == ("wwebjs", "suaapikey")
    assert channel.wwebjs_session_id
    box = parse(staff_client.get(url).content).one("input", name="wwebjs_enabled")
    assert "checked" in box.attributes

    staff_client.post(
        url, filled(channel, wwebjs_url=wwebjs["wwebjs_url"], fallback_channel=baileys.pk)
    )
    channel.refresh_from_db()
    assert (channel.fallback, channel.fallback_channel) == ("baileys", baileys)
    chosen = parse(staff_client.get(url).content).one("select", name="fallback_channel")
    assert [option.text for option in chosen.all("option", selected=None)] == ["Celular"]

    staff_client.post(url, filled(channel))
    channel.refresh_from_db()
    assert (channel.fallback, channel.fallback_channel) == ("none", None)


def test_only_active_baileys_channels_can_be_chosen(
    staff_client: Client, channel: Channel, baileys: Channel, make_channel: MakeChannel
) -> None:
    make_channel(name="Parado", kind="baileys", active=False)

    select = parse(staff_client.get(f"/channels/{channel.pk}/").content).one(
        "select", name="fallback_channel"
    )

    assert [option.text for option in select.all("option")] == ["None", "Celular"]


def test_a_deactivated_fallback_is_reported_and_not_removed(
    staff_client: Client, make_channel: MakeChannel, baileys: Channel
) -> None:
    channel = make_channel(fallback="baileys", fallback_channel=baileys)
    Channel.objects.filter(pk=baileys.pk).update(active=False)

    answer = staff_client.post(
        f"/channels/{channel.pk}/", filled(channel, fallback_channel=baileys.pk)
    )

    page = parse(answer.content)
    assert page.error_of("fallback_channel") == "Choose an active Baileys channel."


def test_the_webhook_address_can_be_copied(
    staff_client: Client, channel: Channel, settings: Any
) -> None:
    settings.PUBLIC_URL = "https://alterna.example"

    page = parse(staff_client.get(f"/channels/{channel.pk}/").content)

    box = page.one("input", id="webhook-url")
    assert box.attributes["value"] == "https://alterna.example/api/webhooks/cloud"
    page.one("button", data_copy="#webhook-url")


def test_the_kind_of_a_channel_cannot_be_changed(staff_client: Client, channel: Channel) -> None:
    staff_client.post(f"/channels/{channel.pk}/?kind=baileys", filled(channel, kind="baileys"))

    channel.refresh_from_db()
    assert channel.kind == "official"


# --- secrets ------------------------------------------------------------------------------------


@pytest.fixture
def full(make_channel: MakeChannel) -> Channel:
    """A channel with every secret."""
    return make_channel(fallback="wwebjs", wwebjs_url="http://127.0.0.1:9", **SECRETS)


@pytest.mark.parametrize(
    "page",
    [
        "/", "/channels/", "/channels/{}/", "/channels/{}/delete/", "/conversations/",
        "/conversations/new/", "/admin/channels_app/channel/",
        "/admin/channels_app/channel/{}/change/", "/admin/channels_app/channel/{}/delete/",
        "/admin/channels_app/channel/{}/history/",
    ],
)  # fmt: skip
def test_no_page_shows_a_secret(staff_client: Client, full: Channel, page: str) -> None:
    answer = staff_client.get(page.format(full.pk))

    assert answer.status_code == 200
    assert b"s3cret" not in answer.content


def test_a_rejected_form_does_not_show_the_entered_secret(
    staff_client: Client, full: Channel
) -> None:
    answer = staff_client.post(
        f"/channels/{full.pk}/", filled(full, name="", access_token="typed-just-now")
    )

    assert answer.status_code == 400
    assert b"typed-just-now" not in answer.content
    assert b"s3cret" not in answer.content


def test_an_empty_secret_is_unchanged_and_a_new_one_replaces_it(
    staff_client: Client, full: Channel
) -> None:
    page = parse(staff_client.get(f"/channels/{full.pk}/").content)
    box = page.one("input", name="access_token")
    assert box.attributes["placeholder"] == "Already saved. Leave empty to keep it"
    assert "value" not in box.attributes

    staff_client.post(f"/channels/{full.pk}/", filled(full, app_secret="changed"))

    full.refresh_from_db()
    assert (full.access_token, full.app_secret) == (SECRETS["access_token"], "changed")
    assert full.evolution_api_key == SECRETS["evolution_api_key"]


def test_an_optional_secret_can_be_cleared_but_a_required_one_cannot(
    staff_client: Client, full: Channel
) -> None:
    clear = {"app_secret-clear": "1", "access_token-clear": "1"}

    staff_client.post(f"/channels/{full.pk}/", filled(full, **clear))

    full.refresh_from_db()
    assert (full.access_token, full.app_secret) == (SECRETS["access_token"], "")


def test_clearing_a_key_that_the_fallback_needs_is_an_error(
    staff_client: Client, full: Channel
) -> None:
    data = filled(
        full, wwebjs_enabled="on", wwebjs_url="http://127.0.0.1:9", **{"wwebjs_api_key-clear": "1"}
    )

    page = parse(staff_client.post(f"/channels/{full.pk}/", data).content)

    assert page.error_of("wwebjs_api_key") == "This field is required."


def test_the_admin_handles_secrets_like_the_page(staff_client: Client, full: Channel) -> None:
    form = (
        staff_client.get(f"/admin/channels_app/channel/{full.pk}/change/").context["adminform"].form
    )
    data = {name: value for name, value in form.initial.items() if value is not None}
    assert not set(SECRETS) & set(data)

    answer = staff_client.post(
        f"/admin/channels_app/channel/{full.pk}/change/",
        {**data, "app_secret": "changed", "calls_api_key-clear": "1", "active": "on"},
    )

    assert answer.status_code == 302
    full.refresh_from_db()
    assert (full.access_token, full.app_secret, full.calls_api_key) == (
        SECRETS["access_token"], "changed", "",
    )  # fmt: skip


def test_the_admin_removes_a_fallback_channel_that_is_no_longer_used(
    staff_client: Client, full: Channel, baileys: Channel
) -> None:
    full.fallback, full.fallback_channel = "baileys", baileys
    full.save()
    url = f"/admin/channels_app/channel/{full.pk}/change/"
    form = staff_client.get(url).context["adminform"].form
    data = {name: value for name, value in form.initial.items() if value is not None}
    assert data["fallbacks"] == [str(baileys.pk)]

    answer = staff_client.post(url, {**data, "fallbacks": "", "active": "on"})

    assert answer.status_code == 302
    assert baileys.fallback_for == []
    staff_client.post(f"/channels/{baileys.pk}/delete/")
    assert not Channel.objects.filter(pk=baileys.pk).exists()


def test_the_admin_does_not_show_secrets_to_read_only_users(
    full: Channel, make_user: Callable[..., User], client_for: Callable[[User], Client]
) -> None:
    staff_client = client_for(make_user("leo", "channels_app.view_channel"))

    answer = staff_client.get(f"/admin/channels_app/channel/{full.pk}/change/", follow=True)

    assert b"s3cret" not in answer.content
    assert answer.status_code == 403


# --- the test of a connection -------------------------------------------------------------------


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    def test_connection(channel: Channel) -> list[tuple[str, ConnectionReport]]:
        channel.primary.record_health(ok=True)
        return [
            ("Official", ConnectionReport(True, "ready_as", "Demo", {"quality_rating": "GREEN"})),
            ("Fallback", ConnectionReport(False, "session_not_found")),
        ]

    monkeypatch.setattr(connection_tests, "test_connection", test_connection)


def test_a_connection_test_shows_each_report(
    staff_client: Client, channel: Channel, found: None
) -> None:
    answer = parse(staff_client.post(f"/channels/{channel.pk}/test/").content)

    assert (
        answer.one(class_="report report-ok").text
        == "Official : Ready to send as Demo Quality high (green)"
    )
    assert "not started" in answer.one(class_="report report-failed").text


def test_a_connection_test_from_a_card_returns_the_updated_card(
    staff_client: Client, channel: Channel, found: None
) -> None:
    answer = staff_client.post(f"/channels/{channel.pk}/test/", {"card": "yes"})

    card = parse(answer.content).one(data_channel=str(channel.pk))
    assert "Connection established" in card.text
    assert "not started" in card.text
    assert int(card.attributes["data-version"]) > 0


def test_the_admin_tests_the_selected_channels(
    staff_client: Client, channel: Channel, found: None
) -> None:
    answer = staff_client.post(
        "/admin/channels_app/channel/",
        {"action": "test_connection", "_selected_action": [channel.pk]},
        follow=True,
    )

    assert "Oficial, Official: Ready to send as Demo" in answer.content.decode()


# --- deleting -----------------------------------------------------------------------------------


def test_a_channel_without_dependents_is_deleted_after_confirmation(
    staff_client: Client, channel: Channel
) -> None:
    url = f"/channels/{channel.pk}/delete/"
    assert parse(staff_client.get(url).content).all("button", class_="button button-danger")
    assert Channel.objects.exists()

    answer = staff_client.post(url, follow=True)

    assert not Channel.objects.exists()
    assert "The channel “Oficial” was deleted." in answer.content.decode()


def test_a_channel_with_conversations_cannot_be_deleted_and_deactivation_is_suggested(
    staff_client: Client, conversation: Conversation, make_message: Callable[..., Message]
) -> None:
    make_message(conversation, attempts=[{"outcome": "accepted"}])
    url = f"/channels/{conversation.channel_id}/delete/"

    for answer in (staff_client.get(url), staff_client.post(url)):
        page = parse(answer.content)
        assert "Conversations: 1" in page.text
        assert "deactivate it" in page.text
        assert not page.all("button", class_="button button-danger")
    assert answer.status_code == 409
    assert Channel.objects.exists()


def test_a_fallback_cannot_be_deleted_and_its_dependents_are_named(
    staff_client: Client, baileys: Channel, make_channel: MakeChannel
) -> None:
    other = make_channel(fallback="baileys", fallback_channel=baileys)

    page = parse(staff_client.post(f"/channels/{baileys.pk}/delete/").content)

    assert page.one("main").one("a", href=f"/channels/{other.pk}/").text == other.name
    assert (
        "Fallback of: Oficial 1" in parse(staff_client.get(f"/channels/{baileys.pk}/").content).text
    )


# --- new credentials ------------------------------------------------------------------------------


def enqueued_tests() -> list[dict[str, Any]]:
    jobs = ProcrastinateJob.objects.filter(task_name="channels_app.try_credentials")
    return [job.args for job in jobs.filter(status="todo")]


def by_page(client: Client, api: APIClient, data: dict[str, Any]) -> int:
    return client.post("/channels/new/", data).status_code


def by_admin(client: Client, api: APIClient, data: dict[str, Any]) -> int:
    more = {"kind": "official"}
    return client.post("/admin/channels_app/channel/add/", {**data, **more}).status_code


def by_rest(client: Client, api: APIClient, data: dict[str, Any]) -> int:
    names = ("name", "phone_number_id", "access_token", "graph_url")
    return api.post("/api/channels/", {name: data[name] for name in names}, "json").status_code


@pytest.mark.parametrize("save", [by_page, by_admin, by_rest])
def test_one_job_tests_new_credentials_and_detects_number_and_coexistence(
    staff_client: Client, api: APIClient, graph: Provider, staff: User, save: Callable[..., int]
) -> None:
    own = {"phone_number_id": NUMBER_ID, "access_token": GRAPH_TOKEN, "graph_url": graph.url}

    assert save(staff_client, api, filled(**own)) in (201, 302)

    channel = Channel.objects.get()
    assert not graph.simulator.requests  # no request is made while the user waits
    assert enqueued_tests() == [{"channel_id": channel.pk}]
    primary = channel.primary
    assert (primary.health, channel.phone_number, primary.coexistence) == ("unknown", "", None)
    change_channel(channel, name="Novo nome", access_token=GRAPH_TOKEN)
    assert len(enqueued_tests()) == 1

    tasks.try_credentials.func(channel.pk)

    channel.refresh_from_db()
    primary = channel.primary
    assert (primary.health, channel.phone_number, primary.coexistence) == (
        "ok", "+5511900000001", True,
    )  # fmt: skip
    assert primary.throughput == 20
    with translation.override("en"):
        detail = reason_text.render_reason(primary.health_detail)
    assert detail.endswith("The channel's phone number was filled in.")
    [asked] = graph.simulator.requests
    assert asked["method"] == "GET"


def test_only_changed_credentials_or_a_missing_number_are_tested_again(
    staff_client: Client, channel: Channel, baileys: Channel
) -> None:
    def save(**changes: Any) -> int:
        with connections["default"].cursor() as cursor:
            cursor.execute("TRUNCATE procrastinate_jobs CASCADE")
        url = f"/channels/{channel.pk}/"
        known = {"phone_number": "+5511900000001", "graph_url": "http://127.0.0.1:9"}
        assert staff_client.post(url, filled(channel, **{**known, **changes})).status_code == 302
        return len(enqueued_tests())

    assert save() == 0
    assert save(name="Outro", official_retries="2") == 0
    assert save(access_token="EAAother") == 1
    assert save() == 0
    assert save(graph_version="v24.0") == 1
    assert save(graph_version="v24.0", phone_number="") == 1
    save_channel(baileys)
    assert len(enqueued_tests()) == 1


def test_an_existing_number_is_not_replaced_and_an_error_fills_in_nothing(
    make_channel: MakeChannel, graph: Provider
) -> None:
    known = make_channel(graph_url=graph.url, phone_number="+551133334444")
    tasks.try_credentials.func(known.pk)
    known.refresh_from_db()
    assert (known.primary.health, known.phone_number) == ("ok", "+551133334444")
    refused = make_channel(graph_url=graph.url, access_token="wrong", phone_number="")
    tasks.try_credentials.func(refused.pk)
    refused.refresh_from_db()
    assert (refused.primary.health, refused.phone_number) == ("failing", "")
    tasks.try_credentials.func(0)  # a deleted channel


def test_open_pages_receive_the_test_result(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[Channel] = []
    monkeypatch.setattr(publisher, "channel_changed", published.append)
    tasks.try_credentials.func(channel.pk)
    assert published == [channel]


def test_the_page_compares_the_number_from_meta_with_that_of_the_fallback(
    staff_client: Client, make_channel: MakeChannel, graph: Provider
) -> None:
    channel = make_channel(
        graph_url=graph.url, phone_number="", fallback="wwebjs", wwebjs_url="http://127.0.0.1:9",
        wwebjs_api_key="k",
    )  # fmt: skip
    update_connection(channel, "wwebjs", state="ready", own_number="5511900000001")
    expected = "Same number as the official channel"
    page = parse(staff_client.get(f"/channels/{channel.pk}/").content)
    assert expected not in page.text
    assert "If empty, it is filled in from Meta" in page.text
    tasks.try_credentials.func(channel.pk)
    assert expected in parse(staff_client.get(f"/channels/{channel.pk}/").content).text
