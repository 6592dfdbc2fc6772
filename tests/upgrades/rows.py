"""A row in every table of the apps, for the recording of a release's database.

`create` belongs to the release that is recorded: when it has been recorded, later versions change
this module as their tables change, and record their own database.
"""

from __future__ import annotations

from django.apps import apps
from django.db import models
from django.utils import timezone

from accounts.models import ApiToken
from channels_app.channels import save_channel
from channels_app.models import Channel, FallbackChoice, Incident, ResolvedNumber
from instances import demo as instances_demo
from instances.models import (
    Backfill,
    ListenerProcess,
    Mode,
    ProfilePicture,
    ReceiveModeChange,
    WhatsAppSession,
)
from messaging import demo
from messaging.models import (
    CallAttempt,
    Contact,
    InboundEvent,
    Media,
    MediaUpload,
    Message,
    PendingEvent,
)

APPS = ("accounts", "channels_app", "messaging", "instances")


def tables() -> dict[str, type[models.Model]]:
    """Return the models of our apps by the names of their tables."""
    found = (model for app in APPS for model in apps.get_app_config(app).get_models())
    return {model._meta.db_table: model for model in found}


def create() -> None:
    """Create at least one row in each table of our apps."""
    now = timezone.now()
    nowhere = "http://127.0.0.1:9"
    demo.make(graph_url=nowhere, wwebjs_url=nowhere)
    instances_demo.make(evolution_url=nowhere)
    official, baileys = Channel.objects.get(kind="official"), Channel.objects.get(kind="baileys")
    official.fallbacks = [FallbackChoice("wwebjs"), FallbackChoice("baileys", baileys)]
    save_channel(official)
    session = WhatsAppSession.objects.get()
    message = Message.objects.filter(direction=Message.Direction.OUT).first()
    assert message is not None
    user = message.created_by or Message.objects.exclude(created_by=None).first().created_by
    ApiToken.objects.create(user=user, name="ERP")
    Incident.objects.create(
        connection=official.primary, reason="190", opened_at=now, last_drop_at=now
    )
    contact = Contact.objects.first()
    ResolvedNumber.objects.create(
        connection=official.wwebjs, number="5511988887777", chat_id="5511988887777@c.us",
        found_at=now,
    )  # fmt: skip
    media = Media.objects.first()
    MediaUpload.objects.create(media=media, channel=official, provider_media_id="1", expires_at=now)
    CallAttempt.objects.create(
        conversation=message.conversation, channel=official, created_by=user,
        phone_number=contact.phone_number,
    )  # fmt: skip
    InboundEvent.objects.create(
        source=InboundEvent.Source.CLOUD, source_key=str(official.pk), dedupe_key="recorded",
        payload={"object": "whatsapp_business_account", "entry": []},
    )  # fmt: skip
    PendingEvent.objects.create(
        channel=official, provider_message_id="wamid.1", kind=PendingEvent.Kind.values[0]
    )
    ProfilePicture.objects.create(connection=baileys.primary, url=nowhere, fetched_at=now)
    Backfill.objects.create(
        session=session, reason=Backfill.Reason.values[0], since=now, messages=3, at=now
    )
    ReceiveModeChange.objects.create(
        session=session, to_mode=Mode.WEBHOOK, source=ReceiveModeChange.Source.values[0], user=user
    )
    ListenerProcess.objects.create(name="recorded", started_at=now, seen_at=now)
