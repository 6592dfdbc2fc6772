"""Pages that find something in a conversation: words, a day, files and links."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_date
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin
from core.text import moment, page_number
from messaging import selectors
from messaging.inbox import finding, search
from messaging.models import Contact, Conversation, Message
from messaging.views.responses import get_conversation

READS_MESSAGES = ("messaging.view_conversation", "messaging.view_message")
HITS = 40


class NewerMessagesView(StaffPermissionRequiredMixin, View):
    """The messages after a given one, as an HTML fragment."""

    permissions = READS_MESSAGES

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        since = timezone.now()
        conversation = get_conversation(pk)
        try:
            after = uuid.UUID(request.GET.get("after", ""))
        except ValueError:
            return HttpResponse(status=400)
        context = {
            "conversation": conversation,
            "messages_page": finding.after(
                conversation, after, with_notes=request.user.has_perm("messaging.view_note")
            ),
            "may_retry": request.user.has_perm("messaging.change_message"),
            "since": since,
        }
        return render(request, "messaging/_messages_newer.html", context)


class FindView(StaffPermissionRequiredMixin, View):
    """Search the messages of one conversation."""

    permissions = READS_MESSAGES

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        text = request.GET.get("search", "").strip()[:100]
        hits = search.messages_with(
            text,
            selectors.messages(),
            conversation=conversation.pk,
            before=moment(request.GET.get("before", "")),
            limit=HITS + 1,
        )
        context = {
            "conversation": conversation,
            "text": text,
            "hits": hits[:HITS],
            "before": hits[HITS - 1].message.created_at if len(hits) > HITS else None,
        }
        return render(request, "messaging/find.html", context)


class JumpView(StaffPermissionRequiredMixin, View):
    """Lead to the first message of a day."""

    permissions = READS_MESSAGES

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        day = _day(request.GET.get("day", ""))
        first = finding.jump_to(conversation, day) if day else None
        return redirect(message_address(first) if first else _address(conversation))


class MediaGalleryView(StaffPermissionRequiredMixin, View):
    """The images, videos, documents and links of a conversation."""

    permissions = READS_MESSAGES

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        return _gallery(
            request, [conversation], contact=conversation.contact, back=_address(conversation)
        )


class ContactMediaView(StaffPermissionRequiredMixin, View):
    """The images, videos, documents and links of all conversations of a contact."""

    permissions = (*READS_MESSAGES, "messaging.view_contact")

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        contact = get_object_or_404(Contact, pk=pk)
        back = reverse("messaging:contact", args=[contact.pk])
        return _gallery(request, selectors.conversations_of(contact), contact=contact, back=back)


def message_address(message: Message) -> str:
    """Return the address of the page around a message."""
    address = reverse("messaging:conversation", args=[message.conversation_id])
    return f"{address}?message={message.pk}"


def _gallery(
    request: HttpRequest, conversations: Any, *, contact: Contact, back: str
) -> HttpResponse:
    kind = request.GET.get("kind", "images")
    if kind not in finding.KINDS:
        kind = "images"
    context = {
        "contact": contact,
        "back": back,
        "kind": kind,
        "kinds": [(name, label) for name, (label, _types) in finding.KINDS.items()],
        "gallery": finding.gallery(conversations, kind, page_number(request.GET.get("page", ""))),
    }
    return render(request, "messaging/gallery.html", context)


def _address(conversation: Conversation) -> str:
    return reverse("messaging:conversation", args=[conversation.pk])


def _day(text: str) -> dt.date | None:
    try:
        return parse_date(text)
    except ValueError:
        return None
