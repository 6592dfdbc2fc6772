from __future__ import annotations

from django.urls import path

from channels_app import session_views, views

app_name = "channels_app"

urlpatterns = [
    path("", views.ChannelListView.as_view(), name="list"),
    path("new/", views.ChannelCreateView.as_view(), name="new"),
    path("<int:pk>/", views.ChannelUpdateView.as_view(), name="detail"),
    path("<int:pk>/delete/", views.ChannelDeleteView.as_view(), name="delete"),
    path("<int:pk>/test/", views.ChannelTestView.as_view(), name="test"),
    path("<int:pk>/lift-block/", session_views.LiftBlockView.as_view(), name="lift_block"),
    path("<int:pk>/session/connect/", session_views.ConnectView.as_view(), name="connect"),
    path("<int:pk>/session/check/", session_views.CheckView.as_view(), name="check"),
    path("<int:pk>/session/disconnect/", session_views.DisconnectView.as_view(), name="disconnect"),
    path(
        "<int:pk>/session/confirm-number/",
        session_views.ConfirmNumberView.as_view(),
        name="confirm_number",
    ),
    path("<int:pk>/session/dialog/", session_views.QrDialogView.as_view(), name="qr_dialog"),
    path("<int:pk>/session/qr/", session_views.QrView.as_view(), name="qr"),
    path("<int:pk>/session/install/", session_views.InstallView.as_view(), name="install"),
    path("<int:pk>/session/pairing/", session_views.PairingView.as_view(), name="pairing"),
]
