"""REST: channels. Secrets are written, never read back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db.models import Prefetch
from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers, viewsets
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.settings import api_settings

from accounts.access import user_of
from channels_app.api.fields import time_field
from channels_app.channels import save_channel
from channels_app.connections import remote_sessions
from channels_app.connections.engines import KEEP, SessionRefused
from channels_app.incidents.reason_text import render_reason
from channels_app.models import Channel, Connection
from channels_app.providers.sessions import STATE_CHOICES

_SET = "_set"
PREVIOUS_SESSION = (
    "What becomes of the session that the channel leaves on its server: `keep` (the default); for "
    "wwebjs-api `stop` or `unlink`; for Evolution `log_out` or `delete`. Where the server does not "
    "do it, nothing is changed."
)


@extend_schema_field(str)
class InWordsField(serializers.Field[str, Any, str, Any]):
    """A stored reason as a sentence in the reader's language."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: str) -> str:
        return render_reason(value)


class FallingBackSerializer(serializers.ModelSerializer[Channel]):
    """A channel that falls back to the one it stands in: what deactivating that one would break."""

    class Meta:
        model = Channel
        fields = ["id", "name"]
        read_only_fields = fields


class ChannelSerializer(serializers.ModelSerializer[Channel]):
    """A channel. Each write-only secret has a boolean `<name>_set` in the answers.

    `fallback_channel` goes with `fallback` "baileys" only: with any other it becomes null.
    """

    # The remote session that the validated changes would abandon.
    left_behind: remote_sessions.RemoteSession | None = None

    health_detail = InWordsField(source="primary.health_detail")
    previous_session = serializers.CharField(
        write_only=True, required=False, help_text=PREVIOUS_SESSION
    )
    fallback_for = FallingBackSerializer(many=True, read_only=True)
    coexistence = serializers.BooleanField(
        source="primary.coexistence",
        read_only=True,
        allow_null=True,
        help_text="Whether the WhatsApp app uses the number as well; null where Meta does not say.",
    )
    new_chats_lifted_by = serializers.CharField(
        source="fallback_number.new_chats_lifted_by.username",
        read_only=True,
        allow_null=True,
        help_text="Who ended the latest block of first messages.",
    )
    health = serializers.ChoiceField(
        source="primary.health",
        choices=Connection.Health.choices,
        read_only=True,
        label="State",
    )
    health_changed_at = time_field("primary.health_changed_at")
    wwebjs_state = serializers.ChoiceField(
        source="wwebjs.state", choices=STATE_CHOICES, read_only=True, label="Wwebjs session"
    )
    wwebjs_own_number = serializers.CharField(source="wwebjs.own_number", read_only=True)
    breaker_opened_at = time_field("primary.breaker_opened_at")
    breaker_code = serializers.CharField(source="primary.breaker_code", read_only=True)
    wwebjs_breaker_opened_at = time_field("wwebjs.breaker_opened_at")
    wwebjs_breaker_code = serializers.CharField(source="wwebjs.breaker_code", read_only=True)
    new_chats_stopped_until = time_field("fallback_number.new_chats_stopped_until")
    new_chats_lifted_at = time_field("fallback_number.new_chats_lifted_at")

    class Meta:
        model = Channel
        fields = [
            "id", "name", "kind", "phone_number", "active",
            "graph_url", "graph_version", "phone_number_id", "business_account_id",
            "access_token", "app_secret", "verify_token",
            "fallback", "wwebjs_url", "wwebjs_api_key", "wwebjs_session_id", "fallback_channel",
            "fallback_for", "ignore_messages_sent_outside",
            "official_retries", "request_timeout_seconds", "confirm_seconds", "on_unconfirmed",
            "fallback_max_age_minutes", "fallback_per_minute", "fallback_new_chats_per_day",
            "fallback_despite_limits", "messages_per_second", "coexistence",
            "evolution_url", "evolution_api_key", "instance_name", "calls_api_key",
            "previous_session",
            "health", "health_detail", "health_changed_at", "wwebjs_state", "wwebjs_own_number",
            "breaker_opened_at", "breaker_code", "wwebjs_breaker_opened_at", "wwebjs_breaker_code",
            "new_chats_stopped_until", "new_chats_lifted_at", "new_chats_lifted_by",
            "created_at", "updated_at",
        ]  # fmt: skip
        extra_kwargs = {name: {"write_only": True} for name in Channel.SECRETS}

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        fields = super().get_fields()
        for name in Channel.SECRETS:
            fields[name + _SET] = IsSetField(source=name)
        return fields

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Validate the changed channel with the model's own rules."""
        channel = Channel() if self.instance is None else Channel.objects.get(pk=self.instance.pk)
        for name, value in attrs.items():
            if name != "previous_session":
                setattr(channel, name, value)
        self.left_behind = (
            None
            if channel.pk is None
            else remote_sessions.session_abandoned_by(_stored(channel), channel)
        )
        try:
            channel.full_clean()
        except ValidationError as error:
            problems = error.message_dict
            if NON_FIELD_ERRORS in problems:
                problems[api_settings.NON_FIELD_ERRORS_KEY] = problems.pop(NON_FIELD_ERRORS)
            raise serializers.ValidationError(problems) from None
        return attrs

    def create(self, validated_data: dict[str, Any]) -> Channel:
        return save_channel(Channel(**validated_data))

    def update(self, instance: Channel, validated_data: dict[str, Any]) -> Channel:
        for name, value in validated_data.items():
            setattr(instance, name, value)
        return save_channel(instance)


def _stored(channel: Channel) -> Channel:
    return Channel.objects.get(pk=channel.pk)


@extend_schema_field(bool)
class IsSetField(serializers.Field[bool, Any, bool, Any]):
    """Whether a secret is set."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(read_only=True, **kwargs)

    def to_representation(self, value: Any) -> bool:
        return bool(value)


class IsFallback(APIException):
    """A channel that others fall back to cannot be deleted."""

    status_code = 409
    default_code = "in_use"


class NotEnded(APIException):
    """The session could not be ended on its server; nothing was changed."""

    def __init__(self, refused: SessionRefused) -> None:
        super().__init__(str(refused), refused.code)
        self.status_code = refused.status


class ChannelViewSet(viewsets.ModelViewSet[Channel]):
    """The ways to reach customers, and what each does when the official API refuses."""

    queryset = Channel.objects.prefetch_related(
        "fallback_for",
        Prefetch("connections", Connection.objects.select_related("new_chats_lifted_by")),
    ).order_by("id")
    serializer_class = ChannelSerializer
    http_method_names = ["get", "post", "patch", "delete", "head", "options"]
    filterset_fields = ["kind", "active"]

    def perform_create(self, serializer: BaseSerializer[Channel]) -> None:
        serializer.validated_data.pop("previous_session", None)
        serializer.save()

    def perform_update(self, serializer: BaseSerializer[Channel]) -> None:
        """Apply the choice to a session that the changes would abandon, then save."""
        choice = serializer.validated_data.pop("previous_session", KEEP)
        assert isinstance(serializer, ChannelSerializer)
        if serializer.left_behind is not None and serializer.instance is not None:
            stored = Channel.objects.get(pk=serializer.instance.pk)
            with _refusals():
                remote_sessions.end(stored, choice, user=user_of(self.request))
        serializer.save()

    @extend_schema(
        parameters=[OpenApiParameter("previous_session", str, description=PREVIOUS_SESSION)]
    )
    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().destroy(request, *args, **kwargs)

    def perform_destroy(self, instance: Channel) -> None:
        """Delete the channel; report which channels use it as their fallback."""
        if names := instance.is_fallback_of:
            raise IsFallback(_("It is the fallback of: %(names)s") % {"names": names})
        choice = self.request.query_params.get("previous_session", KEEP)
        with _refusals():
            remote_sessions.delete(instance, choice, user=user_of(self.request))


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except SessionRefused as refused:
        if refused.status == 400:
            raise serializers.ValidationError({refused.field: [str(refused)]}) from None
        raise NotEnded(refused) from None
