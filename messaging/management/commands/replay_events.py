from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from messaging.inbound.replay import ANY, replay
from messaging.models import InboundEvent


class Command(BaseCommand):
    help = (
        "Reads inbound events that were set aside once more, and says how many could be read. "
        "With --skipped those instead of which an earlier version knew nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--source", choices=InboundEvent.Source.values, default="")
        parser.add_argument(
            "--id", type=int, action="append", default=[], dest="ids", help="may be repeated"
        )
        parser.add_argument(
            "--skipped",
            nargs="?",
            const=ANY,
            default="",
            metavar="KIND",
            help="events that were not read, or not whole; of one kind (event:NAME) or of any",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        skipped = options["skipped"]
        done, again = replay(source=options["source"], ids=options["ids"], skipped=skipped)
        if skipped:
            self.stdout.write(f"{done + again} not read: {done} read now, {again} still not")
        else:
            self.stdout.write(f"{done + again} set aside: {done} read now, {again} set aside again")
