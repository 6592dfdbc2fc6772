"""The dashboard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.translation import pgettext
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin
from messaging import selectors
from messaging.delivery.statuses import Status

START_PAGES = {
    "channels_app.view_channel": "channels_app:list",
    "instances.view_whatsappsession": "instances:list",
}


class DashboardView(StaffPermissionRequiredMixin, View):
    """The current state. Staff without access to messages are redirected to another page."""

    permissions = ("messaging.view_message",)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        user = request.user
        if user.is_staff and not user.has_perms(self.permissions):
            for permission, page in START_PAGES.items():
                if user.has_perm(permission):
                    return redirect(page)
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        since = timezone.now()
        dashboard = selectors.dashboard()
        context = {"dashboard": dashboard, "tiles": _tiles(dashboard), "since": since}
        return render(request, "messaging/dashboard.html", context)


@dataclass(frozen=True, slots=True)
class Tile:
    key: str
    glyph: str
    label: str
    number: int
    is_problem: bool = False


def _tiles(dashboard: selectors.Dashboard) -> list[Tile]:
    counts = dashboard.counts
    unsent = counts[Status.QUEUED] + counts[Status.SENDING] + counts[Status.HELD]
    return [
        Tile("sent", "sent", pgettext("count", "Not delivered yet"), counts[Status.SENT]),
        Tile("delivered", "delivered", pgettext("count", "Delivered"), counts[Status.DELIVERED]),
        Tile("read", "read", pgettext("count", "Read"), counts[Status.READ]),
        Tile("fallback", "globe", pgettext("count", "By fallback"), dashboard.by_fallback_today),
        Tile("waiting", "clock", pgettext("count", "On their way"), unsent),
        Tile(
            "rejected",
            "rejected",
            pgettext("count", "Rejected"),
            counts[Status.REJECTED],
            is_problem=True,
        ),
        Tile(
            "unconfirmed",
            "unconfirmed",
            pgettext("count", "Not confirmed"),
            counts[Status.UNCONFIRMED],
            is_problem=True,
        ),
    ]
