from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import heartbeat_file
from instances.listener import registry


class Command(BaseCommand):
    help = (
        "Ends with 0 if the worker or listener of this machine lives and works, else with 1 and "
        "the reason: for health checks."
    )
    requires_system_checks = []  # asked every half minute

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("kind", choices=["worker", "listener"])
        parser.add_argument("--pid", type=int, help="only this process; all of the kind otherwise")
        parser.add_argument("--within", type=float, metavar="SECONDS", help="of its last sign")

    def handle(self, *args: Any, **options: Any) -> None:
        kind = options["kind"]
        usual = {
            "worker": settings.WORKER_STALLED_SECONDS,
            "listener": registry.FRESH.total_seconds(),
        }
        within = options["within"] or usual[kind]
        if trouble := heartbeat_file.trouble(kind, within=within, pid=options["pid"]):
            raise CommandError(trouble)
        self.stdout.write(f"{kind} lives")
