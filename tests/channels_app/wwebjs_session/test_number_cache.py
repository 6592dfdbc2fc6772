"""A number is looked up once and then cached in the form that was found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from channels_app import number_cache
from channels_app.connections.registry import unguarded
from channels_app.models import Channel, ResolvedNumber
from channels_app.number_cache import NumberCache
from channels_app.providers.base import OutboundMessage, Rejected, Transient, Unknown
from simulators.base import example_number, only_digits
from simulators.wwebjs.tables import SCENARIOS
from tests.channels_app.wwebjs_session.conftest import Server

pytestmark = pytest.mark.django_db
TO = "+5511988887777"
LOOK_UP, SEND = "/client/getNumberId", "/client/sendMessage"


def send(channel: Channel, to: str = TO) -> None:
    unguarded(channel.wwebjs).send(OutboundMessage("ref", to, text="Oi"))


def playing(name: str) -> str:
    """Return a number that triggers this scenario of the simulated server."""
    return example_number(graph="47", fallback=SCENARIOS[name].digits)


def test_the_second_send_makes_one_call_fewer(ready: Channel, server: Server) -> None:
    send(ready)
    assert server.paths() == [LOOK_UP, SEND]
    server.forget()
    send(ready)
    assert server.paths() == [SEND]


def test_the_form_that_was_found_is_cached(ready: Channel, server: Server) -> None:
    to = "+5531999991234"
    send(ready, to)
    known = ResolvedNumber.objects.get()
    assert (known.number, known.chat_id) == ("5531999991234", "553199991234@c.us")
    server.forget()
    send(ready, to)
    assert server.paths() == [SEND]
    assert server.simulator.requests[0]["body"]["chatId"] == "553199991234@c.us"


def test_each_channel_has_its_own_cache(
    ready: Channel, server: Server, make_channel: Callable[..., Channel]
) -> None:
    send(ready)
    assert NumberCache(make_channel().wwebjs).lookup("5511988887777") is None


def test_an_expired_entry_is_looked_up_again(
    ready: Channel, server: Server, later: Callable[[float], None]
) -> None:
    send(ready)
    later(number_cache.GOOD_FOR.total_seconds() + 1)
    server.forget()
    send(ready)
    assert server.paths() == [LOOK_UP, SEND]


def test_an_outdated_form_is_looked_up_again_in_the_same_send(
    ready: Channel, server: Server
) -> None:
    NumberCache(ready.wwebjs).remember("5511988887777", "not a chat id")
    send(ready)
    assert server.paths() == [SEND, LOOK_UP, SEND]
    assert ResolvedNumber.objects.get().chat_id == "5511988887777@c.us"


def test_a_number_that_left_whatsapp_is_removed_from_the_cache(
    ready: Channel, server: Server
) -> None:
    to = playing("not_on_whatsapp")
    digits = only_digits(to)
    NumberCache(ready.wwebjs).remember(digits, f"{digits}@c.us")
    with pytest.raises(Rejected) as caught:
        send(ready, to)
    assert caught.value.code == "not_on_whatsapp"
    assert not ResolvedNumber.objects.exists()


@pytest.mark.parametrize(
    ("scenario", "kind"), [("ack_error", Rejected), ("serialize_delivered", Unknown)]
)
def test_a_failed_send_clears_the_entry_and_is_not_repeated(
    ready: Channel, server: Server, scenario: str, kind: type[Exception]
) -> None:
    to = playing(scenario)
    digits = only_digits(to)
    NumberCache(ready.wwebjs).remember(digits, f"{digits}@c.us")
    with pytest.raises(kind):
        send(ready, to)
    assert server.paths() == [SEND]
    assert not ResolvedNumber.objects.exists()


def test_a_session_that_is_down_does_not_affect_the_cache(ready: Channel, server: Server) -> None:
    send(ready)
    server.steer("lose_link")
    with pytest.raises(Transient):
        send(ready)
    assert ResolvedNumber.objects.count() == 1


def test_a_number_not_on_whatsapp_is_not_cached(ready: Channel, server: Server) -> None:
    with pytest.raises(Rejected):
        send(ready, playing("not_on_whatsapp"))
    assert not ResolvedNumber.objects.exists()


def test_a_database_error_does_not_fail_the_send(
    ready: Channel, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django.db import OperationalError

    def away(*args: object, **kwargs: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr(ResolvedNumber.objects, "filter", away)
    monkeypatch.setattr(ResolvedNumber.objects, "update_or_create", away)
    send(ready)
    assert server.paths() == [LOOK_UP, SEND]
