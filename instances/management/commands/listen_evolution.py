from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from instances.listener import Listener


class Command(BaseCommand):
    help = "Listens to every Evolution instance in WebSocket mode. Run one or more of them."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--most", type=int, help="hold at most this many sessions")

    def handle(self, *args: Any, **options: Any) -> None:
        listener = Listener(most=options["most"])
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: listener.stop())
        listener.run()
