#!/usr/bin/env python
from __future__ import annotations

import os
import sys

# These need no database; all other commands exit with one line if there is none.
WITHOUT_DATABASE = {
    "check", "collectstatic", "compilemessages", "diffsettings", "findstatic", "help",
    "makemessages", "makemigrations", "new_encryption_key", "spectacular", "startapp",
    "startproject", "up", "version",
}  # fmt: skip


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:] == ["up"]:
        # Before Django: the settings need the engines that it starts.
        from config.up import supervisor

        sys.exit(supervisor.main())
    check_database(sys.argv[1] if len(sys.argv) > 1 else "help")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


def check_database(command: str) -> None:
    """Exit with one line if the command needs the embedded engines and they are not running."""
    from django.conf import settings

    from config.engines import unreachable_reason

    if command.startswith("-") or {"-h", "--help"} & set(sys.argv):
        return
    if command not in WITHOUT_DATABASE and (problem := unreachable_reason(settings.DATA_DIR)):
        sys.exit(problem)
    if command == "makemigrations" and unreachable_reason(settings.DATA_DIR):
        # It would wait for the database, warn, and continue without it.
        settings.DATABASES = {"default": {"ENGINE": "django.db.backends.dummy"}}


if __name__ == "__main__":
    main()
