"""The status of an outgoing message and the reasons for it. No tag makes a query."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils import formats
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from channels_app.incidents import incidents
from channels_app.incidents.reason_text import render_reason
from channels_app.providers import error_codes
from channels_app.providers.events import Receipt
from messaging.delivery import downgrade
from messaging.delivery.attempts import is_stopped_by_customer
from messaging.delivery.policy import reason_text
from messaging.delivery.statuses import Outcome, Route
from messaging.models import DeliveryAttempt, Media, Message
from messaging.templatetags.times import due

register = template.Library()
register.filter("headline", incidents.headline)


@register.inclusion_tag("icon.html")
def status_icon(message: Message, brief: bool = False) -> dict[str, Any]:
    """Render the status icon of an outgoing message.

    The tooltip lists every attempt's error, so `attempts` must be prefetched; a `brief` icon shows
    the status only.
    """
    label = status_label(message)
    lines = [label] if brief else [label, *_reasons(message)]
    receipts = (Message.Status.DELIVERED, Message.Status.READ)
    return {
        "icon": message.icon,
        "label": label,
        "title": "\n".join(lines),
        "ticks": message.status if message.icon == "globe" and message.status in receipts else "",
    }


register.filter("stopped_by_customer", is_stopped_by_customer)


@register.filter
def changes(attempt: DeliveryAttempt) -> list[str]:
    """Return how the message was changed for the route of an attempt."""
    return downgrade.describe(attempt.changes)


@register.filter
def status_label(message: Message) -> str:
    """Return a short description of an outgoing message's status."""
    if message.status in (Message.Status.QUEUED, Message.Status.SENDING):
        return _("Sending") if message.status == Message.Status.SENDING else _("Waiting to be sent")
    if message.status == Message.Status.REJECTED:
        return _("Rejected")
    if message.status == Message.Status.UNCONFIRMED:
        return _("Not confirmed: it may have been sent")
    if message.route not in (None, Route.OFFICIAL):
        names = {"route": message.get_route_display()}
        if message.status == Message.Status.DELIVERED:
            return _("Sent through %(route)s, delivered") % names
        if message.status == Message.Status.READ:
            return _("Sent through %(route)s, read") % names
        return _("Sent through %(route)s") % names
    return str(message.get_status_display())


def _reasons(message: Message) -> list[str]:
    lines = [
        f"{attempt.get_route_display()}: {problem(attempt)}"
        for attempt in message.attempts.all()
        if problem(attempt)
    ]
    if not lines and problem(message):
        lines = [problem(message)]
    if message.decision and message.status not in (
        Message.Status.HELD,
        Message.Status.SENT,
        Message.Status.DELIVERED,
        Message.Status.READ,
    ):
        lines.append(str(reason_text(message.decision)))
        if message.next_attempt_at is not None:
            lines.append(
                _("Next attempt at {time}").replace("{time}", due(message.next_attempt_at))
            )
    return lines


@register.filter
def problem(of: Message | DeliveryAttempt) -> str:
    """Return the error of a message or an attempt on one line, or "" if there is none."""
    if not of.error_code:
        return of.error_title
    title = error_codes.stored_title(of.error_code, of.error_title, of.error_detail)
    return f"{title} ({of.error_code})" if title else of.error_code


@register.filter
def trail(message: Message) -> list[dict[str, str]]:
    """Return the way of a message that a fallback brought, as steps: `glyph` and `words`.

    Empty if no fallback did. `attempts` must be prefetched.
    """
    attempts = [one for one in message.attempts.all() if one.round == message.round]
    carrier = next((one for one in attempts if one.outcome == Outcome.ACCEPTED), None)
    if carrier is None or carrier.route == Route.OFFICIAL or len(attempts) < 2:
        return []
    steps = []
    for attempt in attempts[: attempts.index(carrier)]:
        names = {"route": _heading(attempt), "code": attempt.error_code}
        if attempt.outcome == Outcome.UNKNOWN:
            glyph, said = "unconfirmed", _("%(route)s did not answer")
        elif attempt.outcome != Outcome.REJECTED:
            glyph, said = "clock", _("%(route)s did not take it yet")
        elif attempt.error_code:
            glyph, said = "rejected", _("%(route)s refused (%(code)s)")
        else:
            glyph, said = "rejected", _("%(route)s refused")
        steps.append({"glyph": glyph, "words": said % names})
    names = {"route": carrier.get_route_display(), "seconds": _seconds(carrier)}
    said = _("sent by %(route)s in %(seconds)s s") if names["seconds"] else _("sent by %(route)s")
    return [*steps, {"glyph": "globe", "words": said % names}]


def _seconds(attempt: DeliveryAttempt) -> str:
    if attempt.finished_at is None:
        return ""
    taken = (attempt.finished_at - attempt.started_at).total_seconds()
    return formats.number_format(taken, 1 if taken < 10 else 0)


@register.filter
def refusals(message: Message) -> list[tuple[str, str]]:
    """Return the name and latest failure reason of each route in the current round.

    A fallback's rejection must not hide that of the official API, or vice versa.
    """
    latest: dict[str, DeliveryAttempt] = {}
    for attempt in message.attempts.all():
        if attempt.round == message.round and problem(attempt):
            latest[attempt.route] = attempt
    return [(_heading(attempt), _with_detail(attempt)) for attempt in latest.values()]


def _heading(attempt: DeliveryAttempt) -> str:
    name = attempt.get_route_display()
    return capfirst(name) if attempt.route == Route.OFFICIAL else name


def _with_detail(attempt: DeliveryAttempt) -> str:
    """Return the reason; a fallback's code is usually ours, so the server's detail is added."""
    reason, stored = problem(attempt), attempt.error_detail[:200]
    if attempt.route == Route.OFFICIAL or not stored or stored in reason:
        return reason
    text = error_codes.stored_detail(stored)
    return f"{reason}: {text if error_codes.is_ours(stored) else f'“{text}”'}"


@register.filter
def detail(of: DeliveryAttempt) -> str:
    """Return the detail of an error: translated if it is ours, quoted if it is a provider's."""
    stored = of.error_detail
    return error_codes.stored_detail(stored) if error_codes.is_ours(stored) else f"“{stored}”"


@register.filter
def file_problem(media: Media) -> str:
    """Return why a file could not be fetched, with the detail if there is one."""
    title = code_title(media.error_code)
    stored = media.error_detail
    if not stored:
        return title
    text = error_codes.stored_detail(stored)
    return f"{title}: {text if error_codes.is_ours(stored) else f'“{text}”'}"


@register.filter
def what_to_do(code: str) -> str:
    """Return the rule for an error code: whether the fallback may be used, and why."""
    rule = error_codes.lookup(code)
    return f"{rule.fallback.label}: {rule.explanation}"


@register.filter
def receipt_label(receipt: str) -> str:
    """Return a label for the receipt that the provider sent for an attempt."""
    if receipt == Receipt.FAILED:
        return _("failed")
    return str(Message.Status(receipt).label).lower()


_CATEGORIES: dict[str, Any] = {
    "authentication": gettext_lazy("authentication"),
    "authentication-international": gettext_lazy("international authentication"),
    "marketing": gettext_lazy("marketing"),
    "marketing_lite": gettext_lazy("marketing"),
    "referral_conversion": gettext_lazy("conversation from an advertisement"),
    "service": gettext_lazy("service"),
    "utility": gettext_lazy("utility"),
}
_PRICES: dict[str, Any] = {
    "regular": gettext_lazy("charged"),
    "free_customer_service": gettext_lazy("free"),
    "free_entry_point": gettext_lazy("free, because the customer came from an advertisement"),
}


@register.filter
def pricing_label(pricing: str) -> str:
    """Return what Meta charges an attempt for: its category, and whether it is free."""
    category, _separator, type_ = pricing.partition(":")
    label = str(_CATEGORIES.get(category, category))
    price = str(_PRICES.get(type_, type_))
    return f"{label} ({price})" if price else label


@register.filter
def code_title(code: str) -> str:
    """Return the title of a provider's error code, with the code, or of one of our own codes."""
    return render_reason(code).removesuffix(".")


@register.filter
def reason(key: str) -> str:
    """Return the text of a delivery policy reason."""
    return str(reason_text(key))
