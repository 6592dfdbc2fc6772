"""REST API permissions: staff users (or their tokens) with the model's permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission, DjangoModelPermissions

from accounts import refusal

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
        allowed: bool = super().has_permission(request, view)
        if not allowed and request.method:
            model = self._queryset(view).model
            self.message = refusal.words(self.get_required_permissions(request.method, model))
        return allowed


class StaffMayChange(StaffWithModelPermissions):
    """For actions whose POST changes an existing object."""

    perms_map = {
        **StaffWithModelPermissions.perms_map,
        "POST": ["%(app_label)s.change_%(model_name)s"],
    }
