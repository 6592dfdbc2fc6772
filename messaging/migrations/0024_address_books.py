from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """A name belongs to the address book that gave it, and to an address."""

    dependencies = [
        ("channels_app", "0010_team_and_automatic_answers"),
        ("messaging", "0022_message_search"),
    ]
    operations = [
        migrations.CreateModel(
            name="AddressBookEntry",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", models.CharField(db_index=True, max_length=150)),
                ("name", models.CharField(blank=True, max_length=200)),
                ("at", models.DateTimeField()),
                (
                    "channel",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="channels_app.channel",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("channel", "key"), name="address_book_entry_once_per_channel"
                    )
                ],
            },
        ),
        # Only versions that were never released have such names: whose they are is not stored.
        migrations.RunSQL(
            "INSERT INTO messaging_addressbookentry (channel_id, key, name, at)"
            " SELECT first.channel_id, address.key, contact.saved_name, contact.saved_name_at"
            " FROM messaging_contact contact"
            " JOIN messaging_contactaddress address ON address.contact_id = contact.id"
            " JOIN (SELECT contact_id, min(channel_id) AS channel_id FROM messaging_conversation"
            " GROUP BY contact_id) first ON first.contact_id = contact.id"
            " WHERE contact.saved_name_at IS NOT NULL",
            migrations.RunSQL.noop,
        ),
        migrations.RemoveField("contact", "saved_name_at"),
    ]
