"""Who answers the new conversations of a channel, its greeting, and when it is open."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from accounts import people
from accounts.models import Team
from channels_app import opening_hours
from channels_app.channels import save_channel
from channels_app.models import Channel

DAY_NAMES = {
    "mon": _("Monday"),
    "tue": _("Tuesday"),
    "wed": _("Wednesday"),
    "thu": _("Thursday"),
    "fri": _("Friday"),
    "sat": _("Saturday"),
    "sun": _("Sunday"),
}
OWN = ("team", "assignee", "greeting", "away_message", "time_zone")


class PeriodsField(forms.CharField):
    """The periods of one day, as people write them. Empty: closed."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"placeholder": _("closed"), "autocomplete": "off"}
        super().__init__(required=False, max_length=120, widget=forms.TextInput(attrs), **kwargs)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        try:
            return opening_hours.from_text(text)
        except ValueError:
            raise ValidationError(
                _("Write the hours as 08:00-12:00, 13:00-18:00."), code="invalid"
            ) from None


class InboxForm(forms.Form):
    team = forms.ModelChoiceField(
        Team.objects.all(),
        label=_("Team"),
        required=False,
        empty_label=_("No team"),
        help_text=_("New conversations go to this team."),
    )
    assignee = forms.ModelChoiceField(
        people.active_staff(),
        label=_("Person"),
        required=False,
        empty_label=_("Nobody: whoever is free takes them"),
        help_text=_("New conversations go to this person."),
    )
    greeting = forms.CharField(
        label=_("Greeting"),
        required=False,
        max_length=1024,
        widget=forms.Textarea({"rows": 3}),
        help_text=_(
            "Sent once a day to a customer who writes while you are open and whom nobody has"
            " answered in the last 12 hours. Leave it empty to send none."
        ),
    )
    away_message = forms.CharField(
        label=_("Out-of-hours answer"),
        required=False,
        max_length=1024,
        widget=forms.Textarea({"rows": 3}),
        help_text=_("Sent once a day to a customer who writes while you are closed."),
    )
    time_zone = forms.CharField(
        label=_("Time zone"),
        required=False,
        max_length=64,
        widget=forms.TextInput({"placeholder": settings.TIME_ZONE}),
        help_text=_("Only if it is not that of the installation."),
    )

    def __init__(self, data: Any, *, channel: Channel, may_change: bool) -> None:
        hours = channel.opening_hours
        initial = {name: getattr(channel, name) for name in OWN} | {
            day: opening_hours.to_text(periods) for day, periods in hours.items()
        }
        super().__init__(data, initial=initial)
        self.channel = channel
        for day, name in DAY_NAMES.items():
            self.fields[day] = PeriodsField(label=name)
        for field in self.fields.values():
            field.disabled = not may_change

    @property
    def days(self) -> list[forms.BoundField]:
        """The fields of the days of the week."""
        return [self[day] for day in DAY_NAMES]

    def clean_time_zone(self) -> str:
        name = str(self.cleaned_data["time_zone"])
        if name and not opening_hours.is_time_zone(name):
            raise ValidationError(_("There is no such time zone."))
        return name

    def clean(self) -> dict[str, Any]:
        cleaned = dict(super().clean() or {})
        has_hours = any(cleaned.get(day) for day in DAY_NAMES)
        if cleaned.get("away_message") and not has_hours and not self.errors:
            self.add_error(
                "away_message", _("Enter the opening hours, too: without them you are always open.")
            )
        return cleaned

    def save(self) -> Channel:
        """Store the settings of a valid form."""
        for name in OWN:
            setattr(self.channel, name, self.cleaned_data[name])
        hours = {day: self.cleaned_data[day] for day in DAY_NAMES}
        self.channel.opening_hours = {day: periods for day, periods in hours.items() if periods}
        return save_channel(self.channel)
