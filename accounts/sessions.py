"""Browser sessions and their users."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.utils import timezone
from django.utils.crypto import constant_time_compare


def signed_in_users(session_keys: Iterable[str]) -> dict[str, User]:
    """Return the active user of each of these sessions that is signed in, with permissions loaded.

    It decides like `django.contrib.auth.get_user`, but needs at most four queries in all.
    """
    stored = Session.objects.filter(
        session_key__in=set(session_keys), expire_date__gt=timezone.now()
    )
    sessions = {session.session_key: session.get_decoded() for session in stored}
    ids = {data[SESSION_KEY] for data in sessions.values() if SESSION_KEY in data}
    users = {str(user.pk): user for user in User.objects.filter(pk__in=ids, is_active=True)}
    _load_permissions(users.values())
    return {
        key: users[data[SESSION_KEY]]
        for key, data in sessions.items()
        if data.get(SESSION_KEY) in users
        and data.get(BACKEND_SESSION_KEY) in settings.AUTHENTICATION_BACKENDS
        and _is_verified(users[data[SESSION_KEY]], data.get(HASH_SESSION_KEY, ""))
    }


def end_all(user: User) -> list[str]:
    """Delete a person's sessions and return their keys."""
    sessions = Session.objects.filter(expire_date__gt=timezone.now()).iterator()
    keys = [
        one.session_key for one in sessions if one.get_decoded().get(SESSION_KEY) == str(user.pk)
    ]
    Session.objects.filter(session_key__in=keys).delete()
    return keys


def _is_verified(user: User, session_hash: str) -> bool:
    """Return whether the session began with the user's present password."""
    hashes = (user.get_session_auth_hash(), *user.get_session_auth_fallback_hash())
    return any(constant_time_compare(session_hash, current) for current in hashes)


def _load_permissions(users: Iterable[User]) -> None:
    """Fill the caches from which Django's ModelBackend answers."""
    ids = [user.pk for user in users if not user.is_superuser]  # they need no permission
    name = ("content_type__app_label", "codename")
    caches = {"_user_perm_cache": "user", "_group_perm_cache": "group__user"}
    for cache, path in caches.items():
        permissions = defaultdict(set)
        if ids:
            granted = Permission.objects.filter(**{f"{path}__in": ids}).order_by()
            for pk, app_label, codename in granted.values_list(path, *name):
                permissions[pk].add(f"{app_label}.{codename}")
        for user in users:
            if not user.is_superuser:
                setattr(user, cache, permissions[user.pk])
