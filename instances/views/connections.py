"""The actions of an instance's connection and its QR code dialog."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin, user_of
from channels_app.connections import monitor
from channels_app.connections.engines import SessionRefused
from channels_app.connections.linked_numbers import UNCONFIRMED
from channels_app.providers.sessions import State
from channels_app.views.sessions import close_dialog
from instances.api.receive_mode import sessions
from instances.connections import cards as connection_cards
from instances.connections import lifecycle
from instances.models import ProfilePicture, WhatsAppSession


class _ConnectionView(StaffPermissionRequiredMixin, View):
    """Viewing a code requires the change permission: anyone with a code can link a phone."""

    permissions: ClassVar[tuple[str, ...]] = (
        "channels_app.view_channel",
        "channels_app.change_channel",
    )

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        response.setdefault("Cache-Control", "no-store")
        return response

    def session(self) -> WhatsAppSession:
        name = self.kwargs["instance_name"]
        return get_object_or_404(sessions(), channel__evolution__instance_name=name)

    def dialog_context(self, session: WhatsAppSession) -> dict[str, Any]:
        """Return the context of the dialogs."""
        return {
            "instance": session,
            "channel": session.channel,
            "session": monitor.stored_state(session.connection),
            "fallback_for": session.channel.is_fallback_of,
            "qr_url": reverse("instances:qr", args=[session.name]),
            "pairing_url": reverse("instances:pairing", args=[session.name]),
        }


class _Action(_ConnectionView):
    """A click: responds with the updated cards and a toast, and closes the dialog."""

    def post(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        session = self.session()
        try:
            text, level = self.act(session, request), "success"
        except SessionRefused as error:
            text, level = str(error), "error"
        response = HttpResponse(connection_cards.after_action(self.session()))
        return close_dialog(response, text, level)

    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        """Run the action; return the toast text. Raises SessionRefused."""
        raise NotImplementedError


class AskView(_Action):
    """Poll the server now; the card shows the result."""

    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        monitor.state(session.connection)
        return ""


class ReconnectView(_Action):
    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        return lifecycle.reconnect(session.connection, user=user_of(request)).detail


class ConfirmNumberView(_Action):
    """Confirm the linked number. `number` is the one on the button."""

    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        number = request.POST.get("number", "")
        return monitor.confirm_number(session.connection, number, user=user_of(request)).detail


class LogOutView(_Action):
    """Unlink the phone after confirmation."""

    def get(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        return render(request, "instances/_log_out.html", self.dialog_context(self.session()))

    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        return lifecycle.log_out(session.connection).detail


class DeleteView(_Action):
    """Delete the instance after its name was typed to confirm. The channel stays."""

    def get(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        return render(request, "instances/_delete.html", self.dialog_context(self.session()))

    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        if request.POST.get("confirm") != session.name:
            raise SessionRefused("not_confirmed", _("The name did not match. Nothing was deleted."))
        return lifecycle.delete(session.connection, user=user_of(request)).detail


class QrDialogView(_ConnectionView):
    """The dialog's frame, which then loads the code. `?start=1` also connects the instance."""

    def get(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        context = self.dialog_context(self.session()) | {"start": "start" in request.GET}
        return render(request, "channels_app/_qr_dialog.html", context)


class QrView(_ConnectionView):
    """The current QR code. POST also creates and connects the instance if necessary."""

    def get(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        return self._answer(request, start=False)

    def post(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        return self._answer(request, start=True)

    def _answer(self, request: HttpRequest, *, start: bool) -> HttpResponse:
        session = self.session()
        context: dict[str, Any] = {}
        try:
            if start:
                monitor.connect(session.connection, user=user_of(request))
            code = monitor.qr(session.connection)
            context = {"code": code, "age": int(code.age_seconds)}
        except SessionRefused as error:
            context = {"refused": str(error)}
        # Read the state that was just stored.
        context = self.dialog_context(self.session()) | context
        if context["session"].state == State.READY:
            return close_dialog(HttpResponse(), _("WhatsApp is connected."))
        if context["session"].code == UNCONFIRMED:
            return close_dialog(HttpResponse(), context["session"].detail, "error")
        context["linking"] = context["session"].state == State.STARTING
        return render(request, "channels_app/_qr.html", context)


class PairingView(_ConnectionView):
    """A code to type on the phone `phone_number` instead of scanning."""

    def post(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        context = {}
        try:
            number = request.POST.get("phone_number", "")
            # It is displayed beside the QR code and renewed with it.
            monitor.pairing_code(self.session().connection, number)
            context["code"] = ""
        except SessionRefused as error:
            context["refused"] = str(error)
        return render(request, "channels_app/_pairing.html", context)


class PictureView(_ConnectionView):
    """The profile picture of the linked account."""

    permissions = ("channels_app.view_channel",)

    def get(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        picture = ProfilePicture.objects.filter(
            connection__channel__evolution__instance_name=instance_name
        ).first()
        if picture is None or not picture.content:
            raise Http404
        response = HttpResponse(bytes(picture.content), content_type=picture.content_type)
        response["Cache-Control"] = "private, max-age=3600"
        response["X-Content-Type-Options"] = "nosniff"
        return response
