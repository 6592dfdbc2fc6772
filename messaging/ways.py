"""What the ending of an attempt says about the way it went: health, circuit breaker, stop.

Nothing is written while a healthy way takes what it is given.
"""

from __future__ import annotations

import structlog
from django.utils import timezone

from channels_app import breakers, signals
from channels_app.models import Channel
from channels_app.providers import cloud_errors
from channels_app.providers.base import Accepted, SendError
from channels_app.providers.cloud_errors import ErrorClass, FallbackRule
from messaging import live, pacing, policy
from messaging.models import DeliveryAttempt
from messaging.states import Outcome, Receipt, Route

# Nobody is there, or not who should be: the channel does not work, whatever the message.
_UNREACHABLE = frozenset(
    {"dns_failed", "connection_refused", "connect_timeout", "unreachable", "certificate_refused",
     "not_tls", "tls_failed"}
)  # fmt: skip
# The link to WhatsApp, or the server that keeps it, may be gone: who monitors it checks at once.
_IN_DOUBT = frozenset({"instance_not_connected", "timeout", "connection_broken"}) | _UNREACHABLE

log = structlog.get_logger(__name__)


def note(attempt: DeliveryAttempt, result: Accepted | SendError) -> None:
    """Draw the conclusions from a provider's answer.

    `attempt.channel` is as it was when the attempt began: what it already says costs no query.
    """
    if isinstance(result, Accepted):
        _note_accepted(attempt, result.took_our_id)
    else:
        _note_failure(
            attempt, result.code, late=False, title=result.title, http_status=result.http_status
        )


def note_receipt(attempt: DeliveryAttempt) -> None:
    """Draw the conclusions from a receipt that changed the attempt. In a transaction."""
    if attempt.outcome == Outcome.REJECTED and attempt.receipt == Receipt.FAILED:
        _note_failure(attempt, attempt.error_code, late=True, title=attempt.error_title)
    elif attempt.outcome == Outcome.ACCEPTED and attempt.rule in ("probe", "asked"):
        # A way whose refusals come late is proved by this only.
        breakers.close(attempt.channel, attempt.route)


def _note_accepted(attempt: DeliveryAttempt, took_our_id: bool | None) -> None:
    channel, route = attempt.channel, attempt.route
    if took_our_id is not None and took_our_id != channel.takes_message_ids:
        Channel.objects.filter(pk=channel.pk).update(takes_message_ids=took_our_id)
        log.info("message ids of ours", channel=channel.pk, taken=took_our_id)
    if breakers.is_open(channel, route):
        late = channel.wwebjs_breaker_late if route == Route.WWEBJS else channel.breaker_late
        if late:
            return
        breakers.close(channel, route)
    if route != Route.WWEBJS and channel.health != Channel.Health.OK:
        if channel.record_health(ok=True):
            live.channel_changed(channel)
        breakers.calm(channel, route)
        signals.send_taken.send(sender=Channel, channel=channel)


def _note_failure(
    attempt: DeliveryAttempt,
    code: str,
    *,
    late: bool,
    title: str,
    http_status: int | None = None,
) -> None:
    channel, route = attempt.channel, attempt.route
    rule = cloud_errors.lookup(code, http_status=http_status)
    if code in _IN_DOUBT and not late:
        signals.send_refused.send(sender=Channel, channel=channel, route=route, code=code)
    if not rule.known:
        log.warning("unknown error code", code=code, route=route, attempt=str(attempt))
    if route != Route.OFFICIAL and route != _own_route(attempt):
        _note_refused_first_message(attempt, code)
    if breakers.opens(rule):
        breakers.open_(channel, route, code=code, late=late)
    elif rule.alarm and rule.fallback == FallbackRule.OPT_IN:
        breakers.warn(channel, route, code=code)
    elif rule.alarm:
        # The way works; somebody must still look into the request, or into a code that is new.
        told = "" if rule.known else title
        way = "wwebjs" if route == Route.WWEBJS else ""
        breakers.note_refused(channel, code=code, detail=", ".join(filter(None, [told, way])))
        return
    elif code not in _UNREACHABLE:
        return
    if route == Route.WWEBJS or not _concerns_all(rule, code):
        return
    if channel.record_health(ok=False, detail=code):
        live.channel_changed(channel)


def _concerns_all(rule: cloud_errors.ErrorRule, code: str) -> bool:
    limited = rule.alarm and rule.fallback == FallbackRule.OPT_IN
    return rule.kind == ErrorClass.CONFIG or limited or code in _UNREACHABLE


def _own_route(attempt: DeliveryAttempt) -> str:
    official = attempt.message.conversation.channel.kind == Channel.Kind.OFFICIAL
    return Route.OFFICIAL if official else Route.BAILEYS


def _note_refused_first_message(attempt: DeliveryAttempt, code: str) -> None:
    """Stop first messages where WhatsApp refuses them to the fallback's number (error 463)."""
    if not policy.new_chats_are_stopped(code, refusals=policy.NEW_CHAT_REFUSALS):
        return
    if not pacing.is_first_contact(attempt.message, attempt.channel, attempt.route):
        return
    refused = DeliveryAttempt.objects.filter(
        channel=attempt.channel_id,
        route=attempt.route,
        outcome=Outcome.REJECTED,
        error_code=code,
        started_at__gt=timezone.now() - policy.NEW_CHAT_REFUSALS_WITHIN,
    )
    strangers = pacing.to_strangers(refused, attempt.channel, attempt.route)
    contacts = strangers.values("message__conversation__contact").distinct().count()
    if policy.new_chats_are_stopped(code, refusals=contacts):
        breakers.stop_new_chats(attempt.channel, code=code)
