"""The shape of errors in the description of the API."""

from __future__ import annotations

from drf_spectacular.utils import inline_serializer
from rest_framework import serializers

PROBLEM = inline_serializer(
    "Problem", {"detail": serializers.CharField(), "code": serializers.CharField()}
)
