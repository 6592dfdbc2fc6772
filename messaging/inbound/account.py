"""Apply what Meta reports about accounts, numbers and templates, and what customers want."""

from __future__ import annotations

from django.db.models import Q
from django.utils import timezone

from channels_app import message_templates
from channels_app.incidents import incidents
from channels_app.models import AccountReport, Channel, Incident
from channels_app.providers import addresses
from channels_app.providers.events import AccountEvent, PreferenceEvent, TemplateEvent
from messaging import contacts
from messaging.models import Contact


def apply_account(channel: Channel, event: AccountEvent) -> None:
    """Raise or end the incident of the event's topic. The caller holds a transaction.

    The latest report of a topic counts, whatever the order in which they arrive. Of the same
    second, that of a problem.
    """
    connection, now = channel.primary, timezone.now()
    at = min(event.at or now, now)
    report = (at, event.reason, event.detail)
    known, is_new = AccountReport.objects.select_for_update().get_or_create(
        connection=connection,
        topic=event.topic,
        defaults={"at": at, "reason": event.reason, "detail": event.detail},
    )
    if not is_new:
        if report <= (known.at, known.reason, known.detail):
            return
        known.at, known.reason, known.detail = report
        known.save(update_fields=["at", "reason", "detail"])
    kinds = (Incident.Kind.NOTICE, Incident.Kind.ACCOUNT)
    if not event.reason:
        for kind in kinds:
            incidents.mark_recovered(connection, at=at, kind=kind, code=event.topic)
        return
    incidents.open_or_update(
        connection,
        reason=event.reason,
        detail=event.detail,
        # A notice is shown for a day from its arrival on.
        at=now if event.passing else at,
        kind=kinds[not event.passing],
        code=event.topic,
    )


def apply_template(channel: Channel, event: TemplateEvent) -> str | None:
    """Have the templates of the account synchronized. Returns the name of a skip, or None."""
    if event.edited:
        message_templates.forget_ttl(channel.business_account_id, event.edited)
    return None if message_templates.enqueue_after_change(channel) else "account_not_configured"


def apply_preference(channel: Channel, event: PreferenceEvent) -> None:
    """Note on the contact whether the customer wants marketing; the latest wish counts.

    Customers who never wrote have wishes, too: the contact is created.
    """
    at = min(event.at or timezone.now(), timezone.now())
    named = addresses.named(phone_number=event.phone_number, user_id=event.user_id, also=event.also)
    contact = contacts.learn(channel, named, at=at)
    earlier = Q(marketing_wish_at=None) | Q(marketing_wish_at__lte=at)
    Contact.objects.filter(earlier, pk=contact.pk).update(
        marketing_stopped=event.stopped, marketing_wish_at=at
    )
