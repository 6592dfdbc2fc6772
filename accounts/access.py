"""Who may see a page: signed-in staff whom Django's model permissions allow it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.views.generic import View
    from rest_framework.request import Request

    _View = View
else:
    _View = object


def user_of(request: HttpRequest | Request) -> User:
    """Return who asks, behind permissions that let nobody anonymous in."""
    return cast("User", request.user)


class StaffPermissionRequiredMixin(_View):
    """Let only staff with `permissions` in; `write_permissions` are needed on top to change things.

    Anonymous visitors go to the login page, anyone else without permission gets the 403 page.
    """

    permissions: ClassVar[tuple[str, ...]] = ()
    write_permissions: ClassVar[tuple[str, ...]] = ()

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = request.user
        if not user.is_authenticated:
            return _to_login(request)
        wanted = self.permissions
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            wanted += self.write_permissions
        if not user.is_staff or not user.has_perms(wanted):
            raise PermissionDenied(_("Your account may not open this page."))
        return super().dispatch(request, *args, **kwargs)


def _to_login(request: HttpRequest) -> HttpResponse:
    if getattr(request, "htmx", False):
        # A fragment must not become the login page: the whole page goes there.
        back = getattr(request, "htmx").current_url_abs_path or resolve_url("/")  # noqa: B009
        redirect = redirect_to_login(back)
        return HttpResponse(status=401, headers={"HX-Redirect": redirect.url})
    return redirect_to_login(request.get_full_path())
