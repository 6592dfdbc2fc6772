from __future__ import annotations

from django.urls import path

from accounts.views import account

app_name = "account"

urlpatterns = [
    path("", account.AccountView.as_view(), name="account"),
    path("password/", account.PasswordView.as_view(), name="password"),
    path("keys/", account.KeysView.as_view(), name="keys"),
    path("keys/<str:key>/revoke/", account.RevokeKeyView.as_view(), name="revoke_key"),
]
