"""Serializer fields of connections."""

from __future__ import annotations

from rest_framework import serializers


def time_field(source: str) -> serializers.DateTimeField:
    """Return a read-only time, or null, from this attribute path."""
    return serializers.DateTimeField(source=source, read_only=True, allow_null=True)
