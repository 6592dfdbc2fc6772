"""The pages of conversations and the dashboard. Each view makes one service call."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, cast

from csp.decorators import csp_update
from django import forms
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext
from django.views.generic import View
from django_htmx.http import trigger_client_event

from accounts.access import StaffPermissionRequiredMixin, user_of
from channels_app import wavoip
from channels_app.models import Channel
from channels_app.providers import error_codes
from messaging import calls, selectors
from messaging.delivery import accept
from messaging.delivery.statuses import Status
from messaging.media import files
from messaging.media.responses import file_response
from messaging.models import Conversation, Media, Message

MAX_TEXT = 4096
CONVERSATIONS_PER_PAGE = 50
HELD_PER_PAGE = 50
SIDEBAR_CONVERSATIONS = 30
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
    trouble: bool = False


def _tiles(dashboard: selectors.Dashboard) -> list[Tile]:
    counts = dashboard.counts
    unsent = counts[Status.QUEUED] + counts[Status.SENDING]
    return [
        Tile("sent", "sent", pgettext("count", "Sent"), counts[Status.SENT]),
        Tile("delivered", "delivered", pgettext("count", "Delivered"), counts[Status.DELIVERED]),
        Tile("read", "read", pgettext("count", "Read"), counts[Status.READ]),
        Tile("fallback", "globe", pgettext("count", "By fallback"), dashboard.by_fallback_today),
        Tile("waiting", "clock", pgettext("count", "On their way"), unsent),
        Tile(
            "rejected",
            "rejected",
            pgettext("count", "Rejected"),
            counts[Status.REJECTED],
            trouble=True,
        ),
        Tile(
            "unconfirmed",
            "unconfirmed",
            pgettext("count", "Not confirmed"),
            counts[Status.UNCONFIRMED],
            trouble=True,
        ),
    ]


class FilterForm(forms.Form):
    """The filters of the list. An invalid value is ignored."""

    search = forms.CharField(
        label=gettext_lazy("Search by name or number"),
        required=False,
        max_length=100,
        widget=forms.TextInput(
            attrs={"type": "search", "placeholder": gettext_lazy("Name or number")}
        ),
    )
    channel = forms.ModelChoiceField(
        Channel.objects.all(),
        label=gettext_lazy("Channel"),
        required=False,
        empty_label=gettext_lazy("All channels"),
    )
    attention = forms.BooleanField(label=gettext_lazy("Needs attention"), required=False)


class NewMessageForm(forms.Form):
    """Starts a conversation. `accept_message` validates the content."""

    channel = forms.ModelChoiceField(
        # Official ones first: they have a fallback.
        Channel.objects.filter(active=True).order_by("-kind", "name"),
        label=gettext_lazy("Channel"),
        empty_label=None,
    )
    to = forms.CharField(
        label=gettext_lazy("Phone number"),
        max_length=40,
        widget=forms.TextInput(
            attrs={"type": "tel", "placeholder": "+55 11 99999-8888", "autocomplete": "off"}
        ),
        help_text=gettext_lazy("With country and area code."),
    )
    text = forms.CharField(
        label=gettext_lazy("Message"),
        max_length=MAX_TEXT,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 3, "data-counter": MAX_TEXT}),
    )


class ConversationListView(StaffPermissionRequiredMixin, View):
    """All conversations, latest first."""

    permissions = ("messaging.view_conversation", "messaging.view_message")

    def get(self, request: HttpRequest) -> HttpResponse:
        since = timezone.now()
        filters = FilterForm(request.GET)
        filters.is_valid()
        values: dict[str, Any] = filters.cleaned_data
        channel: Channel | None = values.get("channel")
        conversations = selectors.conversation_list(
            search=values.get("search") or "",
            channel=channel.pk if channel else None,
            attention=values.get("attention", False),
        )
        page = Paginator(conversations, CONVERSATIONS_PER_PAGE).get_page(request.GET.get("page"))
        filtered = any(values.values())
        query = request.GET.copy()
        query.pop("page", None)
        context = {
            "filters": filters,
            "filtered": filtered,
            "page": page,
            "query": query.urlencode(),
            "conversations": selectors.with_latest(list(page.object_list)),
            # Live rows belong only on the first page of the unfiltered list.
            "live": not filtered and page.number == 1,
            "since": since,
        }
        return render(request, "messaging/conversations.html", context)


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
        return self._page(request, _conversation(pk))

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = _conversation(pk)
        text = request.POST.get("text", "").strip()
        try:
            accepted = accept.accept_message(
                channel=conversation.channel,
                to=conversation.contact.phone_number or "",
                user=user_of(request),
                **_composed_message(request, text.replace("\r\n", "\n")),
                idempotency_key=request.POST.get("key", "")[:255],
            )
        except accept.IdempotencyConflict:
            return self._rejected(request, conversation, text, [_("Please send it again.")])
        except ValidationError as error:
            return self._rejected(request, conversation, text, error.messages)
        if not _is_htmx(request):
            return HttpResponseRedirect(request.path)
        return _bubble(request, accepted.message)

    def _rejected(
        self, request: HttpRequest, conversation: Conversation, text: str, errors: list[Any]
    ) -> HttpResponse:
        if _is_htmx(request):
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
        selectors.mark_read(conversation)
        page = selectors.message_page(conversation)
        may_call = request.user.has_perm("messaging.call_contact") and calls.is_possible(
            conversation
        )
        context = {
            "conversation": conversation,
            "messages_page": page,
            "beside": selectors.with_latest(
                list(selectors.conversation_list()[:SIDEBAR_CONVERSATIONS])
            ),
            "may_send": request.user.has_perm("messaging.add_message"),
            "may_retry": request.user.has_perm("messaging.change_message"),
            "may_call": may_call,
            "max_text": MAX_TEXT,
            "text": text,
            "errors": errors or [],
            "key": uuid.uuid4(),
            "since": since,
        }
        response = render(request, "messaging/conversation.html", context, status=status)
        return _allow_form_action(wavoip.ORIGIN, request, response) if may_call else response


class CallView(StaffPermissionRequiredMixin, View):
    """Record the call and redirect to the page that makes it. The URL never appears in a page."""

    permissions = (
        "messaging.view_conversation",
        "messaging.view_message",
        "messaging.call_contact",
    )

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        try:
            address = calls.begin(_conversation(pk), user=user_of(request))
        except calls.CallRefused as error:
            return render(request, "messaging/call_refused.html", {"words": str(error)}, status=409)
        response = HttpResponse(status=303, headers={"Location": address})
        response["Cache-Control"] = "no-store"
        response["Referrer-Policy"] = "no-referrer"
        return response


class OlderMessagesView(StaffPermissionRequiredMixin, View):
    """The messages before a given one, as an HTML fragment."""

    permissions = ("messaging.view_conversation", "messaging.view_message")

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = _conversation(pk)
        try:
            before = uuid.UUID(request.GET.get("before", ""))
        except ValueError:
            return HttpResponse(status=400)
        context = {
            "conversation": conversation,
            "messages_page": selectors.message_page(conversation, before=before),
            "may_retry": request.user.has_perm("messaging.change_message"),
        }
        return render(request, "messaging/_messages.html", context)


class MarkReadView(StaffPermissionRequiredMixin, View):
    """Mark the messages shown in an open page as read; return the service window's state."""

    permissions = ("messaging.view_conversation", "messaging.view_message")

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = _conversation(pk)
        selectors.mark_read(conversation)
        return render(request, "messaging/_window.html", {"conversation": conversation})


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
            response = _bubble(request, message)
            return trigger_client_event(response, "toast", {"text": str(error), "level": "error"})
        return _bubble(request, message)


class FetchView(StaffPermissionRequiredMixin, View):
    """Retry fetching a received file; returns the message's bubble."""

    permissions = ("messaging.view_message", "messaging.change_message")

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        message = get_object_or_404(Message, pk=pk)
        try:
            message = files.fetch_again(message)
        except files.NotFetchable as error:
            response = _bubble(request, message)
            return trigger_client_event(response, "toast", {"text": str(error), "level": "error"})
        return _bubble(request, message)


class MediaView(StaffPermissionRequiredMixin, View):
    """A message's file, for users who may view messages. `?download` forces a download."""

    permissions = ("messaging.view_message",)

    def get(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponseBase:
        media = get_object_or_404(Media, pk=pk)
        return file_response(request, media, download="download" in request.GET)


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


class ConfirmView(StaffPermissionRequiredMixin, View):
    """Record a person's confirmation that a message arrived; returns its bubble."""

    permissions = ("messaging.view_message", "messaging.change_message")

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        message = get_object_or_404(Message, pk=pk)
        try:
            message = accept.confirm_arrival(message, user=user_of(request))
        except accept.NotRetryable as error:
            response = _bubble(request, message)
            return trigger_client_event(response, "toast", {"text": str(error), "level": "error"})
        return _bubble(request, message)


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


class ErrorTableView(StaffPermissionRequiredMixin, View):
    """Meta's error codes and how Alterna handles each."""

    permissions = ("messaging.view_message",)

    def get(self, request: HttpRequest) -> HttpResponse:
        return render(request, "messaging/errors.html", {"rules": list(error_codes.all_rules())})


def _composed_message(request: HttpRequest, text: str) -> dict[str, Any]:
    """Return the composer's message: a text, or an upload with the text as its caption."""
    upload = request.POST.get("media", "")
    if not upload:
        return {"text": text}
    content = {"media": upload, "caption": text} if text else {"media": upload}
    return {"type": request.POST.get("type", ""), "content": content}


def _conversation(pk: int) -> Conversation:
    conversations = Conversation.objects.select_related("channel__fallback_channel", "contact")
    return get_object_or_404(conversations, pk=pk)


def _allow_form_action(origin: str, request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Allow forms to redirect to the origin: Chromium applies `form-action` to redirects."""
    decorate = csp_update({"form-action": [origin]})
    return cast("HttpResponse", decorate(lambda _request: response)(request))


def _bubble(request: HttpRequest, message: Message) -> HttpResponse:
    context = {
        "message": selectors.messages().get(pk=message.pk),
        "may_retry": request.user.has_perm("messaging.change_message"),
    }
    return render(request, "messaging/_message.html", context)


def _add_errors(form: forms.Form, error: ValidationError) -> None:
    for field, problems in error.message_dict.items():
        form.add_error(field if field in form.fields else None, problems)


def _is_htmx(request: HttpRequest) -> bool:
    return bool(getattr(request, "htmx", False))
