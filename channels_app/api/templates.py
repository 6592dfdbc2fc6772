"""REST: message templates. Each view makes one call of `message_templates`."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_field
from rest_framework import mixins, serializers, status, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import APIException
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.permissions import StaffMayChange, StaffWithModelPermissions
from channels_app import message_templates
from channels_app.models import Channel, CloudCredentials, MessageTemplate, Provider
from channels_app.providers import error_codes
from channels_app.providers.base import SendError
from channels_app.providers.cloud import template_drafts, templates
from core.text import is_storable


class TemplateFieldSerializer(serializers.Serializer[Any]):
    """What a send has to fill in."""

    key = serializers.CharField()
    part = serializers.ChoiceField(["header", "body", "button", "offer"])
    kind = serializers.CharField()
    name = serializers.CharField(help_text="The variable, empty for what is no text.")
    label = serializers.CharField()  # type: ignore[assignment]
    example = serializers.CharField()
    card = serializers.IntegerField(allow_null=True)
    button = serializers.IntegerField(allow_null=True)


class TemplateSerializer(serializers.ModelSerializer[MessageTemplate]):
    """A template of a WhatsApp Business account, as Meta last listed it.

    `problem` says why it certainly cannot be sent now; it is empty if it can. `variables` is what a
    send has to fill in.
    """

    problem = serializers.SerializerMethodField()
    variables = serializers.SerializerMethodField()

    class Meta:
        model = MessageTemplate
        fields = [
            "id", "business_account_id", "template_id", "name", "language", "category", "status",
            "quality", "rejected_reason", "problem", "parameter_format", "components", "variables",
            "synced_at", "updated_at",
        ]  # fmt: skip
        read_only_fields = fields

    def get_problem(self, template: MessageTemplate) -> str:
        return template.definition.unusable

    @extend_schema_field(TemplateFieldSerializer(many=True))
    def get_variables(self, template: MessageTemplate) -> Any:
        found = list(templates.fields(template.definition))
        return TemplateFieldSerializer(found, many=True).data


def _official() -> QuerySet[Channel]:
    return Channel.objects.filter(kind=Provider.OFFICIAL)


class _Storable(serializers.Serializer[Any]):
    """Rejects unknown fields, and what PostgreSQL cannot store."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, dict) and (unknown := data.keys() - self.fields.keys()):
            text = _("This field does not exist.")
            raise serializers.ValidationError({str(name): [text] for name in sorted(unknown)})
        return super().to_internal_value(data)

    def validate_components(self, components: Any) -> Any:
        if not is_storable(components):
            raise serializers.ValidationError(_("The object contains a value that cannot be sent."))
        return components


class TemplateDraftSerializer(_Storable):
    """A template to create, in the format of Meta's API."""

    channel = serializers.PrimaryKeyRelatedField(queryset=_official())
    name = serializers.CharField(max_length=512)
    language = serializers.CharField(max_length=20)
    category = serializers.ChoiceField(template_drafts.CATEGORIES)
    parameter_format = serializers.ChoiceField(
        [templates.POSITIONAL, templates.NAMED], required=False
    )
    message_send_ttl_seconds = serializers.IntegerField(
        required=False, min_value=-1, max_value=2_592_000
    )
    components = serializers.JSONField()


class TemplateChangesSerializer(_Storable):
    """What replaces the components of a template."""

    category = serializers.ChoiceField(template_drafts.CATEGORIES, required=False)
    message_send_ttl_seconds = serializers.IntegerField(
        required=False, min_value=-1, max_value=2_592_000
    )
    components = serializers.JSONField()


class SyncSerializer(serializers.Serializer[Any]):
    channel = serializers.PrimaryKeyRelatedField(
        queryset=_official(),
        required=False,
        help_text="Its account is synchronized now; without it, every account soon.",
    )


class SyncResultSerializer(serializers.Serializer[Any]):
    total = serializers.IntegerField(help_text="How many templates the account has.")
    created = serializers.IntegerField()
    updated = serializers.IntegerField()
    deleted = serializers.IntegerField()


class ProviderFailed(APIException):
    """Meta did not do what was asked. `code` is Meta's or one of `/api/errors/`."""

    status_code = status.HTTP_502_BAD_GATEWAY

    def __init__(self, error: SendError) -> None:
        rule = error_codes.lookup(error.code)
        title = str(rule.title) if rule.known else error.title
        detail = f"{title}: {error.detail}" if error.detail else title
        super().__init__(detail, error.code)


_FAILED = OpenApiResponse(
    OpenApiTypes.OBJECT, "Meta refused or did not respond; `code` is its code or ours."
)


class TemplateFilter(django_filters.FilterSet):
    channel = django_filters.ModelChoiceFilter(queryset=_official(), method="filter_channel")
    name = django_filters.CharFilter()
    language = django_filters.CharFilter()
    status = django_filters.CharFilter(method="filter_word")
    category = django_filters.CharFilter(method="filter_word")

    class Meta:
        model = MessageTemplate
        fields: list[str] = []

    @extend_schema_field(OpenApiTypes.INT)
    def filter_channel(
        self, queryset: QuerySet[MessageTemplate], name: str, channel: Channel
    ) -> QuerySet[MessageTemplate]:
        account = CloudCredentials.objects.filter(channel=channel).exclude(business_account_id="")
        return queryset.filter(business_account_id__in=account.values("business_account_id"))

    def filter_word(
        self, queryset: QuerySet[MessageTemplate], name: str, value: str
    ) -> QuerySet[MessageTemplate]:
        return queryset.filter(**{name: value.upper()})


class ByName(CursorPagination):
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200
    ordering = ("name", "language", "id")


class TemplateViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[MessageTemplate]
):
    """Message templates by name: those that Meta lists, whatever their status."""

    queryset = MessageTemplate.objects.filter(deleted_at=None)
    serializer_class = TemplateSerializer
    pagination_class = ByName
    filterset_class = TemplateFilter
    permission_classes = [StaffWithModelPermissions]
    lookup_value_converter = "int"

    def handle_exception(self, exc: Exception) -> Response:
        if isinstance(exc, SendError):
            exc = ProviderFailed(exc)
        return super().handle_exception(exc)

    @extend_schema(
        request=TemplateDraftSerializer, responses={201: TemplateSerializer, 502: _FAILED}
    )
    def create(self, request: Request) -> Response:
        """Create a template at Meta, which reviews it. Meta chooses the category itself."""
        fields = TemplateDraftSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        draft = dict(fields.validated_data)
        template = message_templates.create(draft.pop("channel"), draft)
        data = self.get_serializer(template).data
        return Response(data, status=status.HTTP_201_CREATED)

    @extend_schema(
        request=TemplateChangesSerializer, responses={200: TemplateSerializer, 502: _FAILED}
    )
    def partial_update(self, request: Request, **kwargs: Any) -> Response:
        """Replace the components of a template. Meta reviews it again."""
        fields = TemplateChangesSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        template = message_templates.edit(self.get_object(), fields.validated_data)
        return Response(self.get_serializer(template).data)

    @extend_schema(responses={204: None, 502: _FAILED})
    def destroy(self, request: Request, **kwargs: Any) -> Response:
        """Delete this language of a template at Meta, which blocks the name for 30 days."""
        message_templates.delete(self.get_object())
        return Response(status=status.HTTP_204_NO_CONTENT)

    @extend_schema(request=None, responses={202: TemplateSerializer, 502: _FAILED})
    @action(detail=True, methods=["post"], permission_classes=[StaffMayChange])
    def unpause(self, request: Request, **kwargs: Any) -> Response:
        """Release a template that Meta paused while it paced it."""
        template = self.get_object()
        message_templates.unpause(template)
        data = self.get_serializer(template).data
        return Response(data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(
        request=SyncSerializer,
        responses={
            200: SyncResultSerializer,
            202: OpenApiResponse(description="Every account is synchronized soon."),
            502: _FAILED,
        },
        filters=False,
    )
    @action(detail=False, methods=["post"], permission_classes=[StaffMayChange])
    def sync(self, request: Request) -> Response:
        """Read the templates of an account from Meta now."""
        fields = SyncSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        channel = fields.validated_data.get("channel")
        if channel is None:
            message_templates.enqueue_every()
            return Response(status=status.HTTP_202_ACCEPTED)
        result = message_templates.synchronize(channel)
        return Response(SyncResultSerializer(result).data)
