from __future__ import annotations

from django.db import migrations

# What authenticates events is cached by each web process (messaging/inbound/keys.py). One row holds
# a version that every change replaces in its own transaction, whoever makes it: the cache is exact
# although processes do not notify each other. The value is random, so that it never returns.
FORWARD = """
CREATE TABLE alterna_webhook_keys_version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version uuid NOT NULL
);
INSERT INTO alterna_webhook_keys_version (version) VALUES (gen_random_uuid());
CREATE FUNCTION alterna_replace_webhook_keys_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO alterna_webhook_keys_version (version) VALUES (gen_random_uuid())
        ON CONFLICT (only_row) DO UPDATE SET version = excluded.version;
    RETURN NULL;
END;
$$;
CREATE TRIGGER alterna_webhook_keys_version
    AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF id, kind, active ON channels_app_channel
    FOR EACH STATEMENT EXECUTE FUNCTION alterna_replace_webhook_keys_version();
CREATE TRIGGER alterna_webhook_keys_version
    AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE ON channels_app_cloudcredentials
    FOR EACH STATEMENT EXECUTE FUNCTION alterna_replace_webhook_keys_version();
CREATE TRIGGER alterna_webhook_keys_version
    AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE ON channels_app_wwebjscredentials
    FOR EACH STATEMENT EXECUTE FUNCTION alterna_replace_webhook_keys_version();
CREATE TRIGGER alterna_webhook_keys_version
    AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE ON channels_app_fallbackroute
    FOR EACH STATEMENT EXECUTE FUNCTION alterna_replace_webhook_keys_version();
"""
BACKWARD = """
DROP TRIGGER alterna_webhook_keys_version ON channels_app_channel;
DROP TRIGGER alterna_webhook_keys_version ON channels_app_cloudcredentials;
DROP TRIGGER alterna_webhook_keys_version ON channels_app_wwebjscredentials;
DROP TRIGGER alterna_webhook_keys_version ON channels_app_fallbackroute;
DROP FUNCTION alterna_replace_webhook_keys_version();
DROP TABLE alterna_webhook_keys_version;
"""


class Migration(migrations.Migration):
    dependencies = [("channels_app", "0002_kinds_from_engines")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
