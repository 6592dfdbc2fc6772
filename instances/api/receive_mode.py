"""REST: sessions and their receive mode. Fields and messages follow the specification."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.access import user_of
from accounts.permissions import StaffMayChange
from channels_app.api.fields import time_field
from channels_app.incidents.reason_text import describe_failure, render_reason
from channels_app.models import Connection, Provider
from channels_app.providers.sessions import STATE_CHOICES
from instances.listener import registry
from instances.models import Backfill, Difference, Mode, ReceiveModeChange, WhatsAppSession
from instances.receive_mode import backfill, handover


def sessions() -> QuerySet[WhatsAppSession]:
    everything = WhatsAppSession.objects.select_related("channel__evolution")
    return everything.prefetch_related("channel__connections").filter(
        channel__kind=Provider.BAILEYS
    )


class SessionSerializer(serializers.ModelSerializer[WhatsAppSession]):
    connection = serializers.ChoiceField(
        source="connection.server_state",
        choices=Connection.ServerState.choices,
        read_only=True,
    )
    state = serializers.ChoiceField(
        source="connection.state", choices=STATE_CHOICES, read_only=True
    )
    state_code = serializers.CharField(source="connection.state_code", read_only=True)
    state_changed_at = time_field("connection.state_changed_at")
    checked_at = time_field("connection.checked_at")
    own_number = serializers.CharField(source="connection.own_number", read_only=True)
    profile_name = serializers.CharField(source="connection.profile_name", read_only=True)
    last_drop_at = time_field("connection.last_drop_at")
    webhookEnabled = serializers.BooleanField(source="webhook_enabled")
    websocketEnabled = serializers.BooleanField(source="websocket_enabled")

    class Meta:
        model = WhatsAppSession
        fields = [
            "id", "name", "channel", "connection", "webhookEnabled", "websocketEnabled",
            "state", "state_code", "state_changed_at", "checked_at", "own_number", "profile_name",
            "last_drop_at",
        ]  # fmt: skip
        read_only_fields = fields


class SessionViewSet(mixins.ListModelMixin, viewsets.GenericViewSet[WhatsAppSession]):
    """The Evolution instances."""

    queryset = sessions()
    serializer_class = SessionSerializer
    pagination_class = None


class WebhookConfigSerializer(serializers.Serializer[Any]):
    """The webhook's settings on Evolution; nulls and no events if it is off."""

    url = serializers.URLField(allow_null=True)
    webhook_base64 = serializers.BooleanField(allow_null=True)
    events = serializers.ListField(child=serializers.CharField())


class SwitchingSerializer(serializers.Serializer[Any]):
    """A running handover; in phase `joining` it waits for the socket to open."""

    to = serializers.ChoiceField(choices=Mode.choices)
    phase = serializers.ChoiceField(choices=WhatsAppSession.Phase.choices)
    since = serializers.DateTimeField()


class ListenerSerializer(serializers.Serializer[Any]):
    """The socket of this session; `note` is the reason if it is not open."""

    connected = serializers.BooleanField()
    lastSeenAt = serializers.DateTimeField(allow_null=True)
    note = serializers.CharField()


class BackfillSerializer(serializers.Serializer[Any]):
    """Whether messages may be missing, and how many undelivered ones were fetched."""

    pendingSince = serializers.DateTimeField(
        allow_null=True, help_text="Messages missed since then are being fetched."
    )
    reason = serializers.ChoiceField(choices=Backfill.Reason.choices, allow_null=True)
    error = serializers.CharField(allow_null=True, help_text="Why the gap is not closed yet.")
    completeUntil = serializers.DateTimeField(
        allow_null=True, help_text="Nothing is missing up to this time."
    )
    recovered24h = serializers.IntegerField(
        help_text="Undelivered messages fetched in the last 24 hours."
    )


class EvolutionSerializer(serializers.Serializer[Any]):
    """Evolution's current settings; nulls and an `error` if it does not report them."""

    reachable = serializers.BooleanField(help_text="Whether it answered.")
    webhookEnabled = serializers.BooleanField(allow_null=True)
    websocketEnabled = serializers.BooleanField(allow_null=True)
    error = serializers.CharField(allow_null=True)
    differs = serializers.ListField(
        child=serializers.ChoiceField(choices=Difference.choices),
        help_text="Differences from the agreed settings. A repair can keep only another `mode`.",
    )


class StateSerializer(serializers.Serializer[Any]):
    """The agreed settings in the database and the actual ones on Evolution."""

    webhookEnabled = serializers.BooleanField()
    websocketEnabled = serializers.BooleanField()
    webhookConfig = WebhookConfigSerializer()
    inSync = serializers.BooleanField(
        allow_null=True,
        help_text="Null if Evolution is unreachable, and during a switch.",
    )
    switching = SwitchingSerializer(allow_null=True)
    listener = ListenerSerializer()
    backfill = BackfillSerializer()
    evolution = EvolutionSerializer()


class SwitchSerializer(serializers.Serializer[Any]):
    success = serializers.BooleanField()
    message = serializers.CharField()
    pending = serializers.BooleanField(required=False)
    # Only in errors, as in every error of the API.
    detail = serializers.CharField(required=False)
    code = serializers.CharField(required=False)


# 202: pending. 409: another switch runs. 502: Evolution. 503: no listener.
CODES = {409: "conflict", 502: "evolution_failed", 503: "no_listener"}
ANSWERS = dict.fromkeys((200, 202, 404, 409, 502, 503), SwitchSerializer)


class Base64Serializer(serializers.Serializer[Any]):
    webhook_base64 = serializers.BooleanField(default=True)


class RepairSerializer(serializers.Serializer[Any]):
    keep = serializers.ChoiceField(choices=["database", "evolution"], default="database")


class _SessionView(APIView):
    """Failures have the specified `success` and `message` in addition to the usual `detail`."""

    permission_classes = (StaffMayChange,)
    queryset = WhatsAppSession.objects.all()

    def find(self, **key: Any) -> WhatsAppSession:
        session = sessions().filter(**key).first()
        if session is None:
            raise NotFound(_("There is no such instance."))
        return session

    def handle_exception(self, exc: Exception) -> Response:
        response = super().handle_exception(exc)
        if isinstance(response.data, dict):
            message = response.data.get("detail") or _("The request could not be read.")
            response.data = {"success": False, "message": message, **response.data}
        return response


class ConnectionStateView(_SessionView):
    @extend_schema(responses=StateSerializer)
    def get(self, request: Request, instance_name: str) -> Response:
        """The agreed mode, Evolution's actual mode, and whether they match."""
        state = connection_state(self.find(channel__evolution__instance_name=instance_name))
        return Response(StateSerializer(state).data)


class EnableWebhookView(_SessionView):
    @extend_schema(request=Base64Serializer, responses=ANSWERS)
    def post(self, request: Request, instance_name: str) -> Response:
        """Switch to webhook mode; WebSocket is disabled."""
        session = self.find(channel__evolution__instance_name=instance_name)
        return _enable_webhook(request, session)


class ConfigureWebhookView(_SessionView):
    @extend_schema(request=Base64Serializer, responses=ANSWERS)
    def post(self, request: Request, session_id: int) -> Response:
        """Set webhook mode for a session, usually as its first mode.

        A session that already has a mode is switched like enable-webhook: WebSocket is disabled.
        """
        return _enable_webhook(request, self.find(pk=session_id))


class EnableWebsocketView(_SessionView):
    @extend_schema(request=None, responses=ANSWERS)
    def post(self, request: Request, instance_name: str) -> Response:
        """Switch to WebSocket mode; the webhook is disabled once the socket is open."""
        session = self.find(channel__evolution__instance_name=instance_name)
        return answer_switch(
            lambda: handover.enable_websocket(
                session,
                source=ReceiveModeChange.Source.API,
                user=user_of(request),
            )
        )


class RepairView(_SessionView):
    @extend_schema(request=RepairSerializer, responses=ANSWERS)
    def post(self, request: Request, instance_name: str) -> Response:
        """Bring the database and Evolution into agreement again."""
        session = self.find(channel__evolution__instance_name=instance_name)
        fields = RepairSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        return answer_switch(
            lambda: handover.repair(
                session,
                keep=fields.validated_data["keep"],
                user=user_of(request),
            )
        )


class CancelView(_SessionView):
    @extend_schema(request=None, responses=ANSWERS)
    def post(self, request: Request, instance_name: str) -> Response:
        """Cancel a handover that waits for its socket."""
        session = self.find(channel__evolution__instance_name=instance_name)
        try:
            handover.cancel(session, user=user_of(request))
        except handover.SwitchRefused as error:
            return _failed(error)
        return Response({"success": True, "message": _("The switch was canceled.")})


def _enable_webhook(request: Request, session: WhatsAppSession) -> Response:
    fields = Base64Serializer(data=request.data)
    fields.is_valid(raise_exception=True)
    return answer_switch(
        lambda: handover.enable_webhook(
            session,
            base64=fields.validated_data["webhook_base64"],
            source=ReceiveModeChange.Source.API,
            user=user_of(request),
        )
    )


def answer_switch(switch: Any) -> Response:
    """Run a switch and return the response of the API contract."""
    try:
        switched = switch()
    except handover.SwitchRefused as error:
        return _failed(error)
    if switched.pending:
        data = {"success": True, "pending": True, "message": message_of(switched)}
        return Response(data, status=status.HTTP_202_ACCEPTED)
    return Response({"success": True, "message": message_of(switched)})


def message_of(switched: handover.SwitchResult) -> str:
    """Return the message about a switch, for the API and for pages."""
    if switched.pending and switched.previous == Mode.WEBHOOK:
        return _(
            "WebSocket is waiting for its socket to open. The webhook stays active in the meantime."
        )
    if switched.pending:
        return _("WebSocket is waiting for its socket to open.")
    if switched.mode == Mode.WEBHOOK:
        return _("Webhook enabled successfully. WebSocket was disabled.")
    return _("WebSocket enabled successfully. Webhook was disabled.")


def _failed(error: handover.SwitchRefused) -> Response:
    error_fields = {"message": str(error), "detail": str(error), "code": CODES[error.status]}
    return Response({"success": False, **error_fields}, status=error.status)


def connection_state(session: WhatsAppSession) -> dict[str, Any]:
    """Inspect Evolution, compare, and return both sides."""
    remote, failure = None, None
    try:
        remote = handover.inspect_remote(session)
        in_sync, differs = remote.in_sync, remote.differs or ()
    except handover.SwitchRefused as error:
        failure, differs = error.failure, error.differs
        in_sync = False if differs else None
    return {
        "webhookEnabled": session.webhook_enabled,
        "websocketEnabled": session.websocket_enabled,
        "webhookConfig": {
            "url": session.webhook_url,
            "webhook_base64": session.webhook_base64,
            "events": list(handover.EVENTS) if session.webhook_enabled else [],
        },
        "inSync": in_sync,
        "switching": {
            "to": session.switching_to,
            "phase": session.switching_phase,
            "since": session.switching_since,
        }
        if session.switching_to
        else None,
        "listener": {
            "connected": session.listener_connected and registry.is_fresh(session.listener_seen_at),
            "lastSeenAt": session.listener_seen_at,
            "note": render_reason(session.listener_note),
        },
        "backfill": {
            "pendingSince": session.gap_since,
            "reason": session.gap_reason or None,
            "error": render_reason(session.gap_error) or None,
            "completeUntil": session.proven_at,
            "recovered24h": backfill.recovered_lately(session),
        },
        "evolution": {
            "reachable": failure is None or failure.answered,
            "webhookEnabled": remote.webhook.enabled if remote else None,
            "websocketEnabled": remote.websocket.enabled if remote else None,
            "error": None if failure is None else describe_failure(failure),
            "differs": list(differs),
        },
    }
