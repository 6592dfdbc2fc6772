from __future__ import annotations

from django.urls import path

from instances import connection_views as connection
from instances import views

app_name = "instances"

_CONNECTION = "<str:instance_name>/connection/"

urlpatterns = [
    path("", views.InstanceListView.as_view(), name="list"),
    path("<str:instance_name>/", views.InstanceView.as_view(), name="detail"),
    path("<str:instance_name>/switch/", views.SwitchView.as_view(), name="switch"),
    path("<str:instance_name>/repair/", views.RepairView.as_view(), name="repair"),
    path("<str:instance_name>/cancel/", views.CancelView.as_view(), name="cancel"),
    path("<str:instance_name>/check/", views.CheckView.as_view(), name="check"),
    path(f"{_CONNECTION}ask/", connection.AskView.as_view(), name="ask"),
    path(f"{_CONNECTION}reconnect/", connection.ReconnectView.as_view(), name="reconnect"),
    path(
        f"{_CONNECTION}confirm-number/",
        connection.ConfirmNumberView.as_view(),
        name="confirm_number",
    ),
    path(f"{_CONNECTION}log-out/", connection.LogOutView.as_view(), name="log_out"),
    path(f"{_CONNECTION}delete/", connection.DeleteView.as_view(), name="delete"),
    path(f"{_CONNECTION}dialog/", connection.QrDialogView.as_view(), name="qr_dialog"),
    path(f"{_CONNECTION}qr/", connection.QrView.as_view(), name="qr"),
    path(f"{_CONNECTION}pairing/", connection.PairingView.as_view(), name="pairing"),
    path(f"{_CONNECTION}picture/", connection.PictureView.as_view(), name="picture"),
]
