"""REST: the session of a channel, and what only a wwebjs session has.

Shapes are those of the contract. The schema of each provider's routes is beside its view.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from drf_spectacular.utils import (
    OpenApiResponse,
    extend_schema,
    extend_schema_view,
    inline_serializer,
)
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.access import user_of
from accounts.permissions import StaffMayChange
from channels_app.api.channels import ChannelSerializer
from channels_app.connections import circuit_breaker, monitor, wwebjs_commands
from channels_app.connections.session_engines import SessionRefused, SessionState
from channels_app.models import Channel, Connection
from channels_app.providers.sessions import STATE_CHOICES


class SessionStateSerializer(serializers.Serializer[Any]):
    """`detail` is a sentence for people, `code` the stable reason.

    `field` is the channel setting to correct, or empty.
    """

    state = serializers.ChoiceField(choices=STATE_CHOICES)
    code = serializers.CharField()
    detail = serializers.CharField()
    field = serializers.CharField()
    since = serializers.DateTimeField(allow_null=True)
    checked_at = serializers.DateTimeField(allow_null=True)
    own_number = serializers.CharField(help_text="Digits only; unchanged after a disconnection.")
    last_drop_at = serializers.DateTimeField(allow_null=True)
    last_drop_reason = serializers.CharField()
    qr_seen_at = serializers.DateTimeField(allow_null=True)
    unconfirmed_number = serializers.CharField(
        help_text="The linked number while it awaits a person's confirmation; otherwise empty."
    )


class QrCodeSerializer(serializers.Serializer[Any]):
    qr = serializers.CharField(source="text")
    svg = serializers.CharField()
    seen_at = serializers.DateTimeField()
    age_seconds = serializers.FloatField()


class DisconnectSerializer(serializers.Serializer[Any]):
    unlink = serializers.BooleanField(
        default=True, help_text="Unlink the phone; otherwise the login stays on the server."
    )


class PairingSerializer(serializers.Serializer[Any]):
    phone_number = serializers.CharField(max_length=30)


class PairingCodeSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()


class NumberSerializer(serializers.Serializer[Any]):
    number = serializers.CharField(
        max_length=30, help_text="The linked number to confirm, as displayed."
    )


PROBLEM = inline_serializer(
    "SessionProblem",
    {
        "detail": serializers.CharField(),
        "code": serializers.CharField(),
        "field": serializers.CharField(required=False),
    },
)
CONFLICT = OpenApiResponse(PROBLEM, "`not_configured` or `qr_not_ready`.")
NOTHING_TO_CONFIRM = OpenApiResponse(
    PROBLEM, "`nothing_to_confirm`: no number, or a different one, awaits it; `not_configured`."
)
UNREACHED = OpenApiResponse(PROBLEM, "wwebjs-api failed; `field` is the setting to correct.")


class MayShowQr(StaffMayChange):
    """Requires permission to change the channel: the code links any phone."""

    perms_map = {**StaffMayChange.perms_map, "GET": StaffMayChange.perms_map["POST"]}


class SessionApiView(APIView):
    """Requires permission to change the channel. Returns SessionRefused as a SessionProblem."""

    permission_classes = (StaffMayChange,)
    queryset = Channel.objects.all()

    def handle_exception(self, exc: Exception) -> Response:
        if not isinstance(exc, SessionRefused):
            return super().handle_exception(exc)
        if exc.status == 400:
            return super().handle_exception(serializers.ValidationError({exc.field: [str(exc)]}))
        body = {"detail": str(exc), "code": exc.code}
        return Response(body | ({"field": exc.field} if exc.field else {}), status=exc.status)


class ConnectionApiView(SessionApiView):
    """One session, whatever its provider. The routes name it."""

    state_serializer: type[SessionStateSerializer] = SessionStateSerializer
    qr_serializer: type[QrCodeSerializer] = QrCodeSerializer

    def connection(self) -> Connection:
        """Return the wwebjs session of the channel `pk`."""
        return get_object_or_404(Channel, pk=self.kwargs["pk"]).wwebjs

    def answer(self, state: SessionState) -> Response:
        return Response(self.state_serializer(state).data)


class StateView(ConnectionApiView):
    def get(self, request: Request, **route: Any) -> Response:
        return self.answer(monitor.state(self.connection()))


class ConnectView(ConnectionApiView):
    def post(self, request: Request, **route: Any) -> Response:
        return self.answer(monitor.connect(self.connection(), user=user_of(request)))


class ConfirmNumberView(ConnectionApiView):
    def post(self, request: Request, **route: Any) -> Response:
        """Confirm that the number of the linked phone is correct; until then nothing is sent."""
        fields = NumberSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        connection, number = self.connection(), fields.validated_data["number"]
        return self.answer(monitor.confirm_number(connection, number, user=user_of(request)))


class QrView(ConnectionApiView):
    permission_classes = (MayShowQr,)

    def get(self, request: Request, **route: Any) -> Response:
        answer = Response(self.qr_serializer(monitor.qr(self.connection())).data)
        answer["Cache-Control"] = "no-store"
        return answer


class PairingCodeView(ConnectionApiView):
    def post(self, request: Request, **route: Any) -> Response:
        fields = PairingSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        number = fields.validated_data["phone_number"]
        answer = Response({"code": monitor.pairing_code(self.connection(), number)})
        answer["Cache-Control"] = "no-store"
        return answer


def pairing_schema(unreached: OpenApiResponse, description: str) -> Any:
    """Return the schema of `PairingCodeView` for a provider."""
    return extend_schema(
        request=PairingSerializer,
        description=description,
        responses={
            200: PairingCodeSerializer,
            400: OpenApiResponse(description="Not a phone number."),
            409: CONFLICT,
            502: unreached,
        },
    )


# -- of wwebjs sessions ----------------------------------------------------------------------------

ANSWERS = {200: SessionStateSerializer, 409: CONFLICT, 502: UNREACHED}


@extend_schema_view(
    get=extend_schema(
        responses=SessionStateSerializer,
        description="Return the session's current state. Polls the server, for 5 s at most.",
    )
)
class WwebjsStateView(StateView):
    pass


@extend_schema_view(
    post=extend_schema(
        request=None,
        responses=ANSWERS,
        description="Start the session and keep it running. The start continues after the "
        "response.",
    )
)
class WwebjsConnectView(ConnectView):
    pass


@extend_schema_view(
    get=extend_schema(
        responses={200: QrCodeSerializer, 409: CONFLICT, 502: UNREACHED},
        description="Return the QR code to scan, as text and as SVG.",
    )
)
class WwebjsQrView(QrView):
    pass


@extend_schema_view(
    post=extend_schema(
        request=NumberSerializer, responses={200: SessionStateSerializer, 409: NOTHING_TO_CONFIRM}
    )
)
class WwebjsConfirmNumberView(ConfirmNumberView):
    pass


@extend_schema_view(
    post=pairing_schema(
        UNREACHED, "Return a code to enter on the phone instead of scanning a QR code."
    )
)
class WwebjsPairingCodeView(PairingCodeView):
    pass


class DisconnectView(ConnectionApiView):
    @extend_schema(request=DisconnectSerializer, responses=ANSWERS)
    def post(self, request: Request, pk: int) -> Response:
        """Stop the session. Unlinks the phone unless `unlink` is false."""
        fields = DisconnectSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        unlink = fields.validated_data["unlink"]
        return self.answer(wwebjs_commands.disconnect(self.connection(), unlink=unlink))


class LiftBlockView(SessionApiView):
    @extend_schema(
        request=None,
        responses={200: ChannelSerializer, 409: OpenApiResponse(PROBLEM, "`not_blocked`.")},
    )
    def post(self, request: Request, pk: int) -> Response:
        """Lift the new-chat block early. The user and the time are recorded."""
        channel = get_object_or_404(Channel, pk=pk)
        assert isinstance(request.user, User)
        if not circuit_breaker.lift_new_chat_block(channel, user=request.user):
            raise SessionRefused("not_blocked", _("There is no new-chat block."))
        channel.refresh_from_db()
        return Response(ChannelSerializer(channel).data)
