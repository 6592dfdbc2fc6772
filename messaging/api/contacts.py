"""REST views for contacts: their names, their addresses, and which of them are one customer."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import mixins, status, viewsets
from rest_framework.decorators import action
from rest_framework.generics import get_object_or_404
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.access import user_of
from accounts.permissions import StaffMayChange, StaffWithModelPermissions
from messaging import contacts, merging
from messaging.api.inbox import with_errors
from messaging.api.serializers import ContactSerializer, MergeSerializer, SplitSerializer
from messaging.api.views import NewestFirst
from messaging.inbox import custom_fields
from messaging.models import Contact


class ContactViewSet(
    mixins.ListModelMixin, mixins.RetrieveModelMixin, viewsets.GenericViewSet[Contact]
):
    """Contacts, newest first. A contact that was merged is found under the one that remains."""

    serializer_class = ContactSerializer
    pagination_class = NewestFirst
    permission_classes = [StaffWithModelPermissions]
    queryset = Contact.objects.filter(merged_into=None).prefetch_related("addresses")
    lookup_value_converter = "int"

    def get_object(self) -> Contact:
        """Return the contact, or the one into which it was merged."""
        contact = get_object_or_404(Contact, pk=self.kwargs["pk"])
        self.check_object_permissions(self.request, contact)
        return merging.current(contact)

    def partial_update(self, request: Request, **kwargs: Any) -> Response:
        """Rename a contact; an empty name leaves it to the customer's own again.

        `custom_fields`: only those that are named change.
        """
        contact = self.get_object()
        fields = self.get_serializer(contact, data=request.data, partial=True)
        fields.is_valid(raise_exception=True)
        if "name" in fields.validated_data:
            contacts.rename(contact, fields.validated_data["name"])
        if "custom_fields" in fields.validated_data:
            with_errors(custom_fields.change, contact, fields.validated_data["custom_fields"])
        return Response(self.get_serializer(contact).data)

    @extend_schema(
        request=MergeSerializer,
        responses={200: ContactSerializer},
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayChange])
    def merge(self, request: Request, **kwargs: Any) -> Response:
        """Make this contact and another one a single customer, and join their conversations."""
        fields = MergeSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        contact = merging.merge_by_hand(
            self.get_object(), fields.validated_data["with"], user=user_of(request)
        )
        return Response(self.get_serializer(contact).data)

    @extend_schema(
        request=SplitSerializer,
        responses={201: ContactSerializer},
    )
    @action(detail=True, methods=["post"], permission_classes=[StaffMayChange])
    def split(self, request: Request, **kwargs: Any) -> Response:
        """Give an address a contact of its own. If it came by a merge, the merge is undone."""
        fields = SplitSerializer(data=request.data)
        fields.is_valid(raise_exception=True)
        contact = self.get_object()
        address = contacts.address_of(contact, fields.validated_data["address"])
        separate = merging.split(contact, address, user=user_of(request))
        return Response(self.get_serializer(separate).data, status=status.HTTP_201_CREATED)
