"""Notifications: what a person chooses for a browser, and what makes the pages an app."""

from __future__ import annotations

import json

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.cache import cache_control
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin, user_of
from messaging.inbox import push

MAX_BODY = 10_000
ICON_SIZES = (192, 512)


class NotificationsView(StaffPermissionRequiredMixin, View):
    """What tells a person of a new message."""

    permissions = ("messaging.view_conversation", "messaging.view_message")

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "messaging/notifications.html", {"push_key": push.public_key()})


class PushView(StaffPermissionRequiredMixin, View):
    """Start or end the push notifications of a browser; the body is JSON."""

    permissions = ("messaging.view_conversation", "messaging.view_message")

    def post(self, request: HttpRequest) -> HttpResponse:
        session_key = request.session.session_key
        try:
            data = json.loads(request.body) if len(request.body) <= MAX_BODY else None
        except ValueError:
            data = None
        if not isinstance(data, dict) or session_key is None:
            return HttpResponse(status=400)
        if data.get("end") is True:
            push.unsubscribe(user_of(request), str(data.get("endpoint", "")))
            return HttpResponse(status=204)
        try:
            push.subscribe(
                user_of(request),
                session_key,
                data,
                language=get_language() or "en",
                private=data.get("private") is True,
            )
        except ValidationError as error:
            return HttpResponse("\n".join(error.messages), status=400, content_type="text/plain")
        return HttpResponse(status=204)


@cache_control(max_age=3600)
def manifest(request: HttpRequest) -> HttpResponse:
    """Return what a phone needs to put the product on its home screen."""
    icons = [
        {
            "src": static(f"icons/icon-{size}.png"),
            "sizes": f"{size}x{size}",
            "type": "image/png",
            "purpose": purpose,
        }
        for size in ICON_SIZES
        for purpose in ("any", "maskable")
    ]
    content = {
        "name": "Alterna",
        "short_name": "Alterna",
        "description": _("Conversations with customers on WhatsApp"),
        "id": "/",
        "start_url": "/conversations/",
        "scope": "/",
        "display": "standalone",
        "background_color": "#0b1f18",
        "theme_color": "#0b9a57",
        "icons": icons,
    }
    return JsonResponse(content, content_type="application/manifest+json")


@cache_control(no_cache=True)
def service_worker(request: HttpRequest) -> HttpResponse:
    """Return the script that receives pushes. Its address decides that it serves all pages."""
    context = {"icon": static("icons/icon-192.png")}
    response = render(
        request, "messaging/service_worker.js", context, content_type="text/javascript"
    )
    response["Service-Worker-Allowed"] = "/"
    return response


def offline(request: HttpRequest) -> HttpResponse:
    """Return the page that a phone shows without a connection."""
    return render(request, "messaging/offline.html")
