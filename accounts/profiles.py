"""What people have chosen for themselves: appearance and signature."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accounts.models import Profile

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def of(user: User) -> Profile:
    """Return the person's choices; the defaults, not stored, if they have made none."""
    return Profile.objects.filter(user=user).first() or Profile(user=user)


def signature_of(user: User) -> str:
    """Return the line that the person puts under their messages, or ""."""
    profile = of(user)
    return profile.signature if profile.signature_on else ""


def signed(text: str, user: User) -> str:
    """Return a text with the person's signature under it, if they want one; "" stays empty."""
    signature = signature_of(user) if text else ""
    return f"{text}\n\n— {signature}" if signature else text
