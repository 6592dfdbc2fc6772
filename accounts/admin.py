from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest

from accounts.models import ApiToken, Team

if TYPE_CHECKING:
    _ApiTokenAdmin = admin.ModelAdmin[ApiToken]
    _TeamAdmin = admin.ModelAdmin[Team]
else:
    _ApiTokenAdmin = _TeamAdmin = admin.ModelAdmin


@admin.register(ApiToken)
class ApiTokenAdmin(_ApiTokenAdmin):
    """Lists and revokes API tokens. `manage.py create_token` creates them."""

    list_display = ("token_key", "name", "user", "created", "expiry")
    list_filter = ("created",)
    list_select_related = ("user",)
    search_fields = ("name", "token_key", "user__username")
    fields = ("token_key", "name", "user", "created", "expiry")
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Team)
class TeamAdmin(_TeamAdmin):
    list_display = ("name", "created_at")
    search_fields = ("name", "members__username")
    filter_horizontal = ("members",)
