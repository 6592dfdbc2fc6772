from __future__ import annotations

from urllib.parse import unquote

from django.urls import path, register_converter

from channels_app.views import sessions
from instances.views import connections as connection
from instances.views import receive_mode
from instances.views.connections import INSTANCE

app_name = "instances"


class InstanceName:
    """An instance name in a URL. Evolution accepts any name, including slashes.

    Servers decode a URL before they split its path, so an encoded slash looks like a separator.
    Slashes, and the percent sign that encodes them, are therefore encoded twice.
    """

    regex = ".+?"

    def to_python(self, value: str) -> str:
        return unquote(value)

    def to_url(self, value: str) -> str:
        return value.replace("%", "%25").replace("/", "%2F")


register_converter(InstanceName, "instance_name")

_NAME = "<instance_name:instance_name>"
_CONNECTION = f"{_NAME}/connection/"

urlpatterns = [
    path("", receive_mode.InstanceListView.as_view(), name="list"),
    path(f"{_NAME}/switch/", receive_mode.SwitchView.as_view(), name="switch"),
    path(f"{_NAME}/repair/", receive_mode.RepairView.as_view(), name="repair"),
    path(f"{_NAME}/cancel/", receive_mode.CancelView.as_view(), name="cancel"),
    path(f"{_NAME}/check/", receive_mode.CheckView.as_view(), name="check"),
    path(f"{_CONNECTION}ask/", sessions.CheckView.as_view(pages=INSTANCE), name="ask"),
    path(f"{_CONNECTION}reconnect/", connection.ReconnectView.as_view(), name="reconnect"),
    path(
        f"{_CONNECTION}confirm-number/",
        sessions.ConfirmNumberView.as_view(pages=INSTANCE),
        name="confirm_number",
    ),
    path(f"{_CONNECTION}log-out/", connection.LogOutView.as_view(), name="log_out"),
    path(f"{_CONNECTION}delete/", connection.DeleteView.as_view(), name="delete"),
    path(f"{_CONNECTION}dialog/", sessions.QrDialogView.as_view(pages=INSTANCE), name="qr_dialog"),
    path(f"{_CONNECTION}qr/", sessions.QrView.as_view(pages=INSTANCE), name="qr"),
    path(f"{_CONNECTION}pairing/", sessions.PairingView.as_view(pages=INSTANCE), name="pairing"),
    path(f"{_CONNECTION}picture/", connection.PictureView.as_view(), name="picture"),
    # Last: it also matches names typed with unencoded slashes.
    path(f"{_NAME}/", receive_mode.InstanceView.as_view(), name="detail"),
]
