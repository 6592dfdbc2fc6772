from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from config.up import supervisor


class Command(BaseCommand):
    """Provides the help text. `manage.py` runs a plain `manage.py up` without this command."""

    help = (
        "Run everything on this machine in the foreground: PostgreSQL, Valkey, web, worker, "
        "listener and, with DEMO=1, demo data with simulated providers. Ctrl-C stops everything. "
        "Environment: PORT, HOST, DATA_DIR, PUBLIC_URL, DEMO."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(supervisor.main())
