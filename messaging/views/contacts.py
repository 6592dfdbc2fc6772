"""One customer: name, addresses, and which contacts are the same person."""

from __future__ import annotations

from django.core.exceptions import BadRequest, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin, user_of
from core.text import row_id
from messaging import contacts, merging, pictures, selectors
from messaging.delivery import accept
from messaging.models import Contact, ContactAddress, ContactMerge
from messaging.views.responses import get_conversation


class ContactView(StaffPermissionRequiredMixin, View):
    """The contact's card. A POST changes one thing of it and leads back to it."""

    permissions = ("messaging.view_contact", "messaging.view_conversation")
    write_permissions = ("messaging.change_contact",)

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        contact = get_object_or_404(Contact, pk=pk)
        if contact.merged_into is not None:
            return redirect("messaging:contact", pk=merging.current(contact).pk)
        return _page(request, contact)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        contact = merging.current(get_object_or_404(Contact, pk=pk))
        try:
            contact = _change(request, contact)
        except ValidationError as error:
            return _page(request, contact, errors=error.messages)
        return redirect("messaging:contact", pk=contact.pk)


class PictureView(StaffPermissionRequiredMixin, View):
    """The contact's profile picture, as a provider reported it."""

    permissions = ("messaging.view_contact",)

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        picture = pictures.of(get_object_or_404(Contact, pk=pk))
        if picture is None:
            raise Http404
        response = HttpResponse(bytes(picture.content), content_type=picture.content_type)
        response["Cache-Control"] = "private, max-age=3600"
        response["X-Content-Type-Options"] = "nosniff"
        return response


def _change(request: HttpRequest, contact: Contact) -> Contact:
    """Do what the submitted form says. Raises ValidationError."""
    user = user_of(request)
    if "undo" in request.POST:
        merges = ContactMerge.objects.filter(contact__in=merging.all_of(contact))
        merging.undo(get_object_or_404(merges, pk=row_id(request.POST["undo"])), user=user)
    elif "split" in request.POST:
        address = get_object_or_404(
            ContactAddress, pk=row_id(request.POST["split"]), contact=contact
        )
        merging.split(contact, address, user=user)
    elif "with" in request.POST:
        other = contacts.find_written(request.POST["with"])
        return merging.merge_by_hand(contact, other, user=user)
    else:
        contacts.rename(contact, request.POST.get("name", ""))
    return contact


def _page(
    request: HttpRequest, contact: Contact, *, errors: list[str] | None = None
) -> HttpResponse:
    context = {
        "contact": contact,
        "has_picture": pictures.of(contact) is not None,
        "addresses": contact.addresses.all(),
        "conversations": selectors.conversations_of(contact),
        "merges": ContactMerge.objects.filter(
            contact__in=merging.all_of(contact), undone_at=None
        ).select_related("created_by"),
        "may_change": request.user.has_perm("messaging.change_contact"),
        "errors": errors or [],
    }
    return render(request, "messaging/contact.html", context, status=400 if errors else 200)


class AskForNumberView(StaffPermissionRequiredMixin, View):
    """Ask a customer whose phone number is hidden to share it."""

    permissions = ("messaging.view_conversation", "messaging.view_message")
    write_permissions = ("messaging.add_message",)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        try:
            accept.ask_for_number(
                conversation, user=user_of(request), key=request.POST.get("key", "")[:255]
            )
        except accept.IdempotencyConflict:
            pass  # it was asked already, in another language
        except ValidationError as error:
            raise BadRequest(" ".join(error.messages)) from None
        return redirect("messaging:conversation", pk=conversation.pk)
