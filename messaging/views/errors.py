"""The help page on error codes."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin
from channels_app.providers import error_codes


class ErrorTableView(StaffPermissionRequiredMixin, View):
    """Meta's error codes and how Alterna handles each."""

    permissions = ("messaging.view_message",)

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "messaging/errors.html", {"rules": list(error_codes.all_rules())})
