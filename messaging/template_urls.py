from __future__ import annotations

from django.urls import path

from messaging.views import templates

app_name = "message_templates"

urlpatterns = [
    path("", templates.TemplateListView.as_view(), name="list"),
    path("new/", templates.TemplateCreateView.as_view(), name="new"),
    path("check/", templates.CheckDraftView.as_view(), name="check"),
    path("sync/", templates.SyncView.as_view(), name="sync"),
    path("<int:pk>/", templates.TemplateView.as_view(), name="detail"),
    path("<int:pk>/edit/", templates.TemplateUpdateView.as_view(), name="edit"),
    path("<int:pk>/delete/", templates.TemplateDeleteView.as_view(), name="delete"),
    path("<int:pk>/unpause/", templates.UnpauseView.as_view(), name="unpause"),
]
