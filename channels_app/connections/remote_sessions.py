"""What a channel has on a provider's server, and what becomes of it when the channel goes.

A wwebjs session or an Evolution instance outlives the channel that names it: it stays linked to the
phone, and receives. So whoever deletes a channel, or names another server or session in it, is
asked whether to end the old one. Layers above enter theirs in SOURCES.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from django.db.models import PROTECT
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.connections import wwebjs_session
from channels_app.connections.states import State
from channels_app.connections.wwebjs_session import SessionRefused
from channels_app.models import Channel
from core import http_addresses

if TYPE_CHECKING:
    from django.contrib.auth.models import User

KEEP = "keep"


@dataclass(frozen=True, slots=True)
class RemoteSession:
    """A session or instance on a server. `choices` are what can become of it, with their words."""

    name: str
    server: str
    choices: tuple[tuple[str, str | Promise], ...]


class Source(Protocol):
    """A kind of session. `settings` are the channel's fields that say which one it is."""

    settings: tuple[str, ...]

    def of(self, channel: Channel) -> RemoteSession | None:
        """The one that a stored channel has, None where none is known on the server. No network."""
        ...

    def end(self, channel: Channel, choice: str, *, user: User | None) -> str:
        """End it. Returns what a person must know besides, or "".

        Raises SessionRefused; nothing of it is carried out later then.
        """
        ...


class WwebjsSource:
    """The wwebjs session of an official channel's fallback."""

    settings: tuple[str, ...] = ("kind", "fallback", "wwebjs_url", "wwebjs_session_id")
    CHOICES: tuple[tuple[str, str | Promise], ...] = (
        (KEEP, _("Leave it as it is on the server")),
        ("stop", _("Stop it; the phone stays linked")),
        ("unlink", _("End it and unlink the phone")),
    )
    # The server does not have it, as far as is known.
    ABSENT = frozenset({"", "unchecked", "not_started", "unlinked", "not_configured"})

    def of(self, channel: Channel) -> RemoteSession | None:
        if not channel.has_wwebjs or channel.wwebjs_state_code in self.ABSENT:
            return None
        is_trouble = channel.wwebjs_state == State.ERROR and not channel.wwebjs_own_number
        if is_trouble and wwebjs_session.stored_state(channel).field:
            # The server was never reached.
            return None
        others = Channel.objects.filter(
            fallback=Channel.Fallback.WWEBJS,
            wwebjs_url=channel.wwebjs_url,
            wwebjs_session_id=channel.wwebjs_session_id,
        )
        if others.exclude(pk=channel.pk).exists():
            return None
        return RemoteSession(channel.wwebjs_session_id, channel.wwebjs_url, self.CHOICES)

    def end(self, channel: Channel, choice: str, *, user: User | None) -> str:
        with wwebjs_session.unchanged_if_refused(channel):
            ended = wwebjs_session.disconnect(channel, unlink=choice == "unlink")
            if ended.code == "unlinking":
                # Who deletes the channel now takes the wish along.
                text = _("The session is still starting: try again when it is up.")
                raise SessionRefused("unlinking", str(text))
        return ended.detail if ended.code == "not_running" else ""


SOURCES: list[Source] = [WwebjsSource()]


def of(channel: Channel) -> RemoteSession | None:
    """Return what a stored channel has on a server, None where nothing is known there."""
    return next((found for _source, found in _found(channel)), None)


def left_by(stored: Channel, changed: Channel) -> RemoteSession | None:
    """Return what the stored channel would leave behind with the settings of `changed`."""
    for source, found in _found(stored):
        names = source.settings
        if any(_setting(stored, name) != _setting(changed, name) for name in names):
            return found
    return None


def end(channel: Channel, choice: str, *, user: User | None = None) -> str:
    """Do with the session of a stored channel what was chosen, before the channel changes.

    Returns what a person must know besides, or "". Raises SessionRefused where the server did not
    do it: then it is still there. It asks the network: not to be called inside of a transaction.
    """
    for source, found in _found(channel):
        if choice not in dict(found.choices):
            text = _("This cannot be done with it.")
            raise SessionRefused("invalid", str(text), status=400, field="previous_session")
        return "" if choice == KEEP else source.end(channel, choice, user=user)
    return ""


def question(remote: RemoteSession) -> str:
    """Ask what is to become of it, in the active language."""
    text = _("What becomes of “%(name)s” on %(server)s?")
    return str(text) % {"name": remote.name, "server": remote.server}


def dependents(channel: Channel) -> list[tuple[str, int]]:
    """Count what keeps the channel from being deleted, whichever layer it belongs to."""
    found = []
    for relation in Channel._meta.related_objects:
        if relation.on_delete is PROTECT:
            model = relation.related_model
            count = model._base_manager.filter(**{relation.field.name: channel}).count()
            if count:
                found.append((str(model._meta.verbose_name_plural), count))
    return found


def delete(channel: Channel, choice: str = KEEP, *, user: User | None = None) -> str:
    """Delete a channel on which nothing depends, and do with its session what was chosen.

    Returns as `end`. Raises SessionRefused and then deletes nothing; ProtectedError where something
    depends on it, before the server is asked.
    """
    told = "" if dependents(channel) else end(channel, choice, user=user)
    channel.delete()
    return told


def _found(channel: Channel) -> Iterator[tuple[Source, RemoteSession]]:
    for source in SOURCES:
        found = source.of(channel)
        if found is not None:
            yield source, found


def _setting(channel: Channel, name: str) -> str:
    """A setting as it would be stored."""
    value = str(getattr(channel, name))
    if name == "wwebjs_session_id":
        return value or channel.default_session_name
    return http_addresses.normalise(value) if name.endswith("_url") else value
