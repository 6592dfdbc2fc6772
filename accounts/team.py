"""The team: who works with the product, by which role, invited by whom."""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from collections.abc import Sequence
from typing import Final

from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.dispatch import Signal
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import roles, sessions
from accounts.models import ApiToken, Invitation, Team

MANAGE: Final = "accounts.manage_people"
INVITATION_DAYS: Final = 7

# Sent with `keys`, the session keys that have ended, after the commit.
sessions_ended = Signal()


def people() -> QuerySet[User]:
    """Return everybody who works with the product, with groups and teams, active ones first."""
    found = User.objects.filter(is_staff=True).prefetch_related("groups", "teams")
    return found.order_by("-is_active", "username")


def administrators() -> QuerySet[User]:
    """Return those who manage the team and can sign in."""
    return User.objects.filter(
        Q(is_superuser=True) | Q(groups__name=roles.ADMINISTRATOR), is_active=True, is_staff=True
    ).distinct()


def may_manage(by: User, person: User) -> bool:
    """Return whether one may change the other: nobody above themselves."""
    if not by.has_perm(MANAGE):
        return False
    return by.is_superuser or (
        not person.is_superuser and roles.rank(roles.of(person)) <= roles.rank(roles.of(by))
    )


def roles_given_by(by: User) -> list[str]:
    """Return the roles that a person may give: none above their own."""
    return [role for role in roles.ROLES if roles.rank(role) <= roles.rank(roles.of(by))]


def invite(
    *, by: User, role: str, teams: Sequence[Team] = (), note: str = ""
) -> tuple[Invitation, str]:
    """Return a new invitation and the secret of its link, which is not stored."""
    _check_role(by, role)
    secret = secrets.token_urlsafe(32)
    expires_at = timezone.now() + dt.timedelta(days=INVITATION_DAYS)
    with transaction.atomic():
        invitation = Invitation.objects.create(
            digest=_digest(secret), role=role, note=note, invited_by=by, expires_at=expires_at
        )
        invitation.teams.set(teams)
    return invitation, secret


def open_invitation(secret: str) -> Invitation | None:
    """Return the invitation of a link that can still be used."""
    found = Invitation.objects.filter(digest=_digest(secret), accepted_at=None)
    return found.filter(expires_at__gt=timezone.now()).first()


def open_invitations() -> QuerySet[Invitation]:
    """Return the invitations that nobody has used yet, latest first."""
    found = Invitation.objects.filter(accepted_at=None, expires_at__gt=timezone.now())
    return found.select_related("invited_by").prefetch_related("teams")


def accept(secret: str, *, username: str, name: str, password: str) -> User:
    """Make the invited person's account. Raises ValidationError by field."""
    first, __, last = name.strip().partition(" ")
    user = User(username=username.strip(), first_name=first, last_name=last.strip(), is_staff=True)
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise ValidationError({"password": error.messages}) from None
    user.set_password(password)
    user.full_clean(exclude=["password"])
    with transaction.atomic():
        found = Invitation.objects.select_for_update().filter(digest=_digest(secret))
        invitation = found.filter(accepted_at=None, expires_at__gt=timezone.now()).first()
        if invitation is None:
            raise ValidationError({"__all__": _("This link was used already, or has expired.")})
        try:
            with transaction.atomic():
                user.save()
        except IntegrityError:
            raise ValidationError({"username": _("Somebody has this user name.")}) from None
        user.groups.set(Group.objects.filter(name=invitation.role))
        user.teams.set(invitation.teams.all())
        invitation.accepted_at, invitation.accepted_by = timezone.now(), user
        invitation.save(update_fields=["accepted_at", "accepted_by"])
    return user


def withdraw(invitation: Invitation, *, by: User) -> None:
    """Make a link unusable."""
    _require(by.has_perm(MANAGE))
    invitation.delete()


def change(person: User, *, by: User, role: str, teams: Sequence[Team]) -> None:
    """Give a person a role and teams; the role "" leaves their rights. Other groups stay."""
    if role:
        _check_role(by, role)
    with transaction.atomic():
        locked = _lock(person, by)
        if roles.of(locked) == roles.ADMINISTRATOR and role not in ("", roles.ADMINISTRATOR):
            if locked.is_superuser:
                raise ValidationError(_("A superuser has all rights. Change that in the admin."))
            _keep_an_administrator(locked)
        if role and role != roles.of(locked):
            others = locked.groups.exclude(name__in=roles.ROLES)
            locked.groups.set([*others, *Group.objects.filter(name=role)])
            _end_invitations(locked)
        locked.teams.set(teams)


def deactivate(person: User, *, by: User) -> None:
    """End a person's access: sessions, live pages and API keys at once. Their work stays."""
    with transaction.atomic():
        locked = _lock(person, by)
        if locked.pk == by.pk:
            raise ValidationError(_("You cannot deactivate yourself."))
        if roles.of(locked) == roles.ADMINISTRATOR:
            _keep_an_administrator(locked)
        locked.is_active = False
        locked.save(update_fields=["is_active"])
        _end_invitations(locked)
        ended = sessions.end_all(locked)
        transaction.on_commit(lambda: sessions_ended.send(sender=User, keys=ended))


def reactivate(person: User, *, by: User) -> None:
    """Let a person sign in again. API keys that they had work again, too."""
    with transaction.atomic():
        locked = _lock(person, by)
        locked.is_active = True
        locked.save(update_fields=["is_active"])


def keys_of(user: User) -> QuerySet[ApiToken]:
    """Return a person's API keys, latest first."""
    found: QuerySet[ApiToken] = ApiToken.objects.filter(user=user).order_by("-created")
    return found


def create_key(
    user: User, *, name: str, scope: str = ApiToken.Scope.FULL, days: int | None = None
) -> tuple[ApiToken, str]:
    """Return a new API key and its secret, which is shown once. Without `days` it stays valid."""
    expiry = None if days is None else dt.timedelta(days=days)
    token, secret = ApiToken.objects.create(user=user, expiry=expiry, name=name, scope=scope)
    return token, secret


def _lock(person: User, by: User) -> User:
    # All administrators, in one order: two of them cannot take each other's role at once.
    ids = sorted({*administrators().values_list("pk", flat=True), person.pk})
    rows = User.objects.select_for_update().filter(pk__in=ids).order_by("pk")
    locked = {user.pk: user for user in rows}
    _require(may_manage(by, locked[person.pk]))
    return locked[person.pk]


def _end_invitations(locked: User) -> None:
    """Withdraw what a person has invited: nobody comes back by a link of their own."""
    Invitation.objects.filter(invited_by=locked, accepted_at=None).delete()


def _keep_an_administrator(leaving: User) -> None:
    if not administrators().exclude(pk=leaving.pk).exists():
        raise ValidationError(_("This is the last administrator."))


def _check_role(by: User, role: str) -> None:
    _require(by.has_perm(MANAGE) and role in roles_given_by(by))


def _require(allowed: bool) -> None:
    if not allowed:
        raise PermissionDenied(_("You cannot give or change a role above your own."))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
