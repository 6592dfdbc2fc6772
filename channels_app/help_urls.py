from __future__ import annotations

from django.urls import path

from channels_app.views import channels

app_name = "help"

urlpatterns = [
    path("fallback/", channels.FallbackHelpView.as_view(), name="fallback"),
]
