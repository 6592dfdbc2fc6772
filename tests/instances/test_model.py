from __future__ import annotations

import threading

import pytest
from django.db import IntegrityError, connection, transaction

from channels_app.models import Channel
from instances.models import WhatsAppSession, digest_of
from tests.factories import change_channel, create_channel


def test_the_database_rejects_both_modes_at_once(session: WhatsAppSession) -> None:
    rows = WhatsAppSession.objects.filter(pk=session.pk)
    rows.update(webhook_enabled=True)
    with pytest.raises(IntegrityError, match="one_receive_mode"), transaction.atomic():
        rows.update(websocket_enabled=True)


def test_the_database_rejects_a_switch_without_a_phase(session: WhatsAppSession) -> None:
    with pytest.raises(IntegrityError, match="has_a_phase"):
        WhatsAppSession.objects.filter(pk=session.pk).update(switching_to="webhook")


def test_a_session_is_created_once_with_its_channel(channel: Channel) -> None:
    change_channel(channel, name="Outro nome")
    session = WhatsAppSession.objects.get()
    assert (session.channel, session.name) == (channel, channel.instance_name)
    assert (session.webhook_enabled, session.websocket_enabled) == (False, False)
    assert (session.webhook_url, session.webhook_base64) == (None, None)


def test_an_official_channel_has_no_session() -> None:
    create_channel(name="Oficial", phone_number_id="1")
    assert not WhatsAppSession.objects.exists()


def test_each_session_has_a_secret_of_its_own(channel: Channel) -> None:
    create_channel(name="Filial", kind="baileys", instance_name="filial")
    secrets = {session.webhook_secret for session in WhatsAppSession.objects.all()}
    digests = {session.webhook_secret_digest for session in WhatsAppSession.objects.all()}
    assert len(secrets) == 2
    assert digests == {digest_of(secret) for secret in secrets}


@pytest.mark.django_db(transaction=True)
def test_locking_a_session_does_not_wait_for_its_channel(session: WhatsAppSession) -> None:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Channel.objects.select_for_update().get(pk=session.channel_id)
            held.set()
            assert release.wait(10)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(5)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '500ms'")
            assert WhatsAppSession.objects.lock(pk=session.pk) == session
    finally:
        release.set()
        holder.join(10)
