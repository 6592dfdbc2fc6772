"""Addresses of the embedded engines (PostgreSQL and Valkey from wheels).

`manage.py up` owns the engines of one `DATA_DIR` (config/up/engines.py) and writes their addresses
to `DATA_DIR/engines.json`; every other command only reads that file.
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the engines listen. The defaults apply if no embedded engines were started."""

    database_url: str = "postgres:///alterna"
    redis_url: str = "redis://127.0.0.1:6379/0"


def engines_file(data_dir: Path) -> Path:
    return data_dir / "engines.json"


def secrets_file(data_dir: Path) -> Path:
    return data_dir / "secrets.json"


def addresses(data_dir: Path) -> Addresses:
    """Return the addresses that a running `manage.py up` wrote for this data directory."""
    try:
        stored = json.loads(engines_file(data_dir).read_text())
    except FileNotFoundError:
        return Addresses()
    return Addresses(database_url=stored["database_url"], redis_url=stored["redis_url"])


def unreachable_reason(data_dir: Path) -> str | None:
    """Explain in one line why the embedded engines are unreachable; None if they are reachable.

    Also None if the installation has its own DATABASE_URL and does not need them.
    """
    if os.environ.get("DATABASE_URL") or os.environ.get("DATABASE_URL_FILE"):
        return None
    if engines_file(data_dir).exists() and _is_listening(addresses(data_dir).database_url):
        return None
    return (
        f"No engines run for the data directory {data_dir}: start them with `make run` or "
        "`manage.py up`, or set DATABASE_URL."
    )


def _is_listening(database_url: str) -> bool:
    directory = parse_qs(urlsplit(database_url).query)["host"][0]
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(2)
            client.connect(f"{directory}/.s.PGSQL.5432")
    except OSError:
        return False
    return True


def read_secrets(data_dir: Path) -> dict[str, str]:
    """Return the keys that `manage.py up` generated for this data directory; empty if none."""
    try:
        return dict(json.loads(secrets_file(data_dir).read_text()))
    except FileNotFoundError:
        return {}
