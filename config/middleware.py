from __future__ import annotations

from collections.abc import Callable

from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils import translation
from django.utils.translation import gettext as _
from psycopg_pool import PoolTimeout

from accounts.language import chosen_language

GetResponse = Callable[[HttpRequest], HttpResponseBase]


class LanguageMiddleware:
    """Pages use the user's chosen language, Portuguese by default; the API uses Accept-Language.

    Django's own middleware would use the browser's language, which for this product's users is
    often accidentally English.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        path = request.path_info
        if path.startswith("/api/") and not path.startswith("/api/docs/"):
            language = translation.get_language_from_request(request)
        else:
            language = chosen_language(request.COOKIES)
        with translation.override(language):
            request.LANGUAGE_CODE = language
            response = self.get_response(request)
        response.headers.setdefault("Content-Language", language)
        return response


class DatabaseDownMiddleware:
    """Return 503 while PostgreSQL is unreachable, so that callers retry."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if isinstance(exception, (OperationalError, InterfaceError, PoolTimeout)):
            return database_unavailable(request)
        return None


def database_unavailable(request: HttpRequest) -> HttpResponse:
    """Return the 503 that every entry point sends while PostgreSQL is unreachable."""
    detail = _("The database is unavailable. Try again in a moment.")
    headers = {"Retry-After": "5"}
    if request.path_info.startswith(("/api/", "/readyz")):
        return JsonResponse({"detail": detail, "code": "unavailable"}, status=503, headers=headers)
    return HttpResponse(
        detail, status=503, headers=headers, content_type="text/plain; charset=utf-8"
    )
