"""`manage.py up` on one machine, from the first start to the last stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import requests

from bench.product import free_port
from tests.config.product import Product, manage, running
from tests.product.prepared import prepared_data

pytestmark = pytest.mark.product

# `prepared_data` was made with the tests' own keys.
PREPARED_WITH = {"ENCRYPTION_KEYS": os.environ["ENCRYPTION_KEYS"]}


@pytest.fixture(scope="module")
def product(directory: Path) -> Iterator[Product]:
    with running(directory / "first", STATIC_ROOT=str(directory / "static")) as product:
        yield product


def defer_a_job(database_url: str) -> int:
    """Insert a job into the queue directly, without the product's code."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW('builtin',"
            " 'builtin:procrastinate.builtin_tasks.remove_old_jobs', 0, NULL, NULL,"
            """ '{"max_hours": 1000}', NULL)::procrastinate_job_to_defer_v1])"""
        ).fetchone()
    assert row
    return int(row[0][0])


def is_done(database_url: str, job: int) -> bool:
    """Whether the worker has finished the job, which it then deletes."""
    with psycopg.connect(database_url) as connection:
        query = "SELECT count(*) FROM procrastinate_jobs WHERE id = %s"
        row = connection.execute(query, [job]).fetchone()
    return row == (0,)


def answers_ping(path: Path) -> bool:
    """Whether Valkey responds at this socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16) == b"+PONG\r\n"
        except OSError:
            return False


def test_it_serves_and_prints_its_address(product: Product) -> None:
    assert requests.get(f"{product.url}/readyz", timeout=5).json()["database"] == "up"
    login = f"DATA_DIR={product.data_dir} .venv/bin/python manage.py createsuperuser"
    assert login in product.output
    assert product.lines[-1].startswith("up         | ready after")
    assert product.url in product.lines[-1]
    assert "simulators" not in product.output


def test_its_static_files_are_served_without_warnings(product: Product) -> None:
    page = requests.get(f"{product.url}/accounts/login/", timeout=5).text
    [style] = re.findall(r'href="(/static/css/alterna[^"]*)"', page)
    assert requests.get(product.url + style, timeout=5).ok
    # The log is in order: this line comes after any warning.
    requests.get(f"{product.url}/api/nothing", timeout=5)
    product.wait_for("Not Found: /api/nothing")
    assert "Warning" not in product.output


def test_other_commands_find_its_engines_by_the_data_directory(product: Product) -> None:
    result = manage("migrate", "--check", data_dir=product.data_dir)
    assert (result.returncode, result.stderr) == (0, "")


def test_other_users_of_the_machine_cannot_access_its_engines_or_keys(product: Product) -> None:
    assert (product.data_dir / "run").stat().st_mode & 0o777 == 0o700
    for name in ("secrets.json", "engines.json"):
        assert (product.data_dir / name).stat().st_mode & 0o777 == 0o600
    listening = [
        connection
        for name in ("bin/postgres", "valkey-server")
        for connection in product.child(name).net_connections("inet")
    ]
    assert listening == []


def test_a_second_up_for_the_same_directory_fails_with_one_line(product: Product) -> None:
    result = manage("up", data_dir=product.data_dir)
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr == (
        f"Another `up` is already running for the data directory {product.data_dir}.\n"
    )
    assert product.is_ready()


def test_a_port_in_use_is_reported_in_one_line(product: Product, directory: Path) -> None:
    port = str(product.port)
    result = manage("up", data_dir=directory / "none", PORT=port)
    assert result.returncode == 1
    assert result.stderr == (
        f"Port {port} on 127.0.0.1 cannot be used: Address already in use. Set PORT to another.\n"
    )


def test_a_database_from_before_0_1_0_is_refused_in_one_line_and_not_migrated(
    product: Product, directory: Path
) -> None:
    server = product.addresses()["database_url"]
    old = server.replace("/alterna?", "/before?")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE before")
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLE django_migrations (id bigserial, app text, name text, applied date)"
        )
        connection.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES"
            " ('channels_app', '0001_squashed_0006_incident_code', now())"
        )
    result = manage(
        "up", data_dir=directory / "before", DATABASE_URL=old, PORT=str(free_port()),
        STATIC_ROOT=str(directory / "static"),
    )  # fmt: skip
    assert result.returncode == 1
    [line] = [line for line in result.stdout.splitlines() if line.startswith("prepare")]
    assert "channels_app.0001_squashed_0006_incident_code" in line
    assert "set DATA_DIR to a new directory (or DATABASE_URL to an empty database)" in line
    with psycopg.connect(old) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert tables.fetchall() == [("django_migrations",)]


def test_a_killed_web_process_is_restarted(product: Product) -> None:
    product.child("uvicorn").kill()
    product.wait_for(r"up +\| web was ended by SIGKILL; it is started again in 0.5 s")
    product.eventually("web serves again", product.is_ready)


def test_the_worker_survives_a_postgresql_crash_and_still_gets_notifications(
    product: Product,
) -> None:
    worker = product.child("worker")
    url = product.addresses()["database_url"]
    product.child("bin/postgres").kill()
    product.wait_for(r"up +\| postgres was ended by SIGKILL; it is started again in 0.5 s")
    product.eventually("web serves again", product.is_ready)
    # Jobs run as soon as the worker listens again; polling alone would take five seconds.
    product.eventually("a job is done", lambda: is_done(url, defer_a_job(url)) or None)

    def is_done_immediately() -> bool:
        job, started = defer_a_job(url), time.monotonic()
        product.eventually("the job is done", lambda: is_done(url, job))
        return time.monotonic() - started < 2

    product.eventually("jobs are done immediately", is_done_immediately)
    assert worker.is_running()


def test_a_killed_valkey_is_restarted_at_the_same_address(product: Product) -> None:
    product.child("valkey-server").kill()
    product.wait_for(r"up +\| valkey was ended by SIGKILL")
    product.eventually(
        "a new one listens", lambda: answers_ping(product.data_dir / "run/valkey.sock"), 30
    )
    assert product.is_ready()


def test_after_kill_9_all_its_processes_end_and_it_can_start_again(
    product: Product, directory: Path
) -> None:
    subprocess.run(["cp", "-a", str(prepared_data()), str(directory / "second")], check=True)
    variables = PREPARED_WITH | {"STATIC_ROOT": str(directory / "static")}
    with running(directory / "second", **variables) as second:
        assert product.is_ready()  # two copies side by side
        descendants = second.processes()
        assert len(descendants) > 4
        secrets = (second.data_dir / "secrets.json").read_text()
        second.stop(signal.SIGKILL)
        _, alive = psutil.wait_procs(descendants, timeout=30)
        assert alive == []
    assert (second.data_dir / "engines.json").exists()
    result = manage("migrate", "--check", data_dir=second.data_dir)
    assert result.returncode == 1
    assert result.stderr == (
        f"No engines run for the data directory {second.data_dir}: start them with `make run` or"
        " `manage.py up`, or set DATABASE_URL.\n"
    )
    with running(second.data_dir, **variables) as again:
        assert "making a database" not in again.output
        assert (again.data_dir / "secrets.json").read_text() == secrets
        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(60) == 0


def test_sigterm_stops_all_processes_in_order_and_leaves_nothing_behind(product: Product) -> None:
    descendants = product.processes()
    assert product.stop(signal.SIGTERM) == 0
    assert product.lines[-1] == "up         | stopped"
    # Processes that accept work stop first, those that store it last.
    stopped = re.findall(r"^up +\| (\w+) has stopped$", product.output, re.MULTILINE)
    assert stopped == ["web", "listener", "worker", "valkey", "postgres"]
    assert [process for process in descendants if process.is_running()] == []
    assert not (product.data_dir / "engines.json").exists()
    assert not (product.data_dir / "postgres" / "postmaster.pid").exists()


def test_it_can_be_stopped_before_the_database_is_ready(directory: Path) -> None:
    product = Product(directory / "early", STATIC_ROOT=str(directory / "static"))
    try:
        product.wait_for("running [0-9]+ migrations")
        product.child("config.asgi")  # waits for the migrations
        descendants = product.processes()
        assert product.stop(signal.SIGTERM) == 0
        assert "ready after" not in product.output
        assert "started again" not in product.output
        assert [process for process in descendants if process.is_running()] == []
    finally:
        product.clean_up()


def test_pages_are_not_served_before_the_demos_simulators_are_ready(directory: Path) -> None:
    late, demo = directory / "late", directory / "demo"
    late.mkdir()
    subprocess.run(["cp", "-a", str(prepared_data()), str(demo)], check=True)
    # Python imports this at startup, before our code.
    (late / "sitecustomize.py").write_text(
        "import sys, time\nif 'simulators' in sys.orig_argv: time.sleep(6)\n"
    )
    product = Product(
        demo,
        DEMO="1",
        PYTHONPATH=str(late),
        STATIC_ROOT=str(directory / "static"),
        **PREPARED_WITH,
    )
    try:
        product.eventually("pages are served", product.is_ready)
        for number in range(product.port + 1, product.port + 4):
            requests.get(f"http://127.0.0.1:{number}/_control/health", timeout=5).raise_for_status()
    finally:
        product.clean_up()
