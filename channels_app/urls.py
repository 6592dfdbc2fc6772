from __future__ import annotations

from django.urls import path

from channels_app.views import channels, inbox, sessions

app_name = "channels_app"

urlpatterns = [
    path("", channels.ChannelListView.as_view(), name="list"),
    path("new/", channels.ChannelCreateView.as_view(), name="new"),
    path("<int:pk>/", channels.ChannelUpdateView.as_view(), name="detail"),
    path("<int:pk>/inbox/", inbox.ChannelInboxView.as_view(), name="inbox"),
    path("<int:pk>/delete/", channels.ChannelDeleteView.as_view(), name="delete"),
    path("<int:pk>/test/", channels.ChannelTestView.as_view(), name="test"),
    path("<int:pk>/lift-block/", sessions.LiftBlockView.as_view(), name="lift_block"),
    path("<int:pk>/session/connect/", sessions.ConnectView.as_view(), name="connect"),
    path("<int:pk>/session/check/", sessions.CheckView.as_view(), name="check"),
    path("<int:pk>/session/disconnect/", sessions.DisconnectView.as_view(), name="disconnect"),
    path(
        "<int:pk>/session/confirm-number/",
        sessions.ConfirmNumberView.as_view(),
        name="confirm_number",
    ),
    path("<int:pk>/session/dialog/", sessions.QrDialogView.as_view(), name="qr_dialog"),
    path("<int:pk>/session/qr/", sessions.QrView.as_view(), name="qr"),
    path("<int:pk>/session/install/", sessions.InstallView.as_view(), name="install"),
    path("<int:pk>/session/pairing/", sessions.PairingView.as_view(), name="pairing"),
]
