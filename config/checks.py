"""System checks that refuse an unsafe production: `manage.py check --deploy` and every start.

The one-machine product of `manage.py up` makes its own keys and so passes them by itself.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def production_is_safe(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Name each setting that must not be what it is."""
    problems: list[CheckMessage] = []
    if not settings.ENCRYPTION_KEYS:
        problems.append(
            Error(
                "ENCRYPTION_KEYS is empty: the channels' secrets cannot be stored.",
                hint="Make one with `manage.py new_encryption_key`.",
                id="alterna.E001",
            )
        )
    for position, key in enumerate(settings.ENCRYPTION_KEYS):
        try:
            Fernet(key)
        except ValueError:
            problems.append(
                Error(f"ENCRYPTION_KEYS: key {position + 1} is no Fernet key.", id="alterna.E002")
            )
    elsewhere = ", ".join(_elsewhere())
    if settings.DEBUG and elsewhere:
        problems.append(
            Error(f"DEBUG is on, but this is not this machine: {elsewhere}.", id="alterna.E003")
        )
    if settings.SECRET_KEY == settings.INSECURE_SECRET_KEY and (elsewhere or not settings.DEBUG):
        problems.append(Error("SECRET_KEY is the published default.", id="alterna.E004"))
    if not settings.DEBUG and not settings.ALLOWED_HOSTS:
        problems.append(Error("ALLOWED_HOSTS is empty.", id="alterna.E005"))
    return problems


def _elsewhere() -> Iterator[str]:
    """Name each setting that says that others than this machine have a part in the product."""
    public = urlsplit(settings.PUBLIC_URL).hostname or ""
    if not _is_here(public):
        yield f"PUBLIC_URL ({public})"
    # A path is a socket; several hosts may be named.
    hosts = str(settings.DATABASES["default"].get("HOST") or "localhost").split(",")
    if others := [host for host in hosts if not (host.startswith("/") or _is_here(host))]:
        yield f"DATABASE_URL ({', '.join(others)})"
    if not _is_here(settings.HOST):
        yield f"HOST ({settings.HOST})"
    if others := [name for name in settings.ALLOWED_HOSTS if not _is_here(name)]:
        yield f"ALLOWED_HOSTS ({', '.join(others)})"


def _is_here(host: str) -> bool:
    """Whether only this machine is meant by a host: a loopback address or a name of one."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def refuse_unsafe() -> None:
    """End this process with one line a problem where the settings are unsafe.

    For the processes that do not start as a management command, or need no other check.
    """
    problems = [problem for problem in production_is_safe(None) if problem.is_serious()]
    if problems:
        raise SystemExit("\n".join(f"{problem.id}: {problem.msg}" for problem in problems))
