from __future__ import annotations

from rest_framework import exceptions, status


class Conflict(exceptions.APIException):
    """The request is well formed, but the current state does not allow it."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"
