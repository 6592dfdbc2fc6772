from __future__ import annotations

from typing import Any

from django.db import migrations
from django.db.models import Q

CLOSED = {
    "wwebjs_breaker_opened_at": None,
    "wwebjs_breaker_code": "",
    "wwebjs_breaker_late": False,
    "wwebjs_breaker_probe_at": None,
    "wwebjs_breaker_probes": 0,
}


def let_go(apps: Any, schema_editor: Any) -> None:
    """Forget what is kept of fallbacks that are not in use: the channel named, the open breaker."""
    channels = apps.get_model("channels_app", "Channel").objects
    channels.filter(~Q(fallback="baileys")).update(fallback_channel=None)
    channels.filter(~Q(fallback="wwebjs"), wwebjs_breaker_opened_at__isnull=False).update(**CLOSED)


class Migration(migrations.Migration):
    dependencies = [("channels_app", "0006_incident_code")]
    operations = [migrations.RunPython(let_go, migrations.RunPython.noop)]
