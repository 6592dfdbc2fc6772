"""What must be done before the product serves: `python -m config.up.prepare`.

One process for all of it, because each start of Django costs a second. Progress goes to stderr;
stdout carries a line once all is loaded, then what the person at the terminal should read when the
product is ready.
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

from config.checks import refuse_unsafe

MARK = ".collected"
# Pages that this product does not have: ReDoc and the browsable API of REST framework.
UNUSED = ("redoc", "rest_framework")


def main(*, demo: bool) -> None:
    """Bring static files, then tables and, if wanted, the demo up to date."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    refuse_unsafe()
    print("loaded", flush=True)  # noqa: T201
    collect_static()
    # All until here needed no engine: the supervisor starts those meanwhile, and says when.
    if not sys.stdin.readline():
        return
    migrate()
    if demo and "demo" in get_commands():
        told = io.StringIO()
        call_command("demo", stdout=told)
        sys.stdout.write(told.getvalue())
    connection.close()


def migrate() -> None:
    """Run the migrations that are missing; the command itself takes a second even for none."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        sys.stderr.write(f"running {len(missing)} migrations\n")
        call_command("migrate", interactive=False, verbosity=0)
    else:
        # That a squashed migration stands for those that ran must be written down as well.
        executor.check_replacements()


def collect_static() -> None:
    """Collect and compress the static files, unless they are as they were the last time."""
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
            found = Path(storage.path(path)).stat()
            digest.update(f"{path}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":
    main(demo="--demo" in sys.argv)
