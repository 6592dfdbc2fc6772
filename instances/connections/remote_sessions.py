"""What happens to a Baileys channel's Evolution instance when the channel stops using it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from channels_app.connections import records
from channels_app.connections.remote_sessions import KEEP, RemoteSession
from channels_app.models import Channel
from channels_app.providers.sessions import State
from instances.connections import lifecycle
from instances.models import WhatsAppSession

if TYPE_CHECKING:
    from django.contrib.auth.models import User

# As far as we know, Evolution does not have the instance.
ABSENT = frozenset({"", "unchecked", "no_instance", "instance_gone", "instance_deleted"})


class InstanceSource:
    """The Evolution instance of a Baileys channel; registered in `remote_sessions.SOURCES`."""

    settings: tuple[str, ...] = ("kind", "evolution_url", "instance_name")
    CHOICES: tuple[tuple[str, str | Promise], ...] = (
        (KEEP, _("Leave it as it is on the server")),
        ("log_out", _("Unlink the phone; the instance stays on the server")),
        ("delete", _("Delete the instance on the server")),
    )

    def of(self, channel: Channel) -> RemoteSession | None:
        """See `Source`."""
        if channel.kind != Channel.Kind.BAILEYS or not channel.has_evolution:
            return None
        session = WhatsAppSession.objects.filter(channel=channel).first()
        connection = channel.primary
        if session is None or connection.state_code in ABSENT:
            return None
        if connection.state == State.ERROR and connection.last_ready_at is None:
            # The server was never reached.
            return None
        return RemoteSession(channel.instance_name, channel.evolution_url, self.CHOICES)

    def end(self, channel: Channel, choice: str, *, user: User | None) -> str:
        """See `Source`."""
        connection = channel.primary
        with records.unchanged_if_refused(connection):
            if choice == "delete":
                ended = lifecycle.delete(connection, user=user)
                return ended.detail if ended.code == "deleting" else ""
            ended = lifecycle.log_out(connection)
        return ended.detail if ended.code == "not_running" else ""
