from __future__ import annotations

import datetime
import uuid
from typing import Any

import django.contrib.postgres.indexes
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import connection, migrations, models

# Every batch is a transaction of its own, and the whole may be repeated after an interruption.
BATCH = 5_000

ACCENTED = "ÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖÙÚÛÜÝàáâãäåçèéêëìíîïñòóôõöùúûüýÿ"
PLAIN = "aaaaaaceeeeiiiinooooouuuuyaaaaaaceeeeiiiinooooouuuuyy"
MARKS = r"\0300\0301\0302\0303\0308\030A\0327"
# As a literal of SQL: the apostrophe is doubled.
PUNCTUATION = r""".,;:!?/\|@#$%&*()[]{}<>"''`´’‘“”«»–—-_+=~^•…·"""
SPACES = " " * (len(PUNCTUATION) - 1)

# What PostgreSQL's `unaccent` does, which an installation may not have. Most texts have no accent,
# so they need no translation. (core/search_text.py does the same.)
FOLD = f"""
CREATE OR REPLACE FUNCTION alterna_fold(text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE WHEN pg_catalog.octet_length($1) = pg_catalog.length($1) THEN pg_catalog.lower($1)
    ELSE pg_catalog.lower(pg_catalog.translate($1, '{ACCENTED}' || U&'{MARKS}', '{PLAIN}')) END
"""

# The words as they are written, for prefixes, and their stems in Portuguese and English.
# Punctuation would make one word of "budget_may.pdf" and of an address.
WORDS = f"""
CREATE OR REPLACE FUNCTION alterna_words(text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
    plain text := pg_catalog.translate(
        alterna_fold(pg_catalog.left($1, 20000)), '{PUNCTUATION}', '{SPACES}');
BEGIN
    RETURN pg_catalog.strip(pg_catalog.to_tsvector('pg_catalog.simple', plain)
        || pg_catalog.to_tsvector('pg_catalog.portuguese', plain)
        || pg_catalog.to_tsvector('pg_catalog.english', plain));
END $$
"""

# The texts that a person reads in the object of a message; not links, types and identifiers.
CONTENT = """
CREATE OR REPLACE FUNCTION alterna_content_text(jsonb) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (SELECT pg_catalog.string_agg(value #>> '{}', ' ') FROM pg_catalog.jsonb_path_query($1,
    '$.** ? (@.type() == "object").keyvalue() ? (@.key == "caption" || @.key == "filename"
        || @.key == "text" || @.key == "title" || @.key == "name" || @.key == "formatted_name"
        || @.key == "description" || @.key == "address").value ? (@.type() == "string")') value)
"""

TRIGGER = """
CREATE OR REPLACE FUNCTION alterna_store_words() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    file text;
    found tsvector;
BEGIN
    IF NEW.media_id IS NOT NULL THEN
        SELECT filename INTO file FROM messaging_media WHERE id = NEW.media_id;
    END IF;
    found := alterna_words(
        concat_ws(' ', NEW.text, alterna_content_text(NULLIF(NEW.content, '{}')), file));
    IF TG_OP = 'UPDATE' OR found <> '' THEN
        INSERT INTO messaging_messagewords (message_id, words, created_at)
        VALUES (NEW.id, found, NEW.created_at) ON CONFLICT (message_id)
        DO UPDATE SET words = EXCLUDED.words, created_at = EXCLUDED.created_at;
    END IF;
    RETURN NULL;
END $$
"""

ON_INSERT = """
CREATE OR REPLACE TRIGGER message_words_of_new AFTER INSERT ON messaging_message
FOR EACH ROW EXECUTE FUNCTION alterna_store_words()
"""
ON_UPDATE = """
CREATE OR REPLACE TRIGGER message_words_of_changed
AFTER UPDATE OF text, content, media_id, created_at ON messaging_message FOR EACH ROW
WHEN ((OLD.text, OLD.content, OLD.media_id, OLD.created_at)
    IS DISTINCT FROM (NEW.text, NEW.content, NEW.media_id, NEW.created_at))
EXECUTE FUNCTION alterna_store_words()
"""


def store_words(apps: Any, schema_editor: Any) -> None:
    """Store the words of the messages that exist; the triggers store those of new ones.

    The newest first, so that they stand together and are found soon.
    """
    before = (datetime.datetime.max.replace(tzinfo=datetime.UTC), uuid.UUID(int=2**128 - 1))
    with connection.cursor() as cursor:
        while True:
            cursor.execute(
                "SELECT created_at, id FROM messaging_message WHERE created_at <= %s"
                " AND (created_at, id) < (%s, %s)"
                f" ORDER BY created_at DESC, id DESC LIMIT {BATCH}",
                [before[0], *before],
            )
            found = cursor.fetchall()
            if not found:
                break
            cursor.execute(
                "INSERT INTO messaging_messagewords (message_id, words, created_at)"
                " SELECT one.id, alterna_words(concat_ws(' ', one.text,"
                " alterna_content_text(NULLIF(one.content, '{}')), file.filename)), one.created_at"
                " FROM messaging_message one LEFT JOIN messaging_media file"
                " ON file.id = one.media_id WHERE one.id = ANY(%s)"
                " ORDER BY one.created_at DESC ON CONFLICT (message_id) DO NOTHING",
                [[row[1] for row in found]],
            )
            before = found[-1]
        # PostgreSQL would guess wrongly how many messages have a word.
        cursor.execute("ANALYZE messaging_messagewords")


def search_index(name: str, column: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"CREATE INDEX CONCURRENTLY {name} ON messaging_contact"
        f" USING gin (alterna_trigrams(alterna_fold({column})))",
        f"DROP INDEX CONCURRENTLY {name}",
    )


def former_index(name: str, column: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"DROP INDEX CONCURRENTLY IF EXISTS {name}",
        f"CREATE INDEX CONCURRENTLY {name} ON messaging_contact"
        f" USING gin (alterna_trigrams(UPPER({column})))",
    )


class Migration(migrations.Migration):
    # A large installation is not locked. If a step is interrupted, drop the invalid index and
    # start again.
    atomic = False

    dependencies = [("messaging", "0021_inbox_indexes")]

    operations = [
        migrations.RunSQL(FOLD, "DROP FUNCTION alterna_fold"),
        migrations.RunSQL(WORDS, "DROP FUNCTION alterna_words"),
        migrations.RunSQL(CONTENT, "DROP FUNCTION alterna_content_text"),
        migrations.RunSQL(TRIGGER, "DROP FUNCTION alterna_store_words"),
        migrations.RunSQL(ON_INSERT, "DROP TRIGGER message_words_of_new ON messaging_message"),
        migrations.RunSQL(ON_UPDATE, "DROP TRIGGER message_words_of_changed ON messaging_message"),
        migrations.RunPython(store_words, migrations.RunPython.noop),
        AddIndexConcurrently(
            "messagewords",
            django.contrib.postgres.indexes.GinIndex(
                fields=["words"],
                name="message_words",
                fastupdate=True,
                gin_pending_list_limit=512,
            ),
        ),
        AddIndexConcurrently(
            "messagewords", models.Index(fields=["created_at"], name="message_words_latest")
        ),
        search_index("contact_folded_name", "name"),
        search_index("contact_folded_username", "username"),
        former_index("contact_name_search", "name"),
        former_index("contact_username_search", "username"),
    ]
