from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from config.up import supervisor


class Command(BaseCommand):
    """`manage.py up` itself does not come this way (see manage.py); its help does."""

    help = (
        "Run the one-machine product in the foreground: PostgreSQL, Valkey, web, worker, listener "
        "and, with DEMO=1, demo data with simulated providers. Ctrl-C stops all in order. "
        "Environment: PORT, HOST, DATA_DIR, PUBLIC_URL, DEMO."
    )
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        sys.exit(supervisor.main())
