"""URLs of the providers' webhooks, for the handler that serves only them."""

from __future__ import annotations

from django.urls import include, path

handler400 = "config.api.bad_request"
handler404 = "config.api.not_found"
handler500 = "config.api.server_error"

urlpatterns = [
    path("api/webhooks/", include("messaging.webhook_urls")),
    path("api/webhooks/", include("instances.webhook_urls")),
]
