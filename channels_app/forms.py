"""Channel forms. A stored secret is never rendered: it can only be replaced or cleared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _

from channels_app.channels import save_channel
from channels_app.connections import remote_sessions
from channels_app.models import Channel

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    _ChannelModelForm = forms.ModelForm[Channel]
else:
    _ChannelModelForm = forms.ModelForm

# Secrets that some kind of channel requires, so they cannot be cleared.
REQUIRED_SECRETS = ("access_token", "evolution_api_key")

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


class SecretsForm(_ChannelModelForm):
    """Base of every form of a channel: its secrets are write-only.

    A person who enters another server or session must choose what to do with the current one.
    """

    PREVIOUS: ClassVar[str] = "previous_session"
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
        super()._post_clean()  # type: ignore[misc]
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

    The WWebJS checkbox and the Baileys channel are alternative fallbacks; only one can be set.
    """

    OFFICIAL = (
        "phone_number_id",
        "business_account_id",
        "access_token",
        "app_secret",
        "verify_token",
        "graph_url",
        "graph_version",
        "wwebjs_url",
        "wwebjs_api_key",
        "wwebjs_session_id",
        "fallback_channel",
        "official_retries",
        "confirm_seconds",
        "on_unconfirmed",
        "fallback_max_age_minutes",
        "fallback_per_minute",
        "fallback_new_chats_per_day",
        "fallback_despite_limits",
        "messages_per_second",
    )
    BAILEYS = ("evolution_url", "evolution_api_key", "instance_name")

    wwebjs_enabled = forms.BooleanField(label=_("Enable the unofficial WWebJS API"), required=False)

    # The fields that the template shows in the policy section.
    POLICY: ClassVar = (
        "official_retries",
        "request_timeout_seconds",
        "confirm_seconds",
        "on_unconfirmed",
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
            "phone_number_id",
            "business_account_id",
            "access_token",
            "app_secret",
            "verify_token",
            "graph_url",
            "graph_version",
            "wwebjs_url",
            "wwebjs_api_key",
            "wwebjs_session_id",
            "fallback_channel",
            "ignore_messages_sent_outside",
            "official_retries",
            "request_timeout_seconds",
            "confirm_seconds",
            "on_unconfirmed",
            "fallback_max_age_minutes",
            "fallback_per_minute",
            "fallback_new_chats_per_day",
            "fallback_despite_limits",
            "messages_per_second",
            "evolution_url",
            "evolution_api_key",
            "instance_name",
            "calls_api_key",
        )
        labels = {
            "name": _("Name"),
            "phone_number": _("Phone number"),
            "active": _("Active"),
            "phone_number_id": _("Phone number ID"),
            "business_account_id": _("WhatsApp Business account ID"),
            "access_token": _("Access token"),
            "app_secret": _("App secret"),
            "verify_token": _("Webhook verification token"),
            "graph_url": _("Graph API URL"),
            "graph_version": _("Graph API version"),
            "fallback_channel": _("Baileys connection that sends messages in fallback mode"),
            "ignore_messages_sent_outside": _("Ignore messages sent outside the app"),
            "official_retries": _("Retries on the official API"),
            "request_timeout_seconds": _("Timeout for the provider's response (seconds)"),
            "confirm_seconds": _("Wait for delivery confirmation (seconds)"),
            "on_unconfirmed": _("If delivery is not confirmed"),
            "fallback_max_age_minutes": _("Maximum message age for fallback (minutes)"),
            "fallback_per_minute": _("Maximum fallback messages per minute"),
            "fallback_new_chats_per_day": _("Maximum new customers per day through the fallback"),
            "fallback_despite_limits": _("Use the fallback despite Meta's limits on this number"),
            "messages_per_second": _("Maximum official messages per second"),
            "evolution_url": _("Evolution API URL"),
            "evolution_api_key": _("Evolution API key"),
            "instance_name": _("Instance name"),
            "calls_api_key": _("Wavoip key, for calls"),
        }
        help_texts = {
            # For an official channel, see below.
            "phone_number": _(
                "The number of the linked phone. Another number cannot send until someone "
                "confirms it. If empty, the first linked phone sets it."
            ),
            "active": _("An inactive channel sends nothing."),
            "phone_number_id": _("In the Meta app, under WhatsApp, API setup."),
            "access_token": _("For a system user with whatsapp_business_messaging."),
            "app_secret": _(
                "Verifies that webhooks come from Meta. Without it, none are accepted."
            ),
            "verify_token": _("Any text of your choice; enter the same one at Meta."),
            "wwebjs_url": _(
                "On the same server: http://127.0.0.1:port. Otherwise: http://ip:port."
            ),
            "wwebjs_api_key": _("The key that the API was started with."),
            "wwebjs_session_id": _("If empty, Alterna chooses one."),
            "instance_name": _(
                "The name of an existing instance, or a new name: the instance is created when "
                "you connect."
            ),
            "evolution_api_key": _(
                "The server's own key (AUTHENTICATION_API_KEY) can create instances. An "
                "instance's key can only use that instance."
            ),
            "fallback_channel": _(
                "Messages that the official API rejects are sent from the number chosen here. "
                "With the same number, customers see one chat; with another number, a separate "
                "chat."
            ),
            "ignore_messages_sent_outside": _(
                "If not selected, messages written on the phone or sent through the fallback "
                "appear twice in the conversation."
            ),
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
        official = self.kind == Channel.Kind.OFFICIAL
        for name in self.BAILEYS if official else (*self.OFFICIAL, "wwebjs_enabled"):
            del self.fields[name]
        if official:
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
        chosen = self.instance.fallback
        self.initial["wwebjs_enabled"] = chosen == Channel.Fallback.WWEBJS
        if chosen != Channel.Fallback.BAILEYS:
            self.initial["fallback_channel"] = None
        field = cast("forms.ModelChoiceField[Channel]", self.fields["fallback_channel"])
        # The selected channel stays in the list if it becomes inactive, or saving the page would
        # silently remove it.
        field.queryset = Channel.objects.filter(
            Q(kind=Channel.Kind.BAILEYS, active=True) | Q(pk=self.initial["fallback_channel"])
        ).exclude(pk=self.instance.pk)
        field.empty_label = str(_("None"))

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if self.kind == Channel.Kind.OFFICIAL:
            self._choose_fallback(cleaned)
        return cleaned

    def _choose_fallback(self, cleaned: dict[str, Any]) -> None:
        wwebjs, baileys = cleaned.get("wwebjs_enabled"), cleaned.get("fallback_channel")
        if wwebjs and baileys:
            self.add_error(
                "fallback_channel",
                ValidationError(_("Choose one of the two: WWebJS or a Baileys connection.")),
            )
        if wwebjs:
            self.instance.fallback = Channel.Fallback.WWEBJS
        elif baileys:
            self.instance.fallback = Channel.Fallback.BAILEYS
        elif "fallback_channel" not in self.errors:
            self.instance.fallback = Channel.Fallback.NONE

    def _get_validation_exclusions(self) -> set[str]:
        # `fallback` is not a field of the form, but it must be validated.
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return excluded - {"fallback", "kind"}

    def _update_errors(self, errors: ValidationError) -> None:
        """Move the model's errors of fields that are not in this form to the matching field."""
        if hasattr(errors, "error_dict"):
            unknown = [name for name in errors.error_dict if name not in self.fields]
            for name in unknown:
                target = "fallback_channel" if name == "fallback" else "__all__"
                if name != "__all__":
                    errors.error_dict.setdefault(target, []).extend(errors.error_dict.pop(name))
        super()._update_errors(errors)  # type: ignore[misc]
