"""Print the database's state as JSON: `python -m faults.snapshot [all|inbound]`.

It is a separate process because it needs the settings of the product under test.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict

import django


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    collect = {"all": _everything, "inbound": _inbound}.get(sys.argv[-1], _unfinished)
    print(json.dumps(collect()))


def _unfinished() -> dict[str, int]:
    from messaging.models import InboundEvent, Message

    out = Message.objects.filter(direction="out", sent_outside=False)
    accepted = ("sent", "delivered", "read")
    return {
        "messages": out.exclude(status__in=accepted).filter(decision="").count()
        + out.exclude(status__in=accepted).filter(next_attempt_at__isnull=False).count(),
        "events": InboundEvent.objects.filter(state="pending").count(),
        "claims": Message.objects.filter(claimed_by__isnull=False).count(),
    }


def _everything() -> dict[str, object]:
    from messaging.models import InboundEvent, Message

    messages = Message.objects.filter(direction="out", sent_outside=False).prefetch_related(
        "attempts__connection"
    )
    statuses = _statuses()
    return {
        "set_aside": InboundEvent.objects.filter(state="set_aside").count(),
        "messages": {
            str(message.pk): {
                "text": message.text,
                "conversation": message.conversation_id,
                "status": message.status,
                "icon": message.icon,
                "route": message.route,
                "decision": message.decision,
                "waiting": message.next_attempt_at is not None,
                "attempts": [
                    {
                        "route": attempt.route,
                        "outcome": attempt.outcome,
                        "receipt": attempt.receipt,
                        "code": attempt.error_code,
                        "rule": attempt.rule,
                        "statuses": statuses[f"{message.pk}.{attempt.number}"],
                    }
                    for attempt in sorted(message.attempts.all(), key=lambda a: a.number)
                ],
            }
            for message in messages
        },
    }


def _inbound() -> dict[str, object]:
    """Return the received messages of each Evolution instance, and the unfinished work."""
    from django.db.models import Sum

    from instances.models import Backfill, WhatsAppSession
    from messaging.models import InboundEvent, Message

    evolution = Message.objects.filter(
        direction="in", conversation__channel__kind="baileys"
    ).order_by("created_at", "id")
    fields = (
        "conversation__channel__evolution__instance_name",
        "provider_message_id",
        "text",
    )
    sender = "conversation__contact__phone_number"
    return {
        "messages": [
            {"instance": instance, "id": id_, "text": text, "from": number, "at": at.timestamp()}
            for instance, id_, text, number, at in evolution.values_list(
                *fields, sender, "created_at"
            )
        ],
        "set_aside": InboundEvent.objects.filter(state="set_aside").count(),
        "pending": InboundEvent.objects.filter(state="pending").count(),
        "gaps": WhatsAppSession.objects.filter(gap_since__isnull=False).count(),
        "recovered": dict(
            Backfill.objects.order_by("reason").values_list("reason").annotate(n=Sum("messages"))
        ),
    }


def _statuses() -> defaultdict[str, list[str]]:
    """Return Meta's statuses of each attempt, by our reference, in processing order."""
    from messaging.models import InboundEvent

    statuses: defaultdict[str, list[str]] = defaultdict(list)
    events = InboundEvent.objects.filter(source="cloud", state="done")
    for payload in events.order_by("processed_at", "id").values_list("payload", flat=True):
        for entry in payload["entry"]:
            for change in entry["changes"]:
                for status in change["value"].get("statuses", []):
                    statuses[status.get("biz_opaque_callback_data", "")].append(status["status"])
    return statuses


if __name__ == "__main__":
    main()
