"""A database that a released version wrote is upgraded, and everything in it can still be used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from tests.upgrades import ENCRYPTION_KEY
from tests.upgrades.rows import APPS

ROOT = Path(__file__).parents[2]
RECORDINGS = sorted(Path(__file__).parent.glob("*.sql"))
NAME = "upgraded"


@pytest.fixture(params=RECORDINGS, ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> Iterator[str]:
    """A database with the rows of a released version; its URL."""
    url = os.environ["DATABASE_URL"]
    with closing(psycopg.connect(url, autocommit=True)) as server:
        server.execute(f"DROP DATABASE IF EXISTS {NAME}")
        server.execute(f"CREATE DATABASE {NAME}")
        target = urlunsplit(urlsplit(url)._replace(path=f"/{NAME}"))
        with psycopg.connect(target) as database:
            database.execute(request.param.read_text())
        yield target
        server.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def counts(url: str) -> dict[str, int]:
    """Return the number of rows of each table of our apps."""
    with psycopg.connect(url) as database:
        listed = database.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        names = [name for (name,) in listed if name.startswith(tuple(f"{app}_" for app in APPS))]
        return {
            name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # type: ignore[index]
            for name in sorted(names)
        }


def manage(url: str, *arguments: str) -> str:
    environment = os.environ | {"DATABASE_URL": url, "ENCRYPTION_KEYS": ENCRYPTION_KEY}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_released_database_is_upgraded_without_losing_a_row(recorded: str) -> None:
    before = counts(recorded)
    assert len(before) > 20
    assert min(before.values()) > 0, "the recording has a row in every table"
    manage(recorded, "manage.py", "migrate", "--verbosity=0")
    after = counts(recorded)
    assert {name: after[name] for name in before} == before
    manage(recorded, "manage.py", "migrate", "--check")
    shown = manage(recorded, "-m", "tests.upgrades.visit").splitlines()
    assert len(shown) > 25
    assert [line for line in shown if not line.startswith("200 ")] == []
