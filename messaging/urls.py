from __future__ import annotations

from django.urls import path

from messaging import views

app_name = "messaging"

urlpatterns = [
    path("", views.DashboardView.as_view(), name="dashboard"),
    path("conversations/", views.ConversationListView.as_view(), name="conversations"),
    path("conversations/new/", views.NewMessageView.as_view(), name="new"),
    path("conversations/<int:pk>/", views.ConversationView.as_view(), name="conversation"),
    path("conversations/<int:pk>/older/", views.OlderMessagesView.as_view(), name="older"),
    path("conversations/<int:pk>/seen/", views.MarkReadView.as_view(), name="seen"),
    path("conversations/<int:pk>/call/", views.CallView.as_view(), name="call"),
    path("messages/held/", views.HeldView.as_view(), name="held"),
    path("messages/<uuid:pk>/", views.MessageView.as_view(), name="message"),
    path("messages/<uuid:pk>/confirm/", views.ConfirmView.as_view(), name="confirm"),
    path("messages/<uuid:pk>/fetch/", views.FetchView.as_view(), name="fetch"),
    path("media/<uuid:pk>/", views.MediaView.as_view(), name="media"),
    path("help/errors/", views.ErrorTableView.as_view(), name="errors"),
    path("messages/<uuid:pk>/retry/", views.RetryView.as_view(), name="retry"),
]
