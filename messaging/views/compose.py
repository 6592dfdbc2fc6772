"""What helps to write: reactions, forwarding, and the quick replies."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View
from django_htmx.http import trigger_client_event

from accounts.access import StaffPermissionRequiredMixin, user_of
from core.text import row_id
from messaging.delivery import accept
from messaging.forms import FilterForm
from messaging.inbox import forwarding, lists, quick_replies
from messaging.models import Message, QuickReply
from messaging.views.responses import get_conversation, is_htmx

SEND = ("messaging.view_conversation", "messaging.view_message", "messaging.add_message")
MAX_OFFERED = 20


class ReactView(StaffPermissionRequiredMixin, View):
    """React to a message with one emoji; an empty one removes the reaction."""

    permissions = SEND

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        message = get_object_or_404(Message.objects.select_related("conversation"), pk=pk)
        emoji = request.POST.get("emoji", "").strip()
        try:
            accept.accept_message(
                conversation=get_conversation(message.conversation_id),
                user=user_of(request),
                type="reaction",
                content={"emoji": emoji, "message": str(message.pk)},
            )
        except ValidationError as error:
            return _toast(HttpResponse(status=204), " ".join(error.messages), level="error")
        return HttpResponse(status=204)


class ForwardView(StaffPermissionRequiredMixin, View):
    """Choose the conversation to which a message is forwarded; a POST forwards it."""

    permissions = SEND

    def get(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        message = get_object_or_404(Message, pk=pk)
        filters = FilterForm({"search": request.GET.get("search", "")})
        filters.is_valid()
        found = lists.rows(filters, user_of(request))
        context = {
            "message": message,
            "can_forward": forwarding.can_forward(message),
            "conversations": found.rows[:MAX_OFFERED],
            "key": uuid.uuid4(),
        }
        part = "_forward_rows" if request.GET.get("rows") else "_forward"
        return render(request, f"messaging/{part}.html", context)

    def post(self, request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
        message = get_object_or_404(Message, pk=pk)
        conversation = get_conversation(row_id(request.POST.get("conversation", "")))
        key = request.POST.get("key", "")[:100]
        key = f"forward-{key}-{conversation.pk}" if key else ""
        try:
            forwarding.forward(message, conversation, user=user_of(request), key=key)
        except accept.IdempotencyConflict:
            return HttpResponse(status=409)
        except ValidationError as error:
            return _toast(HttpResponse(status=204), " ".join(error.messages), level="error")
        if not is_htmx(request):
            return redirect("messaging:conversation", pk=conversation.pk)
        response = trigger_client_event(HttpResponse(status=204), "dialog:close")
        return _toast(response, _("Forwarded"))


if TYPE_CHECKING:
    _ModelForm = forms.ModelForm[QuickReply]
else:
    _ModelForm = forms.ModelForm


class QuickReplyForm(_ModelForm):
    """A quick reply; `shared` ones belong to everybody."""

    shared = forms.BooleanField(
        required=False,
        label=gettext_lazy("For everybody"),
        help_text=gettext_lazy("Otherwise only you have it."),
    )

    class Meta:
        model = QuickReply
        fields = ("shortcut", "text")
        widgets = {
            "shortcut": forms.TextInput(attrs={"autocomplete": "off", "placeholder": "/…"}),
            "text": forms.Textarea(attrs={"rows": 4}),
        }

    def _post_clean(self) -> None:
        """The use case validates."""


class QuickRepliesView(StaffPermissionRequiredMixin, View):
    """The quick replies of a person: those of everybody, and their own. A POST stores one."""

    permissions = ("messaging.view_conversation",)

    def get(self, request: HttpRequest) -> HttpResponse:
        reply = self._edited(request, request.GET.get("edit", ""))
        shared = reply is not None and reply.owner_id is None
        form = QuickReplyForm(instance=reply, initial={"shared": shared})
        return self._page(request, form, reply)

    def post(self, request: HttpRequest) -> HttpResponse:
        reply = self._edited(request, request.POST.get("reply", ""))
        form = QuickReplyForm(request.POST, instance=reply)
        if not form.is_valid():
            return self._page(request, form, reply, status=400)
        edited = reply or QuickReply()
        verb = "change" if reply else "add"
        if form.cleaned_data["shared"] or (reply is not None and reply.owner_id is None):
            _require(request, verb)
        edited.shortcut, edited.text = form.cleaned_data["shortcut"], form.cleaned_data["text"]
        edited.owner = None if form.cleaned_data["shared"] else user_of(request)
        try:
            quick_replies.save(edited)
        except ValidationError as error:
            for field, problems in error.message_dict.items():
                form.add_error(field if field in form.fields else None, problems)
            return self._page(request, form, reply, status=400)
        return redirect("messaging:quick_replies")

    def _edited(self, request: HttpRequest, pk: str) -> QuickReply | None:
        if not pk:
            return None
        return get_object_or_404(quick_replies.visible_to(user_of(request)), pk=row_id(pk))

    def _page(
        self,
        request: HttpRequest,
        form: QuickReplyForm,
        reply: QuickReply | None,
        *,
        status: int = 200,
    ) -> HttpResponse:
        if not request.user.has_perm(f"messaging.{'change' if reply else 'add'}_quickreply"):
            form.fields.pop("shared", None)
        context: dict[str, Any] = {
            "form": form,
            "edited": reply,
            "replies": quick_replies.visible_to(user_of(request)),
        }
        return render(request, "messaging/quick_replies.html", context, status=status)


class DeleteQuickReplyView(StaffPermissionRequiredMixin, View):
    """Delete a quick reply."""

    permissions = ("messaging.view_conversation",)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        reply = get_object_or_404(quick_replies.visible_to(user_of(request)), pk=pk)
        if reply.owner_id is None:
            _require(request, "delete")
        reply.delete()
        return redirect("messaging:quick_replies")


def _require(request: HttpRequest, verb: str) -> None:
    if not request.user.has_perm(f"messaging.{verb}_quickreply"):
        raise PermissionDenied


def _toast(response: HttpResponse, text: str, *, level: str = "success") -> HttpResponse:
    return trigger_client_event(response, "toast", {"text": text, "level": level})
