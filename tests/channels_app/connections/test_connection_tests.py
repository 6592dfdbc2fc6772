"""Which provider a channel uses, and the results that a connection test stores."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import translation

from channels_app.channels import save_channel
from channels_app.connections.connection_tests import test_connection as run_test
from channels_app.connections.registry import provider_for
from channels_app.incidents.reason_text import render_reason
from channels_app.models import Connection
from channels_app.providers.base import Rejected
from channels_app.providers.cloud.client import CloudProvider
from channels_app.providers.evolution.client import EvolutionProvider
from channels_app.providers.wwebjs.client import WwebjsProvider
from tests.channels_app.conftest import (
    RawServer,
    Script,
    baileys,
    in_english,
    official,
    respond,
    text_message,
    with_wwebjs,
)

Start = Callable[[Script], RawServer]
NUMBER = b'{"display_phone_number":"+55 11 90000-0001","verified_name":"Demo"}'
READY = [
    b'{"success":true,"result":["TESTE"]}',
    b'{"success":true,"state":"CONNECTED"}',
    b'{"success":true,"sessionInfo":{"wid":{"user":"5511900000001"}}}',
]


def test_each_route_has_its_provider() -> None:
    channel = with_wwebjs("http://x")
    assert isinstance(provider_for(channel.primary), CloudProvider)
    assert isinstance(provider_for(channel.wwebjs), WwebjsProvider)


def test_an_unknown_provider_raises_value_error() -> None:
    with pytest.raises(ValueError, match="pigeon"):
        provider_for(official().connection("pigeon"))


def test_the_route_baileys_uses_the_channel_itself_or_its_fallback_channel() -> None:
    other = baileys("http://other", instance_name="other")
    fallback = official(fallback="baileys", fallback_channel=other).fallback_connection
    assert fallback is not None
    for connection in (other.primary, fallback):
        provider = provider_for(connection)
        assert isinstance(provider, EvolutionProvider)
        assert provider._instance == "other"


def test_a_missing_fallback_refuses_to_send() -> None:
    assert official().fallback_connection is None
    provider = provider_for(official().connection("baileys"))
    with pytest.raises(Rejected) as caught:
        provider.send(text_message())
    assert caught.value.code == "not_configured"
    assert not provider.check().ok


def graph(raw_server: Start) -> str:
    return raw_server(lambda conn, n: respond(conn, NUMBER)).url


def wwebjs(raw_server: Start, *, ready: bool = True) -> str:
    answers = READY if ready else [b'{"success":true,"result":[]}']
    return raw_server(lambda conn, n: respond(conn, answers[n - 1])).url


@pytest.mark.django_db
def test_both_routes_are_tested_and_the_result_is_stored(raw_server: Start) -> None:
    channel = with_wwebjs(wwebjs(raw_server), graph_url=graph(raw_server))
    save_channel(channel)
    with translation.override("en"):
        results = run_test(channel)
    assert [(label, report.ok) for label, report in results] == [
        ("Official (Cloud API)", True),
        ("Fallback: wwebjs-api", True),
    ]
    channel.refresh_from_db()
    assert channel.primary.health == Connection.Health.OK
    with translation.override("en"):
        assert render_reason(channel.primary.health_detail) == (
            f"{in_english(results[0][1])} · The channel's phone number was filled in."
        )
    assert results[0][1].details["filled_in"] == channel.phone_number == "+5511900000001"
    assert channel.primary.health_changed_at is not None


@pytest.mark.django_db
def test_a_coexistence_number_sends_at_most_twenty_per_second(raw_server: Start) -> None:
    both = NUMBER.replace(b"}", b',"is_on_biz_app":true}')
    server = raw_server(lambda conn, n: respond(conn, both))
    channel = official(server.url, messages_per_second=80)
    save_channel(channel)
    assert channel.primary.throughput == 80
    run_test(channel)
    channel.refresh_from_db()
    assert (channel.primary.coexistence, channel.primary.throughput) == (True, 20)
    channel.messages_per_second = 5
    assert channel.primary.throughput == 5


@pytest.mark.django_db
def test_coexistence_is_unknown_if_meta_does_not_report_it(
    raw_server: Start,
) -> None:
    answers = [NUMBER.replace(b"}", b',"is_on_biz_app":false}'), NUMBER]
    server = raw_server(lambda conn, n: respond(conn, answers.pop(0)))
    channel = official(server.url)
    save_channel(channel)
    assert channel.primary.coexistence is None
    for expected in (False, None):
        run_test(channel)
        channel.refresh_from_db()
        assert channel.primary.coexistence is expected


@pytest.mark.django_db
def test_a_failing_fallback_is_reported_but_does_not_fail_the_channel(
    raw_server: Start,
) -> None:
    channel = with_wwebjs(wwebjs(raw_server, ready=False), graph_url=graph(raw_server))
    save_channel(channel)
    with translation.override("en"):
        results = run_test(channel)
    channel.refresh_from_db()
    assert not results[1][1].ok
    assert channel.primary.health == Connection.Health.OK
    with translation.override("en"):
        assert render_reason(channel.primary.health_detail).endswith(
            " · Fallback: wwebjs-api: The session is not started; connect it."
        )


@pytest.mark.django_db
def test_a_failing_official_route_fails_the_channel(dead_url: str) -> None:
    channel = official(dead_url)
    save_channel(channel)
    with translation.override("en"):
        ((_, report),) = run_test(channel)
    channel.refresh_from_db()
    assert not report.ok
    assert (channel.primary.health, channel.primary.health_detail) == (
        Connection.Health.FAILING,
        "connection_refused",
    )


@pytest.mark.django_db
def test_a_baileys_fallback_gets_its_own_health(raw_server: Start) -> None:
    state = b'{"instance":{"instanceName":"oficina","state":"close"}}'
    other = baileys(raw_server(lambda conn, n: respond(conn, state)).url)
    save_channel(other)
    channel = official(graph(raw_server), fallback="baileys", fallback_channel=other)
    save_channel(channel)
    results = run_test(channel)
    assert [report.ok for _, report in results] == [True, False]
    other.refresh_from_db()
    channel.refresh_from_db()
    assert (other.primary.health, channel.primary.health) == (
        Connection.Health.FAILING,
        Connection.Health.OK,
    )


@pytest.mark.django_db
def test_a_baileys_channel_is_tested_on_its_own(raw_server: Start) -> None:
    state = b'{"instance":{"instanceName":"oficina","state":"open"}}'
    channel = baileys(raw_server(lambda conn, n: respond(conn, state)).url)
    save_channel(channel)
    with translation.override("en"):
        ((label, report),) = run_test(channel)
    channel.refresh_from_db()
    assert (label, report.ok, channel.primary.health) == ("Baileys (Evolution API)", True, "ok")
