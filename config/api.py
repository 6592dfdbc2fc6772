"""Error responses of the REST API."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import InterfaceError, OperationalError
from django.db.models import ProtectedError, RestrictedError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views import defaults
from psycopg_pool import PoolTimeout
from rest_framework import exceptions, parsers, status
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error
from rest_framework.views import exception_handler as drf_exception_handler

from accounts.api_errors import Conflict

# REST framework's Portuguese translation of this text has a typo; our catalog overrides it.
gettext_noop("Ensure this value is greater than or equal to {min_value}.")


class JSONParser(parsers.JSONParser):
    """Fixes DRF's parser, which accepts NaN and infinity and fails on deep nesting."""

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the decoded body. Raises ParseError."""
        try:
            return json.load(
                codecs.getreader("utf-8")(stream),
                parse_float=_finite,
                parse_constant=_finite,
            )
        except (ValueError, RecursionError) as error:
            raise exceptions.ParseError(_("The body is not JSON.")) from error


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} cannot be stored")
    return value


class Unavailable(exceptions.APIException):
    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"

    def __init__(self) -> None:
        super().__init__(_("The database is unavailable. Try again in a moment."))


def exception_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Return field errors in DRF's format and all other errors as `{"detail", "code"}`."""
    if isinstance(exc, (OperationalError, InterfaceError, PoolTimeout)):
        exc = Unavailable()
    elif isinstance(exc, ProtectedError | RestrictedError):
        exc = Conflict(_("Other records depend on this one."), code="in_use")
    elif isinstance(exc, Http404):
        # Django's message names the model and is in English only.
        exc = exceptions.NotFound()
    elif isinstance(exc, exceptions.PermissionDenied) and str(exc.detail).startswith("CSRF Failed"):
        # REST framework's message is in English only.
        exc = exceptions.PermissionDenied(
            _("The CSRF token is missing or belongs to another session.")
        )
    elif isinstance(exc, DjangoValidationError):
        exc = exceptions.ValidationError(as_serializer_error(exc))
    response = drf_exception_handler(exc, context)
    if response is None or not isinstance(exc, exceptions.APIException):
        if response is not None and isinstance(response.data, dict) and "detail" in response.data:
            response.data = {
                "detail": response.data["detail"],
                "code": getattr(response.data["detail"], "code", "error"),
            }
        return response
    if not isinstance(exc, exceptions.ValidationError):
        detail = exc.detail
        response.data = {"detail": detail, "code": getattr(detail, "code", exc.default_code)}
    if response.status_code == status.HTTP_503_SERVICE_UNAVAILABLE:
        response["Retry-After"] = "5"
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler for requests that it rejects before any view."""
    response = _problem(request, 400, _("The request could not be read."), "bad_request")
    return response or defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    """Django's handler for URLs that match no view."""
    response = _problem(request, 404, _("Not found."), "not_found")
    return response or defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Django's handler for unhandled exceptions."""
    response = _problem(
        request, 500, _("The server encountered an error, which was logged."), "server_error"
    )
    return response or defaults.server_error(request)


def _problem(request: HttpRequest, status: int, detail: str, code: str) -> HttpResponse | None:
    if not request.path_info.startswith("/api/"):
        return None
    return JsonResponse({"detail": detail, "code": code}, status=status)
