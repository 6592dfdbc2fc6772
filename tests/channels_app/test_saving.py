"""Two people who save one channel: what follows from it always fits what is stored."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection, transaction

from channels_app.channels import save_channel
from channels_app.models import Channel, Connection

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


@pytest.mark.django_db(transaction=True)
def test_a_save_that_waits_for_another_compares_with_what_that_one_stored(
    attached: Channel,
) -> None:
    waiting = Channel.objects.get(pk=attached.pk)
    waiting.wwebjs_url = OLD  # a form submits every setting
    began = threading.Event()

    def save_second() -> None:
        try:
            began.set()
            save_channel(waiting)
        finally:
            connection.close()

    second = threading.Thread(target=save_second)
    with transaction.atomic():
        attached.wwebjs_url = NEW
        save_channel(attached)
        second.start()
        began.wait()
        while not _is_waiting():
            pass
    second.join()
    assert address() == (f"{OLD} S", f"{OLD} S")


def _is_waiting() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
