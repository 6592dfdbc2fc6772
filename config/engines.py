"""The embedded engines (PostgreSQL and Valkey from wheels) and where a command finds them.

`manage.py up` owns the engines of one `DATA_DIR` (config/up/engines.py) and writes their addresses
into `DATA_DIR/engines.json`; every other command only reads that file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the engines listen. The defaults are the usual places, for when none was started."""

    database_url: str = "postgres:///alterna"
    redis_url: str = "redis://127.0.0.1:6379/0"


def engines_file(data_dir: Path) -> Path:
    return data_dir / "engines.json"


def secrets_file(data_dir: Path) -> Path:
    return data_dir / "secrets.json"


def addresses(data_dir: Path) -> Addresses:
    """Return the addresses that a running `manage.py up` wrote for this data directory."""
    try:
        found = json.loads(engines_file(data_dir).read_text())
    except FileNotFoundError:
        return Addresses()
    return Addresses(database_url=found["database_url"], redis_url=found["redis_url"])


def read_secrets(data_dir: Path) -> dict[str, str]:
    """Return the keys that `manage.py up` made for this data directory; empty when it never ran."""
    try:
        return dict(json.loads(secrets_file(data_dir).read_text()))
    except FileNotFoundError:
        return {}
