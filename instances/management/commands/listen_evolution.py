from __future__ import annotations

import signal
from typing import Any

from django.core.management.base import BaseCommand

from instances.listener.process import Listener


class Command(BaseCommand):
    help = "Listens to every Evolution instance in WebSocket mode. Run one or more of them."

    def handle(self, *args: Any, **options: Any) -> None:
        listener = Listener()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: listener.stop())
        listener.run()
