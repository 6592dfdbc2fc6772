from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView

from config import health, webhook_urls
from config.schema import DocsView

handler400 = "config.api.bad_request"
handler404 = "config.api.not_found"
handler500 = "config.api.server_error"

urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("admin/", admin.site.urls),
    path("accounts/", include("accounts.urls")),
    path("account/", include("accounts.account_urls")),
    path("team/", include("accounts.team_urls")),
    path("channels/", include("channels_app.urls")),
    path("instances/", include("instances.urls")),
    path("templates/", include("messaging.template_urls")),
    path("help/", include("channels_app.help_urls")),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    # The split view: the content security policy forbids inline scripts.
    path("api/docs/", DocsView.as_view(url_name="schema"), name="docs"),
    path("api/", include("messaging.api.urls")),
    path("api/", include("instances.api.urls")),
    *webhook_urls.urlpatterns,
    # Last: otherwise every other URL would be compared with all of these first.
    path("", include("messaging.urls")),
]
