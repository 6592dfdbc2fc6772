"""Read-only sessions; only settings that Evolution does not report are editable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from instances.listener import registry
from instances.models import WhatsAppSession

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[WhatsAppSession]
else:
    _ModelAdmin = admin.ModelAdmin


@admin.register(WhatsAppSession)
class SessionAdmin(_ModelAdmin):
    """The session admin. The receive mode is switched on its card, together with Evolution."""

    list_display = (
        "instance",
        "webhook_enabled",
        "websocket_enabled",
        "global_events",
        "server_state",
    )
    list_select_related = ("channel__evolution",)
    search_fields = ("channel__evolution__instance_name", "channel__name")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "channel",
                    "webhook_enabled",
                    "websocket_enabled",
                    "webhook_url",
                    "global_events",
                ),
                # The server does not report it: its root namespace always exists.
                "description": _(
                    "Select this if the Evolution server runs with WEBSOCKET_GLOBAL_EVENTS=true: "
                    "the first event of any of its instances then shows that the socket works. On "
                    "other servers it has no effect."
                ),
            },
        ),
    )
    readonly_fields = ("channel", "webhook_enabled", "websocket_enabled", "webhook_url")

    @admin.display(description=_("instance name"), ordering="channel__evolution__instance_name")
    def instance(self, session: WhatsAppSession) -> str:
        return session.name

    @admin.display(description=_("connection"))
    def server_state(self, session: WhatsAppSession) -> str:
        """Return the connection state in Evolution's own terms."""
        return session.connection.get_server_state_display()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(
        self, request: HttpRequest, obj: WhatsAppSession | None = None
    ) -> bool:
        return False

    def save_model(
        self, request: HttpRequest, obj: WhatsAppSession, form: Any, change: bool
    ) -> None:
        """Save only this field: a handover may have changed the others."""
        obj.save(update_fields=["global_events"])
        registry.wake()
