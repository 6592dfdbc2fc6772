"""Rows as years of use leave them, made by the database itself: a million messages in minutes."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection, transaction

from channels_app.channels import save_channel
from channels_app.models import Channel, Connection

MESSAGES_PER_CONVERSATION = 20
# The journal holds the events of the newest messages only, because older ones are deleted.
JOURNAL_MESSAGES = 100_000
# What does not grow with the past: messages on their way, more of each problem than a page shows,
# and what one night's clean-up deletes.
UNFINISHED, DUE = 50, 10
PROBLEMS = 60
EXPIRED_EVENTS, EXPIRED_PENDING, ORPHANS = 2_000, 500, 50
DAYS = 180

_NAMES = """
CREATE FUNCTION pg_temp.a_name(n int) RETURNS text LANGUAGE sql AS $$
    SELECT (ARRAY['Ana','Bruno','Carla','Davi','Elisa','Fabio','Gabriela','Heitor','Ines','João',
        'Karina','Lucas','Mariana','Nelson','Olívia','Paulo','Renata','Sérgio','Tânia','Vitor']
        )[1 + n % 20] || ' ' || chr(65 + n % 26) || '. ' ||
        (ARRAY['Alves','Barbosa','Cardoso','Dias','Esteves','Ferreira','Gomes','Henriques','Israel',
        'Jardim','Klein','Lima','Moreira','Nunes','Oliveira','Pereira','Queiroz','Ramos','Silva',
        'Teixeira','Uchoa','Vieira','Xavier','Zanetti'])[1 + (n / 20) % 24] || ' ' || n
$$
"""

# Parameters: first and last number of the new rows, and how many conversations there are.
_STEPS = (
    # -- contacts and conversations ----------------------------------------------------------------
    """
    INSERT INTO messaging_contact (id, phone_number, name, created_at)
    SELECT n, '+55119' || lpad(n::text, 8, '0'), pg_temp.a_name(n), now() - interval '200 days'
    FROM generate_series(%(first_conversation)s, %(conversations)s) n
    """,
    """
    INSERT INTO messaging_contactaddress (contact_id, kind, value, key, scope, created_at)
    SELECT n, 'phone', '+55119' || lpad(n::text, 8, '0'), '+55119' || lpad(n::text, 8, '0'), '',
        now() - interval '200 days'
    FROM generate_series(%(first_conversation)s, %(conversations)s) n
    """,
    """
    INSERT INTO messaging_conversation
        (id, channel_id, contact_id, last_message_at, last_inbound_at, unread_count, created_at)
    SELECT n, (%(channels)s::bigint[])[1 + n %% 5], n, NULL,
        CASE WHEN n %% 10 < 7 THEN now() - random() * interval '100 days' END,
        CASE WHEN n %% 25 = 0 THEN 1 + n %% 4 ELSE 0 END, now() - interval '200 days'
    FROM generate_series(%(first_conversation)s, %(conversations)s) n
    """,
    # -- messages: some conversations have many ----------------------------------------------------
    """
    CREATE TEMPORARY TABLE made ON COMMIT DROP AS
    SELECT n, gen_random_uuid() AS id, c.id AS conversation_id, c.channel_id,
        now() - (r.age * interval '{days} days') - interval '10 minutes' AS at,
        r.direction < 0.6 AS is_out,
        CASE WHEN r.fate < 0.55 THEN 'read' WHEN r.fate < 0.85 THEN 'delivered'
            WHEN r.fate < 0.989 THEN 'sent' WHEN r.fate < 0.999 THEN 'rejected'
            ELSE 'unconfirmed' END AS fate,
        CASE WHEN r.route < 0.92 THEN 'official' WHEN r.route < 0.98 THEN 'wwebjs'
            ELSE 'baileys' END AS route,
        CASE WHEN r.extra < 0.05 THEN gen_random_uuid() END AS media_id,
        r.extra > 0.9 AS has_reference
    FROM generate_series(%(first)s, %(last)s) n
    CROSS JOIN LATERAL (SELECT n AS one, random() AS age, random() AS direction, random() AS fate,
        random() AS route, random() AS extra,
        1 + floor(power(random(), 2) * %(conversations)s)::bigint AS conversation) r
    JOIN messaging_conversation c ON c.id = r.conversation
    """,
    "CREATE INDEX ON made (at)",
    """
    INSERT INTO messaging_media (id, state, file, mime_type, size, filename, sha256, source, tries,
        error_code, error_detail, created_at)
    SELECT media_id, 'stored', 'media/' || replace(media_id::text, '-', '') || '.bin', 'image/jpeg',
        50000, 'photo.jpg', '', CASE WHEN is_out THEN '{{}}' ELSE
        jsonb_build_object('stored', 'inbound/' || n || '.bin') END, 0, '', '', at
    FROM made WHERE media_id IS NOT NULL
    """,
    """
    INSERT INTO messaging_message (id, conversation_id, direction, type, text, content, media_id,
        status, route, error_code, error_title, error_detail, decision, round, round_route,
        round_started_at, faults, version, provider_message_id, message_key, provider_chat,
        sent_outside,
        client_reference, idempotency_key, request_digest, created_by_id, created_at, updated_at)
    SELECT id, conversation_id, CASE WHEN is_out THEN 'out' ELSE 'in' END,
        CASE WHEN media_id IS NULL THEN 'text' ELSE 'image' END,
        repeat('Your order ' || n || ' is on its way. ', 1 + (n %% 5)::int),
        CASE WHEN media_id IS NULL THEN '{{}}' ELSE '{{"caption": "Photo"}}' END::jsonb, media_id,
        CASE WHEN is_out THEN fate ELSE '' END,
        CASE WHEN is_out AND fate <> 'rejected' THEN route END,
        CASE WHEN is_out AND (fate = 'rejected' OR route <> 'official') THEN '131026' ELSE '' END,
        '', '', CASE WHEN is_out AND fate = 'rejected' THEN 'no_fallback'
            WHEN is_out AND fate = 'unconfirmed' THEN 'unconfirmed_hold' ELSE '' END,
        1, 'official', at, 0, 4, CASE WHEN is_out THEN '' ELSE 'wamid.in' || n END,
        CASE WHEN is_out THEN '' ELSE 'wamid.in' || n END, '', false,
        CASE WHEN is_out AND has_reference THEN 'order-' || n ELSE '' END,
        CASE WHEN is_out THEN 'key-' || n ELSE '' END, '',
        CASE WHEN is_out THEN %(user)s END, at, at + interval '5 seconds'
    FROM made ORDER BY at
    """,
    # A fallback comes after a rejection: 1.1 attempts a message.
    """
    INSERT INTO messaging_deliveryattempt (message_id, number, round, connection_id, rule, outcome,
        receipt, error_code, error_title, error_detail, provider_message_id, message_key,
        reserved_id, started_at, finished_at)
    SELECT made.id, 1, 1, official.id, 'first',
        CASE WHEN fate = 'unconfirmed' THEN 'unknown' WHEN fate = 'rejected' OR route <> 'official'
            THEN 'rejected' ELSE 'accepted' END,
        CASE WHEN fate IN ('sent', 'delivered', 'read') AND route = 'official' THEN fate
            ELSE '' END,
        CASE WHEN fate = 'rejected' OR route <> 'official' THEN '131026' ELSE '' END, '', '',
        CASE WHEN route = 'official' AND fate NOT IN ('rejected', 'unconfirmed')
            THEN 'wamid.out' || n ELSE '' END,
        CASE WHEN route = 'official' AND fate NOT IN ('rejected', 'unconfirmed')
            THEN 'wamid.out' || n ELSE '' END,
        '', at + interval '20 ms', at + interval '200 ms'
    FROM made JOIN channels_app_connection official
        ON official.channel_id = made.channel_id AND official.provider = 'official'
    WHERE is_out ORDER BY at
    """,
    """
    INSERT INTO messaging_deliveryattempt (message_id, number, round, connection_id, rule, outcome,
        receipt, error_code, error_title, error_detail, provider_message_id, message_key,
        reserved_id, started_at, finished_at)
    SELECT made.id, 2, 1, session.id, 'rejected', 'accepted', fate, '', '', '',
        'true_' || n || '@c.us_' || n, 'true_' || n || '@c.us_' || n, '',
        at + interval '1 s', at + interval '2 s'
    FROM made JOIN channels_app_connection session
        ON session.channel_id = made.channel_id AND session.provider = 'wwebjs'
    WHERE is_out AND route <> 'official' AND fate NOT IN ('rejected', 'unconfirmed') ORDER BY at
    """,
    """
    UPDATE messaging_conversation c SET last_message_at = latest.at
    FROM (SELECT conversation_id, max(at) AS at FROM made GROUP BY 1) latest
    WHERE c.id = latest.conversation_id
        AND (c.last_message_at IS NULL OR c.last_message_at < latest.at)
    """,
    """
    INSERT INTO messaging_callattempt (conversation_id, channel_id, phone_number, incoming, status,
        video, call_id, version, created_at, updated_at)
    SELECT conversation_id, channel_id, '', true, 'missed', false, 'call' || n, 1, at, at
    FROM made WHERE n %% 100 = 0
    """,
    # -- the journal: four events a message, of the newest messages --------------------------------
    """
    INSERT INTO messaging_inboundevent (source, source_key, dedupe_key, payload, raw_file, state,
        error, skipped, received_at, processed_at)
    SELECT CASE WHEN made.n %% 10 = 0 THEN 'evolution' ELSE 'cloud' END, made.channel_id::text,
        made.channel_id || ':' || md5(made.n::text) || md5(made.n || 'x') || ':' || event,
        CASE WHEN made.n %% 10 = 0 AND event = 1 THEN jsonb_build_object('event', 'messages.upsert',
            'data', jsonb_build_object('message', jsonb_build_object('base64', jsonb_build_object(
                'stored', 'inbound/' || made.n || '.bin', 'size', 50000))))
        ELSE jsonb_build_object('object', 'whatsapp_business_account', 'entry', jsonb_build_array(
            jsonb_build_object('id', '1', 'changes', repeat(md5(made.n::text), 12)))) END,
        '', CASE WHEN made.n %% 20000 = 1 AND event = 1 THEN 'set_aside' ELSE 'done' END, '',
        CASE WHEN made.n %% 500 = 3 AND event = 1 THEN 'event:unknown' ELSE '' END,
        now() - (row_number() OVER (ORDER BY at DESC)) * (interval '{retention} days' * 0.9
            / least(%(last)s, {journal}) / 4), at + interval '1 s'
    FROM (SELECT * FROM made ORDER BY at DESC LIMIT {journal}) made, generate_series(1, 4) event
    """,
    """
    INSERT INTO channels_app_incident (connection_id, kind, code, reason, detail, reason_since,
        first_reason, server_absence, drops, opened_at, last_drop_at, recovered_at, closed_at,
        alerted_at, alerted_reason)
    SELECT (%(connections)s::bigint[])[1 + n %% 5], 'connection', '', 'disconnected', '', now(),
        'disconnected', '', 1, now() - n * interval '1 minute', now() - n * interval '1 minute',
        now(), now(), now(), 'disconnected'
    FROM generate_series(%(first)s / 500, %(last)s / 500) n
    """,
)

# What is the same at every size. The newest messages wait for a retry, a few are due.
_CONSTANT_STEPS = (
    """
    UPDATE messaging_message SET status = 'queued', route = NULL, decision = '', error_code = ''
    WHERE id IN (SELECT id FROM messaging_message WHERE direction = 'out'
        ORDER BY created_at DESC LIMIT {unfinished})
    """,
    """
    DELETE FROM messaging_deliveryattempt WHERE message_id IN
        (SELECT id FROM messaging_message WHERE status = 'queued')
    """,
    """
    UPDATE messaging_message SET status = made.status, decision = made.decision, route = NULL
    FROM (SELECT id, CASE WHEN n <= {problems} THEN 'rejected' ELSE 'unconfirmed' END AS status,
            CASE WHEN n <= {problems} THEN 'no_fallback' ELSE 'unconfirmed_hold' END AS decision
        FROM (SELECT id, row_number() OVER (ORDER BY created_at DESC) AS n FROM messaging_message
            WHERE direction = 'out' AND status <> 'queued'
            ORDER BY created_at DESC LIMIT 2 * {problems}) newest) made
    WHERE made.id = messaging_message.id
    """,
    """
    UPDATE messaging_message
    SET decision = 'waiting_retry', next_attempt_at = now() + interval '1 day'
    WHERE id IN (SELECT id FROM messaging_message WHERE status = 'queued' ORDER BY created_at
        OFFSET {due})
    """,
    """
    INSERT INTO messaging_inboundevent (source, source_key, dedupe_key, payload, raw_file, state,
        error, skipped, received_at, processed_at)
    SELECT 'evolution', '1', 'expired:' || %(last)s || ':' || n,
        CASE WHEN n %% 50 = 0 THEN jsonb_build_object('data', jsonb_build_object('message',
            jsonb_build_object('base64', jsonb_build_object('stored',
            'inbound/expired-' || n || '.bin')))) ELSE '{{"event": "messages.update"}}' END,
        '', 'done', '', '', now() - interval '{retention} days' - interval '1 hour', now()
    FROM generate_series(1, {expired}) n
    """,
    """
    INSERT INTO messaging_pendingevent (channel_id, provider_message_id, kind, payload, received_at)
    SELECT (%(channels)s::bigint[])[1], 'pending' || %(last)s || '-' || n, 'delivered', '{{}}',
        now() - interval '8 days' FROM generate_series(1, {pending}) n
    """,
    """
    INSERT INTO messaging_media (id, state, file, mime_type, size, filename, sha256, source, tries,
        error_code, error_detail, created_at)
    SELECT gen_random_uuid(), 'stored', 'media/orphan-' || %(last)s || '-' || n, 'image/jpeg', 50,
        '', '', '{{}}', 0, '', '', now() - interval '3 days' FROM generate_series(1, {orphans}) n
    """,
)


def fill(messages: int) -> None:
    """Add rows until there are that many messages, and let the planner know of them."""
    with transaction.atomic(), connection.cursor() as cursor:
        channels = _channels()
        cursor.execute("SELECT count(*) FROM messaging_message")
        first = cursor.fetchone()[0] + 1
        cursor.execute("SELECT count(*) FROM messaging_conversation")
        first_conversation = cursor.fetchone()[0] + 1
        primary = Connection.objects.filter(channel__in=channels, provider="official")
        user, _ = get_user_model().objects.get_or_create(
            username="bench", defaults={"is_staff": True, "is_superuser": True}
        )
        values = {
            "first": first,
            "last": messages,
            "first_conversation": first_conversation,
            "conversations": messages // MESSAGES_PER_CONVERSATION,
            "channels": channels,
            "connections": list(primary.order_by("pk").values_list("pk", flat=True)),
            "user": user.pk,
        }
        constants = {
            "days": DAYS,
            "journal": JOURNAL_MESSAGES,
            "retention": settings.INBOUND_RETENTION_DAYS,
            "unfinished": UNFINISHED,
            "problems": PROBLEMS,
            "due": DUE,
            "expired": EXPIRED_EVENTS,
            "pending": EXPIRED_PENDING,
            "orphans": ORPHANS,
        }
        cursor.execute("SELECT setseed(0.5)")
        cursor.execute(_NAMES)
        cursor.execute("DELETE FROM messaging_pendingevent")
        cursor.execute("DELETE FROM messaging_inboundevent WHERE dedupe_key LIKE 'expired:%'")
        cursor.execute("DELETE FROM messaging_media WHERE file LIKE 'media/orphan-%'")
        for step in (*_STEPS, *_CONSTANT_STEPS):
            cursor.execute(step.format(**constants), values)
        cursor.execute("DROP TABLE made")
        for name in ("messaging_contact", "messaging_conversation"):
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), max(id)) FROM {name}"
            )
        cursor.execute("DROP FUNCTION pg_temp.a_name")
        cursor.execute("ANALYZE")


def _channels() -> list[int]:
    """Return five channels, each with an attached session."""
    if not Channel.objects.exists():
        for number in range(1, 6):
            fields: dict[str, Any] = {
                "name": f"Shop {number}",
                "phone_number": f"+551190000000{number}",
                "phone_number_id": str(1000 + number),
                "access_token": "token",
                "app_secret": "secret",
                "verify_token": "verify",
                "graph_url": "http://127.0.0.1:9",
                "fallback": "wwebjs",
                "wwebjs_url": "http://127.0.0.1:9",
                "wwebjs_api_key": "key",
                "wwebjs_session_id": f"SHOP{number}",
            }
            save_channel(Channel(**fields))
        # Nothing is polled while the figures are taken.
        Connection.objects.update(next_poll_at="2100-01-01T00:00:00Z")
    return list(Channel.objects.order_by("pk").values_list("pk", flat=True))
