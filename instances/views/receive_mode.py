"""The pages of Evolution instances."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.generic import View
from django_htmx.http import trigger_client_event

from accounts.access import StaffPermissionRequiredMixin, user_of
from instances.api.receive_mode import message_of, sessions
from instances.connections.cards import page_card
from instances.models import Mode, ReceiveModeChange, WhatsAppSession
from instances.receive_mode import handover
from instances.receive_mode.presentation import card, history


class InstanceListView(StaffPermissionRequiredMixin, View):
    """A receive-mode card for each instance."""

    permissions = ("instances.view_whatsappsession",)

    def get(self, request: HttpRequest) -> HttpResponse:
        since = timezone.now()
        cards = [card(session, may_change=_may_change(request)) for session in sessions()]
        return render(request, "instances/list.html", {"cards": cards, "since": since})


class InstanceView(StaffPermissionRequiredMixin, View):
    """One instance: its card and change history."""

    permissions = ("instances.view_whatsappsession",)

    def get(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        since = timezone.now()
        session = get_object_or_404(sessions(), channel__evolution__instance_name=instance_name)
        context = {
            "session": session,
            "since": since,
            "card": card(session, may_change=_may_change(request)),
            "connection": page_card(
                session, may_change=request.user.has_perm("channels_app.change_channel")
            ),
            "history": history(session)["html"],
        }
        return render(request, "instances/detail.html", context)


class _Action(StaffPermissionRequiredMixin, View):
    """A click on the card: responds with the updated card and a toast with the result."""

    permissions: ClassVar[tuple[str, ...]] = (
        "instances.view_whatsappsession",
        "instances.change_whatsappsession",
    )

    def post(self, request: HttpRequest, instance_name: str) -> HttpResponse:
        session = get_object_or_404(sessions(), channel__evolution__instance_name=instance_name)
        try:
            text, level = self.act(session, request), "success"
        except handover.SwitchRefused as error:
            text, level = str(error), "error"
        session = sessions().get(pk=session.pk)
        response = HttpResponse(card(session, may_change=_may_change(request)))
        if not text:
            return response
        # Target the body: a live frame may have removed the clicked button.
        toast = {"text": text, "level": level, "target": "body"}
        return trigger_client_event(response, "toast", toast)

    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        """Run the action; return the toast text. Raises SwitchRefused."""
        raise NotImplementedError


class SwitchView(_Action):
    """Switch the mode. `to`: webhook or websocket; `base64`: the checkbox value."""

    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        user, source = user_of(request), ReceiveModeChange.Source.PAGE
        to = request.POST.get("to")
        if to not in Mode.values:
            raise BadRequest
        if to == Mode.WEBSOCKET:
            return message_of(handover.enable_websocket(session, source=source, user=user))
        base64 = "base64" in request.POST
        switched = handover.enable_webhook(session, base64=base64, source=source, user=user)
        if switched.previous == Mode.WEBHOOK:
            return (
                _("Media arrives as Base64.") if base64 else _("Media does not arrive as Base64.")
            )
        return message_of(switched)


class RepairView(_Action):
    """Repair a drift. `keep`: database or evolution."""

    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        keep = "evolution" if request.POST.get("keep") == "evolution" else "database"
        handover.repair(session, keep=keep, user=user_of(request))
        return _("The settings of Alterna and Evolution match again.")


class CancelView(_Action):
    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        handover.cancel(session, user=user_of(request))
        return _("The switch was canceled.")


class CheckView(_Action):
    """Check Evolution's settings now."""

    permissions = ("instances.view_whatsappsession",)

    def act(self, session: WhatsAppSession, request: HttpRequest) -> str:
        remote = handover.inspect_remote(session)
        return _("Evolution's settings match those shown here.") if remote.in_sync else ""


def _may_change(request: HttpRequest) -> bool:
    return request.user.has_perm("instances.change_whatsappsession")
