"""``python -m simulators`` as a separate process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest
import requests

from bench.product import free_port
from simulators.__main__ import main


def test_the_command_serves_both_providers_until_sigterm() -> None:
    graph_port = free_port(2)
    wwebjs_port = graph_port + 1
    ports = ["--graph-port", str(graph_port), "--wwebjs-port", str(wwebjs_port)]
    command = [sys.executable, "-m", "simulators", *ports, "--wwebjs-ready-sessions", "demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        status = requests.get(
            f"http://127.0.0.1:{wwebjs_port}/session/status/demo",
            headers={"x-api-key": "demo-wwebjs-key"},
            timeout=5,
        ).json()
        health = requests.get(f"http://127.0.0.1:{graph_port}/_control/health", timeout=5).json()
        process.send_signal(signal.SIGTERM)
        exit_status = process.wait(timeout=10)

    assert f"Graph API: http://127.0.0.1:{graph_port}" in lines[0]
    assert f"wwebjs-api: http://127.0.0.1:{wwebjs_port}" in lines[1]
    assert status["state"] == "CONNECTED"
    assert health == {"simulator": "graph"}
    assert exit_status == 0


def test_a_port_in_use_is_reported_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        port = occupied.getsockname()[1]
        exit_status = main(["--graph-port", str(port)])
    error = capfd.readouterr().err

    assert exit_status == 1
    assert error == f"Graph API: cannot use 127.0.0.1:{port}: Address already in use\n"


def test_the_command_fails_without_a_port(capfd: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "nothing to run" in capfd.readouterr().err


def test_the_numbers_can_be_printed(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--numbers"]) == 0
    assert "+55 11 99999-0047" in capfd.readouterr().out


def test_options_can_be_set_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        monkeypatch.setenv("SIMULATOR_GRAPH_PORT", str(occupied.getsockname()[1]))
        assert main([]) == 1
    assert "Graph API" in capfd.readouterr().err
