from __future__ import annotations

from django.contrib.auth import views as auth_views
from django.urls import path

from accounts.views import language

app_name = "accounts"

urlpatterns = [
    path("login/", auth_views.LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("language/", language.set_language, name="set-language"),
]
