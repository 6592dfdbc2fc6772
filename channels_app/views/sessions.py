"""Views for the buttons of a channel's wwebjs session and for the QR code dialog."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.generic import View
from django_htmx.http import trigger_client_event

from accounts.access import StaffPermissionRequiredMixin, user_of
from channels_app import extensions
from channels_app.connections import circuit_breaker, monitor, wwebjs, wwebjs_install
from channels_app.connections.engines import SessionRefused
from channels_app.connections.linked_numbers import UNCONFIRMED
from channels_app.models import Channel
from channels_app.providers.sessions import State


class _SessionView(StaffPermissionRequiredMixin, View):
    """A code can link a phone, so even viewing one requires the permission to change."""

    permissions: ClassVar[tuple[str, ...]] = (
        "channels_app.view_channel",
        "channels_app.change_channel",
    )

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        response["Cache-Control"] = "no-store"
        return response

    def channel(self) -> Channel:
        return get_object_or_404(extensions.channels(), pk=self.kwargs["pk"])

    def dialog_context(self, channel: Channel) -> dict[str, Any]:
        """Return the context of the dialog."""
        return {
            "channel": channel,
            "session": monitor.stored_state(channel.wwebjs),
            "qr_url": reverse("channels_app:qr", args=[channel.pk]),
            "pairing_url": reverse("channels_app:pairing", args=[channel.pk]),
        }


class _Action(_SessionView):
    """A button: return the updated card and an optional toast, and close the dialog."""

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        channel = self.channel()
        try:
            text, level = self.act(channel, request), "success"
        except SessionRefused as error:
            text, level = str(error), "error"
        context = {
            "channel": self.channel(),
            "may_change": True,
            "version": int(timezone.now().timestamp() * 1000),
        }
        response = render(request, "channels_app/_card.html", context)
        return close_dialog(response, text, level)

    def act(self, channel: Channel, request: HttpRequest) -> str:
        """Carry out the action; return the toast's text. Raises SessionRefused."""
        raise NotImplementedError


class ConnectView(_Action):
    def act(self, channel: Channel, request: HttpRequest) -> str:
        return monitor.connect(channel.wwebjs).detail


class CheckView(_Action):
    """Poll the server now; the card shows the result."""

    def act(self, channel: Channel, request: HttpRequest) -> str:
        monitor.state(channel.wwebjs)
        return ""


class DisconnectView(_Action):
    """Ask for confirmation, then disconnect. `unlink`: yes, or no to keep the phone linked."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        channel = self.channel()
        context = {"channel": channel, "session": monitor.stored_state(channel.wwebjs)}
        return render(request, "channels_app/_disconnect.html", context)

    def act(self, channel: Channel, request: HttpRequest) -> str:
        unlink = request.POST.get("unlink") != "no"
        return wwebjs.disconnect(channel.wwebjs, unlink=unlink).detail


class ConfirmNumberView(_Action):
    """Confirm `number`, the one shown on the button."""

    def act(self, channel: Channel, request: HttpRequest) -> str:
        number = request.POST.get("number", "")
        return monitor.confirm_number(channel.wwebjs, number, user=user_of(request)).detail


class LiftBlockView(_Action):
    """Ask for confirmation, then lift the new-chat block early."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        return render(request, "channels_app/_lift_block.html", {"channel": self.channel()})

    def act(self, channel: Channel, request: HttpRequest) -> str:
        assert isinstance(request.user, User)
        if circuit_breaker.lift_new_chat_block(channel, user=request.user):
            return _(
                "The new-chat block was lifted: the fallback can write to new customers again."
            )
        return _("There is no new-chat block any more.")


class QrDialogView(_SessionView):
    """Return the dialog's frame immediately; it then fetches the code."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        context = self.dialog_context(self.channel())
        return render(request, "channels_app/_qr_dialog.html", context)


class QrView(_SessionView):
    """Return the code that can be scanned now. A POST also starts the session if needed."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._answer(request, start=False)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._answer(request, start=True)

    def _answer(self, request: HttpRequest, *, start: bool) -> HttpResponse:
        channel = self.channel()
        context: dict[str, Any] = {}
        try:
            if start:
                monitor.connect(channel.wwebjs)
            code = monitor.qr(channel.wwebjs)
            context = {"code": code, "age": int(code.age_seconds)}
        except SessionRefused as error:
            context = {"refused": str(error)}
        # Reload the channel, because the poll has updated its stored state.
        context = self.dialog_context(self.channel()) | context
        session = context["session"]
        if session.state == State.READY:
            return close_dialog(HttpResponse(), _("WhatsApp is connected: the fallback is ready."))
        if session.code == UNCONFIRMED:
            return close_dialog(HttpResponse(), session.detail, "error")
        context["linking"] = session.state in (State.PAIRING, State.CONNECTED)
        return render(request, "channels_app/_qr.html", context)


class InstallView(_SessionView):
    """Show the commands that install the server. Only an explicit POST includes the key."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._answer(request, reveal=False)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._answer(request, reveal=True)

    def _answer(self, request: HttpRequest, *, reveal: bool) -> HttpResponse:
        channel = self.channel()
        context = {
            "channel": channel,
            "revealed": reveal and bool(channel.wwebjs_api_key),
            "update": wwebjs_install.UPDATE_COMMANDS,
            "local": wwebjs_install.is_webhook_local(),
        }
        for name, callbacks in (("plain", False), ("callbacks", True)):
            context[name] = wwebjs_install.docker_command(
                channel, callbacks=callbacks, reveal=reveal
            )
        return render(request, "channels_app/_install.html", context)


class PairingView(_SessionView):
    """Return a code to enter on the phone with `phone_number`, instead of scanning."""

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        context = {}
        try:
            number = request.POST.get("phone_number", "")
            context["code"] = monitor.pairing_code(self.channel().wwebjs, number)
        except SessionRefused as error:
            context["refused"] = str(error)
        return render(request, "channels_app/_pairing.html", context)


def close_dialog(response: HttpResponse, text: str, level: str = "success") -> HttpResponse:
    """Close the dialog and show `text` as a toast."""
    # Targets the body: a live update may have removed the clicked button from the page.
    trigger_client_event(response, "dialog:close", {"target": "body"})
    if text:
        toast = {"text": text, "level": level, "target": "body"}
        trigger_client_event(response, "toast", toast)
    return response
