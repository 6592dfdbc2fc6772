from __future__ import annotations

from django.urls import path

from channels_app import views

app_name = "help"

urlpatterns = [
    path("fallback/", views.FallbackHelpView.as_view(), name="fallback"),
]
