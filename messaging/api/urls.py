from __future__ import annotations

from django.urls import include, path
from rest_framework.routers import DefaultRouter

from channels_app.api.channels import ChannelViewSet
from channels_app.api.templates import TemplateViewSet
from messaging.api.contacts import ContactViewSet
from messaging.api.costs import CostsView
from messaging.api.inbox import LabelViewSet, QuickReplyViewSet, SearchView, TeamViewSet
from messaging.api.views import ConversationViewSet, MediaViewSet, MessageViewSet

router = DefaultRouter()
router.include_root_view = False
router.include_format_suffixes = False
router.register("channels", ChannelViewSet, basename="channel")
router.register("templates", TemplateViewSet, basename="template")
router.register("messages", MessageViewSet, basename="message")
router.register("media", MediaViewSet, basename="media")
router.register("contacts", ContactViewSet, basename="contact")
router.register("conversations", ConversationViewSet, basename="conversation")
router.register("quick-replies", QuickReplyViewSet, basename="quick-reply")
router.register("labels", LabelViewSet, basename="label")
router.register("teams", TeamViewSet, basename="team")

urlpatterns = [
    *router.urls,
    path("search/", SearchView.as_view(), name="search"),
    path("costs/", CostsView.as_view(), name="costs"),
    path("", include("channels_app.api.urls")),
]
