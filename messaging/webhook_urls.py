from __future__ import annotations

from django.urls import path

from messaging.webhooks import CloudWebhook

urlpatterns = [
    path("cloud", CloudWebhook.as_view(), name="webhook-cloud"),
    path("cloud/", CloudWebhook.as_view()),
]
