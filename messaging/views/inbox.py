"""The inbox without an open conversation, and the list that is beside every conversation."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin, user_of
from messaging.forms import FilterForm
from messaging.inbox import lists
from messaging.models import Conversation
from messaging.views.responses import is_htmx


class ConversationListView(StaffPermissionRequiredMixin, View):
    """The inbox without an open conversation; for an htmx request the next rows of its list."""

    permissions = ("messaging.view_conversation", "messaging.view_message")

    def get(self, request: HttpRequest) -> HttpResponse:
        context = inbox_list(request)
        following = is_htmx(request) and "after" in request.GET
        template = "messaging/_inbox_rows.html" if following else "messaging/conversations.html"
        return render(request, template, context)


class InboxCountsView(StaffPermissionRequiredMixin, View):
    """The numbers beside the chips, as fragments that replace those of the page."""

    permissions = ("messaging.view_conversation", "messaging.view_message")

    def get(self, request: HttpRequest) -> HttpResponse:
        context = {"chips": chips(request, ""), "oob": True}
        return render(request, "messaging/_inbox_counts.html", context)


def inbox_list(request: HttpRequest, opened: Conversation | None = None) -> dict[str, Any]:
    """Return what the list beside every conversation shows, by the filters of the address."""
    since = timezone.now()
    filters = FilterForm(request.GET)
    filters.is_valid()
    found = lists.rows(filters, user_of(request), after=request.GET.get("after", ""), opened=opened)
    query = QueryDict(mutable=True)
    query.update({name: request.GET[name] for name in filters.fields if request.GET.get(name)})
    return {
        "filters": filters,
        "list": found,
        "query": query.urlencode(),
        "chips": chips(request, found.tab),
        "since": since,
    }


def chips(request: HttpRequest, current: str) -> list[dict[str, Any]]:
    """Return the chips of the list. Each keeps the chosen channel and label, and ends a search."""
    counts = lists.counts(user_of(request))
    kept = {name: request.GET[name] for name in ("channel", "label") if request.GET.get(name)}
    made = []
    for tab in lists.Tab:
        query = QueryDict(mutable=True)
        query.update({**kept, "tab": tab.value} if tab != lists.Tab.ALL else kept)
        count = counts.get(tab.value, 0)
        shown = f"{lists.MAX_COUNT}+" if count > lists.MAX_COUNT else str(count or "")
        made.append(
            {
                "tab": tab.value,
                "label": tab.label,
                "query": query.urlencode(),
                "count": shown,
                "current": tab.value == current,
            }
        )
    return made
