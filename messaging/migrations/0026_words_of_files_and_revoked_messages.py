from __future__ import annotations

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import Q

# A message that was deleted for everyone has no words.
TRIGGER = """
CREATE OR REPLACE FUNCTION alterna_store_words() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    file text;
    found tsvector := '';
BEGIN
    IF NEW.revoked_at IS NULL THEN
        IF NEW.media_id IS NOT NULL THEN
            SELECT filename INTO file FROM messaging_media WHERE id = NEW.media_id;
        END IF;
        found := alterna_words(
            concat_ws(' ', NEW.text, alterna_content_text(NULLIF(NEW.content, '{}')), file));
    END IF;
    IF TG_OP = 'UPDATE' OR found <> '' THEN
        INSERT INTO messaging_messagewords (message_id, words, created_at)
        VALUES (NEW.id, found, NEW.created_at) ON CONFLICT (message_id)
        DO UPDATE SET words = EXCLUDED.words, created_at = EXCLUDED.created_at;
    END IF;
    RETURN NULL;
END $$
"""
ON_UPDATE = """
CREATE OR REPLACE TRIGGER message_words_of_changed
AFTER UPDATE OF text, content, media_id, created_at, revoked_at ON messaging_message FOR EACH ROW
WHEN ((OLD.text, OLD.content, OLD.media_id, OLD.created_at, OLD.revoked_at)
    IS DISTINCT FROM (NEW.text, NEW.content, NEW.media_id, NEW.created_at, NEW.revoked_at))
EXECUTE FUNCTION alterna_store_words()
"""
# The name of a received file may be known only after its message.
OF_FILE = """
CREATE OR REPLACE FUNCTION alterna_store_words_of_file() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO messaging_messagewords (message_id, words, created_at)
    SELECT one.id, alterna_words(concat_ws(
        ' ', one.text, alterna_content_text(NULLIF(one.content, '{}')), NEW.filename)),
        one.created_at
    FROM messaging_message one WHERE one.media_id = NEW.id AND one.revoked_at IS NULL
    ON CONFLICT (message_id) DO UPDATE SET words = EXCLUDED.words;
    RETURN NULL;
END $$
"""
ON_NAME = """
CREATE OR REPLACE TRIGGER message_words_of_file AFTER UPDATE OF filename ON messaging_media
FOR EACH ROW WHEN (OLD.filename IS DISTINCT FROM NEW.filename)
EXECUTE FUNCTION alterna_store_words_of_file()
"""
# Few messages were deleted: one statement.
FORGET_REVOKED = """
UPDATE messaging_messagewords words SET words = '' FROM messaging_message one
WHERE one.id = words.message_id AND one.revoked_at IS NOT NULL AND words.words <> ''
"""


class Migration(migrations.Migration):
    # The index is made again while others write: a large installation is not locked.
    atomic = False

    dependencies = [("messaging", "0025_given_up_addresses_and_pictures")]

    operations = [
        migrations.RunSQL(TRIGGER, migrations.RunSQL.noop),
        migrations.RunSQL(ON_UPDATE, migrations.RunSQL.noop),
        migrations.RunSQL(OF_FILE, "DROP FUNCTION alterna_store_words_of_file CASCADE"),
        migrations.RunSQL(ON_NAME, migrations.RunSQL.noop),
        migrations.RunSQL(FORGET_REVOKED, migrations.RunSQL.noop),
        RemoveIndexConcurrently("message", "message_with_options"),
        AddIndexConcurrently(
            "message",
            models.Index(
                fields=["conversation", "created_at"],
                condition=Q(direction="out", type__in=["interactive", "template"]),
                name="message_with_options",
            ),
        ),
    ]
