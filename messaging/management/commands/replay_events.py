from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from messaging.inbound.replay import replay
from messaging.models import InboundEvent


class Command(BaseCommand):
    help = "Reads inbound events that were set aside once more, and says how many could be read."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--source", choices=InboundEvent.Source.values, default="")
        parser.add_argument(
            "--id", type=int, action="append", default=[], dest="ids", help="may be repeated"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        done, again = replay(source=options["source"], ids=options["ids"])
        self.stdout.write(f"{done + again} set aside: {done} read now, {again} set aside again")
