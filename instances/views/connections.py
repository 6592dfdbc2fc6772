"""How the pages find and show an Evolution instance, and the actions that only it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.access import user_of
from channels_app.connections.session_engines import SessionRefused
from channels_app.models import Connection
from channels_app.providers.sessions import State
from channels_app.views.sessions import ActionView, Pages, SessionView
from instances.api.receive_mode import sessions
from instances.connections import cards as connection_cards
from instances.connections import lifecycle
from instances.models import ProfilePicture


class _InstancePages(Pages):
    connected = gettext_lazy("WhatsApp is connected.")
    linking = (State.STARTING,)
    pairing_beside_qr = True

    def find(self, route: Mapping[str, Any]) -> Connection:
        found = get_object_or_404(
            sessions(), channel__evolution__instance_name=route["instance_name"]
        )
        return found.connection

    def context(self, connection: Connection) -> dict[str, Any]:
        session = connection.channel.session
        return {
            "instance": session,
            "fallback_for": connection.channel.is_fallback_of,
            "qr_url": reverse("instances:qr", args=[session.name]),
            "pairing_url": reverse("instances:pairing", args=[session.name]),
        }

    def cards(self, connection: Connection) -> str:
        return connection_cards.after_action(connection.channel.session)


INSTANCE = _InstancePages()


class ReconnectView(ActionView):
    pages = INSTANCE

    def act(self, connection: Connection, request: HttpRequest) -> str:
        return lifecycle.reconnect(connection, user=user_of(request)).detail


class LogOutView(ActionView):
    """Unlink the phone after confirmation."""

    pages = INSTANCE

    def get(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        context = self.dialog_context(self.connection())
        return render(request, "instances/_log_out.html", context)

    def act(self, connection: Connection, request: HttpRequest) -> str:
        return lifecycle.log_out(connection).detail


class DeleteView(ActionView):
    """Delete the instance after its name was typed to confirm. The channel stays."""

    pages = INSTANCE

    def get(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        context = self.dialog_context(self.connection())
        return render(request, "instances/_delete.html", context)

    def act(self, connection: Connection, request: HttpRequest) -> str:
        if request.POST.get("confirm") != connection.channel.instance_name:
            raise SessionRefused("not_confirmed", _("The name did not match. Nothing was deleted."))
        return lifecycle.delete(connection, user=user_of(request)).detail


class PictureView(SessionView):
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
