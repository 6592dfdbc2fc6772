"""One conversation, and starting one."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from csp.constants import SELF, WASM_UNSAFE_EVAL
from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.generic import View

from accounts import profiles
from accounts.access import StaffPermissionRequiredMixin, user_of
from channels_app import wavoip
from channels_app.providers import engines
from messaging import calls, control, merging, reachability, selectors
from messaging.delivery import accept
from messaging.delivery.schedule import Times
from messaging.forms import MAX_TEXT, NewMessageForm
from messaging.inbox import finding, opening, personal, snooze
from messaging.models import Conversation, Message
from messaging.reachability import Reachability
from messaging.views.calls import allow_sources
from messaging.views.inbox import inbox_list
from messaging.views.responses import get_conversation, is_htmx, render_bubble


class NewMessageView(StaffPermissionRequiredMixin, View):
    """Write to a phone number, which may be new."""

    permissions = ("messaging.view_message", "messaging.add_message")

    def get(self, request: HttpRequest) -> HttpResponse:
        form = NewMessageForm(initial={"to": request.GET.get("to", "")})
        return render(request, "messaging/new.html", {"form": form})

    def post(self, request: HttpRequest) -> HttpResponse:
        form = NewMessageForm(request.POST)
        if form.is_valid():
            try:
                accepted = accept.accept_message(**form.cleaned_data, user=user_of(request))
            except ValidationError as error:
                _add_errors(form, error)
            else:
                return redirect("messaging:conversation", pk=accepted.message.conversation_id)
        return render(request, "messaging/new.html", {"form": form}, status=400)


class ConversationView(StaffPermissionRequiredMixin, View):
    """One conversation; a POST sends a message in it.

    An htmx POST returns the message's bubble, a plain form POST redirects to the page.
    """

    permissions = ("messaging.view_conversation", "messaging.view_message")
    write_permissions = ("messaging.add_message",)

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        if conversation.pk != pk:
            # With what the address names: a link to a message leads on to it.
            address = reverse("messaging:conversation", args=[conversation.pk])
            return redirect(f"{address}?{request.GET.urlencode()}" if request.GET else address)
        return self._page(request, conversation)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        text = request.POST.get("text", "").strip()
        signed = profiles.signed(text.replace("\r\n", "\n"), user_of(request))
        try:
            accepted = accept.accept_message(
                conversation=conversation,
                user=user_of(request),
                **composed_message(request, signed),
                idempotency_key=request.POST.get("key", "")[:255],
            )
        except accept.IdempotencyConflict:
            return self._rejected(request, conversation, text, [_("Please send it again.")])
        except ValidationError as error:
            return self._rejected(request, conversation, text, error.messages)
        personal.save_draft(conversation, "", user=user_of(request))
        if not is_htmx(request):
            return HttpResponseRedirect(request.path)
        return render_bubble(request, accepted.message)

    def _rejected(
        self, request: HttpRequest, conversation: Conversation, text: str, errors: list[Any]
    ) -> HttpResponse:
        if is_htmx(request):
            return HttpResponse("\n".join(map(str, errors)), status=400, content_type="text/plain")
        return self._page(request, conversation, text=text, errors=errors, status=400)

    def _page(
        self,
        request: HttpRequest,
        conversation: Conversation,
        *,
        text: str = "",
        errors: list[Any] | None = None,
        status: int = 200,
    ) -> HttpResponse:
        since = timezone.now()
        opened = opening.open_at(conversation, _message_id(request), user=user_of(request))
        page, target = opened.page, opened.target
        may_call = request.user.has_perm("messaging.call_contact") and calls.is_possible(
            conversation
        )
        reachable = reachability.of(conversation)
        context = {
            "conversation": conversation,
            "reachable": reachable,
            **_control(conversation),
            "has_written": conversation.last_inbound_at is not None
            or any(one.direction == Message.Direction.IN for one in page.messages),
            "may_write": conversation.channel.active and reachable.any,
            **_template_offer(conversation, reachable),
            "joined": merging.recent_merge(conversation.contact),
            "messages_page": page,
            "target": target,
            "marks": finding.marked_words(request.GET.get("search", "")[:100], target),
            **inbox_list(request, conversation),
            "may_send": request.user.has_perm("messaging.add_message"),
            "may_retry": request.user.has_perm("messaging.change_message"),
            "may_call": may_call,
            "may_work": request.user.has_perm("messaging.change_conversation"),
            "may_note": request.user.has_perms(("messaging.view_note", "messaging.add_note")),
            "snoozes": snooze.choices(timezone.localtime()),
            "max_text": MAX_TEXT,
            "text": text or opened.draft,
            "new": opened.new,
            "signature": profiles.signature_of(user_of(request)),
            "errors": errors or [],
            "key": uuid.uuid4(),
            "since": since,
        }
        response = render(request, "messaging/conversation.html", context, status=status)
        # The encoder of voice messages is WebAssembly.
        sources = {"script-src": [SELF, WASM_UNSAFE_EVAL]}
        if may_call:
            # Chromium applies `form-action` to redirects.
            sources["form-action"] = [wavoip.ORIGIN]
        return allow_sources(sources, request, response)


class OlderMessagesView(StaffPermissionRequiredMixin, View):
    """The messages before a given one, as an HTML fragment."""

    permissions = ("messaging.view_conversation", "messaging.view_message")

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        try:
            before = uuid.UUID(request.GET.get("before", ""))
        except ValueError:
            return HttpResponse(status=400)
        context = {
            "conversation": conversation,
            "messages_page": selectors.message_page(
                conversation,
                before=before,
                with_notes=request.user.has_perm("messaging.view_note"),
            ),
            "may_retry": request.user.has_perm("messaging.change_message"),
        }
        return render(request, "messaging/_messages.html", context)


class MarkReadView(StaffPermissionRequiredMixin, View):
    """Mark the messages shown in an open page as read.

    Returns the state of the service window, and who has the conversation at Meta.
    """

    permissions = ("messaging.view_conversation", "messaging.view_message")

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        opening.read(conversation, user=user_of(request))
        context = {
            "conversation": conversation,
            "has_written": conversation.has_written,
            **_control(conversation),
            "oob": True,
        }
        parts = ["_service_window", "_control"]
        if request.user.has_perm("messaging.add_message"):
            context |= _template_offer(conversation, reachability.of(conversation))
            parts.append("_template_offer")
        return HttpResponse(
            "".join(render_to_string(f"messaging/{one}.html", context, request) for one in parts)
        )


def _message_id(request: HttpRequest) -> uuid.UUID | None:
    """Return the message that the address leads to."""
    try:
        return uuid.UUID(request.GET.get("message", ""))
    except ValueError:
        return None


def _template_offer(conversation: Conversation, reachable: Reachability) -> dict[str, Any]:
    """Return whether templates can be sent, and which fallback would carry a free text."""
    channel = conversation.channel
    carriers = [one.kind for one in channel.fallbacks] if reachable.fallback else []
    return {
        "offers_templates": channel.active and reachable.official,
        "carrier": engines.label(carriers[0]) if carriers else "",
    }


def _control(conversation: Conversation) -> dict[str, str]:
    """Return what a page says of another app that has the conversation."""
    return {
        "controlled_by": control.holder(conversation),
        "controlled": control.sentence(conversation),
    }


def composed_message(request: HttpRequest, text: str) -> dict[str, Any]:
    """Return the composer's message: a text, or an upload with the text as its caption.

    Raises ValidationError if one of its times is none.
    """
    times = Times(send_at=_time(request, "send_at"), deliver_by=_time(request, "deliver_by"))
    reply_to = request.POST.get("reply_to") or None
    return {**_composed_content(request, text), "times": times, "reply_to": reply_to}


def _time(request: HttpRequest, name: str) -> dt.datetime | None:
    """Return the time that was chosen, which is in the installation's time zone; None for none."""
    field = forms.DateTimeField(required=False, input_formats=["%Y-%m-%dT%H:%M"])
    try:
        chosen: dt.datetime | None = field.clean(request.POST.get(name, ""))
    except ValidationError as error:
        raise ValidationError({name: error.messages}) from None
    return chosen


def _composed_content(request: HttpRequest, text: str) -> dict[str, Any]:
    upload = request.POST.get("media", "")
    if not upload:
        return {"text": text}
    content: dict[str, Any] = {"media": upload}
    if text:
        content["caption"] = text
    if request.POST.get("voice"):
        content["voice"] = True
    return {"type": request.POST.get("type", ""), "content": content}


def _add_errors(form: forms.Form, error: ValidationError) -> None:
    for field, problems in error.message_dict.items():
        form.add_error(field if field in form.fields else None, problems)
