"""The order of a conversation: by time, and within a second by arrival."""

from __future__ import annotations

import datetime as dt

from django.db.models import Max

from messaging.models import Conversation

# Providers report whole seconds.
_SECOND = dt.timedelta(seconds=1)
_NEXT = dt.timedelta(microseconds=1)


def place(
    conversation: Conversation, at: dt.datetime, *, is_scheduled: bool = False
) -> dt.datetime:
    """Return the time at which a new message or call takes its place in the conversation.

    That is `at`, or just after everything that the same second has already: two messages of one
    second stay in the order in which they arrived, whether their clocks tell microseconds or not.
    Pages, live updates and REST all sort by this time alone. `is_scheduled`: `at` may be in the
    future. The caller holds the conversation's row lock.
    """
    second = at.replace(microsecond=0)
    latest = conversation.last_message_at
    if not is_scheduled and (latest is None or latest < second):
        return at
    if is_scheduled or latest is None or latest >= second + _SECOND:
        # It arrived late, is history, or stands where the conversation has not come yet. Most
        # messages need no query.
        same = conversation.messages.filter(created_at__gte=second, created_at__lt=second + _SECOND)
        latest = same.aggregate(latest=Max("created_at"))["latest"]
    return at if latest is None or latest < at else latest + _NEXT
