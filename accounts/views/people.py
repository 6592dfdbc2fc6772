"""The team's pages: people, invitations, teams."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.generic import View

from accounts import roles, team
from accounts.access import StaffPermissionRequiredMixin, user_of
from accounts.forms import InviteForm, JoinForm, MemberForm, TeamForm
from accounts.models import Invitation, Team

BACKEND = "django.contrib.auth.backends.ModelBackend"


class PeopleView(StaffPermissionRequiredMixin, View):
    """Everybody, the teams and the open invitations. A POST invites somebody."""

    permissions = ("accounts.view_team",)
    write_permissions = (team.MANAGE,)

    def get(self, request: HttpRequest) -> HttpResponse:
        return self._page(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        form = InviteForm(request.POST, by=user_of(request))
        if not form.is_valid():
            return self._page(request, form=form, status=400)
        _invitation, secret = team.invite(by=user_of(request), **form.cleaned_data)
        link = request.build_absolute_uri(reverse("team:join", args=[secret]))
        response = self._page(request, link=link)
        response.headers["Cache-Control"] = "no-store"  # the link is a secret
        return response

    def _page(
        self,
        request: HttpRequest,
        *,
        form: InviteForm | None = None,
        link: str = "",
        status: int = 200,
    ) -> HttpResponse:
        by = user_of(request)
        manages = by.has_perm(team.MANAGE)
        rows = [
            {
                "person": person,
                "role": roles.LABELS.get(roles.of(person), _("Own rights")),
                "may_manage": manages and team.may_manage(by, person),
            }
            for person in team.people()
        ]
        context = {
            "rows": rows,
            "teams": Team.objects.prefetch_related("members"),
            "manages": manages,
            "form": form or (InviteForm(by=by, initial={"role": roles.AGENT}) if manages else None),
            "link": link,
            "invitations": _labeled(team.open_invitations()) if manages else [],
            "role_words": [(roles.LABELS[role], roles.WORDS[role]) for role in roles.ROLES],
        }
        return render(request, "team/people.html", context, status=status)


class PersonView(StaffPermissionRequiredMixin, View):
    """One person's role, teams and access."""

    permissions = ("accounts.view_team", team.MANAGE)

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._page(request, _person(pk))

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        person, by = _person(pk), user_of(request)
        action = request.POST.get("action", "")
        form = None if action else MemberForm(request.POST, by=by, initial=_as_is(person))
        if form is not None and not form.is_valid():
            return self._page(request, person, form=form, status=400)
        try:
            if action == "deactivate":
                team.deactivate(person, by=by)
            elif action == "reactivate":
                team.reactivate(person, by=by)
            elif form is not None:
                team.change(person, by=by, **form.cleaned_data)
        except ValidationError as error:
            return self._page(request, person, errors=error.messages, status=400)
        messages.success(request, _("Saved"))
        return redirect("team:people")

    def _page(
        self,
        request: HttpRequest,
        person: User,
        *,
        form: MemberForm | None = None,
        errors: list[Any] | None = None,
        status: int = 200,
    ) -> HttpResponse:
        by = user_of(request)
        context = {
            "person": person,
            "role": roles.LABELS.get(roles.of(person), _("Own rights")),
            "form": form or MemberForm(by=by, initial=_as_is(person)),
            "may_manage": team.may_manage(by, person),
            "errors": errors or [],
        }
        return render(request, "team/person.html", context, status=status)


class WithdrawView(StaffPermissionRequiredMixin, View):
    permissions = (team.MANAGE,)

    def post(self, request: HttpRequest, pk: str) -> HttpResponse:
        team.withdraw(get_object_or_404(Invitation, pk=pk, accepted_at=None), by=user_of(request))
        return redirect("team:people")


class TeamView(StaffPermissionRequiredMixin, View):
    """A team's name and members; without `pk` a new one."""

    permissions = ("accounts.view_team", "accounts.change_team")

    def get(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        return self._page(request, TeamForm(instance=_team(pk)))

    def post(self, request: HttpRequest, pk: int | None = None) -> HttpResponse:
        found = _team(pk)
        if "delete" in request.POST and found is not None:
            found.delete()
            return redirect("team:people")
        form = TeamForm(request.POST, instance=found)
        if not form.is_valid():
            return self._page(request, form, status=400)
        form.save()
        return redirect("team:people")

    def _page(self, request: HttpRequest, form: TeamForm, status: int = 200) -> HttpResponse:
        return render(request, "team/team.html", {"form": form}, status=status)


class JoinView(View):
    """The page of an invitation's link."""

    def get(self, request: HttpRequest, secret: str) -> HttpResponse:
        return self._page(request, secret, JoinForm())

    def post(self, request: HttpRequest, secret: str) -> HttpResponse:
        form = JoinForm(request.POST)
        if form.is_valid():
            try:
                user = team.accept(secret, **form.cleaned_data)
            except ValidationError as error:
                for field, problems in error.message_dict.items():
                    form.add_error(field if field in form.fields else None, problems)
            else:
                login(request, user, backend=BACKEND)
                return redirect("/")
        return self._page(request, secret, form, status=400)

    def _page(
        self, request: HttpRequest, secret: str, form: JoinForm, status: int = 200
    ) -> HttpResponse:
        invitation = team.open_invitation(secret)
        if invitation is None:
            return render(request, "team/join_ended.html", status=410)
        context = {"form": form, "role": roles.LABELS.get(invitation.role, "")}
        response = render(request, "team/join.html", context, status=status)
        # The address is a secret: no other site may learn it.
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def _labeled(invitations: Any) -> list[dict[str, Any]]:
    return [
        {"invitation": one, "role": roles.LABELS.get(one.role, one.role)} for one in invitations
    ]


def _as_is(person: User) -> dict[str, Any]:
    return {"role": roles.of(person), "teams": person.teams.all()}


def _person(pk: int) -> User:
    return get_object_or_404(team.people(), pk=pk)


def _team(pk: int | None) -> Team | None:
    return None if pk is None else get_object_or_404(Team, pk=pk)
