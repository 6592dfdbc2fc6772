from __future__ import annotations

from collections.abc import Mapping

from django.conf import settings


def chosen_language(cookies: Mapping[str, str]) -> str:
    """Return the language of a person's cookie, or the default where it names none of ours."""
    language = cookies.get(settings.LANGUAGE_COOKIE_NAME, "")
    return language if language in dict(settings.LANGUAGES) else settings.LANGUAGE_CODE
