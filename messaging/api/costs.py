"""What messages cost."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.permissions import StaffWithModelPermissions
from channels_app.models import Channel
from messaging import costs
from messaging.models import Message


class CostFilterSerializer(serializers.Serializer[Any]):
    since = serializers.DateField(required=False, help_text="By default the first of the month.")
    until = serializers.DateField(required=False, help_text="Included; by default today.")
    channel = serializers.PrimaryKeyRelatedField(
        queryset=Channel.objects.all(),
        required=False,
        error_messages={"does_not_exist": _("There is no such channel.")},
    )


class TotalSerializer(serializers.Serializer[Any]):
    """The sum of a category. `price` is estimated from the prices entered here; null without."""

    category = serializers.CharField()
    type = serializers.CharField(
        help_text="Meta's: regular (charged), free_customer_service or free_entry_point."
    )
    messages = serializers.IntegerField(help_text="Those whose category Meta reported.")
    delivered = serializers.IntegerField(help_text="Meta charges for these.")
    price = serializers.DecimalField(max_digits=18, decimal_places=6, allow_null=True)
    currency = serializers.CharField()


class CostSerializer(TotalSerializer):
    """The messages of one day with the same channel, template and category."""

    day = serializers.DateField()
    channel = serializers.IntegerField()
    template = serializers.CharField(help_text="Empty for messages that are no templates.")


class CostsSerializer(serializers.Serializer[Any]):
    since = serializers.DateField()
    until = serializers.DateField()
    totals = TotalSerializer(many=True)
    results = CostSerializer(many=True)


class CostsView(GenericAPIView[Message]):
    """What Meta charged for, by day, channel, template and category."""

    queryset = Message.objects.none()
    serializer_class = CostsSerializer
    permission_classes = [StaffWithModelPermissions]
    pagination_class = None
    filter_backends = []

    @extend_schema(
        parameters=[
            OpenApiParameter("since", OpenApiTypes.DATE),
            OpenApiParameter("until", OpenApiTypes.DATE),
            OpenApiParameter("channel", OpenApiTypes.INT),
        ]
    )
    def get(self, request: Request) -> Response:
        """Return what Meta charged for in a period of at most a year."""
        fields = CostFilterSerializer(data=request.query_params)
        fields.is_valid(raise_exception=True)
        given = fields.validated_data
        period = costs.Period.of(given.get("since"), given.get("until"))
        channel = given.get("channel")
        rows = costs.rows(period, channel=channel.pk if channel else None)
        answer = {
            "since": period.since,
            "until": period.until,
            "totals": costs.totals(rows),
            "results": rows,
        }
        return Response(CostsSerializer(answer).data)
