"""The fallbacks of a channel in their order: the form, the card, the dashboard, the admin."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.test import Client

from channels_app.models import Channel, FallbackChoice
from tests.factories import update_connection
from tests.pages.html import parse
from tests.pages.test_channels import filled

pytestmark = pytest.mark.django_db

SESSION = {"wwebjs_url": "http://127.0.0.1:9", "wwebjs_api_key": "k"}


@pytest.fixture
def baileys(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        name="Celular", kind="baileys", phone_number_id="", evolution_url="http://127.0.0.1:9",
        evolution_api_key="k", instance_name="oficina",
    )  # fmt: skip


@pytest.fixture
def ranked(make_channel: Callable[..., Channel], baileys: Channel) -> Channel:
    return make_channel(
        fallbacks=[FallbackChoice("wwebjs"), FallbackChoice("baileys", baileys)], **SESSION
    )


def kinds(channel: Channel) -> list[str]:
    return [one.kind for one in Channel.objects.get(pk=channel.pk).fallbacks]


def test_the_form_adds_reorders_and_removes_fallbacks(
    staff_client: Client, make_channel: Callable[..., Channel], baileys: Channel
) -> None:
    channel = make_channel(fallback="wwebjs", **SESSION)
    url = f"/channels/{channel.pk}/"
    data = filled(channel, wwebjs_enabled="on", wwebjs_url=SESSION["wwebjs_url"])

    def save(**changes: object) -> None:
        answer = staff_client.post(url, {**data, **changes})
        assert answer.status_code == 302, parse(answer.content).text

    # The page always has one empty select, so that another fallback can be added.
    [empty] = parse(staff_client.get(url).content).all("select", name="more_fallbacks")
    assert empty.attributes["aria-label"] == "Fallback 2"
    save(more_fallbacks=[str(baileys.pk)])
    assert kinds(channel) == ["wwebjs", "baileys"]
    page = parse(staff_client.get(url).content)
    assert [one.attributes["aria-label"] for one in page.all("select", name="more_fallbacks")] == [
        "Fallback 2", "Fallback 3",
    ]  # fmt: skip

    del data["wwebjs_enabled"]
    save(fallback_channel=str(baileys.pk), more_fallbacks=["wwebjs", ""])
    assert kinds(channel) == ["baileys", "wwebjs"]

    save(fallback_channel=str(baileys.pk), more_fallbacks=["", ""])
    assert kinds(channel) == ["baileys"]


def test_the_form_rejects_a_fallback_that_is_chosen_twice(
    staff_client: Client, ranked: Channel
) -> None:
    data = filled(ranked, wwebjs_enabled="on", wwebjs_url=SESSION["wwebjs_url"])
    answer = staff_client.post(f"/channels/{ranked.pk}/", {**data, "more_fallbacks": ["wwebjs"]})

    page = parse(answer.content)
    assert answer.status_code == 400
    assert page.error_of("more_fallbacks") == "Each fallback can be chosen only once."
    assert kinds(ranked) == ["wwebjs", "baileys"]


def test_card_and_dashboard_show_each_fallback_with_its_rank_and_state(
    staff_client: Client, ranked: Channel, baileys: Channel
) -> None:
    update_connection(ranked, "wwebjs", state="ready", state_code="ready")
    update_connection(baileys, health="failing", health_detail="connection_refused")

    card = parse(staff_client.get("/channels/").content).one(data_channel=str(ranked.pk))
    lines = [line.text for line in card.all("p") if "data-fallback" in line.attributes]
    assert [" ".join(line.split()) for line in lines] == [
        "1. Fallback: wwebjs http://127.0.0.1:9",
        "2. Fallback: Baileys, through “Celular” Unavailable",
    ]
    [problem] = parse(staff_client.get("/").content).all("span", data_fallback_problem=None)
    assert "2. The fallback is unavailable:" in problem.text


def test_the_admin_changes_the_fallbacks(
    staff_client: Client, ranked: Channel, baileys: Channel
) -> None:
    url = f"/admin/channels_app/channel/{ranked.pk}/change/"
    form = staff_client.get(url).context["adminform"].form
    data = {name: value for name, value in form.initial.items() if value is not None}
    fields = {**data, "active": "on", "fallbacks": [str(baileys.pk), "wwebjs", ""]}

    answer = staff_client.post(url, fields)

    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert kinds(ranked) == ["baileys", "wwebjs"]
    listed = staff_client.get("/admin/channels_app/channel/?fallback=wwebjs")
    assert [row.pk for row in listed.context["cl"].result_list] == [ranked.pk]
