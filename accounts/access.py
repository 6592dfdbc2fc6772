"""Access control for pages: signed-in staff with the required Django permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import resolve_url

from accounts import refusal

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.views.generic import View
    from rest_framework.request import Request

    _View = View
else:
    _View = object


def user_of(request: HttpRequest | Request) -> User:
    """Return the request's user. Call it only where anonymous users have no access."""
    return cast("User", request.user)


class StaffPermissionRequiredMixin(_View):
    """Require staff with `permissions`, plus `write_permissions` for unsafe methods.

    Anonymous visitors are redirected to the login; other users without permission get a 403.
    """

    permissions: ClassVar[tuple[str, ...]] = ()
    write_permissions: ClassVar[tuple[str, ...]] = ()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = request.user
        if not user.is_authenticated:
            return _to_login(request)
        required = self.permissions
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            required += self.write_permissions
        if not user.is_staff or not user.has_perms(required):
            raise PermissionDenied(refusal.words(required))
        return super().dispatch(request, *args, **kwargs)


def _to_login(request: HttpRequest) -> HttpResponse:
    if getattr(request, "htmx", False):
        # Redirect the whole page, so that the login does not appear inside a fragment.
        next_url = getattr(request, "htmx").current_url_abs_path or resolve_url("/")  # noqa: B009
        redirect = redirect_to_login(next_url)
        return HttpResponse(status=401, headers={"HX-Redirect": redirect.url})
    return redirect_to_login(request.get_full_path())
