"""The session that a channel has on a provider's server, and how it ends with the channel.

A wwebjs session or an Evolution instance outlives its channel: it stays linked to the phone and
continues to receive. A person who deletes a channel, or changes its server or session, is therefore
asked whether to end the old one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.db import transaction
from django.db.models import PROTECT
from django.utils.functional import Promise
from django.utils.translation import gettext as _

from channels_app.connections import records
from channels_app.connections.session_engines import KEEP, SessionEngine, SessionRefused, engines
from channels_app.models import Channel, Connection
from channels_app.providers.sessions import State

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# The server does not have the session, as far as is known.
_ABSENT = frozenset(
    {
        "", "unchecked", "not_started", "unlinked", "not_configured",
        "no_instance", "instance_gone", "instance_deleted",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RemoteSession:
    """A session or instance on a server. `choices` are the ways to treat it, with labels."""

    name: str
    server: str
    choices: tuple[tuple[str, str | Promise], ...]


def session_of(channel: Channel) -> RemoteSession | None:
    """Return the session of a stored channel, or None if none is known. No network."""
    return next((_describe(engine, channel) for engine in _engines_of(channel)), None)


def session_abandoned_by(stored: Channel, changed: Channel) -> RemoteSession | None:
    """Return the session that the stored channel would abandon with the settings of `changed`."""
    for engine in _engines_of(stored):
        if engine.address(stored) != engine.address(changed):
            return _describe(engine, stored)
    return None


def end(channel: Channel, choice: str, *, user: User | None = None) -> str:
    """Apply the choice to the session of a stored channel, before the channel changes.

    Returns a notice for the person, or "". Raises SessionRefused if the server did not do it: the
    session then still exists, and nothing of it is carried out later. It uses the network: do not
    call it inside a transaction.
    """
    for engine in _engines_of(channel):
        if choice not in dict(engine.end_choices):
            text = _("This action is not available for this session.")
            raise SessionRefused("invalid", text, status=400, field="previous_session")
        if choice == KEEP:
            return ""
        if user is not None and not user.has_perm("channels_app.change_channel"):
            text = _("You need permission to change channels to end the session.")
            raise SessionRefused("permission_denied", text, status=403)
        connection = channel.connection(engine.provider)
        with records.unchanged_if_refused(connection):
            return engine.end(connection, choice, user=user)
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
    with transaction.atomic():
        # Saving a channel locks its row first, too.
        Channel.objects.select_for_update().filter(pk=channel.pk).first()
        channel.delete()
    return notice


def _engines_of(channel: Channel) -> list[SessionEngine]:
    return [engine for engine in engines() if _has_session(engine, channel)]


def _has_session(engine: SessionEngine, channel: Channel) -> bool:
    """Whether the server has a session of this channel that no other channel uses."""
    address, row = engine.address(channel), channel.connection(engine.provider)
    if not address or row.state_code in _ABSENT:
        return False
    was_ready = row.last_ready_at is not None
    if row.state == State.ERROR and not was_ready and engine.field_for(row.state_code):
        # The server was never reached.
        return False
    sharing = Connection.objects.filter(provider=engine.provider, address=address)
    return not sharing.exclude(channel=channel).exists()


def _describe(engine: SessionEngine, channel: Channel) -> RemoteSession:
    server, _space, name = engine.address(channel).partition(" ")
    return RemoteSession(name, server, engine.end_choices)
