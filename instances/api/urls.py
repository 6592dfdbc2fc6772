from __future__ import annotations

from django.urls import re_path
from rest_framework.routers import SimpleRouter

from instances.api import connections as connection
from instances.api import receive_mode

router = SimpleRouter()
router.register("instances", receive_mode.SessionViewSet, basename="instance")

# The specified routes work with and without a trailing slash.
# A name may contain slashes: "a/b" is sent as a%2Fb, which the server has already decoded.
_NAME = r"(?P<instance_name>.+?)/?$"
_CONNECTION = r"^instances/(?P<instance_name>.+?)"
_MANAGE = "^instance-management"
urlpatterns = [
    re_path(rf"{_CONNECTION}/connection/?$", connection.ConnectionView.as_view()),
    re_path(rf"{_CONNECTION}/connect/?$", connection.InstanceConnectView.as_view()),
    re_path(rf"{_CONNECTION}/qr/?$", connection.InstanceQrView.as_view()),
    re_path(rf"{_CONNECTION}/pairing-code/?$", connection.InstancePairingCodeView.as_view()),
    re_path(rf"{_CONNECTION}/confirm-number/?$", connection.InstanceConfirmNumberView.as_view()),
    re_path(rf"{_CONNECTION}/reconnect/?$", connection.ReconnectView.as_view()),
    re_path(rf"{_CONNECTION}/logout/?$", connection.LogOutView.as_view()),
    re_path(rf"{_CONNECTION}/?$", connection.InstanceView.as_view()),
    re_path(rf"{_MANAGE}/connection-state/{_NAME}", receive_mode.ConnectionStateView.as_view()),
    re_path(rf"{_MANAGE}/enable-webhook/{_NAME}", receive_mode.EnableWebhookView.as_view()),
    re_path(rf"{_MANAGE}/enable-websocket/{_NAME}", receive_mode.EnableWebsocketView.as_view()),
    re_path(rf"{_MANAGE}/repair/{_NAME}", receive_mode.RepairView.as_view()),
    re_path(rf"{_MANAGE}/cancel/{_NAME}", receive_mode.CancelView.as_view()),
    re_path(
        r"^webhook-management/configure/(?P<session_id>\d+)/?$",
        receive_mode.ConfigureWebhookView.as_view(),
    ),
    *router.urls,
]
