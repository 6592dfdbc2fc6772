from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand

from config import worker


class Command(BaseCommand):
    help = "Run the jobs until SIGTERM or Ctrl-C; what has begun is finished first (20 s at most)."

    def handle(self, *args: Any, **options: Any) -> None:
        asyncio.run(worker.run())
