"""Every server address is normalized, whatever its source."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from channels_app.models import Channel
from channels_app.models.credentials import SETTINGS
from core.http_addresses import normalize
from core.validators import validate_http_address
from tests.factories import change_channel, update_connection


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("http://h:3500", "http://h:3500"),
        ("http://h:3500/", "http://h:3500"),
        ("  http://h:3500// ", "http://h:3500"),
        ("HTTP://H:3500", "http://h:3500"),
        ("http://h:03500", "http://h:3500"),
        ("http://h:80", "http://h"),
        ("http://h:", "http://h"),
        ("https://h:443/", "https://h"),
        ("https://h:80", "https://h:80"),
        ("http://wwebjs_api:3000", "http://wwebjs_api:3000"),
        ("http://h/Wa", "http://h/Wa"),
        ("http://h/Wa//Api/", "http://h/Wa/Api"),
        ("http://h/./a/../b/", "http://h/b"),
        ("http://h/../..", "http://h"),
        ("http://h/%7euser/%2f", "http://h/~user/%2F"),
        ("http://Clínica.example/", "http://xn--clnica-4va.example"),
        ("http://xn--clnica-4va.example", "http://xn--clnica-4va.example"),
        ("http://[::1]:3500/", "http://[::1]:3500"),
        ("http://[0:0:0:0:0:0:0:1]:3500", "http://[::1]:3500"),
        ("http://User:Pass@H/", "http://User:Pass@h"),
        ("http://H/?a=1", "http://h?a=1"),
        # Not addresses: the validator rejects them.
        ("nowhere", "nowhere"),
        ("h:3500", "h:3500"),
        ("ftp://H/", "ftp://H/"),
        ("http://", "http://"),
        ("http://h:99999", "http://h:99999"),
        ("http://a b/", "http://a b/"),
        ("http://[::1", "http://[::1"),
        ("http:\\\\h", "http:\\\\h"),
        ("", ""),
    ],
)
def test_an_address_is_normalized(typed: str, stored: str) -> None:
    assert normalize(typed) == stored


PIECES = st.sampled_from(
    ["http", "HTTPS", "://", ":", "/", "//", "..", ".", "%2e", "%zz", "H", "ç.example", "@", "?",
     "#", "[::1]", "80", "443", " ", "\t", "\x00", "\\", "ﬀ", "a"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_normalizing_twice_changes_nothing(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


@given(st.lists(PIECES).map(lambda parts: "http://h/" + "".join(parts)))
def test_a_valid_address_stays_valid(text: str) -> None:
    try:
        validate_http_address(text)
    except ValidationError:
        return
    validate_http_address(normalize(text))


NAMES = ("graph_url", "wwebjs_url", "evolution_url")


@pytest.mark.django_db
@pytest.mark.parametrize("name", NAMES)
def test_every_write_normalizes_an_address(make_channel: Callable[..., Channel], name: str) -> None:
    typed, stored = "HTTP://Host:80//Wa/", "http://host/Wa"
    channel = make_channel(**{name: typed})
    assert getattr(channel, name) == stored
    setattr(channel, name, "http://other")
    channel.save()
    setattr(channel, name, typed)
    channel.full_clean()
    assert getattr(channel, name) == stored
    channel.save()
    assert getattr(Channel.objects.get(), name) == stored
    model, column = SETTINGS[name].model, SETTINGS[name].name
    rows = model._default_manager
    rows.update(**{column: "http://other/"})
    assert getattr(Channel.objects.get(), name) == "http://other"
    rows.update(**{column: typed})
    assert rows.filter(**{column: "http://HOST/Wa/"}).exists()
    rows.all().delete()
    rows.bulk_create([model(**{"channel": channel, column: typed})])
    assert getattr(Channel.objects.get(), name) == stored


@pytest.mark.django_db
def test_another_spelling_of_an_address_is_the_same_server(
    make_channel: Callable[..., Channel],
) -> None:
    channel = make_channel(
        fallback="wwebjs",
        wwebjs_url="http://127.0.0.1:9",
        wwebjs_api_key="k",
        wwebjs_session_id="S",
    )
    update_connection(
        channel, "wwebjs", own_number="5511900000001", breaker_opened_at="2026-11-30T00:00Z"
    )
    change_channel(Channel.objects.get(), wwebjs_url="HTTP://127.0.0.1:9/")
    session = Channel.objects.get().wwebjs
    assert session.own_number == "5511900000001"
    assert session.breaker_opened_at is not None
