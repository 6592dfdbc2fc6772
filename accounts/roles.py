"""The four ready-made roles: groups whose names are the same everywhere, translated for people.

A role includes those below it. Installations may change the permissions of a group, and make groups
of their own: nothing here sets them back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps as installed_apps
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django_stubs_ext import StrPromise

VIEWER: Final = "viewer"
AGENT: Final = "agent"
SUPERVISOR: Final = "supervisor"
ADMINISTRATOR: Final = "administrator"
ROLES: Final = (VIEWER, AGENT, SUPERVISOR, ADMINISTRATOR)

LABELS: Final[dict[str, StrPromise]] = {
    VIEWER: _("Viewer"),
    AGENT: _("Agent"),
    SUPERVISOR: _("Supervisor"),
    ADMINISTRATOR: _("Administrator"),
}
WORDS: Final[dict[str, StrPromise]] = {
    VIEWER: _("Reads conversations and figures, and changes nothing."),
    AGENT: _("Answers customers: messages, notes, labels, who works on what."),
    SUPERVISOR: _("Also tries messages again, calls, edits templates and switches instances."),
    ADMINISTRATOR: _("Also sets up channels and their secrets, and manages the team."),
}

# What each role adds to those below it: model, and what may be done with it.
_ADDED: Final[dict[str, dict[str, str]]] = {
    VIEWER: {
        "messaging.conversation": "view",
        "messaging.message": "view",
        "messaging.deliveryattempt": "view",
        "messaging.contact": "view",
        "messaging.contactaddress": "view",
        "messaging.label": "view",
        "messaging.note": "view",
        "messaging.quickreply": "view",
        "messaging.callattempt": "view",
        "messaging.media": "view",
        "channels_app.channel": "view",
        "channels_app.messagetemplate": "view",
        "instances.whatsappsession": "view",
        "accounts.team": "view",
    },
    AGENT: {
        "messaging.message": "add",
        "messaging.conversation": "change",
        "messaging.contact": "change",
        "messaging.note": "add",
        "messaging.label": "add",
        "messaging.quickreply": "add change delete",
        "messaging.media": "add",
    },
    SUPERVISOR: {
        "messaging.message": "change",
        "messaging.callattempt": "call_contact",
        "messaging.label": "change delete",
        "messaging.note": "change delete",
        "messaging.contact": "add",
        "channels_app.messagetemplate": "add change delete",
        "instances.whatsappsession": "change",
    },
    ADMINISTRATOR: {
        "channels_app.channel": "add change delete",
        "channels_app.cloudcredentials": "view add change delete",
        "channels_app.wwebjscredentials": "view add change delete",
        "channels_app.evolutioncredentials": "view add change delete",
        "channels_app.connection": "view",
        "channels_app.fallbackroute": "view add change delete",
        "channels_app.incident": "view",
        "messaging.inboundevent": "view change",
        "messaging.rate": "view add change delete",
        "messaging.conversation": "delete",
        "messaging.contact": "delete",
        "accounts.team": "add change delete manage_people",
        "accounts.apitoken": "view delete",
    },
}
_WHOLE: Final = frozenset({"call_contact", "manage_people"})


def _granted(role: str) -> Iterator[tuple[str, str, str]]:
    """Yield app, model and codename of what a role and those below it may do."""
    for below in ROLES[: ROLES.index(role) + 1]:
        for name, actions in _ADDED[below].items():
            app, model = name.split(".")
            for action in actions.split():
                yield app, model, action if action in _WHOLE else f"{action}_{model}"


def permissions_of(role: str) -> set[str]:
    """Return the permissions of a role as it is made, as `app.codename`."""
    return {f"{app}.{codename}" for app, _model, codename in _granted(role)}


def lowest_with(permissions: Iterable[str]) -> str:
    """Return the lowest role that has these permissions as it is made, or "" if none has."""
    wanted = set(permissions)
    return next((role for role in ROLES if wanted <= permissions_of(role)), "")


def install(apps: Any = installed_apps) -> None:
    """Make the groups that are missing, with their permissions. Existing ones stay as they are.

    The permissions may not exist yet, because Django makes them after all migrations.
    """
    Group = apps.get_model("auth", "Group")
    for role in ROLES:
        group, created = Group.objects.get_or_create(name=role)
        if created:
            group.permissions.set(_permissions(apps, role))


def _permissions(apps: Any, role: str) -> Iterator[Any]:
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    for app, model, codename in _granted(role):
        kind, _created = ContentType.objects.get_or_create(app_label=app, model=model)
        name = f"Can {codename.replace('_', ' ')}"
        permission, _created = Permission.objects.get_or_create(
            content_type=kind, codename=codename, defaults={"name": name}
        )
        yield permission


def of(user: User) -> str:
    """Return the highest role that the person has, or "" if their rights are their own.

    It reads the groups, so prefetch them for many people.
    """
    if user.is_superuser:
        return ADMINISTRATOR
    return highest({group.name for group in user.groups.all()})


def highest(names: Collection[str]) -> str:
    """Return the highest role among these group names, or ""."""
    return next((role for role in reversed(ROLES) if role in names), "")


def rank(role: str) -> int:
    """Return how high a role is; rights of one's own are below all roles."""
    return ROLES.index(role) + 1 if role in ROLES else 0
