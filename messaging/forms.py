"""The forms of the conversation pages."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy

from channels_app.models import Channel
from messaging.inbox.lists import Tab
from messaging.models import Label

MAX_TEXT = 4096


class FilterForm(forms.Form):
    """The filters of the list, which combine. An invalid value is ignored."""

    search = forms.CharField(
        label=gettext_lazy("Search people and messages"),
        required=False,
        max_length=100,
        widget=forms.TextInput(
            attrs={"type": "search", "placeholder": gettext_lazy("Search people and messages")}
        ),
    )
    tab = forms.ChoiceField(choices=Tab.choices, required=False)
    channel = forms.ModelChoiceField(
        Channel.objects.all(),
        label=gettext_lazy("Channel"),
        required=False,
        empty_label=gettext_lazy("All channels"),
        widget=forms.Select(attrs={"class": "chip chip-select"}),
    )
    label = forms.ModelChoiceField(
        Label.objects.all(),
        to_field_name="name",
        label=gettext_lazy("Label"),
        required=False,
        empty_label=gettext_lazy("All labels"),
        widget=forms.Select(attrs={"class": "chip chip-select"}),
    )


class NewMessageForm(forms.Form):
    """Starts a conversation. `accept_message` validates the content."""

    channel = forms.ModelChoiceField(
        # Official ones first: they have a fallback.
        Channel.objects.filter(active=True).order_by("-kind", "name"),
        label=gettext_lazy("Channel"),
        empty_label=None,
    )
    to = forms.CharField(
        label=gettext_lazy("Phone number"),
        max_length=40,
        widget=forms.TextInput(
            attrs={"type": "tel", "placeholder": "+55 11 99999-8888", "autocomplete": "off"}
        ),
        help_text=gettext_lazy("With country and area code."),
    )
    text = forms.CharField(
        label=gettext_lazy("Message"),
        max_length=MAX_TEXT,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 3, "data-counter": MAX_TEXT}),
    )
