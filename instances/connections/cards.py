"""The connection cards on the channel and instance pages. Makes no network calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.template.loader import render_to_string
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _

from channels_app import session_cards
from channels_app.connections import readiness
from channels_app.connections.linked_numbers import UNCONFIRMED, is_same_number
from channels_app.connections.monitor import stored_state
from channels_app.connections.readiness import RankedFallback
from channels_app.connections.session_engines import engine_for
from channels_app.models import Channel, Provider
from channels_app.providers.sessions import State
from instances.api.receive_mode import sessions
from instances.connections import pictures
from instances.models import WhatsAppSession
from instances.receive_mode import presentation
from messaging.live import frames as live_frames

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

NOTHING = SafeString("")


def section(channel: Channel, may_change: bool) -> SafeString:
    """Render the state, account and buttons of a Baileys channel."""
    session = _session_of(channel)
    if session is None:
        return NOTHING
    shown = session_cards.context(
        session.connection, may_change=may_change, with_buttons=channel.active
    )
    current = shown["session"]
    context = {
        **shown,
        "instance": session,
        "unchecked": current.code == "unchecked",
        "linked": current.state == State.READY or current.code == UNCONFIRMED,
        "has_picture": pictures.exists(channel.primary),
    }
    return render_to_string("instances/_connection.html", context)


def describe_problem(channel: Channel) -> str:
    """Return why the instance of a Baileys channel could not send now, or "" if it could.

    An unchecked instance has no problem.
    """
    session = _session_of(channel)
    current = stored_state(session.connection) if session is not None else None
    if current is None or current.state == State.READY or current.code in ("", "unchecked"):
        return ""
    return current.detail


def fallbacks(channel: Channel, may_change: bool) -> SafeString:
    """Render, on an official channel, whether its Baileys fallbacks would work now."""
    ranked = readiness.ranked_fallbacks(channel)
    return format_html_join(
        "\n",
        "{}",
        ((_fallback(channel, one, one.channel, may_change),) for one in ranked if one.channel),
    )


def _fallback(
    channel: Channel, ranked: RankedFallback, other: Channel, may_change: bool
) -> SafeString:
    session = _session_of(other)
    if session is None:
        return NOTHING
    current = stored_state(session.connection)
    problem = readiness.channel_problem(other)
    context = {
        "channel": channel,
        "number": ranked.number,
        "other": other,
        "session": current,
        "may_change": may_change,
        "works": not problem,
        "problem": problem,
        "label": current.label if other.active else _("Inactive"),
        "tone": engine_for(Provider.BAILEYS).tone(current) if other.active else "failing",
        "linked": current.state == State.READY or current.code == UNCONFIRMED,
        "same_number": is_same_number(current.own_number, channel.phone_number),
    }
    return render_to_string("instances/_fallback.html", context)


def beside(channel: Channel, user: User | AnonymousUser) -> SafeString:
    """Render a Baileys channel's receive-mode card for users who may view it."""
    session = _session_of(channel)
    if session is None or not user.has_perms(presentation.InstancesView.permissions):
        return NOTHING
    return presentation.card(session, may_change=user.has_perm("instances.change_whatsappsession"))


def line(channel: Channel) -> SafeString:
    """Render a Baileys channel's state, its start and the last disconnection on one line."""
    session = _session_of(channel)
    if session is None:
        return NOTHING
    context = session_cards.line(session.connection)
    return render_to_string("channels_app/_session_line.html", context)


def page_card(session: WhatsAppSession, *, may_change: bool) -> SafeString:
    """Render the connection as a separate card for the instance page."""
    context = {
        "instance": session,
        "section": section(session.channel, may_change),
        "version": live_frames.now_ms(),
    }
    return render_to_string("instances/_connection_card.html", context)


def frame(session: WhatsAppSession, *, may_change: bool) -> live_frames.Frame:
    """Return the live frame with `page_card`."""
    return {
        "kind": "connection",
        "key": f"connection:{session.pk}",
        "version": live_frames.now_ms(),
        "sort": session.name,
        "html": page_card(session, may_change=may_change),
    }


class InstanceView(presentation.InstanceView):
    """The instance page: receive mode and connection."""

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[live_frames.Frame]:
        mine = sessions().filter(
            channel__evolution__instance_name=self.value,
            pk__in=list(changed.get("sessions", ())),
        )
        may_change = self.user.has_perm("channels_app.change_channel")
        connections_ = [frame(session, may_change=may_change) for session in mine]
        return super().frames(changed) + connections_


class ChannelView(live_frames.ChannelView):
    """The channel page: its card and the receive mode."""

    def frames(self, changed: Mapping[str, Iterable[Any]]) -> list[live_frames.Frame]:
        frames = super().frames(changed)
        if frames and self.user.has_perms(presentation.InstancesView.permissions):
            view = presentation.InstancesView(self.user, self.language, "")
            mine = sessions().filter(channel=int(self.value)).values_list("pk", flat=True)
            frames += view.frames({"sessions": mine})
        return frames


def after_action(session: WhatsAppSession) -> SafeString:
    """Return all cards a click may have changed; the page swaps in the ones it shows."""
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


def _session_of(channel: Channel) -> WhatsAppSession | None:
    """Return the channel's session, prefetched through RELATED."""
    if channel.kind != Provider.BAILEYS:
        return None
    session: WhatsAppSession | None = getattr(channel, "session", None)
    if session is not None:
        session.channel = channel
    return session
