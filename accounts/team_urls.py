from __future__ import annotations

from django.urls import path

from accounts.views import people

app_name = "team"

urlpatterns = [
    path("", people.PeopleView.as_view(), name="people"),
    path("people/<int:pk>/", people.PersonView.as_view(), name="person"),
    path("teams/new/", people.TeamView.as_view(), name="new_team"),
    path("teams/<int:pk>/", people.TeamView.as_view(), name="team"),
    path("invitations/<str:pk>/withdraw/", people.WithdrawView.as_view(), name="withdraw"),
    path("join/<str:secret>/", people.JoinView.as_view(), name="join"),
]
