"""The secrets that authenticate events, cached by each process and always current.

A row in the database holds a version, which triggers replace with every change of a setting that
this module reads (migration `channels_app.0003`). `current` compares it, so a new, changed or
deleted channel counts from the commit of that change on, in every process. Receivers call it once
for a group of events.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from django.db import connection

from channels_app.models import CloudCredentials, FallbackRoute, Provider, WwebjsCredentials


@dataclass(frozen=True, slots=True)
class App:
    """A Meta app: its secret, its oldest channel, and its channels by phone number ID."""

    secret: bytes
    channel_id: int
    numbers: dict[str, int] = field(default_factory=dict)

    def owner_of(self, phone_number_id: str) -> int:
        """Return the channel of a number; for one without a channel, the app's oldest."""
        return self.numbers.get(phone_number_id, self.channel_id)


@dataclass(frozen=True, slots=True)
class Session:
    """A channel's wwebjs-api session. `may_deliver`: its webhook accepts events."""

    channel_id: int
    url: str
    api_key: str
    name: str
    may_deliver: bool
    is_fallback: bool


class Keys:
    """The secrets as of one version. Each kind is read when it is first used.

    Raises UndecryptableError if one of that kind cannot be decrypted.
    """

    @cached_property
    def apps(self) -> list[App]:
        """The apps whose secret may sign events, one per secret."""
        apps: dict[str, App] = {}
        officials = CloudCredentials.objects.filter(channel__kind=Provider.OFFICIAL)
        for row in officials.only("app_secret", "phone_number_id").order_by("pk"):
            if secret := row.app_secret:
                app = apps.setdefault(secret, App(secret.encode(), row.pk))
                if row.phone_number_id:
                    app.numbers[row.phone_number_id] = row.pk
        return list(apps.values())

    @cached_property
    def verify_tokens(self) -> dict[bytes, str]:
        """The verification tokens of active official channels, by digest."""
        of_active = CloudCredentials.objects.filter(
            channel__kind=Provider.OFFICIAL, channel__active=True
        )
        tokens = [row.verify_token for row in of_active.only("verify_token")]
        return {_digest(token): token for token in tokens if token}

    @cached_property
    def sessions(self) -> dict[int, Session]:
        """The wwebjs-api sessions by channel."""
        with_fallback = set(
            FallbackRoute.objects.filter(connection__provider=Provider.WWEBJS)
            .order_by()
            .values_list("channel_id", flat=True)
        )
        rows = WwebjsCredentials.objects.select_related("channel").only(
            "url", "api_key", "session_id", "channel__kind"
        )
        return {
            row.pk: Session(
                channel_id=row.pk,
                url=row.url,
                api_key=row.api_key,
                name=row.session_id,
                may_deliver=row.channel.kind == Provider.OFFICIAL
                and bool(row.url and row.session_id)
                and row.pk in with_fallback,
                is_fallback=row.pk in with_fallback,
            )
            for row in rows.order_by("pk")
        }

    @cached_property
    def _channels_by_session(self) -> Mapping[tuple[str, str, str], int]:
        fallbacks = [one for one in self.sessions.values() if one.is_fallback]
        # If several have the same session, the oldest has it.
        return {(one.url, one.api_key, one.name): one.channel_id for one in reversed(fallbacks)}

    def channel_of_session(self, receiver: Session, name: str) -> int | None:
        """Return the channel of a session on the receiver's server, if it has the same key.

        It agrees with `handlers.wwebjs_channels`.
        """
        if name == receiver.name:
            return receiver.channel_id
        return self._channels_by_session.get((receiver.url, receiver.api_key, name))

    def app_for(self, body: bytes, signature: str) -> App | None:
        """Return the app that made this signature over the body (docs/providers/cloud.md §3.2)."""
        received = signature.removeprefix("sha256=").encode()
        for app in self.apps:
            expected = hmac.new(app.secret, body, hashlib.sha256).hexdigest()
            if hmac.compare_digest(expected.encode(), received):
                return app
        return None

    def is_verify_token(self, token: str) -> bool:
        """Return whether an active official channel has this verification token."""
        return same(self.verify_tokens.get(_digest(token), ""), token)


_cached: tuple[uuid.UUID, Keys] | None = None


def current() -> Keys:
    """Return the secrets as they are committed now. It makes one query, and reloads if needed."""
    global _cached
    with connection.cursor() as cursor:
        cursor.execute("SELECT version FROM alterna_webhook_keys_version")
        row = cursor.fetchone()
    if row is None:
        return Keys()  # the tables were emptied without triggers; the next change restores the row
    version, cached = row[0], _cached
    if cached is None or cached[0] != version:
        # It is read after the version, so it is at least as new.
        _cached = cached = (version, Keys())
    return cached[1]


def same(expected: str, received: str) -> bool:
    """Compare two secrets in constant time. An empty one is never the same."""
    return bool(expected) and hmac.compare_digest(expected.encode(), received.encode())


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="replace")).digest()
