from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand

from config import worker
from config.checks import exit_if_unsafe


class Command(BaseCommand):
    help = "Run jobs until SIGTERM or Ctrl-C. Running jobs get WORKER_SHUTDOWN_SECONDS to finish."
    requires_system_checks = []  # they would load all views of the web process

    def handle(self, *args: Any, **options: Any) -> None:
        exit_if_unsafe()
        asyncio.run(worker.run())
