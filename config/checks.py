"""System checks that refuse an unsafe production: `manage.py check --deploy` and every start.

The one-machine product of `manage.py up` makes its own keys and so passes them by itself.
"""

from __future__ import annotations

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
    host = urlsplit(settings.PUBLIC_URL).hostname
    if settings.DEBUG and host not in ("127.0.0.1", "localhost", "::1"):
        problems.append(
            Error(f"DEBUG is on, but PUBLIC_URL ({host}) is not this machine.", id="alterna.E003")
        )
    if not settings.DEBUG:
        if settings.SECRET_KEY == settings.INSECURE_SECRET_KEY:
            problems.append(Error("SECRET_KEY is the published default.", id="alterna.E004"))
        if not settings.ALLOWED_HOSTS:
            problems.append(Error("ALLOWED_HOSTS is empty.", id="alterna.E005"))
    return problems


def refuse_unsafe() -> None:
    """End this process with one line a problem where the settings are unsafe.

    For the processes that do not start as a management command, or need no other check.
    """
    problems = [problem for problem in production_is_safe(None) if problem.is_serious()]
    if problems:
        raise SystemExit("\n".join(f"{problem.id}: {problem.msg}" for problem in problems))
