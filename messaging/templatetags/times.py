"""Times in the installation's time zone."""

from __future__ import annotations

import datetime as dt

from django import template
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

register = template.Library()

HALF_A_DAY = 12 * 3600  # after midnight, last evening is not yet "yesterday"


@register.simple_tag
def ago(moment: dt.datetime | None) -> str | SafeString:
    """Render a relative time with the exact time in the tooltip; app/times.js updates it."""
    if moment is None:
        return ""
    return format_html(
        '<time datetime="{}" title="{}" data-relative>{}</time>',
        moment.isoformat(),
        exact(moment),
        relative(moment, timezone.now()),
    )


@register.simple_tag
def clock_time(moment: dt.datetime) -> SafeString:
    """Render the time of day, with the date in the tooltip."""
    local = timezone.localtime(moment)
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        exact(moment),
        local.strftime("%H:%M"),
    )


@register.filter
def exact(moment: dt.datetime) -> str:
    """Return date and time in the installation's time zone, to the second."""
    local = timezone.localtime(moment)
    return f"{formats.date_format(local, 'SHORT_DATE_FORMAT')} {local:%H:%M:%S}"


@register.filter
def due(moment: dt.datetime) -> str:
    """Return a future date and time; only the time if it is today."""
    local = timezone.localtime(moment)
    return f"{local:%H:%M:%S}" if local.date() == timezone.localdate() else exact(moment)


@register.filter
def until(moment: dt.datetime) -> str:
    """Return a future time as people say it: "20:39", "tomorrow, 20:39", or with the date."""
    local, today = timezone.localtime(moment), timezone.localdate()
    if local.date() == today:
        return f"{local:%H:%M}"
    if local.date() == today + dt.timedelta(days=1):
        return _("tomorrow, %(time)s") % {"time": f"{local:%H:%M}"}
    return f"{formats.date_format(local, 'SHORT_DATE_FORMAT')}, {local:%H:%M}"


@register.simple_tag
def row_time(moment: dt.datetime | None) -> str | SafeString:
    """Render the time of a list's row: of today the clock, then the day, then the date."""
    if moment is None:
        return ""
    local, today = timezone.localtime(moment), timezone.localdate()
    days = (today - local.date()).days
    if days <= 0:
        shown = f"{local:%H:%M}"
    elif days == 1:
        shown = _("yesterday")
    elif days < 7:
        shown = formats.date_format(local, "D").lower()
    else:
        shown = formats.date_format(local, "SHORT_DATE_FORMAT")
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', moment.isoformat(), exact(moment), shown
    )


def relative(moment: dt.datetime, now: dt.datetime) -> str:
    """Return how long ago it was. app/times.js uses the same texts."""
    seconds = (now - moment).total_seconds()
    local, today = timezone.localtime(moment), timezone.localtime(now).date()
    if seconds < 60:
        return _("now")
    if seconds < 3600:
        return _("{n} min ago").replace("{n}", str(int(seconds // 60)))
    if seconds < HALF_A_DAY or local.date() == today:
        return _("{n} h ago").replace("{n}", str(int(seconds // 3600)))
    if local.date() == today - dt.timedelta(days=1):
        return _("yesterday")
    return formats.date_format(local, "SHORT_DATE_FORMAT")


@register.filter
def day(moment: dt.datetime) -> dt.date:
    """Return the calendar day in the installation's time zone."""
    return timezone.localtime(moment).date()


@register.filter
def day_label(date: dt.date) -> str:
    """Return the label of a day for the separators between messages."""
    today = timezone.localdate()
    if date == today:
        return _("Today")
    if date == today - dt.timedelta(days=1):
        return _("Yesterday")
    return formats.date_format(date, "DATE_FORMAT")
