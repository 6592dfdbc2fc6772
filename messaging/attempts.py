"""Write down what became of an attempt, and what the message therefore is.

Everything that ends an attempt or tells more about it passes here: the worker's own result, a
receipt by webhook, a worker that died. The message's row is locked first, always.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_noop

from channels_app.providers.base import Accepted, SendError
from messaging import live, policy, states, tasks
from messaging.models import DeliveryAttempt, Message, ParkedReceipt
from messaging.states import Outcome, Receipt, Route


def reference(attempt: DeliveryAttempt) -> str:
    """Return what names this attempt to a provider that echoes it back."""
    return f"{attempt.message_id}.{attempt.number}"


def find_by_reference(text: str, *, channel_id: int) -> DeliveryAttempt | None:
    """Return the attempt of this channel that a reference names; None for anything else."""
    message, _, number = text.partition(".")
    try:
        found = DeliveryAttempt.objects.filter(
            message_id=uuid.UUID(message), number=int(number), channel_id=channel_id
        )
    except ValueError:
        return None
    return found.first()


def facts(message: Message) -> list[policy.AttemptFacts]:
    """Return the message's attempts as the policy sees them."""
    return [
        policy.AttemptFacts(
            round=attempt.round,
            route=Route(attempt.route),
            outcome=Outcome(attempt.outcome),
            error_code=attempt.error_code,
            finished_at=attempt.finished_at,
        )
        for attempt in message.attempts.order_by("number")
    ]


def quoted_id(message: Message, attempt: DeliveryAttempt) -> str | None:
    """Return the provider's id of the quoted message on this attempt's route, if it has one."""
    if message.reply_to is None:
        return None
    if (
        message.reply_to.provider_message_id
        and attempt.channel_id == message.conversation.channel_id
    ):
        return message.reply_to.provider_message_id
    same_route = message.reply_to.attempts.filter(route=attempt.route, outcome=Outcome.ACCEPTED)
    return same_route.values_list("provider_message_id", flat=True).first() or None


def finish(attempt_id: int, result: Accepted | SendError) -> None:
    """Write the provider's answer to an attempt, and what the message is now."""
    with transaction.atomic():
        attempt = _locked(attempt_id)
        if attempt.outcome not in (Outcome.STARTED, Outcome.UNKNOWN):
            # A receipt was faster than the answer: only the id may still be missing.
            if isinstance(result, Accepted):
                _take_id(attempt, result)
                attempt.save()
            return
        was_unknown = attempt.outcome == Outcome.UNKNOWN
        attempt.finished_at = timezone.now()
        if isinstance(result, Accepted):
            attempt.outcome = Outcome.ACCEPTED
            _clear_error(attempt)
            _take_id(attempt, result)
        else:
            attempt.outcome = result.outcome
            _set_error(attempt, code=result.code, title=result.title, detail=result.detail)
        _apply_parked(attempt)
        attempt.save()
        settle(attempt.message)
        if was_unknown:
            tasks.wake_conversation(attempt.message.conversation_id)


def close_abandoned(message: Message) -> None:
    """End an attempt whose worker died: whether it was sent is not known.

    The caller holds the message's row, and the job's lock proves that no worker is at it.
    """
    for attempt in message.attempts.filter(outcome=Outcome.STARTED):
        attempt.outcome = Outcome.UNKNOWN
        attempt.finished_at = timezone.now()
        _set_error(
            attempt,
            code="worker_lost",
            title=gettext_noop("The process that was sending it ended before the answer came"),
            detail="",
        )
        attempt.save()


def tell_receipt(
    attempt: DeliveryAttempt,
    receipt: Receipt,
    *,
    provider_message_id: str = "",
    error: SendError | None = None,
) -> None:
    """Add what a provider told about an attempt. Telling it again, or late, changes nothing."""
    with transaction.atomic():
        attempt = _locked(attempt.pk)
        before = (attempt.outcome, attempt.receipt, attempt.provider_message_id)
        if provider_message_id and not attempt.provider_message_id:
            attempt.provider_message_id = provider_message_id
        _merge(attempt, receipt, error)
        if (attempt.outcome, attempt.receipt, attempt.provider_message_id) == before:
            return
        attempt.save()
        settle(attempt.message)
        if attempt.outcome == Outcome.REJECTED != before[0]:
            # A late failure: the policy decides again, as for a refusal at once.
            tasks.enqueue_delivery(attempt.message)
        if before[0] == Outcome.UNKNOWN != attempt.outcome:
            tasks.wake_conversation(attempt.message.conversation_id)


def park_receipt(
    *, channel_id: int, provider_message_id: str, receipt: Receipt, error: SendError | None
) -> None:
    """Keep a receipt whose attempt is not known yet."""
    ParkedReceipt.objects.get_or_create(
        channel_id=channel_id,
        provider_message_id=provider_message_id,
        receipt=receipt,
        defaults={
            "error_code": error.code if error else "",
            "error_title": error.title[:300] if error else "",
            "error_detail": error.detail if error else "",
        },
    )


def settle(message: Message, **decided: Any) -> None:
    """Derive the message's status, route and error from its attempts, and push if they changed.

    `decided` are the policy's own fields (`next_attempt_at`, `decision`), where it was asked.
    """
    attempts = list(message.attempts.order_by("number"))
    decision = decided.get("decision", message.decision)
    waiting = decided.get("next_attempt_at", message.next_attempt_at)
    summary = states.summarize(
        [
            states.AttemptState(Route(a.route), Outcome(a.outcome), Receipt(a.receipt))
            for a in attempts
        ],
        final=bool(decision) and waiting is None,
    )
    told = _error_to_tell(attempts, summary)
    values = {
        "status": summary.status.value,
        "route": summary.route.value if summary.route else None,
        "error_code": told.error_code if told else "",
        "error_title": told.error_title if told else "",
        "error_detail": told.error_detail if told else "",
        **decided,
    }
    # An attempt's own change counts as well: pages show the trail.
    for field, value in values.items():
        setattr(message, field, value)
    message.version += 1
    message.save(update_fields=[*values, "version", "updated_at"])
    live.message_changed(message)


def _error_to_tell(
    attempts: list[DeliveryAttempt], summary: states.Summary
) -> DeliveryAttempt | None:
    """The error that explains the icon: the first one, as it is why all else followed.

    A message that its first route took after all has nothing to explain.
    """
    took = summary.status in (states.Status.SENT, states.Status.DELIVERED, states.Status.READ)
    if not attempts or (took and summary.route == attempts[0].route):
        return None
    return next((a for a in attempts if a.error_code and a.outcome != Outcome.ACCEPTED), None)


def _locked(attempt_id: int) -> DeliveryAttempt:
    message_id = DeliveryAttempt.objects.values_list("message_id", flat=True).get(pk=attempt_id)
    message = Message.objects.select_for_update().get(pk=message_id)
    attempt = DeliveryAttempt.objects.get(pk=attempt_id)
    attempt.message = message
    return attempt


def _take_id(attempt: DeliveryAttempt, result: Accepted) -> None:
    if result.provider_message_id and not attempt.provider_message_id:
        attempt.provider_message_id = result.provider_message_id


def _apply_parked(attempt: DeliveryAttempt) -> None:
    if not attempt.provider_message_id:
        return
    parked = ParkedReceipt.objects.filter(
        channel_id=attempt.channel_id, provider_message_id=attempt.provider_message_id
    )
    for receipt in parked:
        error = None
        if receipt.error_code:
            error = SendError(receipt.error_code, receipt.error_title, receipt.error_detail)
        _merge(attempt, Receipt(receipt.receipt), error)
    parked.delete()


def _merge(attempt: DeliveryAttempt, told: Receipt, error: SendError | None) -> None:
    receipt = states.merge_receipt(Receipt(attempt.receipt), told)
    outcome = states.merge_outcome(Outcome(attempt.outcome), receipt)
    if receipt == Receipt.FAILED and error is not None and attempt.outcome != Outcome.REJECTED:
        _set_error(attempt, code=error.code, title=error.title, detail=error.detail)
    if outcome == Outcome.ACCEPTED:
        _clear_error(attempt)
    if outcome != Outcome.STARTED and attempt.finished_at is None:
        attempt.finished_at = timezone.now()
    attempt.receipt, attempt.outcome = receipt.value, outcome.value


def _set_error(attempt: DeliveryAttempt, *, code: str, title: str, detail: str) -> None:
    attempt.error_code = code[:64]
    attempt.error_title = str(title)[:300]
    attempt.error_detail = str(detail)[:4000].replace("\x00", "")


def _clear_error(attempt: DeliveryAttempt) -> None:
    attempt.error_code = attempt.error_title = attempt.error_detail = ""
