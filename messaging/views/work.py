"""Who works on a conversation: assign, label, snooze, resolve, private notes."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.views.generic import View

from accounts import people
from accounts.access import StaffPermissionRequiredMixin, user_of
from accounts.models import Team
from core.text import row_id
from messaging.inbox import labels, notes, snooze, work
from messaging.live import frames
from messaging.models import Label
from messaging.views.responses import get_conversation, is_htmx

READ = ("messaging.view_conversation", "messaging.view_message")
# A menu of people gets a search field beyond this number.
MANY_PEOPLE = 8


class WorkView(StaffPermissionRequiredMixin, View):
    """Assign, snooze, resolve or reopen. Returns the head's part for an htmx request."""

    permissions = READ
    write_permissions = ("messaging.change_conversation",)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        try:
            changed = work.change(conversation, **_changes(request))
        except ValidationError as error:
            return _rejected(request, error)
        if not is_htmx(request):
            return redirect("messaging:conversation", pk=changed.pk)
        return HttpResponse(frames.work_html(changed, request.user))


def _changes(request: HttpRequest) -> dict[str, Any]:
    """Return the arguments of `work.change` that the form names. Raises ValidationError."""
    changes: dict[str, Any] = {}
    chosen = request.POST
    if "assignee" in chosen:
        value = chosen["assignee"]
        staff = people.active_staff()
        own = user_of(request) if value == "me" else None
        changes["assignee"] = own or (get_object_or_404(staff, pk=row_id(value)) if value else None)
    if "team" in chosen:
        value = chosen["team"]
        changes["team"] = get_object_or_404(Team, pk=row_id(value)) if value else None
    if "snooze" in chosen:
        changes["snoozed_until"] = _snoozed_until(request)
    elif "status" in chosen:
        changes["status"] = chosen["status"]
    return changes


def _snoozed_until(request: HttpRequest) -> dt.datetime:
    named = snooze.time_of(request.POST["snooze"], timezone.localtime())
    if named is not None:
        return named
    field = forms.DateTimeField(input_formats=["%Y-%m-%dT%H:%M"])
    try:
        chosen: dt.datetime = field.clean(request.POST.get("until", ""))
    except ValidationError as error:
        raise ValidationError({"snoozed_until": error.messages}) from None
    return chosen


class MarkUnreadView(StaffPermissionRequiredMixin, View):
    """Mark a conversation as unread, and leave it."""

    permissions = READ
    write_permissions = ("messaging.change_conversation",)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        work.mark_unread(get_conversation(pk))
        address = reverse("messaging:conversations")
        if is_htmx(request):
            return HttpResponse(headers={"HX-Redirect": address})
        return redirect(address)


class PeopleView(StaffPermissionRequiredMixin, View):
    """The menu of the people and teams that can have a conversation, or be mentioned."""

    permissions = READ

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        if "mention" in request.GET:
            context: dict[str, Any] = {"people": people.active_staff()}
            return render(request, "messaging/_mention_options.html", context)
        staff = list(people.active_staff())
        teams = list(Team.objects.order_by("name"))
        context = {
            "conversation": get_conversation(pk),
            "people": [one for one in staff if one.pk != request.user.pk],
            "teams": teams,
            "many": len(staff) + len(teams) > MANY_PEOPLE,
        }
        return render(request, "messaging/_people_menu.html", context)


class NoteView(StaffPermissionRequiredMixin, View):
    """Add a private note. Nothing of this reaches a customer: a note is no message."""

    permissions = READ
    write_permissions = ("messaging.view_note", "messaging.add_note")

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        try:
            note = notes.add(conversation, request.POST.get("note", ""), user=user_of(request))
        except ValidationError as error:
            return _rejected(request, error)
        if not is_htmx(request):
            return redirect("messaging:conversation", pk=conversation.pk)
        return HttpResponse(render_to_string("messaging/_note.html", {"note": note}))


class ConversationLabelView(StaffPermissionRequiredMixin, View):
    """Add a label to a conversation, or remove it; returns the panel's labels."""

    permissions = READ
    write_permissions = ("messaging.change_conversation",)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        removed = request.POST.get("remove", "")
        try:
            changed = work.label(
                conversation, removed or request.POST.get("add", ""), on=not removed
            )
        except ValidationError as error:
            return _rejected(request, error)
        if not is_htmx(request):
            return redirect("messaging:conversation", pk=changed.pk)
        context = {
            "conversation": changed,
            "known_labels": Label.objects.all(),
            "may_work": True,
        }
        return render(request, "messaging/_panel_labels.html", context)


class LabelsView(StaffPermissionRequiredMixin, View):
    """All labels. A POST renames, colors, merges or deletes one and leads back."""

    permissions = ("messaging.view_label",)

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        deletes = "delete" in request.POST or "merge" in request.POST
        change, delete = "messaging.change_label", "messaging.delete_label"
        self.write_permissions = (change, delete) if deletes else (change,)  # type: ignore[misc]
        return super().dispatch(request, *args, **kwargs)

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._page(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        label = get_object_or_404(Label, pk=row_id(request.POST.get("label", "")))
        try:
            if "delete" in request.POST:
                labels.delete(label)
            elif "merge" in request.POST:
                into = get_object_or_404(Label, pk=row_id(request.POST.get("into", "")))
                labels.merge(label, into)
            else:
                name, color = request.POST.get("name", ""), request.POST.get("color", "")
                labels.change(label, name=name, color=color)
        except ValidationError as error:
            return self._page(request, changed=label.pk, errors=error.messages)
        return redirect("messaging:labels")

    def _page(
        self, request: HttpRequest, *, changed: int | None = None, errors: list[str] | None = None
    ) -> HttpResponse:
        context = {
            "labels": list(labels.all_with_counts()),
            "changed": changed,
            "errors": errors or [],
            "may_change": request.user.has_perm("messaging.change_label"),
            "may_delete": request.user.has_perm("messaging.delete_label"),
        }
        return render(request, "messaging/labels.html", context, status=400 if errors else 200)


def _rejected(request: HttpRequest, error: ValidationError) -> HttpResponse:
    return HttpResponse("\n".join(error.messages), status=400, content_type="text/plain")
