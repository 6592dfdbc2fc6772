"""The sessions that a channel has on a provider's server, and how they end with the channel.

A wwebjs session or an Evolution instance outlives its channel: it stays linked to the phone and
continues to receive. A person who deletes a channel, or changes its server or session, is therefore
asked whether to end the old one. Higher layers register their kinds in SOURCES.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from django.db.models import PROTECT
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.connections import monitor, records, wwebjs
from channels_app.connections.engines import SessionRefused
from channels_app.models import Channel, Provider
from channels_app.providers.sessions import State
from core import http_addresses

if TYPE_CHECKING:
    from django.contrib.auth.models import User

KEEP = "keep"


@dataclass(frozen=True, slots=True)
class RemoteSession:
    """A session or instance on a server. `choices` are the ways to treat it, with labels."""

    name: str
    server: str
    choices: tuple[tuple[str, str | Promise], ...]


class Source(Protocol):
    """A kind of session. `settings` are the channel's fields that identify it."""

    settings: tuple[str, ...]

    def of(self, channel: Channel) -> RemoteSession | None:
        """Return the session of a stored channel, or None if none is known. No network."""
        ...

    def end(self, channel: Channel, choice: str, *, user: User | None) -> str:
        """End the session. Returns a notice for the person, or "".

        Raises SessionRefused if the server did not do it; it is then not retried later.
        """
        ...


class WwebjsSource:
    """The wwebjs session of an official channel's fallback."""

    settings: tuple[str, ...] = ("kind", "uses_wwebjs", "wwebjs_url", "wwebjs_session_id")
    CHOICES: tuple[tuple[str, str | Promise], ...] = (
        (KEEP, _("Leave it as it is on the server")),
        ("stop", _("Stop it; the phone stays linked")),
        ("unlink", _("End it and unlink the phone")),
    )
    # The server does not have the session, as far as is known.
    ABSENT = frozenset({"", "unchecked", "not_started", "unlinked", "not_configured"})

    def of(self, channel: Channel) -> RemoteSession | None:
        connection = channel.wwebjs
        if not channel.has_wwebjs or connection.state_code in self.ABSENT:
            return None
        is_failing = connection.state == State.ERROR and not connection.own_number
        if is_failing and monitor.stored_state(connection).field:
            # The server was never reached.
            return None
        others = Channel.objects.filter(
            fallback_routes__connection__provider=Provider.WWEBJS,
            wwebjs_api__url=channel.wwebjs_url,
            wwebjs_api__session_id=channel.wwebjs_session_id,
        )
        if others.exclude(pk=channel.pk).exists():
            return None
        return RemoteSession(channel.wwebjs_session_id, channel.wwebjs_url, self.CHOICES)

    def end(self, channel: Channel, choice: str, *, user: User | None) -> str:
        with records.unchanged_if_refused(channel.wwebjs):
            ended = wwebjs.disconnect(channel.wwebjs, unlink=choice == "unlink")
            if ended.code == "unlinking":
                # Deleting the channel now would also delete the request to unlink.
                text = _("The session is still starting. Try again when it is running.")
                raise SessionRefused("unlinking", str(text))
        return ended.detail if ended.code == "not_running" else ""


SOURCES: list[Source] = [WwebjsSource()]


def of(channel: Channel) -> RemoteSession | None:
    """Return the remote session of a stored channel, or None if none is known."""
    return next((remote for _source, remote in _existing(channel)), None)


def left_by(stored: Channel, changed: Channel) -> RemoteSession | None:
    """Return the session that the stored channel would abandon with the settings of `changed`."""
    for source, remote in _existing(stored):
        names = source.settings
        if any(_setting(stored, name) != _setting(changed, name) for name in names):
            return remote
    return None


def end(channel: Channel, choice: str, *, user: User | None = None) -> str:
    """Apply the choice to the session of a stored channel, before the channel changes.

    Returns a notice for the person, or "". Raises SessionRefused if the server did not do it: the
    session then still exists. It uses the network: do not call it inside a transaction.
    """
    for source, remote in _existing(channel):
        if choice not in dict(remote.choices):
            text = _("This action is not available for this session.")
            raise SessionRefused("invalid", str(text), status=400, field="previous_session")
        if choice == KEEP:
            return ""
        if user is not None and not user.has_perm("channels_app.change_channel"):
            text = _("You need permission to change channels to end the session.")
            raise SessionRefused("permission_denied", str(text), status=403)
        return source.end(channel, choice, user=user)
    return ""


def question(remote: RemoteSession) -> str:
    """Return the question what to do with it, in the active language."""
    text = _("What should happen to “%(name)s” on %(server)s?")
    return str(text) % {"name": remote.name, "server": remote.server}


def dependents(channel: Channel) -> list[tuple[str, int]]:
    """Count the objects of all layers that prevent the deletion of the channel."""
    counts = []
    for relation in Channel._meta.related_objects:
        if relation.on_delete is PROTECT:
            model = relation.related_model
            count = model._base_manager.filter(**{relation.field.name: channel}).count()
            if count:
                counts.append((str(model._meta.verbose_name_plural), count))
    if falling_back := channel.fallback_for:
        counts.append((str(Channel._meta.verbose_name_plural), len(falling_back)))
    return counts


def delete(channel: Channel, choice: str = KEEP, *, user: User | None = None) -> str:
    """Delete a channel without dependents, and apply the choice to its session.

    Returns the same as `end`. Raises SessionRefused, and then deletes nothing; raises
    ProtectedError or RestrictedError if something depends on it, before contacting the server.
    """
    notice = "" if dependents(channel) else end(channel, choice, user=user)
    channel.delete()
    return notice


def _existing(channel: Channel) -> Iterator[tuple[Source, RemoteSession]]:
    for source in SOURCES:
        remote = source.of(channel)
        if remote is not None:
            yield source, remote


def _setting(channel: Channel, name: str) -> str:
    """Return a setting in its stored form."""
    value = str(getattr(channel, name))
    if name == "wwebjs_session_id":
        return value or channel.default_session_name
    return http_addresses.normalise(value) if name.endswith("_url") else value
