"""REST: channels. Secrets are write-only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db.models import Prefetch
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers, viewsets
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.settings import api_settings
from rest_framework.validators import UniqueValidator

from accounts import people
from accounts.access import user_of
from accounts.models import Team
from channels_app.api.fields import time_field
from channels_app.channels import save_channel
from channels_app.connections import remote_sessions
from channels_app.connections.session_engines import KEEP, SessionRefused
from channels_app.incidents.reason_text import render_reason
from channels_app.models import Channel, Connection, FallbackChoice, FallbackRoute
from channels_app.models.credentials import MODELS, SETTINGS
from channels_app.providers import engines
from channels_app.providers.sessions import STATE_CHOICES

_SET = "_set"
PREVIOUS_SESSION = (
    "What to do with the session that the channel no longer uses: `keep` (the default); for "
    "wwebjs-api `stop` or `unlink`; for Evolution `log_out` or `delete`. If the server does not "
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
    """A channel that uses this one as its fallback."""

    class Meta:
        model = Channel
        fields = ["id", "name"]
        read_only_fields = fields


class FallbackKindField(serializers.ChoiceField):
    """The name of an engine that can be a fallback, or "none" with `none_allowed`."""

    def __init__(self, *, none_allowed: bool = False, **kwargs: Any) -> None:
        none = [(Channel.NO_FALLBACK, _lazy("None"))] if none_allowed else []
        # A serializer makes its fields again for each request.
        super().__init__([*none, *engines.fallback_choices()], **kwargs)


class FallbackSerializer(serializers.Serializer[FallbackChoice]):
    """One of a channel's fallbacks; `channel` goes with "baileys" only."""

    kind = FallbackKindField()
    channel = serializers.PrimaryKeyRelatedField(queryset=Channel.objects.all(), required=False)

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            text = _("This field does not exist.")
            raise serializers.ValidationError({name: [text] for name in sorted(unknown)})
        return super().to_internal_value(data)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        has_channels = engines.has_channels(attrs["kind"])
        if has_channels and "channel" not in attrs:
            text = _("Choose the Baileys channel of the fallback.")
            raise serializers.ValidationError({"channel": [text]})
        if not has_channels and "channel" in attrs:
            text = _("Only a Baileys fallback has a channel.")
            raise serializers.ValidationError({"channel": [text]})
        return attrs

    def to_representation(self, instance: FallbackChoice) -> dict[str, Any]:
        shown: dict[str, Any] = {"kind": instance.kind}
        if instance.channel is not None:
            shown["channel"] = instance.channel.pk
        return shown


class ChannelSerializer(serializers.ModelSerializer[Channel]):
    """A channel. Each write-only secret has a boolean `<name>_set` in responses.

    `fallback` and `fallback_channel` are the shorthand for at most one of the `fallbacks`: they
    show the first, and writing them replaces the list. `fallback_channel` is used with `fallback`
    "baileys" only; otherwise it is set to null.
    """

    # The remote session that the validated changes would abandon.
    left_behind: remote_sessions.RemoteSession | None = None

    health_detail = InWordsField(source="primary.health_detail")
    previous_session = serializers.CharField(
        write_only=True, required=False, help_text=PREVIOUS_SESSION
    )
    fallback = FallbackKindField(none_allowed=True, required=False)
    fallback_channel = serializers.PrimaryKeyRelatedField(
        queryset=Channel.objects.all(),
        required=False,
        allow_null=True,
        label=_lazy("Baileys connection for fallback"),
    )
    fallbacks = FallbackSerializer(
        many=True, required=False, help_text="The fallbacks, in the order in which they are tried."
    )
    team = serializers.PrimaryKeyRelatedField(
        queryset=Team.objects.all(),
        required=False,
        allow_null=True,
        help_text="The team that its new conversations go to.",
    )
    assignee = serializers.PrimaryKeyRelatedField(
        queryset=people.active_staff(),
        required=False,
        allow_null=True,
        help_text="The person that its new conversations go to.",
    )
    opening_hours = serializers.DictField(
        child=serializers.ListField(
            child=serializers.ListField(child=serializers.CharField(max_length=5))
        ),
        required=False,
        help_text='`{"mon": [["08:00", "18:00"]]}`; empty: always open.',
    )
    fallback_for = FallingBackSerializer(many=True, read_only=True)
    coexistence = serializers.BooleanField(
        source="primary.coexistence",
        read_only=True,
        allow_null=True,
        help_text="Whether the WhatsApp app also uses the number; null if Meta does not report it.",
    )
    new_chats_lifted_by = serializers.CharField(
        source="fallback_number.new_chats_lifted_by.username",
        read_only=True,
        allow_null=True,
        help_text="Who lifted the latest new-chat block.",
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
            *SETTINGS, "fallback", "fallback_channel", "fallbacks", "fallback_for",
            "ignore_messages_sent_outside", "ignore_groups",
            "official_retries", "request_timeout_seconds", "confirm_seconds", "on_unconfirmed",
            "on_undelivered",
            "fallback_max_age_minutes", "fallback_per_minute", "fallback_new_chats_per_day",
            "fallback_despite_limits", "messages_per_second", "coexistence",
            "calls_api_key", "previous_session",
            "team", "assignee", "greeting", "away_message", "opening_hours", "time_zone",
            "health", "health_detail", "health_changed_at", "wwebjs_state", "wwebjs_own_number",
            "breaker_opened_at", "breaker_code", "wwebjs_breaker_opened_at", "wwebjs_breaker_code",
            "new_chats_stopped_until", "new_chats_lifted_at", "new_chats_lifted_by",
            "created_at", "updated_at",
        ]  # fmt: skip
        extra_kwargs = {name: {"write_only": True} for name in Channel.SECRETS}

    def build_field(
        self, field_name: str, info: Any, model_class: Any, nested_depth: int
    ) -> tuple[Any, Any]:
        """Build the field of a provider's setting from the column of its credentials."""
        setting = SETTINGS.get(field_name)
        if setting is not None:
            built, kwargs = self.build_standard_field(field_name, setting.field)
            # `validate` checks uniqueness, as for the other rules of the channel.
            validators = kwargs.get("validators", [])
            kwargs["validators"] = [v for v in validators if not isinstance(v, UniqueValidator)]
            return built, kwargs
        return super().build_field(field_name, info, model_class, nested_depth)

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        fields = super().get_fields()
        for name in Channel.SECRETS:
            fields[name + _SET] = IsSetField(source=name)
        return fields

    def validate_fallbacks(self, value: list[dict[str, Any]]) -> list[FallbackChoice]:
        return [FallbackChoice(one["kind"], one.get("channel")) for one in value]

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Validate the changed channel with the model's own rules."""
        if "fallbacks" in attrs:
            _drop_shorthand(attrs)
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
            if "fallbacks" in attrs and "fallback_channel" in problems:
                problems.setdefault("fallbacks", []).extend(problems.pop("fallback_channel"))
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


def _drop_shorthand(attrs: dict[str, Any]) -> None:
    """Remove the shorthand if it agrees with `fallbacks`, else raise ValidationError."""
    shown = Channel()
    shown.fallbacks = attrs["fallbacks"]
    for name in ("fallback", "fallback_channel"):
        if name in attrs and attrs.pop(name) != getattr(shown, name):
            text = _("It contradicts “%(field)s”.") % {"field": name}
            raise serializers.ValidationError({"fallbacks": [text]})


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
    """Channels, with their settings and their fallback."""

    queryset = (
        Channel.objects.select_related(*(model.accessor() for model in MODELS.values()))
        .prefetch_related(
            Prefetch("connections", Connection.objects.select_related("new_chats_lifted_by")),
            Prefetch("connections__fallback_for", FallbackRoute.objects.select_related("channel")),
            "fallback_routes",
        )
        .order_by("id")
    )
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
