from __future__ import annotations

from typing import Any

import environ
from django.core.management.base import BaseCommand, CommandError

from instances import demo as instances_demo
from messaging import demo, demo_settings


class Command(BaseCommand):
    help = "Create demo data: a login, channels with simulated providers, and conversations."

    def handle(self, *args: Any, **options: Any) -> None:
        env = environ.Env()
        graph_url, wwebjs_url, evolution_url = (
            env.str(f"{name}_SIMULATOR_URL", default="")
            for name in ("GRAPH", "WWEBJS", "EVOLUTION")
        )
        if not (graph_url and wwebjs_url and evolution_url):
            raise CommandError("The demo needs the simulators; `manage.py up` starts both.")
        demo.make(graph_url=graph_url, wwebjs_url=wwebjs_url)
        instances_demo.make(evolution_url=evolution_url)
        self.stdout.write(f"Demo login: {demo_settings.LOGIN} / {demo_settings.PASSWORD}")
