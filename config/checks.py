"""System checks that reject unsafe production settings, at each start and in `manage.py check`.

`manage.py up` generates its own keys, so a single-machine installation passes automatically.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator
from typing import Any
from urllib.parse import urlsplit

from cryptography.fernet import Fernet
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

_OWN_APPS = frozenset({"accounts", "channels_app", "messaging", "instances"})


@register()
def check_production_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Return an error for each setting with an unsafe value."""
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
    remote = ", ".join(_remote_settings())
    if settings.DEBUG and remote:
        problems.append(
            Error(f"DEBUG is on, but this is not this machine: {remote}.", id="alterna.E003")
        )
    if settings.SECRET_KEY == settings.INSECURE_SECRET_KEY and (remote or not settings.DEBUG):
        problems.append(Error("SECRET_KEY is the published default.", id="alterna.E004"))
    if not settings.DEBUG and not settings.ALLOWED_HOSTS:
        problems.append(Error("ALLOWED_HOSTS is empty.", id="alterna.E005"))
    return problems


@register(Tags.database)
def check_database_version(
    app_configs: Any, databases: Collection[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Return an error for a database that has migrations of ours which this version does not have.

    Before 0.1.0 all migrations were replaced by fresh ones.
    `manage.py migrate` runs this check; `manage.py up` calls it before it migrates.
    """
    problems: list[CheckMessage] = []
    for alias in databases or ():
        known = MigrationLoader(None).disk_migrations
        applied = MigrationRecorder(connections[alias]).applied_migrations()
        unknown = [name for name in applied if name[0] in _OWN_APPS and name not in known]
        if unknown:
            problems.append(
                Error(
                    f"The database has the migration {'.'.join(min(unknown))}, which this version"
                    " does not have. A database from before 0.1.0 cannot be migrated: set DATA_DIR"
                    " to a new directory (or DATABASE_URL to an empty database). For one from a"
                    " newer version, run that version.",
                    id="alterna.E006",
                )
            )
    return problems


def _remote_settings() -> Iterator[str]:
    """Name each setting that involves a machine other than this one."""
    public = urlsplit(settings.PUBLIC_URL).hostname or ""
    if not _is_local(public):
        yield f"PUBLIC_URL ({public})"
    # A path is a Unix socket; the list may contain several hosts.
    hosts = str(settings.DATABASES["default"].get("HOST") or "localhost").split(",")
    if others := [host for host in hosts if not (host.startswith("/") or _is_local(host))]:
        yield f"DATABASE_URL ({', '.join(others)})"
    if not _is_local(settings.HOST):
        yield f"HOST ({settings.HOST})"
    if others := [name for name in settings.ALLOWED_HOSTS if not _is_local(name)]:
        yield f"ALLOWED_HOSTS ({', '.join(others)})"


def _is_local(host: str) -> bool:
    """Whether a host is this machine: a loopback address or a localhost name."""
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def exit_if_not_upgradable() -> None:
    """Exit with one line if the database cannot be upgraded."""
    if problems := check_database_version(None, databases=["default"]):
        raise SystemExit(f"{problems[0].id}: {problems[0].msg}")


def exit_if_unsafe() -> None:
    """Exit with one line per problem if the settings are unsafe.

    For processes that do not run the system checks of a management command.
    """
    problems = [problem for problem in check_production_settings(None) if problem.is_serious()]
    if problems:
        raise SystemExit("\n".join(f"{problem.id}: {problem.msg}" for problem in problems))
