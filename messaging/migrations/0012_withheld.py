from __future__ import annotations

from typing import Any

from django.db import migrations
from django.db.models import Max, Min, Q

from channels_app.providers import redaction

STEP = 2000
# Nearly every event of Evolution has one, so the database does it without handing the rows out.
TOKENS = """
UPDATE messaging_inboundevent SET payload = payload || '{"apikey": "withheld"}'
WHERE source = 'evolution' AND id BETWEEN %s AND %s
  AND payload -> 'apikey' NOT IN ('null', '""', '"withheld"')
"""


def clean(apps: Any, schema_editor: Any) -> None:
    """Take tokens and codes out of the events that are stored, some thousand rows at a time."""
    events = apps.get_model("messaging", "InboundEvent").objects
    ids = events.filter(source="evolution").aggregate(first=Min("id"), last=Max("id"))
    if ids["first"] is not None:
        with schema_editor.connection.cursor() as cursor:
            for first in range(ids["first"], ids["last"] + 1, STEP):
                cursor.execute(TOKENS, [first, first + STEP - 1])
    linking = Q(payload__event="qrcode.updated") | Q(payload__data__has_key="qrcode")
    for source, chosen, strip in (
        ("evolution", linking, redaction.from_evolution),
        ("wwebjs", Q(payload__dataType__in=["qr", "code"]), redaction.from_wwebjs),
    ):
        known, last = events.filter(chosen, source=source).order_by("id"), 0
        while rows := list(known.filter(id__gt=last)[:STEP]):
            for event in rows:
                event.payload = strip(event.payload)
            events.bulk_update(rows, ["payload"], batch_size=200)
            last = rows[-1].id


class Migration(migrations.Migration):
    # Each step by itself: no event waits for the whole of it.
    atomic = False

    dependencies = [("messaging", "0011_live_catch_up")]
    operations = [migrations.RunPython(clean, migrations.RunPython.noop)]
