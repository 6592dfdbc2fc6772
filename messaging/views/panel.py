"""The panel beside a conversation: what is known of the customer."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin
from messaging import contacts, reachability, selectors
from messaging.inbox import custom_fields, notes
from messaging.models import Conversation, Label
from messaging.views.responses import get_conversation, is_htmx

# How much the panel shows; the rest is in the thread and in the gallery.
NOTES = 5
FILES = 8
CONVERSATIONS = 10
SCHEDULED = 10


class PanelView(StaffPermissionRequiredMixin, View):
    """What the panel loads after the page. A POST changes the contact: a name, a custom field."""

    permissions = ("messaging.view_conversation", "messaging.view_message")
    write_permissions = ("messaging.view_contact", "messaging.change_contact")

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        return _panel(request, get_conversation(pk))

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        try:
            with transaction.atomic():
                if "name" in request.POST:
                    contacts.rename(conversation.contact, request.POST["name"])
                else:
                    field, value = request.POST.get("field", ""), request.POST.get("value", "")
                    custom_fields.change(conversation.contact, {field: value})
        except ValidationError as error:
            return HttpResponse("\n".join(error.messages), status=400, content_type="text/plain")
        if not is_htmx(request):
            return redirect("messaging:conversation", pk=conversation.pk)
        return _panel(request, conversation)


def _panel(request: HttpRequest, conversation: Conversation) -> HttpResponse:
    user, contact = request.user, conversation.contact
    noted = notes.of(conversation.pk) if user.has_perm("messaging.view_note") else None
    context: dict[str, Any] = {
        "conversation": conversation,
        "addresses": contact.addresses.all(),
        "reachable": reachability.of(conversation),
        "known_labels": Label.objects.all(),
        "notes": None if noted is None else list(noted.reverse()[:NOTES]),
        "files": selectors.latest_pictures(conversation, limit=FILES),
        "earlier": selectors.conversations_of(contact).exclude(pk=conversation.pk)[:CONVERSATIONS],
        "scheduled": selectors.scheduled(conversation)[:SCHEDULED],
        "refused": selectors.latest_refusal(conversation),
        "may_work": user.has_perm("messaging.change_conversation"),
        "may_note": user.has_perms(("messaging.view_note", "messaging.add_note")),
        "may_change": user.has_perms(("messaging.view_contact", "messaging.change_contact")),
    }
    return render(request, "messaging/_panel_body.html", context)
