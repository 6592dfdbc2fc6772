from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from channels_app.channels import save_channel
from channels_app.connections import circuit_breaker, connection_tests, readiness, remote_sessions
from channels_app.forms import FallbackListField, SecretsForm
from channels_app.incidents import reason_text
from channels_app.models import Channel, Connection, FallbackRoute, MessageTemplate
from channels_app.providers import engines

if TYPE_CHECKING:
    _ChannelAdmin = admin.ModelAdmin[Channel]
    _TemplateAdmin = admin.ModelAdmin[MessageTemplate]
else:
    _ChannelAdmin = _TemplateAdmin = admin.ModelAdmin


class ChannelAdminForm(SecretsForm):
    FALLBACK_FIELDS: ClassVar = {"fallback_channel": "fallbacks"}

    fallbacks = FallbackListField(
        start=1,
        label=_("Fallbacks"),
        help_text=_("Tried in this order. Select “None” to remove one."),
    )

    class Meta:
        model = Channel
        exclude = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "fallbacks" in self.fields:
            field = cast("FallbackListField", self.fields["fallbacks"])
            field.offer(self._fallback_channels())
            self.initial["fallbacks"] = field.initial_for(self.instance.fallbacks)
        for name in Channel.SECRETS:
            if name in self.fields:
                self.fields[name].widget.attrs["class"] = "vTextField"

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if "fallbacks" in cleaned:
            self.instance.fallbacks = cleaned["fallbacks"]
        return cleaned


@admin.register(MessageTemplate)
class MessageTemplateAdmin(_TemplateAdmin):
    """Templates as Meta listed them; they are changed at Meta, by the product's own pages."""

    list_display = (
        "name",
        "language",
        "category",
        "status",
        "quality",
        "business_account_id",
        "synced_at",
        "deleted_at",
    )
    list_filter = ("status", "category", "language", "business_account_id")
    search_fields = ("name", "template_id")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(
        self, request: HttpRequest, obj: MessageTemplate | None = None
    ) -> bool:
        return False

    def has_delete_permission(
        self, request: HttpRequest, obj: MessageTemplate | None = None
    ) -> bool:
        return False


class FallbackFilter(admin.SimpleListFilter):
    """Filters by the kind of any of the channel's fallbacks."""

    title = _("fallback")
    parameter_name = "fallback"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return [(Channel.NO_FALLBACK, _("None")), *engines.fallback_choices()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Channel]) -> QuerySet[Channel]:
        if self.value() is None:
            return queryset
        routes = FallbackRoute.objects.filter(channel=OuterRef("pk"))
        if self.value() == Channel.NO_FALLBACK:
            return queryset.exclude(Exists(routes))
        return queryset.filter(Exists(routes.filter(connection__provider=self.value())))


class HealthFilter(admin.SimpleListFilter):
    """Filters by whether the channel's own connection works."""

    title = _("state")
    parameter_name = "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Any:
        return Connection.Health.choices

    def queryset(self, request: HttpRequest, queryset: QuerySet[Channel]) -> QuerySet[Channel]:
        if self.value() is None:
            return queryset
        own = Connection.objects.filter(provider=OuterRef("kind"), channel=OuterRef("pk"))
        return queryset.filter(Exists(own.filter(health=self.value())))


@admin.register(Channel)
class ChannelAdmin(_ChannelAdmin):
    """All settings of a channel. Secrets can be replaced or cleared, never read."""

    form = ChannelAdminForm
    list_display = ("name", "kind", "phone_number", "active", "fallback", "health", "updated_at")
    list_filter = ("kind", "active", FallbackFilter, HealthFilter)
    search_fields = (
        "name",
        "phone_number",
        "cloud__phone_number_id",
        "evolution__instance_name",
    )
    readonly_fields = ("health", "reason", "health_changed_at", "created_at", "updated_at")
    actions = ("test_connection", "lift_new_chat_block")
    fieldsets = (
        (None, {"fields": ("name", "kind", "phone_number", "active")}),
        (
            _("Official credentials"),
            {
                "fields": (
                    "phone_number_id",
                    "business_account_id",
                    "access_token",
                    "app_secret",
                    "verify_token",
                    "graph_url",
                    "graph_version",
                )
            },
        ),
        (
            _("Fallback"),
            {
                "fields": (
                    "fallbacks",
                    "wwebjs_url",
                    "wwebjs_api_key",
                    "wwebjs_session_id",
                    "ignore_messages_sent_outside",
                    "ignore_groups",
                )
            },
        ),
        (
            _("When and how to use the fallback"),
            {
                "classes": ("collapse",),
                "fields": (
                    "official_retries",
                    "request_timeout_seconds",
                    "confirm_seconds",
                    "on_unconfirmed",
                    "on_undelivered",
                    "fallback_max_age_minutes",
                    "fallback_per_minute",
                    "fallback_new_chats_per_day",
                    "fallback_despite_limits",
                    "messages_per_second",
                ),
            },
        ),
        (
            _("Inbox"),
            {
                "classes": ("collapse",),
                "fields": (
                    "team",
                    "assignee",
                    "greeting",
                    "away_message",
                    "opening_hours",
                    "time_zone",
                ),
            },
        ),
        (
            _("Evolution API"),
            {"fields": ("evolution_url", "evolution_api_key", "instance_name", "calls_api_key")},
        ),
        (
            _("State"),
            {
                "fields": (
                    "health",
                    "reason",
                    "health_changed_at",
                    "created_at",
                    "updated_at",
                )
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        channels = super().get_queryset(request)
        return channels.prefetch_related("connections", "fallback_routes")

    def delete_view(
        self, request: HttpRequest, object_id: str, extra_context: Any = None
    ) -> HttpResponse:
        """Redirect to the channel's own page, which asks what to do with its session."""
        channel = self.get_object(request, object_id)
        if channel is not None and remote_sessions.session_of(channel):
            return redirect("channels_app:delete", pk=channel.pk)
        return super().delete_view(request, object_id, extra_context)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Protect channels with a session on a server: a bulk deletion cannot ask about them."""
        to_delete, counts, missing, protected = super().get_deleted_objects(objs, request)
        text = _("has a session on its server: delete it on the channel's own page")
        for channel in objs:
            if remote_sessions.session_of(channel):
                url = reverse("channels_app:delete", args=[channel.pk])
                protected.append(format_html('<a href="{}">{}</a> {}', url, channel, text))
        return to_delete, counts, missing, protected

    def has_view_permission(self, request: HttpRequest, obj: Channel | None = None) -> bool:
        # Without the form, Django's read-only page would print the stored secrets.
        return self.has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        """Warn whose fallback no longer works, as the channel's page does."""
        save_channel(obj)
        if problem := readiness.inactive_problem(obj):
            self.message_user(request, problem, messages.WARNING)

    @admin.display(description=_("reason"))
    def reason(self, channel: Channel) -> str:
        """Return the health detail in the reader's language."""
        return reason_text.render_reason(channel.primary.health_detail)

    @admin.display(description=_("state"))
    def health(self, channel: Channel) -> str:
        """Return whether the channel's own connection works."""
        return channel.primary.get_health_display()

    @admin.display(description=_("fallbacks"))
    def fallback(self, channel: Channel) -> str:
        """Return the kinds of the fallbacks, in their order."""
        titles = dict(engines.fallback_choices())
        return ", ".join(str(titles[one.kind]) for one in channel.fallbacks) or gettext("None")

    @admin.display(description=_("since"))
    def health_changed_at(self, channel: Channel) -> Any:
        """Return since when."""
        return channel.primary.health_changed_at

    @admin.action(description=_("Test connection"), permissions=["change"])
    def test_connection(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        """Test the connections of each selected channel."""
        for channel in queryset:
            for label, report in connection_tests.test_connection(channel):
                level = messages.SUCCESS if report.ok else messages.ERROR
                text = f"{channel.name}, {label}: {reason_text.summary(report)}"
                self.message_user(request, text, level)

    @admin.action(description=_("Lift the new-chat block"), permissions=["change"])
    def lift_new_chat_block(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        """Lift the new-chat block of each selected channel's fallback."""
        assert isinstance(request.user, User)
        for channel in queryset:
            if circuit_breaker.lift_new_chat_block(channel, user=request.user):
                text = _(
                    "The new-chat block was lifted: the fallback can write to new customers again."
                )
                self.message_user(request, f"{channel.name}: {text}", messages.SUCCESS)
            else:
                text = _("There is no new-chat block.")
                self.message_user(request, f"{channel.name}: {text}", messages.WARNING)
