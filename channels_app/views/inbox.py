"""How a channel's conversations are answered: by whom, when, and with which automatic answers."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin
from channels_app.inbox_form import InboxForm
from channels_app.models import Channel


class ChannelInboxView(StaffPermissionRequiredMixin, View):
    """Show and save these settings; read-only without the permission to change a channel."""

    permissions = ("channels_app.view_channel",)
    write_permissions = ("channels_app.change_channel",)

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        channel = get_object_or_404(Channel, pk=pk)
        may_change = request.user.has_perm("channels_app.change_channel")
        return _page(request, InboxForm(None, channel=channel, may_change=may_change), may_change)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        channel = get_object_or_404(Channel, pk=pk)
        form = InboxForm(request.POST, channel=channel, may_change=True)
        if not form.is_valid():
            return _page(request, form, may_change=True)
        form.save()
        messages.success(request, _("The channel was saved."))
        return redirect("channels_app:inbox", pk=pk)


def _page(request: HttpRequest, form: InboxForm, may_change: bool) -> HttpResponse:
    context = {"form": form, "channel": form.channel, "may_change": may_change}
    return render(request, "channels_app/inbox.html", context, status=400 if form.errors else 200)
