from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from channels_app.providers import engines
from messaging.inbound.replay import ANY, replay


class Command(BaseCommand):
    help = (
        "Processes inbound events that failed again, and reports how many succeeded. "
        "With --skipped, processes events of kinds that an earlier version did not know."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--source", choices=[source.name for source in engines.event_sources()], default=""
        )
        parser.add_argument(
            "--id", type=int, action="append", default=[], dest="ids", help="may be repeated"
        )
        parser.add_argument(
            "--skipped",
            nargs="?",
            const=ANY,
            default="",
            metavar="KIND",
            help="events that were not (fully) processed; of one kind (event:NAME) or of any",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        skipped = options["skipped"]
        done, failed = replay(source=options["source"], ids=options["ids"], skipped=skipped)
        if skipped:
            self.stdout.write(f"{done + failed} not read: {done} read now, {failed} still not")
        else:
            self.stdout.write(
                f"{done + failed} set aside: {done} read now, {failed} set aside again"
            )
