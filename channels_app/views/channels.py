"""Channel pages."""

from __future__ import annotations

from typing import Any, ClassVar

from django.conf import settings
from django.contrib import messages
from django.db.models import ProtectedError, RestrictedError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin, user_of
from channels_app import extensions
from channels_app.connections import connection_tests, readiness, remote_sessions, wwebjs_install
from channels_app.connections.session_engines import KEEP, SessionRefused
from channels_app.forms import ChannelForm
from channels_app.models import Channel, Provider
from channels_app.providers import engines


class ChannelListView(StaffPermissionRequiredMixin, View):
    """List all channels as cards."""

    permissions = ("channels_app.view_channel",)

    def get(self, request: HttpRequest) -> HttpResponse:
        context = {
            "since": timezone.now(),
            "channels": extensions.channels(),
            "may_change": request.user.has_perm("channels_app.change_channel"),
        }
        return render(request, "channels_app/list.html", context)


class ChannelCreateView(StaffPermissionRequiredMixin, View):
    """Create a channel of the kind given by `?kind=`."""

    permissions = ("channels_app.view_channel", "channels_app.add_channel")

    def get(self, request: HttpRequest) -> HttpResponse:
        return _form_page(request, ChannelForm(kind=_kind(request)))

    def post(self, request: HttpRequest) -> HttpResponse:
        form = ChannelForm(request.POST, kind=_kind(request))
        if not form.is_valid():
            return _form_page(request, form)
        channel = form.save()
        if channel.kind == Provider.OFFICIAL:
            messages.success(request, _("The channel was created. Its connection is being tested."))
        else:
            messages.success(request, _("The channel was created. Connect it now."))
        return redirect("channels_app:detail", pk=channel.pk)


class ChannelUpdateView(StaffPermissionRequiredMixin, View):
    """Show and save a channel's form; read-only without the permission to change it."""

    permissions = ("channels_app.view_channel",)
    write_permissions = ("channels_app.change_channel",)

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        return _form_page(request, _form(request, pk, None))

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        form = _form(request, pk, request.POST)
        if not form.is_valid():
            return _form_page(request, form)
        try:
            notice = form.end_previous_session(user_of(request))
        except SessionRefused as error:
            form.add_error("previous_session", str(error))
            return _form_page(request, form)
        channel = form.save()
        messages.success(request, _("The channel was saved."))
        if notice:
            messages.warning(request, notice)
        if problem := readiness.inactive_problem(channel):
            messages.warning(request, problem)
        return redirect("channels_app:detail", pk=pk)


class ChannelDeleteView(StaffPermissionRequiredMixin, View):
    """Show the channel's dependents, ask what to do with its session, then delete it."""

    permissions = ("channels_app.view_channel", "channels_app.delete_channel")

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        return _delete_page(request, get_object_or_404(Channel, pk=pk))

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        channel = get_object_or_404(Channel, pk=pk)
        choice = request.POST.get("previous_session", "")
        remote = remote_sessions.session_of(channel)
        if remote is not None and not choice and not remote_sessions.dependents(channel):
            return _delete_page(
                request, channel, status=400, refused=_("Choose one of the options.")
            )
        try:
            notice = remote_sessions.delete(channel, choice or KEEP, user=user_of(request))
        except (ProtectedError, RestrictedError):
            return _delete_page(request, channel, status=409)
        except SessionRefused as error:
            return _delete_page(request, channel, status=error.status, refused=str(error))
        messages.success(request, _("The channel “%(name)s” was deleted.") % {"name": channel.name})
        if notice:
            messages.warning(request, notice)
        return redirect("channels_app:list")


class ChannelTestView(StaffPermissionRequiredMixin, View):
    """Test whether the stored credentials work.

    Returns the card if the request came from a card, else the reports alone.
    """

    permissions = ("channels_app.view_channel", "channels_app.change_channel")

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        channel = get_object_or_404(extensions.channels(), pk=pk)
        reports = connection_tests.test_connection(channel)
        if "card" not in request.POST:
            return render(request, "channels_app/_reports.html", {"reports": reports})
        channel = extensions.channels().get(pk=pk)
        context = {
            "channel": channel,
            "reports": reports,
            "may_change": True,
            "version": int(timezone.now().timestamp() * 1000),
        }
        return render(request, "channels_app/_card.html", context)


class FallbackHelpView(StaffPermissionRequiredMixin, View):
    """Explain how the fallback works and is set up, in the reader's language; for all staff."""

    # One template per language: whole sentences are easier to maintain than fragments.
    TEXTS: ClassVar = {"pt-br": "fallback_pt_br.html", "en": "fallback_en.html"}
    KEYS: ClassVar = {"pt-br": "suaapikey", "en": "yourapikey"}

    def get(self, request: HttpRequest) -> HttpResponse:
        language = get_language() or settings.LANGUAGE_CODE
        key = self.KEYS[language]
        example = Channel()
        example.wwebjs_url, example.wwebjs_api_key = "http://127.0.0.1:3500", key
        context = {
            "text": f"channels_app/help/{self.TEXTS[language]}",
            "command": wwebjs_install.docker_command(example, callbacks=False, reveal=True),
            "update": wwebjs_install.UPDATE_COMMANDS,
            "key": key,
            "same_server": "http://127.0.0.1:3500",
            "other_server": "http://ip:3500",
            "webhook": f"{settings.PUBLIC_URL}/api/webhooks/wwebjs/1",
        }
        return render(request, "channels_app/help/fallback.html", context)


def _kind(request: HttpRequest) -> str:
    kind = request.GET.get("kind", "")
    return kind if engines.has_channels(kind) else Provider.OFFICIAL.value


def _form(request: HttpRequest, pk: int, data: Any) -> ChannelForm:
    channel = get_object_or_404(Channel, pk=pk)
    may_change = request.user.has_perm("channels_app.change_channel")
    return ChannelForm(data, instance=channel, kind=channel.kind, may_change=may_change)


def _form_page(request: HttpRequest, form: ChannelForm) -> HttpResponse:
    # A ModelForm writes the input to its instance, including invalid values.
    stored = extensions.channels().filter(pk=form.instance.pk).first()
    context = {
        "since": timezone.now(),
        "form": form,
        "channel": stored,
        "kind": form.kind,
        "engines": engines.with_channels(),
        "policy_open": any(name in form.errors for name in form.POLICY),
        "may_change": stored is None or request.user.has_perm("channels_app.change_channel"),
        "fallback_for": stored.is_fallback_of if stored else "",
        "webhook_url": f"{settings.PUBLIC_URL}/api/webhooks/cloud",
    }
    return render(request, "channels_app/form.html", context, status=400 if form.errors else 200)


def _delete_page(
    request: HttpRequest, channel: Channel, *, status: int = 200, refused: str = ""
) -> HttpResponse:
    remote = remote_sessions.session_of(channel)
    context = {
        "channel": channel,
        "dependents": remote_sessions.dependents(channel),
        "fallback_for": channel.fallback_for,
        "remote": remote,
        "question": remote_sessions.question(remote) if remote else "",
        "refused": refused,
        "chosen": request.POST.get("previous_session", ""),
    }
    return render(request, "channels_app/delete.html", context, status=status)
