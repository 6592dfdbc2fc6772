from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import heartbeat_file
from instances.listener import registry


class Command(BaseCommand):
    help = (
        "Health check: exits with 0 if the worker or listener of this machine is running and "
        "working, else with 1 and the reason."
    )
    requires_system_checks = []  # it runs every half minute

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", choices=["worker", "listener"])
        parser.add_argument(
            "--pid", type=int, help="check only this process (default: all of the kind)"
        )
        parser.add_argument(
            "--within", type=float, metavar="SECONDS", help="maximum age of the heartbeat"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        kind = options["kind"]
        default = {
            "worker": settings.WORKER_STALLED_SECONDS,
            "listener": registry.FRESH.total_seconds(),
        }
        within = options["within"] or default[kind]
        if problem := heartbeat_file.healthcheck(kind, within=within, pid=options["pid"]):
            raise CommandError(problem)
        self.stdout.write(f"{kind} is alive")
