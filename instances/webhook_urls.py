from __future__ import annotations

from django.urls import re_path

from instances.webhooks import EvolutionWebhook

urlpatterns = [
    # With "byEvents", which we never set, Evolution appends the event name.
    re_path(r"^evolution/?(?:/[a-z-]+/?)?$", EvolutionWebhook.as_view(), name="webhook-evolution"),
]
