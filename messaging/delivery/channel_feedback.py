"""Update a channel's health, circuit breaker and new-chat block from an attempt's outcome.

Nothing is written while a healthy route accepts messages.
"""

from __future__ import annotations

import structlog
from django.utils import timezone

from channels_app import message_templates
from channels_app.connections import circuit_breaker, session_engines
from channels_app.models import Connection
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

    `attempt.connection` is as it was when the attempt started, so unchanged values cost no query.
    """
    if isinstance(result, Accepted):
        _record_accepted(attempt, result.took_our_id)
    else:
        _record_failure(
            attempt, result.code, late=False, title=result.title, http_status=result.http_status
        )


def is_nothing_new(attempt: DeliveryAttempt, result: Accepted) -> bool:
    """Return whether `note` has nothing to do: a healthy connection accepted a message."""
    connection = attempt.connection
    return (
        result.took_our_id in (None, connection.takes_message_ids)
        and not circuit_breaker.is_open(connection)
        and not (connection.is_primary and connection.health != Connection.Health.OK)
    )


def note_receipt(attempt: DeliveryAttempt) -> None:
    """Update the channel from a receipt that changed the attempt. In a transaction."""
    if attempt.outcome == Outcome.REJECTED and attempt.receipt == Receipt.FAILED:
        _record_failure(attempt, attempt.error_code, late=True, title=attempt.error_title)
    elif attempt.outcome == Outcome.ACCEPTED and attempt.rule in ("probe", "asked"):
        # A route that rejects late is proven to work only by a receipt.
        circuit_breaker.close(attempt.connection)


def _record_accepted(attempt: DeliveryAttempt, took_our_id: bool | None) -> None:
    connection = attempt.connection
    if took_our_id is not None and took_our_id != connection.takes_message_ids:
        Connection.objects.filter(pk=connection.pk).update(takes_message_ids=took_our_id)
        log.info("provider uses our message ids", connection=connection.pk, taken=took_our_id)
    if circuit_breaker.is_open(connection):
        if connection.breaker_late:
            return
        circuit_breaker.close(connection)
    if connection.is_primary and connection.health != Connection.Health.OK:
        if connection.record_health(ok=True):
            publisher.channel_changed(connection.channel)
        circuit_breaker.record_recovery(connection)
        session_engines.send_accepted(connection)


def _record_failure(
    attempt: DeliveryAttempt,
    code: str,
    *,
    late: bool,
    title: str,
    http_status: int | None = None,
) -> None:
    connection, route = attempt.connection, attempt.route
    if code in message_templates.OUTDATED_CODES and route == Route.OFFICIAL:
        message_templates.enqueue_if_outdated(connection.channel)
    rule = error_codes.lookup(code, http_status=http_status)
    if code in _CHECK_SESSION and not late:
        session_engines.send_failed(connection, code)
    if not rule.known:
        log.warning("unknown error code", code=code, route=route, attempt=str(attempt))
    if route not in (Route.OFFICIAL, attempt.message.conversation.channel.kind):
        _check_new_chat_block(attempt, code)
    if circuit_breaker.should_trip(rule):
        circuit_breaker.trip(connection, code=code, late=late)
    elif rule.alerts_staff and rule.fallback == FallbackRule.OPT_IN:
        circuit_breaker.alert_once(connection, code=code)
    elif rule.alerts_staff:
        # The route works, but a person must check the request, or a new code.
        reason = "" if rule.known else title
        circuit_breaker.record_rejection(connection, code=code, detail=reason)
        return
    elif code not in _UNREACHABLE:
        return
    if not connection.is_primary or not _affects_health(rule, code):
        return
    if connection.record_health(ok=False, detail=code):
        publisher.channel_changed(connection.channel)


def _affects_health(rule: error_codes.ErrorRule, code: str) -> bool:
    limited = rule.alerts_staff and rule.fallback == FallbackRule.OPT_IN
    return rule.kind == ErrorClass.CONFIG or limited or code in _UNREACHABLE


def _check_new_chat_block(attempt: DeliveryAttempt, code: str) -> None:
    """Block new chats if WhatsApp rejects the fallback number's first messages (error 463)."""
    if not policy.is_new_chat_block(code, rejections=policy.NEW_CHAT_REJECTIONS):
        return
    connection = attempt.connection
    if not rate_limits.is_first_contact(attempt.message, connection):
        return
    rejected = DeliveryAttempt.objects.filter(
        connection=connection,
        outcome=Outcome.REJECTED,
        error_code=code,
        started_at__gt=timezone.now() - policy.NEW_CHAT_REJECTIONS_WITHIN,
    )
    first_messages = rate_limits.to_new_contacts(rejected, connection)
    contacts = first_messages.values("message__conversation__contact").distinct().count()
    if policy.is_new_chat_block(code, rejections=contacts):
        circuit_breaker.block_new_chats(connection, code=code)
