"""REST: channels, whose secrets are write-only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection

from channels_app.models import Channel
from messaging import contacts
from messaging.models import Conversation

if TYPE_CHECKING:
    from collections.abc import Callable

    from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

URL = "/api/channels/"
OFFICIAL = {
    "name": "Oficial",
    "kind": "official",
    "phone_number": "+5511900000001",
    "phone_number_id": "106540352242922",
    "business_account_id": "102290129340398",
    "access_token": "SECRET-access",
    "app_secret": "SECRET-app",
    "verify_token": "SECRET-verify",
}
WWEBJS = {
    "fallback": "wwebjs",
    "wwebjs_url": "http://127.0.0.1:3500",
    "wwebjs_api_key": "SECRET-wwebjs",
}
BAILEYS = {
    "name": "Oficina",
    "kind": "baileys",
    "evolution_url": "http://127.0.0.1:8080",
    "evolution_api_key": "SECRET-evolution",
    "instance_name": "oficina_e9f2ed4d",
    "calls_api_key": "SECRET-calls",
}


def create(api: APIClient, fields: dict[str, Any], **changes: Any) -> Any:
    return api.post(URL, {**fields, **changes}, format="json")


def test_a_channel_is_created_with_the_documented_defaults(api: APIClient) -> None:
    response = create(api, OFFICIAL)
    assert response.status_code == 201
    body = response.json()
    assert body["id"] == Channel.objects.get().pk
    assert {
        name: body[name]
        for name in body
        if name not in ("id", "created_at", "updated_at") and not name.startswith("wwebjs_")
    } == {
        "name": "Oficial",
        "kind": "official",
        "phone_number": "+5511900000001",
        "active": True,
        "graph_url": "https://graph.facebook.com",
        "graph_version": "v25.0",
        "phone_number_id": "106540352242922",
        "business_account_id": "102290129340398",
        "access_token_set": True,
        "app_secret_set": True,
        "verify_token_set": True,
        "fallback": "none",
        "fallback_channel": None,
        "fallbacks": [],
        "ignore_messages_sent_outside": True,
        "ignore_groups": False,
        "official_retries": 1,
        "request_timeout_seconds": 15,
        "confirm_seconds": 60,
        "on_unconfirmed": "fallback",
        "on_undelivered": "hold",
        "fallback_max_age_minutes": 60,
        "fallback_per_minute": 20,
        "fallback_new_chats_per_day": 100,
        "fallback_despite_limits": False,
        "messages_per_second": 80,
        "fallback_for": [],
        "coexistence": None,
        "evolution_url": "",
        "evolution_api_key_set": False,
        "instance_name": "",
        "calls_api_key_set": False,
        "health": "unknown",
        "health_detail": "",
        "health_changed_at": None,
        "breaker_opened_at": None,
        "breaker_code": "",
        "new_chats_stopped_until": None,
        "new_chats_lifted_at": None,
        "new_chats_lifted_by": None,
        "team": None,
        "assignee": None,
        "greeting": "",
        "away_message": "",
        "opening_hours": {},
        "time_zone": "",
    }
    assert body["wwebjs_api_key_set"] is False


def test_a_channel_with_wwebjs_gets_a_session_name(api: APIClient) -> None:
    body = create(api, {**OFFICIAL, **WWEBJS}).json()
    assert body["wwebjs_session_id"] == "alterna-106540352242922"
    assert body["wwebjs_api_key_set"] is True


def test_a_baileys_channel_can_be_the_fallback(api: APIClient) -> None:
    baileys = create(api, BAILEYS).json()
    response = create(api, OFFICIAL, fallback="baileys", fallback_channel=baileys["id"])
    assert response.status_code == 201
    assert response.json()["fallback_channel"] == baileys["id"]


def test_secrets_are_in_no_response(api: APIClient) -> None:
    baileys = create(api, BAILEYS).json()["id"]
    official = create(api, {**OFFICIAL, **WWEBJS})
    path = f"{URL}{official.json()['id']}/"
    channel = Channel.objects.get(pk=official.json()["id"])
    conversation = contacts.conversation_with(channel, phone_number="+5511988887777")
    message = api.post(
        "/api/messages/",
        {"channel": channel.pk, "to": "+5511988887777", "text": "x"},
        format="json",
    ).json()
    responses = [
        official,
        api.get(URL),
        api.get(path),
        api.patch(path, {"access_token": "SECRET-new"}, format="json"),
        api.patch(path, {"access_token": "SECRET " * 2, "graph_version": "x"}, format="json"),
        api.options(path),
        create(api, OFFICIAL),
        api.get("/api/messages/"),
        api.get(f"/api/messages/{message['id']}/"),
        api.get("/api/conversations/"),
        api.get(f"/api/conversations/{conversation.pk}/"),
        api.delete(f"{URL}{baileys}/"),
    ]
    for response in responses:
        assert "SECRET" not in response.content.decode(), response.content
        assert "SECRET" not in json.dumps(dict(response.headers))


def test_secrets_are_encrypted_at_rest(api: APIClient) -> None:
    create(api, {**OFFICIAL, **WWEBJS})
    create(api, BAILEYS)
    with connection.cursor() as cursor:
        for table in ("channel", "cloudcredentials", "wwebjscredentials", "evolutioncredentials"):
            cursor.execute(f"SELECT row_to_json(c)::text FROM channels_app_{table} c")
            rows = cursor.fetchall()
            assert rows
            assert "SECRET" not in str(rows)
    channel = Channel.objects.get(kind="official")
    assert channel.access_token == "SECRET-access"
    assert "SECRET" not in repr(channel) + str(channel)


def test_a_patch_changes_only_the_given_field(api: APIClient) -> None:
    id_ = create(api, OFFICIAL).json()["id"]
    before = api.get(f"{URL}{id_}/").json()

    response = api.patch(f"{URL}{id_}/", {"name": "Novo"}, format="json")

    assert response.status_code == 200
    changed = {name for name in before if response.json()[name] != before[name]}
    assert changed == {"name", "updated_at"}
    channel = Channel.objects.get()
    assert (channel.access_token, channel.app_secret) == ("SECRET-access", "SECRET-app")


def test_a_secret_can_be_replaced_and_removed(api: APIClient) -> None:
    path = f"{URL}{create(api, OFFICIAL).json()['id']}/"
    assert api.patch(path, {"access_token": "new"}, format="json").json()["access_token_set"]
    response = api.patch(path, {"app_secret": ""}, format="json")
    assert response.json()["app_secret_set"] is False
    channel = Channel.objects.get()
    assert (channel.access_token, channel.app_secret) == ("new", "")


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"name": ""}, {"name"}),
        ({"name": None}, {"name"}),
        ({"name": "x" * 101}, {"name"}),
        ({"name": "a\x00"}, {"name"}),
        ({"kind": "pigeon"}, {"kind"}),
        ({"access_token": ""}, {"access_token"}),
        ({"phone_number_id": ""}, {"phone_number_id"}),
        ({"phone_number_id": "abc"}, {"phone_number_id"}),
        ({"business_account_id": "abc"}, {"business_account_id"}),
        ({"graph_url": ""}, {"graph_url"}),
        ({"graph_url": "nowhere"}, {"graph_url"}),
        ({"graph_version": "25"}, {"graph_version"}),
        ({"fallback": "pigeon"}, {"fallback"}),
        ({"fallback": "wwebjs"}, {"wwebjs_url", "wwebjs_api_key"}),
        ({"fallback": "baileys"}, {"fallback_channel"}),
        ({"fallback": "baileys", "fallback_channel": 10**9}, {"fallback_channel"}),
        ({"wwebjs_session_id": "a b"}, {"wwebjs_session_id"}),
        ({"official_retries": -1}, {"official_retries"}),
        ({"official_retries": 11}, {"official_retries"}),
        ({"official_retries": "x"}, {"official_retries"}),
        ({"request_timeout_seconds": 0}, {"request_timeout_seconds"}),
        ({"request_timeout_seconds": 121}, {"request_timeout_seconds"}),
        ({"confirm_seconds": 3601}, {"confirm_seconds"}),
        ({"on_unconfirmed": "guess"}, {"on_unconfirmed"}),
        ({"on_undelivered": "guess"}, {"on_undelivered"}),
        ({"fallback_max_age_minutes": 0}, {"fallback_max_age_minutes"}),
        ({"fallback_per_minute": 0}, {"fallback_per_minute"}),
        ({"fallback_per_minute": 10**12}, {"fallback_per_minute"}),
        ({"active": "perhaps"}, {"active"}),
    ],
)
def test_an_invalid_value_is_400_with_its_field(
    api: APIClient, change: dict[str, Any], fields: set[str]
) -> None:
    response = create(api, OFFICIAL, **change)
    assert response.status_code == 400, response.content
    assert set(response.json()) == fields
    assert not Channel.objects.exists()


@pytest.mark.parametrize("missing", ["evolution_url", "evolution_api_key", "instance_name"])
def test_a_baileys_channel_needs_its_instance(api: APIClient, missing: str) -> None:
    response = create(api, {**BAILEYS, missing: ""})
    assert (response.status_code, list(response.json())) == (400, [missing])


def test_a_change_must_leave_the_channel_valid(api: APIClient) -> None:
    path = f"{URL}{create(api, OFFICIAL).json()['id']}/"
    for change, fields in (
        ({"access_token": ""}, {"access_token"}),
        ({"fallback": "wwebjs"}, {"wwebjs_url", "wwebjs_api_key"}),
        ({"kind": "baileys"}, {"evolution_url", "evolution_api_key", "instance_name"}),
    ):
        response = api.patch(path, change, format="json")
        assert (response.status_code, set(response.json())) == (400, fields)
    assert Channel.objects.get().access_token == "SECRET-access"


def test_a_fallback_must_be_an_active_baileys_channel(api: APIClient) -> None:
    other = create(api, OFFICIAL, name="Outro", phone_number_id="2").json()["id"]
    response = create(api, OFFICIAL, fallback="baileys", fallback_channel=other)
    assert (response.status_code, list(response.json())) == (400, ["fallback_channel"])
    inactive = create(api, BAILEYS, active=False).json()["id"]
    response = create(api, OFFICIAL, fallback="baileys", fallback_channel=inactive)
    assert (response.status_code, list(response.json())) == (400, ["fallback_channel"])


def test_uniqueness_errors_have_drfs_format(api: APIClient) -> None:
    create(api, OFFICIAL)
    response = create(api, OFFICIAL)
    assert response.status_code == 400
    assert "name" in response.json()
    response = create(api, OFFICIAL, name="Outro")
    assert response.status_code == 400
    assert list(response.json()) == ["non_field_errors"]
    create(api, BAILEYS)
    response = create(api, BAILEYS, name="Outra")
    assert (response.status_code, list(response.json())) == (400, ["non_field_errors"])
    response = create(api, BAILEYS, name="X", instance_name="x", fallback="wwebjs", **{
        "wwebjs_url": "http://127.0.0.1:3500", "wwebjs_api_key": "k",
    })  # fmt: skip
    assert (response.status_code, list(response.json())) == (400, ["non_field_errors"])


def test_a_channel_in_use_cannot_be_deleted(api: APIClient) -> None:
    id_ = create(api, OFFICIAL).json()["id"]
    contacts.conversation_with(Channel.objects.get(), phone_number="+5511988887777")
    response = api.delete(f"{URL}{id_}/")
    assert (response.status_code, response.json()["code"]) == (409, "in_use")
    assert response.json()["detail"]
    Conversation.objects.all().delete()
    assert api.delete(f"{URL}{id_}/").status_code == 204
    assert not Channel.objects.exists()


def test_a_fallback_of_another_channel_cannot_be_deleted(api: APIClient) -> None:
    baileys = create(api, BAILEYS).json()["id"]
    create(api, OFFICIAL, fallback="baileys", fallback_channel=baileys)
    response = api.delete(f"{URL}{baileys}/")
    assert (response.status_code, response.json()["code"]) == (409, "in_use")
    assert OFFICIAL["name"] in response.json()["detail"]


@pytest.mark.parametrize(
    ("query", "names"),
    [("", ["Oficial", "Oficina"]), ("kind=baileys", ["Oficina"]), ("active=true", ["Oficial"])],
)
def test_channels_are_listed(api: APIClient, query: str, names: list[str]) -> None:
    create(api, OFFICIAL)
    create(api, BAILEYS, active=False)
    response = api.get(f"{URL}?{query}")
    assert [channel["name"] for channel in response.json()] == names


def test_the_number_of_queries_does_not_depend_on_the_length_of_the_list(
    api: APIClient,
    make_channel: Callable[..., Channel],
    django_assert_max_num_queries: Callable[..., Any],
    django_assert_num_queries: Callable[..., Any],
) -> None:
    make_channel()
    api.get(URL)  # stores that the key is in use, once a minute
    with django_assert_max_num_queries(5) as few:
        api.get(URL)
    for _ in range(5):
        make_channel()
    with django_assert_num_queries(len(few)):
        api.get(URL)


@pytest.mark.parametrize("id_", ["0", "x", "99999999999999999999", "%00"])
def test_an_unknown_channel_is_404(api: APIClient, id_: str) -> None:
    for method in ("get", "patch", "delete"):
        response = getattr(api, method)(f"{URL}{id_}/", {}, format="json")
        assert (response.status_code, response.json()["code"]) == (404, "not_found")


def test_a_channel_can_be_changed_by_patch_only(api: APIClient) -> None:
    id_ = create(api, OFFICIAL).json()["id"]
    for response in (
        api.put(f"{URL}{id_}/", OFFICIAL, format="json"),
        api.post(f"{URL}{id_}/", OFFICIAL, format="json"),
        api.patch(URL, {}, format="json"),
        api.delete(URL),
    ):
        assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


def test_read_only_fields_cannot_be_written(api: APIClient) -> None:
    body = create(api, OFFICIAL, health="ok", id=99, access_token_set=False).json()
    assert (body["health"], body["access_token_set"]) == ("unknown", True)
    assert body["id"] != 99


def test_a_deactivated_channel_still_lists_its_dependents(api: APIClient) -> None:
    other = create(api, BAILEYS).json()["id"]
    shop = create(api, OFFICIAL, fallback="baileys", fallback_channel=other).json()

    response = api.patch(f"{URL}{other}/", {"active": False}, format="json")

    assert response.status_code == 200
    assert response.json()["active"] is False
    assert response.json()["fallback_for"] == [{"id": shop["id"], "name": shop["name"]}]
    assert shop["fallback_for"] == []
    listed = {channel["id"]: channel["fallback_for"] for channel in api.get(URL).json()}
    assert [dependent["id"] for dependent in listed[other]] == [shop["id"]]


@pytest.mark.parametrize("fallback", ["none", "wwebjs"])
def test_a_channel_has_no_dependents_once_another_fallback_is_chosen(
    api: APIClient, fallback: str
) -> None:
    other = create(api, BAILEYS).json()["id"]
    shop = create(
        api, OFFICIAL, fallback="baileys", fallback_channel=other,
        wwebjs_url="http://127.0.0.1:9", wwebjs_api_key="k",
    ).json()["id"]  # fmt: skip
    rejected = api.delete(f"{URL}{other}/")
    assert (rejected.status_code, rejected.json()["code"]) == (409, "in_use")

    changed = api.patch(f"{URL}{shop}/", {"fallback": fallback}, format="json")

    assert (changed.status_code, changed.json()["fallback_channel"]) == (200, None)
    assert api.get(f"{URL}{other}/").json()["fallback_for"] == []
    again = api.patch(f"{URL}{shop}/", {"fallback_channel": other}, format="json")
    assert again.json()["fallback_channel"] is None
    assert api.delete(f"{URL}{other}/").status_code == 204
