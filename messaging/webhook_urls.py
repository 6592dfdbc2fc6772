from __future__ import annotations

from django.urls import path

from messaging.webhooks import CloudWebhook, EngineWebhook, WwebjsWebhook

urlpatterns = [
    path("cloud", CloudWebhook.as_view(), name="webhook-cloud"),
    path("cloud/", CloudWebhook.as_view()),
    path("wwebjs/<int:channel_id>", WwebjsWebhook.as_view(), name="webhook-wwebjs"),
    path("wwebjs/<int:channel_id>/", WwebjsWebhook.as_view()),
    path("<slug:source>/<int:channel_id>", EngineWebhook.as_view(), name="webhook-engine"),
    path("<slug:source>/<int:channel_id>/", EngineWebhook.as_view()),
]
