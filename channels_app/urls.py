from __future__ import annotations

from django.urls import path

from channels_app import views

app_name = "channels_app"

urlpatterns = [
    path("", views.ChannelListView.as_view(), name="list"),
    path("new/", views.ChannelCreateView.as_view(), name="new"),
    path("<int:pk>/", views.ChannelUpdateView.as_view(), name="detail"),
    path("<int:pk>/delete/", views.ChannelDeleteView.as_view(), name="delete"),
    path("<int:pk>/test/", views.ChannelTestView.as_view(), name="test"),
]
