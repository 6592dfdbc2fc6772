from __future__ import annotations

from django.urls import path

from messaging.views import (
    calls,
    compose,
    contacts,
    conversations,
    costs,
    dashboard,
    errors,
    inbox,
    messages,
    panel,
    template_picker,
    verdict,
    work,
)

app_name = "messaging"

urlpatterns = [
    path("", dashboard.DashboardView.as_view(), name="dashboard"),
    path("conversations/", inbox.ConversationListView.as_view(), name="conversations"),
    path("conversations/counts/", inbox.InboxCountsView.as_view(), name="counts"),
    path("conversations/new/", conversations.NewMessageView.as_view(), name="new"),
    path(
        "conversations/templates/",
        template_picker.TemplatePickerView.as_view(),
        name="templates",
    ),
    path(
        "conversations/templates/<int:pk>/",
        template_picker.SendTemplateView.as_view(),
        name="send_template",
    ),
    path(
        "conversations/templates/<int:pk>/check/",
        template_picker.CheckTemplateView.as_view(),
        name="check_template",
    ),
    path("conversations/<int:pk>/", conversations.ConversationView.as_view(), name="conversation"),
    path("conversations/<int:pk>/older/", conversations.OlderMessagesView.as_view(), name="older"),
    path("conversations/<int:pk>/seen/", conversations.MarkReadView.as_view(), name="seen"),
    path("conversations/<int:pk>/work/", work.WorkView.as_view(), name="work"),
    path("conversations/<int:pk>/unread/", work.MarkUnreadView.as_view(), name="unread"),
    path("conversations/<int:pk>/people/", work.PeopleView.as_view(), name="people"),
    path("conversations/<int:pk>/notes/", work.NoteView.as_view(), name="note"),
    path("conversations/<int:pk>/labels/", work.ConversationLabelView.as_view(), name="label"),
    path("conversations/<int:pk>/panel/", panel.PanelView.as_view(), name="panel"),
    path("labels/", work.LabelsView.as_view(), name="labels"),
    path("conversations/<int:pk>/call/", calls.CallView.as_view(), name="call"),
    path("conversations/<int:pk>/ask/", contacts.AskForNumberView.as_view(), name="ask_for_number"),
    path("contacts/<int:pk>/", contacts.ContactView.as_view(), name="contact"),
    path("contacts/<int:pk>/picture/", contacts.PictureView.as_view(), name="contact_picture"),
    path("messages/held/", messages.HeldView.as_view(), name="held"),
    path("messages/<uuid:pk>/", messages.MessageView.as_view(), name="message"),
    path("messages/<uuid:pk>/confirm/", messages.ConfirmView.as_view(), name="confirm"),
    path("messages/<uuid:pk>/cancel/", messages.CancelView.as_view(), name="cancel"),
    path("messages/<uuid:pk>/fetch/", messages.FetchView.as_view(), name="fetch"),
    path("costs/", costs.CostsView.as_view(), name="costs"),
    path("conversations/<int:pk>/verdict/", verdict.VerdictView.as_view(), name="verdict"),
    path("media/<uuid:pk>/", messages.MediaView.as_view(), name="media"),
    path("help/errors/", errors.ErrorTableView.as_view(), name="errors"),
    path("messages/<uuid:pk>/react/", compose.ReactView.as_view(), name="react"),
    path("messages/<uuid:pk>/forward/", compose.ForwardView.as_view(), name="forward"),
    path("quick-replies/", compose.QuickRepliesView.as_view(), name="quick_replies"),
    path(
        "quick-replies/<int:pk>/delete/",
        compose.DeleteQuickReplyView.as_view(),
        name="delete_quick_reply",
    ),
    path("messages/<uuid:pk>/retry/", messages.RetryView.as_view(), name="retry"),
]
