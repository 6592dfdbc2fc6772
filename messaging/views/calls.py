"""Calls through Wavoip."""

from __future__ import annotations

from typing import cast

from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin, user_of
from messaging import calls
from messaging.views.responses import get_conversation


class CallView(StaffPermissionRequiredMixin, View):
    """Record the call and redirect to the page that makes it. The URL never appears in a page."""

    permissions = (
        "messaging.view_conversation",
        "messaging.view_message",
        "messaging.call_contact",
    )

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        try:
            address = calls.begin(get_conversation(pk), user=user_of(request))
        except calls.CallRefused as error:
            return render(request, "messaging/call_refused.html", {"words": str(error)}, status=409)
        response = HttpResponse(status=303, headers={"Location": address})
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        return response


def allow_sources(
    sources: dict[str, list[str]], request: HttpRequest, response: HttpResponse
) -> HttpResponse:
    """Add sources to directives of the page's content security policy."""
    decorate = csp_update(sources)
    return cast("HttpResponse", decorate(lambda _request: response)(request))
