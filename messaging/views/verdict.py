"""What would happen to the message in the composer, in one line above it."""

from __future__ import annotations

from dataclasses import dataclass

from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from django.views.generic import View

from accounts.access import StaffPermissionRequiredMixin, user_of
from channels_app.providers import engines
from messaging.delivery import downgrade, policy
from messaging.delivery.preview import preview
from messaging.delivery.statuses import Route
from messaging.delivery.verdict import SERVICE, WINDOW_CLOSED, Verdict, reason_text
from messaging.templatetags.statuses import pricing_label
from messaging.templatetags.times import due
from messaging.views.conversations import composed_message
from messaging.views.responses import get_conversation


@dataclass(frozen=True, slots=True)
class Line:
    """A verdict in words. `is_problem`: the message would not be sent, or not as it should be."""

    would: str
    reason: str
    sentences: list[str]
    is_problem: bool


class VerdictView(StaffPermissionRequiredMixin, View):
    """Say what would happen to the message that the composer contains; empty if it is invalid."""

    permissions = (
        "messaging.view_conversation",
        "messaging.view_message",
        "messaging.add_message",
    )

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        conversation = get_conversation(pk)
        # What would happen to a text does not depend on its words.
        text = request.POST.get("text", "").strip()[:100] or "…"
        try:
            message = composed_message(request, text)
            found = preview(conversation=conversation, user=user_of(request), **message)
        except ValidationError:
            return HttpResponse("")
        return render(request, "messaging/_verdict.html", {"line": in_words(found)})


def in_words(found: Verdict) -> Line:
    """Return a verdict as sentences: those of the history, and what they mean."""
    reason = reason_text(found.reason)
    if found.would == "send":
        charge = found.charge
        is_free = charge is not None and charge.free and charge.category == SERVICE
        sentences = [_("Goes through the official API.")]
        if is_free:
            sentences = [_("Goes through the official API, free of charge in the window.")]
        if found.route != Route.OFFICIAL:
            name = {"route": engines.label(found.route or "")}
            sentences = [_("Will be sent through %(route)s.") % name]
        if charge is not None and not is_free:
            type_ = "free_customer_service" if charge.free else "regular"
            price = pricing_label(f"{charge.category}:{type_}")
            sentences.append(_("Meta charges for: %(price)s.") % {"price": price})
    elif found.would == "fall_back":
        sentences = [
            _sentence(reason),
            _("Will be sent through %(route)s instead.")
            % {"route": engines.label(found.route or "")},
        ]
        if found.reason == WINDOW_CLOSED:
            sentences.append(
                _("That route is unofficial and can get the number banned. Prefer a template.")
            )
    elif found.would == "wait":
        until = "" if found.until is None else due(found.until)
        sentences = [_sentence(reason), _("Not before %(time)s.") % {"time": until}]
    else:
        sentences = [_("It will not be sent."), _sentence(reason)]
        if found.rule not in (found.reason, "refused"):
            sentences.append(_sentence(reason_text(found.rule)))
    if found.would in ("send", "fall_back"):
        sentences += _afterwards(found)
    sentences += downgrade.describe(found.changes)
    is_fine = found.would == "send" or found.reason == policy.WAITING_SCHEDULE
    return Line(found.would, found.reason, sentences, is_problem=not is_fine)


def _afterwards(found: Verdict) -> list[str]:
    """Return what follows if the route refuses the message after all."""
    routes: list[str] = []
    following = found.then
    while following is not None and following.would in ("send", "fall_back"):
        routes.append(str(engines.label(following.route or "")))
        following = following.then
    if not routes:
        return []
    chain = routes[0]
    for route in routes[1:]:
        chain = _("%(routes)s, then %(route)s") % {"routes": chain, "route": route}
    return [_("If it refuses: %(routes)s.") % {"routes": chain}]


def _sentence(text: str) -> str:
    return capfirst(text if text.endswith((".", "!", "?")) else f"{text}.")
