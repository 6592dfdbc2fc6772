--
-- PostgreSQL database dump
--


-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: procrastinate_job_event_type; Type: TYPE; Schema: public; Owner: -
--

CREATE TYPE public.procrastinate_job_event_type AS ENUM (
    'deferred',
    'started',
    'deferred_for_retry',
    'failed',
    'succeeded',
    'cancelled',
    'abort_requested',
    'aborted',
    'scheduled',
    'retried'
);


--
-- Name: procrastinate_job_status; Type: TYPE; Schema: public; Owner: -
--

CREATE TYPE public.procrastinate_job_status AS ENUM (
    'todo',
    'doing',
    'succeeded',
    'failed',
    'cancelled',
    'aborting',
    'aborted'
);


--
-- Name: procrastinate_job_to_defer_v1; Type: TYPE; Schema: public; Owner: -
--

CREATE TYPE public.procrastinate_job_to_defer_v1 AS (
	queue_name character varying,
	task_name character varying,
	priority integer,
	lock text,
	queueing_lock text,
	args jsonb,
	scheduled_at timestamp with time zone
);


--
-- Name: alterna_notify_lock_is_free(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.alterna_notify_lock_is_free() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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


--
-- Name: procrastinate_cancel_job_v1(bigint, boolean, boolean); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_cancel_job_v1(job_id bigint, abort boolean, delete_job boolean) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
BEGIN
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status = 'todo'
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        IF abort THEN
            UPDATE procrastinate_jobs
            SET abort_requested = true,
                status = CASE status
                    WHEN 'todo' THEN 'cancelled'::procrastinate_job_status ELSE status
                END
            WHERE id = job_id AND status IN ('todo', 'doing')
            RETURNING id INTO _job_id;
        ELSE
            UPDATE procrastinate_jobs
            SET status = 'cancelled'::procrastinate_job_status
            WHERE id = job_id AND status = 'todo'
            RETURNING id INTO _job_id;
        END IF;
    END IF;
    RETURN _job_id;
END;
$$;


--
-- Name: procrastinate_defer_jobs_v1(public.procrastinate_job_to_defer_v1[]); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_defer_jobs_v1(jobs public.procrastinate_job_to_defer_v1[]) RETURNS bigint[]
    LANGUAGE plpgsql
    AS $$
DECLARE
    job_ids bigint[];
BEGIN
    WITH inserted_jobs AS (
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, queueing_lock, args, scheduled_at)
        SELECT (job).queue_name,
               (job).task_name,
               (job).priority,
               (job).lock,
               (job).queueing_lock,
               (job).args,
               (job).scheduled_at
        FROM unnest(jobs) AS job
        RETURNING id
    )
    SELECT array_agg(id) FROM inserted_jobs INTO job_ids;

    RETURN job_ids;
END;
$$;


--
-- Name: procrastinate_defer_periodic_job_v2(character varying, character varying, character varying, character varying, integer, character varying, bigint, jsonb); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_defer_periodic_job_v2(_queue_name character varying, _lock character varying, _queueing_lock character varying, _task_name character varying, _priority integer, _periodic_id character varying, _defer_timestamp bigint, _args jsonb) RETURNS bigint
    LANGUAGE plpgsql
    AS $$
DECLARE
	_job_id bigint;
	_defer_id bigint;
BEGIN
    INSERT
        INTO procrastinate_periodic_defers (task_name, periodic_id, defer_timestamp)
        VALUES (_task_name, _periodic_id, _defer_timestamp)
        ON CONFLICT DO NOTHING
        RETURNING id into _defer_id;

    IF _defer_id IS NULL THEN
        RETURN NULL;
    END IF;

    UPDATE procrastinate_periodic_defers
        SET job_id = (
            SELECT COALESCE((
                SELECT unnest(procrastinate_defer_jobs_v1(
                    ARRAY[
                        ROW(
                            _queue_name,
                            _task_name,
                            _priority,
                            _lock,
                            _queueing_lock,
                            _args,
                            NULL::timestamptz
                        )
                    ]::procrastinate_job_to_defer_v1[]
                ))
            ), NULL)
        )
        WHERE id = _defer_id
        RETURNING job_id INTO _job_id;

    DELETE
        FROM procrastinate_periodic_defers
        USING (
            SELECT id
            FROM procrastinate_periodic_defers
            WHERE procrastinate_periodic_defers.task_name = _task_name
            AND procrastinate_periodic_defers.periodic_id = _periodic_id
            AND procrastinate_periodic_defers.defer_timestamp < _defer_timestamp
            ORDER BY id
            FOR UPDATE
        ) to_delete
        WHERE procrastinate_periodic_defers.id = to_delete.id;

    RETURN _job_id;
END;
$$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: procrastinate_jobs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.procrastinate_jobs (
    id bigint NOT NULL,
    queue_name character varying(128) NOT NULL,
    task_name character varying(128) NOT NULL,
    lock text,
    args jsonb DEFAULT '{}'::jsonb NOT NULL,
    status public.procrastinate_job_status DEFAULT 'todo'::public.procrastinate_job_status NOT NULL,
    scheduled_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    queueing_lock text,
    priority integer DEFAULT 0 NOT NULL,
    abort_requested boolean DEFAULT false NOT NULL,
    worker_id bigint,
    CONSTRAINT check_not_todo_abort_requested CHECK ((NOT ((status = 'todo'::public.procrastinate_job_status) AND (abort_requested = true))))
);


--
-- Name: procrastinate_fetch_job_v2(character varying[], bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_fetch_job_v2(target_queue_names character varying[], p_worker_id bigint) RETURNS public.procrastinate_jobs
    LANGUAGE plpgsql
    AS $$
DECLARE
	found_jobs procrastinate_jobs;
BEGIN
    WITH candidate AS (
        SELECT jobs.*
            FROM procrastinate_jobs AS jobs
            WHERE
                -- reject the job if its lock has earlier or higher priority jobs
                NOT EXISTS (
                    SELECT 1
                        FROM procrastinate_jobs AS other_jobs
                        WHERE
                            jobs.lock IS NOT NULL
                            AND other_jobs.lock = jobs.lock
                            AND (
                                -- job with same lock is already running
                                other_jobs.status = 'doing'
                                OR
                                -- job with same lock is waiting and has higher priority (or same priority but was queued first)
                                (
                                    other_jobs.status = 'todo'
                                    AND (
                                        other_jobs.priority > jobs.priority
                                        OR (
                                        other_jobs.priority = jobs.priority
                                        AND other_jobs.id < jobs.id
                                        )
                                    )
                                )
                            )
                )
                AND jobs.status = 'todo'
                AND (target_queue_names IS NULL OR jobs.queue_name = ANY( target_queue_names ))
                AND (jobs.scheduled_at IS NULL OR jobs.scheduled_at <= now())
            ORDER BY jobs.priority DESC, jobs.id ASC LIMIT 1
            FOR UPDATE OF jobs SKIP LOCKED
    )
    UPDATE procrastinate_jobs
        SET status = 'doing', worker_id = p_worker_id
        FROM candidate
        WHERE procrastinate_jobs.id = candidate.id
        RETURNING procrastinate_jobs.* INTO found_jobs;

 RETURN found_jobs;
END;
$$;


--
-- Name: procrastinate_finish_job_v1(bigint, public.procrastinate_job_status, boolean); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_finish_job_v1(job_id bigint, end_status public.procrastinate_job_status, delete_job boolean) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
BEGIN
    IF end_status NOT IN ('succeeded', 'failed', 'aborted') THEN
        RAISE 'End status should be either "succeeded", "failed" or "aborted" (job id: %)', job_id;
    END IF;
    IF delete_job THEN
        DELETE FROM procrastinate_jobs
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = end_status,
            abort_requested = false,
            attempts = CASE status
                WHEN 'doing' THEN attempts + 1 ELSE attempts
            END
        WHERE id = job_id AND status IN ('todo', 'doing')
        RETURNING id INTO _job_id;
    END IF;
    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" or "todo" status (job id: %)', job_id;
    END IF;
END;
$$;


--
-- Name: procrastinate_notify_queue_abort_job_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_notify_queue_abort_job_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'abort_job_requested', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;


--
-- Name: procrastinate_notify_queue_job_inserted_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_notify_queue_job_inserted_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    payload TEXT;
BEGIN
    SELECT json_build_object('type', 'job_inserted', 'job_id', NEW.id)::text INTO payload;
	PERFORM pg_notify('procrastinate_queue_v1#' || NEW.queue_name, payload);
	PERFORM pg_notify('procrastinate_any_queue_v1', payload);
	RETURN NEW;
END;
$$;


--
-- Name: procrastinate_prune_stalled_workers_v1(double precision); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_prune_stalled_workers_v1(seconds_since_heartbeat double precision) RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN QUERY
    DELETE FROM procrastinate_workers
    WHERE last_heartbeat < NOW() - (seconds_since_heartbeat || 'SECOND')::INTERVAL
    RETURNING procrastinate_workers.id;
END;
$$;


--
-- Name: procrastinate_register_worker_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_register_worker_v1() RETURNS TABLE(worker_id bigint)
    LANGUAGE plpgsql
    AS $$
BEGIN
    RETURN QUERY
    INSERT INTO procrastinate_workers DEFAULT VALUES
    RETURNING procrastinate_workers.id;
END;
$$;


--
-- Name: procrastinate_retry_job_v1(bigint, timestamp with time zone, integer, character varying, character varying); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_retry_job_v1(job_id bigint, retry_at timestamp with time zone, new_priority integer, new_queue_name character varying, new_lock character varying) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
    _abort_requested boolean;
BEGIN
    SELECT abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status = 'doing'
    FOR UPDATE
    INTO _abort_requested;
    IF _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or not in "doing" status (job id: %)', job_id;
    END IF;
END;
$$;


--
-- Name: procrastinate_retry_job_v2(bigint, timestamp with time zone, integer, character varying, character varying); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_retry_job_v2(job_id bigint, retry_at timestamp with time zone, new_priority integer, new_queue_name character varying, new_lock character varying) RETURNS void
    LANGUAGE plpgsql
    AS $$
DECLARE
    _job_id bigint;
    _abort_requested boolean;
    _current_status procrastinate_job_status;
BEGIN
    SELECT status, abort_requested FROM procrastinate_jobs
    WHERE id = job_id AND status IN ('doing', 'failed')
    FOR UPDATE
    INTO _current_status, _abort_requested;
    IF _current_status = 'doing' AND _abort_requested THEN
        UPDATE procrastinate_jobs
        SET status = 'failed'::procrastinate_job_status
        WHERE id = job_id AND status = 'doing'
        RETURNING id INTO _job_id;
    ELSE
        UPDATE procrastinate_jobs
        SET status = 'todo'::procrastinate_job_status,
            attempts = attempts + 1,
            scheduled_at = retry_at,
            priority = COALESCE(new_priority, priority),
            queue_name = COALESCE(new_queue_name, queue_name),
            lock = COALESCE(new_lock, lock)
        WHERE id = job_id AND status IN ('doing', 'failed')
        RETURNING id INTO _job_id;
    END IF;

    IF _job_id IS NULL THEN
        RAISE 'Job was not found or has an invalid status to retry (job id: %)', job_id;
    END IF;

END;
$$;


--
-- Name: procrastinate_trigger_abort_requested_events_procedure_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_trigger_abort_requested_events_procedure_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'abort_requested'::procrastinate_job_event_type);
    RETURN NEW;
END;
$$;


--
-- Name: procrastinate_trigger_function_scheduled_events_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_trigger_function_scheduled_events_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type, at)
        VALUES (NEW.id, 'scheduled'::procrastinate_job_event_type, NEW.scheduled_at);

	RETURN NEW;
END;
$$;


--
-- Name: procrastinate_trigger_function_status_events_insert_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_trigger_function_status_events_insert_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO procrastinate_events(job_id, type)
        VALUES (NEW.id, 'deferred'::procrastinate_job_event_type);
	RETURN NEW;
END;
$$;


--
-- Name: procrastinate_trigger_function_status_events_update_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_trigger_function_status_events_update_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    WITH t AS (
        SELECT CASE
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND NEW.status = 'doing'::procrastinate_job_status
                THEN 'started'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'deferred_for_retry'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'failed'::procrastinate_job_status
                THEN 'failed'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'succeeded'::procrastinate_job_status
                THEN 'succeeded'::procrastinate_job_event_type
            WHEN OLD.status = 'todo'::procrastinate_job_status
                AND (
                    NEW.status = 'cancelled'::procrastinate_job_status
                    OR NEW.status = 'failed'::procrastinate_job_status
                    OR NEW.status = 'succeeded'::procrastinate_job_status
                )
                THEN 'cancelled'::procrastinate_job_event_type
            WHEN OLD.status = 'doing'::procrastinate_job_status
                AND NEW.status = 'aborted'::procrastinate_job_status
                THEN 'aborted'::procrastinate_job_event_type
            WHEN OLD.status = 'failed'::procrastinate_job_status
                AND NEW.status = 'todo'::procrastinate_job_status
                THEN 'retried'::procrastinate_job_event_type
            ELSE NULL
        END as event_type
    )
    INSERT INTO procrastinate_events(job_id, type)
        SELECT NEW.id, t.event_type
        FROM t
        WHERE t.event_type IS NOT NULL;
	RETURN NEW;
END;
$$;


--
-- Name: procrastinate_unlink_periodic_defers_v1(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_unlink_periodic_defers_v1() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE procrastinate_periodic_defers
    SET job_id = NULL
    WHERE job_id = OLD.id;
    RETURN OLD;
END;
$$;


--
-- Name: procrastinate_unregister_worker_v1(bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_unregister_worker_v1(worker_id bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    DELETE FROM procrastinate_workers
    WHERE id = worker_id;
END;
$$;


--
-- Name: procrastinate_update_heartbeat_v1(bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.procrastinate_update_heartbeat_v1(worker_id bigint) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    UPDATE procrastinate_workers
    SET last_heartbeat = NOW()
    WHERE id = worker_id;
END;
$$;


--
-- Name: accounts_apitoken; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.accounts_apitoken (
    digest character varying(128) NOT NULL,
    token_key character varying(25) NOT NULL,
    created timestamp with time zone NOT NULL,
    expiry timestamp with time zone,
    name character varying(100) NOT NULL,
    user_id integer NOT NULL
);


--
-- Name: auth_group; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.auth_group (
    id integer NOT NULL,
    name character varying(150) NOT NULL
);


--
-- Name: auth_group_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.auth_group ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_group_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: auth_group_permissions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.auth_group_permissions (
    id bigint NOT NULL,
    group_id integer NOT NULL,
    permission_id integer NOT NULL
);


--
-- Name: auth_group_permissions_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.auth_group_permissions ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_group_permissions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: auth_permission; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.auth_permission (
    id integer NOT NULL,
    name character varying(255) NOT NULL,
    content_type_id integer NOT NULL,
    codename character varying(100) NOT NULL
);


--
-- Name: auth_permission_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.auth_permission ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_permission_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: auth_user; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.auth_user (
    id integer NOT NULL,
    password character varying(128) NOT NULL,
    last_login timestamp with time zone,
    is_superuser boolean NOT NULL,
    username character varying(150) NOT NULL,
    first_name character varying(150) NOT NULL,
    last_name character varying(150) NOT NULL,
    email character varying(254) NOT NULL,
    is_staff boolean NOT NULL,
    is_active boolean NOT NULL,
    date_joined timestamp with time zone NOT NULL
);


--
-- Name: auth_user_groups; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.auth_user_groups (
    id bigint NOT NULL,
    user_id integer NOT NULL,
    group_id integer NOT NULL
);


--
-- Name: auth_user_groups_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.auth_user_groups ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_user_groups_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: auth_user_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.auth_user ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_user_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: auth_user_user_permissions; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.auth_user_user_permissions (
    id bigint NOT NULL,
    user_id integer NOT NULL,
    permission_id integer NOT NULL
);


--
-- Name: auth_user_user_permissions_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.auth_user_user_permissions ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.auth_user_user_permissions_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: axes_accessattempt; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.axes_accessattempt (
    id integer NOT NULL,
    user_agent character varying(255) NOT NULL,
    ip_address inet,
    username character varying(255),
    http_accept character varying(1025) NOT NULL,
    path_info character varying(255) NOT NULL,
    attempt_time timestamp with time zone NOT NULL,
    get_data text NOT NULL,
    post_data text NOT NULL,
    failures_since_start integer NOT NULL,
    CONSTRAINT axes_accessattempt_failures_since_start_check CHECK ((failures_since_start >= 0))
);


--
-- Name: axes_accessattempt_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.axes_accessattempt ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.axes_accessattempt_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: axes_accessattemptexpiration; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.axes_accessattemptexpiration (
    access_attempt_id integer NOT NULL,
    expires_at timestamp with time zone NOT NULL
);


--
-- Name: axes_accessfailurelog; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.axes_accessfailurelog (
    id integer NOT NULL,
    user_agent character varying(255) NOT NULL,
    ip_address inet,
    username character varying(255),
    http_accept character varying(1025) NOT NULL,
    path_info character varying(255) NOT NULL,
    attempt_time timestamp with time zone NOT NULL,
    locked_out boolean NOT NULL
);


--
-- Name: axes_accessfailurelog_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.axes_accessfailurelog ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.axes_accessfailurelog_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: axes_accesslog; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.axes_accesslog (
    id integer NOT NULL,
    user_agent character varying(255) NOT NULL,
    ip_address inet,
    username character varying(255),
    http_accept character varying(1025) NOT NULL,
    path_info character varying(255) NOT NULL,
    attempt_time timestamp with time zone NOT NULL,
    logout_time timestamp with time zone,
    session_hash character varying(64) NOT NULL
);


--
-- Name: axes_accesslog_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.axes_accesslog ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.axes_accesslog_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: channels_app_channel; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.channels_app_channel (
    id bigint NOT NULL,
    name character varying(100) NOT NULL,
    kind character varying(10) NOT NULL,
    phone_number character varying(20) NOT NULL,
    active boolean NOT NULL,
    ignore_messages_sent_outside boolean NOT NULL,
    official_retries smallint NOT NULL,
    request_timeout_seconds smallint NOT NULL,
    confirm_seconds smallint NOT NULL,
    on_unconfirmed character varying(10) NOT NULL,
    fallback_max_age_minutes integer NOT NULL,
    fallback_per_minute smallint NOT NULL,
    fallback_new_chats_per_day integer NOT NULL,
    fallback_despite_limits boolean NOT NULL,
    messages_per_second smallint NOT NULL,
    calls_api_key text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    CONSTRAINT channels_app_channel_confirm_seconds_check CHECK ((confirm_seconds >= 0)),
    CONSTRAINT channels_app_channel_fallback_max_age_minutes_check CHECK ((fallback_max_age_minutes >= 0)),
    CONSTRAINT channels_app_channel_fallback_new_chats_per_day_check CHECK ((fallback_new_chats_per_day >= 0)),
    CONSTRAINT channels_app_channel_fallback_per_minute_check CHECK ((fallback_per_minute >= 0)),
    CONSTRAINT channels_app_channel_messages_per_second_check CHECK ((messages_per_second >= 0)),
    CONSTRAINT channels_app_channel_official_retries_check CHECK ((official_retries >= 0)),
    CONSTRAINT channels_app_channel_request_timeout_seconds_check CHECK ((request_timeout_seconds >= 0))
);


--
-- Name: channels_app_channel_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.channels_app_channel ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.channels_app_channel_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: channels_app_cloudcredentials; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.channels_app_cloudcredentials (
    channel_id bigint NOT NULL,
    graph_url character varying(200) NOT NULL,
    graph_version character varying(10) NOT NULL,
    phone_number_id character varying(32) NOT NULL,
    business_account_id character varying(32) NOT NULL,
    access_token text NOT NULL,
    app_secret text NOT NULL,
    verify_token text NOT NULL
);


--
-- Name: channels_app_connection; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.channels_app_connection (
    id bigint NOT NULL,
    provider character varying(10) NOT NULL,
    state character varying(16) NOT NULL,
    state_code character varying(40) NOT NULL,
    state_detail character varying(300) NOT NULL,
    state_changed_at timestamp with time zone,
    address character varying(520) NOT NULL,
    checked_at timestamp with time zone,
    next_poll_at timestamp with time zone,
    commanded_at timestamp with time zone,
    own_number character varying(20) NOT NULL,
    profile_name character varying(100) NOT NULL,
    qr_digest character varying(64) NOT NULL,
    qr_seen_at timestamp with time zone,
    server_state character varying(10) NOT NULL,
    server_state_reason character varying(200) NOT NULL,
    server_state_changed_at timestamp with time zone,
    keep_connected boolean NOT NULL,
    serving boolean NOT NULL,
    last_ready_at timestamp with time zone,
    recovery_attempts smallint NOT NULL,
    recovery_attempted_at timestamp with time zone,
    local_reason character varying(40) NOT NULL,
    local_reason_detail character varying(300) NOT NULL,
    callback_reason character varying(40) NOT NULL,
    callback_reason_at timestamp with time zone,
    start_requested_at timestamp with time zone,
    stopped boolean NOT NULL,
    unlink_requested_at timestamp with time zone,
    unlink_failed boolean NOT NULL,
    linking_since timestamp with time zone,
    quiet_until timestamp with time zone,
    slow_checks smallint NOT NULL,
    missing_since timestamp with time zone,
    syncing_since timestamp with time zone,
    dead_since timestamp with time zone,
    closed_since timestamp with time zone,
    last_drop_at timestamp with time zone,
    last_drop_reason character varying(40) NOT NULL,
    linked_number character varying(20) NOT NULL,
    confirmed_number character varying(20) NOT NULL,
    number_checked_at timestamp with time zone,
    page_number character varying(20) NOT NULL,
    number_seen_at timestamp with time zone,
    takes_message_ids boolean NOT NULL,
    coexistence boolean,
    health character varying(10) NOT NULL,
    health_detail character varying(300) NOT NULL,
    health_changed_at timestamp with time zone,
    breaker_opened_at timestamp with time zone,
    breaker_code character varying(64) NOT NULL,
    breaker_late boolean NOT NULL,
    breaker_probe_at timestamp with time zone,
    breaker_probes smallint NOT NULL,
    new_chats_stopped_until timestamp with time zone,
    new_chats_lifted_at timestamp with time zone,
    channel_id bigint NOT NULL,
    new_chats_lifted_by_id integer,
    CONSTRAINT channels_app_connection_breaker_probes_check CHECK ((breaker_probes >= 0)),
    CONSTRAINT channels_app_connection_recovery_attempts_check CHECK ((recovery_attempts >= 0)),
    CONSTRAINT channels_app_connection_slow_checks_check CHECK ((slow_checks >= 0))
);


--
-- Name: channels_app_connection_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.channels_app_connection ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.channels_app_connection_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: channels_app_evolutioncredentials; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.channels_app_evolutioncredentials (
    channel_id bigint NOT NULL,
    url character varying(200) NOT NULL,
    api_key text NOT NULL,
    instance_name character varying(255) NOT NULL
);


--
-- Name: channels_app_fallbackroute; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.channels_app_fallbackroute (
    id bigint NOT NULL,
    "position" smallint NOT NULL,
    channel_id bigint NOT NULL,
    connection_id bigint NOT NULL,
    CONSTRAINT channels_app_fallbackroute_position_check CHECK (("position" >= 0)),
    CONSTRAINT fallback_route_position_from_1 CHECK (("position" >= 1))
);


--
-- Name: channels_app_fallbackroute_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.channels_app_fallbackroute ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.channels_app_fallbackroute_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: channels_app_incident; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.channels_app_incident (
    id bigint NOT NULL,
    kind character varying(16) NOT NULL,
    code character varying(64) NOT NULL,
    reason character varying(64) NOT NULL,
    detail character varying(300) NOT NULL,
    reason_since timestamp with time zone,
    first_reason character varying(64) NOT NULL,
    server_absence character varying(12) NOT NULL,
    drops integer NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    last_drop_at timestamp with time zone NOT NULL,
    recovered_at timestamp with time zone,
    closed_at timestamp with time zone,
    alerted_at timestamp with time zone,
    alerted_reason character varying(64) NOT NULL,
    updated_alert_at timestamp with time zone,
    end_alerted_at timestamp with time zone,
    connection_id bigint NOT NULL,
    CONSTRAINT channels_app_incident_drops_check CHECK ((drops >= 0))
);


--
-- Name: channels_app_incident_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.channels_app_incident ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.channels_app_incident_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: channels_app_resolvednumber; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.channels_app_resolvednumber (
    id bigint NOT NULL,
    number character varying(20) NOT NULL,
    chat_id character varying(255) NOT NULL,
    lid character varying(64) NOT NULL,
    found_at timestamp with time zone NOT NULL,
    connection_id bigint NOT NULL
);


--
-- Name: channels_app_resolvednumber_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.channels_app_resolvednumber ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.channels_app_resolvednumber_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: channels_app_wwebjscredentials; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.channels_app_wwebjscredentials (
    channel_id bigint NOT NULL,
    url character varying(200) NOT NULL,
    api_key text NOT NULL,
    session_id character varying(64) NOT NULL
);


--
-- Name: django_admin_log; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.django_admin_log (
    id integer NOT NULL,
    action_time timestamp with time zone NOT NULL,
    object_id text,
    object_repr character varying(200) NOT NULL,
    action_flag smallint NOT NULL,
    change_message text NOT NULL,
    content_type_id integer,
    user_id integer NOT NULL,
    CONSTRAINT django_admin_log_action_flag_check CHECK ((action_flag >= 0))
);


--
-- Name: django_admin_log_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.django_admin_log ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.django_admin_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: django_content_type; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.django_content_type (
    id integer NOT NULL,
    app_label character varying(100) NOT NULL,
    model character varying(100) NOT NULL
);


--
-- Name: django_content_type_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.django_content_type ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.django_content_type_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: django_migrations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.django_migrations (
    id bigint NOT NULL,
    app character varying(255) NOT NULL,
    name character varying(255) NOT NULL,
    applied timestamp with time zone NOT NULL
);


--
-- Name: django_migrations_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.django_migrations ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.django_migrations_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: django_session; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.django_session (
    session_key character varying(40) NOT NULL,
    session_data text NOT NULL,
    expire_date timestamp with time zone NOT NULL
);


--
-- Name: instances_backfill; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.instances_backfill (
    id bigint NOT NULL,
    reason character varying(20) NOT NULL,
    since timestamp with time zone NOT NULL,
    messages integer NOT NULL,
    at timestamp with time zone NOT NULL,
    session_id bigint NOT NULL,
    CONSTRAINT instances_backfill_messages_check CHECK ((messages >= 0))
);


--
-- Name: instances_backfill_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.instances_backfill ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.instances_backfill_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: instances_listenerprocess; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.instances_listenerprocess (
    id bigint NOT NULL,
    name character varying(200) NOT NULL,
    started_at timestamp with time zone NOT NULL,
    seen_at timestamp with time zone NOT NULL
);


--
-- Name: instances_listenerprocess_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.instances_listenerprocess ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.instances_listenerprocess_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: instances_profilepicture; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.instances_profilepicture (
    id bigint NOT NULL,
    url character varying(500) NOT NULL,
    content bytea NOT NULL,
    content_type character varying(20) NOT NULL,
    fetched_at timestamp with time zone NOT NULL,
    connection_id bigint NOT NULL
);


--
-- Name: instances_profilepicture_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.instances_profilepicture ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.instances_profilepicture_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: instances_receivemodechange; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.instances_receivemodechange (
    id bigint NOT NULL,
    from_mode character varying(10) NOT NULL,
    to_mode character varying(10) NOT NULL,
    source character varying(10) NOT NULL,
    result character varying(10) NOT NULL,
    detail character varying(500) NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    cancelled_by_id integer,
    user_id integer,
    session_id bigint NOT NULL
);


--
-- Name: instances_receivemodechange_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.instances_receivemodechange ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.instances_receivemodechange_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: instances_whatsappsession; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.instances_whatsappsession (
    id bigint NOT NULL,
    webhook_enabled boolean NOT NULL,
    websocket_enabled boolean NOT NULL,
    webhook_url character varying(200),
    webhook_base64 boolean,
    wants_base64 boolean NOT NULL,
    webhook_secret text NOT NULL,
    webhook_secret_digest character varying(64) NOT NULL,
    global_events boolean NOT NULL,
    switching_to character varying(10) NOT NULL,
    switching_phase character varying(10) NOT NULL,
    switching_since timestamp with time zone,
    history_before timestamp with time zone,
    listener_connected boolean NOT NULL,
    listener_seen_at timestamp with time zone,
    listener_note character varying(200) NOT NULL,
    caught_up_at timestamp with time zone,
    proven_at timestamp with time zone,
    gap_since timestamp with time zone,
    gap_reason character varying(20) NOT NULL,
    gap_noted_at timestamp with time zone,
    gap_fetch_at timestamp with time zone,
    gap_tries smallint NOT NULL,
    gap_error character varying(300) NOT NULL,
    opened_at timestamp with time zone,
    backlog_since timestamp with time zone,
    stores_messages boolean,
    look_at timestamp with time zone,
    found_webhook boolean,
    found_websocket boolean,
    found_at timestamp with time zone,
    found_error character varying(300) NOT NULL,
    in_sync boolean,
    found_differs character varying(200) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    channel_id bigint NOT NULL,
    switching_change_id bigint,
    CONSTRAINT instances_whatsappsession_gap_tries_check CHECK ((gap_tries >= 0)),
    CONSTRAINT session_one_receive_mode CHECK ((NOT (webhook_enabled AND websocket_enabled))),
    CONSTRAINT session_switching_has_a_phase CHECK (((((switching_phase)::text = ''::text) AND ((switching_to)::text = ''::text)) OR ((NOT ((switching_to)::text = ''::text)) AND (NOT ((switching_phase)::text = ''::text)))))
);


--
-- Name: instances_whatsappsession_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.instances_whatsappsession ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.instances_whatsappsession_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: messaging_callattempt; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.messaging_callattempt (
    id bigint NOT NULL,
    phone_number character varying(20) NOT NULL,
    incoming boolean NOT NULL,
    status character varying(10) NOT NULL,
    video boolean NOT NULL,
    call_id character varying(255) NOT NULL,
    version integer NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    channel_id bigint NOT NULL,
    created_by_id integer,
    conversation_id bigint NOT NULL,
    CONSTRAINT call_has_an_id_and_a_status_when_incoming CHECK (((((call_id)::text = ''::text) AND (NOT incoming) AND ((status)::text = ''::text)) OR (incoming AND ((status)::text = ANY ((ARRAY['ringing'::character varying, 'ended'::character varying, 'missed'::character varying, 'rejected'::character varying, 'accepted'::character varying])::text[])) AND (NOT ((call_id)::text = ''::text))))),
    CONSTRAINT messaging_callattempt_version_check CHECK ((version >= 0))
);


--
-- Name: messaging_callattempt_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.messaging_callattempt ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.messaging_callattempt_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: messaging_contact; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.messaging_contact (
    id bigint NOT NULL,
    phone_number character varying(20),
    user_id character varying(128),
    name character varying(200) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT contact_has_an_address CHECK (((phone_number IS NOT NULL) OR (user_id IS NOT NULL)))
);


--
-- Name: messaging_contact_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.messaging_contact ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.messaging_contact_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: messaging_conversation; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.messaging_conversation (
    id bigint NOT NULL,
    last_message_at timestamp with time zone,
    last_inbound_at timestamp with time zone,
    unread_count integer NOT NULL,
    created_at timestamp with time zone NOT NULL,
    channel_id bigint NOT NULL,
    contact_id bigint NOT NULL,
    CONSTRAINT messaging_conversation_unread_count_check CHECK ((unread_count >= 0))
);


--
-- Name: messaging_conversation_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.messaging_conversation ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.messaging_conversation_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: messaging_deliveryattempt; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.messaging_deliveryattempt (
    id bigint NOT NULL,
    number smallint NOT NULL,
    round smallint NOT NULL,
    rule character varying(40) NOT NULL,
    outcome character varying(10) NOT NULL,
    receipt character varying(10) NOT NULL,
    error_code character varying(64) NOT NULL,
    error_title character varying(300) NOT NULL,
    error_detail text NOT NULL,
    provider_message_id character varying(255) NOT NULL,
    reserved_id character varying(64) NOT NULL,
    started_at timestamp with time zone NOT NULL,
    finished_at timestamp with time zone,
    confirmed_by_id integer,
    connection_id bigint NOT NULL,
    message_id uuid NOT NULL,
    CONSTRAINT messaging_deliveryattempt_number_check CHECK ((number >= 0)),
    CONSTRAINT messaging_deliveryattempt_round_check CHECK ((round >= 0))
);


--
-- Name: messaging_deliveryattempt_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.messaging_deliveryattempt ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.messaging_deliveryattempt_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: messaging_inboundevent; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.messaging_inboundevent (
    id bigint NOT NULL,
    source character varying(10) NOT NULL,
    source_key character varying(100) NOT NULL,
    dedupe_key character varying(200) NOT NULL,
    payload jsonb NOT NULL,
    raw_file character varying(200) NOT NULL,
    state character varying(10) NOT NULL,
    error text NOT NULL,
    skipped character varying(200) NOT NULL,
    received_at timestamp with time zone NOT NULL,
    processed_at timestamp with time zone
);


--
-- Name: messaging_inboundevent_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.messaging_inboundevent ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.messaging_inboundevent_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: messaging_media; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.messaging_media (
    id uuid NOT NULL,
    state character varying(10) NOT NULL,
    file character varying(200) NOT NULL,
    mime_type character varying(150) NOT NULL,
    size bigint NOT NULL,
    filename character varying(200) NOT NULL,
    sha256 character varying(64) NOT NULL,
    source jsonb NOT NULL,
    tries smallint NOT NULL,
    next_try_at timestamp with time zone,
    error_code character varying(64) NOT NULL,
    error_detail character varying(300) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    created_by_id integer,
    CONSTRAINT media_stored_has_a_file CHECK (((NOT ((state)::text = 'stored'::text)) OR ((NOT ((file)::text = ''::text)) AND (size > 0)))),
    CONSTRAINT messaging_media_size_check CHECK ((size >= 0)),
    CONSTRAINT messaging_media_tries_check CHECK ((tries >= 0))
);


--
-- Name: messaging_mediaupload; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.messaging_mediaupload (
    id bigint NOT NULL,
    provider_media_id character varying(255) NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    channel_id bigint NOT NULL,
    media_id uuid NOT NULL
);


--
-- Name: messaging_mediaupload_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.messaging_mediaupload ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.messaging_mediaupload_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: messaging_message; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.messaging_message (
    id uuid NOT NULL,
    direction character varying(3) NOT NULL,
    type character varying(20) NOT NULL,
    text text NOT NULL,
    content jsonb NOT NULL,
    status character varying(12) NOT NULL,
    route character varying(10),
    error_code character varying(64) NOT NULL,
    error_title character varying(300) NOT NULL,
    error_detail text NOT NULL,
    decision character varying(40) NOT NULL,
    next_attempt_at timestamp with time zone,
    round smallint NOT NULL,
    round_route character varying(10) NOT NULL,
    round_started_at timestamp with time zone,
    faults smallint NOT NULL,
    version integer NOT NULL,
    provider_message_id character varying(255) NOT NULL,
    provider_chat character varying(64) NOT NULL,
    sent_outside boolean NOT NULL,
    edited_at timestamp with time zone,
    revoked_at timestamp with time zone,
    client_reference character varying(255) NOT NULL,
    idempotency_key character varying(255) NOT NULL,
    request_digest character varying(64) NOT NULL,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL,
    conversation_id bigint NOT NULL,
    created_by_id integer,
    echo_of_id uuid,
    media_id uuid,
    reply_to_id uuid,
    CONSTRAINT message_status_is_known_when_sent CHECK (((((direction)::text = 'in'::text) AND ((status)::text = ''::text)) OR (((direction)::text = 'out'::text) AND ((status)::text = ANY ((ARRAY['queued'::character varying, 'sending'::character varying, 'sent'::character varying, 'delivered'::character varying, 'read'::character varying, 'rejected'::character varying, 'unconfirmed'::character varying])::text[]))))),
    CONSTRAINT messaging_message_faults_check CHECK ((faults >= 0)),
    CONSTRAINT messaging_message_round_check CHECK ((round >= 0)),
    CONSTRAINT messaging_message_version_check CHECK ((version >= 0))
);


--
-- Name: messaging_pendingevent; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.messaging_pendingevent (
    id bigint NOT NULL,
    provider_message_id character varying(255) NOT NULL,
    kind character varying(10) NOT NULL,
    payload jsonb NOT NULL,
    received_at timestamp with time zone NOT NULL,
    channel_id bigint NOT NULL
);


--
-- Name: messaging_pendingevent_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.messaging_pendingevent ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY (
    SEQUENCE NAME public.messaging_pendingevent_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: procrastinate_events; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.procrastinate_events (
    id bigint NOT NULL,
    job_id bigint NOT NULL,
    type public.procrastinate_job_event_type,
    at timestamp with time zone DEFAULT now()
);


--
-- Name: procrastinate_events_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.procrastinate_events_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: procrastinate_events_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.procrastinate_events_id_seq OWNED BY public.procrastinate_events.id;


--
-- Name: procrastinate_jobs_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.procrastinate_jobs_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: procrastinate_jobs_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.procrastinate_jobs_id_seq OWNED BY public.procrastinate_jobs.id;


--
-- Name: procrastinate_periodic_defers; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.procrastinate_periodic_defers (
    id bigint NOT NULL,
    task_name character varying(128) NOT NULL,
    defer_timestamp bigint,
    job_id bigint,
    periodic_id character varying(128) DEFAULT ''::character varying NOT NULL
);


--
-- Name: procrastinate_periodic_defers_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

CREATE SEQUENCE public.procrastinate_periodic_defers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


--
-- Name: procrastinate_periodic_defers_id_seq; Type: SEQUENCE OWNED BY; Schema: public; Owner: -
--

ALTER SEQUENCE public.procrastinate_periodic_defers_id_seq OWNED BY public.procrastinate_periodic_defers.id;


--
-- Name: procrastinate_workers; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.procrastinate_workers (
    id bigint NOT NULL,
    last_heartbeat timestamp with time zone DEFAULT now() NOT NULL
);


--
-- Name: procrastinate_workers_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.procrastinate_workers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.procrastinate_workers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: procrastinate_events id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_events ALTER COLUMN id SET DEFAULT nextval('public.procrastinate_events_id_seq'::regclass);


--
-- Name: procrastinate_jobs id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_jobs ALTER COLUMN id SET DEFAULT nextval('public.procrastinate_jobs_id_seq'::regclass);


--
-- Name: procrastinate_periodic_defers id; Type: DEFAULT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_periodic_defers ALTER COLUMN id SET DEFAULT nextval('public.procrastinate_periodic_defers_id_seq'::regclass);


--
-- Data for Name: accounts_apitoken; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.accounts_apitoken VALUES ('d538b0e5ccd87abd206019b70f7191e394bfec60df08a0b3ba2566e54468a508b1c70b8028799447004b28b8a4aaba66a87c45b3f46691bfb94651576017c5e6', 'alt_096e9392155', '2026-11-30 11:09:51.218397+00', NULL, 'ERP', 1);


--
-- Data for Name: auth_group; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: auth_group_permissions; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: auth_permission; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.auth_permission VALUES (1, 'Can add log entry', 1, 'add_logentry');
INSERT INTO public.auth_permission VALUES (2, 'Can change log entry', 1, 'change_logentry');
INSERT INTO public.auth_permission VALUES (3, 'Can delete log entry', 1, 'delete_logentry');
INSERT INTO public.auth_permission VALUES (4, 'Can view log entry', 1, 'view_logentry');
INSERT INTO public.auth_permission VALUES (5, 'Can add permission', 2, 'add_permission');
INSERT INTO public.auth_permission VALUES (6, 'Can change permission', 2, 'change_permission');
INSERT INTO public.auth_permission VALUES (7, 'Can delete permission', 2, 'delete_permission');
INSERT INTO public.auth_permission VALUES (8, 'Can view permission', 2, 'view_permission');
INSERT INTO public.auth_permission VALUES (9, 'Can add group', 3, 'add_group');
INSERT INTO public.auth_permission VALUES (10, 'Can change group', 3, 'change_group');
INSERT INTO public.auth_permission VALUES (11, 'Can delete group', 3, 'delete_group');
INSERT INTO public.auth_permission VALUES (12, 'Can view group', 3, 'view_group');
INSERT INTO public.auth_permission VALUES (13, 'Can add user', 4, 'add_user');
INSERT INTO public.auth_permission VALUES (14, 'Can change user', 4, 'change_user');
INSERT INTO public.auth_permission VALUES (15, 'Can delete user', 4, 'delete_user');
INSERT INTO public.auth_permission VALUES (16, 'Can view user', 4, 'view_user');
INSERT INTO public.auth_permission VALUES (17, 'Can add content type', 5, 'add_contenttype');
INSERT INTO public.auth_permission VALUES (18, 'Can change content type', 5, 'change_contenttype');
INSERT INTO public.auth_permission VALUES (19, 'Can delete content type', 5, 'delete_contenttype');
INSERT INTO public.auth_permission VALUES (20, 'Can view content type', 5, 'view_contenttype');
INSERT INTO public.auth_permission VALUES (21, 'Can add session', 6, 'add_session');
INSERT INTO public.auth_permission VALUES (22, 'Can change session', 6, 'change_session');
INSERT INTO public.auth_permission VALUES (23, 'Can delete session', 6, 'delete_session');
INSERT INTO public.auth_permission VALUES (24, 'Can view session', 6, 'view_session');
INSERT INTO public.auth_permission VALUES (25, 'Can add access attempt', 7, 'add_accessattempt');
INSERT INTO public.auth_permission VALUES (26, 'Can change access attempt', 7, 'change_accessattempt');
INSERT INTO public.auth_permission VALUES (27, 'Can delete access attempt', 7, 'delete_accessattempt');
INSERT INTO public.auth_permission VALUES (28, 'Can view access attempt', 7, 'view_accessattempt');
INSERT INTO public.auth_permission VALUES (29, 'Can add access log', 8, 'add_accesslog');
INSERT INTO public.auth_permission VALUES (30, 'Can change access log', 8, 'change_accesslog');
INSERT INTO public.auth_permission VALUES (31, 'Can delete access log', 8, 'delete_accesslog');
INSERT INTO public.auth_permission VALUES (32, 'Can view access log', 8, 'view_accesslog');
INSERT INTO public.auth_permission VALUES (33, 'Can add access failure', 9, 'add_accessfailurelog');
INSERT INTO public.auth_permission VALUES (34, 'Can change access failure', 9, 'change_accessfailurelog');
INSERT INTO public.auth_permission VALUES (35, 'Can delete access failure', 9, 'delete_accessfailurelog');
INSERT INTO public.auth_permission VALUES (36, 'Can view access failure', 9, 'view_accessfailurelog');
INSERT INTO public.auth_permission VALUES (37, 'Can add access attempt expiration', 10, 'add_accessattemptexpiration');
INSERT INTO public.auth_permission VALUES (38, 'Can change access attempt expiration', 10, 'change_accessattemptexpiration');
INSERT INTO public.auth_permission VALUES (39, 'Can delete access attempt expiration', 10, 'delete_accessattemptexpiration');
INSERT INTO public.auth_permission VALUES (40, 'Can view access attempt expiration', 10, 'view_accessattemptexpiration');
INSERT INTO public.auth_permission VALUES (41, 'Can add procrastinate event', 11, 'add_procrastinateevent');
INSERT INTO public.auth_permission VALUES (42, 'Can change procrastinate event', 11, 'change_procrastinateevent');
INSERT INTO public.auth_permission VALUES (43, 'Can delete procrastinate event', 11, 'delete_procrastinateevent');
INSERT INTO public.auth_permission VALUES (44, 'Can view procrastinate event', 11, 'view_procrastinateevent');
INSERT INTO public.auth_permission VALUES (45, 'Can add procrastinate job', 12, 'add_procrastinatejob');
INSERT INTO public.auth_permission VALUES (46, 'Can change procrastinate job', 12, 'change_procrastinatejob');
INSERT INTO public.auth_permission VALUES (47, 'Can delete procrastinate job', 12, 'delete_procrastinatejob');
INSERT INTO public.auth_permission VALUES (48, 'Can view procrastinate job', 12, 'view_procrastinatejob');
INSERT INTO public.auth_permission VALUES (49, 'Can add procrastinate periodic defer', 13, 'add_procrastinateperiodicdefer');
INSERT INTO public.auth_permission VALUES (50, 'Can change procrastinate periodic defer', 13, 'change_procrastinateperiodicdefer');
INSERT INTO public.auth_permission VALUES (51, 'Can delete procrastinate periodic defer', 13, 'delete_procrastinateperiodicdefer');
INSERT INTO public.auth_permission VALUES (52, 'Can view procrastinate periodic defer', 13, 'view_procrastinateperiodicdefer');
INSERT INTO public.auth_permission VALUES (53, 'Can add procrastinate worker', 14, 'add_procrastinateworker');
INSERT INTO public.auth_permission VALUES (54, 'Can change procrastinate worker', 14, 'change_procrastinateworker');
INSERT INTO public.auth_permission VALUES (55, 'Can delete procrastinate worker', 14, 'delete_procrastinateworker');
INSERT INTO public.auth_permission VALUES (56, 'Can view procrastinate worker', 14, 'view_procrastinateworker');
INSERT INTO public.auth_permission VALUES (57, 'Can add API token', 15, 'add_apitoken');
INSERT INTO public.auth_permission VALUES (58, 'Can change API token', 15, 'change_apitoken');
INSERT INTO public.auth_permission VALUES (59, 'Can delete API token', 15, 'delete_apitoken');
INSERT INTO public.auth_permission VALUES (60, 'Can view API token', 15, 'view_apitoken');
INSERT INTO public.auth_permission VALUES (61, 'Can add channel', 16, 'add_channel');
INSERT INTO public.auth_permission VALUES (62, 'Can change channel', 16, 'change_channel');
INSERT INTO public.auth_permission VALUES (63, 'Can delete channel', 16, 'delete_channel');
INSERT INTO public.auth_permission VALUES (64, 'Can view channel', 16, 'view_channel');
INSERT INTO public.auth_permission VALUES (65, 'Can add wwebjs-api credentials', 17, 'add_wwebjscredentials');
INSERT INTO public.auth_permission VALUES (66, 'Can change wwebjs-api credentials', 17, 'change_wwebjscredentials');
INSERT INTO public.auth_permission VALUES (67, 'Can delete wwebjs-api credentials', 17, 'delete_wwebjscredentials');
INSERT INTO public.auth_permission VALUES (68, 'Can view wwebjs-api credentials', 17, 'view_wwebjscredentials');
INSERT INTO public.auth_permission VALUES (69, 'Can add connection', 18, 'add_connection');
INSERT INTO public.auth_permission VALUES (70, 'Can change connection', 18, 'change_connection');
INSERT INTO public.auth_permission VALUES (71, 'Can delete connection', 18, 'delete_connection');
INSERT INTO public.auth_permission VALUES (72, 'Can view connection', 18, 'view_connection');
INSERT INTO public.auth_permission VALUES (73, 'Can add fallback', 19, 'add_fallbackroute');
INSERT INTO public.auth_permission VALUES (74, 'Can change fallback', 19, 'change_fallbackroute');
INSERT INTO public.auth_permission VALUES (75, 'Can delete fallback', 19, 'delete_fallbackroute');
INSERT INTO public.auth_permission VALUES (76, 'Can view fallback', 19, 'view_fallbackroute');
INSERT INTO public.auth_permission VALUES (77, 'Can add incident', 20, 'add_incident');
INSERT INTO public.auth_permission VALUES (78, 'Can change incident', 20, 'change_incident');
INSERT INTO public.auth_permission VALUES (79, 'Can delete incident', 20, 'delete_incident');
INSERT INTO public.auth_permission VALUES (80, 'Can view incident', 20, 'view_incident');
INSERT INTO public.auth_permission VALUES (81, 'Can add resolved number', 21, 'add_resolvednumber');
INSERT INTO public.auth_permission VALUES (82, 'Can change resolved number', 21, 'change_resolvednumber');
INSERT INTO public.auth_permission VALUES (83, 'Can delete resolved number', 21, 'delete_resolvednumber');
INSERT INTO public.auth_permission VALUES (84, 'Can view resolved number', 21, 'view_resolvednumber');
INSERT INTO public.auth_permission VALUES (85, 'Can add Cloud API credentials', 22, 'add_cloudcredentials');
INSERT INTO public.auth_permission VALUES (86, 'Can change Cloud API credentials', 22, 'change_cloudcredentials');
INSERT INTO public.auth_permission VALUES (87, 'Can delete Cloud API credentials', 22, 'delete_cloudcredentials');
INSERT INTO public.auth_permission VALUES (88, 'Can view Cloud API credentials', 22, 'view_cloudcredentials');
INSERT INTO public.auth_permission VALUES (89, 'Can add Evolution API credentials', 23, 'add_evolutioncredentials');
INSERT INTO public.auth_permission VALUES (90, 'Can change Evolution API credentials', 23, 'change_evolutioncredentials');
INSERT INTO public.auth_permission VALUES (91, 'Can delete Evolution API credentials', 23, 'delete_evolutioncredentials');
INSERT INTO public.auth_permission VALUES (92, 'Can view Evolution API credentials', 23, 'view_evolutioncredentials');
INSERT INTO public.auth_permission VALUES (93, 'Can add contact', 24, 'add_contact');
INSERT INTO public.auth_permission VALUES (94, 'Can change contact', 24, 'change_contact');
INSERT INTO public.auth_permission VALUES (95, 'Can delete contact', 24, 'delete_contact');
INSERT INTO public.auth_permission VALUES (96, 'Can view contact', 24, 'view_contact');
INSERT INTO public.auth_permission VALUES (97, 'Can add conversation', 25, 'add_conversation');
INSERT INTO public.auth_permission VALUES (98, 'Can change conversation', 25, 'change_conversation');
INSERT INTO public.auth_permission VALUES (99, 'Can delete conversation', 25, 'delete_conversation');
INSERT INTO public.auth_permission VALUES (100, 'Can view conversation', 25, 'view_conversation');
INSERT INTO public.auth_permission VALUES (101, 'Can view call attempt', 26, 'view_callattempt');
INSERT INTO public.auth_permission VALUES (102, 'Can call contacts', 26, 'call_contact');
INSERT INTO public.auth_permission VALUES (103, 'Can add inbound event', 27, 'add_inboundevent');
INSERT INTO public.auth_permission VALUES (104, 'Can change inbound event', 27, 'change_inboundevent');
INSERT INTO public.auth_permission VALUES (105, 'Can delete inbound event', 27, 'delete_inboundevent');
INSERT INTO public.auth_permission VALUES (106, 'Can view inbound event', 27, 'view_inboundevent');
INSERT INTO public.auth_permission VALUES (107, 'Can add file', 28, 'add_media');
INSERT INTO public.auth_permission VALUES (108, 'Can change file', 28, 'change_media');
INSERT INTO public.auth_permission VALUES (109, 'Can delete file', 28, 'delete_media');
INSERT INTO public.auth_permission VALUES (110, 'Can view file', 28, 'view_media');
INSERT INTO public.auth_permission VALUES (111, 'Can add media upload', 29, 'add_mediaupload');
INSERT INTO public.auth_permission VALUES (112, 'Can change media upload', 29, 'change_mediaupload');
INSERT INTO public.auth_permission VALUES (113, 'Can delete media upload', 29, 'delete_mediaupload');
INSERT INTO public.auth_permission VALUES (114, 'Can view media upload', 29, 'view_mediaupload');
INSERT INTO public.auth_permission VALUES (115, 'Can add message', 30, 'add_message');
INSERT INTO public.auth_permission VALUES (116, 'Can change message', 30, 'change_message');
INSERT INTO public.auth_permission VALUES (117, 'Can delete message', 30, 'delete_message');
INSERT INTO public.auth_permission VALUES (118, 'Can view message', 30, 'view_message');
INSERT INTO public.auth_permission VALUES (119, 'Can add delivery attempt', 31, 'add_deliveryattempt');
INSERT INTO public.auth_permission VALUES (120, 'Can change delivery attempt', 31, 'change_deliveryattempt');
INSERT INTO public.auth_permission VALUES (121, 'Can delete delivery attempt', 31, 'delete_deliveryattempt');
INSERT INTO public.auth_permission VALUES (122, 'Can view delivery attempt', 31, 'view_deliveryattempt');
INSERT INTO public.auth_permission VALUES (123, 'Can add pending event', 32, 'add_pendingevent');
INSERT INTO public.auth_permission VALUES (124, 'Can change pending event', 32, 'change_pendingevent');
INSERT INTO public.auth_permission VALUES (125, 'Can delete pending event', 32, 'delete_pendingevent');
INSERT INTO public.auth_permission VALUES (126, 'Can view pending event', 32, 'view_pendingevent');
INSERT INTO public.auth_permission VALUES (127, 'Can add listener process', 33, 'add_listenerprocess');
INSERT INTO public.auth_permission VALUES (128, 'Can change listener process', 33, 'change_listenerprocess');
INSERT INTO public.auth_permission VALUES (129, 'Can delete listener process', 33, 'delete_listenerprocess');
INSERT INTO public.auth_permission VALUES (130, 'Can view listener process', 33, 'view_listenerprocess');
INSERT INTO public.auth_permission VALUES (131, 'Can add profile picture', 34, 'add_profilepicture');
INSERT INTO public.auth_permission VALUES (132, 'Can change profile picture', 34, 'change_profilepicture');
INSERT INTO public.auth_permission VALUES (133, 'Can delete profile picture', 34, 'delete_profilepicture');
INSERT INTO public.auth_permission VALUES (134, 'Can view profile picture', 34, 'view_profilepicture');
INSERT INTO public.auth_permission VALUES (135, 'Can add change of receive mode', 35, 'add_receivemodechange');
INSERT INTO public.auth_permission VALUES (136, 'Can change change of receive mode', 35, 'change_receivemodechange');
INSERT INTO public.auth_permission VALUES (137, 'Can delete change of receive mode', 35, 'delete_receivemodechange');
INSERT INTO public.auth_permission VALUES (138, 'Can view change of receive mode', 35, 'view_receivemodechange');
INSERT INTO public.auth_permission VALUES (139, 'Can add WhatsApp session', 36, 'add_whatsappsession');
INSERT INTO public.auth_permission VALUES (140, 'Can change WhatsApp session', 36, 'change_whatsappsession');
INSERT INTO public.auth_permission VALUES (141, 'Can delete WhatsApp session', 36, 'delete_whatsappsession');
INSERT INTO public.auth_permission VALUES (142, 'Can view WhatsApp session', 36, 'view_whatsappsession');
INSERT INTO public.auth_permission VALUES (143, 'Can add backfill', 37, 'add_backfill');
INSERT INTO public.auth_permission VALUES (144, 'Can change backfill', 37, 'change_backfill');
INSERT INTO public.auth_permission VALUES (145, 'Can delete backfill', 37, 'delete_backfill');
INSERT INTO public.auth_permission VALUES (146, 'Can view backfill', 37, 'view_backfill');


--
-- Data for Name: auth_user; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.auth_user VALUES (1, 'pbkdf2_sha256$1000000$L0ZanurwhqxnlMD4nQbCkB$sum9dpRVOjGP6RRlZe6+q0p/v9CsG84W/wQUosEmbgc=', NULL, true, 'demo', '', '', '', true, true, '2026-11-30 11:09:50.184214+00');


--
-- Data for Name: auth_user_groups; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: auth_user_user_permissions; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: axes_accessattempt; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: axes_accessattemptexpiration; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: axes_accessfailurelog; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: axes_accesslog; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: channels_app_channel; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.channels_app_channel VALUES (2, 'Baileys (demonstração)', 'baileys', '', true, true, 1, 15, 60, 'fallback', 60, 20, 100, false, 80, '', '2026-11-30 11:09:50.957254+00', '2026-11-30 11:09:50.957284+00');
INSERT INTO public.channels_app_channel VALUES (1, 'Oficial (demonstração)', 'official', '+5511900000001', true, true, 1, 15, 60, 'fallback', 60, 20, 100, false, 80, '', '2026-11-30 11:09:50.741456+00', '2026-11-30 11:09:51.124527+00');


--
-- Data for Name: channels_app_cloudcredentials; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.channels_app_cloudcredentials VALUES (1, 'http://127.0.0.1:9', 'v25.0', '106540352242922', '102290129340398', 'gAAAAABrDVl-91CnSkMyFOpw4jLNOD1l5smiizECc2N54DDY6DuNgSsqJhslhsQQ9-7sztUjgOyZrlT2YS5q1-VJtkRRIjAZUMRoiPU7HU3YDcTU9KE6QJ4=', 'gAAAAABrDVl-vkPFJSXNyKs6oSk-dTEDGRlWt3poeDQOR8biSvKb2kggNxXt6PoyNfqAXIIBbUS-63W3NIWGSby9m76YcTCpTQ==', 'gAAAAABrDVl-jh-99puUWdy-WX7YC5SsDnmMeu-232gVk2-pKTSao1xMbtIVan1wMWGWUsHX1CWBpadXneqV5GtFFV3jc1g3c5fAjTFvjQ9WMbWUx_8RARY=');


--
-- Data for Name: channels_app_connection; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.channels_app_connection VALUES (2, 'official', 'not_configured', '', '', NULL, '', NULL, NULL, NULL, '', '', '', NULL, 'unknown', '', NULL, false, false, NULL, 0, NULL, '', '', '', NULL, NULL, false, NULL, false, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, '', '', '', NULL, '', NULL, false, NULL, 'unknown', '', NULL, NULL, '', false, NULL, 0, NULL, NULL, 1, NULL);
INSERT INTO public.channels_app_connection VALUES (1, 'wwebjs', 'disconnected', 'unchecked', '', NULL, 'http://127.0.0.1:9 demo', NULL, NULL, '2026-11-30 11:09:50.796575+00', '', '', '', NULL, 'unknown', '', NULL, false, false, NULL, 0, NULL, '', '', '', NULL, NULL, false, NULL, false, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, '', '', '5511900000002', NULL, '', NULL, false, NULL, 'unknown', '', NULL, NULL, '', false, NULL, 0, NULL, NULL, 1, NULL);
INSERT INTO public.channels_app_connection VALUES (3, 'baileys', 'disconnected', 'unchecked', '', NULL, 'http://127.0.0.1:9 oficina_demo', NULL, NULL, '2026-11-30 11:09:51.040082+00', '', '', '', NULL, 'unknown', '', NULL, false, false, NULL, 0, NULL, '', '', '', NULL, NULL, false, NULL, false, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, '', '', '', NULL, '', NULL, false, NULL, 'unknown', '', NULL, NULL, '', false, NULL, 0, NULL, NULL, 2, NULL);


--
-- Data for Name: channels_app_evolutioncredentials; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.channels_app_evolutioncredentials VALUES (2, 'http://127.0.0.1:9', 'gAAAAABrDVl-uuFsqfJ6EnVakYcFGEm6Bgnk15pcbjK1n7DikjkBpwVKi_U9rxa5-dWZsmKz0C5sUK_77xu4kwFOeOnXEHGKehqUoiOUkxBSLxElIdvPtf4=', 'oficina_demo');


--
-- Data for Name: channels_app_fallbackroute; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.channels_app_fallbackroute VALUES (2, 1, 1, 1);
INSERT INTO public.channels_app_fallbackroute VALUES (3, 2, 1, 3);


--
-- Data for Name: channels_app_incident; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.channels_app_incident VALUES (1, 'connection', '', '190', '', NULL, '', '', 1, '2026-11-30 11:09:50.181111+00', '2026-11-30 11:09:50.181111+00', NULL, NULL, NULL, '', NULL, NULL, 2);


--
-- Data for Name: channels_app_resolvednumber; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.channels_app_resolvednumber VALUES (1, '5511988887777', '5511988887777@c.us', '', '2026-11-30 11:09:50.181111+00', 1);


--
-- Data for Name: channels_app_wwebjscredentials; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.channels_app_wwebjscredentials VALUES (1, 'http://127.0.0.1:9', 'gAAAAABrDVl-6W7ItcTt2dLWvmMHu5G1Yu7tL1Ee5BmWQTTcJI-A574Ak4V-KX_OoSXzyiIEUwuZ-24jEz3EyqvLxAPvY9BDxw==', 'demo');


--
-- Data for Name: django_admin_log; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: django_content_type; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.django_content_type VALUES (1, 'admin', 'logentry');
INSERT INTO public.django_content_type VALUES (2, 'auth', 'permission');
INSERT INTO public.django_content_type VALUES (3, 'auth', 'group');
INSERT INTO public.django_content_type VALUES (4, 'auth', 'user');
INSERT INTO public.django_content_type VALUES (5, 'contenttypes', 'contenttype');
INSERT INTO public.django_content_type VALUES (6, 'sessions', 'session');
INSERT INTO public.django_content_type VALUES (7, 'axes', 'accessattempt');
INSERT INTO public.django_content_type VALUES (8, 'axes', 'accesslog');
INSERT INTO public.django_content_type VALUES (9, 'axes', 'accessfailurelog');
INSERT INTO public.django_content_type VALUES (10, 'axes', 'accessattemptexpiration');
INSERT INTO public.django_content_type VALUES (11, 'procrastinate', 'procrastinateevent');
INSERT INTO public.django_content_type VALUES (12, 'procrastinate', 'procrastinatejob');
INSERT INTO public.django_content_type VALUES (13, 'procrastinate', 'procrastinateperiodicdefer');
INSERT INTO public.django_content_type VALUES (14, 'procrastinate', 'procrastinateworker');
INSERT INTO public.django_content_type VALUES (15, 'accounts', 'apitoken');
INSERT INTO public.django_content_type VALUES (16, 'channels_app', 'channel');
INSERT INTO public.django_content_type VALUES (17, 'channels_app', 'wwebjscredentials');
INSERT INTO public.django_content_type VALUES (18, 'channels_app', 'connection');
INSERT INTO public.django_content_type VALUES (19, 'channels_app', 'fallbackroute');
INSERT INTO public.django_content_type VALUES (20, 'channels_app', 'incident');
INSERT INTO public.django_content_type VALUES (21, 'channels_app', 'resolvednumber');
INSERT INTO public.django_content_type VALUES (22, 'channels_app', 'cloudcredentials');
INSERT INTO public.django_content_type VALUES (23, 'channels_app', 'evolutioncredentials');
INSERT INTO public.django_content_type VALUES (24, 'messaging', 'contact');
INSERT INTO public.django_content_type VALUES (25, 'messaging', 'conversation');
INSERT INTO public.django_content_type VALUES (26, 'messaging', 'callattempt');
INSERT INTO public.django_content_type VALUES (27, 'messaging', 'inboundevent');
INSERT INTO public.django_content_type VALUES (28, 'messaging', 'media');
INSERT INTO public.django_content_type VALUES (29, 'messaging', 'mediaupload');
INSERT INTO public.django_content_type VALUES (30, 'messaging', 'message');
INSERT INTO public.django_content_type VALUES (31, 'messaging', 'deliveryattempt');
INSERT INTO public.django_content_type VALUES (32, 'messaging', 'pendingevent');
INSERT INTO public.django_content_type VALUES (33, 'instances', 'listenerprocess');
INSERT INTO public.django_content_type VALUES (34, 'instances', 'profilepicture');
INSERT INTO public.django_content_type VALUES (35, 'instances', 'receivemodechange');
INSERT INTO public.django_content_type VALUES (36, 'instances', 'whatsappsession');
INSERT INTO public.django_content_type VALUES (37, 'instances', 'backfill');


--
-- Data for Name: django_migrations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.django_migrations VALUES (1, 'contenttypes', '0001_initial', '2026-11-30 11:09:46.148893+00');
INSERT INTO public.django_migrations VALUES (2, 'auth', '0001_initial', '2026-11-30 11:09:46.239309+00');
INSERT INTO public.django_migrations VALUES (3, 'accounts', '0001_initial', '2026-11-30 11:09:46.262792+00');
INSERT INTO public.django_migrations VALUES (4, 'admin', '0001_initial', '2026-11-30 11:09:46.290496+00');
INSERT INTO public.django_migrations VALUES (5, 'admin', '0002_logentry_remove_auto_add', '2026-11-30 11:09:46.301021+00');
INSERT INTO public.django_migrations VALUES (6, 'admin', '0003_logentry_add_action_flag_choices', '2026-11-30 11:09:46.310266+00');
INSERT INTO public.django_migrations VALUES (7, 'contenttypes', '0002_remove_content_type_name', '2026-11-30 11:09:46.330562+00');
INSERT INTO public.django_migrations VALUES (8, 'auth', '0002_alter_permission_name_max_length', '2026-11-30 11:09:46.339522+00');
INSERT INTO public.django_migrations VALUES (9, 'auth', '0003_alter_user_email_max_length', '2026-11-30 11:09:46.34885+00');
INSERT INTO public.django_migrations VALUES (10, 'auth', '0004_alter_user_username_opts', '2026-11-30 11:09:46.356857+00');
INSERT INTO public.django_migrations VALUES (11, 'auth', '0005_alter_user_last_login_null', '2026-11-30 11:09:46.365724+00');
INSERT INTO public.django_migrations VALUES (12, 'auth', '0006_require_contenttypes_0002', '2026-11-30 11:09:46.366645+00');
INSERT INTO public.django_migrations VALUES (13, 'auth', '0007_alter_validators_add_error_messages', '2026-11-30 11:09:46.374649+00');
INSERT INTO public.django_migrations VALUES (14, 'auth', '0008_alter_user_username_max_length', '2026-11-30 11:09:46.387933+00');
INSERT INTO public.django_migrations VALUES (15, 'auth', '0009_alter_user_last_name_max_length', '2026-11-30 11:09:46.401039+00');
INSERT INTO public.django_migrations VALUES (16, 'auth', '0010_alter_group_name_max_length', '2026-11-30 11:09:46.411369+00');
INSERT INTO public.django_migrations VALUES (17, 'auth', '0011_update_proxy_permissions', '2026-11-30 11:09:46.419518+00');
INSERT INTO public.django_migrations VALUES (18, 'auth', '0012_alter_user_first_name_max_length', '2026-11-30 11:09:46.428668+00');
INSERT INTO public.django_migrations VALUES (19, 'axes', '0001_initial', '2026-11-30 11:09:46.449521+00');
INSERT INTO public.django_migrations VALUES (20, 'axes', '0002_auto_20151217_2044', '2026-11-30 11:09:46.503633+00');
INSERT INTO public.django_migrations VALUES (21, 'axes', '0003_auto_20160322_0929', '2026-11-30 11:09:46.527674+00');
INSERT INTO public.django_migrations VALUES (22, 'axes', '0004_auto_20181024_1538', '2026-11-30 11:09:46.548798+00');
INSERT INTO public.django_migrations VALUES (23, 'axes', '0005_remove_accessattempt_trusted', '2026-11-30 11:09:46.554219+00');
INSERT INTO public.django_migrations VALUES (24, 'axes', '0006_remove_accesslog_trusted', '2026-11-30 11:09:46.560211+00');
INSERT INTO public.django_migrations VALUES (25, 'axes', '0007_alter_accessattempt_unique_together', '2026-11-30 11:09:46.594581+00');
INSERT INTO public.django_migrations VALUES (26, 'axes', '0008_accessfailurelog', '2026-11-30 11:09:46.632435+00');
INSERT INTO public.django_migrations VALUES (27, 'axes', '0009_add_session_hash', '2026-11-30 11:09:46.639409+00');
INSERT INTO public.django_migrations VALUES (28, 'axes', '0010_accessattemptexpiration', '2026-11-30 11:09:46.654143+00');
INSERT INTO public.django_migrations VALUES (29, 'channels_app', '0001_release_0_1_0', '2026-11-30 11:09:47.195699+00');
INSERT INTO public.django_migrations VALUES (30, 'instances', '0001_release_0_1_0', '2026-11-30 11:09:47.749293+00');
INSERT INTO public.django_migrations VALUES (31, 'procrastinate', '0001_initial', '2026-11-30 11:09:47.788514+00');
INSERT INTO public.django_migrations VALUES (32, 'procrastinate', '0002_drop_started_at_column', '2026-11-30 11:09:47.79223+00');
INSERT INTO public.django_migrations VALUES (33, 'procrastinate', '0003_drop_started_at_column', '2026-11-30 11:09:47.795358+00');
INSERT INTO public.django_migrations VALUES (34, 'procrastinate', '0004_drop_procrastinate_version_table', '2026-11-30 11:09:47.798672+00');
INSERT INTO public.django_migrations VALUES (35, 'procrastinate', '0005_fix_procrastinate_fetch_job', '2026-11-30 11:09:47.802414+00');
INSERT INTO public.django_migrations VALUES (36, 'procrastinate', '0006_fix_trigger_status_events_insert', '2026-11-30 11:09:47.805215+00');
INSERT INTO public.django_migrations VALUES (37, 'procrastinate', '0007_add_queueing_lock_column', '2026-11-30 11:09:47.809688+00');
INSERT INTO public.django_migrations VALUES (38, 'procrastinate', '0008_close_fetch_job_race_condition', '2026-11-30 11:09:47.816269+00');
INSERT INTO public.django_migrations VALUES (39, 'procrastinate', '0009_add_defer_job_function', '2026-11-30 11:09:47.82033+00');
INSERT INTO public.django_migrations VALUES (40, 'procrastinate', '0010_add_procrastinate_periodic_defers', '2026-11-30 11:09:47.831873+00');
INSERT INTO public.django_migrations VALUES (41, 'procrastinate', '0011_add_foreign_key_index', '2026-11-30 11:09:47.836889+00');
INSERT INTO public.django_migrations VALUES (42, 'procrastinate', '0012_add_locks_to_periodic_defer', '2026-11-30 11:09:47.843144+00');
INSERT INTO public.django_migrations VALUES (43, 'procrastinate', '0013_fix_procrastinate_defer_periodic_job', '2026-11-30 11:09:47.848001+00');
INSERT INTO public.django_migrations VALUES (44, 'procrastinate', '0014_add_finish_job_and_retry_job_functions', '2026-11-30 11:09:47.851549+00');
INSERT INTO public.django_migrations VALUES (45, 'procrastinate', '0015_add_trigger_on_job_deletion', '2026-11-30 11:09:47.854796+00');
INSERT INTO public.django_migrations VALUES (46, 'procrastinate', '0016_delete_finished_jobs', '2026-11-30 11:09:47.857669+00');
INSERT INTO public.django_migrations VALUES (47, 'procrastinate', '0017_add_checks_to_finish_job', '2026-11-30 11:09:47.86052+00');
INSERT INTO public.django_migrations VALUES (48, 'procrastinate', '0018_add_checks_to_retry_job', '2026-11-30 11:09:47.863249+00');
INSERT INTO public.django_migrations VALUES (49, 'procrastinate', '0019_fix_finish_job_compat_issue', '2026-11-30 11:09:47.866212+00');
INSERT INTO public.django_migrations VALUES (50, 'procrastinate', '0020_add_index_on_procrastinate_jobs', '2026-11-30 11:09:47.871964+00');
INSERT INTO public.django_migrations VALUES (51, 'procrastinate', '0021_add_kwargs_to_defer_periodic_job', '2026-11-30 11:09:47.881262+00');
INSERT INTO public.django_migrations VALUES (52, 'procrastinate', '0022_null_locks_excluded', '2026-11-30 11:09:47.885716+00');
INSERT INTO public.django_migrations VALUES (53, 'procrastinate', '0023_remove_old_finish_job_function', '2026-11-30 11:09:47.890044+00');
INSERT INTO public.django_migrations VALUES (54, 'procrastinate', '0024_job_id_bigint', '2026-11-30 11:09:47.905202+00');
INSERT INTO public.django_migrations VALUES (55, 'procrastinate', '0025_add_models', '2026-11-30 11:09:47.91542+00');
INSERT INTO public.django_migrations VALUES (56, 'procrastinate', '0026_add_job_priority', '2026-11-30 11:09:47.924868+00');
INSERT INTO public.django_migrations VALUES (57, 'procrastinate', '0027_add_periodic_job_priority', '2026-11-30 11:09:47.928592+00');
INSERT INTO public.django_migrations VALUES (58, 'procrastinate', '0028_add_cancel_states', '2026-11-30 11:09:47.943493+00');
INSERT INTO public.django_migrations VALUES (59, 'procrastinate', '0029_add_additional_params_to_retry_job', '2026-11-30 11:09:47.947235+00');
INSERT INTO public.django_migrations VALUES (60, 'procrastinate', '0030_alter_procrastinateevent_options', '2026-11-30 11:09:47.952035+00');
INSERT INTO public.django_migrations VALUES (61, 'procrastinate', '0031_add_indexes_for_fetch_job', '2026-11-30 11:09:47.967115+00');
INSERT INTO public.django_migrations VALUES (62, 'procrastinate', '0032_pre_cancel_notification', '2026-11-30 11:09:47.979841+00');
INSERT INTO public.django_migrations VALUES (63, 'procrastinate', '0033_post_cancel_notification', '2026-11-30 11:09:48.01717+00');
INSERT INTO public.django_migrations VALUES (64, 'procrastinate', '0034_pre_add_heartbeat', '2026-11-30 11:09:48.037914+00');
INSERT INTO public.django_migrations VALUES (65, 'procrastinate', '0035_post_add_heartbeat', '2026-11-30 11:09:48.041129+00');
INSERT INTO public.django_migrations VALUES (66, 'procrastinate', '0036_add_worker_model', '2026-11-30 11:09:48.047319+00');
INSERT INTO public.django_migrations VALUES (67, 'procrastinate', '0037_pre_batch_defer_jobs', '2026-11-30 11:09:48.050674+00');
INSERT INTO public.django_migrations VALUES (68, 'procrastinate', '0038_post_batch_defer_jobs', '2026-11-30 11:09:48.053031+00');
INSERT INTO public.django_migrations VALUES (69, 'procrastinate', '0039_pre_priority_lock_fetch_job', '2026-11-30 11:09:48.055326+00');
INSERT INTO public.django_migrations VALUES (70, 'procrastinate', '0040_pre_retry_failed_job', '2026-11-30 11:09:48.057392+00');
INSERT INTO public.django_migrations VALUES (71, 'procrastinate', '0041_post_retry_failed_job', '2026-11-30 11:09:48.059918+00');
INSERT INTO public.django_migrations VALUES (72, 'messaging', '0001_release_0_1_0', '2026-11-30 11:09:50.013888+00');
INSERT INTO public.django_migrations VALUES (73, 'messaging', '0002_notify_when_a_lock_is_free', '2026-11-30 11:09:50.019614+00');
INSERT INTO public.django_migrations VALUES (74, 'sessions', '0001_initial', '2026-11-30 11:09:50.040849+00');


--
-- Data for Name: django_session; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: instances_backfill; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.instances_backfill VALUES (1, 'unreachable', '2026-11-30 11:09:50.181111+00', 3, '2026-11-30 11:09:50.181111+00', 1);


--
-- Data for Name: instances_listenerprocess; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.instances_listenerprocess VALUES (1, 'recorded', '2026-11-30 11:09:50.181111+00', '2026-11-30 11:09:50.181111+00');


--
-- Data for Name: instances_profilepicture; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.instances_profilepicture VALUES (1, 'http://127.0.0.1:9', '\x', '', '2026-11-30 11:09:50.181111+00', 3);


--
-- Data for Name: instances_receivemodechange; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.instances_receivemodechange VALUES (1, '', 'webhook', 'page', 'running', '', '2026-11-30 11:09:51.250188+00', NULL, NULL, 1, 1);


--
-- Data for Name: instances_whatsappsession; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.instances_whatsappsession VALUES (1, false, false, NULL, NULL, true, 'gAAAAABrDVl_-lxkynPKwUhvFTrqZVvUWajlI6XeHa0emsVd_gCspAmcpqn6ksZkjmYdOTPndiV7yCvXwR7AnJc7X9q7gZ8uFJZBrUVfLu8wp2KpAg0YGM0jmlLJDilU6zh7gdZSUXcN', '437a1e4881be97ee5ebf57516d92b89a2810a2d424db7905a57460794e2c1872', false, '', '', NULL, NULL, false, NULL, '', NULL, NULL, NULL, '', NULL, NULL, 0, '', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '', NULL, '', '2026-11-30 11:09:51.007375+00', 2, NULL);


--
-- Data for Name: messaging_callattempt; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.messaging_callattempt VALUES (1, '+5511988880001', false, '', false, '', 1, '2026-11-30 11:09:51.235998+00', '2026-11-30 11:09:51.236272+00', 1, 1, 1);


--
-- Data for Name: messaging_contact; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.messaging_contact VALUES (1, '+5511988880001', NULL, 'Paciente das 14h', '2026-11-30 11:09:50.820828+00');
INSERT INTO public.messaging_contact VALUES (2, '+5511988880002', NULL, 'Pedido 1042', '2026-11-30 11:09:50.852237+00');
INSERT INTO public.messaging_contact VALUES (3, '+5531988880003', NULL, 'Oficina, orçamento', '2026-11-30 11:09:50.868085+00');
INSERT INTO public.messaging_contact VALUES (4, '+5511988880004', NULL, 'Orçamento PC gamer', '2026-11-30 11:09:50.879375+00');


--
-- Data for Name: messaging_conversation; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.messaging_conversation VALUES (1, '2026-11-30 10:08:50.817308+00', '2026-11-30 10:08:50.817308+00', 1, '2026-11-30 11:09:50.824832+00', 1, 1);
INSERT INTO public.messaging_conversation VALUES (2, '2026-11-30 08:09:50.817308+00', '2026-11-29 06:24:50.817308+00', 0, '2026-11-30 11:09:50.855289+00', 1, 2);
INSERT INTO public.messaging_conversation VALUES (3, '2026-11-30 04:39:50.817308+00', '2026-11-30 04:29:50.817308+00', 0, '2026-11-30 11:09:50.870385+00', 1, 3);
INSERT INTO public.messaging_conversation VALUES (4, '2026-11-30 07:38:50.817308+00', '2026-11-29 02:49:50.817308+00', 0, '2026-11-30 11:09:50.882034+00', 1, 4);


--
-- Data for Name: messaging_deliveryattempt; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.messaging_deliveryattempt VALUES (1, 1, 1, 'first', 'accepted', 'read', '', '', '', 'demo.bcda8e42-ceeb-4a66-a1fc-3240766c74cb', '', '2026-11-28 10:25:50.817308+00', '2026-11-28 10:25:51.817308+00', NULL, 2, 'bcda8e42-ceeb-4a66-a1fc-3240766c74cb');
INSERT INTO public.messaging_deliveryattempt VALUES (2, 1, 1, 'first', 'accepted', 'read', '', '', '', 'demo.743a7449-ca09-4c52-9755-042c220a27a9', '', '2026-11-28 10:31:50.817308+00', '2026-11-28 10:31:51.817308+00', NULL, 2, '743a7449-ca09-4c52-9755-042c220a27a9');
INSERT INTO public.messaging_deliveryattempt VALUES (3, 1, 1, 'first', 'rejected', '', '131047', 'More than 24 hours since the customer''s last message', '', '', '', '2026-11-30 09:34:50.817308+00', '2026-11-30 09:34:51.817308+00', NULL, 2, '3f13cf55-88a9-49a8-b3bb-7ea7dd90f1c4');
INSERT INTO public.messaging_deliveryattempt VALUES (4, 2, 1, 'refused', 'accepted', 'delivered', '', '', '', 'demo.3f13cf55-88a9-49a8-b3bb-7ea7dd90f1c4', '', '2026-11-30 09:34:50.817308+00', '2026-11-30 09:34:51.817308+00', NULL, 1, '3f13cf55-88a9-49a8-b3bb-7ea7dd90f1c4');
INSERT INTO public.messaging_deliveryattempt VALUES (5, 1, 1, 'first', 'accepted', 'read', '', '', '', 'demo.f69db76a-e944-4a1f-95ba-7c262f01aebe', '', '2026-11-29 06:19:50.817308+00', '2026-11-29 06:19:51.817308+00', NULL, 2, 'f69db76a-e944-4a1f-95ba-7c262f01aebe');
INSERT INTO public.messaging_deliveryattempt VALUES (6, 1, 1, 'first', 'rejected', '', '131050', 'The customer opted out', '', '', '', '2026-11-30 08:09:50.817308+00', '2026-11-30 08:09:51.817308+00', NULL, 2, '9ed51cd0-0391-4ff8-8262-2e41449527ba');
INSERT INTO public.messaging_deliveryattempt VALUES (7, 1, 1, 'first', 'accepted', 'delivered', '', '', '', 'demo.f80e9d2d-73b7-438b-b058-0f1805b6a2f3', '', '2026-11-30 04:39:50.817308+00', '2026-11-30 04:39:51.817308+00', NULL, 2, 'f80e9d2d-73b7-438b-b058-0f1805b6a2f3');
INSERT INTO public.messaging_deliveryattempt VALUES (8, 1, 1, 'first', 'rejected', '', '131047', 'More than 24 hours since the customer''s last message', '', '', '', '2026-11-30 07:37:50.817308+00', '2026-11-30 07:37:51.817308+00', NULL, 2, '3d8fddfb-a544-4dde-8971-92a17ccfd647');
INSERT INTO public.messaging_deliveryattempt VALUES (9, 2, 1, 'refused', 'accepted', 'read', '', '', '', 'demo.3d8fddfb-a544-4dde-8971-92a17ccfd647', '', '2026-11-30 07:37:50.817308+00', '2026-11-30 07:37:51.817308+00', NULL, 1, '3d8fddfb-a544-4dde-8971-92a17ccfd647');
INSERT INTO public.messaging_deliveryattempt VALUES (10, 1, 1, 'first', 'rejected', '', '131047', 'More than 24 hours since the customer''s last message', '', '', '', '2026-11-30 07:38:50.817308+00', '2026-11-30 07:38:51.817308+00', NULL, 2, 'b3dda29d-2bbb-47d1-89dc-ecc59fbb1a4e');
INSERT INTO public.messaging_deliveryattempt VALUES (11, 2, 1, 'refused', 'accepted', 'read', '', '', '', 'demo.b3dda29d-2bbb-47d1-89dc-ecc59fbb1a4e', '', '2026-11-30 07:38:50.817308+00', '2026-11-30 07:38:51.817308+00', NULL, 1, 'b3dda29d-2bbb-47d1-89dc-ecc59fbb1a4e');


--
-- Data for Name: messaging_inboundevent; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.messaging_inboundevent VALUES (1, 'cloud', '1', 'recorded', '{"entry": [], "object": "whatsapp_business_account"}', '', 'pending', '', '', '2026-11-30 11:09:51.239066+00', NULL);


--
-- Data for Name: messaging_media; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.messaging_media VALUES ('71cc46e1-3b56-4979-84b1-d6a2d3cdb67b', 'stored', 'media/53d2b7670eb24cf6aad8388f7af9e0a9.bin', 'image/png', 1492, 'pc-gamer-completo.png', '551a8f88f90857edb22c166aaf4c12c32bebec1932ac71206ff2ec631e92d7ac', '{}', 0, NULL, '', '', '2026-11-30 11:09:50.930161+00', 1);


--
-- Data for Name: messaging_mediaupload; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.messaging_mediaupload VALUES (1, '1', '2026-11-30 11:09:50.181111+00', 1, '71cc46e1-3b56-4979-84b1-d6a2d3cdb67b');


--
-- Data for Name: messaging_message; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.messaging_message VALUES ('fa5defc3-0bee-416b-9e87-422c11aa4774', 'in', 'text', 'Bom dia! Queria remarcar a consulta de quinta.', '{}', '', NULL, '', '', '', '', NULL, 1, 'official', NULL, 0, 1, 'demo.fa5defc3-0bee-416b-9e87-422c11aa4774', '', false, NULL, NULL, '', '', '', '2026-11-28 10:19:50.817308+00', '2026-11-30 11:09:50.827327+00', 1, NULL, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('bcda8e42-ceeb-4a66-a1fc-3240766c74cb', 'out', 'text', 'Claro! Temos sexta às 14h ou segunda às 9h. Qual prefere?', '{}', 'read', 'official', '', '', '', '', NULL, 1, 'official', '2026-11-28 10:25:50.817308+00', 0, 1, '', '', false, NULL, NULL, '', '', '', '2026-11-28 10:25:50.817308+00', '2026-11-30 11:09:50.831238+00', 1, 1, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('ea844002-827d-4d3e-9d0f-0262c3fbd05c', 'in', 'text', 'Sexta às 14h, por favor.', '{}', '', NULL, '', '', '', '', NULL, 1, 'official', NULL, 0, 1, 'demo.ea844002-827d-4d3e-9d0f-0262c3fbd05c', '', false, NULL, NULL, '', '', '', '2026-11-28 10:29:50.817308+00', '2026-11-30 11:09:50.838615+00', 1, NULL, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('743a7449-ca09-4c52-9755-042c220a27a9', 'out', 'text', 'Marcado: sexta-feira, 14h. Até lá!', '{}', 'read', 'official', '', '', '', '', NULL, 1, 'official', '2026-11-28 10:31:50.817308+00', 0, 1, '', '', false, NULL, NULL, '', '', '', '2026-11-28 10:31:50.817308+00', '2026-11-30 11:09:50.840358+00', 1, 1, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('3f13cf55-88a9-49a8-b3bb-7ea7dd90f1c4', 'out', 'text', 'Lembrete: sua consulta é hoje às 14h. Pode confirmar?', '{}', 'delivered', 'wwebjs', '131047', 'More than 24 hours since the customer''s last message', '', '', NULL, 1, 'official', '2026-11-30 09:34:50.817308+00', 0, 1, '', '', false, NULL, NULL, '', '', '', '2026-11-30 09:34:50.817308+00', '2026-11-30 11:09:50.842994+00', 1, NULL, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('907f1a82-b637-46ec-9461-04dc5fad8784', 'in', 'text', 'Confirmado, obrigado!', '{}', '', NULL, '', '', '', '', NULL, 1, 'official', NULL, 0, 1, 'demo.907f1a82-b637-46ec-9461-04dc5fad8784', '', false, NULL, NULL, '', '', '', '2026-11-30 10:08:50.817308+00', '2026-11-30 11:09:50.846992+00', 1, NULL, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('74528341-09d3-4cb5-9d16-6883c9643b5a', 'in', 'text', 'Oi, meu pedido já saiu?', '{}', '', NULL, '', '', '', '', NULL, 1, 'official', NULL, 0, 1, 'demo.74528341-09d3-4cb5-9d16-6883c9643b5a', '', false, NULL, NULL, '', '', '', '2026-11-29 06:09:50.817308+00', '2026-11-30 11:09:50.856782+00', 2, NULL, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('f69db76a-e944-4a1f-95ba-7c262f01aebe', 'out', 'text', 'Saiu agora! Chega amanhã até as 18h.', '{}', 'read', 'official', '', '', '', '', NULL, 1, 'official', '2026-11-29 06:19:50.817308+00', 0, 1, '', '', false, NULL, NULL, '', '', '', '2026-11-29 06:19:50.817308+00', '2026-11-30 11:09:50.858368+00', 2, 1, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('8e3ad776-cbcb-4653-9082-77f0a9112985', 'in', 'text', 'Perfeito 👍', '{}', '', NULL, '', '', '', '', NULL, 1, 'official', NULL, 0, 1, 'demo.8e3ad776-cbcb-4653-9082-77f0a9112985', '', false, NULL, NULL, '', '', '', '2026-11-29 06:24:50.817308+00', '2026-11-30 11:09:50.861101+00', 2, NULL, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('9ed51cd0-0391-4ff8-8262-2e41449527ba', 'out', 'text', 'Seu pedido chegou bem?', '{}', 'rejected', 'official', '131050', 'The customer opted out', '', 'never_fall_back', NULL, 1, 'official', '2026-11-30 08:09:50.817308+00', 0, 1, '', '', false, NULL, NULL, '', '', '', '2026-11-30 08:09:50.817308+00', '2026-11-30 11:09:50.862519+00', 2, 1, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('f2a6e1cf-615b-4649-a605-bb6e230647dc', 'in', 'text', 'Vocês trocam pastilha de freio no sábado?', '{}', '', NULL, '', '', '', '', NULL, 1, 'official', NULL, 0, 1, 'demo.f2a6e1cf-615b-4649-a605-bb6e230647dc', '', false, NULL, NULL, '', '', '', '2026-11-30 04:29:50.817308+00', '2026-11-30 11:09:50.871597+00', 3, NULL, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('f80e9d2d-73b7-438b-b058-0f1805b6a2f3', 'out', 'text', 'Trocamos sim, até as 12h. Quer que eu reserve?', '{}', 'delivered', 'official', '', '', '', '', NULL, 1, 'official', '2026-11-30 04:39:50.817308+00', 0, 1, '', '', false, NULL, NULL, '', '', '', '2026-11-30 04:39:50.817308+00', '2026-11-30 11:09:50.873021+00', 3, 1, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('3e0d4227-7c1a-4ad3-b77c-f869ce6e3ee3', 'in', 'text', 'Boa tarde! Quanto fica um PC gamer completo?', '{}', '', NULL, '', '', '', '', NULL, 1, 'official', NULL, 0, 1, 'demo.3e0d4227-7c1a-4ad3-b77c-f869ce6e3ee3', '', false, NULL, NULL, '', '', '', '2026-11-29 02:49:50.817308+00', '2026-11-30 11:09:50.883524+00', 4, NULL, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('3d8fddfb-a544-4dde-8971-92a17ccfd647', 'out', 'text', 'Oi! Montamos o seu:', '{}', 'read', 'wwebjs', '131047', 'More than 24 hours since the customer''s last message', '', '', NULL, 1, 'official', '2026-11-30 07:37:50.817308+00', 0, 1, '', '', false, NULL, NULL, '', '', '', '2026-11-30 07:37:50.817308+00', '2026-11-30 11:09:50.88513+00', 4, 1, NULL, NULL, NULL);
INSERT INTO public.messaging_message VALUES ('b3dda29d-2bbb-47d1-89dc-ecc59fbb1a4e', 'out', 'image', '', '{"media": "71cc46e1-3b56-4979-84b1-d6a2d3cdb67b", "caption": "Sai por R$ 4.990, à vista."}', 'read', 'wwebjs', '131047', 'More than 24 hours since the customer''s last message', '', '', NULL, 1, 'official', '2026-11-30 07:38:50.817308+00', 0, 1, '', '', false, NULL, NULL, '', '', '', '2026-11-30 07:38:50.817308+00', '2026-11-30 11:09:50.932986+00', 4, 1, NULL, '71cc46e1-3b56-4979-84b1-d6a2d3cdb67b', NULL);


--
-- Data for Name: messaging_pendingevent; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.messaging_pendingevent VALUES (1, 'wamid.1', 'sent', '{}', '2026-11-30 11:09:51.24298+00', 1);


--
-- Data for Name: procrastinate_events; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.procrastinate_events VALUES (1, 1, 'deferred', '2026-11-30 11:09:50.182068+00');
INSERT INTO public.procrastinate_events VALUES (2, 2, 'deferred', '2026-11-30 11:09:50.182068+00');
INSERT INTO public.procrastinate_events VALUES (3, 3, 'deferred', '2026-11-30 11:09:50.954406+00');
INSERT INTO public.procrastinate_events VALUES (4, 4, 'deferred', '2026-11-30 11:09:51.078977+00');
INSERT INTO public.procrastinate_events VALUES (5, 5, 'deferred', '2026-11-30 11:09:51.097772+00');


--
-- Data for Name: procrastinate_jobs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.procrastinate_jobs VALUES (1, 'care', 'channels_app.probe_session', 'wwebjs-probe:1', '{"channel_id": 1}', 'todo', NULL, 0, 'wwebjs-probe:1', 20, false, NULL);
INSERT INTO public.procrastinate_jobs VALUES (2, 'care', 'channels_app.try_credentials', 'channel-test:1', '{"channel_id": 1}', 'todo', NULL, 0, 'channel-test:1', 20, false, NULL);
INSERT INTO public.procrastinate_jobs VALUES (3, 'care', 'instances.probe_connection', 'instance-probe:1', '{"session_id": 1}', 'todo', NULL, 0, 'instance-probe:1', 20, false, NULL);
INSERT INTO public.procrastinate_jobs VALUES (4, 'care', 'instances.configure', NULL, '{"session_id": 1}', 'todo', NULL, 0, NULL, 20, false, NULL);
INSERT INTO public.procrastinate_jobs VALUES (5, 'care', 'messaging.reschedule_throttled', 'rescheduling:1', '{"channel_id": 1}', 'todo', NULL, 0, 'rescheduling:1', 20, false, NULL);


--
-- Data for Name: procrastinate_periodic_defers; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: procrastinate_workers; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Name: auth_group_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.auth_group_id_seq', 1, false);


--
-- Name: auth_group_permissions_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.auth_group_permissions_id_seq', 1, false);


--
-- Name: auth_permission_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.auth_permission_id_seq', 146, true);


--
-- Name: auth_user_groups_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.auth_user_groups_id_seq', 1, false);


--
-- Name: auth_user_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.auth_user_id_seq', 1, true);


--
-- Name: auth_user_user_permissions_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.auth_user_user_permissions_id_seq', 1, false);


--
-- Name: axes_accessattempt_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.axes_accessattempt_id_seq', 1, false);


--
-- Name: axes_accessfailurelog_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.axes_accessfailurelog_id_seq', 1, false);


--
-- Name: axes_accesslog_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.axes_accesslog_id_seq', 1, false);


--
-- Name: channels_app_channel_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.channels_app_channel_id_seq', 2, true);


--
-- Name: channels_app_connection_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.channels_app_connection_id_seq', 3, true);


--
-- Name: channels_app_fallbackroute_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.channels_app_fallbackroute_id_seq', 3, true);


--
-- Name: channels_app_incident_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.channels_app_incident_id_seq', 1, true);


--
-- Name: channels_app_resolvednumber_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.channels_app_resolvednumber_id_seq', 1, true);


--
-- Name: django_admin_log_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.django_admin_log_id_seq', 1, false);


--
-- Name: django_content_type_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.django_content_type_id_seq', 37, true);


--
-- Name: django_migrations_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.django_migrations_id_seq', 74, true);


--
-- Name: instances_backfill_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.instances_backfill_id_seq', 1, true);


--
-- Name: instances_listenerprocess_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.instances_listenerprocess_id_seq', 1, true);


--
-- Name: instances_profilepicture_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.instances_profilepicture_id_seq', 1, true);


--
-- Name: instances_receivemodechange_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.instances_receivemodechange_id_seq', 1, true);


--
-- Name: instances_whatsappsession_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.instances_whatsappsession_id_seq', 1, true);


--
-- Name: messaging_callattempt_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.messaging_callattempt_id_seq', 1, true);


--
-- Name: messaging_contact_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.messaging_contact_id_seq', 4, true);


--
-- Name: messaging_conversation_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.messaging_conversation_id_seq', 4, true);


--
-- Name: messaging_deliveryattempt_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.messaging_deliveryattempt_id_seq', 11, true);


--
-- Name: messaging_inboundevent_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.messaging_inboundevent_id_seq', 1, true);


--
-- Name: messaging_mediaupload_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.messaging_mediaupload_id_seq', 1, true);


--
-- Name: messaging_pendingevent_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.messaging_pendingevent_id_seq', 1, true);


--
-- Name: procrastinate_events_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.procrastinate_events_id_seq', 5, true);


--
-- Name: procrastinate_jobs_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.procrastinate_jobs_id_seq', 5, true);


--
-- Name: procrastinate_periodic_defers_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.procrastinate_periodic_defers_id_seq', 1, false);


--
-- Name: procrastinate_workers_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.procrastinate_workers_id_seq', 1, false);


--
-- Name: accounts_apitoken accounts_apitoken_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.accounts_apitoken
    ADD CONSTRAINT accounts_apitoken_pkey PRIMARY KEY (digest);


--
-- Name: messaging_deliveryattempt attempt_number_once_per_message; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_deliveryattempt
    ADD CONSTRAINT attempt_number_once_per_message UNIQUE (message_id, number);


--
-- Name: auth_group auth_group_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_group
    ADD CONSTRAINT auth_group_name_key UNIQUE (name);


--
-- Name: auth_group_permissions auth_group_permissions_group_id_permission_id_0cd325b0_uniq; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_group_permissions
    ADD CONSTRAINT auth_group_permissions_group_id_permission_id_0cd325b0_uniq UNIQUE (group_id, permission_id);


--
-- Name: auth_group_permissions auth_group_permissions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_group_permissions
    ADD CONSTRAINT auth_group_permissions_pkey PRIMARY KEY (id);


--
-- Name: auth_group auth_group_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_group
    ADD CONSTRAINT auth_group_pkey PRIMARY KEY (id);


--
-- Name: auth_permission auth_permission_content_type_id_codename_01ab375a_uniq; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_permission
    ADD CONSTRAINT auth_permission_content_type_id_codename_01ab375a_uniq UNIQUE (content_type_id, codename);


--
-- Name: auth_permission auth_permission_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_permission
    ADD CONSTRAINT auth_permission_pkey PRIMARY KEY (id);


--
-- Name: auth_user_groups auth_user_groups_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_user_groups
    ADD CONSTRAINT auth_user_groups_pkey PRIMARY KEY (id);


--
-- Name: auth_user_groups auth_user_groups_user_id_group_id_94350c0c_uniq; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_user_groups
    ADD CONSTRAINT auth_user_groups_user_id_group_id_94350c0c_uniq UNIQUE (user_id, group_id);


--
-- Name: auth_user auth_user_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_user
    ADD CONSTRAINT auth_user_pkey PRIMARY KEY (id);


--
-- Name: auth_user_user_permissions auth_user_user_permissions_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_user_user_permissions
    ADD CONSTRAINT auth_user_user_permissions_pkey PRIMARY KEY (id);


--
-- Name: auth_user_user_permissions auth_user_user_permissions_user_id_permission_id_14a6b632_uniq; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_user_user_permissions
    ADD CONSTRAINT auth_user_user_permissions_user_id_permission_id_14a6b632_uniq UNIQUE (user_id, permission_id);


--
-- Name: auth_user auth_user_username_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_user
    ADD CONSTRAINT auth_user_username_key UNIQUE (username);


--
-- Name: axes_accessattempt axes_accessattempt_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.axes_accessattempt
    ADD CONSTRAINT axes_accessattempt_pkey PRIMARY KEY (id);


--
-- Name: axes_accessattempt axes_accessattempt_username_ip_address_user_agent_8ea22282_uniq; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.axes_accessattempt
    ADD CONSTRAINT axes_accessattempt_username_ip_address_user_agent_8ea22282_uniq UNIQUE (username, ip_address, user_agent);


--
-- Name: axes_accessattemptexpiration axes_accessattemptexpiration_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.axes_accessattemptexpiration
    ADD CONSTRAINT axes_accessattemptexpiration_pkey PRIMARY KEY (access_attempt_id);


--
-- Name: axes_accessfailurelog axes_accessfailurelog_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.axes_accessfailurelog
    ADD CONSTRAINT axes_accessfailurelog_pkey PRIMARY KEY (id);


--
-- Name: axes_accesslog axes_accesslog_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.axes_accesslog
    ADD CONSTRAINT axes_accesslog_pkey PRIMARY KEY (id);


--
-- Name: channels_app_channel channels_app_channel_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_channel
    ADD CONSTRAINT channels_app_channel_name_key UNIQUE (name);


--
-- Name: channels_app_channel channels_app_channel_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_channel
    ADD CONSTRAINT channels_app_channel_pkey PRIMARY KEY (id);


--
-- Name: channels_app_cloudcredentials channels_app_cloudcredentials_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_cloudcredentials
    ADD CONSTRAINT channels_app_cloudcredentials_pkey PRIMARY KEY (channel_id);


--
-- Name: channels_app_connection channels_app_connection_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_connection
    ADD CONSTRAINT channels_app_connection_pkey PRIMARY KEY (id);


--
-- Name: channels_app_evolutioncredentials channels_app_evolutioncredentials_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_evolutioncredentials
    ADD CONSTRAINT channels_app_evolutioncredentials_pkey PRIMARY KEY (channel_id);


--
-- Name: channels_app_fallbackroute channels_app_fallbackroute_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_fallbackroute
    ADD CONSTRAINT channels_app_fallbackroute_pkey PRIMARY KEY (id);


--
-- Name: channels_app_incident channels_app_incident_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_incident
    ADD CONSTRAINT channels_app_incident_pkey PRIMARY KEY (id);


--
-- Name: channels_app_resolvednumber channels_app_resolvednumber_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_resolvednumber
    ADD CONSTRAINT channels_app_resolvednumber_pkey PRIMARY KEY (id);


--
-- Name: channels_app_wwebjscredentials channels_app_wwebjscredentials_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_wwebjscredentials
    ADD CONSTRAINT channels_app_wwebjscredentials_pkey PRIMARY KEY (channel_id);


--
-- Name: channels_app_connection connection_once_per_channel_and_provider; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_connection
    ADD CONSTRAINT connection_once_per_channel_and_provider UNIQUE (channel_id, provider);


--
-- Name: messaging_conversation conversation_once_per_channel_and_contact; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_conversation
    ADD CONSTRAINT conversation_once_per_channel_and_contact UNIQUE (channel_id, contact_id);


--
-- Name: django_admin_log django_admin_log_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.django_admin_log
    ADD CONSTRAINT django_admin_log_pkey PRIMARY KEY (id);


--
-- Name: django_content_type django_content_type_app_label_model_76bd3d3b_uniq; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.django_content_type
    ADD CONSTRAINT django_content_type_app_label_model_76bd3d3b_uniq UNIQUE (app_label, model);


--
-- Name: django_content_type django_content_type_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.django_content_type
    ADD CONSTRAINT django_content_type_pkey PRIMARY KEY (id);


--
-- Name: django_migrations django_migrations_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.django_migrations
    ADD CONSTRAINT django_migrations_pkey PRIMARY KEY (id);


--
-- Name: django_session django_session_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.django_session
    ADD CONSTRAINT django_session_pkey PRIMARY KEY (session_key);


--
-- Name: channels_app_fallbackroute fallback_route_once_per_connection; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_fallbackroute
    ADD CONSTRAINT fallback_route_once_per_connection UNIQUE (channel_id, connection_id);


--
-- Name: channels_app_fallbackroute fallback_route_once_per_position; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_fallbackroute
    ADD CONSTRAINT fallback_route_once_per_position UNIQUE (channel_id, "position");


--
-- Name: instances_backfill instances_backfill_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_backfill
    ADD CONSTRAINT instances_backfill_pkey PRIMARY KEY (id);


--
-- Name: instances_listenerprocess instances_listenerprocess_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_listenerprocess
    ADD CONSTRAINT instances_listenerprocess_name_key UNIQUE (name);


--
-- Name: instances_listenerprocess instances_listenerprocess_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_listenerprocess
    ADD CONSTRAINT instances_listenerprocess_pkey PRIMARY KEY (id);


--
-- Name: instances_profilepicture instances_profilepicture_connection_id_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_profilepicture
    ADD CONSTRAINT instances_profilepicture_connection_id_key UNIQUE (connection_id);


--
-- Name: instances_profilepicture instances_profilepicture_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_profilepicture
    ADD CONSTRAINT instances_profilepicture_pkey PRIMARY KEY (id);


--
-- Name: instances_receivemodechange instances_receivemodechange_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_receivemodechange
    ADD CONSTRAINT instances_receivemodechange_pkey PRIMARY KEY (id);


--
-- Name: instances_whatsappsession instances_whatsappsession_channel_id_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_whatsappsession
    ADD CONSTRAINT instances_whatsappsession_channel_id_key UNIQUE (channel_id);


--
-- Name: instances_whatsappsession instances_whatsappsession_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_whatsappsession
    ADD CONSTRAINT instances_whatsappsession_pkey PRIMARY KEY (id);


--
-- Name: instances_whatsappsession instances_whatsappsession_webhook_secret_digest_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_whatsappsession
    ADD CONSTRAINT instances_whatsappsession_webhook_secret_digest_key UNIQUE (webhook_secret_digest);


--
-- Name: messaging_mediaupload media_uploaded_once_per_channel; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_mediaupload
    ADD CONSTRAINT media_uploaded_once_per_channel UNIQUE (media_id, channel_id);


--
-- Name: messaging_callattempt messaging_callattempt_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_callattempt
    ADD CONSTRAINT messaging_callattempt_pkey PRIMARY KEY (id);


--
-- Name: messaging_contact messaging_contact_phone_number_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_contact
    ADD CONSTRAINT messaging_contact_phone_number_key UNIQUE (phone_number);


--
-- Name: messaging_contact messaging_contact_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_contact
    ADD CONSTRAINT messaging_contact_pkey PRIMARY KEY (id);


--
-- Name: messaging_contact messaging_contact_user_id_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_contact
    ADD CONSTRAINT messaging_contact_user_id_key UNIQUE (user_id);


--
-- Name: messaging_conversation messaging_conversation_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_conversation
    ADD CONSTRAINT messaging_conversation_pkey PRIMARY KEY (id);


--
-- Name: messaging_deliveryattempt messaging_deliveryattempt_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_deliveryattempt
    ADD CONSTRAINT messaging_deliveryattempt_pkey PRIMARY KEY (id);


--
-- Name: messaging_inboundevent messaging_inboundevent_dedupe_key_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_inboundevent
    ADD CONSTRAINT messaging_inboundevent_dedupe_key_key UNIQUE (dedupe_key);


--
-- Name: messaging_inboundevent messaging_inboundevent_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_inboundevent
    ADD CONSTRAINT messaging_inboundevent_pkey PRIMARY KEY (id);


--
-- Name: messaging_media messaging_media_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_media
    ADD CONSTRAINT messaging_media_pkey PRIMARY KEY (id);


--
-- Name: messaging_mediaupload messaging_mediaupload_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_mediaupload
    ADD CONSTRAINT messaging_mediaupload_pkey PRIMARY KEY (id);


--
-- Name: messaging_message messaging_message_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_message
    ADD CONSTRAINT messaging_message_pkey PRIMARY KEY (id);


--
-- Name: messaging_pendingevent messaging_pendingevent_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_pendingevent
    ADD CONSTRAINT messaging_pendingevent_pkey PRIMARY KEY (id);


--
-- Name: messaging_pendingevent pending_event_once; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_pendingevent
    ADD CONSTRAINT pending_event_once UNIQUE (channel_id, provider_message_id, kind);


--
-- Name: procrastinate_events procrastinate_events_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_events
    ADD CONSTRAINT procrastinate_events_pkey PRIMARY KEY (id);


--
-- Name: procrastinate_jobs procrastinate_jobs_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_jobs
    ADD CONSTRAINT procrastinate_jobs_pkey PRIMARY KEY (id);


--
-- Name: procrastinate_periodic_defers procrastinate_periodic_defers_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_pkey PRIMARY KEY (id);


--
-- Name: procrastinate_periodic_defers procrastinate_periodic_defers_unique; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_unique UNIQUE (task_name, periodic_id, defer_timestamp);


--
-- Name: procrastinate_workers procrastinate_workers_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_workers
    ADD CONSTRAINT procrastinate_workers_pkey PRIMARY KEY (id);


--
-- Name: channels_app_resolvednumber resolved_number_once_per_connection; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_resolvednumber
    ADD CONSTRAINT resolved_number_once_per_connection UNIQUE (connection_id, number);


--
-- Name: accounts_apitoken_digest_63ccb187_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX accounts_apitoken_digest_63ccb187_like ON public.accounts_apitoken USING btree (digest varchar_pattern_ops);


--
-- Name: accounts_apitoken_token_key_8fc3309f; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX accounts_apitoken_token_key_8fc3309f ON public.accounts_apitoken USING btree (token_key);


--
-- Name: accounts_apitoken_token_key_8fc3309f_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX accounts_apitoken_token_key_8fc3309f_like ON public.accounts_apitoken USING btree (token_key varchar_pattern_ops);


--
-- Name: accounts_apitoken_user_id_bbee13e0; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX accounts_apitoken_user_id_bbee13e0 ON public.accounts_apitoken USING btree (user_id);


--
-- Name: attempt_one_started_per_message; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX attempt_one_started_per_message ON public.messaging_deliveryattempt USING btree (message_id) WHERE ((outcome)::text = 'started'::text);


--
-- Name: attempt_provider_message_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX attempt_provider_message_id ON public.messaging_deliveryattempt USING btree (provider_message_id) WHERE (NOT ((provider_message_id)::text = ''::text));


--
-- Name: attempt_reserved_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX attempt_reserved_id ON public.messaging_deliveryattempt USING btree (reserved_id) WHERE (NOT ((reserved_id)::text = ''::text));


--
-- Name: auth_group_name_a6ea08ec_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX auth_group_name_a6ea08ec_like ON public.auth_group USING btree (name varchar_pattern_ops);


--
-- Name: auth_group_permissions_group_id_b120cbf9; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX auth_group_permissions_group_id_b120cbf9 ON public.auth_group_permissions USING btree (group_id);


--
-- Name: auth_group_permissions_permission_id_84c5c92e; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX auth_group_permissions_permission_id_84c5c92e ON public.auth_group_permissions USING btree (permission_id);


--
-- Name: auth_permission_content_type_id_2f476e4b; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX auth_permission_content_type_id_2f476e4b ON public.auth_permission USING btree (content_type_id);


--
-- Name: auth_user_groups_group_id_97559544; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX auth_user_groups_group_id_97559544 ON public.auth_user_groups USING btree (group_id);


--
-- Name: auth_user_groups_user_id_6a12ed8b; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX auth_user_groups_user_id_6a12ed8b ON public.auth_user_groups USING btree (user_id);


--
-- Name: auth_user_user_permissions_permission_id_1fbb5f2c; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX auth_user_user_permissions_permission_id_1fbb5f2c ON public.auth_user_user_permissions USING btree (permission_id);


--
-- Name: auth_user_user_permissions_user_id_a95ead1b; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX auth_user_user_permissions_user_id_a95ead1b ON public.auth_user_user_permissions USING btree (user_id);


--
-- Name: auth_user_username_6821ab7c_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX auth_user_username_6821ab7c_like ON public.auth_user USING btree (username varchar_pattern_ops);


--
-- Name: axes_accessattempt_ip_address_10922d9c; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accessattempt_ip_address_10922d9c ON public.axes_accessattempt USING btree (ip_address);


--
-- Name: axes_accessattempt_user_agent_ad89678b; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accessattempt_user_agent_ad89678b ON public.axes_accessattempt USING btree (user_agent);


--
-- Name: axes_accessattempt_user_agent_ad89678b_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accessattempt_user_agent_ad89678b_like ON public.axes_accessattempt USING btree (user_agent varchar_pattern_ops);


--
-- Name: axes_accessattempt_username_3f2d4ca0; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accessattempt_username_3f2d4ca0 ON public.axes_accessattempt USING btree (username);


--
-- Name: axes_accessattempt_username_3f2d4ca0_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accessattempt_username_3f2d4ca0_like ON public.axes_accessattempt USING btree (username varchar_pattern_ops);


--
-- Name: axes_accessfailurelog_ip_address_2e9f5a7f; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accessfailurelog_ip_address_2e9f5a7f ON public.axes_accessfailurelog USING btree (ip_address);


--
-- Name: axes_accessfailurelog_user_agent_ea145dda; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accessfailurelog_user_agent_ea145dda ON public.axes_accessfailurelog USING btree (user_agent);


--
-- Name: axes_accessfailurelog_user_agent_ea145dda_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accessfailurelog_user_agent_ea145dda_like ON public.axes_accessfailurelog USING btree (user_agent varchar_pattern_ops);


--
-- Name: axes_accessfailurelog_username_a8b7e8a4; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accessfailurelog_username_a8b7e8a4 ON public.axes_accessfailurelog USING btree (username);


--
-- Name: axes_accessfailurelog_username_a8b7e8a4_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accessfailurelog_username_a8b7e8a4_like ON public.axes_accessfailurelog USING btree (username varchar_pattern_ops);


--
-- Name: axes_accesslog_ip_address_86b417e5; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accesslog_ip_address_86b417e5 ON public.axes_accesslog USING btree (ip_address);


--
-- Name: axes_accesslog_user_agent_0e659004; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accesslog_user_agent_0e659004 ON public.axes_accesslog USING btree (user_agent);


--
-- Name: axes_accesslog_user_agent_0e659004_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accesslog_user_agent_0e659004_like ON public.axes_accesslog USING btree (user_agent varchar_pattern_ops);


--
-- Name: axes_accesslog_username_df93064b; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accesslog_username_df93064b ON public.axes_accesslog USING btree (username);


--
-- Name: axes_accesslog_username_df93064b_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX axes_accesslog_username_df93064b_like ON public.axes_accesslog USING btree (username varchar_pattern_ops);


--
-- Name: call_once_per_channel; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX call_once_per_channel ON public.messaging_callattempt USING btree (channel_id, call_id) WHERE (NOT ((call_id)::text = ''::text));


--
-- Name: call_updated; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX call_updated ON public.messaging_callattempt USING btree (updated_at) WHERE incoming;


--
-- Name: channels_ap_connect_504c45_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_ap_connect_504c45_idx ON public.channels_app_incident USING btree (connection_id, opened_at DESC);


--
-- Name: channels_app_channel_name_7ccc4893_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_app_channel_name_7ccc4893_like ON public.channels_app_channel USING btree (name varchar_pattern_ops);


--
-- Name: channels_app_connection_channel_id_d5b81e61; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_app_connection_channel_id_d5b81e61 ON public.channels_app_connection USING btree (channel_id);


--
-- Name: channels_app_connection_linked_number_372536d8; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_app_connection_linked_number_372536d8 ON public.channels_app_connection USING btree (linked_number);


--
-- Name: channels_app_connection_linked_number_372536d8_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_app_connection_linked_number_372536d8_like ON public.channels_app_connection USING btree (linked_number varchar_pattern_ops);


--
-- Name: channels_app_connection_new_chats_lifted_by_id_8fccce4b; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_app_connection_new_chats_lifted_by_id_8fccce4b ON public.channels_app_connection USING btree (new_chats_lifted_by_id);


--
-- Name: channels_app_connection_next_poll_at_390b0d23; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_app_connection_next_poll_at_390b0d23 ON public.channels_app_connection USING btree (next_poll_at);


--
-- Name: channels_app_fallbackroute_channel_id_08ea0cfc; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_app_fallbackroute_channel_id_08ea0cfc ON public.channels_app_fallbackroute USING btree (channel_id);


--
-- Name: channels_app_fallbackroute_connection_id_25857ebf; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_app_fallbackroute_connection_id_25857ebf ON public.channels_app_fallbackroute USING btree (connection_id);


--
-- Name: channels_app_incident_connection_id_3c426203; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_app_incident_connection_id_3c426203 ON public.channels_app_incident USING btree (connection_id);


--
-- Name: channels_app_resolvednumber_connection_id_02f4f4d0; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX channels_app_resolvednumber_connection_id_02f4f4d0 ON public.channels_app_resolvednumber USING btree (connection_id);


--
-- Name: cloud_credentials_phone_number_id_once; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX cloud_credentials_phone_number_id_once ON public.channels_app_cloudcredentials USING btree (phone_number_id) WHERE (NOT ((phone_number_id)::text = ''::text));


--
-- Name: connection_address; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX connection_address ON public.channels_app_connection USING btree (address) WHERE (NOT ((address)::text = ''::text));


--
-- Name: django_admin_log_content_type_id_c4bce8eb; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX django_admin_log_content_type_id_c4bce8eb ON public.django_admin_log USING btree (content_type_id);


--
-- Name: django_admin_log_user_id_c564eba6; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX django_admin_log_user_id_c564eba6 ON public.django_admin_log USING btree (user_id);


--
-- Name: django_session_expire_date_a5c62663; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX django_session_expire_date_a5c62663 ON public.django_session USING btree (expire_date);


--
-- Name: django_session_session_key_c0390e0f_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX django_session_session_key_c0390e0f_like ON public.django_session USING btree (session_key varchar_pattern_ops);


--
-- Name: evolution_credentials_instance_name_once; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX evolution_credentials_instance_name_once ON public.channels_app_evolutioncredentials USING btree (instance_name) WHERE (NOT ((instance_name)::text = ''::text));


--
-- Name: idx_procrastinate_jobs_worker_not_null; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX idx_procrastinate_jobs_worker_not_null ON public.procrastinate_jobs USING btree (worker_id) WHERE ((worker_id IS NOT NULL) AND (status = 'doing'::public.procrastinate_job_status));


--
-- Name: idx_procrastinate_workers_last_heartbeat; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX idx_procrastinate_workers_last_heartbeat ON public.procrastinate_workers USING btree (last_heartbeat);


--
-- Name: inbound_pending; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX inbound_pending ON public.messaging_inboundevent USING btree (source, source_key, id) WHERE ((state)::text = 'pending'::text);


--
-- Name: inbound_raw_file; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX inbound_raw_file ON public.messaging_inboundevent USING btree (raw_file) WHERE (NOT ((raw_file)::text = ''::text));


--
-- Name: inbound_set_aside; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX inbound_set_aside ON public.messaging_inboundevent USING btree (id) WHERE ((state)::text = 'set_aside'::text);


--
-- Name: inbound_skipped; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX inbound_skipped ON public.messaging_inboundevent USING btree (skipped) WHERE (NOT ((skipped)::text = ''::text));


--
-- Name: incident_one_open_per_connection; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX incident_one_open_per_connection ON public.channels_app_incident USING btree (connection_id, kind, code) WHERE (closed_at IS NULL);


--
-- Name: instances_b_session_a54210_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_b_session_a54210_idx ON public.instances_backfill USING btree (session_id, at DESC);


--
-- Name: instances_backfill_session_id_173e477b; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_backfill_session_id_173e477b ON public.instances_backfill USING btree (session_id);


--
-- Name: instances_listenerprocess_name_aab5d755_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_listenerprocess_name_aab5d755_like ON public.instances_listenerprocess USING btree (name varchar_pattern_ops);


--
-- Name: instances_r_session_953645_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_r_session_953645_idx ON public.instances_receivemodechange USING btree (session_id, started_at DESC);


--
-- Name: instances_receivemodechange_cancelled_by_id_a104d27f; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_receivemodechange_cancelled_by_id_a104d27f ON public.instances_receivemodechange USING btree (cancelled_by_id);


--
-- Name: instances_receivemodechange_session_id_dbee1be3; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_receivemodechange_session_id_dbee1be3 ON public.instances_receivemodechange USING btree (session_id);


--
-- Name: instances_receivemodechange_user_id_bb2add47; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_receivemodechange_user_id_bb2add47 ON public.instances_receivemodechange USING btree (user_id);


--
-- Name: instances_whatsappsession_gap_fetch_at_c0da0720; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_whatsappsession_gap_fetch_at_c0da0720 ON public.instances_whatsappsession USING btree (gap_fetch_at);


--
-- Name: instances_whatsappsession_look_at_94374294; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_whatsappsession_look_at_94374294 ON public.instances_whatsappsession USING btree (look_at);


--
-- Name: instances_whatsappsession_switching_change_id_451fbe7d; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_whatsappsession_switching_change_id_451fbe7d ON public.instances_whatsappsession USING btree (switching_change_id);


--
-- Name: instances_whatsappsession_webhook_secret_digest_1a203305_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX instances_whatsappsession_webhook_secret_digest_1a203305_like ON public.instances_whatsappsession USING btree (webhook_secret_digest varchar_pattern_ops);


--
-- Name: media_waiting; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX media_waiting ON public.messaging_media USING btree (next_try_at) WHERE ((state)::text = 'waiting'::text);


--
-- Name: message_client_reference; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX message_client_reference ON public.messaging_message USING btree (client_reference) WHERE (NOT ((client_reference)::text = ''::text));


--
-- Name: message_idempotency_key_once_per_user; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX message_idempotency_key_once_per_user ON public.messaging_message USING btree (created_by_id, idempotency_key) WHERE (NOT ((idempotency_key)::text = ''::text));


--
-- Name: message_provider_id_once_per_conversation; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX message_provider_id_once_per_conversation ON public.messaging_message USING btree (provider_message_id, conversation_id) WHERE (NOT ((provider_message_id)::text = ''::text));


--
-- Name: message_provider_message_id; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX message_provider_message_id ON public.messaging_message USING btree (provider_message_id) WHERE (NOT ((provider_message_id)::text = ''::text));


--
-- Name: message_unfinished; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX message_unfinished ON public.messaging_message USING btree (updated_at) WHERE ((((decision)::text = ''::text) OR ((decision)::text ~~ 'waiting\_%'::text)) AND ((direction)::text = 'out'::text) AND ((status)::text = ANY ((ARRAY['queued'::character varying, 'sending'::character varying, 'unconfirmed'::character varying, 'rejected'::character varying])::text[])));


--
-- Name: message_updated; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX message_updated ON public.messaging_message USING btree (updated_at);


--
-- Name: message_waiting; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX message_waiting ON public.messaging_message USING btree (next_attempt_at) WHERE (next_attempt_at IS NOT NULL);


--
-- Name: message_waiting_here; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX message_waiting_here ON public.messaging_message USING btree (conversation_id) WHERE (next_attempt_at IS NOT NULL);


--
-- Name: messaging_c_convers_e2da10_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_c_convers_e2da10_idx ON public.messaging_callattempt USING btree (conversation_id, created_at DESC);


--
-- Name: messaging_c_last_me_7eba10_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_c_last_me_7eba10_idx ON public.messaging_conversation USING btree (last_message_at DESC, id DESC);


--
-- Name: messaging_callattempt_channel_id_fac6ea17; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_callattempt_channel_id_fac6ea17 ON public.messaging_callattempt USING btree (channel_id);


--
-- Name: messaging_callattempt_conversation_id_30f742ab; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_callattempt_conversation_id_30f742ab ON public.messaging_callattempt USING btree (conversation_id);


--
-- Name: messaging_callattempt_created_by_id_63911f04; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_callattempt_created_by_id_63911f04 ON public.messaging_callattempt USING btree (created_by_id);


--
-- Name: messaging_contact_phone_number_f4d4f893_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_contact_phone_number_f4d4f893_like ON public.messaging_contact USING btree (phone_number varchar_pattern_ops);


--
-- Name: messaging_contact_user_id_7ad68a8b_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_contact_user_id_7ad68a8b_like ON public.messaging_contact USING btree (user_id varchar_pattern_ops);


--
-- Name: messaging_conversation_channel_id_41e8dcd0; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_conversation_channel_id_41e8dcd0 ON public.messaging_conversation USING btree (channel_id);


--
-- Name: messaging_conversation_contact_id_0b518da6; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_conversation_contact_id_0b518da6 ON public.messaging_conversation USING btree (contact_id);


--
-- Name: messaging_d_connect_c2f07c_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_d_connect_c2f07c_idx ON public.messaging_deliveryattempt USING btree (connection_id, started_at);


--
-- Name: messaging_deliveryattempt_confirmed_by_id_43b07fcd; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_deliveryattempt_confirmed_by_id_43b07fcd ON public.messaging_deliveryattempt USING btree (confirmed_by_id);


--
-- Name: messaging_deliveryattempt_connection_id_c9dd1fdc; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_deliveryattempt_connection_id_c9dd1fdc ON public.messaging_deliveryattempt USING btree (connection_id);


--
-- Name: messaging_deliveryattempt_message_id_3317fec4; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_deliveryattempt_message_id_3317fec4 ON public.messaging_deliveryattempt USING btree (message_id);


--
-- Name: messaging_i_receive_885701_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_i_receive_885701_idx ON public.messaging_inboundevent USING btree (received_at);


--
-- Name: messaging_inboundevent_dedupe_key_d943a0d6_like; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_inboundevent_dedupe_key_d943a0d6_like ON public.messaging_inboundevent USING btree (dedupe_key varchar_pattern_ops);


--
-- Name: messaging_m_convers_98cbfa_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_m_convers_98cbfa_idx ON public.messaging_message USING btree (conversation_id, updated_at);


--
-- Name: messaging_m_convers_fccf6c_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_m_convers_fccf6c_idx ON public.messaging_message USING btree (conversation_id, created_at DESC, id DESC);


--
-- Name: messaging_m_created_2d9d3d_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_m_created_2d9d3d_idx ON public.messaging_media USING btree (created_at);


--
-- Name: messaging_m_file_10ebee_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_m_file_10ebee_idx ON public.messaging_media USING btree (file);


--
-- Name: messaging_m_status_17edaf_idx; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_m_status_17edaf_idx ON public.messaging_message USING btree (status, created_at);


--
-- Name: messaging_media_created_by_id_61aac5bf; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_media_created_by_id_61aac5bf ON public.messaging_media USING btree (created_by_id);


--
-- Name: messaging_mediaupload_channel_id_54576282; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_mediaupload_channel_id_54576282 ON public.messaging_mediaupload USING btree (channel_id);


--
-- Name: messaging_mediaupload_media_id_5281cb45; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_mediaupload_media_id_5281cb45 ON public.messaging_mediaupload USING btree (media_id);


--
-- Name: messaging_message_conversation_id_3db4d3d1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_message_conversation_id_3db4d3d1 ON public.messaging_message USING btree (conversation_id);


--
-- Name: messaging_message_created_at_f4945c0f; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_message_created_at_f4945c0f ON public.messaging_message USING btree (created_at);


--
-- Name: messaging_message_created_by_id_8c40f7ec; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_message_created_by_id_8c40f7ec ON public.messaging_message USING btree (created_by_id);


--
-- Name: messaging_message_echo_of_id_8fad9362; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_message_echo_of_id_8fad9362 ON public.messaging_message USING btree (echo_of_id);


--
-- Name: messaging_message_media_id_66c62540; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_message_media_id_66c62540 ON public.messaging_message USING btree (media_id);


--
-- Name: messaging_message_reply_to_id_f28e3285; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_message_reply_to_id_f28e3285 ON public.messaging_message USING btree (reply_to_id);


--
-- Name: messaging_pendingevent_channel_id_7f250826; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX messaging_pendingevent_channel_id_7f250826 ON public.messaging_pendingevent USING btree (channel_id);


--
-- Name: procrastinate_events_job_id_fkey_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX procrastinate_events_job_id_fkey_v1 ON public.procrastinate_events USING btree (job_id);


--
-- Name: procrastinate_jobs_id_lock_idx_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX procrastinate_jobs_id_lock_idx_v1 ON public.procrastinate_jobs USING btree (id, lock) WHERE (status = ANY (ARRAY['todo'::public.procrastinate_job_status, 'doing'::public.procrastinate_job_status]));


--
-- Name: procrastinate_jobs_lock_idx_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX procrastinate_jobs_lock_idx_v1 ON public.procrastinate_jobs USING btree (lock) WHERE (status = 'doing'::public.procrastinate_job_status);


--
-- Name: procrastinate_jobs_priority_idx_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX procrastinate_jobs_priority_idx_v1 ON public.procrastinate_jobs USING btree (priority DESC, id) WHERE (status = 'todo'::public.procrastinate_job_status);


--
-- Name: procrastinate_jobs_queue_name_idx_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX procrastinate_jobs_queue_name_idx_v1 ON public.procrastinate_jobs USING btree (queue_name);


--
-- Name: procrastinate_jobs_queueing_lock_idx_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE UNIQUE INDEX procrastinate_jobs_queueing_lock_idx_v1 ON public.procrastinate_jobs USING btree (queueing_lock) WHERE (status = 'todo'::public.procrastinate_job_status);


--
-- Name: procrastinate_periodic_defers_job_id_fkey_v1; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX procrastinate_periodic_defers_job_id_fkey_v1 ON public.procrastinate_periodic_defers USING btree (job_id);


--
-- Name: procrastinate_jobs alterna_lock_is_free_after_delete; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER alterna_lock_is_free_after_delete AFTER DELETE ON public.procrastinate_jobs FOR EACH ROW WHEN (((old.lock IS NOT NULL) AND (old.status = 'doing'::public.procrastinate_job_status))) EXECUTE FUNCTION public.alterna_notify_lock_is_free();


--
-- Name: procrastinate_jobs alterna_lock_is_free_after_update; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER alterna_lock_is_free_after_update AFTER UPDATE OF status ON public.procrastinate_jobs FOR EACH ROW WHEN (((old.lock IS NOT NULL) AND (old.status = 'doing'::public.procrastinate_job_status) AND (new.status <> ALL (ARRAY['doing'::public.procrastinate_job_status, 'todo'::public.procrastinate_job_status])))) EXECUTE FUNCTION public.alterna_notify_lock_is_free();


--
-- Name: procrastinate_jobs procrastinate_jobs_notify_queue_job_aborted_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_jobs_notify_queue_job_aborted_v1 AFTER UPDATE OF abort_requested ON public.procrastinate_jobs FOR EACH ROW WHEN (((old.abort_requested = false) AND (new.abort_requested = true) AND (new.status = 'doing'::public.procrastinate_job_status))) EXECUTE FUNCTION public.procrastinate_notify_queue_abort_job_v1();


--
-- Name: procrastinate_jobs procrastinate_jobs_notify_queue_job_inserted_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1 AFTER INSERT ON public.procrastinate_jobs FOR EACH ROW WHEN ((new.status = 'todo'::public.procrastinate_job_status)) EXECUTE FUNCTION public.procrastinate_notify_queue_job_inserted_v1();


--
-- Name: procrastinate_jobs procrastinate_trigger_abort_requested_events_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_trigger_abort_requested_events_v1 AFTER UPDATE OF abort_requested ON public.procrastinate_jobs FOR EACH ROW WHEN ((new.abort_requested = true)) EXECUTE FUNCTION public.procrastinate_trigger_abort_requested_events_procedure_v1();


--
-- Name: procrastinate_jobs procrastinate_trigger_delete_jobs_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_trigger_delete_jobs_v1 BEFORE DELETE ON public.procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION public.procrastinate_unlink_periodic_defers_v1();


--
-- Name: procrastinate_jobs procrastinate_trigger_scheduled_events_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_trigger_scheduled_events_v1 AFTER INSERT OR UPDATE ON public.procrastinate_jobs FOR EACH ROW WHEN (((new.scheduled_at IS NOT NULL) AND (new.status = 'todo'::public.procrastinate_job_status))) EXECUTE FUNCTION public.procrastinate_trigger_function_scheduled_events_v1();


--
-- Name: procrastinate_jobs procrastinate_trigger_status_events_insert_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_trigger_status_events_insert_v1 AFTER INSERT ON public.procrastinate_jobs FOR EACH ROW WHEN ((new.status = 'todo'::public.procrastinate_job_status)) EXECUTE FUNCTION public.procrastinate_trigger_function_status_events_insert_v1();


--
-- Name: procrastinate_jobs procrastinate_trigger_status_events_update_v1; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER procrastinate_trigger_status_events_update_v1 AFTER UPDATE OF status ON public.procrastinate_jobs FOR EACH ROW EXECUTE FUNCTION public.procrastinate_trigger_function_status_events_update_v1();


--
-- Name: accounts_apitoken accounts_apitoken_user_id_bbee13e0_fk_auth_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.accounts_apitoken
    ADD CONSTRAINT accounts_apitoken_user_id_bbee13e0_fk_auth_user_id FOREIGN KEY (user_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: auth_group_permissions auth_group_permissio_permission_id_84c5c92e_fk_auth_perm; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_group_permissions
    ADD CONSTRAINT auth_group_permissio_permission_id_84c5c92e_fk_auth_perm FOREIGN KEY (permission_id) REFERENCES public.auth_permission(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: auth_group_permissions auth_group_permissions_group_id_b120cbf9_fk_auth_group_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_group_permissions
    ADD CONSTRAINT auth_group_permissions_group_id_b120cbf9_fk_auth_group_id FOREIGN KEY (group_id) REFERENCES public.auth_group(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: auth_permission auth_permission_content_type_id_2f476e4b_fk_django_co; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_permission
    ADD CONSTRAINT auth_permission_content_type_id_2f476e4b_fk_django_co FOREIGN KEY (content_type_id) REFERENCES public.django_content_type(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: auth_user_groups auth_user_groups_group_id_97559544_fk_auth_group_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_user_groups
    ADD CONSTRAINT auth_user_groups_group_id_97559544_fk_auth_group_id FOREIGN KEY (group_id) REFERENCES public.auth_group(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: auth_user_groups auth_user_groups_user_id_6a12ed8b_fk_auth_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_user_groups
    ADD CONSTRAINT auth_user_groups_user_id_6a12ed8b_fk_auth_user_id FOREIGN KEY (user_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: auth_user_user_permissions auth_user_user_permi_permission_id_1fbb5f2c_fk_auth_perm; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_user_user_permissions
    ADD CONSTRAINT auth_user_user_permi_permission_id_1fbb5f2c_fk_auth_perm FOREIGN KEY (permission_id) REFERENCES public.auth_permission(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: auth_user_user_permissions auth_user_user_permissions_user_id_a95ead1b_fk_auth_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.auth_user_user_permissions
    ADD CONSTRAINT auth_user_user_permissions_user_id_a95ead1b_fk_auth_user_id FOREIGN KEY (user_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: axes_accessattemptexpiration axes_accessattemptex_access_attempt_id_6b73a47a_fk_axes_acce; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.axes_accessattemptexpiration
    ADD CONSTRAINT axes_accessattemptex_access_attempt_id_6b73a47a_fk_axes_acce FOREIGN KEY (access_attempt_id) REFERENCES public.axes_accessattempt(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: channels_app_cloudcredentials channels_app_cloudcr_channel_id_332b64d4_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_cloudcredentials
    ADD CONSTRAINT channels_app_cloudcr_channel_id_332b64d4_fk_channels_ FOREIGN KEY (channel_id) REFERENCES public.channels_app_channel(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: channels_app_connection channels_app_connect_channel_id_d5b81e61_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_connection
    ADD CONSTRAINT channels_app_connect_channel_id_d5b81e61_fk_channels_ FOREIGN KEY (channel_id) REFERENCES public.channels_app_channel(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: channels_app_connection channels_app_connect_new_chats_lifted_by__8fccce4b_fk_auth_user; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_connection
    ADD CONSTRAINT channels_app_connect_new_chats_lifted_by__8fccce4b_fk_auth_user FOREIGN KEY (new_chats_lifted_by_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: channels_app_evolutioncredentials channels_app_evoluti_channel_id_4f080219_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_evolutioncredentials
    ADD CONSTRAINT channels_app_evoluti_channel_id_4f080219_fk_channels_ FOREIGN KEY (channel_id) REFERENCES public.channels_app_channel(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: channels_app_fallbackroute channels_app_fallbac_channel_id_08ea0cfc_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_fallbackroute
    ADD CONSTRAINT channels_app_fallbac_channel_id_08ea0cfc_fk_channels_ FOREIGN KEY (channel_id) REFERENCES public.channels_app_channel(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: channels_app_fallbackroute channels_app_fallbac_connection_id_25857ebf_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_fallbackroute
    ADD CONSTRAINT channels_app_fallbac_connection_id_25857ebf_fk_channels_ FOREIGN KEY (connection_id) REFERENCES public.channels_app_connection(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: channels_app_incident channels_app_inciden_connection_id_3c426203_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_incident
    ADD CONSTRAINT channels_app_inciden_connection_id_3c426203_fk_channels_ FOREIGN KEY (connection_id) REFERENCES public.channels_app_connection(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: channels_app_resolvednumber channels_app_resolve_connection_id_02f4f4d0_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_resolvednumber
    ADD CONSTRAINT channels_app_resolve_connection_id_02f4f4d0_fk_channels_ FOREIGN KEY (connection_id) REFERENCES public.channels_app_connection(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: channels_app_wwebjscredentials channels_app_wwebjsc_channel_id_7984bf8b_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.channels_app_wwebjscredentials
    ADD CONSTRAINT channels_app_wwebjsc_channel_id_7984bf8b_fk_channels_ FOREIGN KEY (channel_id) REFERENCES public.channels_app_channel(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: django_admin_log django_admin_log_content_type_id_c4bce8eb_fk_django_co; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.django_admin_log
    ADD CONSTRAINT django_admin_log_content_type_id_c4bce8eb_fk_django_co FOREIGN KEY (content_type_id) REFERENCES public.django_content_type(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: django_admin_log django_admin_log_user_id_c564eba6_fk_auth_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.django_admin_log
    ADD CONSTRAINT django_admin_log_user_id_c564eba6_fk_auth_user_id FOREIGN KEY (user_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: instances_backfill instances_backfill_session_id_173e477b_fk_instances; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_backfill
    ADD CONSTRAINT instances_backfill_session_id_173e477b_fk_instances FOREIGN KEY (session_id) REFERENCES public.instances_whatsappsession(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: instances_profilepicture instances_profilepic_connection_id_37fcb763_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_profilepicture
    ADD CONSTRAINT instances_profilepic_connection_id_37fcb763_fk_channels_ FOREIGN KEY (connection_id) REFERENCES public.channels_app_connection(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: instances_receivemodechange instances_receivemod_cancelled_by_id_a104d27f_fk_auth_user; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_receivemodechange
    ADD CONSTRAINT instances_receivemod_cancelled_by_id_a104d27f_fk_auth_user FOREIGN KEY (cancelled_by_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: instances_receivemodechange instances_receivemod_session_id_dbee1be3_fk_instances; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_receivemodechange
    ADD CONSTRAINT instances_receivemod_session_id_dbee1be3_fk_instances FOREIGN KEY (session_id) REFERENCES public.instances_whatsappsession(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: instances_receivemodechange instances_receivemodechange_user_id_bb2add47_fk_auth_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_receivemodechange
    ADD CONSTRAINT instances_receivemodechange_user_id_bb2add47_fk_auth_user_id FOREIGN KEY (user_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: instances_whatsappsession instances_whatsappse_channel_id_3f8b0fb3_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_whatsappsession
    ADD CONSTRAINT instances_whatsappse_channel_id_3f8b0fb3_fk_channels_ FOREIGN KEY (channel_id) REFERENCES public.channels_app_channel(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: instances_whatsappsession instances_whatsappse_switching_change_id_451fbe7d_fk_instances; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.instances_whatsappsession
    ADD CONSTRAINT instances_whatsappse_switching_change_id_451fbe7d_fk_instances FOREIGN KEY (switching_change_id) REFERENCES public.instances_receivemodechange(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_callattempt messaging_callattemp_channel_id_fac6ea17_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_callattempt
    ADD CONSTRAINT messaging_callattemp_channel_id_fac6ea17_fk_channels_ FOREIGN KEY (channel_id) REFERENCES public.channels_app_channel(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_callattempt messaging_callattemp_conversation_id_30f742ab_fk_messaging; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_callattempt
    ADD CONSTRAINT messaging_callattemp_conversation_id_30f742ab_fk_messaging FOREIGN KEY (conversation_id) REFERENCES public.messaging_conversation(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_callattempt messaging_callattempt_created_by_id_63911f04_fk_auth_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_callattempt
    ADD CONSTRAINT messaging_callattempt_created_by_id_63911f04_fk_auth_user_id FOREIGN KEY (created_by_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_conversation messaging_conversati_channel_id_41e8dcd0_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_conversation
    ADD CONSTRAINT messaging_conversati_channel_id_41e8dcd0_fk_channels_ FOREIGN KEY (channel_id) REFERENCES public.channels_app_channel(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_conversation messaging_conversati_contact_id_0b518da6_fk_messaging; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_conversation
    ADD CONSTRAINT messaging_conversati_contact_id_0b518da6_fk_messaging FOREIGN KEY (contact_id) REFERENCES public.messaging_contact(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_deliveryattempt messaging_deliveryat_confirmed_by_id_43b07fcd_fk_auth_user; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_deliveryattempt
    ADD CONSTRAINT messaging_deliveryat_confirmed_by_id_43b07fcd_fk_auth_user FOREIGN KEY (confirmed_by_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_deliveryattempt messaging_deliveryat_connection_id_c9dd1fdc_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_deliveryattempt
    ADD CONSTRAINT messaging_deliveryat_connection_id_c9dd1fdc_fk_channels_ FOREIGN KEY (connection_id) REFERENCES public.channels_app_connection(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_deliveryattempt messaging_deliveryat_message_id_3317fec4_fk_messaging; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_deliveryattempt
    ADD CONSTRAINT messaging_deliveryat_message_id_3317fec4_fk_messaging FOREIGN KEY (message_id) REFERENCES public.messaging_message(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_media messaging_media_created_by_id_61aac5bf_fk_auth_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_media
    ADD CONSTRAINT messaging_media_created_by_id_61aac5bf_fk_auth_user_id FOREIGN KEY (created_by_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_mediaupload messaging_mediauploa_channel_id_54576282_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_mediaupload
    ADD CONSTRAINT messaging_mediauploa_channel_id_54576282_fk_channels_ FOREIGN KEY (channel_id) REFERENCES public.channels_app_channel(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_mediaupload messaging_mediaupload_media_id_5281cb45_fk_messaging_media_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_mediaupload
    ADD CONSTRAINT messaging_mediaupload_media_id_5281cb45_fk_messaging_media_id FOREIGN KEY (media_id) REFERENCES public.messaging_media(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_message messaging_message_conversation_id_3db4d3d1_fk_messaging; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_message
    ADD CONSTRAINT messaging_message_conversation_id_3db4d3d1_fk_messaging FOREIGN KEY (conversation_id) REFERENCES public.messaging_conversation(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_message messaging_message_created_by_id_8c40f7ec_fk_auth_user_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_message
    ADD CONSTRAINT messaging_message_created_by_id_8c40f7ec_fk_auth_user_id FOREIGN KEY (created_by_id) REFERENCES public.auth_user(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_message messaging_message_echo_of_id_8fad9362_fk_messaging_message_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_message
    ADD CONSTRAINT messaging_message_echo_of_id_8fad9362_fk_messaging_message_id FOREIGN KEY (echo_of_id) REFERENCES public.messaging_message(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_message messaging_message_media_id_66c62540_fk_messaging_media_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_message
    ADD CONSTRAINT messaging_message_media_id_66c62540_fk_messaging_media_id FOREIGN KEY (media_id) REFERENCES public.messaging_media(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_message messaging_message_reply_to_id_f28e3285_fk_messaging_message_id; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_message
    ADD CONSTRAINT messaging_message_reply_to_id_f28e3285_fk_messaging_message_id FOREIGN KEY (reply_to_id) REFERENCES public.messaging_message(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: messaging_pendingevent messaging_pendingeve_channel_id_7f250826_fk_channels_; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.messaging_pendingevent
    ADD CONSTRAINT messaging_pendingeve_channel_id_7f250826_fk_channels_ FOREIGN KEY (channel_id) REFERENCES public.channels_app_channel(id) DEFERRABLE INITIALLY DEFERRED;


--
-- Name: procrastinate_events procrastinate_events_job_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_events
    ADD CONSTRAINT procrastinate_events_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.procrastinate_jobs(id) ON DELETE CASCADE;


--
-- Name: procrastinate_jobs procrastinate_jobs_worker_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_jobs
    ADD CONSTRAINT procrastinate_jobs_worker_id_fkey FOREIGN KEY (worker_id) REFERENCES public.procrastinate_workers(id) ON DELETE SET NULL;


--
-- Name: procrastinate_periodic_defers procrastinate_periodic_defers_job_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.procrastinate_periodic_defers
    ADD CONSTRAINT procrastinate_periodic_defers_job_id_fkey FOREIGN KEY (job_id) REFERENCES public.procrastinate_jobs(id);


--
-- PostgreSQL database dump complete
--


