"""REST: the ranked fallbacks of a channel, and the fields that are their shorthand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from rest_framework.test import APIClient

from channels_app.models import Channel, FallbackChoice

pytestmark = pytest.mark.django_db

SESSION = {"wwebjs_url": "http://127.0.0.1:9", "wwebjs_api_key": "k"}


@pytest.fixture
def baileys(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        name="Oficina", kind="baileys", phone_number_id="", evolution_url="http://127.0.0.1:9",
        evolution_api_key="k", instance_name="oficina",
    )  # fmt: skip


@pytest.fixture
def ranked(make_channel: Callable[..., Channel], baileys: Channel) -> Channel:
    return make_channel(
        fallbacks=[FallbackChoice("wwebjs"), FallbackChoice("baileys", baileys)], **SESSION
    )


def patch(api: APIClient, channel: Channel, **changes: Any) -> Any:
    return api.patch(f"/api/channels/{channel.pk}/", changes, format="json")


def shown(body: dict[str, Any]) -> tuple[Any, ...]:
    return body["fallbacks"], body["fallback"], body["fallback_channel"]


def test_the_list_is_written_and_the_shorthand_shows_its_first(
    api: APIClient, channel: Channel, baileys: Channel
) -> None:
    by_phone, by_session = {"kind": "baileys", "channel": baileys.pk}, {"kind": "wwebjs"}

    answer = patch(api, channel, fallbacks=[by_session, by_phone], **SESSION)
    assert answer.status_code == 200, answer.content
    assert shown(answer.json()) == ([by_session, by_phone], "wwebjs", None)

    answer = patch(api, channel, fallbacks=[by_phone, by_session])
    assert shown(answer.json()) == ([by_phone, by_session], "baileys", baileys.pk)
    assert shown(api.get(f"/api/channels/{channel.pk}/").json()) == shown(answer.json())
    [dependent] = api.get(f"/api/channels/{baileys.pk}/").json()["fallback_for"]
    assert dependent == {"id": channel.pk, "name": channel.name}

    assert shown(patch(api, channel, fallbacks=[]).json()) == ([], "none", None)


def test_the_shorthand_writes_a_list_of_one(
    api: APIClient, ranked: Channel, baileys: Channel
) -> None:
    by_phone = {"kind": "baileys", "channel": baileys.pk}

    answer = patch(api, ranked, fallback="baileys", fallback_channel=baileys.pk)
    assert shown(answer.json()) == ([by_phone], "baileys", baileys.pk)

    answer = patch(api, ranked, fallback="wwebjs")
    assert shown(answer.json()) == ([{"kind": "wwebjs"}], "wwebjs", None)

    answer = patch(api, ranked, fallback="none")
    assert shown(answer.json()) == ([], "none", None)


def test_changes_of_other_fields_keep_the_list(api: APIClient, ranked: Channel) -> None:
    body = patch(api, ranked, name="Outro").json()
    assert [one["kind"] for one in body["fallbacks"]] == ["wwebjs", "baileys"]


def test_what_was_read_can_be_written_back(api: APIClient, ranked: Channel) -> None:
    body = api.get(f"/api/channels/{ranked.pk}/").json()
    names = ("fallbacks", "fallback", "fallback_channel")
    answer = patch(api, ranked, **{name: body[name] for name in names})
    assert shown(answer.json()) == shown(body)


def test_a_contradictory_shorthand_is_rejected(api: APIClient, ranked: Channel) -> None:
    answer = patch(api, ranked, fallbacks=[{"kind": "wwebjs"}], fallback="none")
    assert answer.status_code == 400
    assert answer.json() == {"fallbacks": ["It contradicts “fallback”."]}


@pytest.mark.parametrize(
    "item",
    [
        {"kind": "telegram"},
        {"kind": "none"},
        {"kind": "baileys"},
        {"kind": "baileys", "channel": 999_999},
        {"kind": "wwebjs", "rank": 1},
        {"channel": 1},
        "wwebjs",
    ],
    ids=str,
)
def test_an_invalid_fallback_is_rejected(api: APIClient, channel: Channel, item: Any) -> None:
    answer = patch(api, channel, fallbacks=[item], **SESSION)
    assert (answer.status_code, set(answer.json())) == (400, {"fallbacks"})


def test_the_model_s_rules_apply_to_every_rank(
    api: APIClient, channel: Channel, ranked: Channel, baileys: Channel
) -> None:
    def errors(*fallbacks: dict[str, Any]) -> Any:
        answer = patch(api, channel, fallbacks=fallbacks, **SESSION)
        assert answer.status_code == 400
        return answer.json()

    session, phone = {"kind": "wwebjs"}, {"kind": "baileys", "channel": baileys.pk}
    official = {"kind": "baileys", "channel": ranked.pk}
    itself = {"kind": "baileys", "channel": channel.pk}
    assert errors(session, phone, session) == {
        "fallbacks": ["Each fallback can be chosen only once."]
    }
    assert errors(session, official) == {"fallbacks": ["Choose an active Baileys channel."]}
    assert errors(official, session) == {"fallbacks": ["Choose an active Baileys channel."]}
    assert errors(itself) == {"fallbacks": ["A channel cannot be its own fallback."]}


def test_a_fallback_of_any_rank_cannot_be_deleted_but_a_channel_with_its_own_session_can(
    api: APIClient, ranked: Channel, baileys: Channel
) -> None:
    answer = api.delete(f"/api/channels/{baileys.pk}/")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")

    assert api.delete(f"/api/channels/{ranked.pk}/").status_code == 204
    assert api.delete(f"/api/channels/{baileys.pk}/").status_code == 204
