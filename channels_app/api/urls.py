from __future__ import annotations

from django.urls import path

from channels_app.api import sessions as api

_SESSION = "channels/<int:pk>/wwebjs/"
urlpatterns = [
    path(
        "channels/<int:pk>/new-chats/lift/", api.LiftBlockView.as_view(), name="channel-lift-block"
    ),
    path(_SESSION, api.WwebjsStateView.as_view(), name="channel-wwebjs"),
    path(f"{_SESSION}connect/", api.WwebjsConnectView.as_view(), name="channel-wwebjs-connect"),
    path(f"{_SESSION}disconnect/", api.DisconnectView.as_view(), name="channel-wwebjs-disconnect"),
    path(
        f"{_SESSION}confirm-number/",
        api.WwebjsConfirmNumberView.as_view(),
        name="channel-wwebjs-confirm-number",
    ),
    path(f"{_SESSION}qr/", api.WwebjsQrView.as_view(), name="channel-wwebjs-qr"),
    path(
        f"{_SESSION}pairing-code/",
        api.WwebjsPairingCodeView.as_view(),
        name="channel-wwebjs-pairing",
    ),
]
