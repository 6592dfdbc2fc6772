"""REST: the connection of an Evolution instance to WhatsApp."""

from __future__ import annotations

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
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
    ConfirmNumberView,
    ConnectionApiView,
    ConnectView,
    NumberSerializer,
    PairingCodeView,
    QrCodeSerializer,
    QrView,
    SessionStateSerializer,
    StateView,
    pairing_schema,
)
from channels_app.models import Connection
from instances.api.receive_mode import sessions
from instances.connections import lifecycle

UNREACHED = OpenApiResponse(PROBLEM, "Evolution failed; `field` names the setting to correct.")


class InstanceConnectionSerializer(SessionStateSerializer):
    profile_name = serializers.CharField()


class LinkCodeSerializer(QrCodeSerializer):
    pairing_code = serializers.CharField(help_text="The code to type instead; may be empty.")


ANSWERS = {200: InstanceConnectionSerializer, 409: CONFLICT, 502: UNREACHED}


class _OfInstance(ConnectionApiView):
    state_serializer = InstanceConnectionSerializer
    qr_serializer = LinkCodeSerializer

    def connection(self) -> Connection:
        name = self.kwargs["instance_name"]
        session = sessions().filter(channel__evolution__instance_name=name).first()
        if session is None:
            raise NotFound(_("There is no such instance."))
        return session.connection


@extend_schema_view(
    get=extend_schema(
        responses=InstanceConnectionSerializer,
        description=(
            "The current state of the instance. Polls the server for a few seconds at most."
        ),
    )
)
class ConnectionView(_OfInstance, StateView):
    pass


@extend_schema_view(
    post=extend_schema(
        request=None,
        responses=ANSWERS,
        description=(
            "Create the instance if it does not exist, and connect it. Takes some seconds."
        ),
    )
)
class InstanceConnectView(_OfInstance, ConnectView):
    pass


@extend_schema_view(
    get=extend_schema(
        responses={200: LinkCodeSerializer, 409: CONFLICT, 502: UNREACHED},
        description="The QR code to scan, as text and as SVG.",
    )
)
class InstanceQrView(_OfInstance, QrView):
    pass


@extend_schema_view(
    post=pairing_schema(
        UNREACHED,
        "A code to enter on the phone instead of scanning; it changes with the QR code.",
    )
)
class InstancePairingCodeView(_OfInstance, PairingCodeView):
    pass


@extend_schema_view(
    post=extend_schema(
        request=NumberSerializer,
        responses={200: InstanceConnectionSerializer, 409: NOTHING_TO_CONFIRM},
    )
)
class InstanceConfirmNumberView(_OfInstance, ConfirmNumberView):
    pass


class ReconnectView(_OfInstance):
    @extend_schema(request=None, responses=ANSWERS)
    def post(self, request: Request, instance_name: str) -> Response:
        """Reconnect with the existing login."""
        return self.answer(lifecycle.reconnect(self.connection(), user=user_of(request)))


class LogOutView(_OfInstance):
    @extend_schema(request=None, responses=ANSWERS)
    def post(self, request: Request, instance_name: str) -> Response:
        """Unlink the phone; the instance stays."""
        return self.answer(lifecycle.log_out(self.connection()))


class MayEndIt(StaffMayChange):
    """Deleting an instance changes the channel but does not delete it."""

    perms_map = {
        **StaffMayChange.perms_map,
        "DELETE": StaffMayChange.perms_map["POST"],
    }


class InstanceView(_OfInstance):
    permission_classes = (MayEndIt,)

    @extend_schema(responses=ANSWERS)
    def delete(self, request: Request, instance_name: str) -> Response:
        """Delete the instance on the Evolution server; the channel stays."""
        return self.answer(lifecycle.delete(self.connection(), user=user_of(request)))
