"""The demo's Baileys channel, on the simulated Evolution API."""

from __future__ import annotations

from channels_app.channels import save_channel
from channels_app.models import Channel, Provider
from instances import queue
from instances.models import WhatsAppSession
from messaging import demo_settings


def make(*, evolution_url: str) -> None:
    """Create the channel or update its address, and enqueue its webhook configuration.

    The simulated server loses its state when it stops, so each start configures it again.
    """
    kind, name = Provider.BAILEYS, demo_settings.INSTANCE
    stored = Channel.objects.filter(kind=kind, evolution__instance_name=name).first()
    channel = stored or Channel(kind=kind, name="Baileys (demonstração)")
    channel.instance_name = name
    channel.evolution_api_key = demo_settings.EVOLUTION_API_KEY
    channel.evolution_url = evolution_url
    save_channel(channel)
    session = WhatsAppSession.objects.get(channel=channel)
    WhatsAppSession.objects.filter(pk=session.pk).update(
        webhook_enabled=False,
        websocket_enabled=False,
        webhook_url=None,
        webhook_base64=None,
        switching_to="",
        switching_phase="",
        switching_change=None,
    )
    queue.enqueue_configure(session.pk)
