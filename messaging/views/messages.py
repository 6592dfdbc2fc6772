"""One message: its attempt history, its file, and what staff may do with it."""

from __future__ import annotations

import uuid

from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin, user_of
from messaging import selectors
from messaging.delivery import accept
from messaging.media import files
from messaging.media.responses import file_response
from messaging.models import Media, Message
from messaging.views.responses import render_bubble

HELD_PER_PAGE = 50


class HeldView(StaffPermissionRequiredMixin, View):
    """The unconfirmed messages that only a person can resolve."""

    permissions = ("messaging.view_message",)

    def get(self, request: HttpRequest) -> HttpResponse:
        since = timezone.now()
        page = Paginator(selectors.awaiting_confirmation(), HELD_PER_PAGE).get_page(
            request.GET.get("page")
        )
        context = {
            "page": page,
            "since": since,
            "may_change": request.user.has_perm("messaging.change_message"),
        }
        return render(request, "messaging/held.html", context)


class MessageView(StaffPermissionRequiredMixin, View):
    """The attempt history of one message: each attempt, its result, and the rule applied."""

    permissions = ("messaging.view_message",)

    def get(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        message = get_object_or_404(selectors.messages(), pk=pk)
        context = {
            "message": message,
            "may_retry": request.user.has_perm("messaging.change_message"),
            "since": timezone.now(),
        }
        return render(request, "messaging/message.html", context)


class RetryView(StaffPermissionRequiredMixin, View):
    """Send a rejected or unconfirmed message again; returns its bubble."""

    permissions = ("messaging.view_message", "messaging.change_message")

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        message = get_object_or_404(Message, pk=pk)
        route = request.POST.get("route")
        if route not in ("official", "fallback"):
            return HttpResponse(status=400)
        try:
            message = accept.retry_message(
                message,
                route="official" if route == "official" else "fallback",
                user=user_of(request),
            )
        except accept.NotRetryable as error:
            return render_bubble(request, message, error=str(error))
        return render_bubble(request, message)


class ConfirmView(StaffPermissionRequiredMixin, View):
    """Record a person's confirmation that a message arrived; returns its bubble."""

    permissions = ("messaging.view_message", "messaging.change_message")

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        message = get_object_or_404(Message, pk=pk)
        try:
            message = accept.confirm_arrival(message, user=user_of(request))
        except accept.NotRetryable as error:
            return render_bubble(request, message, error=str(error))
        return render_bubble(request, message)


class CancelView(StaffPermissionRequiredMixin, View):
    """Cancel a message that has not been sent; returns its bubble."""

    permissions = ("messaging.view_message", "messaging.change_message")

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        message = get_object_or_404(Message, pk=pk)
        try:
            message = accept.cancel_message(message, user=user_of(request))
        except accept.NotCancelable as error:
            return render_bubble(request, message, error=str(error))
        return render_bubble(request, message)


class FetchView(StaffPermissionRequiredMixin, View):
    """Retry fetching a received file; returns the message's bubble."""

    permissions = ("messaging.view_message", "messaging.change_message")

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        message = get_object_or_404(Message, pk=pk)
        try:
            message = files.fetch_again(message)
        except files.NotFetchable as error:
            return render_bubble(request, message, error=str(error))
        return render_bubble(request, message)


class MediaView(StaffPermissionRequiredMixin, View):
    """A message's file, for users who may view messages. `?download` forces a download."""

    permissions = ("messaging.view_message",)

    def get(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponseBase:
        media = get_object_or_404(Media, pk=pk)
        return file_response(request, media, download="download" in request.GET)
