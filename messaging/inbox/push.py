"""Web push: a new message reaches the phones and browsers of those whom it concerns.

A job takes all messages that arrived since the last one, whatever their number, so receiving a
message costs nothing more. Each push is then a job of its own.

Whom a message concerns: the person who has the conversation; else its team; else everybody. Each
must be signed in and may read messages.

A message is pushed once. An address that its push service no longer knows is deleted; if the
service is busy or away, the push is tried again a few times.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _
from py_vapid import Vapid02
from pywebpush import WebPusher

from accounts.models import Team
from accounts.sessions import signed_in_users
from core import http_client
from messaging import display, queue, selectors, words
from messaging.inbox.push_models import PushedMessage, PushSubscription
from messaging.models import Conversation, Message

if TYPE_CHECKING:
    from django.contrib.auth.models import User

log = structlog.get_logger(__name__)

# What arrived longer ago is not pushed: an import, or a server that was away.
MAX_AGE: Final = dt.timedelta(minutes=10)
MAX_MESSAGES: Final = 200
MAX_PER_USER: Final = 10
MAX_TEXT: Final = 200
SECONDS: Final = 10.0
# A phone that is off receives it within this time.
TTL: Final = 6 * 60 * 60
TRIES: Final = 4
RIGHTS: Final = ("messaging.view_conversation", "messaging.view_message")


def is_possible() -> bool:
    """Return whether this installation has a key with which browsers know it."""
    return bool(settings.VAPID_PRIVATE_KEY)


def public_key() -> str:
    """Return the key that a page gives to the browser; empty if push is not possible."""
    if not is_possible():
        return ""
    point = _vapid(settings.VAPID_PRIVATE_KEY).public_key.public_bytes(
        Encoding.X962, PublicFormat.UncompressedPoint
    )
    return base64.urlsafe_b64encode(point).rstrip(b"=").decode()


@lru_cache(maxsize=2)
def _vapid(key: str) -> Any:
    return Vapid02.from_raw(key.encode())


def subscribe(
    user: User, session_key: str, data: Any, *, language: str, private: bool = False
) -> PushSubscription:
    """Store a browser's subscription, as `PushSubscription.toJSON()` describes it.

    A user has at most `MAX_PER_USER`: the oldest ones end. Raises ValidationError.
    """
    endpoint, p256dh, auth = _checked(data)
    stored, _created = PushSubscription.objects.update_or_create(
        endpoint=endpoint,
        defaults={
            "user": user,
            "session_key": session_key,
            "p256dh": p256dh,
            "auth": auth,
            "language": language,
            "private": private,
            "created_at": timezone.now(),
        },
    )
    newest = PushSubscription.objects.filter(user=user).order_by("-created_at", "-pk")
    kept = list(newest.values_list("pk", flat=True)[:MAX_PER_USER])
    PushSubscription.objects.filter(user=user).exclude(pk__in=kept).delete()
    return stored


def unsubscribe(user: User, endpoint: str) -> None:
    """Forget a browser of this user."""
    PushSubscription.objects.filter(user=user, endpoint=endpoint).delete()


def forget(user: User) -> None:
    """Forget all browsers of a user, who was deactivated or signs out everywhere."""
    PushSubscription.objects.filter(user=user).delete()


def _checked(data: Any) -> tuple[str, str, str]:
    """Return the address and the keys. The address's IP is checked when something is sent to it."""
    keys = data.get("keys") if isinstance(data, dict) else None
    values = (
        [data.get("endpoint"), keys.get("p256dh"), keys.get("auth")]
        if isinstance(keys, dict)
        else []
    )
    if len(values) != 3 or not all(isinstance(value, str) for value in values):
        raise ValidationError(_("This is not a push subscription."))
    endpoint, p256dh, auth = values
    try:
        parts = urlsplit(endpoint)
        point, secret = _decoded(p256dh), _decoded(auth)
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        port = parts.port
    except (ValueError, binascii.Error):
        raise ValidationError(_("This is not a push subscription.")) from None
    if (
        parts.scheme not in settings.PUSH_SCHEMES
        or not parts.hostname
        or parts.username
        or parts.fragment
        or (port not in (None, 443) and "http" not in settings.PUSH_SCHEMES)
        or len(endpoint) > 1000
        or len(secret) != 16
    ):
        raise ValidationError(_("This is not a push subscription."))
    return endpoint, p256dh, auth


def _decoded(value: str) -> bytes:
    return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))


# -- sending ---------------------------------------------------------------------------------------


def push_arrivals() -> int:
    """Enqueue a push of what arrived since the last time for each browser that it concerns.

    Returns their number.
    """
    if not is_possible() or not PushSubscription.objects.exists():
        return 0
    enqueued = 0
    with transaction.atomic():
        taken = _take(_arrived())
        if not taken:
            return 0
        subscriptions = _valid(list(PushSubscription.objects.select_related("user")))
        teams = _teams({one.user_id for one in subscriptions})
        for message in taken:
            for subscription in subscriptions:
                if concerns(message.conversation, subscription.user_id, teams):
                    queue.enqueue_push(subscription.pk, str(message.pk))
                    enqueued += 1
    return enqueued


def send(subscription_id: int, message_id: str, tries: int) -> None:
    """Send one push, unless its browser or message has gone meanwhile."""
    found = list(PushSubscription.objects.select_related("user").filter(pk=subscription_id))
    message = selectors.messages().filter(pk=message_id).first()
    for subscription in _valid(found):
        if message is not None:
            _send(subscription, message, tries=tries)


def concerns(conversation: Conversation, user_id: int, teams: dict[int, frozenset[int]]) -> bool:
    """Return whether a message of the conversation is pushed to this user."""
    if conversation.assignee_id is not None:
        return conversation.assignee_id == user_id
    if conversation.team_id is not None:
        return user_id in teams.get(conversation.team_id, ())
    return True


def _arrived() -> list[Message]:
    now = timezone.now()
    found = (
        selectors.messages()
        .filter(
            direction=Message.Direction.IN,
            updated_at__gte=now - MAX_AGE,
            created_at__gte=now - MAX_AGE,
            conversation__unread_count__gt=0,
        )
        .exclude(pk__in=PushedMessage.objects.values("message_id"))
        .order_by("-created_at", "-id")[:MAX_MESSAGES]
    )
    return [
        one
        for one in found
        if not one.context.get("imported") and words.kind_of(one.type, one.content).unread
    ]


def _take(messages: Sequence[Message]) -> list[Message]:
    """Mark messages as pushed; return the latest new one of each conversation."""
    rows = [PushedMessage(message_id=one.pk) for one in messages]
    PushedMessage.objects.bulk_create(rows, ignore_conflicts=True)
    PushedMessage.objects.filter(at__lt=timezone.now() - dt.timedelta(hours=1)).delete()
    latest: dict[int, Message] = {}
    for message in messages:  # newest first
        latest.setdefault(message.conversation_id, message)
    return list(latest.values())


def _valid(subscriptions: Sequence[PushSubscription]) -> list[PushSubscription]:
    """Return those whose session still signs their user in; delete the others."""
    users = signed_in_users({one.session_key for one in subscriptions})
    valid, ended = [], []
    for one in subscriptions:
        user = users.get(one.session_key)
        if user is None or user.pk != one.user_id:
            ended.append(one.pk)
        elif user.is_staff and user.has_perms(RIGHTS):
            valid.append(one)
    if ended:
        PushSubscription.objects.filter(pk__in=ended).delete()
    return valid


def _teams(users: Iterable[int]) -> dict[int, frozenset[int]]:
    """Return which of these users belong to each team."""
    members = Team.members.through.objects.filter(user_id__in=list(users))
    teams: dict[int, set[int]] = {}
    for team, user in members.values_list("team_id", "user_id"):
        teams.setdefault(team, set()).add(user)
    return {team: frozenset(of_team) for team, of_team in teams.items()}


def _payload(message: Message, subscription: PushSubscription) -> dict[str, Any]:
    """Return what the browser shows of a message."""
    with translation.override(subscription.language):
        hidden = subscription.private
        return {
            "title": "Alterna" if hidden else display.contact_name(message.conversation.contact),
            "body": _("New message") if hidden else display.preview(message)[:MAX_TEXT],
            "tag": f"conversation-{message.conversation_id}",
            "url": reverse("messaging:conversation", args=[message.conversation_id]),
            "message": str(message.pk),
        }


def _send(subscription: PushSubscription, message: Message, *, tries: int) -> None:
    endpoint = subscription.endpoint
    pusher = WebPusher(
        {"endpoint": endpoint, "keys": {"p256dh": subscription.p256dh, "auth": subscription.auth}}
    )
    body = pusher.encode(json.dumps(_payload(message, subscription)).encode(), "aes128gcm")["body"]
    parts = urlsplit(endpoint)
    claims = {"aud": f"{parts.scheme}://{parts.netloc}", "sub": _contact()}
    headers = {
        **_vapid(settings.VAPID_PRIVATE_KEY).sign(claims),
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
        "TTL": str(TTL),
        "Urgency": "high",
    }
    try:
        answer = http_client.request(
            "POST",
            endpoint,
            headers=headers,
            data=body,
            timeout=SECONDS,
            public_only="http" not in settings.PUSH_SCHEMES,
        )
    except http_client.RequestFailed as failure:
        _again(subscription, message, tries, reason=failure.reason)
        return
    if answer.status in (404, 410):
        subscription.delete()
        log.info("push_subscription_ended", user=subscription.user_id)
    elif answer.status == 429 or answer.status >= 500:
        wait = answer.headers.get("Retry-After", "")
        seconds = int(wait) if wait.isdecimal() and len(wait) < 5 else 0
        _again(subscription, message, tries, reason=str(answer.status), seconds=seconds)
    elif answer.status >= 300:
        log.warning("push_rejected", status=answer.status, user=subscription.user_id)


def _again(
    subscription: PushSubscription, message: Message, tries: int, *, reason: str, seconds: int = 0
) -> None:
    if tries >= TRIES:
        log.warning("push_lost", user=subscription.user_id, reason=reason)
        return
    at = timezone.now() + dt.timedelta(seconds=max(seconds, 15 * 2**tries))
    queue.enqueue_push(subscription.pk, str(message.pk), tries=tries + 1, at=at)


def _contact() -> str:
    """Return where a push service finds whoever runs this installation."""
    host = urlsplit(settings.PUBLIC_URL).hostname or "localhost"
    secure = settings.PUBLIC_URL.startswith("https://")
    return settings.PUBLIC_URL if secure else f"mailto:alterna@{host}"
