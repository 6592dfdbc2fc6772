"""REST views for messages, media and conversations. Each view makes one service call."""

from __future__ import annotations

from typing import Any

import django_filters
from django.db.models import QuerySet
from django.http import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import (
    OpenApiParameter,
    OpenApiResponse,
    extend_schema,
)
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.reverse import reverse

from accounts.access import user_of
from accounts.api_errors import Conflict
from accounts.permissions import StaffMayChange, StaffWithModelPermissions
from channels_app.models import Channel
from channels_app.providers import addresses, engines
from channels_app.providers.addresses import Address, Kind
from core import phone_numbers
from messaging import contacts, reading, selectors
from messaging.api.inbox import ConversationFilter, InboxActions
from messaging.api.parsers import UploadParser
from messaging.api.planning import PlanningActions
from messaging.api.problems import PROBLEM
from messaging.api.serializers import (
    CallSerializer,
    ConfirmSerializer,
    ConversationSerializer,
    MediaSerializer,
    MessageSerializer,
    NewMessageSerializer,
    ReadSerializer,
    RetrySerializer,
    UploadSerializer,
    represent,
)
from messaging.delivery import accept, statuses
from messaging.media import files
from messaging.media.responses import file_response
from messaging.models import Conversation, Media, Message


class StaffWithMessagePermissions(StaffWithModelPermissions):
    """Check message permissions: files have no permissions of their own."""

    def get_required_permissions(self, method: str, model_cls: type[Any]) -> list[str]:
        return super().get_required_permissions(method, Message)


class NewestFirst(CursorPagination):
    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200
    ordering = ("-created_at", "-id")


class MessageFilter(django_filters.FilterSet):
    channel = django_filters.ModelChoiceFilter(
        field_name="conversation__channel", queryset=Channel.objects.all()
    )
    conversation = django_filters.ModelChoiceFilter(queryset=Conversation.objects.all())
    status = django_filters.ChoiceFilter(choices=[(s.value, s.value) for s in statuses.Status])
    route = django_filters.ChoiceFilter(choices=[(name, name) for name in engines.ENGINES])
    direction = django_filters.ChoiceFilter(choices=Message.Direction.choices)
    to = django_filters.CharFilter(method="filter_to")
    client_reference = django_filters.CharFilter()

    class Meta:
        model = Message
        fields: list[str] = []

    def filter_to(self, queryset: QuerySet[Message], name: str, to: str) -> QuerySet[Message]:
        try:
            address = Address(Kind.PHONE, phone_numbers.normalize(to))
        except ValueError:
            reported = addresses.parse(to.strip())
            if reported is None:
                return queryset.none()
            address = reported
        return queryset.filter(conversation__contact__in=contacts.ids_with([address]))


class MessageViewSet(
    PlanningActions,
    mixins.RetrieveModelMixin,
    mixins.ListModelMixin,
    viewsets.GenericViewSet[Message],
):
    """Messages, sent and received, newest first."""

    serializer_class = MessageSerializer
    pagination_class = NewestFirst
    filterset_class = MessageFilter
    queryset = selectors.messages()
    lookup_value_converter = "uuid"

    @extend_schema(
        request=NewMessageSerializer,
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                OpenApiTypes.STR,
                OpenApiParameter.HEADER,
                description="At most 255 characters. The same key and body return one message.",
            )
        ],
        responses={
            202: MessageSerializer,
            200: OpenApiResponse(MessageSerializer, "Replayed: the key was used before."),
            409: OpenApiResponse(PROBLEM, "`idempotency_conflict`: same key, different body."),
        },
    )
    def create(self, request: Request) -> Response:
        """Accept a message for sending. Fetch the message to follow its delivery."""
        fields = NewMessageSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        try:
            accepted = accept.accept_message(
                **fields.validated_data,
                user=user_of(request),
                idempotency_key=request.headers.get("Idempotency-Key", ""),
            )
        except accept.IdempotencyConflict:
            raise Conflict(
                _("This Idempotency-Key was used for another message."), "idempotency_conflict"
            ) from None
        return self._accepted_response(request, accepted)

    def _accepted_response(self, request: Request, accepted: accept.Acceptance) -> Response:
        if accepted.created:
            message = selectors.as_accepted(accepted.message)
        else:
            message = selectors.messages().get(pk=accepted.message.pk)
        headers = {
            "Location": reverse("message-detail", args=[message.pk], request=request),
        }
        if not accepted.created:
            headers["Idempotent-Replay"] = "true"
        return Response(
            represent(message),
            status=status.HTTP_202_ACCEPTED if accepted.created else status.HTTP_200_OK,
            headers=headers,
        )

    @extend_schema(
        request=RetrySerializer,
        responses={202: MessageSerializer, 409: OpenApiResponse(PROBLEM, "`not_retryable`")},
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayChange])
    def retry(self, request: Request, **kwargs: Any) -> Response:
        """Send a rejected or unconfirmed message again, by the usual route or by the fallback."""
        fields = RetrySerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        try:
            message = accept.retry_message(
                self.get_object(),
                route=fields.validated_data["route"],
                user=user_of(request),
            )
        except accept.NotRetryable as error:
            raise Conflict(str(error), "not_retryable") from None
        data = self.get_serializer(selectors.messages().get(pk=message.pk)).data
        return Response(data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(
        request=ConfirmSerializer,
        responses={200: MessageSerializer, 409: OpenApiResponse(PROBLEM, "`not_confirmable`")},
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayChange])
    def confirm(self, request: Request, **kwargs: Any) -> Response:
        """Confirm that an unconfirmed message arrived. It then counts as sent."""
        fields = ConfirmSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        try:
            message = accept.confirm_arrival(
                self.get_object(),
                user=user_of(request),
            )
        except accept.NotRetryable as error:
            raise Conflict(str(error), "not_confirmable") from None
        return Response(self.get_serializer(selectors.messages().get(pk=message.pk)).data)

    @extend_schema(
        request=None,
        responses={200: MessageSerializer, 409: OpenApiResponse(PROBLEM, "`not_cancelable`")},
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayChange])
    def cancel(self, request: Request, **kwargs: Any) -> Response:
        """Cancel a message that has certainly not been sent: scheduled, or waiting for a retry."""
        try:
            message = accept.cancel_message(self.get_object(), user=user_of(request))
        except accept.NotCancelable as error:
            raise Conflict(str(error), "not_cancelable") from None
        return Response(self.get_serializer(selectors.messages().get(pk=message.pk)).data)


class MediaViewSet(mixins.RetrieveModelMixin, viewsets.GenericViewSet[Media]):
    """Files of messages: uploads to send, and received files.

    Uploading requires permission to send messages; viewing requires permission to view them.
    """

    serializer_class = MediaSerializer
    queryset = Media.objects.all()
    lookup_value_converter = "uuid"
    permission_classes = [StaffWithMessagePermissions]

    @extend_schema(
        request={"multipart/form-data": UploadSerializer},
        responses={
            201: MediaSerializer,
            413: OpenApiResponse(PROBLEM, "`too_large`: larger than any WhatsApp message allows."),
            415: OpenApiResponse(PROBLEM, "The file must be sent as multipart/form-data."),
        },
    )
    def create(self, request: Request) -> Response:
        """Upload a file. Refer to it as `{"media": id}` in the object of a message."""
        fields = UploadSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        media = files.store_upload(
            fields.validated_data["file"],
            user=user_of(request),
        )
        headers = {"Location": reverse("media-detail", args=[media.pk], request=request)}
        data = self.get_serializer(media).data
        return Response(data, status=status.HTTP_201_CREATED, headers=headers)

    def get_parsers(self) -> list[BaseParser]:
        return [UploadParser()]

    @extend_schema(responses={(200, "*/*"): OpenApiTypes.BINARY})
    @action(detail=True, methods=["get"])
    def content(self, request: Request, **kwargs: Any) -> HttpResponseBase:
        """Return the file. Supports `Range`."""
        return file_response(request._request, self.get_object(), download=True)


class LatestFirst(NewestFirst):
    ordering = ("-sort_at", "-id")


class ConversationViewSet(InboxActions, viewsets.ReadOnlyModelViewSet[Conversation]):
    """Conversations, the most recently active first."""

    serializer_class = ConversationSerializer
    pagination_class = LatestFirst
    filterset_class = ConversationFilter
    queryset = selectors.conversations_for_programs()

    @extend_schema(request=ReadSerializer, responses=ConversationSerializer)
    @action(detail=True, methods=["post"], permission_classes=[StaffWithMessagePermissions])
    def read(self, request: Request, **kwargs: Any) -> Response:
        """Mark a conversation as read, also for the customer, who may see that we are typing."""
        fields = ReadSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        reading.mark_read(self.get_object(), typing=fields.validated_data["typing"])
        return Response(self.get_serializer(self.get_object()).data)

    @extend_schema(responses=CallSerializer(many=True), filters=False)
    @action(detail=True, pagination_class=NewestFirst)
    def calls(self, request: Request, **kwargs: Any) -> Response:
        """List the outgoing and incoming calls of a conversation, newest first."""
        found = selectors.calls().filter(conversation=self.get_object())
        paginator = NewestFirst()
        page = paginator.paginate_queryset(found, request, view=self)
        return paginator.get_paginated_response(CallSerializer(page, many=True).data)
