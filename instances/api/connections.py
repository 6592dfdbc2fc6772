"""REST: the connection of an Evolution instance to WhatsApp."""

from __future__ import annotations

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.access import user_of
from accounts.permissions import StaffMayChange
from channels_app.api.sessions import (
    CONFLICT,
    NOTHING_TO_CONFIRM,
    PROBLEM,
    MayShowQr,
    NumberSerializer,
    PairingCodeSerializer,
    PairingSerializer,
    QrCodeSerializer,
    SessionApiView,
    SessionStateSerializer,
)
from channels_app.connections import monitor
from channels_app.connections.engines import SessionState
from instances.api.receive_mode import sessions
from instances.connections import lifecycle
from instances.models import WhatsAppSession

UNREACHED = OpenApiResponse(PROBLEM, "Evolution failed; `field` names the setting to correct.")


class InstanceConnectionSerializer(SessionStateSerializer):
    profile_name = serializers.CharField()


class LinkCodeSerializer(QrCodeSerializer):
    pairing_code = serializers.CharField(help_text="The code to type instead; may be empty.")


ANSWERS = {200: InstanceConnectionSerializer, 409: CONFLICT, 502: UNREACHED}


class _View(SessionApiView):
    def session(self) -> WhatsAppSession:
        session = (
            sessions()
            .filter(channel__evolution__instance_name=self.kwargs["instance_name"])
            .first()
        )
        if session is None:
            raise NotFound(_("There is no such instance."))
        return session


class ConnectionView(_View):
    @extend_schema(responses=InstanceConnectionSerializer)
    def get(self, request: Request, instance_name: str) -> Response:
        """The current state of the instance. Polls the server for a few seconds at most."""
        return _answer(monitor.state(self.session().connection))


class ConnectView(_View):
    @extend_schema(request=None, responses=ANSWERS)
    def post(self, request: Request, instance_name: str) -> Response:
        """Create the instance if it does not exist, and connect it. Takes some seconds."""
        return _answer(monitor.connect(self.session().connection, user=user_of(request)))


class QrView(_View):
    permission_classes = (MayShowQr,)

    @extend_schema(responses={200: LinkCodeSerializer, 409: CONFLICT, 502: UNREACHED})
    def get(self, request: Request, instance_name: str) -> Response:
        """The QR code to scan, as text and as SVG."""
        answer = Response(LinkCodeSerializer(monitor.qr(self.session().connection)).data)
        answer["Cache-Control"] = "no-store"
        return answer


class PairingCodeView(_View):
    @extend_schema(
        request=PairingSerializer,
        responses={
            200: PairingCodeSerializer,
            400: OpenApiResponse(description="Not a phone number."),
            409: CONFLICT,
            502: UNREACHED,
        },
    )
    def post(self, request: Request, instance_name: str) -> Response:
        """A code to enter on the phone instead of scanning; it changes with the QR code."""
        fields = PairingSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        number = fields.validated_data["phone_number"]
        answer = Response({"code": monitor.pairing_code(self.session().connection, number)})
        answer["Cache-Control"] = "no-store"
        return answer


class ConfirmNumberView(_View):
    @extend_schema(
        request=NumberSerializer,
        responses={200: InstanceConnectionSerializer, 409: NOTHING_TO_CONFIRM},
    )
    def post(self, request: Request, instance_name: str) -> Response:
        """Confirm that the number of the linked phone is correct; until then nothing is sent."""
        fields = NumberSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        number = fields.validated_data["number"]
        connection = self.session().connection
        return _answer(monitor.confirm_number(connection, number, user=user_of(request)))


class ReconnectView(_View):
    @extend_schema(request=None, responses=ANSWERS)
    def post(self, request: Request, instance_name: str) -> Response:
        """Reconnect with the existing login."""
        return _answer(lifecycle.reconnect(self.session().connection, user=user_of(request)))


class LogOutView(_View):
    @extend_schema(request=None, responses=ANSWERS)
    def post(self, request: Request, instance_name: str) -> Response:
        """Unlink the phone; the instance stays."""
        return _answer(lifecycle.log_out(self.session().connection))


class MayEndIt(StaffMayChange):
    """Deleting an instance changes the channel but does not delete it."""

    perms_map = {
        **StaffMayChange.perms_map,
        "DELETE": StaffMayChange.perms_map["POST"],
    }


class InstanceView(_View):
    permission_classes = (MayEndIt,)

    @extend_schema(responses=ANSWERS)
    def delete(self, request: Request, instance_name: str) -> Response:
        """Delete the instance on the Evolution server; the channel stays."""
        return _answer(lifecycle.delete(self.session().connection, user=user_of(request)))


def _answer(state: SessionState) -> Response:
    return Response(InstanceConnectionSerializer(state).data)
