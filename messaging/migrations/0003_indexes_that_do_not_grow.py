from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models import F, Q
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce

# Every index is created while others write: a large installation is not locked. If a step is
# interrupted, drop the invalid index and start again.


def not_null(name: str) -> AddIndexConcurrently:
    return AddIndexConcurrently(
        "message",
        models.Index(fields=[name], condition=Q((f"{name}__isnull", False)), name=f"message_{name}"),
    )


def file_at(source: str, path: str) -> AddIndexConcurrently:
    return AddIndexConcurrently(
        "inboundevent",
        models.Index(
            KeyTextTransform("stored", f"payload__{path}"),
            condition=Q((f"payload__{path}__has_key", "stored")),
            name=f"inbound_file_{source}",
        ),
    )


# What PostgreSQL's pg_trgm does, which an installation may not have: all sequences of three
# characters of a text.
SEARCH = """
CREATE FUNCTION alterna_trigrams(text) RETURNS text[]
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN ARRAY(
    SELECT DISTINCT pg_catalog.substr($1, i, 3)
    FROM pg_catalog.generate_series(1, pg_catalog.length($1) - 2) i
)
"""


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("messaging", "0002_notify_when_a_lock_is_free")]

    operations = [
        # -- conversations ---------------------------------------------------------------------
        AddIndexConcurrently(
            "conversation",
            models.Index(
                F("last_message_at").desc(nulls_last=True),
                F("id").desc(),
                name="conversation_latest",
            ),
        ),
        AddIndexConcurrently(
            "conversation",
            models.Index(
                Coalesce("last_message_at", "created_at").desc(),
                F("id").desc(),
                name="conversation_active",
            ),
        ),
        migrations.RunSQL(SEARCH, "DROP FUNCTION alterna_trigrams"),
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY contact_name_search ON messaging_contact"
            " USING gin (alterna_trigrams(UPPER(name)))",
            "DROP INDEX CONCURRENTLY contact_name_search",
        ),
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY contact_number_search ON messaging_contact"
            " USING gin (alterna_trigrams(phone_number))",
            "DROP INDEX CONCURRENTLY contact_number_search",
        ),
        # -- messages --------------------------------------------------------------------------
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["created_at"],
                condition=Q(
                    Q(decision="") | Q(decision__startswith="waiting_"),
                    direction="out",
                    status__in=["queued", "sending", "unconfirmed", "rejected"],
                ),
                name="message_unfinished_age",
            ),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["status", "created_at"],
                condition=Q(status__in=["queued", "sending", "rejected", "unconfirmed"]),
                name="message_unsent",
            ),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["route", "created_at"],
                condition=Q(route__isnull=False) & ~Q(route="official"),
                name="message_by_fallback",
            ),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["created_at"],
                condition=~Q(decision="")
                & Q(status__in=["rejected", "unconfirmed"], next_attempt_at__isnull=True),
                name="message_attention",
            ),
        ),
        not_null("media"),
        not_null("reply_to"),
        not_null("echo_of"),
        # -- attempts --------------------------------------------------------------------------
        AddIndexConcurrently(
            "deliveryattempt",
            models.Index(
                fields=["confirmed_by"],
                condition=Q(confirmed_by__isnull=False),
                name="attempt_confirmed_by",
            ),
        ),
        AddIndexConcurrently(
            "deliveryattempt",
            models.Index(
                fields=["started_at"], condition=Q(outcome="unknown"), name="attempt_unknown"
            ),
        ),
        # -- the journal -----------------------------------------------------------------------
        file_at("wwebjs", "data__messageMedia__data"),
        file_at("evolution", "data__message__base64"),
        migrations.SeparateDatabaseAndState(
            [
                migrations.RunSQL(
                    "CREATE UNIQUE INDEX CONCURRENTLY inbound_once ON messaging_inboundevent"
                    " (dedupe_key varchar_pattern_ops)",
                    "DROP INDEX CONCURRENTLY inbound_once",
                )
            ],
            [
                migrations.AddConstraint(
                    "inboundevent",
                    models.UniqueConstraint(
                        fields=["dedupe_key"],
                        name="inbound_once",
                        opclasses=["varchar_pattern_ops"],
                    ),
                )
            ],
        ),
        AddIndexConcurrently(
            "pendingevent", models.Index(fields=["received_at"], name="pending_event_received")
        ),
        AddIndexConcurrently(
            "pendingevent",
            models.Index(
                KeyTextTransform("stored", "payload"),
                condition=Q(kind="media"),
                name="pending_event_stored",
            ),
        ),
        AddIndexConcurrently(
            "media",
            models.Index(
                KeyTextTransform("stored", "source"),
                condition=~Q(state="stored"),
                name="media_source_stored",
            ),
        ),
    ]
