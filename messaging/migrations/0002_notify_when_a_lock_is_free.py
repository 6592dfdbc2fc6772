from __future__ import annotations

from django.db import migrations

# procrastinate tells its workers of new jobs only. A job that had to wait for its lock is otherwise
# found when a worker next looks by itself, some seconds later.
FORWARD = """
CREATE FUNCTION alterna_notify_lock_is_free() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM procrastinate_jobs WHERE lock = OLD.lock AND status = 'todo') THEN
        PERFORM pg_notify('procrastinate_any_queue_v1', '{"type": "job_inserted"}');
        PERFORM pg_notify(
            'procrastinate_queue_v1#' || OLD.queue_name, '{"type": "job_inserted"}'
        );
    END IF;
    RETURN NULL;
END;
$$;
CREATE TRIGGER alterna_lock_is_free_after_update
    AFTER UPDATE OF status ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.lock IS NOT NULL AND OLD.status = 'doing' AND NEW.status NOT IN ('doing', 'todo'))
    EXECUTE FUNCTION alterna_notify_lock_is_free();
CREATE TRIGGER alterna_lock_is_free_after_delete
    AFTER DELETE ON procrastinate_jobs FOR EACH ROW
    WHEN (OLD.lock IS NOT NULL AND OLD.status = 'doing')
    EXECUTE FUNCTION alterna_notify_lock_is_free();
"""
BACKWARD = """
DROP TRIGGER alterna_lock_is_free_after_update ON procrastinate_jobs;
DROP TRIGGER alterna_lock_is_free_after_delete ON procrastinate_jobs;
DROP FUNCTION alterna_notify_lock_is_free();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("messaging", "0001_release_0_1_0"),
        ("procrastinate", "0041_post_retry_failed_job"),
    ]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
