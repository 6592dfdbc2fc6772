"""Read-only admin of messages and events. Messages change only by being sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from messaging import selectors
from messaging.inbound.replay import replay
from messaging.models import (
    AutomaticAnswer,
    CallAttempt,
    Contact,
    ContactAddress,
    ContactMerge,
    Conversation,
    DeliveryAttempt,
    InboundEvent,
    Label,
    Message,
    Note,
    QuickReply,
    Rate,
)

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
    _Inline = admin.TabularInline[Any, Any]
else:
    _ModelAdmin = admin.ModelAdmin
    _Inline = admin.TabularInline


class ReadOnly:
    """Disable adding, changing and deleting."""

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Rate)
class RateAdmin(_ModelAdmin):
    """The prices from which amounts are estimated."""

    list_display = ("category", "prefix", "price", "currency", "valid_from")
    list_filter = ("category", "currency")


class AttemptInline(ReadOnly, _Inline):
    model = DeliveryAttempt
    fields = (
        "number",
        "round",
        "connection",
        "rule",
        "outcome",
        "receipt",
        "error_code",
        "error_title",
        "provider_message_id",
        "confirmed_by",
        "started_at",
        "finished_at",
    )
    extra = 0

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).select_related("connection__channel")


class AddressInline(ReadOnly, _Inline):
    model = ContactAddress
    extra = 0


@admin.register(Contact)
class ContactAdmin(ReadOnly, _ModelAdmin):
    list_display = ("name", "phone_number", "user_id", "username", "merged_into", "created_at")
    list_select_related = ("merged_into",)
    search_fields = ("name", "phone_number", "user_id", "username", "addresses__value")
    inlines = (AddressInline,)


@admin.register(ContactMerge)
class ContactMergeAdmin(ReadOnly, _ModelAdmin):
    list_display = ("contact", "merged", "reason", "created_by", "created_at", "undone_at")
    list_select_related = ("contact", "merged", "created_by")


@admin.register(Conversation)
class ConversationAdmin(ReadOnly, _ModelAdmin):
    list_display = (
        "contact",
        "channel",
        "status",
        "assignee",
        "team",
        "last_message_at",
        "last_inbound_at",
        "unread_count",
    )
    list_filter = ("channel", "status", "team", "assignee", "labels")
    list_select_related = ("contact", "channel", "assignee", "team")
    search_fields = ("contact__name", "contact__phone_number")


@admin.register(Message)
class MessageAdmin(ReadOnly, _ModelAdmin):
    list_display = (
        "created_at",
        "direction",
        "conversation",
        "type",
        "status",
        "route",
        "error_code",
        "decision",
    )
    list_filter = ("direction", "status", "route", "type", "conversation__channel", "created_at")
    list_select_related = ("conversation__contact", "conversation__channel")
    search_fields = ("id", "client_reference", "conversation__contact__phone_number")
    date_hierarchy = "created_at"
    show_full_result_count = False
    inlines = (AttemptInline,)


@admin.register(DeliveryAttempt)
class DeliveryAttemptAdmin(ReadOnly, _ModelAdmin):
    list_display = (
        "started_at",
        "message",
        "number",
        "connection",
        "outcome",
        "receipt",
        "error_code",
        "error_title",
    )
    list_filter = (
        "connection__provider", "outcome", "receipt", "connection__channel", "started_at"
    )  # fmt: skip
    list_select_related = ("message", "connection__channel")
    search_fields = ("provider_message_id", "message__id", "error_code")
    show_full_result_count = False


@admin.register(CallAttempt)
class CallAttemptAdmin(ReadOnly, _ModelAdmin):
    list_display = (
        "created_at",
        "incoming",
        "status",
        "created_by",
        "conversation",
        "channel",
        "phone_number",
    )
    list_filter = ("incoming", "status", "channel", "created_at")
    list_select_related = ("created_by", "conversation__contact", "conversation__channel")
    search_fields = ("phone_number",)


class SkippedFilter(admin.SimpleListFilter):
    """Filter by the kind of event that this version does not know, with counts."""

    title = _("not processed")
    parameter_name = "skipped"
    any_kind = "any"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        kinds = selectors.skipped_events()
        choices = [(kind, f"{kind} ({n})") for kind, n in kinds.items()]
        any_kind = _("Any kind (%(n)s)") % {"n": sum(kinds.values())}
        return [(self.any_kind, any_kind), *choices] if choices else []

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        kind = self.value()
        if kind == self.any_kind:
            return queryset.exclude(skipped="")
        return queryset.filter(skipped=kind) if kind else queryset


@admin.register(InboundEvent)
class InboundEventAdmin(ReadOnly, _ModelAdmin):
    list_display = (
        "id",
        "received_at",
        "source",
        "source_key",
        "state",
        "error",
        "skipped",
        "processed_at",
    )
    list_filter = ("state", SkippedFilter, "source", "received_at")
    search_fields = ("source_key", "dedupe_key", "error")
    show_full_result_count = False
    actions = ("replay_selected",)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("messaging.change_inboundevent")

    @admin.action(description=_("Process the failed events again"), permissions=["replay"])
    def replay_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        done, failed = replay(ids=list(queryset.values_list("pk", flat=True)))
        result = _("%(done)d processed, %(again)d failed again") % {"done": done, "again": failed}
        self.message_user(request, result, messages.WARNING if failed else messages.SUCCESS)


@admin.register(Label)
class LabelAdmin(_ModelAdmin):
    list_display = ("name", "color", "created_at")
    search_fields = ("name",)


@admin.register(QuickReply)
class QuickReplyAdmin(_ModelAdmin):
    list_display = ("shortcut", "owner", "updated_at")
    list_filter = ("owner",)
    list_select_related = ("owner",)
    search_fields = ("shortcut", "text")


@admin.register(Note)
class NoteAdmin(ReadOnly, _ModelAdmin):
    list_display = ("created_at", "author", "conversation")
    list_filter = ("author", "created_at")
    list_select_related = ("author", "conversation__contact", "conversation__channel")
    search_fields = ("text",)


@admin.register(AutomaticAnswer)
class AutomaticAnswerAdmin(ReadOnly, _ModelAdmin):
    list_display = ("created_at", "kind", "conversation", "message")
    list_filter = ("kind", "day")
    list_select_related = ("message", "conversation__contact", "conversation__channel")
