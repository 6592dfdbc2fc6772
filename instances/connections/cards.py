"""The connection of an instance on the cards and pages of channels and instances. No network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe

from channels_app.connections import number_confirmation, readiness
from channels_app.connections.linked_numbers import UNCONFIRMED, is_same_number
from channels_app.connections.states import State
from channels_app.models import Channel
from instances.api.receive_mode import sessions
from instances.connections import monitor
from instances.connections.monitor import ConnectionState
from instances.models import WhatsAppSession
from instances.receive_mode import presentation
from messaging.live import frames as live_frames

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

NOTHING = SafeString("")
_TO_CREATE = ("no_instance", "instance_gone", "instance_deleted")
# It lives badly: dialling anew may help, and so does another code.
_TO_MEND = ("dead_socket", "dialling_long")


def section(channel: Channel, may_change: bool) -> SafeString:
    """Draw state, account and buttons of a Baileys channel."""
    session = _session_of(channel)
    if session is None:
        return NOTHING
    seen = monitor.stored(session)
    unchecked = seen.code == "unchecked"
    context = {
        "instance": session,
        "channel": channel,
        "session": seen,
        "unchecked": unchecked,
        "label": State(seen.state).label,
        "tone": tone(seen),
        "field_label": field_label(seen.field),
        "linked": seen.state == State.READY or seen.code == UNCONFIRMED,
        "also_linked_at": number_confirmation.also_linked_at(channel),
        "may_change": may_change,
        "buttons": buttons(seen) if may_change and channel.active else (),
        "has_picture": session.has_picture,
    }
    return render_to_string("instances/_connection.html", context)


def trouble(channel: Channel) -> str:
    """Say why the instance of a Baileys channel could not send now, "" where it could.

    What has not been looked at yet is no trouble.
    """
    session = _session_of(channel)
    seen = monitor.stored(session) if session is not None else None
    if seen is None or seen.state == State.READY or seen.code in ("", "unchecked"):
        return ""
    return seen.detail


def fallback(channel: Channel, may_change: bool) -> SafeString:
    """Draw on an official channel whether the Baileys channel behind it would work now."""
    other = channel.fallback_channel
    if channel.fallback != Channel.Fallback.BAILEYS or other is None:
        return NOTHING
    session = _session_of(other)
    if session is None:
        return NOTHING
    seen = monitor.stored(session)
    told = readiness.baileys_trouble(other)
    context = {
        "channel": channel,
        "other": other,
        "session": seen,
        "may_change": may_change,
        "works": not told,
        "trouble": told,
        "label": State(seen.state).label,
        "tone": tone(seen) if other.active else "failing",
        "linked": seen.state == State.READY or seen.code == UNCONFIRMED,
        "same_number": is_same_number(seen.own_number, re.sub(r"\D", "", channel.phone_number)),
    }
    return render_to_string("instances/_fallback.html", context)


def beside(channel: Channel, user: User | AnonymousUser) -> SafeString:
    """Draw the receive-mode card of a Baileys channel beside its settings, for who may see it."""
    session = _session_of(channel)
    if session is None or not user.has_perms(presentation.InstancesView.permissions):
        return NOTHING
    return presentation.card(session, may_change=user.has_perm("instances.change_whatsappsession"))


def line(channel: Channel) -> SafeString:
    """Draw a Baileys channel's state, since when, and its last drop, on one line."""
    session = _session_of(channel)
    if session is None:
        return NOTHING
    seen = monitor.stored(session)
    context = {
        "way": Channel.Fallback.BAILEYS,
        "session": seen,
        "unchecked": seen.code == "unchecked",
        "label": State(seen.state).label,
        "tone": tone(seen),
    }
    return render_to_string("channels_app/_session_line.html", context)


def page_card(session: WhatsAppSession, *, may_change: bool) -> SafeString:
    """Draw the connection as a card of its own, for the instance's page."""
    context = {
        "instance": session,
        "section": section(session.channel, may_change),
        "version": live_frames.now_ms(),
    }
    return render_to_string("instances/_connection_card.html", context)


def frame(session: WhatsAppSession, *, may_change: bool) -> live_frames.Frame:
    """Return the live frame of `page_card`."""
    return {
        "kind": "connection",
        "key": f"connection:{session.pk}",
        "version": live_frames.now_ms(),
        "sort": session.name,
        "html": page_card(session, may_change=may_change),
    }


class InstanceView(presentation.InstanceView):
    """The instance's page: its receive mode, and its connection."""

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[live_frames.Frame]:
        mine = sessions().filter(
            channel__instance_name=self.value, pk__in=list(changed.get("sessions", ()))
        )
        may_change = self.user.has_perm("channels_app.change_channel")
        connections_ = [frame(session, may_change=may_change) for session in mine]
        return super().frames(changed) + connections_


class ChannelView(live_frames.ChannelView):
    """The channel's page: its card, and beside it the receive mode."""

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[live_frames.Frame]:
        found = super().frames(changed)
        if found and self.user.has_perms(presentation.InstancesView.permissions):
            view = presentation.InstancesView(self.user, self.language, "")
            mine = sessions().filter(channel=int(self.value)).values_list("pk", flat=True)
            found += view.frames({"sessions": mine})
        return found


def after_action(session: WhatsAppSession) -> SafeString:
    """Return all cards that a click may have changed; the page takes those that it shows."""
    channel_card: dict[str, Any] = {
        "channel": session.channel,
        "may_change": True,
        "version": live_frames.now_ms(),
    }
    cards = (
        render_to_string("channels_app/_card.html", channel_card),
        page_card(session, may_change=True),
    )
    return mark_safe("\n".join(cards))  # noqa: S308 (both are rendered templates)


def buttons(seen: ConnectionState) -> tuple[str, ...]:
    """What a person can do now, the likeliest first."""
    if seen.code in ("unchecked", "not_configured", "deleting"):
        return ("check",)
    if seen.code in _TO_CREATE:
        return ("create",)
    if seen.code == UNCONFIRMED:
        return ("confirm_number", "log_out", "delete")
    if seen.code in _TO_MEND:
        return ("reconnect", "log_out", "delete")
    match seen.state:
        case State.READY | State.CONNECTED:
            return ("log_out", "reconnect", "delete")
        case State.QR:
            return ("qr", "delete")
        case State.STARTING:
            return ("qr", "reconnect", "delete")
        case State.DISCONNECTED:
            return ("connect", "delete")
    if seen.code == "refused_by_whatsapp":
        return ("connect", "delete")
    # What is wrong with address or key is mended first.
    return ("check",)


def tone(seen: ConnectionState) -> str:
    if seen.state == State.READY:
        return "ok"
    # A connection that was lost is a trouble, one that was never made is not.
    lost = seen.code in ("connection_lost", "unlinked_on_phone", "instance_gone")
    return "failing" if seen.state == State.ERROR or lost else "waiting"


def field_label(name: str) -> str:
    return str(getattr(Channel._meta.get_field(name), "verbose_name", name)) if name else ""


def _session_of(channel: Channel) -> WhatsAppSession | None:
    """The channel's session, which RELATED has brought along with the channel."""
    if channel.kind != Channel.Kind.BAILEYS:
        return None
    session: WhatsAppSession | None = getattr(channel, "session", None)
    if session is not None:
        session.channel = channel
    return session
