"""Prepare static files, tables and demo data: `python -m config.up.prepare`.

One process does all of it, because each start of Django costs a second. Progress goes to stderr.
stdout gets one line when everything is loaded, then the lines that the supervisor shows to the
user when the product is ready.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command, get_commands
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from config.checks import exit_if_not_upgradable, exit_if_unsafe

MARK = ".collected"
# Static files of unused pages: ReDoc and REST framework's browsable API.
UNUSED = ("redoc", "rest_framework")


def main(*, demo: bool) -> None:
    """Update static files, then tables and, with `demo`, the demo data."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    exit_if_unsafe()
    print("loaded", flush=True)  # noqa: T201
    collect_static()
    # So far no engine was needed. The supervisor has been starting them and signals when they run.
    if not sys.stdin.readline():
        return
    migrate()
    if demo and "demo" in get_commands():
        output = io.StringIO()
        call_command("demo", stdout=output)
        sys.stdout.write(output.getvalue())
    connection.close()


def migrate() -> None:
    """Run pending migrations. The `migrate` command takes a second even if there are none."""
    exit_if_not_upgradable()
    executor = MigrationExecutor(connection)
    pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if pending:
        sys.stderr.write(f"running {len(pending)} migrations\n")
        call_command("migrate", interactive=False, verbosity=0)


def collect_static() -> None:
    """Collect and compress the static files, unless they have not changed since the last time."""
    mark = Path(settings.STATIC_ROOT) / MARK
    state = _state_of_static_files()
    if mark.exists() and mark.read_text() == state:
        return
    sys.stderr.write("compressing static files\n")
    call_command(
        "collectstatic", interactive=False, clear=True, verbosity=0, ignore_patterns=list(UNUSED)
    )
    mark.write_text(state)


def _state_of_static_files() -> str:
    from django.contrib.staticfiles.finders import get_finders

    digest = hashlib.sha256(repr(settings.STORAGES["staticfiles"]).encode())
    for finder in get_finders():
        for path, storage in finder.list(list(UNUSED)):
            stat = Path(storage.path(path)).stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main(demo="--demo" in sys.argv)
