"""Views for the buttons of a session and for its QR code dialog, whatever its provider.

`Pages` are what differs between the providers; the routes pass them to `as_view(pages=…)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.generic import View
from django_htmx.http import trigger_client_event

from accounts.access import StaffPermissionRequiredMixin, user_of
from channels_app import extensions
from channels_app.connections import circuit_breaker, monitor, wwebjs_commands, wwebjs_install
from channels_app.connections.linked_numbers import UNCONFIRMED
from channels_app.connections.session_engines import SessionRefused
from channels_app.models import Connection
from channels_app.providers.sessions import State


class Pages(ABC):
    """How the pages find and show the sessions of one provider."""

    # The toast when a phone was linked.
    connected: str | Promise
    # While it is in these states, a code was scanned, or needs none.
    linking: tuple[State, ...]
    # A pairing code is displayed beside the QR code, and renewed with it.
    pairing_beside_qr: bool

    @abstractmethod
    def find(self, route: Mapping[str, Any]) -> Connection:
        """Return the connection that the route names, as it is stored now, or raise Http404."""

    @abstractmethod
    def context(self, connection: Connection) -> dict[str, Any]:
        """Return what the dialogs show besides channel and state."""

    @abstractmethod
    def cards(self, connection: Connection) -> str:
        """Return the cards that an action may have changed."""


class _WwebjsPages(Pages):
    connected = gettext_lazy("WhatsApp is connected: the fallback is ready.")
    linking = (State.PAIRING, State.CONNECTED)
    pairing_beside_qr = False

    def find(self, route: Mapping[str, Any]) -> Connection:
        return get_object_or_404(extensions.channels(), pk=route["pk"]).wwebjs

    def context(self, connection: Connection) -> dict[str, Any]:
        pk = connection.channel_id
        return {
            "qr_url": reverse("channels_app:qr", args=[pk]),
            "pairing_url": reverse("channels_app:pairing", args=[pk]),
        }

    def cards(self, connection: Connection) -> str:
        context = {
            "channel": connection.channel,
            "may_change": True,
            "version": int(timezone.now().timestamp() * 1000),
        }
        return render_to_string("channels_app/_card.html", context)


WWEBJS = _WwebjsPages()


class SessionView(StaffPermissionRequiredMixin, View):
    """A code can link a phone, so even viewing one requires the permission to change."""

    permissions: ClassVar[tuple[str, ...]] = (
        "channels_app.view_channel",
        "channels_app.change_channel",
    )
    pages: Pages = WWEBJS

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response = super().dispatch(request, *args, **kwargs)
        response.setdefault("Cache-Control", "no-store")
        return response

    def connection(self) -> Connection:
        return self.pages.find(self.kwargs)

    def dialog_context(self, connection: Connection) -> dict[str, Any]:
        """Return the context of the dialogs."""
        shown = {"channel": connection.channel, "session": monitor.stored_state(connection)}
        return shown | self.pages.context(connection)


class ActionView(SessionView):
    """A button: return the updated cards and an optional toast, and close the dialog."""

    def post(self, request: HttpRequest, **route: Any) -> HttpResponse:
        try:
            text, level = self.act(self.connection(), request), "success"
        except SessionRefused as error:
            text, level = str(error), "error"
        response = HttpResponse(self.pages.cards(self.connection()))
        return close_dialog(response, text, level)

    def act(self, connection: Connection, request: HttpRequest) -> str:
        """Carry out the action; return the toast's text. Raises SessionRefused."""
        raise NotImplementedError


class CheckView(ActionView):
    """Poll the server now; the card shows the result."""

    def act(self, connection: Connection, request: HttpRequest) -> str:
        monitor.state(connection)
        return ""


class ConnectView(ActionView):
    def act(self, connection: Connection, request: HttpRequest) -> str:
        return monitor.connect(connection, user=user_of(request)).detail


class ConfirmNumberView(ActionView):
    """Confirm `number`, the one shown on the button."""

    def act(self, connection: Connection, request: HttpRequest) -> str:
        number = request.POST.get("number", "")
        return monitor.confirm_number(connection, number, user=user_of(request)).detail


class QrDialogView(SessionView):
    """The dialog's frame, which then loads the code. `?start=1` also connects the session."""

    def get(self, request: HttpRequest, **route: Any) -> HttpResponse:
        context = self.dialog_context(self.connection()) | {"start": "start" in request.GET}
        return render(request, "channels_app/_qr_dialog.html", context)


class QrView(SessionView):
    """Return the code that can be scanned now. A POST also connects the session if needed."""

    def get(self, request: HttpRequest, **route: Any) -> HttpResponse:
        return self._answer(request, start=False)

    def post(self, request: HttpRequest, **route: Any) -> HttpResponse:
        return self._answer(request, start=True)

    def _answer(self, request: HttpRequest, *, start: bool) -> HttpResponse:
        connection = self.connection()
        context: dict[str, Any] = {}
        try:
            if start:
                monitor.connect(connection, user=user_of(request))
            code = monitor.qr(connection)
            context = {"code": code, "age": int(code.age_seconds)}
        except SessionRefused as error:
            context = {"refused": str(error)}
        # Read the state that was just stored.
        context = self.dialog_context(self.connection()) | context
        session = context["session"]
        if session.state == State.READY:
            return close_dialog(HttpResponse(), str(self.pages.connected))
        if session.code == UNCONFIRMED:
            return close_dialog(HttpResponse(), session.detail, "error")
        context["linking"] = session.state in self.pages.linking
        return render(request, "channels_app/_qr.html", context)


class PairingView(SessionView):
    """Return a code to enter on the phone with `phone_number`, instead of scanning."""

    def post(self, request: HttpRequest, **route: Any) -> HttpResponse:
        context = {}
        try:
            number = request.POST.get("phone_number", "")
            code = monitor.pairing_code(self.connection(), number)
            context["code"] = "" if self.pages.pairing_beside_qr else code
        except SessionRefused as error:
            context["refused"] = str(error)
        return render(request, "channels_app/_pairing.html", context)


# -- only of wwebjs sessions -----------------------------------------------------------------------


class DisconnectView(ActionView):
    """Ask for confirmation, then disconnect. `unlink`: yes, or no to keep the phone linked."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        context = self.dialog_context(self.connection())
        return render(request, "channels_app/_disconnect.html", context)

    def act(self, connection: Connection, request: HttpRequest) -> str:
        unlink = request.POST.get("unlink") != "no"
        return wwebjs_commands.disconnect(connection, unlink=unlink).detail


class LiftBlockView(ActionView):
    """Ask for confirmation, then lift the new-chat block early."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        context = {"channel": self.connection().channel}
        return render(request, "channels_app/_lift_block.html", context)

    def act(self, connection: Connection, request: HttpRequest) -> str:
        assert isinstance(request.user, User)
        if circuit_breaker.lift_new_chat_block(connection.channel, user=request.user):
            return _(
                "The new-chat block was lifted: the fallback can write to new customers again."
            )
        return _("There is no new-chat block any more.")


class InstallView(SessionView):
    """Show the commands that install the server. Only an explicit POST includes the key."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._answer(request, reveal=False)

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._answer(request, reveal=True)

    def _answer(self, request: HttpRequest, *, reveal: bool) -> HttpResponse:
        channel = self.connection().channel
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


def close_dialog(response: HttpResponse, text: str, level: str = "success") -> HttpResponse:
    """Close the dialog and show `text` as a toast."""
    # Targets the body: a live update may have removed the clicked button from the page.
    trigger_client_event(response, "dialog:close", {"target": "body"})
    if text:
        toast = {"text": text, "level": level, "target": "body"}
        trigger_client_event(response, "toast", toast)
    return response
