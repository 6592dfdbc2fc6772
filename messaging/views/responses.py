"""What several views share."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django_htmx.http import trigger_client_event

from messaging import selectors
from messaging.models import Conversation, Message


def get_conversation(pk: int) -> Conversation:
    """Return the conversation with what its page needs, or raise Http404.

    If it was joined to another one, that one is returned.
    """
    conversations = Conversation.everything.select_related("channel", "contact", "assignee", "team")
    conversation: Conversation = get_object_or_404(conversations, pk=pk)
    if conversation.merged_into_id is not None:
        return get_conversation(conversation.merged_into_id)
    return conversation


def is_htmx(request: HttpRequest) -> bool:
    """Return whether the request asks for a fragment."""
    return bool(getattr(request, "htmx", False))


def render_bubble(request: HttpRequest, message: Message, *, error: str = "") -> HttpResponse:
    """Render the current bubble of a message; an error is shown as a toast beside it."""
    context = {
        "message": selectors.messages().get(pk=message.pk),
        "may_retry": request.user.has_perm("messaging.change_message"),
    }
    response = render(request, "messaging/_message.html", context)
    if error:
        trigger_client_event(response, "toast", {"text": error, "level": "error"})
    return response
