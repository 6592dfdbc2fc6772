from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand

from config import worker
from config.checks import refuse_unsafe


class Command(BaseCommand):
    help = "Run jobs until SIGTERM or Ctrl-C; what has begun has WORKER_SHUTDOWN_SECONDS to finish."
    requires_system_checks = []  # all of them would load every page of the web process

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_unsafe()
        asyncio.run(worker.run())
