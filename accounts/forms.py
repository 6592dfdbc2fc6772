"""The forms of the team and of one's own account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib.auth.models import User
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from accounts import roles, team
from accounts.models import ApiToken, Profile, Team

if TYPE_CHECKING:
    _TeamForm = forms.ModelForm[Team]
    _ProfileForm = forms.ModelForm[Profile]
else:
    _TeamForm = _ProfileForm = forms.ModelForm

DAYS = [("30", _("30 days")), ("90", _("90 days")), ("365", _("one year")), ("", _("no end"))]


class MemberForm(forms.Form):
    """A person's role and teams, as far as the one who gives them may."""

    role = forms.ChoiceField(label=_("Role"))
    teams = forms.ModelMultipleChoiceField(
        Team.objects.all(),
        label=_("Teams"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, *args: Any, by: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["role"]
        assert isinstance(field, forms.ChoiceField)
        given = [(role, roles.LABELS[role]) for role in team.roles_given_by(by)]
        # Rights of one's own are no role: they stay as they are until somebody gives one.
        own = self.initial.get("role") == ""
        field.choices = [("", _("Own rights")), *given] if own else given
        field.required = not own


class InviteForm(MemberForm):
    note = forms.CharField(
        label=_("For whom"),
        max_length=100,
        required=False,
        help_text=_("So that you recognize the invitation. The person chooses their own name."),
    )
    field_order = ["note", "role", "teams"]


class JoinForm(forms.Form):
    """What an invited person chooses."""

    name = forms.CharField(label=_("Your name"), max_length=150)
    username = forms.CharField(label=_("User name"), max_length=150)
    password = forms.CharField(
        label=_("Password"),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        strip=False,
    )


class TeamForm(_TeamForm):
    class Meta:
        model = Team
        fields = ["name", "members"]
        widgets = {"members": forms.CheckboxSelectMultiple}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        members = self.fields["members"]
        assert isinstance(members, forms.ModelMultipleChoiceField)
        # Whoever is deactivated keeps their teams, but is put into no other one.
        kept = self.instance.members.all() if self.instance.pk else User.objects.none()
        members.queryset = team.people().filter(Q(is_active=True) | Q(pk__in=kept))


class ProfileForm(_ProfileForm):
    first_name = forms.CharField(label=_("Your name"), max_length=150, required=False)

    class Meta:
        model = Profile
        fields = ["theme", "signature", "signature_on"]
        help_texts = {
            "signature": _("For example your first name, under each text that you write.")
        }

    field_order = ["first_name"]


class KeyForm(forms.Form):
    name = forms.CharField(label=_("What the key is for"), max_length=100)
    scope = forms.ChoiceField(label=_("It may do"), choices=ApiToken.Scope.choices)
    days = forms.ChoiceField(label=_("Valid for"), choices=DAYS, required=False, initial="365")
