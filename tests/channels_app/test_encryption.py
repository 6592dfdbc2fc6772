"""Secrets at rest: encrypted, not searchable, never shown, and rotated all or none."""

from __future__ import annotations

import logging
from io import StringIO
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core.exceptions import FieldError, ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django import Settings

from channels_app.models import Channel, CloudCredentials
from core.fields import UndecryptableError
from tests.channels_app.conftest import TOKEN, official

pytestmark = pytest.mark.django_db

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.fixture(autouse=True)
def _old_key(settings: Settings) -> None:
    settings.ENCRYPTION_KEYS = [OLD]


def stored(**fields: Any) -> Channel:
    channel = official(**fields)
    channel.save()
    return channel


def in_database(name: str = "access_token") -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {name} FROM channels_app_cloudcredentials ORDER BY channel_id")
        return [row[0] for row in cursor.fetchall()]


def readable_with(key: str) -> list[bool]:
    def readable(token: str) -> bool:
        try:
            return Fernet(key).decrypt(token.encode()).decode().startswith("EAA")
        except Exception:
            return False

    return [readable(token) for token in in_database()]


def test_the_database_stores_only_the_ciphertext() -> None:
    channel = stored()
    (token,) = in_database()
    assert TOKEN not in token
    assert Fernet(OLD).decrypt(token.encode()).decode() == TOKEN
    assert Channel.objects.get(pk=channel.pk).access_token == TOKEN


def test_equal_secrets_have_different_ciphertexts() -> None:
    stored()
    stored(name="other", phone_number_id="2")
    first, second = in_database()
    assert first != second


def test_an_empty_secret_stays_empty() -> None:
    channel = stored()
    assert in_database("app_secret") == [""]
    assert Channel.objects.get(pk=channel.pk).app_secret == ""


def test_text_of_any_script_is_preserved() -> None:
    channel = stored(app_secret="ção 日本 😀\n")
    assert Channel.objects.get(pk=channel.pk).app_secret == "ção 日本 😀\n"


def test_an_undecryptable_value_raises_and_is_not_revealed(settings: Settings) -> None:
    stored()
    settings.ENCRYPTION_KEYS = [NEW]
    with pytest.raises(UndecryptableError) as caught:
        Channel.objects.get().access_token  # noqa: B018
    assert "CloudCredentials.access_token" in str(caught.value)
    assert in_database()[0] not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_secret_is_decrypted_only_when_it_is_read(settings: Settings) -> None:
    channel = stored(app_secret="EAAsecret")
    settings.ENCRYPTION_KEYS = [NEW]

    loaded = Channel.objects.select_related("cloud").get()
    assert loaded.phone_number_id
    loaded.access_token = "EAAnew"
    loaded.save()

    settings.ENCRYPTION_KEYS = [OLD, NEW]
    channel.refresh_from_db()
    assert (channel.access_token, channel.app_secret) == ("EAAnew", "EAAsecret")


def test_a_value_that_was_never_encrypted_raises() -> None:
    stored()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE channels_app_cloudcredentials SET access_token = 'plain'")
    with pytest.raises(UndecryptableError):
        Channel.objects.get().access_token  # noqa: B018


def test_without_keys_secrets_are_neither_stored_nor_read(settings: Settings) -> None:
    stored()
    settings.ENCRYPTION_KEYS = []
    with pytest.raises(ImproperlyConfigured):
        Channel.objects.get().access_token  # noqa: B018
    with pytest.raises(ImproperlyConfigured):
        official(name="other").save()


@pytest.mark.parametrize("lookup", ["", "__exact", "__contains", "__startswith", "__in", "__gt"])
def test_a_secret_cannot_be_searched(lookup: str) -> None:
    with pytest.raises(FieldError):
        CloudCredentials.objects.filter(**{f"access_token{lookup}": TOKEN}).exists()


def test_a_secret_can_be_filtered_for_null() -> None:
    stored()
    assert CloudCredentials.objects.filter(access_token__isnull=False).count() == 1


def test_a_secret_is_not_shown_with_its_channel(caplog: pytest.LogCaptureFixture) -> None:
    channel = stored()
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("any").warning("channel %s %r", channel, channel)
    assert TOKEN not in f"{channel} {channel!r} {Channel.objects.all()!r} {caplog.text}"


# -- rotation -------------------------------------------------------------------------------------


def rotate(**options: Any) -> str:
    out = StringIO()
    call_command("rotate_encryption", stdout=out, **options)
    return out.getvalue()


def test_every_secret_of_every_channel_is_re_encrypted(settings: Settings) -> None:
    for number in range(5):
        stored(name=f"c{number}", phone_number_id=str(number), app_secret="s" if number else "")
    before = dict(Channel.objects.values_list("pk", "updated_at"))
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    assert rotate(batch_size=2) == "Re-encrypted 9 secrets in 5 rows.\n"
    settings.ENCRYPTION_KEYS = [NEW]
    assert [channel.access_token for channel in Channel.objects.all()] == [TOKEN] * 5
    assert [channel.app_secret for channel in Channel.objects.order_by("pk")] == ["", *"ssss"]
    assert dict(Channel.objects.values_list("pk", "updated_at")) == before


def test_rotation_can_be_repeated(settings: Settings) -> None:
    stored()
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    rotate()
    assert rotate() == "Re-encrypted 1 secrets in 1 rows.\n"
    assert readable_with(NEW) == [True]


def test_rotation_without_secrets_reports_zero() -> None:
    assert rotate() == "Re-encrypted 0 secrets in 0 rows.\n"


def test_one_undecryptable_secret_leaves_all_rows_unchanged(settings: Settings) -> None:
    stored(name="a", phone_number_id="1")
    settings.ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    stored(name="b", phone_number_id="2")
    before = in_database()
    settings.ENCRYPTION_KEYS = [NEW, OLD]
    with pytest.raises(CommandError, match="Nothing was changed") as caught:
        rotate(batch_size=1)
    assert in_database() == before
    assert readable_with(OLD) == [True, False]
    assert TOKEN not in str(caught.value)
