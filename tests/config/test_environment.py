"""`.env.example` documents exactly the variables that the code reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.config.product import BASE_DIR

READERS = ["config/settings.py", "config/up/supervisor.py"]


def read_by_the_code() -> set[str]:
    pattern = re.compile(r"""\benv(?:\.\w+)?\(\s*["']([A-Z_]+)["']""")
    return {name for file in READERS for name in pattern.findall((BASE_DIR / file).read_text())}


def documented() -> list[tuple[str, bool]]:
    """Return each variable of the example, and whether a comment precedes it."""
    variables = []
    explained = False
    for line in (BASE_DIR / ".env.example").read_text().splitlines():
        if variable := re.match(r"#([A-Z_]+)=", line):
            variables.append((variable[1], explained))
        elif line.startswith("# ") and not line.startswith("# ---"):
            explained = True
        else:
            explained = False
    return variables


def test_every_variable_is_documented_once() -> None:
    names = [name for name, _ in documented()]
    assert sorted(names) == sorted(read_by_the_code())


def test_every_variable_is_explained() -> None:
    assert [name for name, explained in documented() if not explained] == []


@pytest.mark.parametrize("name", ["SECRET_KEY", "ENCRYPTION_KEYS", "DATABASE_URL", "REDIS_URL"])
def test_a_secret_may_come_from_a_file(name: str, tmp_path: Path) -> None:
    values = {
        "SECRET_KEY": "from-a-file",
        "ENCRYPTION_KEYS": "m7EoKuTClI0DkLPpg7xXLWzqTQLmFc4YkzMSVNYdu0w=",
        "DATABASE_URL": "postgres://a:b@db/alterna",
        "REDIS_URL": "redis://valkey:6379/0",
    }
    secret = tmp_path / "secret"
    secret.write_text(values.pop(name) + "\n")
    script = (
        "from config import settings as s; from cryptography.fernet import Fernet;"
        "[Fernet(key) for key in s.ENCRYPTION_KEYS];"
        "print(s.SECRET_KEY.strip(), s.DATABASES['default']['NAME'], len(s.ENCRYPTION_KEYS),"
        " s.REDIS_URL.strip())"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=values | {f"{name}_FILE": str(secret), "DATA_DIR": str(tmp_path)},
        cwd=BASE_DIR,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = "from-a-file" if name == "SECRET_KEY" else values["SECRET_KEY"]
    assert result.stdout == f"{expected} alterna 1 redis://valkey:6379/0\n"
