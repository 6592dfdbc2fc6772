from __future__ import annotations

from typing import Any

import environ
from django.core.management.base import BaseCommand, CommandError

from messaging import demo, demo_settings


class Command(BaseCommand):
    help = "Makes the demo: a login, a channel on the simulated providers, some conversations."

    def handle(self, *args: Any, **options: Any) -> None:
        env = environ.Env()
        addresses = [
            env.str(name, default="") for name in ("GRAPH_SIMULATOR_URL", "WWEBJS_SIMULATOR_URL")
        ]
        if not all(addresses):
            raise CommandError("The demo needs the simulators; `manage.py up` starts both.")
        demo.make(graph_url=addresses[0], wwebjs_url=addresses[1])
        self.stdout.write(f"Demo login: {demo_settings.LOGIN} / {demo_settings.PASSWORD}")
