"""The tabs of the inbox, which a person chooses by a chip: which conversations each one shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Q, Value
from django.utils.translation import gettext_lazy as _

from core.text import moment, row_id
from messaging import selectors
from messaging.inbox import search as full_text
from messaging.inbox import states

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from messaging.forms import FilterForm
    from messaging.models import Conversation

PER_PAGE = 40
# A chip shows "99+" beyond it, and nothing is counted further.
MAX_COUNT = 99
# Of this many conversations, the latest, a search shows the message that it found.
MAX_HITS = 60


class Tab(models.TextChoices):
    ALL = "all", _("All")
    MINE = "mine", _("Mine")
    MENTIONS = "mentions", _("Mentions")
    UNREAD = "unread", _("Unread")
    UNASSIGNED = "unassigned", _("Unassigned")
    PROBLEM = "problem", _("With a problem")
    SNOOZED = "snoozed", _("Snoozed")
    RESOLVED = "resolved", _("Resolved")


# A number beside the chip tells that there is work.
COUNTED = (Tab.MINE, Tab.MENTIONS, Tab.UNREAD, Tab.UNASSIGNED, Tab.PROBLEM)


@dataclass(frozen=True, slots=True)
class Rows:
    """A page of the list: `live` if new rows belong on it, `more` with which the next one begins.

    A search has the people it finds as rows and, on its first page, the messages as `hits`: the
    latest one of each conversation.
    """

    tab: Tab
    rows: list[Conversation]
    more: str
    live: bool
    filtered: bool
    hits: list[full_text.Hit] = field(default_factory=list)


def conditions(tab: Tab, user: User) -> dict[str, Any]:
    """Return the arguments of `selectors.conversation_list` for a tab."""
    arguments: dict[Tab, dict[str, Any]] = {
        Tab.ALL: {"status": states.OPEN, "unassigned_first": True},
        Tab.MINE: {"status": states.OPEN, "assignee": user.pk},
        Tab.MENTIONS: {"mentioning": user},
        Tab.UNREAD: {"unread": True},
        Tab.UNASSIGNED: {"status": states.OPEN, "unassigned": True},
        Tab.PROBLEM: {"attention": True},
        Tab.SNOOZED: {"status": states.SNOOZED},
        Tab.RESOLVED: {"status": states.RESOLVED},
    }
    return arguments[tab]


def rows(
    filters: FilterForm, user: User, *, after: str = "", opened: Conversation | None = None
) -> Rows:
    """Return a page of the conversations that the filters leave, complete for the list.

    `after` is the `more` of the page before: rows may have come and gone since. A search without a
    tab looks through all of them, resolved ones too. Among the unread ones and the mentions stays
    the one that is open, which has just been read.
    """
    values = filters.cleaned_data
    search, channel, label = values.get("search") or "", values.get("channel"), values.get("label")
    tab = Tab(values.get("tab") or Tab.ALL)
    chosen = conditions(tab, user) if values.get("tab") or not search else {}
    chosen |= {"channel": channel.pk if channel else None, "label": label.name if label else ""}
    found = selectors.conversation_list(search=search, in_messages=False, **chosen)
    if after:
        found = found.filter(_behind(after, unassigned_first="unassigned_first" in chosen))
    elif opened is not None and tab in (Tab.UNREAD, Tab.MENTIONS):
        found = found | selectors.conversation_list().filter(pk=opened.pk)
    ids = list(found.values_list("pk", flat=True)[: PER_PAGE + 1])
    shown = selectors.with_latest_of(ids[:PER_PAGE])
    return Rows(
        tab=tab,
        rows=shown,
        more=_place(shown[-1]) if shown and len(ids) > PER_PAGE else "",
        live=not after and not search,
        hits=_hits(search, chosen) if search and not after else [],
        filtered=bool(search or channel or label or tab != Tab.ALL),
    )


def _place(row: Conversation) -> str:
    """Return where a row stands in the list."""
    at = "" if row.last_message_at is None else row.last_message_at.isoformat()
    return f"{int(row.assignee_id is not None)}|{at}|{row.pk}"


def _behind(place: str, *, unassigned_first: bool) -> Q:
    """Return the condition of the rows behind a place; none are behind what is no place."""
    owned, _bar, rest = place.partition("|")
    time, _bar, pk = rest.partition("|")
    at = moment(time)
    if not row_id(pk) or (time and at is None):
        return Q(pk__in=[])
    same_time = Q(last_message_at=at, pk__lt=row_id(pk))
    behind = same_time if at is None else Q(last_message_at__lt=at) | same_time
    if at is not None:
        behind |= Q(last_message_at=None)
    if not unassigned_first:
        return behind
    if owned == "1":
        return Q(assignee__isnull=False) & behind
    return Q(assignee__isnull=False) | behind


def _hits(search: str, chosen: dict[str, Any]) -> list[full_text.Hit]:
    found = selectors.conversation_list(search=search, **chosen)
    ids = list(found.values_list("pk", flat=True)[:MAX_HITS])
    return full_text.latest_hits(search, selectors.messages(), ids)


def counts(user: User) -> dict[str, int]:
    """Return how many conversations the counted tabs have, at most MAX_COUNT + 1 each."""
    first, *others = (
        selectors.conversation_list(**conditions(tab, user))
        .order_by()
        .annotate(tab=Value(tab.value))
        .values_list("tab")[: MAX_COUNT + 1]
        for tab in COUNTED
    )
    return Counter(tab for (tab,) in first.union(*others, all=True))
