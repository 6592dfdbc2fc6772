"""What messages cost: a table, and the same as CSV."""

from __future__ import annotations

import csv
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin
from channels_app.models import Channel, Provider
from messaging import costs

# A page shows no more rows than that; the CSV file has all.
MAX_ROWS = 500


class CostFilterForm(forms.Form):
    """The period and the channel."""

    since = forms.DateField(
        label=gettext_lazy("From"), required=False, widget=forms.DateInput({"type": "date"})
    )
    until = forms.DateField(
        label=gettext_lazy("To"), required=False, widget=forms.DateInput({"type": "date"})
    )
    channel = forms.ModelChoiceField(
        Channel.objects.filter(kind=Provider.OFFICIAL),
        label=gettext_lazy("Channel"),
        required=False,
        empty_label=gettext_lazy("All channels"),
    )

    period: costs.Period

    def clean(self) -> dict[str, Any]:
        """Set the period."""
        cleaned = super().clean() or {}
        self.period = costs.Period.of(None, None)
        try:
            self.period = costs.Period.of(cleaned.get("since"), cleaned.get("until"))
        except ValidationError as error:
            for field, problems in error.message_dict.items():
                self.add_error(field, problems)
        return cleaned


class CostsView(StaffPermissionRequiredMixin, View):
    """What Meta charged for; `?format=csv` returns all rows as a file."""

    permissions = ("messaging.view_message",)

    def get(self, request: HttpRequest) -> HttpResponse:
        month = costs.Period.of(None, None)
        days = {"since": month.since.isoformat(), "until": month.until.isoformat()}
        form = CostFilterForm(days | request.GET.dict())
        form.is_valid()
        channel: Channel | None = form.cleaned_data.get("channel")
        rows = costs.rows(form.period, channel=channel.pk if channel else None)
        if request.GET.get("format") == "csv" and not form.errors:
            return _as_csv(rows, form.period)
        query = request.GET.copy()
        query["format"] = "csv"
        context = {
            "form": form,
            "period": form.period,
            "rows": rows[:MAX_ROWS],
            "left_out": max(0, len(rows) - MAX_ROWS),
            "totals": costs.totals(rows),
            "csv": query.urlencode(),
        }
        return render(request, "messaging/costs.html", context)


def _as_csv(rows: list[costs.Row], period: costs.Period) -> HttpResponse:
    """Return the rows with the names of REST. The mark at the start makes Excel read UTF-8."""
    response = HttpResponse("\ufeff", content_type="text/csv; charset=utf-8")
    name = f"costs-{period.since}-{period.until}.csv"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    writer = csv.writer(response)
    names = (
        "day", "channel", "template", "category", "type", "messages", "delivered", "price",
        "currency",
    )  # fmt: skip
    writer.writerow(names)
    for row in rows:
        price = "" if row.price is None else str(row.price)
        writer.writerow(
            [row.day, _plain(row.channel_name), _plain(row.template), row.category, row.type,
             row.messages, row.delivered, price, row.currency]
        )  # fmt: skip
    return response


def _plain(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
