"""The models of channels: what their owners decided, and how each connection works."""

from __future__ import annotations

from channels_app.models.account_report import AccountReport
from channels_app.models.channel import Channel, FallbackChoice
from channels_app.models.connection import Connection
from channels_app.models.credentials import (
    CloudCredentials,
    EvolutionCredentials,
    WwebjsCredentials,
)
from channels_app.models.fallback_route import FallbackRoute
from channels_app.models.incident import Incident
from channels_app.models.message_template import MessageTemplate, TemplateSync
from channels_app.models.provider import Provider
from channels_app.models.resolved_number import ResolvedNumber

__all__ = [
    "AccountReport",
    "Channel",
    "CloudCredentials",
    "Connection",
    "EvolutionCredentials",
    "FallbackChoice",
    "FallbackRoute",
    "Incident",
    "MessageTemplate",
    "Provider",
    "ResolvedNumber",
    "TemplateSync",
    "WwebjsCredentials",
]
