"""One's own account: name, appearance, signature, password, API keys."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.generic import View

from accounts import profiles, team
from accounts.access import StaffPermissionRequiredMixin, user_of
from accounts.forms import KeyForm, ProfileForm
from accounts.models import Profile

YEAR = 365 * 24 * 3600


class AccountView(StaffPermissionRequiredMixin, View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return account_page(request)

    def post(self, request: HttpRequest) -> HttpResponse:
        user = user_of(request)
        form = ProfileForm(request.POST, instance=profiles.of(user))
        if not form.is_valid():
            return account_page(request, form=form, status=400)
        first, _space, last = form.cleaned_data["first_name"].strip().partition(" ")
        user.first_name, user.last_name = first, last.strip()
        user.save(update_fields=["first_name", "last_name"])
        profile: Profile = form.save()
        messages.success(request, _("Saved"))
        response = redirect("account:account")
        # A page is drawn in the chosen colors before anything is read from the database.
        response.set_cookie(
            "theme", profile.theme, max_age=YEAR, samesite="Lax",
            secure=bool(settings.SESSION_COOKIE_SECURE),
        )  # fmt: skip
        return response


class PasswordView(StaffPermissionRequiredMixin, View):
    def post(self, request: HttpRequest) -> HttpResponse:
        form = PasswordChangeForm(user_of(request), request.POST)
        if not form.is_valid():
            return account_page(request, password_form=form, status=400)
        update_session_auth_hash(request, form.save())
        messages.success(request, _("Your password has changed. Other sessions have ended."))
        return redirect("account:account")


class KeysView(StaffPermissionRequiredMixin, View):
    """Make an API key, which is shown once."""

    def post(self, request: HttpRequest) -> HttpResponse:
        form = KeyForm(request.POST)
        if not form.is_valid():
            return account_page(request, key_form=form, status=400)
        values = form.cleaned_data
        days = int(values["days"]) if values["days"] else None
        _key, secret = team.create_key(
            user_of(request), name=values["name"], scope=values["scope"], days=days
        )
        response = account_page(request, secret=secret)
        response.headers["Cache-Control"] = "no-store"
        return response


class RevokeKeyView(StaffPermissionRequiredMixin, View):
    def post(self, request: HttpRequest, key: str) -> HttpResponse:
        get_object_or_404(team.keys_of(user_of(request)), token_key=key).delete()
        return redirect("account:account")


def account_page(
    request: HttpRequest,
    *,
    form: ProfileForm | None = None,
    password_form: PasswordChangeForm | None = None,
    key_form: KeyForm | None = None,
    secret: str = "",
    status: int = 200,
) -> HttpResponse:
    user = user_of(request)
    initial = {"first_name": user.get_full_name()}
    context = {
        "form": form or ProfileForm(instance=profiles.of(user), initial=initial),
        "password_form": password_form or _without_focus(PasswordChangeForm(user)),
        "key_form": key_form or KeyForm(),
        "keys": team.keys_of(user),
        "secret": secret,
    }
    return render(request, "account/account.html", context, status=status)


def _without_focus(form: PasswordChangeForm) -> PasswordChangeForm:
    # Django's form takes the focus, but here it is one of several.
    del form.fields["old_password"].widget.attrs["autofocus"]
    return form
