"""The undocumented parts of procrastinate that we rely on; its version is pinned exactly.

Upgrade it only if these tests pass. The code that relies on them is in `config/worker.py`,
`messaging/queue.py`, `core/queue.py` and the migration that wakes a lock's next job.
"""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from procrastinate import manager, worker
from procrastinate.app import WorkerOptions
from procrastinate.contrib.django import app
from procrastinate.contrib.django.django_connector import DjangoConnector
from procrastinate.psycopg_connector import PsycopgConnector
from procrastinate.tasks import ConfigureTaskOptions, configure_task

from config.worker import _Worker

pytestmark = pytest.mark.django_db

ROOT = Path(__file__).resolve().parent.parent.parent
COLUMNS = {
    "procrastinate_jobs": {
        "id", "queue_name", "task_name", "priority", "lock", "queueing_lock", "args", "status",
        "scheduled_at", "attempts", "worker_id",
    },
    "procrastinate_workers": {"id", "last_heartbeat"},
}  # fmt: skip


def source_of(function: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT prosrc FROM pg_proc WHERE proname = %s", [function])
        return "".join(source for (source,) in cursor.fetchall())


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_it_is_pinned_to_the_installed_version() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    installed = importlib.metadata.version("procrastinate")
    assert f"procrastinate[django]=={installed}" in dependencies


@pytest.mark.parametrize("table", COLUMNS)
def test_its_tables_have_the_columns_that_our_sql_uses(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table]
        )
        assert COLUMNS[table] <= {name for (name,) in cursor.fetchall()}


def test_a_job_is_todo_then_doing_and_each_retry_counts() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT unnest(enum_range(NULL::procrastinate_job_status))::text")
        assert {"todo", "doing"} <= {status for (status,) in cursor.fetchall()}
        cursor.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
            " VALUES ('delivery', 'x', 'doing') RETURNING id"
        )
        [job] = cursor.fetchone()
        cursor.execute("SELECT procrastinate_retry_job_v2(%s, NULL, NULL, NULL, NULL)", [job])
        cursor.execute("SELECT status, attempts FROM procrastinate_jobs WHERE id = %s", [job])
        # A worker that seemed dead recognizes its own job by these values.
        assert cursor.fetchone() == ("todo", 1)


def test_workers_listen_on_the_channels_that_we_notify() -> None:
    insertion = source_of("procrastinate_notify_queue_job_inserted_v1")
    for text in ("procrastinate_any_queue_v1", "procrastinate_queue_v1#", "job_inserted"):
        assert text in insertion
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgname LIKE 'alterna_lock_is_free%'")
        assert len(cursor.fetchall()) == 2


def test_the_worker_has_the_methods_that_ours_overrides() -> None:
    theirs = worker.Worker
    for name, expected in {
        "_handle_notification": ["self", "channel", "notification"],
        "_fetch_and_process_jobs": ["self"],
        "_update_heartbeat": ["self"],
        "_persist_job_status": [
            "self", "job", "status", "retry_decision", "context", "job_result",
        ],
    }.items():  # fmt: skip
        assert parameters(getattr(theirs, name)) == expected
        assert name in vars(_Worker)
    # Our override takes these by name.
    call = re.search(r"self\._persist_job_status\(([^)]*)\)", inspect.getsource(theirs))
    assert call is not None
    assert re.findall(r"(\w+)=", call[1]) == parameters(theirs._persist_job_status)[1:]
    assert {"worker_id", "update_heartbeat_interval", "app"} <= vars(theirs(app)).keys()


def test_the_worker_accepts_our_options_and_logs_the_actions_that_we_silence() -> None:
    ours = {
        "concurrency", "fetch_job_polling_interval", "update_heartbeat_interval",
        "stalled_worker_timeout", "shutdown_graceful_timeout", "install_signal_handlers",
        "delete_jobs",
    }  # fmt: skip
    assert ours <= WorkerOptions.__annotations__.keys() & set(parameters(worker.Worker))
    for action in ("side_task_failed", "poll_jobs_to_abort_error"):
        assert action in inspect.getsource(worker)


def test_the_job_manager_has_the_methods_that_we_use() -> None:
    job_manager = manager.JobManager
    assert "seconds_since_heartbeat" in parameters(job_manager.get_stalled_jobs)
    assert {"job", "status", "delete_job"} <= set(parameters(job_manager.finish_job))
    assert {"job", "retry_at"} <= set(parameters(job_manager.retry_job))
    assert parameters(job_manager.update_heartbeat) == ["self", "worker_id"]
    assert {"name", "job_manager"} <= set(parameters(configure_task))
    options = {"queue", "priority", "lock", "queueing_lock", "schedule_at"}
    assert options <= ConfigureTaskOptions.__annotations__.keys()
    assert isinstance(manager.JobManager(DjangoConnector()).connector, DjangoConnector)
    assert "query" in parameters(PsycopgConnector.execute_query_one_async)
