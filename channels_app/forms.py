"""Channel forms. A stored secret is never rendered: it can only be replaced or cleared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.forms.utils import flatatt
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from channels_app.channels import save_channel
from channels_app.connections import remote_sessions
from channels_app.models import Channel, FallbackChoice, Provider
from channels_app.models.credentials import SETTINGS
from channels_app.providers import engines

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    _ChannelModelForm = forms.ModelForm[Channel]
else:
    _ChannelModelForm = forms.ModelForm

# Secrets that some kind of channel requires, so they cannot be cleared.
REQUIRED_SECRETS = [
    setting.name
    for engine in engines.with_channels()
    for setting in engine.settings
    if setting.required and setting.name in Channel.SECRETS
]

_CLEAR: Final = object()


class SecretInput(forms.PasswordInput):
    """A password input that never renders its value, with a checkbox to clear a stored one."""

    is_set = False
    clearable = False

    def __init__(self, attrs: Mapping[str, Any] | None = None) -> None:
        # Otherwise password managers would offer to save or fill in the person's own login.
        super().__init__({"autocomplete": "new-password", "spellcheck": "false", **(attrs or {})})

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        if self.is_set:
            attrs = {**(attrs or {}), "placeholder": _("Already saved. Leave empty to keep it")}
        context = {
            "input": super().render(name, None, attrs, renderer),
            "clear_name": self._clear_name(name) if self.is_set and self.clearable else "",
        }
        # Form renderers do not search the project's templates.
        return mark_safe(render_to_string("channels_app/_secret.html", context))  # noqa: S308

    def value_from_datadict(self, data: Mapping[str, Any], files: Any, name: str) -> Any:
        if data.get(name):
            return data[name]
        return _CLEAR if self.clearable and data.get(self._clear_name(name)) else ""

    def _clear_name(self, name: str) -> str:
        return f"{name}-clear"


class SecretField(forms.CharField):
    """A write-only secret. Cleaned to the new text, "" to leave it unchanged, or _CLEAR."""

    widget = SecretInput

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(required=False, **kwargs)

    def clean(self, value: Any) -> Any:
        return _CLEAR if value is _CLEAR else super().clean(value)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return bool(data)


class FallbackListWidget(forms.Widget):
    """A numbered select for each chosen fallback, and an empty one to add another.

    `start` is the number of the first. Selecting “None” removes one.
    """

    choices: Sequence[tuple[str, str]] = ()

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        attrs = {**(attrs or {})}
        base = attrs.pop("id", f"id_{name}")
        chosen = list(value or [])
        rows = [
            {
                "position": self.start + index,
                "id": f"{base}_{index}",
                "value": one,
                "is_last": index == len(chosen),
            }
            for index, one in enumerate([*chosen, ""])
            if one or not attrs.get("disabled")
        ]
        context = {"name": name, "rows": rows, "choices": self.choices, "attrs": flatatt(attrs)}
        return mark_safe(render_to_string("channels_app/_fallback_list.html", context))  # noqa: S308

    def id_for_label(self, id_: str, index: str | None = None) -> str:
        return f"{id_}_0"

    def value_from_datadict(self, data: Any, files: Any, name: str) -> list[str]:
        values = data.getlist(name) if hasattr(data, "getlist") else data.get(name, [])
        return [value for value in values if value]

    def value_omitted_from_data(self, data: Any, files: Any, name: str) -> bool:
        return name not in data


class FallbackListField(forms.Field):
    """Ranked fallbacks. Cleaned to a list of FallbackChoice; "wwebjs" or a channel's id each."""

    def __init__(self, *, start: int, **kwargs: Any) -> None:
        super().__init__(required=False, widget=FallbackListWidget(start), **kwargs)
        self.channels: dict[str, Channel] = {}

    def offer(self, channels: Sequence[Channel]) -> None:
        """Offer the attached wwebjs session and these channels."""
        self.channels = {str(channel.pk): channel for channel in channels}
        named = [
            (pk, f"{engines.label(channel.kind)}: {channel.name}")
            for pk, channel in self.channels.items()
        ]
        widget = cast("FallbackListWidget", self.widget)
        widget.choices = [(Provider.WWEBJS.value, "WWebJS"), *named]

    @staticmethod
    def initial_for(fallbacks: Iterable[FallbackChoice]) -> list[str]:
        """Return the field's initial value, in the form in which it is submitted."""
        return [str(one.channel.pk) if one.channel else one.kind for one in fallbacks]

    def to_python(self, value: Any) -> list[FallbackChoice]:
        return [self._choice(one) for one in value or ()]

    def _choice(self, value: str) -> FallbackChoice:
        if value == Provider.WWEBJS:
            return FallbackChoice(value)
        if value not in self.channels:
            raise ValidationError(_("Choose an active Baileys channel."))
        return FallbackChoice(self.channels[value].kind, self.channels[value])

    def has_changed(self, initial: Any, data: Any) -> bool:
        return list(initial or ()) != list(data or ())


# The fields of the providers' settings, which are columns of their credentials.
_SETTING_FIELDS = {name: setting.field.formfield() for name, setting in SETTINGS.items()}
_SettingsForm: Any = type("_SettingsForm", (_ChannelModelForm,), _SETTING_FIELDS)


class SecretsForm(_SettingsForm):
    """Base of every form of a channel: its secrets are write-only.

    A person who enters another server or session must choose what to do with the current one.
    """

    PREVIOUS: ClassVar[str] = "previous_session"
    # Where the form shows the model's errors about the first fallback, and about the others.
    FALLBACK_FIELDS: ClassVar[dict[str, str]] = {}
    # The stored channel, if the changes would abandon its session.
    abandoning: Channel | None = None

    def _ask_for_previous_session(self) -> None:
        """Add the choices for the current session, if there is one."""
        stored = Channel.objects.filter(pk=self.instance.pk).first()
        remote = remote_sessions.session_of(stored) if stored is not None else None
        if remote is None:
            return
        self.fields[self.PREVIOUS] = forms.ChoiceField(
            label=remote_sessions.question(remote),
            choices=[("", "---------"), *remote.choices],
            required=False,
            help_text=_("Required if you change the server, session or fallback."),
        )

    def _post_clean(self) -> None:
        for name in SETTINGS.keys() & self.cleaned_data.keys():
            setattr(self.instance, name, self.cleaned_data[name])
        super()._post_clean()
        stored = Channel.objects.filter(pk=self.instance.pk).first()
        if stored is None or not remote_sessions.session_abandoned_by(stored, self.instance):
            return
        self.abandoning = stored
        if self.PREVIOUS not in self.fields:
            # The admin saves inside a transaction, which must not wait for a server.
            text = _("It has a session on its server. Change this on the channel's page.")
            self.add_error(None, text)
        elif not self.cleaned_data.get(self.PREVIOUS):
            self.add_error(self.PREVIOUS, _("Choose what to do with the current session."))

    def _fallback_channels(self) -> list[Channel]:
        """Return the channels that can be fallbacks.

        A chosen one stays in the list if it becomes inactive, or saving the page would silently
        remove it.
        """
        chosen = [one.channel.pk for one in self.instance.fallbacks if one.channel]
        active = Q(kind__in=engines.fallbacks(), active=True)
        channels = Channel.objects.filter(active | Q(pk__in=chosen))
        return list(channels.exclude(pk=self.instance.pk))

    def _update_errors(self, errors: ValidationError) -> None:
        """Move the model's errors of fields that are not in this form to the matching field."""
        if hasattr(errors, "error_dict"):
            for name in [name for name in errors.error_dict if name not in self.fields]:
                target = self.FALLBACK_FIELDS.get(name, "__all__")
                if name != "__all__":
                    errors.error_dict.setdefault(target, []).extend(errors.error_dict.pop(name))
        super()._update_errors(errors)

    def save(self, commit: bool = True) -> Channel:
        """Store the channel by `save_channel`, which lets everything follow its settings."""
        return save_channel(self.instance) if commit else super().save(commit=False)

    def end_previous_session(self, user: User | None) -> str:
        """Apply the choice before the form is saved; see `remote_sessions.end`."""
        if self.abandoning is None:
            return ""
        return remote_sessions.end(self.abandoning, self.cleaned_data[self.PREVIOUS], user=user)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in (SETTINGS.keys() & self.fields.keys()).difference(Channel.SECRETS):
            self.initial.setdefault(name, getattr(self.instance, name))
        for name in Channel.SECRETS:
            self.initial.pop(name, None)
            if name not in self.fields:
                continue
            field = SecretField(
                label=self.fields[name].label, help_text=self.fields[name].help_text
            )
            widget = cast("SecretInput", field.widget)
            widget.is_set = bool(getattr(self.instance, name))
            widget.clearable = name not in REQUIRED_SECRETS
            self.fields[name] = field

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name in Channel.SECRETS:
            if name in cleaned:
                typed = cleaned[name]
                cleaned[name] = "" if typed is _CLEAR else typed or getattr(self.instance, name)
        return cleaned


class ChannelForm(SecretsForm):
    """The form of a channel's page. The kind is chosen on creation and never changes.

    The WWebJS checkbox and the Baileys channel are alternatives for the first fallback; only one
    can be set. `more_fallbacks` are tried after it, in their order.
    """

    FALLBACK_FIELDS: ClassVar = {"fallbacks": "more_fallbacks"}

    # The fields of official channels only, besides the settings of their connection.
    OFFICIAL = (
        *(one.name for one in engines.by_name(Provider.WWEBJS).settings),
        "wwebjs_enabled",
        "fallback_channel",
        "more_fallbacks",
        "official_retries",
        "confirm_seconds",
        "on_unconfirmed",
        "on_undelivered",
        "fallback_max_age_minutes",
        "fallback_per_minute",
        "fallback_new_chats_per_day",
        "fallback_despite_limits",
        "messages_per_second",
    )

    wwebjs_enabled = forms.BooleanField(label=_("Enable the unofficial WWebJS API"), required=False)
    fallback_channel = forms.ModelChoiceField(
        Channel.objects.none(),
        required=False,
        label=_("Baileys connection that sends messages in fallback mode"),
        help_text=_(
            "Messages that the official API rejects are sent from the number chosen here. "
            "With the same number, customers see one chat; with another number, a separate "
            "chat."
        ),
    )
    more_fallbacks = FallbackListField(
        start=2,
        label=_("Further fallbacks"),
        help_text=_(
            "Tried in this order if the fallback above cannot send the message. Select “None” to "
            "remove one."
        ),
    )

    # The fields that the template shows in the policy section.
    POLICY: ClassVar = (
        "official_retries",
        "request_timeout_seconds",
        "confirm_seconds",
        "on_unconfirmed",
        "on_undelivered",
        "fallback_max_age_minutes",
        "fallback_per_minute",
        "fallback_new_chats_per_day",
        "fallback_despite_limits",
        "messages_per_second",
    )

    class Meta:
        model = Channel
        fields = (
            "name",
            "phone_number",
            "active",
            "ignore_messages_sent_outside",
            "ignore_groups",
            "official_retries",
            "request_timeout_seconds",
            "confirm_seconds",
            "on_unconfirmed",
            "on_undelivered",
            "fallback_max_age_minutes",
            "fallback_per_minute",
            "fallback_new_chats_per_day",
            "fallback_despite_limits",
            "messages_per_second",
            "calls_api_key",
        )
        labels = {
            "name": _("Name"),
            "phone_number": _("Phone number"),
            "active": _("Active"),
            "ignore_messages_sent_outside": _("Ignore messages sent outside the app"),
            "ignore_groups": _("Ignore groups"),
            "official_retries": _("Retries on the official API"),
            "request_timeout_seconds": _("Timeout for the provider's response (seconds)"),
            "confirm_seconds": _("Wait for delivery confirmation (seconds)"),
            "on_unconfirmed": _("If delivery is not confirmed"),
            "on_undelivered": _("If a message is not delivered by its deadline"),
            "fallback_max_age_minutes": _("Maximum message age for fallback (minutes)"),
            "fallback_per_minute": _("Maximum fallback messages per minute"),
            "fallback_new_chats_per_day": _("Maximum new customers per day through the fallback"),
            "fallback_despite_limits": _("Use the fallback despite Meta's limits on this number"),
            "messages_per_second": _("Maximum official messages per second"),
            "calls_api_key": _("Wavoip key, for calls"),
        }
        help_texts = {
            # For an official channel, see below.
            "phone_number": _(
                "The number of the linked phone. Another number cannot send until someone "
                "confirms it. If empty, the first linked phone sets it."
            ),
            "active": _("An inactive channel sends nothing."),
            "ignore_messages_sent_outside": _(
                "If not selected, messages written on the phone or sent through the fallback "
                "appear twice in the conversation."
            ),
            "ignore_groups": _("Messages of groups are counted, but not shown."),
            "calls_api_key": _(
                "The token of a Wavoip device; separate several with commas. Staff with "
                "permission to call then see a phone icon at the top of a conversation."
            ),
            "fallback_per_minute": _("Protects the number from being banned."),
            "fallback_new_chats_per_day": _(
                "Customers who have never written to you. WhatsApp bans numbers that write to "
                "many people who do not know them."
            ),
            "fallback_despite_limits": _(
                "Marketing limits, low quality, restricted account: messages that Meta blocks for "
                "these reasons are sent through the fallback. WhatsApp may ban the number for it."
            ),
            "messages_per_second": _(
                "80; never more than 20 for a number that the WhatsApp app also uses."
            ),
        }
        error_messages: ClassVar = {
            "name": {"unique": _("Another channel already has this name.")},
        }

    def __init__(self, *args: Any, kind: str, may_change: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk is None:
            self.instance.kind = kind
        self.kind = self.instance.kind
        self.engine = engines.by_name(self.kind)
        official = self.kind == Provider.OFFICIAL
        shown = {one.name for one in self.engine.settings} | set(self.OFFICIAL if official else ())
        for name in (SETTINGS.keys() | set(self.OFFICIAL)) - shown:
            del self.fields[name]
        for engine in engines.ENGINES.values():
            for setting in engine.settings:
                if field := self.fields.get(setting.name):
                    field.label = setting.label or field.label
                    field.help_text = setting.help or field.help_text
        if official:
            del self.fields["ignore_groups"]  # the official API's groups are never shown
            self._prepare_fallback()
        if may_change:
            self._ask_for_previous_session()
        for field in self.fields.values():
            if isinstance(field.widget, forms.URLInput):
                field.widget.attrs["inputmode"] = "url"
            field.disabled = not may_change

    def _prepare_fallback(self) -> None:
        self.fields["phone_number"].help_text = _(
            "If empty, it is filled in from Meta when the connection is tested. The page uses it "
            "to show whether the fallback sends from the same number."
        )
        channel, more = self.instance.fallback_channel, self.instance.fallbacks[1:]
        self.initial["wwebjs_enabled"] = self.instance.fallback == Provider.WWEBJS
        self.initial["fallback_channel"] = channel and channel.pk
        self.initial["more_fallbacks"] = FallbackListField.initial_for(more)
        offered = self._fallback_channels()
        field = cast("forms.ModelChoiceField[Channel]", self.fields["fallback_channel"])
        field.queryset = Channel.objects.filter(pk__in=[channel.pk for channel in offered])
        field.empty_label = str(_("None"))
        cast("FallbackListField", self.fields["more_fallbacks"]).offer(offered)

    @property
    def connection_fields(self) -> list[forms.BoundField]:
        """The settings of the channel's own connection."""
        return [self[one.name] for one in self.engine.settings]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if self.kind == Provider.OFFICIAL:
            self._choose_fallback(cleaned)
        return cleaned

    def _choose_fallback(self, cleaned: dict[str, Any]) -> None:
        wwebjs, other = cleaned.get("wwebjs_enabled"), cleaned.get("fallback_channel")
        if wwebjs and other:
            self.add_error(
                "fallback_channel",
                ValidationError(_("Choose one of the two: WWebJS or a Baileys connection.")),
            )
        if wwebjs:
            first = [FallbackChoice(Provider.WWEBJS.value)]
        elif other:
            first = [FallbackChoice(other.kind, other)]
        elif "fallback_channel" not in self.errors:
            first = []
        else:
            return
        self.instance.fallbacks = [*first, *cleaned.get("more_fallbacks", ())]

    def _get_validation_exclusions(self) -> set[str]:
        # The kind is not a field of the form, but it must be validated.
        excluded: set[str] = super()._get_validation_exclusions()
        return excluded - {"kind"}
