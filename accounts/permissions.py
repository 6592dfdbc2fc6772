"""REST API permissions: staff users (or their tokens) with the model's permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from rest_framework.permissions import BasePermission, DjangoModelPermissions

from accounts import refusal
from accounts.authentication import is_read_only

if TYPE_CHECKING:
    from rest_framework.request import Request
    from rest_framework.views import APIView


class StaffOnly(BasePermission):
    """Signed-in staff."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        return bool(request.user and request.user.is_authenticated and request.user.is_staff)


class StaffWithModelPermissions(DjangoModelPermissions):
    """Signed-in staff with the add, change, delete or view permission that the method requires."""

    perms_map = {
        **DjangoModelPermissions.perms_map,
        "GET": ["%(app_label)s.view_%(model_name)s"],
        "HEAD": ["%(app_label)s.view_%(model_name)s"],
    }

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not StaffOnly().has_permission(request, view):
            return False
        model = self._queryset(view).model
        required = self.get_required_permissions(str(request.method), model)
        if not super().has_permission(request, view):
            self.message = refusal.words(required)
            return False
        if is_read_only(request.auth) and not all(".view_" in name for name in required):
            self.message = _("This API key may only read.")
            return False
        return True


class StaffMayChange(StaffWithModelPermissions):
    """For actions whose POST changes an existing object."""

    perms_map = {
        **StaffWithModelPermissions.perms_map,
        "POST": ["%(app_label)s.change_%(model_name)s"],
    }
