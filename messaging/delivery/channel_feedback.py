"""Update a channel's health, circuit breaker and new-chat block from an attempt's outcome.

Nothing is written while a healthy route accepts messages.
"""

from __future__ import annotations

import structlog
from django.utils import timezone

from channels_app import signals
from channels_app.connections import circuit_breaker
from channels_app.models import Channel
from channels_app.providers import error_codes
from channels_app.providers.base import Accepted, SendError
from channels_app.providers.error_codes import ErrorClass, FallbackRule
from channels_app.providers.events import Receipt
from messaging.delivery import policy, rate_limits
from messaging.delivery.statuses import Outcome, Route
from messaging.live import publisher
from messaging.models import DeliveryAttempt

# The server is missing or is the wrong one: the channel cannot work, whatever the message.
_UNREACHABLE = frozenset(
    {"dns_failed", "connection_refused", "connect_timeout", "unreachable", "certificate_refused",
     "not_tls", "tls_failed"}
)  # fmt: skip
# The session or its server may be down: the monitor checks it immediately, so that it is restarted
# before the next attempt. A crashed or frozen page does not respond at all
# (docs/providers/wwebjs.md §7.1).
_CHECK_SESSION = _UNREACHABLE | {
    "instance_not_connected",
    "number_unknown",
    "not_started",
    "timeout",
    "connection_broken",
    "session_not_found",
    "session_not_connected",
    "session_closed",
    "session_check_failed",
    "session_not_ready",
    "lookup_failed",
}

log = structlog.get_logger(__name__)


def note(attempt: DeliveryAttempt, result: Accepted | SendError) -> None:
    """Update the channel from a provider's response.

    `attempt.channel` is as it was when the attempt started, so unchanged values cost no query.
    """
    if isinstance(result, Accepted):
        _record_accepted(attempt, result.took_our_id)
    else:
        _record_failure(
            attempt, result.code, late=False, title=result.title, http_status=result.http_status
        )


def note_receipt(attempt: DeliveryAttempt) -> None:
    """Update the channel from a receipt that changed the attempt. In a transaction."""
    if attempt.outcome == Outcome.REJECTED and attempt.receipt == Receipt.FAILED:
        _record_failure(attempt, attempt.error_code, late=True, title=attempt.error_title)
    elif attempt.outcome == Outcome.ACCEPTED and attempt.rule in ("probe", "asked"):
        # A route that rejects late is proven to work only by a receipt.
        circuit_breaker.close(attempt.channel, attempt.route)


def _record_accepted(attempt: DeliveryAttempt, took_our_id: bool | None) -> None:
    channel, route = attempt.channel, attempt.route
    if took_our_id is not None and took_our_id != channel.takes_message_ids:
        Channel.objects.filter(pk=channel.pk).update(takes_message_ids=took_our_id)
        log.info("provider uses our message ids", channel=channel.pk, taken=took_our_id)
    if circuit_breaker.is_open(channel, route):
        late = channel.wwebjs_breaker_late if route == Route.WWEBJS else channel.breaker_late
        if late:
            return
        circuit_breaker.close(channel, route)
    if route != Route.WWEBJS and channel.health != Channel.Health.OK:
        if channel.record_health(ok=True):
            publisher.channel_changed(channel)
        circuit_breaker.record_recovery(channel, route)
        signals.send_taken.send(sender=Channel, channel=channel)


def _record_failure(
    attempt: DeliveryAttempt,
    code: str,
    *,
    late: bool,
    title: str,
    http_status: int | None = None,
) -> None:
    channel, route = attempt.channel, attempt.route
    rule = error_codes.lookup(code, http_status=http_status)
    if code in _CHECK_SESSION and not late:
        signals.send_refused.send(sender=Channel, channel=channel, route=route, code=code)
    if not rule.known:
        log.warning("unknown error code", code=code, route=route, attempt=str(attempt))
    if route != Route.OFFICIAL and route != _own_route(attempt):
        _check_new_chat_block(attempt, code)
    if circuit_breaker.should_trip(rule):
        circuit_breaker.trip(channel, route, code=code, late=late)
    elif rule.alarm and rule.fallback == FallbackRule.OPT_IN:
        circuit_breaker.alert_once(channel, route, code=code)
    elif rule.alarm:
        # The route works, but a person must check the request, or a new code.
        reason = "" if rule.known else title
        route_name = "wwebjs" if route == Route.WWEBJS else ""
        circuit_breaker.note_refused(
            channel, code=code, detail=", ".join(filter(None, [reason, route_name]))
        )
        return
    elif code not in _UNREACHABLE:
        return
    if route == Route.WWEBJS or not _affects_health(rule, code):
        return
    if channel.record_health(ok=False, detail=code):
        publisher.channel_changed(channel)


def _affects_health(rule: error_codes.ErrorRule, code: str) -> bool:
    limited = rule.alarm and rule.fallback == FallbackRule.OPT_IN
    return rule.kind == ErrorClass.CONFIG or limited or code in _UNREACHABLE


def _own_route(attempt: DeliveryAttempt) -> str:
    official = attempt.message.conversation.channel.kind == Channel.Kind.OFFICIAL
    return Route.OFFICIAL if official else Route.BAILEYS


def _check_new_chat_block(attempt: DeliveryAttempt, code: str) -> None:
    """Block new chats if WhatsApp rejects the fallback number's first messages (error 463)."""
    if not policy.is_new_chat_block(code, rejections=policy.NEW_CHAT_REJECTIONS):
        return
    if not rate_limits.is_first_contact(attempt.message, attempt.channel, attempt.route):
        return
    rejected = DeliveryAttempt.objects.filter(
        channel=attempt.channel_id,
        route=attempt.route,
        outcome=Outcome.REJECTED,
        error_code=code,
        started_at__gt=timezone.now() - policy.NEW_CHAT_REJECTIONS_WITHIN,
    )
    first_messages = rate_limits.to_new_contacts(rejected, attempt.channel, attempt.route)
    contacts = first_messages.values("message__conversation__contact").distinct().count()
    if policy.is_new_chat_block(code, rejections=contacts):
        circuit_breaker.stop_new_chats(attempt.channel, code=code)
