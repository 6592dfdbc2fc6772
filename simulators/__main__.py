"""Run the simulated providers: ``python -m simulators --graph-port 9101 --wwebjs-port 9102``.

A simulator without a port is not started. Each option can also be set in the environment:
``--graph-token`` as ``SIMULATOR_GRAPH_TOKEN``, and so on.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from simulators.base import JsonObject, serve
from simulators.evolution import app as evolution_app
from simulators.evolution import model as evolution_model
from simulators.graph import app as graph_app
from simulators.graph import demo_templates
from simulators.wwebjs import app as wwebjs_app


@dataclass(frozen=True, slots=True)
class ConfiguredSimulator:
    """One simulator with its port and a remark for the console."""

    title: str
    app: web.Application
    port: int
    remark: str


def parser() -> argparse.ArgumentParser:
    """Build the command line; the defaults come from the environment."""
    commands = argparse.ArgumentParser(prog="python -m simulators", description=__doc__)

    def option(name: str, default: str, meaning: str, kind: type = str) -> None:
        variable = "SIMULATOR_" + name.upper().replace("-", "_")
        value = os.environ.get(variable) or default
        commands.add_argument(f"--{name}", default=value, type=kind, help=meaning)

    option("host", "127.0.0.1", "address to listen on")
    option("graph-port", "0", "port of the Graph API; 0 disables it", int)
    option("graph-phone-number-id", "", "the only known phone number id; empty accepts any")
    option("graph-token", "", "the required token; empty accepts any")
    option("graph-app-secret", "demo-app-secret", "signs the webhooks")
    option("graph-webhook-url", "", "webhook URL; may contain {phone_number_id}")
    option("wwebjs-port", "0", "port of wwebjs-api; 0 disables it", int)
    option("wwebjs-api-key", "demo-wwebjs-key", "the required x-api-key")
    option("wwebjs-webhook-url", "", "callback URL; empty disables callbacks")
    option("wwebjs-ready-sessions", "", "sessions that start paired and ready, comma-separated")
    option("wwebjs-send-seconds", "0.05", "duration of a send", float)
    option("evolution-port", "0", "port of Evolution API; 0 disables it", int)
    option("evolution-api-key", "demo-evolution-key", "the required apikey")
    option("evolution-ready-instances", "", "instances that start open, comma-separated")
    option("own-number", "5511900000001", "the business's own number")
    option("fallback-number", "", "number of the phones linked to the fallbacks; default: the same")
    option("status-delay", "1.0", "seconds between sent, delivered and read", float)
    commands.add_argument(
        "--coexistence",
        action="store_true",
        help="one number on both: Graph echoes what wwebjs-api sends",
    )
    commands.add_argument(
        "--numbers", action="store_true", help="print the number of each scenario and exit"
    )
    return commands


def configured_simulators(options: argparse.Namespace) -> list[ConfiguredSimulator]:
    """Build the simulators selected by the options."""
    chosen = []
    if options.graph_port:
        number = graph_app.GraphNumber(
            phone_number_id=options.graph_phone_number_id or "106540352242922",
            token=options.graph_token,
            app_secret=options.graph_app_secret,
            display_phone_number=f"+{options.own_number}",
            is_on_biz_app=options.coexistence,
        )
        graph_settings = graph_app.GraphSettings(
            numbers={number.phone_number_id: number} if options.graph_phone_number_id else {},
            demo=number,
            webhook_url=options.graph_webhook_url,
            status_delay=options.status_delay,
            templates=demo_templates.TEMPLATES,
        )
        chosen.append(
            ConfiguredSimulator(
                "Graph API",
                graph_app.create_app(graph_settings),
                options.graph_port,
                f"webhooks to {options.graph_webhook_url or 'nowhere'}",
            )
        )
    if options.wwebjs_port:
        echo_url = f"http://{options.host}:{options.graph_port}/_control/echo"
        ready = _names(options.wwebjs_ready_sessions)
        wwebjs_settings = wwebjs_app.WwebjsSettings(
            api_key=options.wwebjs_api_key,
            own_number=options.fallback_number or options.own_number,
            ready_sessions=ready,
            webhook_url=options.wwebjs_webhook_url,
            send_seconds=options.wwebjs_send_seconds,
            ack_delay=options.status_delay,
            echo_url=echo_url if options.coexistence and options.graph_port else "",
        )
        chosen.append(
            ConfiguredSimulator(
                "wwebjs-api",
                wwebjs_app.create_app(wwebjs_settings),
                options.wwebjs_port,
                f"ready sessions: {', '.join(ready) or 'none'}",
            )
        )
    if options.evolution_port:
        instances = _names(options.evolution_ready_instances)
        evolution_settings = evolution_model.EvolutionSettings(
            api_key=options.evolution_api_key,
            server_url=f"http://{options.host}:{options.evolution_port}",
            # Only WhatsApp's servers have pictures, and the demo makes no request to them.
            picture_url=None,
            instances=tuple(
                evolution_model.InstanceSpec(
                    name, number=options.fallback_number or options.own_number
                )
                for name in instances
            ),
        )
        chosen.append(
            ConfiguredSimulator(
                "Evolution API",
                evolution_app.create_app(evolution_settings),
                options.evolution_port,
                f"open instances: {', '.join(instances) or 'none'}",
            )
        )
    return chosen


def _names(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


async def run(host: str, chosen: Sequence[ConfiguredSimulator]) -> int:
    """Serve until SIGTERM or SIGINT; return the exit status."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    runners: list[web.AppRunner] = []
    try:
        for simulator in chosen:
            try:
                runners.append(await serve(simulator.app, host, simulator.port))
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                print(
                    f"{simulator.title}: cannot use {host}:{simulator.port}: {reason}",
                    file=sys.stderr,
                )
                return 1
            remark = f" ({simulator.remark})" if simulator.remark else ""
            print(f"{simulator.title}: http://{host}:{simulator.port}{remark}", flush=True)
        await stopped.wait()
    finally:
        for runner in runners:
            await runner.cleanup()
    return 0


def number_table() -> str:
    """Return the example numbers of all scenarios as text."""
    lines: list[str] = []
    tables: tuple[tuple[str, list[JsonObject]], ...] = (
        ("Graph API", graph_app.describe()),
        ("wwebjs-api (Graph rejects these with 131047)", wwebjs_app.describe()),
        ("Evolution API", evolution_app.describe()),
    )
    for title, rows in tables:
        lines.append(title)
        lines += [f"  {row['example']}  {row['english']} | {row['portuguese']}" for row in rows]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the options, run the simulators and return the exit status."""
    options = parser().parse_args(arguments)
    if options.numbers:
        print(number_table())
        return 0
    chosen = configured_simulators(options)
    if not chosen:
        print(
            "nothing to run: give --graph-port, --wwebjs-port or --evolution-port", file=sys.stderr
        )
        return 2
    return asyncio.run(run(options.host, chosen))


if __name__ == "__main__":
    sys.exit(main())
