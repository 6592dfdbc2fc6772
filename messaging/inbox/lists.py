"""The tabs of the inbox, which a person chooses by a chip: which conversations each one shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models import Value
from django.utils.translation import gettext_lazy as _

from messaging import selectors
from messaging.inbox import states

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from messaging.forms import FilterForm
    from messaging.models import Conversation

PER_PAGE = 40
# A chip shows "99+" beyond it, and nothing is counted further.
MAX_COUNT = 99


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
    """A page of the list: `live` if new rows belong on it, `more` if another page follows."""

    tab: Tab
    rows: list[Conversation]
    page: int
    more: bool
    live: bool
    filtered: bool


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
    filters: FilterForm, user: User, *, page: int = 1, opened: Conversation | None = None
) -> Rows:
    """Return a page of the conversations that the filters leave, complete for the list.

    A search without a tab looks through all of them, resolved ones too. Among the unread ones
    and the mentions stays the one that is open, which has just been read.
    """
    values = filters.cleaned_data
    search, channel, label = values.get("search") or "", values.get("channel"), values.get("label")
    tab = Tab(values.get("tab") or Tab.ALL)
    chosen = conditions(tab, user) if values.get("tab") or not search else {}
    found = selectors.conversation_list(
        search=search,
        channel=channel.pk if channel else None,
        label=label.name if label else "",
        **chosen,
    )
    start = (page - 1) * PER_PAGE
    if opened is not None and tab in (Tab.UNREAD, Tab.MENTIONS) and page == 1:
        found = found | selectors.conversation_list().filter(pk=opened.pk)
    ids = list(found.values_list("pk", flat=True)[start : start + PER_PAGE + 1])
    return Rows(
        tab=tab,
        rows=selectors.with_latest_of(ids[:PER_PAGE]),
        page=page,
        more=len(ids) > PER_PAGE,
        live=page == 1 and not search,
        filtered=bool(search or channel or label or tab != Tab.ALL),
    )


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
