"""Queries for the pages of message templates."""

from __future__ import annotations

import datetime as dt
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.utils import timezone

from channels_app.incidents import reason_text
from channels_app.models import Channel, Incident, MessageTemplate, Provider, TemplateSync
from channels_app.providers.cloud import templates

# Meta's change of a category has no end that would be reported.
_NOTICES_FOR = dt.timedelta(days=30)


@dataclass
class Account:
    """A WhatsApp Business account: the channels that use it, and when it was last read."""

    id: str
    channels: list[Channel] = field(default_factory=list)
    sync: TemplateSync | None = None

    @property
    def channel(self) -> Channel:
        """The channel with whose credentials Meta is asked: an active one if there is one."""
        return self.channels[0]

    @property
    def problem(self) -> str:
        """Why the last attempt to read it failed, in words; "" if it did not."""
        if self.sync is None:
            return ""
        return reason_text.describe(self.sync.error_code, self.sync.error_detail)

    @property
    def name(self) -> str:
        return ", ".join(channel.name for channel in self.channels)


def accounts() -> list[Account]:
    """Return the accounts of the official channels, in the order of their names."""
    found: dict[str, Account] = {}
    channels = Channel.objects.filter(kind=Provider.OFFICIAL).exclude(cloud__business_account_id="")
    for channel in channels.select_related("cloud").order_by("-active", "name"):
        account_id = channel.business_account_id
        found.setdefault(account_id, Account(account_id)).channels.append(channel)
    for sync in TemplateSync.objects.filter(pk__in=found):
        found[sync.pk].sync = sync
    return list(found.values())


def account_of(template: MessageTemplate) -> Account | None:
    """Return the template's account, or None if no channel uses it any more."""
    return next((one for one in accounts() if one.id == template.business_account_id), None)


def find(
    account_ids: Sequence[str], *, search: str = "", status: str = "", category: str = ""
) -> list[MessageTemplate]:
    """Return the existing templates of these accounts that contain all words of the search.

    Name, language and text are searched, regardless of accents and case. An account has at most a
    few thousand templates, so this is done here and not by the database.
    """
    rows = MessageTemplate.objects.filter(business_account_id__in=account_ids, deleted_at=None)
    if status:
        rows = rows.filter(status=status)
    if category:
        rows = rows.filter(category=category)
    words = _plain(search).split()
    return [row for row in rows if not words or _contains(row, words)]


def _contains(row: MessageTemplate, words: Sequence[str]) -> bool:
    shown = templates.render_values(row.definition, {}).as_text()
    text = _plain(f"{row.name} {row.language} {shown}")
    return all(word in text for word in words)


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c)).casefold()


def to_pick(channel: Channel, *, search: str = "") -> list[MessageTemplate]:
    """Return the templates that a message of this channel can use; unusable ones last."""
    if channel.kind != Provider.OFFICIAL or not channel.business_account_id:
        return []
    found = find([channel.business_account_id], search=search)
    return sorted(found, key=lambda row: bool(row.definition.unusable))


def category_changes(template: MessageTemplate) -> list[Incident]:
    """Return Meta's recent reports that it changes or has changed the template's category."""
    rows = Incident.objects.filter(
        connection__provider=Provider.OFFICIAL,
        code=f"category:{template.template_id}",
        opened_at__gt=timezone.now() - _NOTICES_FOR,
    )
    return list(rows.order_by("-opened_at")[:1])
