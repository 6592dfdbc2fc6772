from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings


def chosen_language(cookies: Mapping[str, str]) -> str:
    """Return the language from the cookie, or the default if it is missing or unsupported."""
    language = cookies.get(settings.LANGUAGE_COOKIE_NAME, "")
    return language if language in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE
