from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import connection, migrations, models
from django.db.models import Q

from channels_app.providers.addresses import named
from channels_app.providers.message_keys import message_key

# Every batch is a transaction of its own, and may be repeated after an interruption.
BATCH = 5_000


def batches(model: Any) -> Iterator[list[Any]]:
    """Yield the rows of a table in the order of their keys."""
    last = None
    while True:
        rows = model.objects.order_by("pk")
        batch = list((rows if last is None else rows.filter(pk__gt=last))[:BATCH])
        if not batch:
            return
        yield batch
        last = batch[-1].pk


def add_addresses(apps: Any, schema_editor: Any) -> None:
    """Make the addresses of the contacts.

    Until now, contacts were one only if their numbers were spelled alike or were Brazilian. Where
    several have one number, none gets the address: the next event about it joins them.
    """
    Contact = apps.get_model("messaging", "Contact")
    Address = apps.get_model("messaging", "ContactAddress")
    owners: dict[str, int] = {}
    shared: set[str] = set()
    for batch in batches(Contact):
        made = []
        for contact in batch:
            for address in named(
                phone_number=contact.phone_number or "", user_id=contact.user_id or ""
            ):
                if owners.setdefault(address.key, contact.pk) != contact.pk:
                    shared.add(address.key)
                    continue
                made.append(
                    Address(
                        contact_id=contact.pk,
                        kind=address.kind.value,
                        value=address.value,
                        key=address.key,
                    )
                )
        Address.objects.bulk_create(made, ignore_conflicts=True)
    Address.objects.filter(key__in=shared).delete()


def add_keys(apps: Any, schema_editor: Any) -> None:
    """Store the keys of messages and attempts."""
    for model in ("message", "deliveryattempt"):
        _store_keys(f"messaging_{model}")
    _store_keys_of_pending_events(apps.get_model("messaging", "PendingEvent"))


def _store_keys(table: str) -> None:
    """Walk through the ids by their index."""
    last = ""
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                f"SELECT DISTINCT provider_message_id FROM {table}"  # noqa: S608
                " WHERE provider_message_id <> '' AND provider_message_id > %s"
                f" ORDER BY provider_message_id LIMIT {BATCH}",
                [last],
            )
            ids = [row[0] for row in cursor.fetchall()]
            if not ids:
                return
            cursor.execute(
                f"UPDATE {table} SET message_key = named.message_key"  # noqa: S608
                " FROM unnest(%s::text[], %s::text[]) AS named(id, message_key)"
                f" WHERE {table}.provider_message_id = named.id AND {table}.message_key = ''"
                # Without it, no index is used.
                f" AND {table}.provider_message_id <> ''",
                [ids, [message_key(one) for one in ids]],
            )
            last = ids[-1]


def _store_keys_of_pending_events(PendingEvent: Any) -> None:
    """Events that wait for their message wait for its key. They do so for a week at most."""
    for event in PendingEvent.objects.filter(provider_message_id__startswith="wamid."):
        key = message_key(event.provider_message_id)
        same = PendingEvent.objects.filter(
            channel=event.channel_id, kind=event.kind, provider_message_id=key
        )
        if key != event.provider_message_id and not same.exists():
            PendingEvent.objects.filter(pk=event.pk).update(provider_message_id=key)


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("messaging", "0010_contact_addresses")]

    operations = [
        migrations.RunPython(add_addresses, migrations.RunPython.noop),
        migrations.RunPython(add_keys, migrations.RunPython.noop),
        # A search finds any number and the username (alterna_trigrams: migration 0003).
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY contact_address_search ON messaging_contactaddress"
            " USING gin (alterna_trigrams(value))",
            "DROP INDEX CONCURRENTLY contact_address_search",
        ),
        migrations.RunSQL(
            "CREATE INDEX CONCURRENTLY contact_username_search ON messaging_contact"
            " USING gin (alterna_trigrams(UPPER(username)))",
            "DROP INDEX CONCURRENTLY contact_username_search",
        ),
        migrations.RunSQL(
            "DROP INDEX CONCURRENTLY IF EXISTS contact_number_search",
            "CREATE INDEX CONCURRENTLY contact_number_search ON messaging_contact"
            " USING gin (alterna_trigrams(phone_number))",
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["message_key"], condition=~Q(message_key=""), name="message_by_key"
            ),
        ),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["merged_from"],
                condition=Q(merged_from__isnull=False),
                name="message_merged_from",
            ),
        ),
        AddIndexConcurrently(
            "deliveryattempt",
            models.Index(
                fields=["message_key"], condition=~Q(message_key=""), name="attempt_by_key"
            ),
        ),
        AddIndexConcurrently(
            "callattempt",
            models.Index(
                fields=["merged_from"],
                condition=Q(merged_from__isnull=False),
                name="call_merged_from",
            ),
        ),
    ]
