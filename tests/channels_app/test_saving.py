"""Two people who save one channel: what follows from it always fits what is stored."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from channels_app.channels import save_channel
from channels_app.connections import remote_sessions
from channels_app.models import Channel, Connection
from tests.factories import update_connection
from tests.messaging.support import wait_until

OLD, NEW = "http://127.0.0.1:9", "http://127.0.0.1:1"


@pytest.fixture
def attached(make_channel: Callable[..., Channel]) -> Channel:
    return make_channel(
        fallback="wwebjs", wwebjs_url=OLD, wwebjs_api_key="k", wwebjs_session_id="S"
    )


def address() -> tuple[str, str]:
    """Return the address of the session as observed, and as stored."""
    stored = Channel.objects.get(kind="official")
    observed = Connection.objects.get(channel=stored, provider="wwebjs").address
    return observed, f"{stored.wwebjs_url} {stored.wwebjs_session_id}"


@pytest.mark.django_db
def test_a_channel_that_was_loaded_before_another_change_does_not_undo_it(
    attached: Channel,
) -> None:
    stale = Channel.objects.select_related("wwebjs_api").get(pk=attached.pk)
    assert stale.uses_wwebjs
    attached.wwebjs_url = NEW
    save_channel(attached)
    stale.name = "renamed"
    save_channel(stale)
    assert address() == (f"{NEW} S", f"{NEW} S")
    assert stale.wwebjs_url == NEW


@pytest.mark.django_db
def test_a_session_name_may_contain_spaces(make_channel: Callable[..., Channel]) -> None:
    channel = make_channel(
        kind="baileys", evolution_url=OLD, evolution_api_key="k", instance_name="minha loja 2"
    )
    update_connection(channel, state="ready", state_code="ready")
    assert Connection.objects.get(channel=channel).server == OLD
    remote = remote_sessions.session_of(channel)
    assert remote is not None
    assert (remote.server, remote.name) == (OLD, "minha loja 2")


@pytest.mark.django_db(transaction=True)
def test_a_save_that_waits_for_another_compares_with_what_that_one_stored(
    attached: Channel,
) -> None:
    waiting = Channel.objects.get(pk=attached.pk)
    waiting.wwebjs_url = OLD  # a form submits every setting

    def save_second() -> None:
        try:
            save_channel(waiting)
        finally:
            connection.close()

    second = threading.Thread(target=save_second)
    with transaction.atomic():
        attached.wwebjs_url = NEW
        save_channel(attached)
        second.start()
        wait_until(_is_waiting)
    second.join()
    assert address() == (f"{OLD} S", f"{OLD} S")


def _is_waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
