#!/usr/bin/env python
from __future__ import annotations

import os
import sys

# These do without a database; everything else says so in one line when there is none.
WITHOUT_DATABASE = {
    "check", "collectstatic", "compilemessages", "diffsettings", "findstatic", "help",
    "makemessages", "makemigrations", "new_encryption_key", "sendtestemail", "spectacular",
    "startapp", "startproject", "up", "version",
}  # fmt: skip


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    if sys.argv[1:] == ["up"]:
        # Before Django: the settings need the engines that it starts.
        from config.up import supervisor

        sys.exit(supervisor.main())
    command = sys.argv[1] if len(sys.argv) > 1 else "help"
    informs_only = command.startswith("-") or {"-h", "--help"} & set(sys.argv)
    if command not in WITHOUT_DATABASE and not informs_only:
        from django.conf import settings

        from config.engines import why_unreachable

        problem = why_unreachable(settings.DATA_DIR)
        if problem:
            sys.exit(problem)
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
