from __future__ import annotations

from django.urls import path

from instances import views

app_name = "instances"

urlpatterns = [
    path("", views.InstanceListView.as_view(), name="list"),
    path("<str:instance_name>/", views.InstanceView.as_view(), name="detail"),
    path("<str:instance_name>/switch/", views.SwitchView.as_view(), name="switch"),
    path("<str:instance_name>/repair/", views.RepairView.as_view(), name="repair"),
    path("<str:instance_name>/cancel/", views.CancelView.as_view(), name="cancel"),
    path("<str:instance_name>/check/", views.CheckView.as_view(), name="check"),
]
