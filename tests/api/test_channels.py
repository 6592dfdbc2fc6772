"""REST: channels, whose secrets are written and never read back."""

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


def test_a_channel_is_made_with_the_defaults_of_the_contract(api: APIClient) -> None:
    answer = create(api, OFFICIAL)
    assert answer.status_code == 201
    body = answer.json()
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
        "ignore_messages_sent_outside": True,
        "official_retries": 1,
        "request_timeout_seconds": 15,
        "confirm_seconds": 60,
        "on_unconfirmed": "fallback",
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
    }
    assert body["wwebjs_api_key_set"] is False


def test_a_channel_with_wwebjs_gets_a_session_name(api: APIClient) -> None:
    body = create(api, {**OFFICIAL, **WWEBJS}).json()
    assert body["wwebjs_session_id"] == "alterna-106540352242922"
    assert body["wwebjs_api_key_set"] is True


def test_a_baileys_channel_can_be_the_fallback(api: APIClient) -> None:
    baileys = create(api, BAILEYS).json()
    answer = create(api, OFFICIAL, fallback="baileys", fallback_channel=baileys["id"])
    assert answer.status_code == 201
    assert answer.json()["fallback_channel"] == baileys["id"]


def test_secrets_are_in_no_answer(api: APIClient) -> None:
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
    answers = [
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
    for answer in answers:
        assert "SECRET" not in answer.content.decode(), answer.content
        assert "SECRET" not in json.dumps(dict(answer.headers))


def test_secrets_are_encrypted_at_rest(api: APIClient) -> None:
    create(api, {**OFFICIAL, **WWEBJS})
    create(api, BAILEYS)
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(c)::text FROM channels_app_channel c")
        assert "SECRET" not in str(cursor.fetchall())
    channel = Channel.objects.get(kind="official")
    assert channel.access_token == "SECRET-access"
    assert "SECRET" not in repr(channel) + str(channel)


def test_one_field_is_changed_and_the_others_stay(api: APIClient) -> None:
    id_ = create(api, OFFICIAL).json()["id"]
    before = api.get(f"{URL}{id_}/").json()

    answer = api.patch(f"{URL}{id_}/", {"name": "Novo"}, format="json")

    assert answer.status_code == 200
    changed = {name for name in before if answer.json()[name] != before[name]}
    assert changed == {"name", "updated_at"}
    channel = Channel.objects.get()
    assert (channel.access_token, channel.app_secret) == ("SECRET-access", "SECRET-app")


def test_a_secret_is_replaced_and_taken_away(api: APIClient) -> None:
    path = f"{URL}{create(api, OFFICIAL).json()['id']}/"
    assert api.patch(path, {"access_token": "new"}, format="json").json()["access_token_set"]
    answer = api.patch(path, {"app_secret": ""}, format="json")
    assert answer.json()["app_secret_set"] is False
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
        ({"fallback_max_age_minutes": 0}, {"fallback_max_age_minutes"}),
        ({"fallback_per_minute": 0}, {"fallback_per_minute"}),
        ({"fallback_per_minute": 10**12}, {"fallback_per_minute"}),
        ({"active": "perhaps"}, {"active"}),
    ],
)
def test_a_fault_is_400_with_the_field_to_mend(
    api: APIClient, change: dict[str, Any], fields: set[str]
) -> None:
    answer = create(api, OFFICIAL, **change)
    assert answer.status_code == 400, answer.content
    assert set(answer.json()) == fields
    assert not Channel.objects.exists()


@pytest.mark.parametrize("missing", ["evolution_url", "evolution_api_key", "instance_name"])
def test_a_baileys_channel_needs_its_instance(api: APIClient, missing: str) -> None:
    answer = create(api, {**BAILEYS, missing: ""})
    assert (answer.status_code, list(answer.json())) == (400, [missing])


def test_a_change_must_leave_the_channel_whole(api: APIClient) -> None:
    path = f"{URL}{create(api, OFFICIAL).json()['id']}/"
    for change, fields in (
        ({"access_token": ""}, {"access_token"}),
        ({"fallback": "wwebjs"}, {"wwebjs_url", "wwebjs_api_key"}),
        ({"kind": "baileys"}, {"evolution_url", "evolution_api_key", "instance_name"}),
    ):
        answer = api.patch(path, change, format="json")
        assert (answer.status_code, set(answer.json())) == (400, fields)
    assert Channel.objects.get().access_token == "SECRET-access"


def test_a_fallback_must_be_an_active_baileys_channel(api: APIClient) -> None:
    other = create(api, OFFICIAL, name="Outro", phone_number_id="2").json()["id"]
    answer = create(api, OFFICIAL, fallback="baileys", fallback_channel=other)
    assert (answer.status_code, list(answer.json())) == (400, ["fallback_channel"])
    inactive = create(api, BAILEYS, active=False).json()["id"]
    answer = create(api, OFFICIAL, fallback="baileys", fallback_channel=inactive)
    assert (answer.status_code, list(answer.json())) == (400, ["fallback_channel"])


def test_what_must_be_unique_is_said_in_drfs_shape(api: APIClient) -> None:
    create(api, OFFICIAL)
    answer = create(api, OFFICIAL)
    assert answer.status_code == 400
    assert "name" in answer.json()
    answer = create(api, OFFICIAL, name="Outro")
    assert answer.status_code == 400
    assert list(answer.json()) == ["non_field_errors"]
    create(api, BAILEYS)
    answer = create(api, BAILEYS, name="Outra")
    assert (answer.status_code, list(answer.json())) == (400, ["non_field_errors"])
    answer = create(api, BAILEYS, name="X", instance_name="x", fallback="wwebjs", **{
        "wwebjs_url": "http://127.0.0.1:3500", "wwebjs_api_key": "k",
    })  # fmt: skip
    assert (answer.status_code, list(answer.json())) == (400, ["non_field_errors"])


def test_a_channel_that_is_used_is_not_deleted(api: APIClient) -> None:
    id_ = create(api, OFFICIAL).json()["id"]
    contacts.conversation_with(Channel.objects.get(), phone_number="+5511988887777")
    answer = api.delete(f"{URL}{id_}/")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert answer.json()["detail"]
    Conversation.objects.all().delete()
    assert api.delete(f"{URL}{id_}/").status_code == 204
    assert not Channel.objects.exists()


def test_a_fallback_of_another_channel_is_not_deleted(api: APIClient) -> None:
    baileys = create(api, BAILEYS).json()["id"]
    create(api, OFFICIAL, fallback="baileys", fallback_channel=baileys)
    answer = api.delete(f"{URL}{baileys}/")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert OFFICIAL["name"] in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "names"),
    [("", ["Oficial", "Oficina"]), ("kind=baileys", ["Oficina"]), ("active=true", ["Oficial"])],
)
def test_channels_are_listed(api: APIClient, query: str, names: list[str]) -> None:
    create(api, OFFICIAL)
    create(api, BAILEYS, active=False)
    answer = api.get(f"{URL}?{query}")
    assert [channel["name"] for channel in answer.json()] == names


def test_a_list_costs_the_same_whatever_its_length(
    api: APIClient,
    make_channel: Callable[..., Channel],
    django_assert_max_num_queries: Callable[..., Any],
    django_assert_num_queries: Callable[..., Any],
) -> None:
    make_channel()
    with django_assert_max_num_queries(4) as few:
        api.get(URL)
    for _ in range(5):
        make_channel()
    with django_assert_num_queries(len(few)):
        api.get(URL)


@pytest.mark.parametrize("id_", ["0", "x", "99999999999999999999", "%00"])
def test_a_channel_that_is_not_there_is_404(api: APIClient, id_: str) -> None:
    for method in ("get", "patch", "delete"):
        answer = getattr(api, method)(f"{URL}{id_}/", {}, format="json")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_a_channel_is_changed_by_patch_only(api: APIClient) -> None:
    id_ = create(api, OFFICIAL).json()["id"]
    for answer in (
        api.put(f"{URL}{id_}/", OFFICIAL, format="json"),
        api.post(f"{URL}{id_}/", OFFICIAL, format="json"),
        api.patch(URL, {}, format="json"),
        api.delete(URL),
    ):
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


def test_what_alterna_finds_out_itself_is_not_written(api: APIClient) -> None:
    body = create(api, OFFICIAL, health="ok", id=99, access_token_set=False).json()
    assert (body["health"], body["access_token_set"]) == ("unknown", True)
    assert body["id"] != 99


def test_a_channel_says_whose_fallback_it_is_also_when_it_is_deactivated(api: APIClient) -> None:
    other = create(api, BAILEYS).json()["id"]
    shop = create(api, OFFICIAL, fallback="baileys", fallback_channel=other).json()

    answer = api.patch(f"{URL}{other}/", {"active": False}, format="json")

    assert answer.status_code == 200
    assert answer.json()["active"] is False
    assert answer.json()["fallback_for"] == [{"id": shop["id"], "name": shop["name"]}]
    assert shop["fallback_for"] == []
    listed = {channel["id"]: channel["fallback_for"] for channel in api.get(URL).json()}
    assert [of["id"] for of in listed[other]] == [shop["id"]]


@pytest.mark.parametrize("fallback", ["none", "wwebjs"])
def test_a_channel_is_nobodys_fallback_once_another_one_is_chosen(
    api: APIClient, fallback: str
) -> None:
    other = create(api, BAILEYS).json()["id"]
    shop = create(
        api, OFFICIAL, fallback="baileys", fallback_channel=other,
        wwebjs_url="http://127.0.0.1:9", wwebjs_api_key="k",
    ).json()["id"]  # fmt: skip
    refused = api.delete(f"{URL}{other}/")
    assert (refused.status_code, refused.json()["code"]) == (409, "in_use")

    changed = api.patch(f"{URL}{shop}/", {"fallback": fallback}, format="json")

    assert (changed.status_code, changed.json()["fallback_channel"]) == (200, None)
    assert api.get(f"{URL}{other}/").json()["fallback_for"] == []
    again = api.patch(f"{URL}{shop}/", {"fallback_channel": other}, format="json")
    assert again.json()["fallback_channel"] is None
    assert api.delete(f"{URL}{other}/").status_code == 204
