from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.contrib.knox_auth_token import KnoxTokenScheme
from knox.auth import TokenAuthentication as KnoxTokenAuthentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from accounts.models import ApiToken

USED_EVERY = dt.timedelta(minutes=1)


def is_read_only(auth: Any) -> bool:
    """Return whether a request was authenticated by a key that may only read."""
    return isinstance(auth, ApiToken) and auth.scope == ApiToken.Scope.READ


class TokenAuthentication(KnoxTokenAuthentication):
    """Fixes knox, which fails on non-text tokens and reads all of a user's tokens."""

    def authenticate_credentials(self, token: bytes) -> Any:
        if not token.isascii() or b"\x00" in token:
            raise AuthenticationFailed(_("Invalid token."))
        return super().authenticate_credentials(token)

    def authenticate(self, request: Request) -> Any:
        found = super().authenticate(request)
        if found is not None:
            token = found[1]
            if is_read_only(token) and request.method not in SAFE_METHODS:
                raise PermissionDenied(_("This API key may only read."))
            _used(token)
        return found

    def _cleanup_token(self, auth_token: ApiToken) -> bool:
        """Whether the token has expired. knox would also look for other expired tokens."""
        return auth_token.expiry is not None and auth_token.expiry < timezone.now()


def _used(token: ApiToken) -> None:
    """Store that the key is in use, at most once a minute."""
    now = timezone.now()
    if token.last_used_at is None or now - token.last_used_at > USED_EVERY:
        ApiToken.objects.filter(pk=token.pk).update(last_used_at=now)


class TokenScheme(KnoxTokenScheme):  # type: ignore[no-untyped-call]
    """Describes the authentication in the OpenAPI schema."""

    target_class = "accounts.authentication.TokenAuthentication"
